//! Recordings of rooms that have used up their share: what waits for its turn.

use std::time::Duration;

use serde_json::json;

use super::assert_same;
use super::room::{Recorded, patient};
use crate::PolicySettings;
use crate::hook::HookCall;
use crate::tests::on_a_shards_stack;

/// One step uses up the share of a long time.
fn exhausted() -> PolicySettings {
    PolicySettings { cpu_share: 0.0001, cpu_burst: Duration::from_micros(1), ..patient() }
}

/// Keeps the room busy, so that everything behind it waits.
const BUSY: &str = r#"
    function on_client_connect() return true end
    function on_message(client, message)
      if message == "busy" then local x = 0 for n = 1, 3000000 do x = x + n % 7 end end
      if message == "timer" then sfu.set_timeout(1, function() sfu.broadcast("late") end) end
      if message == "kick" then client:kick("Bye") end
      if message == "stats" then sfu.broadcast(client:stats()) end
    end
"#;

/// What waits for its turn when the recording ends has come before it, and runs behind what has run.
#[test]
fn what_a_recording_ends_before_keeps_nothing_from_running_as_it_did() {
    let script = r#"
        local n = 0
        local function count(what) n = n + 1 sfu.broadcast({ what, n }) end
        function on_client_connect() return true end
        function on_message(client, message)
          if message == "set" then sfu.set_timeout(5000, function() count("timer") end) sfu.sleep(5000) end
          if message == "tick" then sfu.set_timeout(1, function() count("tick") sfu.sleep(5000) count("tock") end) end
          if message == "ask" then sfu.http("https://a.example/") end
          count(message)
        end
    "#;
    on_a_shards_stack(move || {
        for (seed, first) in [(80, "plain"), (81, "set"), (82, "ask"), (83, "tick")] {
            let mut room = Recorded::open(script, exhausted(), seed, true);
            for _ in 0..4 {
                room.join("good");
            }
            room.pass(Duration::from_secs(100));
            let members = room.members();
            for (client, message) in members.iter().zip([first, first, "plain", "plain"]) {
                room.submit(HookCall::Message { client: client.clone(), message: json!(message) });
            }
            let mut text = room.text();
            let counted = |text: &str| text.matches("\"broadcast\"").count();
            while counted(&text) == 0 {
                room.pass(Duration::from_millis(1));
                text += &room.text();
            }
            room.close();
            text += &room.text();
            assert!(counted(&text) < 3, "{first}: most of it had to wait: {text}");
            assert_same(&text, script);
        }
    });
}

#[test]
fn what_had_no_turn_before_the_recording_ended_warns_of_nothing_that_comes_of_it_now() {
    on_a_shards_stack(|| {
        let mut room = Recorded::open(BUSY, exhausted(), 90, true);
        for _ in 0..3 {
            room.join("good");
        }
        room.pass(Duration::from_secs(100));
        for (client, message) in room.members().iter().zip(["busy", "timer", "kick"]) {
            room.submit(HookCall::Message { client: client.clone(), message: json!(message) });
        }
        room.pass(Duration::from_secs(1));
        room.close();
        let text = room.text();
        assert_eq!(text.matches("\"hook\":\"on_message\",\"cpu_ns\"").count(), 1, "two had no turn: {text}");
        assert_same(&text, BUSY);
    });
}

#[test]
fn who_had_left_before_the_recording_began_has_stayed_no_longer_when_it_is_run_again() {
    on_a_shards_stack(|| {
        let mut room = Recorded::open(BUSY, exhausted(), 91, false);
        for _ in 0..2 {
            room.join("good");
        }
        room.pass(Duration::from_secs(100));
        let members = room.members();
        for (client, message) in members.iter().zip(["busy", "stats"]) {
            room.submit(HookCall::Message { client: client.clone(), message: json!(message) });
        }
        room.pass(Duration::from_secs(1));
        room.remove(&members[1], "bye");
        room.pass(Duration::from_secs(1));
        room.record();
        room.pass(Duration::from_secs(10_000));
        room.close();
        let text = room.text();
        assert!(text.contains("\"seconds\":101}"), "it has stayed so long: {text}");
        assert_same(&text, BUSY);
    });
}
