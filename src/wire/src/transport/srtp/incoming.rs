//! Opening what a client sends. Nothing is kept of a packet that is not authenticated.

use serde::{Deserialize, Serialize};

use super::cipher::Cipher;
use super::keys::{Labels, MasterKey, SessionKeys, SrtpProfile};
use super::replay::{ReplayWindow, ShortWindow};
use super::{MIN_RTP_HEADER, RTCP_CLEAR, RTCP_WORD, word};
use crate::drops::DropReason;

/// Tags in a row that do not hold before a stream's rollover counter is doubted.
const DOUBT_AFTER: u8 = 4;
/// A jump in sequence numbers from which on the rollover counter is a guess.
const DOUBTFUL_JUMP: u16 = 1 << 14;
/// SSRCs out of use that are remembered. Beyond them a client has to join again to use another: forgetting one would
/// let what was recorded of it in again.
const MAX_RETIRED: usize = 1_024;
/// Longest packet that is tried with more than one rollover counter: AES-GCM destroys what it cannot open, so that
/// a copy is needed.
const MAX_RETRIED: usize = 2048;
/// The E flag of SRTCP: the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// Highest index (RFC 3711 section 3.3.1).
const MAX_INDEX: u64 = (1 << 48) - 1;

/// What is known of the streams of one client, to go on elsewhere.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SrtpInState {
    rtp: Vec<StreamState>,
    rtcp: Vec<StreamState>,
}

/// One SSRC.
#[derive(Debug, Serialize, Deserialize)]
struct StreamState {
    ssrc: u32,
    window: ShortWindow,
    is_retired: bool,
}

/// Opens what one client sends.
pub struct SrtpIn {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_streams: Streams,
    reporters: Reporters,
}

impl SrtpIn {
    /// Derives the session keys from the other side's master key. At most `max_ssrcs` SSRCs are in use for RTP
    /// at a time.
    pub fn new(profile: SrtpProfile, master: &MasterKey, max_ssrcs: usize) -> Self {
        Self {
            profile,
            rtp: Cipher::new(profile, &SessionKeys::derive(profile, master, Labels::RTP)),
            rtcp: Cipher::new(profile, &SessionKeys::derive(profile, master, Labels::RTCP)),
            rtp_streams: Streams::new(max_ssrcs),
            reporters: Reporters { ssrcs: Vec::new(), windows: Vec::new(), max: max_ssrcs + MAX_RETIRED },
        }
    }

    /// The streams so far.
    pub(in super::super) fn state(&self) -> SrtpInState {
        SrtpInState { rtp: self.rtp_streams.state(), rtcp: self.reporters.state() }
    }

    /// Goes on with streams that were opened elsewhere; false when they cannot be those of a client.
    pub(in super::super) fn resume(&mut self, state: SrtpInState) -> bool {
        self.rtp_streams.resume(state.rtp) && self.reporters.resume(state.rtcp)
    }

    /// Opens an RTP packet in place. `header_len`, `ssrc` and `seq` are what its header says. Returns the length
    /// without tag, and the 48-bit index: rollover counter and sequence number.
    pub fn unprotect_rtp(
        &mut self,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        seq: u16,
    ) -> Result<(usize, u64), DropReason> {
        let plain_len = packet.len().checked_sub(self.profile.tag_len()).ok_or(DropReason::RtpMalformed)?;
        if header_len < MIN_RTP_HEADER || header_len > plain_len {
            return Err(DropReason::RtpMalformed);
        }
        let full = self.rtp_streams.is_full();
        let index = match self.rtp_streams.find(ssrc) {
            Some(stream) => open_known(&self.rtp, stream, packet, header_len, seq)?,
            None if full => return Err(DropReason::RtpTooManySsrcs),
            None => {
                // The first packets may be lost just before the counter wraps, so that one rollover is possible.
                let first = u64::from(seq);
                let index = open_with(&self.rtp, packet, header_len, &[first, first + 0x1_0000]);
                let index = index.ok_or(DropReason::SrtpBadTag)?;
                self.rtp_streams.add(ssrc, index);
                index
            }
        };
        Ok((plain_len, index))
    }

    /// Opens a compound RTCP packet in place and returns its length without tag and index. An unencrypted packet
    /// is never believed: every profile that DTLS negotiates encrypts and authenticates RTCP.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, DropReason> {
        let overhead = self.profile.tag_len() + RTCP_WORD;
        if packet.len() < RTCP_CLEAR + overhead {
            return Err(DropReason::SrtcpBad);
        }
        let flagged = self.rtcp.rtcp_word(packet);
        if flagged & ENCRYPTED == 0 {
            return Err(DropReason::SrtcpBad);
        }
        let index = flagged & !ENCRYPTED;
        let ssrc = word(packet, 4);
        let known = self.reporters.find(ssrc);
        match known {
            Some(at) => self.reporters.windows[at].check(u64::from(index))?,
            None if self.reporters.is_full() => return Err(DropReason::RtpTooManySsrcs),
            None => {}
        }
        if !self.rtcp.open_rtcp(packet, index) {
            return Err(DropReason::SrtcpBad);
        }
        match known {
            Some(at) => self.reporters.windows[at].mark(u64::from(index)),
            None => self.reporters.add(ssrc, ShortWindow::starting_with(u64::from(index))),
        }
        Ok(packet.len() - overhead)
    }

    /// An SSRC is not used for now, so that another one may be. Its rollover counter and its replay window live as
    /// long as the keys: a camera that is switched on again goes on with the counter it had, and what was recorded of
    /// it is still a replay (RFC 3711 section 3.2.3).
    pub fn retire(&mut self, ssrc: u32) {
        self.rtp_streams.retire(ssrc);
    }

    /// Reads what opening touches first.
    pub(in super::super) fn glance(&self) -> u64 {
        let stream = self.rtp_streams.streams.first().map_or(0, |s| s.window.highest() ^ u64::from(s.failures));
        self.rtp.glance()
            ^ self.profile.tag_len() as u64
            ^ stream
            ^ self.rtp_streams.ssrcs.first().map_or(0, |ssrc| u64::from(*ssrc))
    }

    /// SSRCs that RTP came from.
    pub fn ssrcs(&self) -> usize {
        self.rtp_streams.ssrcs.len()
    }
}

impl std::fmt::Debug for SrtpIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SrtpIn({:?}, {} SSRCs)", self.profile, self.ssrcs())
    }
}

/// What is known of one SSRC.
struct Stream {
    window: ReplayWindow,
    /// Tags in a row that did not hold.
    failures: u8,
}

/// The RTP streams of one client: few enough that looking through their SSRCs is quickest.
struct Streams {
    ssrcs: Vec<u32>,
    streams: Vec<Stream>,
    max: usize,
    /// Those not in use, looked through only for an SSRC that is not in use either.
    retired: Vec<(u32, ShortWindow)>,
}

impl Streams {
    fn new(max: usize) -> Self {
        Self { ssrcs: Vec::new(), streams: Vec::new(), max, retired: Vec::new() }
    }

    fn find(&mut self, ssrc: u32) -> Option<&mut Stream> {
        let at = match self.ssrcs.iter().position(|known| *known == ssrc) {
            Some(at) => at,
            None => self.recall(ssrc)?,
        };
        self.streams.get_mut(at)
    }

    /// Takes a retired SSRC into use again; its place.
    fn recall(&mut self, ssrc: u32) -> Option<usize> {
        if self.ssrcs.len() >= self.max {
            return None;
        }
        let at = self.retired.iter().position(|(known, _)| *known == ssrc)?;
        let (ssrc, window) = self.retired.swap_remove(at);
        self.ssrcs.push(ssrc);
        self.streams.push(Stream { window: (&window).into(), failures: 0 });
        Some(self.ssrcs.len() - 1)
    }

    /// No SSRC more is taken: neither into use nor, once it goes out of use, into what is remembered.
    fn is_full(&self) -> bool {
        self.ssrcs.len() >= self.max || self.ssrcs.len() + self.retired.len() >= self.max + MAX_RETIRED
    }

    fn state(&self) -> Vec<StreamState> {
        // Those out of use take no place of those in use when they come first.
        let retired = self.retired.iter().map(|(ssrc, window)| (*ssrc, *window, true));
        let used = self.ssrcs.iter().zip(&self.streams).map(|(ssrc, stream)| (*ssrc, (&stream.window).into(), false));
        retired.chain(used).map(|(ssrc, window, is_retired)| StreamState { ssrc, window, is_retired }).collect()
    }

    fn resume(&mut self, state: Vec<StreamState>) -> bool {
        for StreamState { ssrc, window, is_retired } in state {
            let is_known = self.find(ssrc).is_some();
            if is_known || window.highest() > MAX_INDEX || self.is_full() {
                return false;
            }
            self.ssrcs.push(ssrc);
            self.streams.push(Stream { window: (&window).into(), failures: 0 });
            if is_retired {
                self.retire(ssrc);
            }
        }
        true
    }

    fn add(&mut self, ssrc: u32, index: u64) {
        self.ssrcs.push(ssrc);
        self.streams.push(Stream { window: ReplayWindow::starting_with(index), failures: 0 });
    }

    fn retire(&mut self, ssrc: u32) {
        if let Some(at) = self.ssrcs.iter().position(|known| *known == ssrc) {
            let stream = self.streams.swap_remove(at);
            self.retired.push((self.ssrcs.swap_remove(at), (&stream.window).into()));
        }
    }
}

/// The SSRCs that RTCP came from. Goodbyes and reports come of streams that are out of use, too, so that none of them goes
/// out of use here; few enough reports come that looking through all SSRCs is quick enough.
struct Reporters {
    ssrcs: Vec<u32>,
    windows: Vec<ShortWindow>,
    max: usize,
}

impl Reporters {
    fn find(&self, ssrc: u32) -> Option<usize> {
        self.ssrcs.iter().position(|known| *known == ssrc)
    }

    fn is_full(&self) -> bool {
        self.ssrcs.len() >= self.max
    }

    fn add(&mut self, ssrc: u32, window: ShortWindow) {
        self.ssrcs.push(ssrc);
        self.windows.push(window);
    }

    fn state(&self) -> Vec<StreamState> {
        // A server that has only some of them in use reads it as well.
        let state =
            |(ssrc, window): (&u32, &ShortWindow)| StreamState { ssrc: *ssrc, window: *window, is_retired: true };
        self.ssrcs.iter().zip(&self.windows).map(state).collect()
    }

    fn resume(&mut self, state: Vec<StreamState>) -> bool {
        for StreamState { ssrc, window, .. } in state {
            if self.find(ssrc).is_some() || window.highest() > MAX_INDEX || self.is_full() {
                return false;
            }
            self.add(ssrc, window);
        }
        true
    }
}

/// Opens a packet of a stream that was seen before.
fn open_known(
    cipher: &Cipher,
    stream: &mut Stream,
    packet: &mut [u8],
    header_len: usize,
    seq: u16,
) -> Result<u64, DropReason> {
    let highest = stream.window.highest();
    let estimate = estimate_index(highest, seq);
    let checked = stream.window.check(estimate);
    let jump = (highest as u16).wrapping_sub(seq).min(seq.wrapping_sub(highest as u16));
    let doubtful = jump >= DOUBTFUL_JUMP || stream.failures >= DOUBT_AFTER;
    let opened = match (checked, doubtful) {
        (Ok(()), false) => cipher.open_rtp(packet, header_len, estimate).then_some(estimate),
        (Err(reason), false) => return Err(reason),
        (checked, true) => {
            let (candidates, count) = resynchronising(highest, seq, checked.is_ok().then_some(estimate));
            open_with(cipher, packet, header_len, &candidates[..count])
        }
    };
    match opened {
        Some(index) => {
            stream.window.mark(index);
            stream.failures = 0;
            Ok(index)
        }
        None => {
            stream.failures = stream.failures.saturating_add(1);
            Err(checked.err().unwrap_or(DropReason::SrtpBadTag))
        }
    }
}

/// RFC 3711 section 3.3.1: the index next to the highest one that has this sequence number.
fn estimate_index(highest: u64, seq: u16) -> u64 {
    let same = highest & !0xFFFF | u64::from(seq);
    let behind = (highest as u16).wrapping_sub(seq);
    let earlier = same.checked_sub(0x1_0000).filter(|_| seq > highest as u16 && behind < 0x8000);
    let later = Some(same + 0x1_0000).filter(|next| seq < highest as u16 && behind > 0x8000 && *next <= MAX_INDEX);
    earlier.or(later).unwrap_or(same)
}

/// After a long gap the estimate may be wrong: it first, then what is ahead of the highest index, in order.
fn resynchronising(highest: u64, seq: u16, estimate: Option<u64>) -> ([u64; 4], usize) {
    let (mut candidates, mut count) = ([0; 4], 0);
    let same = highest & !0xFFFF | u64::from(seq);
    let ahead = [same, same + 0x1_0000, same + 0x2_0000];
    let ahead = ahead.into_iter().filter(|index| *index > highest && *index <= MAX_INDEX && Some(*index) != estimate);
    for index in estimate.into_iter().chain(ahead) {
        candidates[count] = index;
        count += 1;
    }
    (candidates, count)
}

/// Tries indices, the likeliest first, until one opens the packet.
fn open_with(cipher: &Cipher, packet: &mut [u8], header_len: usize, candidates: &[u64]) -> Option<u64> {
    let mut copy = [0; MAX_RETRIED];
    let Some(copy) = copy.get_mut(..packet.len()) else {
        return candidates.first().copied().filter(|index| cipher.open_rtp(packet, header_len, *index));
    };
    copy.copy_from_slice(packet);
    candidates.iter().copied().find(|index| {
        packet.copy_from_slice(copy);
        cipher.open_rtp(packet, header_len, *index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimated_index_is_the_nearest_one() {
        for (highest, seq, expected) in [
            (0, 1, 1),
            (0x0_0005, 0xFFFF, 0x0_FFFF),
            (0x0_FFFF, 0, 0x1_0000),
            (0x1_0000, 0xFFFF, 0x0_FFFF),
            (0x1_0005, 6, 0x1_0006),
            (0x1_8000, 0, 0x1_0000),
            (0x1_8001, 0, 0x2_0000),
            (0x1_7FFF, 0xFFFF, 0x1_FFFF),
            (0x1_7FFF, 0, 0x1_0000),
            (MAX_INDEX, 0, MAX_INDEX & !0xFFFF),
        ] {
            assert_eq!(estimate_index(highest, seq), expected, "{highest:x} {seq:x}");
        }
    }
}
