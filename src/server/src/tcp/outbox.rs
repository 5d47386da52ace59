//! What waits to be written to a connection, bounded in bytes.

use std::io::{self, Write};

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

/// Frames in the order in which they leave. What is in it stays, as a stream cannot do without the rest of a frame; what finds
/// no room is left out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// Of these, written.
    written: usize,
}

impl Outbox {
    /// Takes a datagram in; false when there is no room for one of its kind.
    pub(super) fn push(&mut self, datagram: &[u8]) -> bool {
        let bound = match classify(datagram) {
            Ok(Protocol::Stun | Protocol::Dtls) => MOST_BYTES,
            _ if datagram.len() <= SMALL_BYTES => SMALL_MEDIA_BYTES,
            _ => LARGE_MEDIA_BYTES,
        };
        self.len() + framing::LENGTH_BYTES + datagram.len() <= bound && framing::append(&mut self.bytes, datagram)
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Writes what `stream` takes; an error is the connection's end.
    pub(super) fn write_to(&mut self, mut stream: impl Write) -> io::Result<()> {
        while self.len() > 0 {
            match stream.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // All of it at once, or what is left moves for each write.
        if self.len() == 0 || self.written > LARGE_MEDIA_BYTES {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        Ok(())
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

    fn fill(outbox: &mut Outbox, datagram: &[u8]) -> usize {
        (0..).take_while(|_| outbox.push(datagram)).count()
    }

    #[test]
    fn video_finds_no_room_first_then_sound_and_checks_last() {
        let mut outbox = Outbox::default();
        assert_eq!(fill(&mut outbox, &datagram(128, 1_200)), 27);
        assert_eq!(fill(&mut outbox, &datagram(128, 160)), 103);
        assert!(!outbox.push(&datagram(128, 1_200)));
        assert_eq!(fill(&mut outbox, &datagram(0, 100)), 160);
        assert!(!outbox.push(&datagram(22, 100)) && outbox.len() <= MOST_BYTES);
    }

    #[test]
    fn what_a_stream_takes_in_pieces_comes_out_whole_and_makes_room() {
        let mut outbox = Outbox::default();
        let mut stream = Narrow(Vec::new(), 0);
        let mut expected = Vec::new();
        for n in 0..200_u8 {
            let datagram = datagram(n, 900);
            if outbox.push(&datagram) {
                framing::append(&mut expected, &datagram);
            }
            stream.1 += 777;
            outbox.write_to(&mut stream).unwrap();
            assert!(outbox.bytes.len() <= MOST_BYTES + LARGE_MEDIA_BYTES, "{}", outbox.bytes.len());
        }
        stream.1 = 1 << 20;
        outbox.write_to(&mut stream).unwrap();
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
        let mut outbox = Outbox::default();
        assert!(outbox.write_to(Ended).is_ok(), "nothing to write");
        assert!(outbox.push(&datagram(0, 20)));
        assert_eq!(outbox.write_to(Ended).unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
