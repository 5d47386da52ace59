//! str0m publishes or receives, as `tests/clients/README.md` ("The contract") says: `str0m-client OPTIONS`.
//!
//! It has no codecs: frames come from and go to IVF files.

mod frames;
mod peer;
mod whip;

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::peer::Peer;

const PATIENCE: Duration = Duration::from_secs(25);
const REPORT_GAP: Duration = Duration::from_millis(100);
/// Between looks at the socket.
const IDLE: Duration = Duration::from_millis(1);

/// The files of a publisher's frames, or of a receiver's.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Files {
    #[serde(default)]
    pub(crate) video: Option<String>,
    #[serde(default)]
    pub(crate) audio: Option<String>,
}

/// What the driver wants.
#[derive(Debug, Deserialize)]
pub(crate) struct Options {
    direction: String,
    url: String,
    token: String,
    pub(crate) video: Option<String>,
    pub(crate) audio: bool,
    pub(crate) fps: u32,
    #[serde(default)]
    source: Files,
    #[serde(default)]
    sink: Files,
}

impl Options {
    pub(crate) fn publishes(&self) -> bool {
        self.direction == "publish"
    }

    /// What is read from, or written to.
    pub(crate) fn files(&self) -> &Files {
        if self.publishes() { &self.source } else { &self.sink }
    }
}

/// The driver's last word.
#[derive(Clone)]
struct Word(Arc<AtomicU8>);

impl Word {
    const RUN: u8 = 0;
    const HOLD: u8 = 1;
    const STOP: u8 = 2;

    /// Listens from now on.
    fn listen() -> Self {
        let word = Self(Arc::new(AtomicU8::new(Self::RUN)));
        let heard = word.clone();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                match line.trim() {
                    "run" => heard.0.store(Self::RUN, Ordering::Relaxed),
                    "hold" => heard.0.store(Self::HOLD, Ordering::Relaxed),
                    "stop" => break,
                    _ => {}
                }
            }
            heard.0.store(Self::STOP, Ordering::Relaxed);
        });
        word
    }

    fn is(&self, word: u8) -> bool {
        self.0.load(Ordering::Relaxed) == word
    }
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            say(&json!({ "error": format!("{error:#}") }));
            std::process::ExitCode::FAILURE
        }
    }
}

fn say(message: &Value) {
    let mut out = std::io::stdout().lock();
    // The driver may be gone: then nobody listens, and standard input ends this process.
    let _ = writeln!(out, "{message}").and_then(|()| out.flush());
}

fn run() -> anyhow::Result<()> {
    let text = std::env::args().next_back().context("no options")?;
    let options: Options = serde_json::from_str(&text).context("the options")?;
    let word = Word::listen();
    let session = whip::Session::new(&options.url, &options.token)?;
    let mut peer = Peer::new(&options)?;
    let (answer, resource) = session.post(peer.offer())?;
    peer.accept(&answer)?;
    let began = Instant::now();
    while !peer.connected() {
        peer.step(false)?;
        if began.elapsed() > PATIENCE {
            bail!("not connected after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(IDLE);
    }
    say(&json!({ "state": "connected", "version": "str0m 0.25" }));
    let mut report = Instant::now();
    while !word.is(Word::STOP) {
        peer.step(word.is(Word::RUN))?;
        if report.elapsed() >= REPORT_GAP {
            report = Instant::now();
            let [audio, video] = peer.counts();
            say(&json!({ "video": video, "audio": audio }));
        }
        std::thread::sleep(IDLE);
    }
    session.delete(&resource)
}
