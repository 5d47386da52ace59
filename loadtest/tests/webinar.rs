//! A load against the real server, in one process, over loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use moonring::Server;
use moonring::{Config, PortRange, Secret};
use moonring_loadtest::limits::Limits;
use moonring_loadtest::media::{AudioSettings, VideoSettings};
use moonring_loadtest::moving::Moves;
use moonring_loadtest::report::{LimitReport, Report, Second};
use moonring_loadtest::run::{self, Settings};
use moonring_loadtest::scenario::{Scenario, Size};
use moonring_loadtest::signalling::{Target, TlsTrust};
use moonring_wire::id::RoomId;
use tokio::sync::oneshot;

fn size() -> Size {
    Size {
        room: RoomId::parse("load").unwrap(),
        rooms: 2,
        publishers: 1,
        subscribers: 5,
        clients: 3,
        with_audio: true,
        no_video: false,
        idle: false,
        joins_per_s: 100.0,
        stay: Duration::from_secs(1),
    }
}

/// A server on a port of media of its own, until it is dropped.
struct Running {
    address: SocketAddr,
    admin: SocketAddr,
    folder: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(media_port: u16) -> Self {
        let folder = std::env::temp_dir().join(format!("moonring-loadtest-{}-{media_port}", std::process::id()));
        let admin = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_listen: admin,
            media_ip: vec!["127.0.0.1".parse().unwrap()],
            media_ports: PortRange { first: media_port, last: media_port + 50 },
            data_dir: folder.clone(),
            scripts_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/scripts").into(),
            secret: Secret("secret".into()),
            shards: 1,
            ..Config::default()
        };
        let server = Server::start(&config).unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(server.run(async { drop(stopped.await) })).unwrap();
        });
        Self { address, admin, folder, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let outcome = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.folder);
        assert!(std::thread::panicking() || matches!(outcome, Some(Ok(()))), "the server failed");
    }
}

fn settings(url: &str, scenario: Scenario, token: &str) -> Settings {
    Settings {
        name: format!("{scenario:?}"),
        plans: scenario.plan(&size()).unwrap(),
        target: Target::parse(url).unwrap(),
        url: url.into(),
        rejoin: false,
        token: token.into(),
        tls: TlsTrust::Anybody,
        video: VideoSettings { bitrate_bps: 300_000, ..VideoSettings::default() },
        layers: 1,
        audio: AudioSettings::default(),
        gro: true,
        silent: false,
        threads: 1,
        open_one_in: 1,
        remb_bps: None,
        limits: Limits::default(),
        join_timeout: Duration::from_secs(30),
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs(1),
        pid: Some(std::process::id()),
        moves: None,
        touch: None,
        seed: 1,
    }
}

/// The run goes on.
fn on(_: &Second, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn run(url: &str, scenario: Scenario, token: &str) -> Report {
    run::run(&settings(url, scenario, token), on).unwrap()
}

#[test]
fn clients_join_the_real_server_by_websocket_and_by_whip_and_whep() {
    let server = Running::start(43_100);
    let address = server.address;
    let (websocket, whip) = (format!("wss://{address}/ws"), format!("whip+https://{address}"));
    for (url, scenario, clients, streams) in [
        (&websocket, Scenario::Webinar, 6, 10),
        (&websocket, Scenario::Rooms, 6, 24),
        (&websocket, Scenario::AudioRoom, 3, 6),
        (&whip, Scenario::Webinar, 6, 10),
    ] {
        let report = run(url, scenario, "secret");
        // First, as it says why the other figures are wrong.
        assert_eq!(report.failures, BTreeMap::new(), "{scenario:?}");
        assert_eq!((report.connected, report.streams), (clients, streams), "{scenario:?} {report:?}");
        assert!(report.packets_out > 0 && report.latency.count > 0, "{scenario:?} {report:?}");
        assert_eq!(report.limits.len(), 0, "{report:?}");
    }
    let (mut seconds, wrong) = (0, settings(&websocket, Scenario::Webinar, "wrong"));
    let rejected = run::run(&wrong, |second, clients| {
        seconds += 1;
        on(second, clients)
    })
    .unwrap_err()
    .to_string();
    let words = format!("none of the clients is connected to {websocket}: rejected: Wrong token (6 times)");
    assert_eq!(rejected, words);
    assert!(seconds < 20, "it waits for those who have been rejected");
}

#[test]
fn who_leaves_in_order_has_not_failed() {
    let server = Running::start(43_300);
    for url in [format!("wss://{}/ws", server.address), format!("whip+https://{}", server.address)] {
        // Of a few hundred goodbyes some cross with the server's.
        let many = Size { subscribers: 40, stay: Duration::from_millis(500), ..size() };
        let (plans, duration) = (Scenario::Churn.plan(&many).unwrap(), Duration::from_secs(5));
        // Hardly ever are all of them there at once.
        let join_timeout = Duration::from_secs(2);
        let churn = Settings { plans, duration, join_timeout, ..settings(&url, Scenario::Churn, "secret") };
        let report = run::run(&churn, on).unwrap();
        assert_eq!(report.failures, BTreeMap::new(), "{url}");
        assert!(report.join.count > 100, "they came again: {report:?}");
    }
}

#[test]
fn a_run_that_is_cut_short_reports_what_it_has_measured() {
    let server = Running::start(43_400);
    let long = Settings {
        duration: Duration::from_secs(3600),
        ..settings(&format!("wss://{}/ws", server.address), Scenario::Webinar, "secret")
    };
    let report = run::run(&long, |second, _| match second.measured {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    let report = report.unwrap();
    assert!(report.cut_short && report.packets_out > 0 && report.seconds < 60.0, "{report:?}");
    let early = run::run(&long, |_, _| ControlFlow::Break(())).unwrap_err().to_string();
    assert_eq!(early, "cut short before the measurement began: nothing was measured");
}

#[test]
fn where_nobody_can_move_the_load_says_what_to_do() {
    let server = Running::start(43_500);
    let url = format!("wss://{}/ws", server.address);
    for (admin, expected) in [
        (
            format!("http://{}", server.admin),
            "there is nowhere to move to: the server has one shard. Start it with --shards 2",
        ),
        ("http://127.0.0.1:1".to_owned(), "no admin pages at http://127.0.0.1:1"),
    ] {
        let moves = Some(Moves { admin: vec![admin], per_s: 5.0, seed: 1 });
        let error =
            run::run(&Settings { moves, ..settings(&url, Scenario::Move, "secret") }, on).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn where_there_is_no_server_the_load_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    for url in [format!("wss://{free}/ws"), format!("whip+https://{free}")] {
        let error = run::run(&settings(&url, Scenario::Webinar, "secret"), on).unwrap_err().to_string();
        assert!(error.starts_with(&format!("none of the clients is connected to {url}: ")), "{error}");
        assert_eq!(error.matches("refused").count(), 1, "{error}");
    }
}

#[test]
fn subscribers_behind_links_of_the_real_server_are_watched_until_and_after_the_limits_are_lifted() {
    let server = Running::start(43_200);
    for url in [format!("wss://{}/ws", server.address), format!("whip+https://{}", server.address)] {
        let limits = Limits {
            kbps: vec![0, 350],
            share: 2,
            queue: Duration::from_millis(400),
            lift_after: Some(Duration::from_secs(2)),
        };
        let settings = Settings {
            video: VideoSettings::default(),
            layers: 3,
            limits,
            duration: Duration::from_secs(3),
            ..settings(&url, Scenario::Webinar, "secret")
        };
        let report = run::run(&settings, on).unwrap();
        assert_eq!(report.failures, BTreeMap::new());
        assert_eq!((report.connected, report.streams), (6, 10), "{report:?}");
        let row = |row: &LimitReport| (row.limit_kbps, row.sharers, row.lifted, row.subscribers, row.layer);
        // Of five, the last has a link of the first kind for itself. 350 kbit/s for two with sound are too little.
        assert_eq!(
            report.limits.iter().map(row).collect::<Vec<_>>(),
            [
                (0, 2, false, 2, Some(2)),
                (0, 2, true, 2, Some(2)),
                (350, 2, false, 2, None),
                (350, 2, true, 2, Some(2)),
                (0, 1, false, 1, Some(2)),
                (0, 1, true, 1, Some(2)),
            ],
            "{url}"
        );
        for row in &report.limits {
            let has_queue = row.limit_kbps > 0 && !row.lifted;
            assert_eq!((row.datagrams > 0, row.dropped_percent.is_some()), (has_queue, has_queue), "{row:?}");
            assert!(row.seconds > 0.0 && row.frozen_percent.is_some(), "{row:?}");
        }
    }
}
