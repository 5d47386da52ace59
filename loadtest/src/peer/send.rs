//! A published track: sequence numbers, headers, and what can be sent again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use moonring_wire::id::{Mid, Pt, Ssrc};
use moonring_wire::media::{Extension, ExtensionIds};
use moonring_wire::packet::SendBatch;
use moonring_wire::rtp::extension::abs_send_time;
use moonring_wire::rtp::header::{NewHeader, write_header};
use moonring_wire::rtp::rtcp::SenderInfo;
use moonring_wire::transport::srtp::{MAX_RTP_OVERHEAD, SrtpOut};
use rand::Rng;

use crate::media::{Clock, Packet, Stamp};

/// Longest header written here: three one-byte extensions.
const MAX_HEADER: usize = 12 + 4 + 32;
/// libwebrtc sends the mid until it was acknowledged; this many packets are enough for that.
const PACKETS_WITH_MID: u64 = 100;
/// Seconds from 1900, which NTP counts from, to 1970. Any epoch would do.
const NTP_EPOCH: u64 = 2_208_988_800;

/// What was negotiated for a track.
pub(super) struct Wire {
    pub(super) pt: Pt,
    pub(super) ssrc: Ssrc,
    pub(super) rtx: Option<(Pt, Ssrc)>,
    pub(super) ids: ExtensionIds,
    pub(super) mid: Mid,
}

/// What was sent of a track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackCounts {
    /// Packets, without those sent again.
    pub packets: u64,
    /// Their payloads' bytes.
    pub payload_bytes: u64,
    /// Packets that were sent again.
    pub resent: u64,
    /// Packets asked for that were no longer there.
    pub not_resent: u64,
    /// Requests for a key frame.
    pub key_frame_requests: u64,
}

impl std::iter::Sum for TrackCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            packets: a.packets + b.packets,
            payload_bytes: a.payload_bytes + b.payload_bytes,
            resent: a.resent + b.resent,
            not_resent: a.not_resent + b.not_resent,
            key_frame_requests: a.key_frame_requests + b.key_frame_requests,
        })
    }
}

/// See the module's words.
pub(super) struct SendTrack {
    clock_rate: u32,
    wire: Option<Wire>,
    /// Sequence number and rollover counter of the next packet.
    next: u64,
    next_rtx: u64,
    sent: VecDeque<Sent>,
    keep: usize,
    last: Option<(u32, Instant)>,
    counts: TrackCounts,
}

/// A packet that can be sent again, bit by bit: SRTP must not use its index for anything else.
struct Sent {
    packet: Packet,
    at: Instant,
    with_mid: bool,
}

impl SendTrack {
    pub(super) fn new(clock_rate: u32, keep: usize, rng: &mut impl Rng) -> Self {
        Self {
            clock_rate,
            wire: None,
            // As libwebrtc begins: in the lower half, so that the first rollover is not missed.
            next: rng.random_range(1..0x8000),
            next_rtx: rng.random_range(1..0x8000),
            sent: VecDeque::new(),
            keep,
            last: None,
            counts: TrackCounts::default(),
        }
    }

    pub(super) fn set_wire(&mut self, wire: Option<Wire>) {
        self.wire = wire;
    }

    pub(super) fn counts(&self) -> TrackCounts {
        self.counts
    }

    pub(super) fn key_frame_requested(&mut self) {
        self.counts.key_frame_requests += 1;
    }

    pub(super) fn send(
        &mut self,
        clock: Clock,
        now: Instant,
        packet: &Packet,
        srtp: &SrtpOut,
        to: SocketAddr,
        out: &mut SendBatch,
    ) -> bool {
        let Some(wire) = &self.wire else { return false };
        let mut packet = *packet;
        packet.stamp(Stamp { sent_ns: clock.nanos(now), counter: self.counts.packets, layer: packet.layer });
        let sent = Sent { packet, at: now, with_mid: self.counts.packets < PACKETS_WITH_MID };
        if !sent.write(clock, wire, None, self.next, srtp, to, out) {
            return false;
        }
        self.next += 1;
        self.counts.packets += 1;
        self.counts.payload_bytes += packet.payload_len() as u64;
        self.last = Some((packet.timestamp, now));
        if self.keep > 0 {
            if self.sent.len() == self.keep {
                self.sent.pop_front();
            }
            self.sent.push_back(sent);
        }
        true
    }

    /// Sends again what the server misses.
    pub(super) fn resend(
        &mut self,
        clock: Clock,
        sequences: impl Iterator<Item = u16>,
        srtp: &SrtpOut,
        to: SocketAddr,
        out: &mut SendBatch,
    ) {
        let Some(wire) = &self.wire else { return };
        for sequence in sequences {
            // How long ago: 1 is the last packet.
            let age = u64::from((self.next as u16).wrapping_sub(sequence));
            let kept = (self.sent.len() as u64).checked_sub(age).filter(|_| age > 0);
            let Some(sent) = kept.and_then(|at| self.sent.get(at as usize)) else {
                self.counts.not_resent += 1;
                continue;
            };
            let rtx = wire.rtx.map(|(pt, ssrc)| (pt, ssrc, self.next_rtx));
            if sent.write(clock, wire, rtx, self.next - age, srtp, to, out) {
                self.next_rtx += u64::from(rtx.is_some());
                self.counts.resent += 1;
            }
        }
    }

    /// What a sender report says now; `None` before the first packet.
    pub(super) fn report(&self, clock: Clock, now: Instant) -> Option<SenderInfo> {
        let (wire, (timestamp, at)) = (self.wire.as_ref()?, self.last?);
        let time = clock.since_start(now);
        let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
        let since = now.saturating_duration_since(at).as_micros() as u64 * u64::from(self.clock_rate) / 1_000_000;
        Some(SenderInfo {
            ssrc: wire.ssrc,
            ntp: (time.as_secs() + NTP_EPOCH) << 32 | fraction,
            rtp_time: timestamp.wrapping_add(since as u32),
            packets: self.counts.packets as u32,
            octets: self.counts.payload_bytes as u32,
        })
    }
}

impl Sent {
    /// Writes the packet with this index, or a retransmission of it (RFC 4588): (payload type, SSRC, its own index).
    #[expect(clippy::too_many_arguments, reason = "one packet's all")]
    fn write(
        &self,
        clock: Clock,
        wire: &Wire,
        rtx: Option<(Pt, Ssrc, u64)>,
        index: u64,
        srtp: &SrtpOut,
        to: SocketAddr,
        out: &mut SendBatch,
    ) -> bool {
        let capacity = MAX_HEADER + wire.mid.as_str().len() + 2 + self.packet.payload_len() + MAX_RTP_OVERHEAD;
        let Some(mut slot) = out.slot(to, capacity) else { return false };
        let (payload_type, ssrc, sequence) = rtx.unwrap_or((wire.pt, wire.ssrc, index));
        let fields = NewHeader {
            marker: self.packet.marker,
            payload_type,
            sequence: sequence as u16,
            timestamp: self.packet.timestamp,
            ssrc,
        };
        let time = abs_send_time(clock.since_start(self.at));
        let level = self.packet.level.map(|level| level.encode());
        let id = |extension| wire.ids.get(extension).unwrap_or(0);
        // Id 0 is not written.
        let elements: [(u8, &[u8]); 3] = [
            (level.map_or(0, |_| id(Extension::AudioLevel)), level.as_ref().map_or(&[], |level| &level[..])),
            (id(Extension::AbsSendTime), &time),
            (if self.with_mid { id(Extension::Mid) } else { 0 }, wire.mid.as_str().as_bytes()),
        ];
        let bytes = slot.bytes();
        let header_len = write_header(bytes, &fields, &elements);
        let mut len = header_len;
        if rtx.is_some() {
            bytes[len..len + 2].copy_from_slice(&(index as u16).to_be_bytes());
            len += 2;
        }
        self.packet.write(&mut bytes[len..]);
        len += self.packet.payload_len();
        let len = srtp.protect_rtp(bytes, header_len, len, sequence);
        slot.commit(len);
        true
    }
}
