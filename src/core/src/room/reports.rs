//! RTCP to clients: sender reports for what they receive, receiver reports and bandwidth feedback for what they
//! publish, requests for key frames and for packets that did not come.

use std::time::{Duration, Instant};

use slotmap::SlotMap;

use super::client::{Client, FEEDBACK_INTERVAL, REPORT_INTERVAL};
use super::track::{Asking, KeyFrameCounts, KeyFrameNeed, Layer, Track};
use moonring_wire::id::{Ssrc, TrackId, TrackKey};
use moonring_wire::media::CodecName;
use moonring_wire::packet::{MAX_DATAGRAM, SendBatch};
use moonring_wire::rtp::rtcp::{ReportBlock, SenderInfo, Writer};

/// Longest compound packet before encryption: fits every path with the SRTCP trailer.
const MAX_COMPOUND: usize = 1_200;
/// Report blocks in one packet (RFC 3550 section 6.4.1: five bits).
const MAX_BLOCKS: usize = 31;
/// SSRCs in one REMB.
const MAX_REMB_SSRCS: usize = 200;
/// Transport-wide feedback packets sent at once: each tells of up to 500 packets.
const MAX_FEEDBACK_PACKETS: usize = 8;
/// The name of the server's own reports.
const CNAME: &str = "moonring";
/// The estimate told to publishers when nothing limits them, in bit/s.
const UNLIMITED_BPS: u64 = 50_000_000;
/// What is left for each sound beside videos that are held, in bit/s: stereo with redundancy takes no more.
const SOUND_BPS: u64 = 128_000;
/// Least time between requests for key frames to one publisher, for whichever of its layers.
const KEY_FRAMES_INTERVAL: Duration = Duration::from_secs(1);
/// Round-trip time assumed for repeating a NACK.
const ASSUMED_RTT: Duration = Duration::from_millis(80);

/// The key frames that publishers were asked for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// How many, and what for.
    pub counts: &'a mut KeyFrameCounts,
    /// The tracks whose publisher is to be told by a message.
    pub told: Vec<TrackId>,
}

/// A compound packet being written.
type Compound = [u8; MAX_COMPOUND];

/// Encrypts what `writer` has and puts it into `out`. Nothing is sent before the transport is up.
fn send(client: &mut Client, writer: Writer<'_>, out: &mut SendBatch) {
    let len = writer.len();
    if len > 0
        && let Some(transport) = &mut client.transport
        && let Some(to) = transport.selected()
        && let Some(srtp) = transport.srtp_out_mut()
        && let Some(mut slot) = out.slot(to, MAX_DATAGRAM)
    {
        slot.bytes()[..len].copy_from_slice(writer.as_bytes());
        let protected = srtp.protect_rtcp(slot.bytes(), len);
        slot.commit(protected);
    }
}

/// Sends what is due to `client` at `now`; [`deadline`] says when the next is. Requests for key frames are noted in `asked`.
pub fn send_due(
    now: Instant,
    client: &mut Client,
    tracks: &mut SlotMap<TrackKey, Track>,
    asked: &mut Asked<'_>,
    out: &mut SendBatch,
) {
    if client.transport.as_ref().is_none_or(|t| t.srtp_out().is_none()) {
        return;
    }
    if client.deadlines.feedback.is_some_and(|at| at <= now) {
        client.deadlines.feedback = None;
        transport_feedback(client, tracks, out);
    }
    if client.deadlines.report <= now {
        client.deadlines.report = now + REPORT_INTERVAL;
        sender_reports(now, client, tracks, out);
        receiver_reports(now, client, tracks, out);
    }
    requests(now, client, tracks, asked, out);
}

fn transport_feedback(client: &mut Client, tracks: &SlotMap<TrackKey, Track>, out: &mut SendBatch) {
    let Some(mut arrivals) = client.inbound.arrivals.take() else { return };
    // The media SSRC says nothing in this feedback, but libwebrtc drops it when it is none of the sender's.
    let published = client.inbound.published.iter().filter_map(|key| tracks.get(*key)).flat_map(|t| &t.layers);
    let media = published.filter_map(|l| l.ssrc).next().unwrap_or(Ssrc(0));
    for _ in 0..MAX_FEEDBACK_PACKETS {
        let mut compound: Compound = [0; MAX_COMPOUND];
        let mut writer = Writer::new(&mut compound);
        if !arrivals.build(client.inbound.report_ssrc, media, &mut writer) {
            break;
        }
        send(client, writer, out);
    }
    client.inbound.arrivals = Some(arrivals);
}

/// When [`send_due`] has something to do: what it would not do then is not waited for, or it would be due again and again.
pub fn deadline(client: &Client, tracks: &SlotMap<TrackKey, Track>) -> Instant {
    let published = client.inbound.published.iter().filter_map(|key| tracks.get(*key));
    let requests = published.flat_map(|track| {
        let key_frame = |layer: &Layer| {
            let at = layer.key_frame_deadline().filter(|_| track.asks_for_pictures())?;
            Some(client.inbound.key_frames_from.map_or(at, |from| at.max(from)))
        };
        let missing = |layer: &Layer| layer.missing.next_due().filter(|_| track.feedback.nack);
        let layers = track.layers.iter().filter(|layer| layer.ssrc.is_some());
        layers.flat_map(move |layer| [key_frame(layer), missing(layer)])
    });
    requests.flatten().chain(client.deadlines.feedback).fold(client.deadlines.report, Instant::min)
}

/// Notes that a packet with a transport-wide sequence number came: feedback is due a little later.
pub fn note_transport_sequence(now: Instant, client: &mut Client, sequence: u16) {
    client.inbound.arrivals.get_or_insert_default().record(sequence, now);
    client.deadlines.feedback.get_or_insert(now + FEEDBACK_INTERVAL);
}

fn sender_reports(now: Instant, client: &mut Client, tracks: &SlotMap<TrackKey, Track>, out: &mut SendBatch) {
    for place in 0..client.outbound.forwards.len() {
        let Some(forward) = &mut client.outbound.forwards[place] else { continue };
        let Some(track) = tracks.get(forward.track) else { continue };
        let Some((ntp, rtp_time)) = forward.report_times(now, track) else { continue };
        let (packets, octets) = (forward.sent.packets, forward.sent.octets);
        let info = SenderInfo { ssrc: forward.stream.ssrc, ntp, rtp_time, packets, octets };
        let mut compound: Compound = [0; MAX_COMPOUND];
        let mut writer = Writer::new(&mut compound);
        let cname = track.info.client.as_str();
        if writer.sender_report(&info, &[]).and_then(|()| writer.cname(info.ssrc, cname)).is_ok() {
            forward.reported.note(now, ntp);
            send(client, writer, out);
        }
    }
}

fn receiver_reports(now: Instant, client: &mut Client, tracks: &mut SlotMap<TrackKey, Track>, out: &mut SendBatch) {
    let (mut blocks, mut ssrcs) = (Vec::new(), Vec::new());
    let held = held_bps(now, client, tracks);
    let limit = client.inbound.max_bitrate_bps.into_iter().chain(held).min();
    client.inbound.was_held |= limit.is_some();
    let mut wants_remb = client.inbound.was_held;
    for key in &client.inbound.published {
        let Some(track) = tracks.get_mut(*key) else { continue };
        wants_remb |= track.feedback.remb && !track.feedback.transport_cc;
        for layer in &mut track.layers {
            let Some(ssrc) = layer.ssrc else { continue };
            ssrcs.push(ssrc);
            blocks.extend(layer.stats.report(ssrc, now));
        }
    }
    for chunk in blocks.chunks(MAX_BLOCKS) {
        report(client, chunk, None, out);
    }
    if wants_remb && !ssrcs.is_empty() {
        let bps = limit.map_or(UNLIMITED_BPS, |limit| limit.min(UNLIMITED_BPS));
        ssrcs.truncate(MAX_REMB_SSRCS);
        report(client, &[], Some((bps, &ssrcs)), out);
    }
}

/// What all tracks of a client together are held to, if each of its videos that is sent is held: an estimate is for all of
/// them, and those that may send more would be the ones that give way.
fn held_bps(now: Instant, client: &Client, tracks: &SlotMap<TrackKey, Track>) -> Option<u64> {
    let (mut total, mut is_held) = (0, false);
    for track in client.inbound.published.iter().filter_map(|key| tracks.get(*key)) {
        if !track.is_video() {
            total += SOUND_BPS;
        } else if let Some(bps) = track.cap.bps() {
            (total, is_held) = (total + bps, true);
        } else if track.layers.iter().any(|layer| layer.is_active(now)) {
            return None;
        }
    }
    is_held.then_some(total)
}

/// One receiver report, with the name that compound packets need and, if given, an estimate.
fn report(client: &mut Client, blocks: &[ReportBlock], remb: Option<(u64, &[Ssrc])>, out: &mut SendBatch) {
    let mut compound: Compound = [0; MAX_COMPOUND];
    let mut writer = Writer::new(&mut compound);
    let from = client.inbound.report_ssrc;
    let written = writer.receiver_report(from, blocks).and_then(|()| writer.cname(from, CNAME));
    let written = written.and_then(|()| remb.map_or(Ok(()), |(bps, ssrcs)| writer.remb(from, bps, ssrcs)));
    if written.is_ok() {
        send(client, writer, out);
    }
}

/// Key frames, which are noted in `asked`, and missing packets.
fn requests(
    now: Instant,
    client: &mut Client,
    tracks: &mut SlotMap<TrackKey, Track>,
    asked: &mut Asked<'_>,
    out: &mut SendBatch,
) {
    let from = client.inbound.report_ssrc;
    let may_ask = client.inbound.key_frames_from.is_none_or(|at| at <= now);
    for n in 0..client.inbound.published.len() {
        let Some(track) = tracks.get_mut(client.inbound.published[n]) else { continue };
        let (feedback, is_video) = (track.feedback, track.is_video());
        let asks_for_pictures = may_ask && track.asks_for_pictures();
        // Other encoders' key frames are not the smaller for it.
        let (may_tell, mut is_told) = (track.info.codec == CodecName::Vp8, false);
        for layer in &mut track.layers {
            let Some(ssrc) = layer.ssrc else { continue };
            let mut compound: Compound = [0; MAX_COMPOUND];
            let mut writer = Writer::new(&mut compound);
            if feedback.nack {
                client.inbound.sequences.clear();
                let gave_up = layer.missing.due(now, ASSUMED_RTT, &mut client.inbound.sequences);
                if gave_up && is_video {
                    layer.want_key_frame(now, KeyFrameNeed::Gap);
                }
                if !client.inbound.sequences.is_empty() {
                    // What does not fit is asked for at its next turn.
                    let _ = writer.nack(from, ssrc, &client.inbound.sequences);
                }
            }
            if asks_for_pictures && let Some((ssrc, request)) = layer.take_key_frame_request(now) {
                let by = if may_tell { request.by } else { Asking::Rtcp };
                // One message is for all layers.
                if by == Asking::Rtcp || !std::mem::replace(&mut is_told, true) {
                    let need = request.need.label();
                    tracing::debug!(client = %client.id, ssrc = ssrc.0, need, ?by, "asked for a key frame");
                    asked.counts.count(request.need);
                    client.inbound.key_frames_from = Some(now + KEY_FRAMES_INTERVAL);
                }
                let _ = match by {
                    Asking::Message => Ok(()),
                    Asking::Rtcp if feedback.pli || !feedback.fir => writer.pli(from, ssrc),
                    Asking::Rtcp => writer.fir(from, ssrc, request.number),
                };
            }
            send(client, writer, out);
        }
        if is_told {
            asked.told.push(track.info.id.clone());
        }
    }
}
