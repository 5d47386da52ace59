//! Recordings as test files.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::as_test::as_test;
use super::room::{Recorded, patient};
use super::{messages, read, recorded};
use crate::hook::HookCall;
use crate::tests::on_a_shards_stack;
use crate::tools::trial::{self, Case};
use moonring_wire::media::Kind;

/// Nothing of it hangs on chance or on the time of day.
const PLAIN: &str = r#"
EMPTY_TIMEOUT_S = 3600
local n = 0
function on_init() sfu.set_interval(170, function() n = n + 1 if n % 5 == 0 then sfu.broadcast({ tick = n }) end end) end
function on_client_connect(client, token)
  if token == "wait" then
    local reply, err = sfu.http({ url = "https://auth.example/" .. client:get_id() })
    if not reply then return false, err end
    return reply.status % 2 == 0, reply.body
  end
  return token == "good" or token == sfu.config.secret, "Wrong token"
end
function on_client_disconnect(client, reason) sfu.broadcast({ gone = client:get_id(), why = reason, bytes = client:stats().bytes_in }) end
function on_publish_request(client, track) return track.kind == "audio", "No pictures" end
function on_track_unpublished(client, track) client:send({ ended = track.id }) end
function on_subscribe_request(client, track) return track.client_id ~= client:get_id(), "Your own" end
function on_message(client, message)
  if message == "stats" then client:send({ client:stats().bytes_in, #client:tracks() }) end
  if message == "kick" then client:kick("Bad luck") end
  if message == "fail" then error("as asked") end
  if type(message) == "table" then sfu.broadcast(message, client) end
end
function on_active_speakers(clients) sfu.broadcast({ speak = #clients }) end
function on_admin(request) if request.n then return { request = request, all = #sfu.clients() } end end
"#;

/// Runs the test file that a recording has become against a script.
fn run(test: &str, script: &str) -> Vec<Case> {
    let script = script.as_bytes().to_vec();
    let load = move |name: &str| if name == "room.lua" { Ok(script.clone()) } else { Err(format!("no {name}")) };
    trial::run("demo_test.lua", test.as_bytes(), Rc::new(load), Instant::now())
}

fn failure(cases: &[Case]) -> Option<String> {
    assert_eq!(cases.len(), 1, "{cases:?}");
    let failure = cases[0].failure.as_ref()?;
    let values = failure.values.as_ref().map_or(String::new(), |(got, expected)| format!(", {got} for {expected}"));
    Some(format!("{}{values}", failure.message))
}

#[test]
fn a_recording_becomes_a_test_that_its_script_passes_with_all_that_it_expects() {
    on_a_shards_stack(|| {
        let mut settings = patient();
        settings.config.insert("secret".into(), "correct horse".into());
        for seed in 60..68 {
            let mut room = Recorded::open(PLAIN, settings.clone(), seed, true);
            room.join("correct horse");
            for _ in 0..150 {
                room.happen(&messages());
            }
            room.close();
            let text = room.text();
            let test = as_test(&read(&text), "room.lua", Instant::now()).unwrap_or_else(|why| panic!("{seed}: {why}"));
            assert_eq!(failure(&run(&test, PLAIN)), None, "{test}");
            assert!(!test.contains("are left out"), "{seed}\n{test}\n{text}");
            assert!(test.matches("test.eq(").count() > 60 && !test.contains("correct horse"), "{test}");
            let other = PLAIN.replace("\"No pictures\"", "\"No videos\"");
            let told = failure(&run(&test, &other)).unwrap_or_default();
            assert!(told.starts_with("line ") && told.contains("No videos"), "{told}");
        }
    });
}

#[test]
fn what_hangs_on_chance_is_left_out_of_a_test_and_the_rest_holds() {
    on_a_shards_stack(|| {
        for seed in 70..76 {
            let text = recorded(patient(), seed, 150);
            let test = as_test(&read(&text), "room.lua", Instant::now()).unwrap_or_else(|why| panic!("{seed}: {why}"));
            assert_eq!(failure(&run(&test, super::BUSY)), None, "{test}");
            assert!(test.contains("lines are left out") && test.matches("test.eq(").count() > 20, "{test}");
        }
    });
}

#[test]
fn what_an_operator_does_is_done_in_the_test_too_and_a_room_that_had_begun_makes_none() {
    const SCRIPT: &str = "function on_client_connect() return true end
        function on_publish_request(c) return c:attributes().role == 'host', 'Hosts only' end
        function on_message(c) c:send(c:rights().subscribe) end";
    on_a_shards_stack(|| {
        let mut room = Recorded::open(SCRIPT, patient(), 77, true);
        room.join("ada");
        for action in [
            json!({ "set_attributes": { "role": "host" }, "client": "c1" }),
            json!({ "set_rights": { "publish": null, "subscribe": false, "message": null }, "client": "c1", "reason": "x" }),
        ] {
            room.operate(&crate::tape::words::action_of(&action).unwrap());
        }
        let client = room.members()[0].clone();
        room.pass(Duration::from_millis(40));
        room.submit(HookCall::PublishRequest {
            client: client.clone(),
            track: crate::tests::track("t1", "c1", Kind::Audio),
        });
        room.submit(HookCall::Message { client, message: json!("x") });
        room.close();
        let text = room.text();
        let test = as_test(&read(&text), "room.lua", Instant::now()).unwrap();
        assert_eq!(failure(&run(&test, SCRIPT)), None, "{test}");
        assert!(!test.contains("left out") && test.contains("room:operator({"), "{test}");
        assert!(test.contains("{ true }, \"line") && test.contains("value = false"), "{test}");
        let mut later = Recorded::open(SCRIPT, patient(), 78, false);
        later.join("ada");
        later.record();
        let why = as_test(&read(&later.text()), "room.lua", Instant::now()).unwrap_err();
        assert!(why.contains("begins in the middle"), "{why}");
    });
}
