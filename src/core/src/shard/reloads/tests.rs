//! On a clock that only moves when told to.

mod canary;

use globset::Glob;
use serde_json::Value;

use super::*;
use crate::command::{Command, Event, JoinRequest, LeaveCause};
use crate::shard::for_tests;
use moonring_policy::RoomStatus;
use moonring_policy::hook::Undecided;
use moonring_policy::library::ScriptRule;
use moonring_wire::id::{ClientId, RoomId};
use moonring_wire::packet::SendBatch;

const OPEN: &str = "function on_client_connect() return true end\n";
const COUNTER: &str = "joins = 0\nfunction on_client_connect() joins = joins + 1; sfu.count('joins', 1) return true end
function on_unload() return joins end\nfunction on_load(n) joins = n; sfu.count('carried', n) end\n";

struct World {
    shard: Shard,
    now: Instant,
    out: SendBatch,
}

impl World {
    fn new(library: ScriptLibrary) -> Self {
        let now = Instant::now();
        Self { shard: for_tests::shard(now, library), now, out: SendBatch::new(1 << 16, 64) }
    }

    fn command(&mut self, command: Command) {
        self.shard.handle_command(self.now, command, &mut self.out);
    }

    fn join(&mut self, room: &str, client: &str) -> Vec<Event> {
        let (room, client) = (RoomId::parse(room).unwrap(), ClientId::parse(client).unwrap());
        let connection = Box::new([127, 0, 0, 1].into());
        self.command(Command::Join(JoinRequest {
            room,
            client,
            token: String::new(),
            metadata: Value::Null,
            connection,
        }));
        std::iter::from_fn(|| self.shard.poll_event()).collect()
    }

    /// One tick at the time that the shard asked for; false when it asked for none.
    fn tick(&mut self) -> bool {
        let Some(at) = self.shard.poll_timeout() else { return false };
        self.now = self.now.max(at);
        self.shard.handle_timeout(self.now, &mut self.out);
        true
    }

    /// Changes the scripts and waits until every room has been looked at.
    fn change(&mut self, library: &ScriptLibrary) {
        self.command(Command::Scripts(library.clone()));
        while self.shard.policy.reloads.waiting() > 0 && self.tick() {}
    }

    fn status(&self, room: &str) -> RoomStatus {
        let key = self.shard.index.rooms[&RoomId::parse(room).unwrap()];
        self.shard.policy.engine.room_status(self.shard.world.rooms[key].policy().unwrap()).unwrap()
    }

    /// The script and version that a room runs.
    fn runs(&self, room: &str) -> (String, u64) {
        let status = self.status(room);
        (status.script, status.version)
    }
}

fn library(scripts: &[(&str, &str)]) -> ScriptLibrary {
    let mut library = ScriptLibrary::new(vec![ScriptRule::new(&Glob::new("vip-*").unwrap(), "vip.lua")]);
    for (name, text) in scripts {
        library.insert((*name).to_owned(), Script::compile(name, text.as_bytes()).map(Arc::new));
    }
    library
}

fn run(name: &str, text: &str) -> (String, u64) {
    (name.to_owned(), Script::compile(name, text.as_bytes()).unwrap().version())
}

#[test]
fn many_rooms_are_reloaded_a_few_per_tick_and_keep_their_state() {
    const ROOMS: usize = 100;
    let mut world = World::new(library(&[("default_room.lua", COUNTER)]));
    for n in 0..ROOMS {
        // Within the share of time that scripts have, however long their hooks take on a busy machine.
        world.now += Duration::from_millis(20);
        world.join(&format!("r{n}"), &format!("c{n}"));
    }
    let newer = format!("{COUNTER}-- newer");
    world.command(Command::Scripts(library(&[("default_room.lua", &newer)])));
    assert_eq!(world.shard.policy.engine.stats().reloads, 0, "the command itself reloads nothing");
    let (mut done, mut ticks, mut times) = (0, 0, vec![]);
    while world.shard.policy.reloads.waiting() > 0 {
        assert!(world.tick());
        let reloads = world.shard.policy.engine.stats().reloads;
        assert!(reloads - done <= MAX_RELOADS as u64, "{} rooms in one tick", reloads - done);
        // A tick may be for something else.
        if reloads > done {
            (done, ticks) = (reloads, ticks + 1);
            times.push(world.now);
        }
    }
    assert_eq!(done, ROOMS as u64);
    assert!(ticks >= ROOMS / MAX_RELOADS);
    assert!(times.is_sorted_by(|a, b| *b >= *a + PAUSE), "media has its turn between two slices");
    for n in 0..ROOMS {
        let status = world.status(&format!("r{n}"));
        assert_eq!((status.script, status.version), run("default_room.lua", &newer));
        assert_eq!(status.counters, [("joins".to_owned(), 1.0), ("carried".to_owned(), 1.0)]);
    }
}

#[test]
fn only_rooms_whose_script_changed_are_reloaded_and_each_once() {
    let before = [("default_room.lua", OPEN), ("vip.lua", OPEN), ("rooms/own.lua", OPEN)];
    let mut world = World::new(library(&before));
    for room in ["plain", "vip-1", "own"] {
        world.join(room, room);
    }
    let newer = format!("{OPEN}-- 2");
    let after = library(&[("default_room.lua", OPEN), ("vip.lua", &newer), ("rooms/own.lua", OPEN)]);
    for _ in 0..3 {
        world.change(&after);
    }
    let reloads = ["plain", "vip-1", "own"].map(|room| world.status(room).stats.reloads);
    assert_eq!(reloads, [0, 1, 0]);
    assert_eq!(world.runs("vip-1"), run("vip.lua", &newer));
}

#[test]
fn a_version_that_fails_leaves_the_old_one_is_tried_once_and_told() {
    let mut world = World::new(library(&[("default_room.lua", COUNTER)]));
    world.join("a", "a");
    let failing = format!("{COUNTER}function on_init() error('no database') end");
    let broken = library(&[("default_room.lua", &failing)]);
    for _ in 0..2 {
        world.change(&broken);
    }
    let status = world.status("a");
    assert_eq!((status.script, status.version), run("default_room.lua", COUNTER));
    assert_eq!((status.stats.reloads, status.stats.reloads_failed), (0, 1));
    let words = status.last_reload.unwrap().unwrap_err();
    assert!(words.starts_with("on_init: ") && words.contains("no database"), "{words}");
    // Back to the one that runs, and then the failing one again: tried again.
    world.change(&library(&[("default_room.lua", COUNTER)]));
    world.change(&broken);
    assert_eq!(world.status("a").stats.reloads_failed, 2);
    let fixed = format!("{COUNTER}-- fixed");
    world.change(&library(&[("default_room.lua", &fixed)]));
    assert_eq!(world.runs("a"), run("default_room.lua", &fixed));
}

#[test]
fn an_order_to_reload_tries_again_what_has_failed_and_a_change_of_another_script_does_not() {
    let mut world = World::new(library(&[("default_room.lua", COUNTER)]));
    world.join("a", "a");
    let failing = format!("{COUNTER}function on_init() error('no database') end");
    let broken = library(&[("default_room.lua", &failing)]);
    let failed = |world: &World| world.status("a").stats.reloads_failed;
    world.change(&broken);
    for orders in 1..3 {
        let ordered = broken.clone().with_orders(orders);
        world.change(&ordered);
        assert_eq!(failed(&world), orders + 1, "each order is a try");
        let other = library(&[("default_room.lua", &failing), ("rooms/other.lua", OPEN)]).with_orders(orders);
        world.change(&other);
        assert_eq!(failed(&world), orders + 1, "what is saved elsewhere is none");
    }
    let working = library(&[("default_room.lua", COUNTER)]);
    for orders in 3..5 {
        world.change(&working.clone().with_orders(orders));
        assert_eq!((world.status("a").stats.reloads, failed(&world)), (0, 3), "what runs well runs on");
    }
}

#[test]
fn an_order_to_reload_brings_a_suspended_script_back_and_a_change_of_another_script_does_not() {
    const FAILING: &str = "n = 0\nfunction on_client_connect() return true end
        function on_init() sfu.set_interval(10, function() n = n + 1 if n <= 50 then error('x') end end) end
        function on_unload() return n end\nfunction on_load(was) n = was end\n";
    let mut world = World::new(library(&[("default_room.lua", FAILING)]));
    world.join("a", "a");
    while !world.status("a").is_suspended {
        assert!(world.tick());
    }
    let scripts = library(&[("default_room.lua", FAILING), ("rooms/other.lua", OPEN)]);
    world.change(&scripts);
    assert!(world.status("a").is_suspended);
    world.change(&scripts.with_orders(1));
    let status = world.status("a");
    assert_eq!((status.is_suspended, status.stats.reloads), (false, 1));
}

#[test]
fn a_join_that_a_reload_cuts_off_may_be_tried_again_and_the_script_hears_of_nobody_who_left() {
    let admits =
        "function on_client_connect(client) if client:get_id() == 'waits' then sfu.sleep(60000) end return true end";
    let mut world = World::new(library(&[("default_room.lua", admits)]));
    assert!(matches!(world.join("a", "stays")[..], [Event::Joined { .. }]));
    assert!(world.join("a", "waits").is_empty());
    let counts = "function on_client_connect() return true end
        function on_client_disconnect() sfu.count('left', 1) end";
    world.change(&library(&[("default_room.lua", counts)]));
    let cause = loop {
        match world.shard.poll_event() {
            Some(Event::Left { cause, .. }) => break cause,
            Some(_) => {}
            None => assert!(world.tick()),
        }
    };
    let words = "The room's rules have just changed, please try again";
    assert_eq!(cause, LeaveCause::Undecided(Undecided::CutOff, words.to_owned()));
    assert!(world.status("a").counters.is_empty());
}

#[test]
fn a_script_that_rejects_in_the_servers_own_words_has_rejected() {
    let words = "The room's rules have just changed, please try again";
    let rejects = format!("function on_client_connect() return false, \"{words}\" end");
    let mut world = World::new(library(&[("default_room.lua", &rejects)]));
    let events = world.join("a", "a");
    let cause = |event: &Event| match event {
        Event::Left { cause, .. } => Some(cause.clone()),
        _ => None,
    };
    assert_eq!(events.iter().find_map(cause), Some(LeaveCause::Rejected(words.to_owned())));
}

#[test]
fn a_room_that_could_not_be_opened_opens_once_its_script_compiles() {
    let mut world = World::new(library(&[("default_room.lua", "x = ")]));
    let events = world.join("a", "a");
    let words = |event: &Event| match event {
        Event::Left { cause: LeaveCause::Undecided(Undecided::Failed, words), .. } => Some(words.clone()),
        _ => None,
    };
    assert_eq!(events.iter().find_map(words), Some("Internal script error".to_owned()));
    world.change(&library(&[("default_room.lua", OPEN)]));
    let events = world.join("a", "b");
    assert!(matches!(events[..], [Event::Joined { .. }]), "{events:?}");
}

#[test]
fn a_rooms_own_script_takes_over_until_its_file_is_deleted() {
    let without = library(&[("default_room.lua", OPEN)]);
    let mut world = World::new(without.clone());
    world.join("a", "a");
    let own = format!("{OPEN}-- own");
    world.change(&library(&[("default_room.lua", OPEN), ("rooms/a.lua", &own)]));
    assert_eq!(world.runs("a"), run("rooms/a.lua", &own));
    world.change(&without);
    assert_eq!(world.runs("a"), run("default_room.lua", OPEN));
}

#[test]
fn a_room_that_ends_before_its_turn_holds_nobody_up() {
    let mut world = World::new(library(&[("default_room.lua", OPEN)]));
    for room in ["a", "b"] {
        world.join(room, room);
    }
    let newer = format!("{OPEN}-- 2");
    world.command(Command::Scripts(library(&[("default_room.lua", &newer)])));
    world.command(Command::Leave { client: ClientId::parse("a").unwrap(), reason: "left".into() });
    while world.shard.policy.reloads.waiting() > 0 && world.tick() {}
    assert_eq!(world.runs("b"), run("default_room.lua", &newer));
}

#[test]
#[ignore = "prints figures"]
#[allow(clippy::print_stdout, reason = "prints figures")]
fn the_time_that_many_rooms_take() {
    const ROOMS: usize = 4_000;
    let mut world = World::new(library(&[("default_room.lua", COUNTER)]));
    for n in 0..ROOMS {
        world.join(&format!("r{n}"), &format!("c{n}"));
    }
    let began = Instant::now();
    world.command(Command::Scripts(library(&[("default_room.lua", &format!("{COUNTER}-- newer"))])));
    let commanded = began.elapsed();
    let mut ticks = vec![];
    while world.shard.policy.reloads.waiting() > 0 {
        let began = Instant::now();
        assert!(world.tick());
        ticks.push(began.elapsed());
    }
    ticks.sort();
    let (longest, p99, total) = (ticks[ticks.len() - 1], ticks[ticks.len() * 99 / 100], ticks.iter().sum::<Duration>());
    println!(
        "rooms={ROOMS} command={commanded:?} total={total:?} ticks={} p99={p99:?} longest={longest:?} slice={:?}",
        ticks.len(),
        world.shard.policy.reloads.longest()
    );
}
