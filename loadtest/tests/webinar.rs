//! A load against the real server, in one process, over loopback.

use std::time::Duration;

use moonring::Server;
use moonring::{Config, PortRange, Secret};
use moonring_loadtest::media::{AudioSettings, VideoSettings};
use moonring_loadtest::report::Report;
use moonring_loadtest::run::{self, Settings};
use moonring_loadtest::scenario::{Scenario, Size};
use moonring_loadtest::signalling::{Target, TlsTrust};
use moonring_wire::id::RoomId;

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

fn run(url: &str, scenario: Scenario, token: &str) -> Report {
    let settings = Settings {
        name: format!("{scenario:?}"),
        plans: scenario.plan(&size()).unwrap(),
        target: Target::parse(url).unwrap(),
        url: url.into(),
        token: token.into(),
        tls: TlsTrust::Anybody,
        video: VideoSettings { bitrate_bps: 300_000, ..VideoSettings::default() },
        audio: AudioSettings::default(),
        gro: true,
        silent: false,
        threads: 1,
        open_one_in: 1,
        remb_bps: None,
        join_timeout: Duration::from_secs(if token == "secret" { 30 } else { 1 }),
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs(1),
        pid: Some(std::process::id()),
        touch: None,
        seed: 1,
    };
    run::run(&settings, |_, _| {}).unwrap()
}

#[test]
fn clients_join_the_real_server_by_websocket_and_by_whip_and_whep() {
    let certificates = std::env::temp_dir().join(format!("moonring-loadtest-{}", std::process::id()));
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        media_ip: vec!["127.0.0.1".parse().unwrap()],
        media_ports: PortRange { first: 43_100, last: 43_200 },
        data_dir: certificates.clone(),
        scripts_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/scripts").into(),
        secret: Secret("secret".into()),
        shards: 1,
        ..Config::default()
    };
    let server = Server::start(&config).unwrap();
    let address = server.address().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(server.run(async { drop(stopped.await) })).unwrap();
    });

    let (websocket, whip) = (format!("wss://{address}/ws"), format!("whip+https://{address}"));
    for (url, scenario, clients, streams) in [
        (&websocket, Scenario::Webinar, 6, 10),
        (&websocket, Scenario::Rooms, 6, 24),
        (&websocket, Scenario::AudioRoom, 3, 6),
        (&whip, Scenario::Webinar, 6, 10),
    ] {
        let report = run(url, scenario, "secret");
        assert_eq!((report.connected, report.streams), (clients, streams), "{scenario:?} {report:?}");
        assert!(report.packets_out > 0 && report.latency.count > 0, "{scenario:?} {report:?}");
        assert_eq!(report.failures.len(), 0, "{report:?}");
    }
    let rejected = run(&websocket, Scenario::Webinar, "wrong");
    assert_eq!(rejected.failures.get("rejected: Wrong token"), Some(&6), "{rejected:?}");

    stop.send(()).unwrap();
    server.join().unwrap();
    std::fs::remove_dir_all(certificates).unwrap();
}
