//! Recordings of random rooms, and what becomes of them.

mod as_test;
mod files;
mod room;
mod turns;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::room::{Recorded, narrow, patient};
use super::{Recording, Report, replay};
use crate::PolicySettings;
use crate::hook::HookCall;
use crate::tests::{compiled, on_a_shards_stack};

/// A script that does a bit of everything.
const BUSY: &str = r#"
local n, people, last = 0, {}, nil
function on_init()
  sfu.set_interval(170, function() n = n + 1 if n % 3 == 0 then sfu.broadcast({ tick = n, at = sfu.now() }) end end)
  sfu.set_timeout("named", 400, function() sfu.broadcast("named " .. math.random(1000)) end)
end
function on_client_connect(client, token)
  if token == "wait" then
    local reply, err = sfu.http({ url = "https://auth.example/" .. client:get_id() })
    if not reply then return false, err end
    return reply.status % 2 == 0, reply.body
  end
  people[#people + 1] = client:get_id()
  return token == "good", "Wrong token " .. math.random()
end
function on_client_disconnect(client, reason)
  sfu.broadcast({ gone = client:get_id(), reason = reason, bytes = client:stats().bytes_in, s = client:stats().seconds })
  sfu.store.incr("gone")
end
function on_publish_request(client, track)
  sfu.sleep(math.random(20))
  return track.kind == "audio" or math.random() < 0.5, "Not " .. sfu.uuid()
end
function on_track_published(client, track) if #client:tracks() > 2 then client:kick("Too many") end end
function on_track_unpublished(client, track) client:send({ ended = track.id, now = sfu.now() }) end
function on_subscribe_request(client, track) return not track.muted, "Muted" end
function on_message(client, message)
  if message == "stats" then client:send({ client:stats().bytes_in, #client:tracks(), os.clock(), client:stats().path }) end
  if message == "kick" then
    local all = sfu.clients()
    all[math.random(#all)]:kick("Bad luck")
  end
  if message == "count" then
    local sum = sfu.store.incr("sum", 0.1)
    sfu.flush()
    sfu.sleep(15)
    client:send({ sum = sum, n = n })
  end
  if message == "muted" then
    for _, track in ipairs(client:tracks()) do client:send(track) end
  end
  if message == "later" then
    sfu.set_timeout(math.random(300), function() sfu.broadcast({ later = client:get_id(), of = #sfu.clients() }) end)
  end
  if message == "fail" then error("as asked") end
  if type(message) == "table" then sfu.broadcast(message, client) end
end
function on_active_speakers(clients) sfu.broadcast({ speak = #clients }) end
function on_admin(request) sfu.sleep(5) return { n = n, request = request, id = sfu.random_bytes(4) == last } end
function on_unload() return { n = n, people = people } end
function on_load(state) n, people = state.n, state.people end
"#;

fn messages() -> Vec<Value> {
    ["stats", "kick", "count", "muted", "later", "fail"]
        .map(Value::from)
        .into_iter()
        .chain([json!({ "type": "chat", "x": 0.1, "list": [] })])
        .collect()
}

/// A recording of a random room.
fn recorded(settings: PolicySettings, seed: u64, events: usize) -> String {
    let mut room = Recorded::open(BUSY, settings, seed, true);
    for _ in 0..events {
        room.happen(&messages());
    }
    room.pass(Duration::from_secs(1));
    room.close();
    room.text()
}

fn read(text: &str) -> Recording {
    Recording::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

fn replayed(text: &str, script: &str) -> Report {
    replay(&read(text), compiled(script), Instant::now())
}

fn assert_same(text: &str, script: &str) {
    let report = replayed(text, script);
    if !report.is_same() || !report.warnings.is_empty() {
        panic!("{report}{}", unlike(text, script));
    }
    assert!(report.compared > 0, "{report}");
}

/// Where a script that is run again does not do what it did, with the recording around the first of it.
fn unlike(text: &str, script: &str) -> String {
    let recording = read(text);
    let recorded = super::Account::of_recording(&recording.lines);
    let run = super::run::run(&recording, &super::Index::of(&recording), compiled(script), true, Instant::now());
    let again = run.ok().unwrap().account;
    let mut report = Report::default();
    report.compare(&super::Told::of(&recording), (&recorded.came, &again.came), &Default::default());
    let first = report.differences.first().map_or(0, |difference| difference.line);
    let around = (1..).zip(text.lines()).filter(|(number, _)| (first.saturating_sub(12)..first + 4).contains(number));
    around.fold(report.to_string(), |told, (number, line)| told + &format!("{number}: {line}\n"))
}

#[test]
fn a_recorded_room_replayed_with_its_own_script_shows_no_difference() {
    on_a_shards_stack(|| {
        for seed in 0..24 {
            let settings = if seed % 2 == 0 { narrow() } else { patient() };
            let text = recorded(settings, seed, 150);
            assert_same(&text, BUSY);
        }
    });
}

#[test]
fn an_interval_that_is_due_again_while_it_waits_for_its_share_is_one_step_in_both() {
    let script = r#"
        local n = 0
        function on_init() sfu.set_interval(40, function() n = n + 1 sfu.broadcast(n) end) end
        function on_client_connect() return true end
        function on_client_disconnect() local sum = 0 for i = 1, 2e6 do sum = (sum + i) % 7 end sfu.broadcast(sum) end
    "#;
    on_a_shards_stack(|| {
        let mut room = Recorded::open(script, narrow(), 70, true);
        room.join("good");
        let client = room.members().remove(0);
        room.join("good");
        room.remove(&client, "left");
        room.pass(Duration::from_secs(30));
        room.close();
        let text = room.text();
        let steps = text.lines().filter(|line| line.contains("\"step\"") && line.contains("\"timer\"")).count();
        let dues = text.lines().filter(|line| line.contains("\"due\"") && line.contains("\"timer\"")).count();
        assert!(steps + 2 < dues, "{steps} steps of {dues}");
        assert_same(&text, script);
    });
}

#[test]
fn a_recording_that_begins_in_the_middle_starts_from_the_state() {
    on_a_shards_stack(|| {
        for seed in 30..36 {
            let mut room = Recorded::open(CALM, narrow(), seed, false);
            for _ in 0..60 {
                room.happen(&messages());
            }
            room.record();
            for _ in 0..80 {
                room.happen(&messages());
            }
            // What its share has held up is done.
            room.pass(Duration::from_secs(1));
            let text = room.text();
            assert!(read(&text).warning.is_some_and(|warning| warning.contains("cut short")), "the room goes on");
            let text = text + "{\"line\":\"end\",\"reason\":\"by the operator\"}\n";
            assert_same(&text, CALM);
        }
    });
}

/// A script all of whose state crosses a reload.
const CALM: &str = r#"
local n, kicked = 0, {}
local function tick() n = n + 1 sfu.broadcast({ n, math.random(), sfu.now() }) sfu.set_timeout("tick", 130, tick) end
function on_init() sfu.set_timeout("tick", 130, tick) end
function on_client_connect(client, token) return token ~= "bad" and not kicked[client:get_id()], "No" end
function on_publish_request(client, track) return math.random() < 0.7 end
function on_message(client, message)
  if message == "kick" then kicked[client:get_id()] = true client:kick("Bye") end
  if message == "stats" then sfu.broadcast({ client:stats(), client:tracks() }) end
  n = n + 1
end
function on_unload() return { n, kicked } end
function on_load(state) n, kicked = state[1], state[2] end
"#;

#[test]
fn a_changed_script_shows_exactly_the_verdicts_and_actions_that_differ() {
    on_a_shards_stack(|| {
        let text = recorded(patient(), 40, 400);
        let voices: Vec<_> =
            (1..).zip(text.lines()).filter(|(_, line)| line.contains("on_subscribe_request")).collect();
        let changed = BUSY.replace("return not track.muted, \"Muted\"", "return false, \"Nobody\"");
        let report = replayed(&text, &changed);
        // Those that were allowed are rejected, and those that were rejected hear another reason.
        let events = voices.iter().filter(|(_, line)| line.contains("\"line\":\"event\"")).map(|(number, _)| *number);
        let differ: Vec<_> = report.differences.iter().map(|difference| difference.line).collect();
        assert_eq!(differ, events.collect::<Vec<_>>(), "{report}");
        assert!(differ.len() >= 3 && report.not_compared == 0, "{report}");
        let first = report.differences[0].to_string();
        assert!(first.contains(": on_subscribe_request c") && first.ends_with("  + rejected: Nobody\n"), "{first}");
    });
}

#[test]
fn who_is_not_let_in_any_more_does_nothing_more_and_who_is_thrown_out_leaves() {
    on_a_shards_stack(|| {
        let text = recorded(patient(), 41, 300);
        let strict = BUSY.replace("return token == \"good\"", "return false");
        let report = replayed(&text, &strict);
        assert!(report.not_compared > 20, "{report}");
        assert!(
            report.differences.iter().any(|d| d.before == ["allowed"] && d.after[0].starts_with("rejected")),
            "{report}"
        );
        let hard = BUSY.replace("if message == \"stats\" then", "if message == \"stats\" then client:kick(\"Hard\")");
        let report = replayed(&text, &hard);
        let told = report.to_string();
        assert!(told.contains("  + kick \"c") && told.contains("  + broadcast {\"bytes\""), "{told}");
        let report = replayed(&text, "error('no')");
        assert!(report.to_string().contains("the script does not start: main chunk: room.lua:1: no"), "{report}");
    });
}

#[test]
fn a_version_that_waits_for_what_is_not_recorded_is_answered_by_a_store_and_refused_by_http() {
    on_a_shards_stack(|| {
        let mut room = Recorded::open(
            "function on_client_connect() return true end\nfunction on_message() end",
            patient(),
            42,
            true,
        );
        room.join("x");
        room.join("y");
        room.close();
        let version = "function on_client_connect(c)
            local n = sfu.store.incr('n')
            local reply, err = sfu.http('https://x.example/')
            sfu.sleep(10)
            return n == 2, n .. ' ' .. tostring(err) end";
        let report = replayed(&room.text(), version);
        let first = &report.differences[0];
        assert_eq!(first.after[0], "rejected: 1 the recording has no answer to this request", "{report}");
        assert_eq!((report.differences.len(), report.compared), (2, 2), "{report}");
        assert_eq!(report.differences[1].after[0], "allowed", "{report}");
    });
}

#[test]
fn a_recording_goes_through_reloads_and_ends_with_its_room() {
    on_a_shards_stack(|| {
        let mut room = Recorded::open(BUSY, patient(), 43, true);
        for n in 0..120 {
            room.happen(&messages());
            if n % 40 == 20 {
                let version = BUSY.replace("tick = n", &format!("tick = n, version = {n}"));
                let (now, key) = (room.now, room.key);
                room.engine.reload(now, key, compiled(&version));
                room.pass(Duration::from_secs(2));
            }
        }
        room.close();
        let text = room.text();
        let last = text.lines().last().unwrap();
        assert_eq!(last, "{\"line\":\"end\",\"reason\":\"the room has closed\"}");
        let report = replayed(&text, BUSY);
        assert_eq!(report.warnings, Vec::<String>::new(), "{}", unlike(&text, BUSY));
        let is_version = |d: &super::Difference| d.to_string().contains("\"version\":");
        assert!(!report.is_same() && report.differences.iter().all(is_version), "{report}");
    });
}

#[test]
fn secrets_are_left_out_and_tokens_are_checked_all_the_same() {
    const SCRIPT: &str = "
        local asked
        function on_client_connect(client, token)
          if token == sfu.config.secret then return true end
          asked = sfu.http({ url = 'https://auth.example/?token=' .. token, headers = { Authorization = 'Bearer ' .. token } })
          local claims, err = sfu.jwt_verify(token, sfu.config.jwt_key)
          return claims ~= nil and claims.sub == 'ada', err
        end
        function on_message(client, message) sfu.broadcast({ message, password = message }) end";
    on_a_shards_stack(|| {
        let mut settings = patient();
        settings.config.insert("secret".into(), "correct horse".into());
        settings.config.insert("jwt_key".into(), "battery staple".into());
        let mut room = Recorded::open(SCRIPT, settings, 44, true);
        let exp = 1_786_000_000 + 3600;
        let sign = |key: &str| crate::tools::trial::jwt(&json!({ "sub": "ada", "exp": exp }), key.as_bytes()).unwrap();
        let (good, forged) = (sign("battery staple"), sign("wrong"));
        for token in [good.as_str(), &forged, "correct horse", "something else"] {
            room.join(token);
            room.pass(Duration::from_secs(1));
        }
        let client = room.members()[0].clone();
        room.submit(HookCall::Message { client, message: json!({ "accessToken": "open sesame" }) });
        assert_eq!(room.members().len(), 2);
        room.close();
        let text = room.text();
        let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
        let secrets = [
            signature(&good),
            signature(&forged),
            "correct horse".into(),
            "battery staple".into(),
            "something else".into(),
            "open sesame".into(),
        ];
        for secret in secrets {
            assert!(!text.contains(&secret), "{secret} in {text}");
        }
        assert_same(&text, SCRIPT);
        let later = SCRIPT.replace("claims.sub == 'ada'", "claims.sub == 'bob'");
        assert_eq!(replayed(&text, &later).differences.len(), 1);
    });
}
