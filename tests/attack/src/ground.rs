//! The server under attack, and its figures.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use moonring_loadtest::process::{self, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::net::{HTTP_PORT, MEDIA_PORT, SERVER};

/// The secret that clients show.
pub(crate) const SECRET: &str = "attacked";
const SCRIPT: &str = "default_room.lua";
/// What of the log is shown when an attack was not held off.
const LAST_LINES: usize = 30;
const ADMIN: &str = "127.0.0.1:8081";

/// A running server.
pub(crate) struct Ground {
    child: Child,
    log: PathBuf,
    dir: PathBuf,
}

/// Its figures at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) usage: Usage,
}

/// Watches the memory while an attack is under way.
pub(crate) struct MemoryWatch(Arc<(AtomicBool, AtomicU64)>);

impl Ground {
    /// Starts it and waits until it answers.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("moonring-attack-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let log = dir.join("log");
        let scripts = dir.join("scripts");
        std::fs::create_dir_all(&scripts)?;
        std::fs::write(scripts.join(SCRIPT), include_str!("../scripts/default_room.lua"))?;
        let binary = std::env::var("MOONRING_BIN").unwrap_or_else(|_| "target/debug/moonring".into());
        let child = Command::new(&binary)
            .args(["--listen", &format!("{SERVER}:{HTTP_PORT}"), "--insecure-http", "--admin-listen", ADMIN])
            .args(["--media-ip", &SERVER.to_string(), "--media-ports", &MEDIA_PORT.to_string(), "--shards", "1"])
            .arg("--media-tcp")
            .args(["--secret", SECRET, "--watchdog-s", "3", "--join-timeout-s", "5", "--handshake-timeout-s", "5"])
            .arg("--scripts-dir")
            .arg(&scripts)
            .arg("--data-dir")
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {binary} (MOONRING_BIN)"))?;
        let mut ground = Self { child, log, dir };
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(status) = ground.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", ground.log());
            }
            if ground.get("/healthz").await.is_ok() {
                return Ok(ground);
            }
        }
        bail!("the server does not answer:\n{}", ground.log())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of that.
    pub(crate) fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Changes the script, so that every room reloads it.
    pub(crate) fn touch_script(&self, n: usize) -> anyhow::Result<()> {
        let script = format!("{}\n-- {n}\n", include_str!("../scripts/default_room.lua"));
        Ok(std::fs::write(self.dir.join("scripts").join(SCRIPT), script)?)
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Its exit code, when it has ended within a time.
    pub(crate) async fn exit_code(&self, within: Duration) -> Option<i32> {
        let stat = format!("/proc/{}/stat", self.pid());
        let until = Instant::now() + within;
        while Instant::now() < until {
            let text = std::fs::read_to_string(&stat).ok()?;
            // The state, and at the end the exit code as wait(2) has it.
            let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
            if fields.first() == Some(&"Z") {
                return fields.last()?.parse::<i32>().ok().map(|status| status >> 8);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// A page of the admin listener.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(ADMIN).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {ADMIN}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        tokio::time::timeout(Duration::from_secs(3), exchange).await?
    }

    /// The sum of a metric over its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").await.unwrap_or_default();
        let lines = page.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    pub(crate) fn sample(&self) -> anyhow::Result<Sample> {
        let usage = process::server(self.pid()).unwrap_or_default();
        Ok(Sample { at: Instant::now(), usage })
    }

    pub(crate) fn watch_memory(&self) -> MemoryWatch {
        let shared = Arc::new((AtomicBool::new(true), AtomicU64::new(0)));
        let (pid, watched) = (self.pid(), shared.clone());
        std::thread::spawn(move || {
            while watched.0.load(Ordering::Relaxed) {
                let memory = process::server(pid).map_or(0, |usage| usage.memory_bytes);
                watched.1.fetch_max(memory, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        MemoryWatch(shared)
    }
}

impl MemoryWatch {
    /// Ends it; the most that was seen.
    pub(crate) fn peak(&self) -> u64 {
        self.0.0.store(false, Ordering::Relaxed);
        self.0.1.load(Ordering::Relaxed)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.peak();
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
