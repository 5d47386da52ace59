//! Streams of simulcast layers that have ended with their tracks. Chromium names the layers in its packets until the first report
//! has come, and never again in the same section: what goes on there under the same SSRCs is known by these alone.

use std::collections::VecDeque;

use moonring_wire::id::{Mid, Rid, Ssrc};

/// Streams of one client that are remembered.
const MOST: usize = 64;

/// A stream of a layer that had a name, in a section that may be used again.
#[derive(Clone, Debug)]
pub struct FormerStream {
    /// Its number.
    pub ssrc: Ssrc,
    /// The section.
    pub mid: Mid,
    /// The layer's name.
    pub rid: Rid,
    /// True for its retransmissions.
    pub rtx: bool,
}

/// Those of one client, the oldest first.
#[derive(Debug, Default)]
pub struct FormerStreams(VecDeque<FormerStream>);

impl FormerStreams {
    /// A stream is out of use; the oldest makes way for it.
    pub fn note(&mut self, stream: FormerStream) {
        self.0.retain(|known| known.ssrc != stream.ssrc);
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(stream);
    }

    /// Those of a section.
    pub fn of<'f>(&'f self, mid: &'f Mid) -> impl Iterator<Item = &'f FormerStream> {
        self.0.iter().filter(move |former| former.mid == *mid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_streams_are_remembered_each_at_its_last_place() {
        let mut former = FormerStreams::default();
        let [a, b] = ["a", "b"].map(|mid| Mid::parse(mid).unwrap());
        let stream = |ssrc, mid: &Mid| FormerStream {
            ssrc: Ssrc(ssrc),
            mid: mid.clone(),
            rid: Rid::parse("q").unwrap(),
            rtx: false,
        };
        (0..100).for_each(|n| former.note(stream(n, &a)));
        former.note(stream(99, &b));
        let known = |mid| former.of(mid).map(|former| former.ssrc.0).collect::<Vec<_>>();
        assert_eq!((known(&a), known(&b)), ((36..99).collect(), vec![99]));
    }
}
