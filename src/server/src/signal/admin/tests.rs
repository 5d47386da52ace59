//! The whole control plane around a real shard (without sockets), its policies, a real scripts folder and a server that
//! they call.

mod orders;
mod scripts;
mod streams;

use super::is_local_name;
use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::config::Config;
use crate::event_queue::event_queue;
use crate::scripts::{ScriptFolder, Uploads};
use crate::shard_handle::ShardHandle;
use crate::signal::http::{Listeners, ShardEnd};
use crate::signal::{operator, operator_clients};
use crate::watch::{Watch, WatchSettings};
use moonring_core::shard::{Shard, ShardSettings};
use moonring_policy::ScriptLibrary;
use moonring_policy::{PolicyEngine, PolicySettings};
use moonring_wire::packet::SendBatch;
use moonring_wire::transport::dtls::Certificate;

const SCRIPT: &str = "
function on_client_connect(client, token)
  local n = sfu.shared.incr('joins')
  local reply, err = sfu.http(sfu.shared.get('service') or token)
  if not reply then return false, err end
  sfu.count('connects', n)
  return reply.status == 200, reply.body
end
function on_unload() return 1 end
function on_load(n) end
";

/// A client's connection.
type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

struct World {
    address: SocketAddr,
    admin: SocketAddr,
    scripts: tempfile::TempDir,
    service: SocketAddr,
}

impl World {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let service = service().await;
        let scripts = tempfile::tempdir().unwrap();
        fs::write(scripts.path().join("default_room.lua"), SCRIPT).unwrap();
        let uploads = Uploads::of(&scripts.path().join(".data"));
        let folder = ScriptFolder::open(scripts.path(), vec![], uploads).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            listen: any,
            admin_listen: any,
            insecure_http: true,
            http_allow: vec![service.to_string()],
            ..config
        };
        let listeners = Listeners::open(&config).unwrap();
        let (address, admin) = (listeners.address().unwrap(), listeners.admin_address().unwrap());
        let end = shard(folder.library().clone());
        // Only who asks lets it read.
        let never = Duration::from_secs(3600);
        let settings = WatchSettings { poll: never, debounce: never, ..WatchSettings::default() };
        let (watch, handle) = Watch::new(folder, vec![end.handle.clone()], settings);
        tokio::spawn(watch.run());
        tokio::spawn(listeners.with_scripts(handle).serve(vec![end], std::future::pending()));
        Self { address, admin, scripts, service }
    }

    fn write(&self, text: &str) {
        fs::write(self.scripts.path().join("default_room.lua"), text).unwrap();
    }

    /// What a client is told that joins `room` with `token`; it stays as long as the socket is held.
    async fn join(&self, room: &str, token: &str) -> (Value, Socket) {
        let (mut socket, _) = connect_async(format!("ws://{}/ws", self.address)).await.unwrap();
        let join = json!({"type": "join", "room": room, "token": token, "metadata": null});
        socket.send(Message::text(join.to_string())).await.unwrap();
        loop {
            if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
                return (serde_json::from_str(&text).unwrap(), socket);
            }
        }
    }

    async fn get(&self, path: &str) -> String {
        reqwest::get(format!("http://{}/{path}", self.admin)).await.unwrap().text().await.unwrap()
    }

    async fn rooms(&self, query: &str) -> Value {
        serde_json::from_str(&self.get(&format!("rooms{query}")).await).unwrap()
    }

    /// Waits until a page of the admin listener says what it is to say.
    async fn says(&self, path: &str, wanted: &str) {
        let mut page = String::new();
        for _ in 0..2_000 {
            page = self.get(path).await;
            if page.contains(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{wanted:?} is not in {page}");
    }
}

/// The service that the script asks.
async fn service() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/yes", axum::routing::get(|| async { "welcome" }));
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

/// A shard on a thread of its own.
fn shard(library: ScriptLibrary) -> ShardEnd {
    let (sender, commands) = sync_channel(64);
    let (events, receiver) = event_queue(1024);
    std::thread::spawn(move || {
        let mut out = SendBatch::new(1 << 16, 64);
        let settings = ShardSettings::new(Certificate::generate().unwrap());
        let engine = PolicyEngine::new(PolicySettings::unhurried(), 1);
        let mut shard = Shard::new(Instant::now(), settings, engine, library, [7; 32]);
        shard.report_every(Instant::now(), Duration::from_millis(20));
        loop {
            match commands.recv_timeout(Duration::from_millis(2)) {
                Ok(command) => shard.handle_command(Instant::now(), command, &mut out),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            shard.handle_timeout(Instant::now(), &mut out);
            while let Some(event) = shard.poll_event() {
                if events.try_send(event).is_err() {
                    return;
                }
            }
        }
    });
    ShardEnd { handle: ShardHandle::new(move |command| sender.try_send(command)), events: receiver }
}

#[tokio::test]
async fn operators_see_rooms_scripts_reloads_and_what_policies_do() {
    let world = World::new().await;
    let url = format!("http://{}/yes", world.service);
    let (told, _ada) = world.join("demo", &url).await;
    assert_eq!(told["type"], "joined", "{told}");
    let (told, _) = world.join("other", "http://10.0.0.1/").await;
    assert_eq!(told["reason"].as_str().or(told["message"].as_str()), Some("10.0.0.1:80 is not listed in http_allow"));

    let page = world.rooms("").await;
    let room = &page["rooms"][0];
    assert_eq!((&room["room"], &room["clients"], &room["tracks"]), (&json!("demo"), &json!(1), &json!(0)), "{page}");
    let policy = &room["policy"];
    assert_eq!((&policy["script"], &policy["last_reload"]), (&json!("default_room.lua"), &Value::Null));
    assert_eq!((&policy["hooks"], &policy["failures"]), (&json!(1), &json!(0)));
    assert_eq!(policy["counters"], json!({"connects": 1.0}));
    assert!(policy["memory_bytes"].as_u64() > Some(10_000) && policy["hook_p99_us"].as_f64() > Some(0.0), "{policy}");
    let before = policy["version"].as_str().unwrap().to_owned();
    assert_eq!(before.len(), 16);

    world.write(&format!("{SCRIPT}-- newer"));
    assert_eq!(
        operator::reload(world.admin).await.unwrap(),
        "1 scripts, 1 changed\nchanged default_room.lua\n1 rooms run the new version\n"
    );
    world.says("metrics", "\nmoonring_policy_reloads_total{shard=\"0\",outcome=\"ok\"} 1\n").await;
    let after = world.rooms("").await["rooms"][0]["policy"]["version"].as_str().unwrap().to_owned();
    assert_ne!(before, after);
    assert_eq!(world.rooms("").await["rooms"][0]["policy"]["last_reload"], json!({"ok": after}));

    world.write(&format!("{SCRIPT}\nfunction on_init() error('no database') end"));
    let words = operator::reload(world.admin).await.unwrap_err().to_string();
    let start = "1 scripts, 1 changed\nchanged default_room.lua\n1 rooms were not reloaded, the old version runs on there:\ndemo: ";
    assert!(words.starts_with(start) && words.contains("no database"), "{words}");
    world.says("metrics", "\nmoonring_policy_reloads_total{shard=\"0\",outcome=\"failed\"} 1\n").await;
    let policy = world.rooms("").await["rooms"][0]["policy"].clone();
    assert_eq!(policy["version"], json!(after));
    assert!(policy["last_reload"]["failed"].as_str().unwrap().contains("no database"), "{policy}");

    world.write("x = ");
    let words = operator::reload(world.admin).await.unwrap_err().to_string();
    assert!(words.contains("\ndefault_room.lua:1: unexpected symbol near '<eof>'"), "{words}");
    for line in [
        "moonring_scripts_failed 1",
        "moonring_script_counter{name=\"connects\"} 1.0",
        "moonring_policy_http_requests_total{outcome=\"answered\"} 1",
        "moonring_policy_http_requests_total{outcome=\"failed\"} 1",
        "moonring_shared_entries 1",
        "moonring_drops_total{shard=\"0\",reason=\"overload\"} 0",
        "moonring_policy_verdicts_total{shard=\"0\",verdict=\"allow\"} 1",
        "moonring_shard_clients{shard=\"0\"} 1",
    ] {
        world.says("metrics", &format!("\n{line}\n")).await;
    }
    let table = operator::rooms(world.admin, false).await.unwrap().text;
    assert!(
        table.contains("demo") && table.contains("RELOAD FAILED: on_init") && table.ends_with("1 rooms\n"),
        "{table}"
    );
    let listed = operator_clients::clients(world.admin, "demo", false).await.unwrap();
    assert!(
        listed.contains(", 127.0.0.1, websocket, shard 0, has not offered any media\n")
            && listed.ends_with("1 clients\n"),
        "{listed}"
    );
    let lines = operator_clients::clients(world.admin, "demo", true).await.unwrap();
    let line: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!((&line["joined"], &line["publishes"]), (&json!(true), &json!([])));
    assert_eq!((&line["via"], &line["node"], &line["shard"]), (&json!("websocket"), &Value::Null, &json!(0)));
    assert!(line["transport"].is_null() && line.get("place").is_none(), "{line}");
    assert!(operator_clients::clients(world.admin, "none", true).await.unwrap_err().to_string().contains("404"));
}

#[tokio::test]
async fn rooms_come_in_pages_and_the_command_reads_them_all() {
    let world = World::new().await;
    let url = format!("http://{}/yes", world.service);
    let mut clients = Vec::new();
    for n in 0..5 {
        clients.push(world.join(&format!("r{n}"), &url).await.1);
    }
    let names = |page: &Value| page["rooms"].as_array().unwrap().iter().map(|r| r["room"].clone()).collect::<Vec<_>>();
    for (query, rooms, next) in [
        ("?limit=2", json!(["r0", "r1"]), json!("r1")),
        ("?limit=2&after=r1", json!(["r2", "r3"]), json!("r3")),
        ("?limit=2&after=r3", json!(["r4"]), Value::Null),
        ("?limit=0&after=r3x", json!(["r4"]), Value::Null),
        ("?limit=2&named=r", json!(["r0", "r1"]), json!("r1")),
        ("?named=r3", json!(["r3"]), Value::Null),
        ("?named=", json!(["r0", "r1", "r2", "r3", "r4"]), Value::Null),
        ("?named=3", json!([]), Value::Null),
    ] {
        let page = world.rooms(query).await;
        assert_eq!((json!(names(&page)), &page["next"]), (rooms, &next), "{query}");
    }
    let lines = operator::rooms(world.admin, true).await.unwrap().text;
    assert_eq!(lines.lines().count(), 5);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["room"], &first["policy"]["script"]), (&json!("r0"), &json!("default_room.lua")));
}

#[tokio::test]
async fn a_browser_on_a_foreign_page_cannot_ask_for_a_reload() {
    let world = World::new().await;
    let ask = reqwest::Client::new().post(format!("http://{}/reload", world.admin));
    assert_eq!(ask.header("origin", "https://evil.example").send().await.unwrap().status(), 403);
    let get = reqwest::get(format!("http://{}/reload", world.admin)).await.unwrap();
    assert_eq!(get.status(), 405);
    let nobody = operator::rooms(SocketAddr::from(([127, 0, 0, 1], 1)), false).await.unwrap_err().to_string();
    assert!(nobody.starts_with("no server answers at 127.0.0.1:1; start one, or say with --admin-listen"), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_document_has_a_row_for_each_metric() {
    let world = World::new().await;
    let (_, _ada) = world.join("demo", &format!("http://{}/yes", world.service)).await;
    let page = world.get("metrics").await;
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut written: Vec<_> = families.map(|(name, kind)| format!("{name} {kind}")).collect();
    let document = include_str!("../../../../../docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `moonring_")?.split_once("` | "));
    let mut listed: Vec<_> =
        rows.map(|(name, rest)| format!("moonring_{name} {}", rest.split(' ').next().unwrap())).collect();
    written.sort();
    listed.sort();
    assert_eq!(listed, written);
}

#[test]
fn a_host_is_local_when_it_is_an_address_or_localhost() {
    for (host, local) in [
        ("127.0.0.1:8081", true),
        ("127.0.0.1", true),
        ("[::1]:8081", true),
        ("[::1]", true),
        ("localhost:8081", true),
        ("LOCALHOST", true),
        ("10.0.0.7:8081", true),
        ("", true),
        ("evil.example", false),
        ("evil.example:8081", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example:80", false),
    ] {
        assert_eq!(is_local_name(host), local, "{host}");
    }
}

#[tokio::test]
async fn a_room_that_on_unload_locks_in_takes_the_newest_version_when_its_state_may_go() {
    let world = World::new().await;
    world.write(&SCRIPT.replace("return 1 end", "error('stuck') end"));
    operator::reload(world.admin).await.unwrap();
    let url = format!("http://{}/yes", world.service);
    let (_, _ada) = world.join("demo", &url).await;
    world.write(&format!("{SCRIPT}-- newer"));
    operator::reload(world.admin).await.unwrap_err();
    world.says("metrics", "\nmoonring_policy_reloads_total{shard=\"0\",outcome=\"failed\"} 1\n").await;
    let failed = world.rooms("").await["rooms"][0]["policy"]["last_reload"]["failed"].to_string();
    assert!(failed.contains("stuck") && failed.contains("moonring reload --drop-state ROOM"), "{failed}");
    let said = operator::order(world.admin, "demo", "reload").await.unwrap();
    assert!(said.starts_with("room demo: default_room.lua ") && said.ends_with(" runs\n"), "{said}");
    let said = operator::order(world.admin, "demo", "resume").await.unwrap();
    assert!(said.ends_with(" runs\n"), "it was not suspended: {said}");
    for (room, words) in [("nowhere", "there is no such room"), ("a b", "the room id has the character")] {
        let error = operator::order(world.admin, room, "resume").await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let order = reqwest::Client::new().post(format!("http://{}/rooms/demo/resume", world.admin));
    assert_eq!(order.header("origin", "https://evil.example").send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn the_rooms_and_clients_of_a_shard_are_zero_before_anybody_comes_and_when_all_have_left() {
    let world = World::new().await;
    let url = format!("http://{}/yes", world.service);
    let says = async |rooms: u32, clients: u32| {
        let gauge = |name: &str, value: u32| format!("\nmoonring_{name}{{shard=\"0\"}} {value}\n");
        world.says("metrics", &gauge("rooms", rooms)).await;
        world.says("metrics", &gauge("clients", clients)).await;
    };
    says(0, 0).await;
    let (_, _ada) = world.join("demo", &url).await;
    says(1, 1).await;
    operator::act(world.admin, "demo", "close", &json!({ "reason": "Over" })).await.unwrap();
    says(0, 0).await;
}

#[tokio::test]
async fn a_page_that_is_not_there_and_a_wrong_method_are_answered_with_a_line_that_says_so() {
    let world = World::new().await;
    let client = reqwest::Client::new();
    for (method, path, status, words) in [
        ("GET", "/nosuch", 404, "there is no such page\n"),
        ("DELETE", "/rooms/demo", 404, "there is no such page\n"),
        ("GET", "/rooms/demo/kick", 405, "this page does not take GET: docs/policy.md has the requests\n"),
        ("DELETE", "/rooms", 405, "this page does not take DELETE: docs/policy.md has the requests\n"),
    ] {
        let request = client.request(method.parse().unwrap(), format!("http://{}{path}", world.admin));
        let answer = request.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
            (status, words),
            "{method} {path}"
        );
    }
}
