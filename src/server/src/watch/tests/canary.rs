//! Canaries on a real folder, with shards that tell what they are told to.

use super::*;
use moonring_policy::PolicyStats;
use moonring_policy::canary::{Chosen, SideCounts};

fn order(rooms: &str, seconds: u64) -> CanaryOrder {
    CanaryOrder::parse(rooms, Duration::from_secs(seconds)).unwrap()
}

fn begin(rooms: &str, seconds: u64) -> Wanted {
    Wanted::Begin(order(rooms, seconds))
}

fn settings(on_save: Saved) -> WatchSettings {
    WatchSettings { on_save, ..BY_EVENT }
}

impl World {
    async fn canary(&self, wanted: Wanted) -> Result<CanaryReport, String> {
        self.handle.canary(wanted).await.unwrap()
    }

    async fn state(&self) -> String {
        self.canary(Wanted::Status).await.unwrap().state
    }

    /// Waits until the last canary has ended so.
    async fn ends(&self, state: &str) -> CanaryReport {
        for _ in 0..PATIENCE.as_millis() / 5 {
            let report = self.canary(Wanted::Status).await.unwrap();
            if report.state == state {
                return report;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("it is {:?}", self.canary(Wanted::Status).await);
    }

    fn save(&self, text: &str) {
        fs::write(self.path("scripts/default_room.lua"), text).unwrap();
    }

    /// The number of the canary that the shard has been told of last.
    fn number(&self) -> u64 {
        let libraries = std::iter::from_fn(|| self.commands.try_recv().ok());
        let last = libraries.filter_map(|command| match command {
            Command::Scripts(library) => library.canary(),
            _ => None,
        });
        last.last().expect("a canary")
    }

    /// The shard tells of its rooms.
    fn tell(&self, number: u64, failures: u64) {
        let side = |errors: u64| SideCounts {
            rooms: 3,
            failing: errors.min(1),
            stats: PolicyStats { hooks: 100, steps: 100, errors, ..PolicyStats::default() },
            ..SideCounts::default()
        };
        self.handle.tell_canary(0, CanaryCounts { number, canary: side(failures), rest: side(0) });
    }
}

#[tokio::test]
async fn what_is_saved_waits_for_the_operator_who_lets_a_canary_begin_promotes_it_or_aborts_it() {
    let world = World::plain(settings(Saved::Nothing)).await;
    assert_eq!(world.state().await, "none");
    assert!(world.canary(begin("b*", 60)).await.unwrap_err().contains("on_save"));
    assert_eq!(world.canary(Wanted::Abort).await.unwrap_err(), "there is no canary");
    world.save("x = 2");
    let report = world.canary(begin("b*", 60)).await.unwrap();
    assert_eq!((report.state.as_str(), &*report.scripts), ("running", &["default_room.lua".to_owned()][..]));
    world.runs("b", "x = 2").await;
    world.canary(Wanted::Abort).await.unwrap();
    world.runs("b", "x = 1").await;
    assert_eq!(world.ends("back").await.reason.unwrap(), "as the operator wants");
    world.canary(begin("a", 60)).await.unwrap();
    world.canary(Wanted::Promote).await.unwrap();
    world.runs("b", "x = 2").await;
    assert_eq!(world.state().await, "promoted");
}

#[tokio::test]
async fn a_canary_that_goes_bad_is_taken_back_by_itself_with_what_it_has_cost() {
    let world = World::plain(settings(Saved::Canary(order("b*", 3600)))).await;
    world.save("x = 2");
    world.runs("b", "x = 2").await;
    world.save("x = 3");
    world.runs("b", "x = 3").await;
    assert_eq!(world.canary(Wanted::Status).await.unwrap().rooms, "b*");
    world.save("x = 4");
    for _ in 0..2_000 {
        if world.handle.counts().changes == 3 {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    let number = world.number();
    world.tell(number - 1, 50);
    world.tell(number, 50);
    let report = world.ends("back").await;
    assert_eq!(report.reason.unwrap(), "50 of 100 hooks failed, of the rest 0 of 100");
    assert_eq!((report.canary.rooms, report.canary.failing, report.rest.failures), (3, 1, 0));
    world.runs("b", "x = 1").await;
    world.handle.reload().await.unwrap();
    world.runs("b", "x = 4").await;
}

#[tokio::test]
async fn a_canary_that_is_good_is_given_to_all_when_its_time_is_over() {
    let world = World::plain(settings(Saved::Canary(order("b*", 1)))).await;
    world.save("x = 2");
    world.runs("b", "x = 2").await;
    let number = world.canary(Wanted::Status).await.map(|_| u64::from(std::process::id()) + 1).unwrap();
    world.tell(number, 0);
    world.ends("promoted").await;
    world.runs("a", "x = 2").await;
}

#[test]
fn a_share_and_a_pattern_are_told_apart() {
    assert!(matches!(order("5%", 1).chosen, Chosen::Share(_)));
    assert!(matches!(order("demo-*", 1).chosen, Chosen::Rooms(_)));
    assert!(CanaryOrder::parse("500%", Duration::from_secs(1)).unwrap_err().contains("not a share"));
}
