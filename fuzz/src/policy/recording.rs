//! Recordings of rooms, which `moonring replay` reads: from another machine, and cut off or edited on the way.

use std::rc::Rc;
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use moonring_policy::client::ClientFacts;
use moonring_policy::hook::HookCall;
use moonring_policy::output::{HttpReply, PolicyReply};
use moonring_policy::tape::{Delivery, Sink};
use moonring_policy::tools::replay::{Recording, as_test, replay};
use moonring_policy::{PolicyEngine, PolicyOutput, PolicyRequest, PolicySettings, Script};
use moonring_wire::id::{ClientId, RoomId};
use moonring_wire::shared::SharedValue;
use serde_json::json;

/// Scripts run on a shard's stack.
const STACK: usize = 64 << 20;
const UNIX: Duration = Duration::from_secs(1_786_000_000);
const POLICY: &str = "local n = 0
function on_init() sfu.set_interval(100, function() n = n + 1 sfu.broadcast({ n = n, at = sfu.now() }) end) end
function on_client_connect(client, token)
  local reply = sfu.http({ url = 'https://auth.example/' .. client:get_id() })
  return reply.status == 200 and token == 'good', reply.body
end
function on_message(client, message)
  client:send({ message, sfu.store.get('k'), math.random(9), sfu.uuid() })
end
function on_client_disconnect(client, reason) sfu.broadcast({ reason, client:stats().bytes_in }) end";

static SCRIPT: LazyLock<Arc<Script>> =
    LazyLock::new(|| Arc::new(Script::compile("default_room.lua", POLICY.as_bytes()).expect("a script")));

/// A recording: one that can be read is replayed, and made a test of.
pub(super) fn recording(bytes: &[u8]) {
    let Ok(recording) = Recording::read(bytes) else { return };
    let work = move || {
        let now = Instant::now();
        let report = replay(&recording, SCRIPT.clone(), now).to_string();
        assert!(!report.is_empty());
        let _ = as_test(&recording, "default_room.lua", now);
    };
    let run = std::thread::Builder::new().stack_size(STACK).spawn(work).expect("a thread").join();
    run.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

pub(super) fn recording_seeds() -> Vec<Vec<u8>> {
    let whole = recorded();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let half = lines[..lines.len() / 2].concat();
    vec![whole, half]
}

/// Two clients of whom one is let in, and what they say.
fn recorded() -> Vec<u8> {
    let (mut engine, mut now) = (PolicyEngine::new(PolicySettings::unhurried(), 1), Instant::now());
    engine.set_clock(now, UNIX);
    let (sender, lines) = channel();
    let sink = Sink::new(move |line| if sender.send(line).is_ok() { Delivery::Taken } else { Delivery::Gone });
    let named = (&RoomId::parse("demo").expect("a room"), SharedValue::empty_object());
    let room = engine.open_recorded_room(now, named, Ok(SCRIPT.clone()), Some(sink)).expect("it starts");
    let client = |id: &str| {
        let id = ClientId::parse(id).expect("an id");
        Rc::new(ClientFacts::new(id, [192, 0, 2, 7].into(), json!({ "name": "Ada" }).into(), now))
    };
    let (ada, eve) = (client("ada"), client("eve"));
    let calls = [
        HookCall::ClientConnect { client: ada.clone(), auth_token: "good".into() },
        HookCall::ClientConnect { client: eve, auth_token: "bad".into() },
        HookCall::Message { client: ada.clone(), message: json!({ "say": ["x", 1.5, null] }) },
        HookCall::ClientDisconnect { client: ada, reason: "left".into() },
    ];
    for call in calls {
        engine.submit(now, room, call);
        now += Duration::from_millis(130);
        engine.handle_timeout(now);
        while let Some(output) = engine.poll_output() {
            let PolicyOutput::Request { id, request, .. } = output else { continue };
            let reply = match request {
                PolicyRequest::Http(_) => {
                    let (headers, body) = (vec![("a".into(), "b".into())], b"ok".to_vec());
                    PolicyReply::Http(Ok(HttpReply { status: 200, headers, body }))
                }
                request => request.refused("not here"),
            };
            engine.resume(now, id, reply);
        }
    }
    engine.close_room(now, room);
    lines.try_iter().flatten().collect()
}
