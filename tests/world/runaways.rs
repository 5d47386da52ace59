//! A script that tries to hold its shard does not cost any room a packet, not even its own.

use moonring_core::command::Command;
use moonring_policy::PolicySettings;
use moonring_wire::drops::DropReason;
use moonring_wire::media::CodecName::{Opus, Vp8};
use serde_json::json;

use crate::sim::flows::assert_unbroken;
use crate::sim::{World, settings};

/// One of each kind; the whole corpus stands in src/policy/tests/runaways.rs.
const RUNAWAYS: [&str; 8] = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do coroutine.wrap(function() while true do end end)() end",
    "('a'):rep(30000):match('(.-)(.-)(.-)(.-)b')",
    "table.sort({ 3, 2, 1 }, function() while true do end end)",
    "local t = {} while true do t[#t + 1] = {} end",
    "local s = 'x' while true do s = s .. s end",
    "local function f(...) return f(1, ...) end f()",
];

fn script() -> String {
    let cases = RUNAWAYS.iter().enumerate().map(|(n, body)| format!("[{n}] = function() {body} end,"));
    format!(
        "local runaways = {{ {} }}
         function on_client_connect() return true end
         function on_publish_request() return true end
         function on_message(client, n) if runaways[n] then runaways[n]() end client:send(n) end",
        cases.collect::<String>()
    )
}

/// A call in room `name`: who publishes and who receives.
fn call(world: &mut World, name: &str) -> (usize, usize) {
    let (from, to) = (world.join_room(&format!("{name}-a"), name), world.join_room(&format!("{name}-b"), name));
    for codec in [Opus, Vp8] {
        let track = world.publish(from, codec);
        world.subscribe(to, &track, codec);
    }
    (from, to)
}

/// Counts from here on, with nothing under way.
fn begin_counting(world: &mut World) {
    for paused in [true, false] {
        world.members.iter_mut().for_each(|member| member.paused = paused);
        if paused {
            world.run_ms(100);
        }
    }
    world.forget_received();
}

/// The calls of a world go on for a while, in which the script runs away every 50 ms, `times` times, on messages of the
/// `loud` in turn.
fn run_away(world: &mut World, loud: &[usize], times: usize) {
    for n in 0..times {
        let client = world.id(loud[n % loud.len()]);
        world.command(Command::Message { client, value: json!(n % RUNAWAYS.len()) });
        world.run_ms(50);
    }
}

/// Every packet of the publishers since [`begin_counting`] has come, once, none of them resent.
fn assert_nothing_lost(world: &mut World, calls: &[(usize, usize)]) {
    for (from, _) in calls {
        world.members[*from].paused = true;
    }
    world.run_ms(100);
    for (from, to) in calls {
        let sent = world.members[*from].sent.len();
        assert_eq!(world.members[*to].got.len(), sent, "{} of {from}", world.members[*to].id);
        assert!(sent > 400, "{sent}");
        for pt in [111, 96] {
            let got = world.got(*to, pt);
            assert_unbroken(&got);
            assert!(got.iter().all(|packet| !packet.repaired));
        }
    }
    let drops = raw_drops(world);
    assert!(drops.is_empty(), "{drops:?}");
}

fn raw_drops(world: &World) -> Vec<(DropReason, u64)> {
    crate::sim::raw::reasons().map(|reason| (reason, world.drops(reason))).filter(|(_, n)| *n > 0).collect()
}

/// Budgets as they are by default, but no shares of time, so that every runaway runs when it is due: what one takes is the
/// machine's time, which on a busy one is more than the time of the world that passes meanwhile.
fn unshared() -> PolicySettings {
    PolicySettings { cpu_share: 0.0, shard_share: 0.0, ..PolicySettings::default() }
}

/// The same with a patience that lets them all run.
fn patient() -> PolicySettings {
    PolicySettings { strikes: 0, client_strikes: 0, ..unshared() }
}

#[test]
fn no_packet_of_any_room_is_lost_while_a_script_of_the_shard_runs_away_again_and_again() {
    let mut world = World::budgeted(90, settings(), patient(), &script());
    let (loud, quiet) = (call(&mut world, "loud"), call(&mut world, "quiet"));
    world.run_ms(1_000);
    begin_counting(&mut world);
    run_away(&mut world, &[loud.0], 5 * RUNAWAYS.len());
    let stats = world.shard.report().policy;
    assert_eq!(stats.kills + stats.memory + stats.errors, 5 * RUNAWAYS.len() as u64, "{stats:?}");
    assert!(stats.kills >= 5 * 4, "{stats:?}");
    assert_nothing_lost(&mut world, &[loud, quiet]);
    // The room's script is there as before.
    world.events.clear();
    world.command(Command::Message { client: world.id(loud.1), value: json!("still there") });
    assert!(world.take_words(loud.1).iter().any(|words| words.contains("still there")));
}

#[test]
fn a_script_that_runs_away_too_often_is_put_aside_and_its_rooms_media_go_on() {
    let mut world = World::budgeted(91, settings(), unshared(), &script());
    let (loud, quiet) = (call(&mut world, "loud"), call(&mut world, "quiet"));
    world.run_ms(1_000);
    // Of one client alone they would be its fault.
    let mut members = vec![loud.0, loud.1];
    members.extend((0..5).map(|n| world.join_room(&format!("loud-{n}"), "loud")));
    begin_counting(&mut world);
    run_away(&mut world, &members, 200);
    let stats = world.shard.report().policy;
    assert_eq!(stats.suspensions, 1, "{stats:?}");
    // The first of a kind, by time or by memory, is no sign yet that the script is to blame.
    assert!(stats.kills + stats.memory <= 50 / 5 + 2, "{stats:?}");
    assert_eq!(stats.disconnected, 0, "{stats:?}");
    let late = world.join_room("late", "loud");
    assert!(world.left(late).is_some(), "newcomers are rejected");
    assert!(world.left(loud.0).is_none() && world.left(loud.1).is_none(), "members stay");
    let guest = world.join_room("guest", "quiet");
    assert!(world.left(guest).is_none(), "another room of the same script is not put aside");
    assert_nothing_lost(&mut world, &[loud, quiet]);
}
