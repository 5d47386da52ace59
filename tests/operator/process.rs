//! A server that a test starts, talks to and ends.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// How long anything is waited for before the test fails; nothing depends on how long it takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lets everybody in.
const POLICY: &str = "function on_client_connect() return true end";

/// A server's settings and files, before it is started.
pub(crate) struct Setup {
    dir: TempDir,
    listen: SocketAddr,
    admin: SocketAddr,
    media_port: u16,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (listen, admin) = (free(), free());
        let media = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let setup = Self {
            dir: tempfile::tempdir().unwrap(),
            listen: listen.local_addr().unwrap(),
            admin: admin.local_addr().unwrap(),
            media_port: media.local_addr().unwrap().port(),
        };
        fs::create_dir(setup.path("scripts")).unwrap();
        setup.policy(POLICY);
        setup
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The text of the policy of all rooms.
    pub(crate) fn policy(&self, text: &str) {
        fs::write(self.path("scripts/default_room.lua"), text).unwrap();
    }

    /// The command that starts it, with further arguments, also in the place of these.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moonring"));
        let own: [(&'static str, OsString); 7] = [
            ("--listen", self.listen.to_string().into()),
            ("--admin-listen", self.admin.to_string().into()),
            ("--media-ip", "127.0.0.1".into()),
            ("--media-ports", format!("{0}-{0}", self.media_port).into()),
            ("--shards", "1".into()),
            ("--data-dir", self.path("data").into()),
            ("--scripts-dir", self.path("scripts").into()),
        ];
        command.arg("run").arg("--insecure-http").current_dir(self.dir.path());
        let own = own.into_iter().filter(|(name, _)| !more.contains(name));
        command.args(own.flat_map(|(name, value)| [name.into(), value])).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts it with a log that is read.
    pub(crate) fn spawn(&self, more: &[&str]) -> Server {
        let mut server = Server::spawn(self, self.command(more).stderr(Stdio::piped()));
        server.read_log();
        server
    }

    /// Starts it as somebody at a terminal does.
    pub(crate) fn spawn_in_a_terminal(&self) -> Server {
        let command = self.command(&[]);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
        let mut terminal = Command::new("script");
        let log = self.path("log");
        terminal.args(["--quiet", "--command", &format!("exec {line} 2>'{}'", log.display()), "/dev/null"]);
        // Its own input does not end: it would pass that on.
        terminal.stdin(Stdio::piped()).stdout(Stdio::null()).current_dir(self.dir.path());
        Server::spawn(self, &mut terminal)
    }

    /// A client that has a WebSocket and says nothing: the server's end waits for it.
    pub(crate) fn silent_client(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
        let head = format!("GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
        stream
    }

    /// Starts it with a log that is read, and waits until it serves.
    pub(crate) fn start(&self, more: &[&str]) -> Server {
        let mut server = self.spawn(more);
        server.wait_until_it_serves();
        server
    }

    /// Starts one that is to end by itself: its exit code and its log.
    pub(crate) fn fail(&self, more: &[&str]) -> (Option<i32>, String) {
        let mut server = self.spawn(more);
        let status = server.wait();
        (status.code(), server.log())
    }
}

/// A running server; killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    log: Option<JoinHandle<()>>,
    /// What it has logged so far.
    so_far: Arc<Mutex<String>>,
}

impl Server {
    /// Starts the process and does not wait for anything.
    pub(crate) fn spawn(setup: &Setup, command: &mut Command) -> Self {
        Self {
            child: command.spawn().unwrap(),
            listen: setup.listen,
            admin: setup.admin,
            log: None,
            so_far: Arc::default(),
        }
    }

    /// Reads its log from here on.
    pub(crate) fn read_log(&mut self) {
        let mut pipe = BufReader::new(self.child.stderr.take().unwrap());
        let so_far = self.so_far.clone();
        let read = move || {
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).unwrap() > 0 {
                so_far.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        };
        self.log = Some(thread::spawn(read));
    }

    /// Waits until it answers a request: it listens before its shards run.
    pub(crate) fn wait_until_it_serves(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !try_ask(self.listen, "/healthz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{status}: {}", self.log());
            }
            assert!(Instant::now() < deadline, "it does not serve: {}", self.end());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once; all that it has logged.
    fn end(&mut self) -> String {
        let _ = self.child.kill();
        self.log()
    }

    /// All that it has logged; waits for its end.
    pub(crate) fn log(&mut self) -> String {
        let Some(log) = self.log.take() else { return "(the log is not read)".into() };
        log.join().unwrap();
        self.so_far.lock().unwrap().clone()
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as systemd does.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Says that its terminal is gone, or that it is to read its files again.
    pub(crate) fn hang_up(&self) {
        self.signal("-HUP");
    }

    /// Closes the terminal of one that was started in it.
    pub(crate) fn close_terminal(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits until it takes no connection.
    pub(crate) fn wait_until_nobody_listens(&self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.listen).is_ok() {
            assert!(Instant::now() < deadline, "it still takes connections");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        Self::wait_for_one(std::slice::from_mut(self)).0
    }

    /// Waits for the end of one of these: which one.
    pub(crate) fn wait_for_one(servers: &mut [Self]) -> (ExitStatus, usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (n, server) in servers.iter_mut().enumerate() {
                if let Some(status) = server.child.try_wait().unwrap() {
                    return (status, n);
                }
            }
            assert!(
                Instant::now() < deadline,
                "none ends: {:?}",
                servers.iter_mut().map(Self::end).collect::<Vec<_>>()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The answer of a page, head and body.
    pub(crate) fn get(&self, path: &str) -> String {
        ask(self.listen, path)
    }

    /// A counter, with its labels if it has any.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = ask(self.admin, "/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).trim().parse().unwrap()
    }

    /// Waits until a counter is as high as this.
    pub(crate) fn metric_reaches(&mut self, name: &str, least: f64) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(name) < least {
            assert!(Instant::now() < deadline, "{name} does not reach {least}: {}", self.end());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Joins a room and leaves it; what the server has said to the join.
    pub(crate) fn join(&self, room: &str) -> Value {
        self.enter(room, "").1
    }

    /// Joins a room; the connection, and what the server has said to the join.
    pub(crate) fn enter(&self, room: &str, token: &str) -> (WebSocket<TcpStream>, Value) {
        let stream = TcpStream::connect(self.listen).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut socket, _) = tungstenite::client(format!("ws://{}/ws", self.listen), stream).unwrap();
        let join = json!({ "type": "join", "room": room, "token": token, "metadata": null, "protocol": 1 });
        socket.send(Message::text(join.to_string())).unwrap();
        let said = socket.read().unwrap();
        let said = serde_json::from_str(said.to_text().unwrap()).unwrap();
        (socket, said)
    }

    /// Posts an offer, as an encoder does; the head of the answer.
    pub(crate) fn post_offer(&self, path: &str, offer: &str) -> String {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("content-type: application/sdp\r\ncontent-length: {}\r\nconnection: close", offer.len());
        write!(stream, "POST {path} HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n{offer}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Waits until its log has this in a line; that line.
    pub(crate) fn logs(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.so_far.lock().unwrap().lines().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "{words:?} is not in {}", self.end());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Server {
    /// Joins again and again until it is answered so.
    pub(crate) fn join_until(&mut self, room: &str, answer: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.join(room)["type"] != answer {
            assert!(Instant::now() < deadline, "nobody is {answer}: {}", self.end());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(address: SocketAddr, path: &str) -> String {
    try_ask(address, path).unwrap()
}

fn try_ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
