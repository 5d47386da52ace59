//! Checkpoints: how often they are made, of what, and what a room begins with that has one.

use super::*;
use crate::Checkpoint;
use crate::settings::{CHECKPOINT_KEPT, MAX_CHECKPOINT_BYTES};

const COUNTS: &str = "CHECKPOINT_SECONDS = 10 STATE_VERSION = 3
    local n = 0
    function on_init() sfu.set_timeout('bell', 60000, function() sfu.broadcast('ding') end) end
    function on_client_connect() sfu.count('joins') return true end
    function on_message(c, m) n = n + 1 sfu.broadcast({ n, sfu.room.metadata.plan }) end
    function on_unload() sfu.broadcast('never') return { n = n } end
    function on_load(s, version) if s then n = s.n + version * 100 end end";

fn made(world: &mut World) -> Vec<Checkpoint> {
    let checkpoint = |output| match output {
        PolicyOutput::Checkpoint { checkpoint, .. } => Some(*checkpoint),
        _ => None,
    };
    world.outputs().into_iter().filter_map(checkpoint).collect()
}

fn said(world: &mut World, client: &Rc<ClientFacts>) -> Value {
    match &world.message(client, json!(0)).actions[..] {
        [Action::Broadcast { value, .. }] => value.clone(),
        other => panic!("{other:?}"),
    }
}

/// The room begins in another process, `later` than the checkpoint was made.
fn revived(script: &str, checkpoint: Checkpoint, later: Duration) -> World {
    let mut next = World::new(script);
    next.engine.set_clock(next.now, Duration::from_secs(1_786_000_010) + later);
    let (carried, metadata) = next.engine.revive(next.now, checkpoint);
    let opened = (&room("demo"), metadata, vec![]);
    next.key = next.engine.open_carried(next.now, opened, Ok(compiled(script)), Some(&carried)).unwrap();
    next.outputs();
    next
}

#[test]
fn a_room_has_a_checkpoint_every_so_many_seconds_and_goes_on_with_it_elsewhere() {
    let mut world = World::new(COUNTS);
    let metadata = json!({ "plan": "gold" }).into();
    world.key = world.engine.open_room_with(world.now, &room("r"), Ok(compiled(COUNTS)), metadata).unwrap();
    let c = world.join("c1");
    assert_eq!(said(&mut world, &c), json!([1, "gold"]));
    world.pass(Duration::from_millis(9_900));
    assert_eq!(made(&mut world), []);
    world.pass(Duration::from_millis(200));
    let of_both = made(&mut world);
    assert_eq!(of_both.len(), 2, "the world's own room has one, too");
    let mut next = revived(COUNTS, of_both[1].clone(), Duration::from_secs(20));
    let c = next.join("c1");
    assert_eq!(said(&mut next, &c), json!([302, "gold"]), "on_load was given the state and its version");
    assert_eq!(next.engine.room_status(next.key).unwrap().counters, [("joins".to_owned(), 2.0)]);
}

#[test]
fn timers_with_names_go_on_while_there_is_no_room() {
    let mut world = World::new(COUNTS);
    world.pass(Duration::from_secs(10));
    let checkpoint = made(&mut world).remove(0);
    for (later, left) in [(20, 30), (49, 1), (300, 0)] {
        let mut next = revived(COUNTS, checkpoint.clone(), Duration::from_secs(later));
        let key = next.key;
        let mut dings = |time: Duration| {
            next.pass(time);
            let of_it = |output: &&PolicyOutput| matches!(output, PolicyOutput::Actions { key: of, .. } if *of == key);
            next.outputs().iter().filter(of_it).count()
        };
        let (before, after) = (Duration::from_millis(left * 1_000).mul_f64(0.95), Duration::from_secs(2));
        // What was due meanwhile rings at once.
        assert_eq!([dings(before), dings(after)], if left == 0 { [1, 0] } else { [0, 1] }, "{later}");
    }
}

#[test]
fn a_clock_that_is_behind_or_far_ahead_moves_timers_by_no_more_than_a_checkpoint_lasts() {
    let script = COUNTS.replace("60000", "7200000");
    let mut world = World::new(&script);
    world.pass(Duration::from_secs(10));
    let checkpoint = made(&mut world).remove(0);
    let due = |unix: u64| {
        let mut next = World::new(&script);
        next.engine.set_clock(next.now, Duration::from_secs(unix));
        let (carried, _) = next.engine.revive(next.now, checkpoint.clone());
        carried.due(next.now)["bell"] - next.now
    };
    let left = Duration::from_secs(7_190);
    assert_eq!(due(0), left);
    assert_eq!(due(3_000_000_000), left - CHECKPOINT_KEPT);
}

#[test]
fn checkpoints_that_hold_the_same_are_known_by_their_digest_although_time_has_passed() {
    let mut world = World::new(COUNTS);
    let c = world.join("c1");
    world.pass(Duration::from_secs(25));
    let [first, second] = &made(&mut world)[..] else { panic!("two") };
    assert_ne!(first, second);
    assert_eq!(first.digest(), second.digest());
    let changes: [&dyn Fn(&mut World); 3] =
        [&|world| drop(world.message(&c, json!(0))), &|world| drop(world.join("c2")), &|world| {
            drop(world.reload(&COUNTS.replace("60000", "90000")))
        }];
    let mut digests = vec![first.digest()];
    for change in changes {
        change(&mut world);
        world.outputs();
        world.pass(Duration::from_secs(10));
        digests.push(made(&mut world).remove(0).digest());
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4, "state, counters and timers count");
}

#[test]
fn a_script_that_names_no_time_or_a_wrong_one_has_no_checkpoints() {
    for says in ["", "nil", "0", "0.9", "301", "-1", "0/0", "'10'", "{}", "true"] {
        let says = if says.is_empty() { String::new() } else { format!("CHECKPOINT_SECONDS = {says}") };
        let mut world = World::new(&format!("{says} function on_unload() return 1 end"));
        world.pass(Duration::from_secs(1_000));
        assert_eq!(made(&mut world), [], "{says}");
    }
    for (says, number) in [("1", 1_000), ("2.5", 400), ("300", 3)] {
        let mut world = World::new(&format!("CHECKPOINT_SECONDS = {says} function on_unload() return 1 end"));
        world.pass(Duration::from_secs(1_000));
        assert_eq!(made(&mut world).len(), number, "{says}");
    }
}

#[test]
fn a_reload_says_anew_whether_there_are_checkpoints() {
    let mut world = World::new(COUNTS);
    world.pass(Duration::from_secs(5));
    world.reload(&COUNTS.replace("CHECKPOINT_SECONDS = 10", "")).unwrap();
    world.pass(Duration::from_secs(60));
    assert_eq!(made(&mut world), []);
    world.reload(&COUNTS.replace("= 10 ", "= 2 ")).unwrap();
    world.pass(Duration::from_secs(9));
    assert_eq!(made(&mut world).len(), 4);
}

#[test]
fn what_fails_or_is_too_much_is_no_checkpoint_and_the_room_goes_on() {
    let too_much = format!("return ('x'):rep({MAX_CHECKPOINT_BYTES})");
    for returns in ["error('no')", "while true do end", "return { print }", "sfu.sleep(1)", &too_much] {
        let mut world = World::new(&COUNTS.replace("return { n = n }", returns));
        let c = world.join("c1");
        world.pass(Duration::from_secs(21));
        assert_eq!(made(&mut world), [], "{returns}");
        assert_eq!(said(&mut world, &c)[0], json!(1), "{returns}");
    }
    let mut world = World::new(&COUNTS.replace("return { n = n }", "return ('x'):rep(60000)"));
    world.pass(Duration::from_secs(11));
    assert_eq!(made(&mut world).len(), 1);
}

#[test]
fn a_room_pays_for_its_checkpoints_and_waits_for_its_share() {
    let settings = PolicySettings { cpu_share: 0.02, cpu_burst: Duration::from_millis(1), ..generous() };
    let busy = "CHECKPOINT_SECONDS = 1
        function on_client_connect() return true end
        function on_unload() local n = 0 for i = 1, 1e6 do n = n + i % 7 end return n end
        function on_message(c) c:send(1) end";
    let mut world = World::with(settings, busy);
    let c = world.join("c1");
    world.pass(Duration::from_millis(1_001));
    assert_eq!(made(&mut world).len(), 1);
    // It has used more than the millisecond that it had: the next hook waits until it has earned that.
    let ticket = world.submit(HookCall::Message { client: c, message: json!(0) });
    assert_eq!(world.outcomes(), []);
    world.pass(Duration::from_secs(30));
    assert!(world.outcomes().iter().any(|(of, _)| *of == ticket));
}

#[test]
fn nothing_of_a_suspended_script_is_run_for_a_checkpoint() {
    let settings = PolicySettings { strikes: 1, ..generous() };
    let fails = "CHECKPOINT_SECONDS = 1 function on_init() sfu.set_timeout(1, function() error('boom') end) end
        function on_unload() return 1 end";
    let mut world = World::with(settings, fails);
    world.pass(Duration::from_secs(20));
    assert!(world.engine.room_status(world.key).unwrap().is_suspended);
    assert_eq!(made(&mut world), []);
    world.pass(Duration::from_secs(20));
    assert!((8..=10).contains(&made(&mut world).len()), "its pause of 30 s is over");
}
