//! Probes: what is sent beyond the media to find out whether a path carries more. Packets that the client has had lately
//! go out again as retransmissions, which every receiver drops as doubles.

use slotmap::SlotMap;

use super::client::{Client, Outbound};
use super::forward::Forward;
use super::resends;
use super::sealing::{Destination, Moment};
use super::track::Track;
use crate::bandwidth::ProbeId;
use moonring_wire::id::TrackKey;
use moonring_wire::media::Extension;
use moonring_wire::packet::{MAX_DATAGRAM, SendBatch};
use moonring_wire::rtp::extension::{abs_send_time, transport_sequence};
use moonring_wire::rtp::header::{NewHeader, pad, write_header};

/// The packets of the past that a probe takes in turn.
const RECENT_PACKETS: u16 = 16;
/// Bytes of padding in a packet that is nothing else; libwebrtc sends as many.
const PADDING: u8 = 224;
/// A probe of packets of this length takes packets of the past, which are of any length; a shorter one takes padding.
const LONG_ENOUGH: usize = 1_000;
/// Most packets of one slice: what a tick has time for.
const MAX_PACKETS: usize = 64;

/// Sends what is due of a client's probe.
pub fn send_due(moment: Moment, client: &mut Client, tracks: &SlotMap<TrackKey, Track>, out: &mut SendBatch) {
    let outbound = &mut client.outbound;
    let Some(path) = outbound.congestion.as_deref_mut() else { return };
    let by_own = path.goes_by_own_estimates();
    let is_padded = |f: &Forward| {
        (by_own || f.stream.is_numbered()) && f.stream.rtx.is_some() && tracks.get(f.track).is_some_and(Track::is_video)
    };
    let is_sent = |f: &Forward| is_padded(f) && f.allotted.paused.is_none();
    let find = |is_it: &dyn Fn(&Forward) -> bool| outbound.forwards.iter().position(|f| f.as_ref().is_some_and(is_it));
    let place = find(&is_sent).or_else(|| find(&is_padded));
    path.set_probed(moment.now, place.is_some());
    let Some(due) = path.poll_probe(moment.now) else { return };
    let Some(to) = Destination::of(client.transport.as_ref()) else { return };
    let Some(place) = place else { return };
    let mut sent = 0;
    for n in 0..MAX_PACKETS {
        if sent >= due.bytes || !out.has_room(1) {
            return;
        }
        let newest = outbound.forwards[place].as_ref().and_then(|f| f.newest_sequence());
        // Longer packets would make a probe of a slow path longer than it is to be.
        let newest = newest.filter(|_| due.packet_bytes >= LONG_ENOUGH);
        let again = newest.zip(due.probe).map_or(0, |(newest, probe)| {
            let sequence = newest.wrapping_sub(n as u16 % RECENT_PACKETS);
            resends::resend(moment, (outbound, place as u16), (tracks, to), (sequence, Some(probe)), out)
        });
        // Of a track that has been paused for a while nothing is kept.
        sent += if again > 0 { again } else { send_padding(moment, (outbound, place), (to, due.probe), out) };
    }
}

/// Sends a packet of padding in the stream of retransmissions, where it takes no number of the media's.
fn send_padding(
    moment: Moment,
    (outbound, place): (&mut Outbound, usize),
    (to, probe): (Destination<'_>, Option<ProbeId>),
    out: &mut SendBatch,
) -> usize {
    let Some(forward) = outbound.forwards[place].as_mut() else { return 0 };
    let (timestamp, ids) = (forward.last_timestamp().unwrap_or(0), forward.stream.ids);
    let is_numbered = forward.stream.is_numbered();
    let (Some(rtx), Some(path)) = (&mut forward.stream.rtx, outbound.congestion.as_deref_mut()) else { return 0 };
    let Some(mut slot) = out.slot(to.address, MAX_DATAGRAM) else { return 0 };
    let (number, sent_at) = (transport_sequence(path.next_sequence()), abs_send_time(moment.since_start));
    let values = [(Extension::TransportSequence, &number[..]), (Extension::AbsSendTime, &sent_at[..])];
    let mut elements: [(u8, &[u8]); 2] = [(0, &[]); 2];
    let mut count = 0;
    for (id, value) in values.into_iter().filter_map(|(extension, value)| Some((ids.get(extension)?, value))) {
        elements[count] = (id, value);
        count += 1;
    }
    let (payload_type, sequence) = (rtx.pt, rtx.next_index as u16);
    let header = NewHeader { marker: false, payload_type, sequence, timestamp, ssrc: rtx.ssrc };
    let buf = slot.bytes();
    let header_len = write_header(buf, &header, &elements[..count]);
    let end = header_len + usize::from(PADDING);
    buf[header_len..end].fill(0);
    pad(&mut buf[..end], PADDING);
    let len = to.srtp.protect_rtp(buf, header_len, end, rtx.next_index);
    rtx.next_index += 1;
    slot.commit(len);
    path.sent(moment.now, len, is_numbered, probe);
    len
}
