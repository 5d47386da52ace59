//! What policies cost: memory of an idle room, reloading all rooms while media is forwarded, a hook's latency against
//! plain mlua and against an HTTP round trip to a decision service on loopback.
//!
//! `cargo bench -p moonring-benches --bench policy [memory|reload|hook|store|record|http]` prints one line: medians,
//! CPU time but for HTTP, which is wall time.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "not a library")]

mod common;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::call::Call;
use common::counting::Counting;
use common::{Way, interleave, is_bench, thread_ns};
use moonring_core::command::{Command, JoinRequest};
use moonring_policy::hook::{ClientFacts, HookCall};
use moonring_policy::output::{PolicyOutput, PolicyReply};
use moonring_policy::tape::{Delivery, Sink};
use moonring_policy::{PolicyEngine, PolicySettings, Script, ScriptLibrary};
use moonring_wire::id::{ClientId, RoomId};
use moonring_wire::media::CodecName;
use moonring_wire::shared::SharedValue;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEFAULT_ROOM: &[u8] = include_bytes!("../scripts/default_room.lua");
/// A hook that does nothing, and one that allows everything.
const NOTHING: &[u8] = b"function on_client_connect() return true end function on_publish_request() return true end
function on_message(client, message) end";
/// A hook that keeps something for good.
const KEEPS: &[u8] = b"function on_client_connect() return true end
function on_message(client, message) sfu.store.set('n', message) end";
/// Calls of one round.
const CALLS: usize = 1_000;
/// Rooms whose hooks are compared with as many calls by mlua alone.
const PAIRS: usize = 16;

fn main() {
    // LuaJIT wants a deep C stack, as a shard's thread has.
    let bench = std::thread::Builder::new().stack_size(64 << 20).spawn(run).expect("a thread");
    bench.join().expect("the benchmark");
}

fn run() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    let rooms = if is_bench() { 10_000 } else { 50 };
    if wanted("memory") {
        print!("idle_room_bytes={:.0} ", idle_room_bytes(rooms));
    }
    if wanted("reload") {
        let reload = reload_all(rooms);
        print!("reload_all_ms={:.0} longest_tick_us={:.0} ", reload.total_ms, reload.longest_us);
        print!("p99_tick_us={:.0} dropped_packets={} ", reload.p99_us, reload.dropped);
    }
    if wanted("hook") {
        let HookLatency { hook_ns, plain_ns, times } = hook_latency();
        print!("hook_ns={hook_ns:.0} plain_mlua_ns={plain_ns:.0} hook_times_plain={times:.2} ");
    }
    if wanted("store") {
        print!("store_set_ns={:.0} ", store_set_ns());
    }
    if wanted("record") {
        let (hook_ns, recorded_ns) = recording_cost();
        print!("unrecorded_hook_ns={hook_ns:.0} recorded_hook_ns={recorded_ns:.0} ");
    }
    if wanted("http") {
        print!("http_decision_ns={:.0} ", http_decision_ns());
    }
    println!("rooms={rooms}");
}

fn script(source: &[u8]) -> Arc<Script> {
    Arc::new(Script::compile("default_room.lua", source).expect("a script that compiles"))
}

/// Resident memory that one more room with the default policy takes, everything included.
fn idle_room_bytes(rooms: usize) -> f64 {
    let mut settings = PolicySettings::default();
    settings.config.insert("secret".into(), "s".into());
    let mut engine = PolicyEngine::new(settings, 7);
    let (script, now) = (script(DEFAULT_ROOM), Instant::now());
    let mut open = |n: usize| {
        let room = RoomId::parse(&format!("r{n}")).expect("an id");
        engine.open_room(now, &room, Ok(script.clone())).expect("a room");
        while engine.poll_output().is_some() {}
    };
    open(rooms);
    let before = resident_bytes();
    (0..rooms).for_each(&mut open);
    (resident_bytes() - before) / rooms as f64
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: f64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).expect("statm has numbers");
    pages * 4096.0
}

struct Reload {
    total_ms: f64,
    longest_us: f64,
    p99_us: f64,
    dropped: usize,
}

/// All rooms get a new version while one of them forwards video to ten clients.
fn reload_all(rooms: usize) -> Reload {
    let mut call = Call::new();
    call.room(CodecName::Vp8, 10, |n| SocketAddr::from(([127, 1, 0, n as u8 + 1], 9)));
    for n in 0..rooms {
        let id = ClientId::parse(&format!("idle-{n}")).expect("an id");
        let room = RoomId::parse(&format!("idle-{n}")).expect("an id");
        let (token, metadata, connection) = (String::new(), serde_json::Value::Null, Box::new([127, 0, 0, 1].into()));
        call.shard.handle_command(
            call.now,
            Command::Join(JoinRequest { room, client: id, token, metadata, connection }),
            &mut call.out,
        );
        while call.shard.poll_event().is_some() {}
    }
    let mut newer = ScriptLibrary::new(vec![]);
    newer.insert("default_room.lua".into(), Ok(script(&[NOTHING, b"-- newer"].concat())));
    let mut ticks = Vec::new();
    let (mut sent, mut expected) = (0, 0);
    let start = thread_ns();
    call.shard.handle_command(call.now, Command::Scripts(newer), &mut call.out);
    ticks.push(thread_ns() - start);
    // A tick is due until half a second passes with nothing to do.
    let mut quiet = 0;
    while quiet < 100 {
        call.now += Duration::from_millis(5);
        for (from, mut bytes) in call.packets(5, 5, 1_000) {
            call.shard.handle_datagram(call.now, from, &mut bytes, &mut call.out);
            expected += 10;
        }
        call.out.clear();
        while call.shard.forward(call.now, &mut call.out) {}
        sent += call.out.datagrams();
        call.out.clear();
        let start = thread_ns();
        call.shard.handle_timeout(call.now, &mut call.out);
        let took = thread_ns() - start;
        ticks.push(took);
        call.out.clear();
        while call.shard.poll_event().is_some() {}
        quiet = if took > 200_000.0 { 0 } else { quiet + 1 };
    }
    ticks.sort_by(f64::total_cmp);
    Reload {
        total_ms: ticks.iter().sum::<f64>() / 1e6,
        longest_us: ticks[ticks.len() - 1] / 1e3,
        p99_us: ticks[ticks.len() * 99 / 100] / 1e3,
        dropped: expected - sent,
    }
}

fn client(now: Instant) -> Rc<ClientFacts> {
    let (id, metadata) = (ClientId::parse("c").expect("an id"), serde_json::Value::Null.into());
    Rc::new(ClientFacts::new(id, [127, 0, 0, 1].into(), metadata, now))
}

fn event(client: &Rc<ClientFacts>) -> HookCall {
    HookCall::Message { client: client.clone(), message: "hello".into() }
}

/// A round of events of one room with this script, which a sink may record. What it asks of a store is answered at once.
fn events_of_a_room(source: &[u8], sink: Option<Sink>) -> impl FnMut() -> (f64, f64) {
    let mut now = Instant::now();
    // On a machine that stands still for a moment a hook would use up what it may use at once, and wait.
    let patience = Duration::from_secs(1);
    let settings = PolicySettings { slice: patience, cpu_burst: patience, ..PolicySettings::default() };
    let mut engine = PolicyEngine::new(settings, 7);
    let id = RoomId::parse("r").expect("an id");
    let room =
        engine.open_recorded_room(now, (&id, SharedValue::empty_object()), Ok(script(source)), sink).expect("a room");
    let client = client(now);
    engine.submit(now, room, HookCall::ClientConnect { client: client.clone(), auth_token: String::new() });
    while engine.poll_output().is_some() {}
    move || {
        timed(|| {
            // A room may use a share of the time only.
            now += Duration::from_millis(1);
            engine.submit(now, room, event(&client));
            let mut is_done = false;
            while let Some(output) = engine.poll_output() {
                match output {
                    PolicyOutput::Request { id, .. } => engine.resume(now, id, PolicyReply::Shared(Ok(None))),
                    PolicyOutput::Outcome { .. } => is_done = true,
                    _ => {}
                }
            }
            assert!(is_done, "the hook has not ended");
        })
    }
}

/// A round of calls; nanoseconds of one.
fn timed(mut call: impl FnMut()) -> (f64, f64) {
    let start = thread_ns();
    (0..CALLS).for_each(|_| call());
    ((thread_ns() - start) / CALLS as f64, 0.0)
}

/// The shard's part of `sfu.store.set`, in a hook, from event to outcome; what writes to the disk is another thread.
fn store_set_ns() -> f64 {
    let mut ways = [Way::new("store_set", events_of_a_room(KEEPS, None))];
    interleave(&mut ways, if is_bench() { 101 } else { 1 });
    ways[0].result().0
}

/// (not recorded, recorded): `on_message(client, "hello")` that does nothing, with its event.
fn recording_cost() -> (f64, f64) {
    let taken = Sink::new(|line| {
        drop(std::hint::black_box(line));
        Delivery::Taken
    });
    let mut ways = [
        Way::new("hook", events_of_a_room(NOTHING, None)),
        Way::new("recorded", events_of_a_room(NOTHING, Some(taken))),
    ];
    interleave(&mut ways, if is_bench() { 101 } else { 1 });
    let [hook, recorded] = ways.each_mut().map(|way| way.result().0);
    (hook, recorded)
}

/// The medians of [`PAIRS`] rooms and as many programs of mlua alone.
struct HookLatency {
    hook_ns: f64,
    plain_ns: f64,
    /// Of each pair's ratio.
    times: f64,
}

/// `on_message(client, "hello")` that does nothing, through the engine and by mlua alone, for the same event: a client's
/// facts and a message of JSON, which is there before either is asked (what making it and letting it go take is measured,
/// too, and taken off both).
///
/// One build's figures say little about another's: where the linker and the allocator put things makes a tenth of either.
/// So many rooms and many states of mlua, made in turn, are measured in turn, round by round, and the ratio is the median
/// of their ratios.
fn hook_latency() -> HookLatency {
    let pairs = if is_bench() { PAIRS } else { 1 };
    let mut ways = Vec::new();
    for n in 0..pairs {
        ways.push(Way::new(format!("hook {n}"), events_of_a_room(NOTHING, None)));
        ways.push(Way::new(format!("plain {n}"), plain_mlua()));
        let other = client(Instant::now());
        ways.push(Way::new(format!("event {n}"), move || timed(|| drop(std::hint::black_box(event(&other))))));
    }
    interleave(&mut ways, if is_bench() { 101 } else { 1 });
    let (mut hooks, mut plains, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in ways.chunks_mut(3) {
        let [hook, plain, event] = [0, 1, 2].map(|n| pair[n].result().0);
        hooks.push(hook - event);
        plains.push(plain - event);
        ratios.push((hook - event) / (plain - event));
    }
    HookLatency { hook_ns: median(hooks), plain_ns: median(plains), times: median(ratios) }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What a program does that calls the same function with mlua alone, as quickly as mlua does it: it holds the function
/// and the client's userdata (methods and all, so that the script can do with it what it does with ours), makes a Lua
/// string of the event's message and calls, under the same memory cap. It has no budget of time, no queue, no outcome, no
/// counters and no other room to be fair to; an error of the script would come back as an error.
fn plain_mlua() -> impl FnMut() -> (f64, f64) {
    // The function and the userdata do not keep their state alive. It is never closed: a userdata that is destroyed
    // then crashes LuaJIT in the dev profile (mlua 0.12). moonring's own states have none.
    let lua = Box::leak(Box::new(mlua::Lua::new()));
    lua.set_memory_limit(2 << 20).expect("a limit");
    let function: mlua::Function = lua.load("return function(client, message) end").eval().expect("a function");
    let client = client(Instant::now());
    let object = lua.create_userdata(Object(client.clone())).expect("a userdata");
    move || {
        timed(|| {
            let HookCall::Message { message, client: _client } = std::hint::black_box(event(&client)) else { return };
            let text = message.as_str().expect("a text");
            function.call::<()>((&object, text)).expect("a call");
        })
    }
}

/// A client as a program with mlua alone would show it to its scripts.
struct Object(Rc<ClientFacts>);

impl mlua::UserData for Object {
    fn add_methods<M: mlua::UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("get_id", |_, this, ()| Ok(this.0.id.as_str().to_owned()));
    }
}

/// A decision asked of another process's HTTP service: one kept-alive connection on loopback, JSON both ways.
fn http_decision_ns() -> f64 {
    moonring::bench::install_crypto_provider();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let decide = |axum::Json(asked): axum::Json<serde_json::Value>| async move {
            axum::Json(serde_json::json!({ "allow": asked["client"] == "c" }))
        };
        let app = axum::Router::new().route("/decide", axum::routing::post(decide));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/decide", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = reqwest::Client::new();
        let mut times = Vec::new();
        for _ in 0..if is_bench() { 2_000 } else { 20 } {
            let start = Instant::now();
            let asked = client.post(&url).json(&serde_json::json!({ "client": "c", "hook": "on_message" }));
            let answer: serde_json::Value = asked.send().await.expect("an answer").json().await.expect("JSON");
            assert_eq!(answer["allow"], true);
            times.push(start.elapsed().as_nanos() as f64);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}
