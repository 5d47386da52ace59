//! Packets that a client asks for again (NACK). With RTX they leave as retransmissions, in a stream of their own (RFC
//! 4588). Without, the packet leaves once more as it was, byte for byte.
//!
//! An SRTP index must never seal two different packets, and the header is part of what is sealed: with AES-GCM even
//! another send time under the same index would give away the authentication key (RFC 7714 section 8.1). So the header
//! is kept as it left, and the payload is named by its arrival in the layer's history, which no other packet has: a
//! publisher that sends another payload with a sequence number of the past changes nothing here.

use slotmap::SlotMap;

use super::client::Outbound;
use super::fanout::Sender;
use super::sealing::{Body, Destination, Moment, OutgoingPacket, header};
use super::track::Track;
use crate::bandwidth::ProbeId;
use moonring_wire::id::TrackKey;
use moonring_wire::packet::{MAX_DATAGRAM, SendBatch};

/// Sends the packet that went out with `sequence` once more; its bytes. 0 when it is no longer here, the client takes
/// none, its budget is used up, or `out` is full. `probe`: it is sent to probe the path, not because somebody asked.
pub fn resend(
    moment: Moment,
    (outbound, place): (&mut Outbound, u16),
    (tracks, to): (&SlotMap<TrackKey, Track>, Destination<'_>),
    (sequence, probe): (u16, Option<ProbeId>),
    out: &mut SendBatch,
) -> usize {
    let Some(forward) = outbound.forwards.get(usize::from(place)).and_then(Option::as_ref) else { return 0 };
    if forward.stream.rtx.is_none() {
        return resend_as_it_was(moment, (outbound, place), (tracks, to), sequence, out);
    }
    let Some(track) = tracks.get(forward.track) else { return 0 };
    let Some((history, packet, outgoing)) = forward.find_sent(track, sequence) else { return 0 };
    if probe.is_none() && !is_affordable(moment, outbound, place, (sequence, packet.payload_len())) {
        return 0;
    }
    let Some(forward) = outbound.forwards[usize::from(place)].as_mut() else { return 0 };
    let Some(rtx) = &mut forward.stream.rtx else { return 0 };
    let index = rtx.next_index;
    let header = header(rtx.pt, index, &outgoing, rtx.ssrc);
    let codec = forward.codec;
    let sealed = OutgoingPacket { header, index, codec, history, packet, outgoing, resend_of: Some(sequence) };
    let mut sender = Sender { moment, to, congestion: outbound.congestion.as_deref_mut(), packets: 0, bytes: 0 };
    rtx.next_index += 1;
    let stream = forward.stream;
    if !sender.send(&sealed, &stream, (probe, None), out) {
        return 0;
    }
    sender.bytes as usize
}

/// The same packet, sealed to the same bytes.
fn resend_as_it_was(
    moment: Moment,
    (outbound, place): (&mut Outbound, u16),
    (tracks, to): (&SlotMap<TrackKey, Track>, Destination<'_>),
    sequence: u16,
    out: &mut SendBatch,
) -> usize {
    let Some(forward) = outbound.forwards[usize::from(place)].as_ref() else { return 0 };
    let Some(kept) = forward.kept.as_deref().and_then(|kept| kept.find(sequence)).copied() else { return 0 };
    let layer = tracks.get(kept.track).and_then(|track| track.layers.get(usize::from(kept.layer)));
    let Some(history) = layer.map(|layer| &layer.history) else { return 0 };
    let Some(packet) = history.get(kept.arrival) else { return 0 };
    if !is_affordable(moment, outbound, place, (sequence, packet.payload_len())) {
        return 0;
    }
    let Some(mut slot) = out.slot(to.address, MAX_DATAGRAM) else { return 0 };
    let (buf, header_len) = (slot.bytes(), usize::from(kept.header_len));
    buf[..header_len].copy_from_slice(&kept.header[..header_len]);
    let body = Body { payload: history.payload(packet), form: kept.form };
    let Some(end) = body.write(buf, header_len, to.srtp.rtp_overhead()) else { return 0 };
    let len = to.srtp.protect_rtp(buf, header_len, end, kept.index);
    slot.commit(len);
    // Its transport-wide number, if it has one, is that of the first time: it tells nothing of this one.
    if let Some(path) = outbound.congestion.as_deref_mut() {
        path.sent(moment.now, len, false, None);
    }
    len
}

/// Whether the client's budget has room for packet `sequence`, `bytes` long, once more; it counts when it has.
fn is_affordable(moment: Moment, outbound: &mut Outbound, place: u16, (sequence, bytes): (u16, usize)) -> bool {
    let Some(forward) = outbound.forwards[usize::from(place)].as_ref() else { return false };
    let Some(path) = outbound.congestion.as_deref_mut() else { return true };
    let rtt = path.rtt();
    path.repairs.allow(moment.now, (forward.stream.ssrc.0, sequence), bytes, rtt)
}
