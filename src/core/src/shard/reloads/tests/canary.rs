//! A hundred rooms, a canary in some of them, and what is decided after how long.

use moonring_policy::canary::{CanaryCounts, Chosen, Judgement, Reason, judge};

use super::*;

const LENGTH: Duration = Duration::from_secs(300);
const OLD: &str = "function on_client_connect() return true end
    function on_message(client, message) sfu.count('messages', 1) end
    local n = 0
    function on_unload() return n end
    function on_load(state) n = state end
    function on_admin() n = n + 1 return n end";

struct Canaried {
    world: World,
    base: ScriptLibrary,
}

impl Canaried {
    /// A hundred rooms with the old version, each with a state of its own.
    fn new() -> Self {
        let base = library(&[("default_room.lua", OLD)]);
        let mut world = World::new(base.clone());
        for n in 0..100 {
            world.join(&format!("room-{n}"), &format!("c{n}"));
        }
        Self { world, base }
    }

    /// Runs a version in a canary until it is decided, while everybody talks once a second. How long it took on the
    /// shard's clock, and what the sides did.
    fn run(&mut self, version: &str, rooms: &str) -> (Judgement, u64, CanaryCounts) {
        let newer = library(&[("default_room.lua", version)]);
        let canary = self.base.with_canary(7, &newer, Chosen::parse(rooms).unwrap());
        self.world.change(&canary);
        let began = self.world.now;
        loop {
            let until = self.world.now + Duration::from_secs(1);
            for n in 0..100 {
                let client = ClientId::parse(&format!("c{n}")).unwrap();
                self.world.command(Command::Message { client, value: serde_json::json!(n) });
            }
            while self.world.shard.poll_timeout().is_some_and(|at| at <= until) {
                self.world.tick();
            }
            self.world.now = until;
            while self.world.shard.poll_event().is_some() {}
            let mut counts = *self.world.shard.policy.engine.canary().unwrap();
            // How long a step takes depends on the machine.
            (counts.canary.stats.latency, counts.rest.stats.latency) = Default::default();
            let elapsed = self.world.now - began;
            match judge(&counts, elapsed, LENGTH) {
                Judgement::GoOn => {}
                judgement => return (judgement, elapsed.as_secs(), counts),
            }
        }
    }

    fn versions(&self) -> usize {
        let all: std::collections::BTreeSet<_> = (0..100).map(|n| self.world.runs(&format!("room-{n}"))).collect();
        all.len()
    }
}

#[test]
fn a_good_version_is_in_its_rooms_alone_until_its_time_is_over() {
    let mut canaried = Canaried::new();
    let (judgement, seconds, counts) = canaried.run(&format!("{OLD}\n-- newer"), "20%");
    assert_eq!((judgement, seconds, canaried.versions()), (Judgement::Promote, 300, 2));
    assert_eq!(counts.canary.rooms + counts.rest.rooms, 100);
    assert!((10..30).contains(&counts.canary.rooms), "{}", counts.canary.rooms);
    let newer = library(&[("default_room.lua", &format!("{OLD}\n-- newer"))]);
    canaried.world.change(&newer);
    assert_eq!(canaried.versions(), 1);
    assert_eq!(canaried.world.shard.policy.engine.canary(), None);
}

#[test]
fn a_version_that_fails_in_one_room_of_a_hundred_goes_back() {
    let mut canaried = Canaried::new();
    let version =
        format!("{OLD}\nlocal old = on_message function on_message(c, m) if m == 42 then error('x') end old(c, m) end");
    let (judgement, seconds, counts) = canaried.run(&version, "100%");
    let Judgement::Back(Reason::Fails([3, hooks, 0, 0])) = judgement else { panic!("{judgement:?}") };
    assert!(seconds <= 3 && hooks <= 300 && counts.canary.failing == 1, "{seconds} {hooks}");
}

#[test]
fn a_version_that_fails_in_all_goes_back_at_once_and_takes_no_state_with_it() {
    let mut canaried = Canaried::new();
    let version = format!("{OLD}\nfunction on_message() error('x') end");
    let (judgement, seconds, counts) = canaried.run(&version, "20%");
    assert!(matches!(judgement, Judgement::Back(Reason::Fails(_))) && seconds == 1, "{judgement:?} {seconds}");
    assert_eq!((counts.canary.failing, counts.rest.failing), (counts.canary.rooms, 0));
    canaried.world.command(Command::Call { id: 1, room: RoomId::parse("room-3").unwrap(), request: Value::Null });
    let base = canaried.base.clone();
    canaried.world.change(&base);
    assert_eq!(canaried.versions(), 1);
    canaried.world.command(Command::Call { id: 2, room: RoomId::parse("room-3").unwrap(), request: Value::Null });
    let answers: Vec<_> = std::iter::from_fn(|| canaried.world.shard.poll_event())
        .filter_map(|event| match event {
            Event::Called { answer, .. } => answer.ok(),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [1, 2], "the state has crossed there and back");
}

#[test]
fn a_version_that_fails_after_a_minute_goes_back_then() {
    let mut canaried = Canaried::new();
    let version = format!("{OLD}\nsfu.set_interval(60000, function() error('x') end)");
    let (judgement, seconds, counts) = canaried.run(&version, "20%");
    let Judgement::Back(Reason::Fails([failed, ..])) = judgement else { panic!("{judgement:?}") };
    assert_eq!((seconds, failed), (60, counts.canary.rooms));
}

#[test]
fn a_version_that_cannot_take_over_or_rejects_everybody_goes_back() {
    let mut canaried = Canaried::new();
    let (judgement, seconds, _) = canaried.run(&format!("{OLD}\nfunction on_load() error('x') end"), "room-1*");
    assert_eq!((judgement, seconds), (Judgement::Back(Reason::NotLoaded(11)), 1));
    assert_eq!(canaried.versions(), 1, "its rooms have gone on with the version before");
    let mut canaried = Canaried::new();
    let newer = library(&[("default_room.lua", "function on_client_connect() return false end")]);
    let canary = canaried.base.with_canary(8, &newer, Chosen::parse("room-1*").unwrap());
    canaried.world.change(&canary);
    for n in 0..80 {
        canaried.world.join(if n % 2 == 0 { "room-10" } else { "room-20" }, &format!("late-{n}"));
    }
    // So many joins are more than a slice of the scripts' time.
    for _ in 0..400 {
        canaried.world.tick();
    }
    let counts = canaried.world.shard.policy.engine.canary().unwrap();
    let judgement = judge(counts, Duration::from_secs(1), LENGTH);
    assert_eq!(judgement, Judgement::Back(Reason::Rejects([100, 0])));
}

#[test]
fn rooms_that_open_and_close_meanwhile_are_counted_on_their_side() {
    let mut world = World::new(library(&[("default_room.lua", OLD), ("vip.lua", OLD)]));
    world.join("a-1", "a");
    let base = world.shard.policy.scripts.clone();
    let newer = library(&[("default_room.lua", "error('no')"), ("vip.lua", OLD)]);
    world.change(&base.with_canary(9, &newer, Chosen::parse("b-*").unwrap()));
    for (room, client) in [("a-2", "x"), ("b-1", "y"), ("vip-1", "z")] {
        world.join(room, client);
    }
    world.command(Command::Leave { client: ClientId::parse("a").unwrap(), reason: "bye".into() });
    let counts = world.shard.policy.engine.canary().unwrap();
    assert_eq!((counts.rest.rooms, counts.canary.rooms, counts.canary.unopened), (2, 0, 1), "vip.lua is the same");
}
