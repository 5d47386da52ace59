//! The listeners on loopback, with a thread that answers commands in a shard's place.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, sync_channel};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::event_queue::{EventSender, event_queue};
use moonring_core::command::{ClientInfo, Command, Event, JoinRequest, LeaveCause, OfferRequest, RefusalCode};
use moonring_wire::id::{ClientId, Mid, TrackId};
use moonring_wire::media::{CodecName, Kind, Source, TrackInfo};
use moonring_wire::negotiate::*;
use moonring_wire::rights::Rights;
use moonring_wire::shared::SharedValue;

mod cluster;
mod goodbyes;
mod resume;
mod unfinished;
mod visits;
mod whip;

const OFFER: &str = include_str!("../../../../wire/src/sdp/fixtures/ffmpeg_whip.sdp");

/// Running listeners and what its fake shard was told.
struct World {
    address: SocketAddr,
    admin: SocketAddr,
    told: mpsc::UnboundedReceiver<String>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<anyhow::Result<()>>,
}

/// What a shard would do, by token: "no" is rejected, "full" meets a bound, "hang" is never answered, "dead" and
/// "live" are encoders in a room with one seat, "camera" a dead one in a room with one camera.
fn fake_shard(commands: Receiver<Command>, events: EventSender, told: mpsc::UnboundedSender<String>) {
    let send = |event| events.try_send(event);
    // Who has the only seat, and whether it is a dead encoder; how often that was asked.
    let (mut seat, mut asked, mut one_camera) = (None, 0, false);
    while let Ok(command) = commands.recv() {
        let _ = told.send(note(&command));
        let sent = match command {
            Command::Join(JoinRequest { client, token, .. }) => match token.as_str() {
                "no" => send(Event::Left { client, cause: LeaveCause::Rejected("Not on the list".into()) }),
                "full" => send(Event::Left { client, cause: LeaveCause::Limit("The room is full".into()) }),
                "hang" => Ok(()),
                "dead" | "live" if seat.is_some() => {
                    send(Event::Left { client, cause: LeaveCause::Rejected("The seat is taken".into()) })
                }
                token => {
                    one_camera = token == "camera";
                    let keeps = token == "yes" || one_camera && seat.is_some();
                    seat = if keeps { seat } else { Some((client.clone(), token != "live")) };
                    let (ada, metadata) = (ClientId::parse("ada").unwrap(), json!({"name": "Ada"}).into());
                    let attributes = json!({"role": "host"}).into();
                    let ada = ClientInfo { client: ada, metadata, attributes };
                    send(joined(client, vec![ada], vec![track("t0")], vec![]))
                }
            },
            Command::Offer(OfferRequest { client, request, offer, publish, subscribe }) => {
                let mids = publish.into_iter().map(|p| p.mid).chain(subscribe.into_iter().map(|s| s.mid));
                let is_taken = one_camera && seat.as_ref().is_some_and(|(owner, _)| *owner != client);
                let section = |mid: Mid| {
                    let track = (!is_taken || mid.as_str() != "1").then(|| track("t1"));
                    SectionOutcome { mid, reason: track.is_none().then(|| "One camera".into()), track }
                };
                let sections = mids.map(section).collect();
                send(Event::Answered { client, request, answer: Box::new(answer(&offer)), sections })
            }
            Command::Snapshot { client } => send(joined(client, vec![], vec![], vec![track("t1")])),
            Command::Message { client, value } if value == json!("kick me") => {
                send(Event::Left { client, cause: LeaveCause::Kicked("As you wish".into()) })
            }
            Command::Message { client, value } => send(Event::message(client, value)),
            Command::Unpublish { client, .. } => {
                let message = "there is no track t9".into();
                send(Event::Refused { client, request: None, code: RefusalCode::UnknownTrack, message })
            }
            // The dead one was heard lately when it is asked about for the first time.
            Command::LeaveIfSilent { client, .. } if seat == Some((client.clone(), true)) => {
                asked += 1;
                if asked == 1 {
                    continue;
                }
                seat = None;
                send(Event::Left { client, cause: LeaveCause::Left })
            }
            _ => Ok(()),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn joined(client: ClientId, clients: Vec<ClientInfo>, tracks: Vec<TrackInfo>, own: Vec<TrackInfo>) -> Event {
    Event::Joined { client, clients, tracks, own, attributes: SharedValue::empty_object(), rights: Rights::default() }
}

fn note(command: &Command) -> String {
    match command {
        Command::Join(JoinRequest { room, token, metadata, connection, .. }) => {
            let seen = if connection.origin.is_some() { format!(" {connection:?}") } else { String::new() };
            format!("join {room} {token} {metadata} {}{seen}", connection.ip)
        }
        Command::Offer(OfferRequest { publish, subscribe, .. }) => {
            format!("offer {} {}", publish.len(), subscribe.len())
        }
        Command::Leave { reason, .. } => format!("leave {reason}"),
        other => format!("{other:?}").split(' ').next().unwrap_or_default().to_lowercase(),
    }
}

fn track(id: &str) -> TrackInfo {
    TrackInfo {
        id: TrackId::parse(id).unwrap(),
        client: ClientId::parse("ada").unwrap(),
        kind: Kind::Video,
        source: Source::Camera,
        codec: CodecName::Vp8,
        layers: 1,
        temporal_layers: 1,
        muted: false,
    }
}

fn answer(offer: &Offer) -> Answer {
    let section = |s: &OfferSection| AnswerSection::Accepted {
        mid: s.shown_mid(),
        kind: s.codecs[0].codec.name.kind(),
        protocol: "UDP/TLS/RTP/SAVPF".into(),
        direction: Direction::RecvOnly,
        codecs: s
            .codecs
            .iter()
            .cloned()
            .map(|c| AnswerCodec { pt: c.pt, codec: c.codec, rtx: c.rtx, feedback: c.feedback })
            .collect(),
        extensions: vec![],
        rids: vec![],
        stream: None,
        max_bitrate_bps: None,
    };
    Answer {
        version: 1,
        ice: IceCredentials { ufrag: "srv1".into(), pwd: "0123456789abcdefghijkl".into() },
        fingerprint: Fingerprint::Sha256([1; 32]),
        setup: Setup::Active,
        candidates: vec!["127.0.0.1:40000".parse().unwrap()],
        over_tcp: false,
        sections: offer.sections.iter().map(section).collect(),
    }
}

fn config() -> Config {
    let any_port = "127.0.0.1:0".parse().unwrap();
    Config { listen: any_port, admin_listen: any_port, insecure_http: true, messages_per_s: 1000, ..Config::default() }
}

fn start(config: &Config) -> World {
    start_in(config, None)
}

fn start_in(config: &Config, cluster: Option<Cluster>) -> World {
    let listeners = Listeners::open(config).unwrap().with_cluster(cluster);
    let (address, admin) = (listeners.address().unwrap(), listeners.admin_address().unwrap());
    let (sender, commands) = sync_channel(64);
    let (events_in, events) = event_queue(64);
    let (told_in, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || fake_shard(commands, events_in, told_in));
    let handle = ShardHandle::new(move |command| sender.try_send(command));
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(listeners.serve(vec![ShardEnd { handle, events }], async {
        let _ = stopped.await;
    }));
    World { address, admin, told, stop: Some(stop), served }
}

impl World {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
    async fn told(&mut self) -> String {
        self.told.recv().await.unwrap()
    }
    async fn socket(&self) -> Socket {
        Socket(connect_async(format!("ws://{}/ws", self.address)).await.unwrap().0)
    }
    async fn whip(&self, path: &str, token: Option<&str>, body: &str) -> reqwest::Response {
        let request = reqwest::Client::new().post(self.url(path)).header("content-type", "application/sdp");
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        request.body(body.to_owned()).send().await.unwrap()
    }
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }
    /// The next message, `{"closed": code}` at the end.
    async fn next(&mut self) -> Value {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Close(frame))) => return json!({"closed": frame.map(|f| u16::from(f.code))}),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return json!({"closed": null}),
            }
        }
    }
    async fn join(&mut self, token: &str) -> Value {
        self.send(json!({"type": "join", "room": "demo", "token": token, "metadata": 7})).await;
        self.next().await
    }
}

#[tokio::test]
async fn a_websocket_client_joins_offers_talks_and_leaves() {
    let mut world = start(&config());
    let mut socket = world.socket().await;
    let joined = socket.join("yes").await;
    assert_eq!(joined["type"], "joined");
    let ada = json!({"client": "ada", "metadata": {"name": "Ada"}, "attributes": {"role": "host"}});
    assert_eq!(joined["clients"], json!([ada]));
    let sources = ["camera", "microphone", "screen", "screen_audio", "other"];
    assert_eq!(joined["rights"], json!({"publish": sources, "subscribe": true, "message": true}));
    assert_eq!(joined["tracks"][0]["id"], "t0");
    assert_eq!(joined["client"].as_str().unwrap().len(), 16);
    assert_eq!(world.told().await, "join demo yes 7 127.0.0.1");
    let publish = json!([{"mid": "0", "source": "microphone"}, {"mid": "1", "source": "camera"}]);
    socket.send(json!({"type": "offer", "request": 5, "sdp": OFFER, "publish": publish})).await;
    let answer = socket.next().await;
    assert_eq!((&answer["type"], &answer["request"]), (&json!("answer"), &json!(5)));
    assert!(answer["sdp"].as_str().unwrap().contains("a=ice-lite\r\n"));
    assert_eq!(answer["sections"][1]["track"]["id"], "t1");
    assert_eq!(world.told().await, "offer 2 0");
    socket.send(json!({"type": "message", "value": {"hello": [1]}})).await;
    assert_eq!(socket.next().await, json!({"type": "message", "value": {"hello": [1]}}));
    socket.send(json!({"type": "unpublish", "track": "t9"})).await;
    assert_eq!(socket.next().await["code"], "unknown_track");
    socket.send(json!({"type": "leave"})).await;
    assert_eq!(socket.next().await, json!({"closed": 1000}));
    assert_eq!([world.told().await, world.told().await, world.told().await][2], "leave left");
}

#[tokio::test]
async fn bad_messages_are_answered_and_the_connection_stays() {
    let world = start(&config());
    let mut socket = world.socket().await;
    socket.join("yes").await;
    for (message, code, named) in [
        (json!({"type": "dance"}), "bad_message", "dance"),
        (json!({"type": "message", "value": "x".repeat(300_000)}), "too_large", "bytes"),
        (json!({"type": "offer", "request": 1, "sdp": "v=0"}), "bad_sdp", "session part"),
    ] {
        socket.send(message).await;
        let error = socket.next().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)));
        assert!(error["message"].as_str().unwrap().contains(named), "{error}");
    }
    socket.0.send(Message::binary(vec![0, 1])).await.unwrap();
    assert_eq!(socket.next().await["code"], "bad_message");
    socket.send(json!({"type": "message", "value": 1})).await;
    assert_eq!(socket.next().await["type"], "message");
}

#[tokio::test]
async fn rejected_kicked_and_lost_clients_are_told_and_said_goodbye_for() {
    let mut world = start(&Config { resume_s: 0, ..config() });
    let mut rejected = world.socket().await;
    assert_eq!(rejected.join("no").await, json!({"type": "rejected", "reason": "Not on the list"}));
    assert_eq!(rejected.next().await, json!({"closed": 1008}));
    let mut kicked = world.socket().await;
    kicked.join("yes").await;
    kicked.send(json!({"type": "message", "value": "kick me"})).await;
    assert_eq!(kicked.next().await, json!({"type": "kicked", "reason": "As you wish"}));
    assert_eq!(kicked.next().await, json!({"closed": 1008}));
    let mut lost = world.socket().await;
    lost.join("yes").await;
    drop(lost);
    let mut told = Vec::new();
    while told.last().is_none_or(|last: &String| !last.starts_with("leave")) {
        told.push(world.told().await);
    }
    let expected = [
        "join demo no 7 127.0.0.1",
        "join demo yes 7 127.0.0.1",
        "message",
        "join demo yes 7 127.0.0.1",
        "leave connection lost",
    ];
    assert_eq!(told, expected);
    let mut early = world.socket().await;
    early.send(json!({"type": "message", "value": 1})).await;
    assert_eq!(early.next().await["code"], "out_of_order");
    assert_eq!(early.next().await, json!({"closed": 1008}));
}

#[tokio::test]
async fn who_does_not_join_in_time_is_closed() {
    let world = start(&Config { join_timeout_s: 1, ..config() });
    let mut socket = world.socket().await;
    assert_eq!(socket.next().await, json!({"type": "rejected", "reason": "No join message in time"}));
}

#[tokio::test]
async fn connections_are_bounded() {
    let world = start(&Config { clients_max: 1, ..config() });
    let mut first = world.socket().await;
    first.join("yes").await;
    let mut second = world.socket().await;
    second.send(json!({"type": "join", "room": "demo", "token": "yes"})).await;
    assert_eq!(second.next().await["reason"], "the server has no place left for another client");
    assert_eq!(world.whip("/whip/demo", Some("yes"), OFFER).await.status(), 503);
}

#[tokio::test]
async fn a_shutdown_tells_everybody_and_ends() {
    let mut world = start(&config());
    let mut socket = world.socket().await;
    socket.join("yes").await;
    assert_eq!(world.whip("/whip/demo", Some("yes"), OFFER).await.status(), 201);
    world.stop.take().unwrap().send(()).unwrap();
    assert_eq!(socket.next().await, json!({"type": "restarting", "reason": "The server is restarting"}));
    assert_eq!(socket.next().await, json!({"closed": 1012}));
    world.served.await.unwrap().unwrap();
    let mut told: Vec<String> = Vec::new();
    while let Some(note) = world.told.recv().await {
        told.push(note);
    }
    let leaves: Vec<_> = told.iter().filter(|note| note.starts_with("leave")).collect();
    assert_eq!(leaves, ["leave the server shuts down"; 2], "{told:?}");
}

#[tokio::test]
async fn pages_are_served_over_tls_and_admin_pages_on_their_own_listener() {
    let data = tempfile::tempdir().unwrap();
    let world = start(&Config { insecure_http: false, data_dir: data.path().into(), ..config() });
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    for (path, status, content_type) in [
        ("/", 200, "text/html; charset=utf-8"),
        ("/client.js", 200, "text/javascript; charset=utf-8"),
        ("/app.js", 200, "text/javascript; charset=utf-8"),
        ("/style.css", 200, "text/css; charset=utf-8"),
        ("/healthz", 200, "text/plain; charset=utf-8"),
        ("/metrics", 404, "text/plain; charset=utf-8"),
        ("/../Cargo.toml", 404, "text/plain; charset=utf-8"),
    ] {
        let response = client.get(format!("https://{}{path}", world.address)).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
            (status, content_type),
            "{path}"
        );
    }
    let admin = |path| client.get(format!("http://{}{path}", world.admin)).send();
    let metrics = admin("/metrics").await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("\nmoonring_websockets 0\n") && metrics.ends_with("\nmoonring_store_commits_total 0\n# EOF\n"),
        "{metrics}"
    );
    assert_eq!(admin("/rooms").await.unwrap().text().await.unwrap(), "{\"rooms\":[],\"next\":null}");
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    for (trust_proxy, forwarded, expected) in [
        (true, "198.51.100.1, 192.0.2.7", "192.0.2.7"),
        (false, "198.51.100.1, 192.0.2.7", "127.0.0.1"),
        (true, "198.51.100.1,192.0.2.7:50814", "192.0.2.7"),
        (true, "[2001:db8::7]:443", "2001:db8::7"),
        (true, "2001:db8::7", "2001:db8::7"),
        (true, "unknown", "127.0.0.1"),
    ] {
        let mut world = start(&Config { trust_proxy, ..config() });
        let request = reqwest::Client::new().post(world.url("/whip/demo")).header("content-type", "application/sdp");
        let request = request.header("x-forwarded-for", forwarded).bearer_auth("yes");
        assert_eq!(request.body(OFFER).send().await.unwrap().status(), 201);
        let told = world.told().await;
        assert!(told.ends_with(&format!(" {expected}")), "{forwarded}: {told}");
    }
}

#[test]
fn a_taken_port_is_one_line_that_says_which_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert_eq!(address.ip(), IpAddr::from([127, 0, 0, 1]));
    let error = format!("{:#}", Listeners::open(&Config { listen: address, ..config() }).unwrap_err());
    assert!(error.contains(&address.to_string()) && error.contains("--listen") && !error.contains('\n'), "{error}");
    assert!(error.contains("Address already in use"), "{error}");
}
