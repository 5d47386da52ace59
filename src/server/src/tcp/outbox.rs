//! What waits to be written to a connection, bounded in bytes and in time.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use moonring_core::report::TcpStats;
use moonring_wire::rtp::protocol::{Protocol, classify};
use moonring_wire::transport::framing;

/// Most bytes that wait: more would come too late.
const MOST_BYTES: usize = 64 << 10;
/// Sound and control packets find no room above this, so that there is some for what keeps the connection: checks and handshakes.
const SMALL_MEDIA_BYTES: usize = 48 << 10;
/// Nor do larger packets, which are video's, above this: a third of a second at 800 kbit/s.
const LARGE_MEDIA_BYTES: usize = 32 << 10;
/// Up to this length a packet is taken for sound: 20 ms at 128 kbit/s, with headers. What it carries is encrypted.
const SMALL_BYTES: usize = 400;
/// Media that has waited for so long is left out. After a path that has carried nothing for a while it would come first, and
/// hold up what is said now.
const LATE: Duration = Duration::from_secs(1);

/// Frames in the order in which they leave. What finds no room is left out, and so is media that has waited for too long; a
/// frame of which a part has left stays, as a stream cannot do without the rest of it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The frames, the first of which begins at `start`.
    bytes: Vec<u8>,
    start: usize,
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written.
    begun: usize,
    passed: Passed,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    /// With its length before it.
    bytes: usize,
    since: Instant,
    is_media: bool,
}

impl Frame {
    fn is_late(&self, now: Instant) -> bool {
        self.is_media && now.saturating_duration_since(self.since) >= LATE
    }
}

/// What has become of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) written: u64,
    /// Bytes of those, without their lengths before them.
    pub(super) bytes: u64,
    pub(super) left_out: u64,
}

impl Passed {
    pub(super) fn count(self, stats: &mut TcpStats) {
        stats.datagrams_out += self.written;
        stats.bytes_out += self.bytes;
        stats.left_out += self.left_out;
    }
}

impl Outbox {
    /// Takes a datagram in, or leaves it out where there is no room for one of its kind.
    pub(super) fn push(&mut self, now: Instant, datagram: &[u8]) {
        let (bound, is_media) = match classify(datagram) {
            Ok(Protocol::Stun | Protocol::Dtls) => (MOST_BYTES, false),
            _ if datagram.len() <= SMALL_BYTES => (SMALL_MEDIA_BYTES, true),
            _ => (LARGE_MEDIA_BYTES, true),
        };
        let bytes = framing::LENGTH_BYTES + datagram.len();
        if self.len() + bytes > bound {
            self.leave_out_late(now);
        }
        if self.len() + bytes <= bound && framing::append(&mut self.bytes, datagram) {
            self.frames.push_back(Frame { bytes, since: now, is_media });
        } else {
            self.passed.left_out += 1;
        }
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start - self.begun
    }

    /// Writes what `stream` takes; an error is the connection's end.
    pub(super) fn write_to(&mut self, now: Instant, mut stream: impl Write) -> io::Result<()> {
        self.leave_out_late(now);
        while self.len() > 0 {
            match stream.write(&self.bytes[self.start + self.begun..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.begun += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        while let Some(frame) = self.frames.front().filter(|frame| frame.bytes <= self.begun) {
            (self.start, self.begun) = (self.start + frame.bytes, self.begun - frame.bytes);
            self.passed.written += 1;
            self.passed.bytes += (frame.bytes - framing::LENGTH_BYTES) as u64;
            self.frames.pop_front();
        }
        // All of it at once, or what is left moves for each write.
        if self.len() == 0 || self.start > LARGE_MEDIA_BYTES {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        Ok(())
    }

    /// What has become of datagrams since this was last asked; all that wait are left out when the connection has ended.
    pub(super) fn take_passed(&mut self, has_ended: bool) -> Passed {
        if has_ended {
            self.passed.left_out += self.frames.drain(..).len() as u64;
        }
        std::mem::take(&mut self.passed)
    }

    fn leave_out_late(&mut self, now: Instant) {
        let begun = usize::from(self.begun > 0);
        // They are in the order of their coming.
        if !self.frames.iter().skip(begun).find(|frame| frame.is_media).is_some_and(|frame| frame.is_late(now)) {
            return;
        }
        let (mut at, mut kept) = (self.start, self.start);
        let before = self.frames.len();
        let mut number = 0..;
        self.frames.retain(|frame| {
            let stays = number.next() < Some(begun) || !frame.is_late(now);
            if stays {
                self.bytes.copy_within(at..at + frame.bytes, kept);
                kept += frame.bytes;
            }
            at += frame.bytes;
            stays
        });
        self.bytes.truncate(kept);
        self.passed.left_out += (before - self.frames.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes and then none.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1);
            if taken == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.1 -= taken;
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A datagram of a kind, by its first bytes.
    fn datagram(first: u8, len: usize) -> Vec<u8> {
        let mut datagram = vec![0; len];
        datagram[0] = first;
        datagram
    }

    /// How many of such datagrams find room.
    fn fill(outbox: &mut Outbox, now: Instant, datagram: &[u8]) -> usize {
        let before = outbox.frames.len();
        while outbox.take_passed(false).left_out == 0 {
            outbox.push(now, datagram);
        }
        outbox.frames.len() - before
    }

    #[test]
    fn video_finds_no_room_first_then_sound_and_checks_last() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        assert_eq!(fill(&mut outbox, now, &datagram(128, 1_200)), 27);
        assert_eq!(fill(&mut outbox, now, &datagram(128, 160)), 103);
        assert_eq!(fill(&mut outbox, now, &datagram(128, 1_200)), 0);
        assert_eq!(fill(&mut outbox, now, &datagram(0, 100)), 160);
        assert_eq!(fill(&mut outbox, now, &datagram(22, 100)), 0);
        assert!(outbox.len() <= MOST_BYTES);
    }

    #[test]
    fn media_that_has_waited_for_a_second_makes_way_and_what_keeps_the_connection_does_not() {
        let (mut outbox, t0) = (Outbox::default(), Instant::now());
        let at = |ms| t0 + Duration::from_millis(ms);
        let mut stream = Narrow(Vec::new(), 500);
        let words = [datagram(128, 1_000), datagram(129, 100), datagram(0, 50), datagram(22, 60)];
        words.iter().for_each(|datagram| outbox.push(at(0), datagram));
        outbox.push(at(500), &datagram(130, 900));
        // A part of the first has left.
        outbox.write_to(at(0), &mut stream).unwrap();
        outbox.write_to(at(999), &mut stream).unwrap();
        assert_eq!((outbox.take_passed(false), outbox.frames.len()), (Passed::default(), 5));
        stream.1 = 10_000;
        outbox.write_to(at(1_000), &mut stream).unwrap();
        let mut expected = Vec::new();
        for datagram in [&words[0], &words[2], &words[3], &datagram(130, 900)] {
            framing::append(&mut expected, datagram);
        }
        assert!(stream.0 == expected);
        assert_eq!(outbox.take_passed(false), Passed { written: 4, bytes: 2_010, left_out: 1 });
        assert_eq!((outbox.len(), outbox.bytes.len()), (0, 0));
    }

    #[test]
    fn while_a_stream_takes_nothing_the_newest_second_waits() {
        let (mut outbox, t0) = (Outbox::default(), Instant::now());
        let mut stream = Narrow(Vec::new(), 0);
        for n in 0..=100_u8 {
            let now = t0 + Duration::from_millis(100 * u64::from(n));
            outbox.push(now, &datagram(128 + n % 64, 3_000));
            outbox.write_to(now, &mut stream).unwrap();
        }
        stream.1 = 1 << 20;
        outbox.write_to(t0 + Duration::from_millis(10_000), &mut stream).unwrap();
        let first: Vec<_> = stream.0.chunks(3_002).map(|frame| frame[2]).collect();
        assert_eq!(first, (91..=100).map(|n| 128 + n % 64).collect::<Vec<u8>>());
        assert_eq!(outbox.take_passed(false), Passed { written: 10, bytes: 30_000, left_out: 91 });
    }

    #[test]
    fn what_waits_when_a_connection_ends_is_left_out() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        (0..3).for_each(|_| outbox.push(now, &datagram(128, 100)));
        outbox.write_to(now, Narrow(Vec::new(), 110)).unwrap();
        assert_eq!(outbox.take_passed(true), Passed { written: 1, bytes: 100, left_out: 2 });
    }

    #[test]
    fn what_a_stream_takes_in_pieces_comes_out_whole_and_makes_room() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        let mut stream = Narrow(Vec::new(), 0);
        let mut expected = Vec::new();
        for n in 0..200_u8 {
            let datagram = datagram(n, 900);
            outbox.push(now, &datagram);
            if outbox.take_passed(false).left_out == 0 {
                framing::append(&mut expected, &datagram);
            }
            stream.1 += 777;
            outbox.write_to(now, &mut stream).unwrap();
            assert!(outbox.bytes.len() <= MOST_BYTES + LARGE_MEDIA_BYTES, "{}", outbox.bytes.len());
        }
        stream.1 = 1 << 20;
        outbox.write_to(now, &mut stream).unwrap();
        assert_eq!((outbox.len(), outbox.bytes.len()), (0, 0));
        assert!(stream.0 == expected && expected.len() > 100 * 900);
    }

    #[test]
    fn a_stream_that_takes_nothing_any_more_is_an_error() {
        struct Ended;
        impl Write for Ended {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Ok(0)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        assert!(outbox.write_to(now, Ended).is_ok(), "nothing to write");
        outbox.push(now, &datagram(0, 20));
        assert_eq!(outbox.write_to(now, Ended).unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
