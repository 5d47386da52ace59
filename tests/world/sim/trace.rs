//! What went over a world's network, so that two runs of one seed can be compared: each datagram with its time, its ends, its
//! length and what of it is the same in each run, and each event for the control plane.
//!
//! `WORLD_TRACE=folder` writes it to a file for each world, named after its test. `diff -rq` of the folders of two runs names
//! the tests that differ, and `cmp` the first line that does.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use moonring_wire::link::{Frame, Frames};

use super::{link, places};

thread_local! {
    /// Worlds of this thread so far.
    static WORLDS: Cell<usize> = const { Cell::new(0) };
    /// The lines of this thread's worlds, while a test keeps them.
    static KEPT: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// The lines of the worlds that `scene` makes.
pub(crate) fn of(scene: impl FnOnce()) -> Vec<String> {
    KEPT.set(Some(Vec::new()));
    scene();
    KEPT.take().unwrap_or_default()
}

/// Writes lines while anybody wants them.
pub(super) struct Trace {
    start: Instant,
    file: Option<BufWriter<File>>,
}

impl Trace {
    pub(super) fn new(start: Instant) -> Self {
        let file = std::env::var_os("WORLD_TRACE").map(|folder| {
            let number = WORLDS.replace(WORLDS.get() + 1);
            let test = std::thread::current().name().unwrap_or("unnamed").replace("::", ".");
            BufWriter::new(File::create(Path::new(&folder).join(format!("{test}-{number}"))).unwrap())
        });
        Self { start, file }
    }

    /// A datagram is sent, and arrives at these times.
    pub(super) fn sent(&mut self, now: Instant, ends: (SocketAddr, SocketAddr), datagram: &[u8], arrives: &[Instant]) {
        self.line(now, |line, start| {
            let _ = write!(line, "{} {} {} {:016x}", ends.0, ends.1, link::weight(datagram), what(ends, datagram));
            arrives.iter().for_each(|at| _ = write!(line, " {}", (*at - start).as_nanos()));
        });
    }

    /// The control plane is told of something.
    pub(super) fn told(&mut self, now: Instant, event: &impl std::fmt::Debug) {
        self.line(now, |line, _| _ = write!(line, "{event:?}"));
    }

    fn line(&mut self, now: Instant, write: impl FnOnce(&mut String, Instant)) {
        if self.file.is_none() && !KEPT.with_borrow(Option::is_some) {
            return;
        }
        let mut line = format!("{} ", (now - self.start).as_nanos());
        write(&mut line, self.start);
        line.push('\n');
        if let Some(file) = &mut self.file {
            file.write_all(line.as_bytes()).unwrap();
        }
        KEPT.with_borrow_mut(|kept| kept.iter_mut().for_each(|lines| lines.push(line.clone())));
    }
}

/// A hash of what a datagram says, as far as it does not depend on the keys of its handshake.
fn what(ends: (SocketAddr, SocketAddr), datagram: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let frames = places::opened(ends, datagram);
    let mut rest = Frames(frames.as_deref().unwrap_or_default());
    if frames.is_none() {
        hasher.write(same(datagram));
    }
    loop {
        let before = rest.0;
        match rest.next() {
            None => return hasher.finish(),
            Some(Ok(Frame::Stray { client, datagram, .. })) => {
                hasher.write(client);
                hasher.write_usize(link::weight(datagram));
                hasher.write(same(datagram));
            }
            Some(_) => hasher.write(&before[..before.len() - rest.0.len()]),
        }
    }
}

/// The part of a client's datagram that does not depend on keys.
fn same(datagram: &[u8]) -> &[u8] {
    match datagram {
        [20..=63, ..] => &datagram[..1],
        // What SRTCP leaves in the clear (RFC 3711 section 3.4), and the fixed header of RTP.
        [128..=191, 192..=223, ..] => &datagram[..datagram.len().min(8)],
        [128..=191, ..] => &datagram[..datagram.len().min(12)],
        all => all,
    }
}
