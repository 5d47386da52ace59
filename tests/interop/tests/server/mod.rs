//! The server under test, in this process, on ports of its own, and a small HTTP client for it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use moonring::Server;
use moonring::{Config, PortRange, Secret};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

pub(crate) const SECRET: &str = "interop";
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Ends with its value.
pub(crate) struct TestServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<Runtime>,
    _data: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: String,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = UdpSocket::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = Config {
            listen: SocketAddr::new(LOCALHOST, 0),
            admin_listen: SocketAddr::new(LOCALHOST, 0),
            insecure_http: true,
            data_dir: data.path().to_owned(),
            shards: 1,
            media_ports: PortRange { first: port, last: port },
            media_ip: vec![LOCALHOST],
            scripts_dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts"),
            secret: Secret(SECRET.into()),
            ..Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        let server = Server::start(&config).expect("the server starts");
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            server.run(shutdown).await.expect("the server serves");
        });
        drop(guard);
        Self { address, stop: Some(stop), runtime: Some(runtime), _data: data }
    }

    pub(crate) fn request(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Response {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/sdp\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole response");
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Response { status, location: header("location"), body: body.to_owned() }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}
