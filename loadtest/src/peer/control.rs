//! RTCP of a peer: reports once a second, requests for packets and key frames, and answers to the server's.

use std::time::Instant;

use moonring_wire::drops::DropReason;
use moonring_wire::id::Ssrc;
use moonring_wire::rtp::rtcp::{self, Full, ReportBlock, RtcpMessage, Writer};
use moonring_wire::transport::srtp::MAX_RTCP_OVERHEAD;

use super::{Outbox, Peer, PeerEvent, Section, Stream};

/// Longest compound packet: fits the smallest MTU of IPv6 with its tag.
const MAX_COMPOUND: usize = 1_200;
/// Report blocks in one compound packet.
const BLOCKS: usize = 31;
/// Key frames asked for in one compound packet.
const KEY_FRAME_REQUESTS: usize = 16;

impl Peer {
    pub(super) fn handle_rtcp(&mut self, now: Instant, bytes: &mut [u8], out: &mut Outbox) -> Result<(), DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let len = srtp.incoming.unprotect_rtcp(bytes)?;
        let (clock, to) = (self.config.clock, self.ice.selected());
        let (sections, streams, srtp) = (&mut self.sections, &mut self.streams, &srtp.out);
        let mut wanted = Vec::new();
        let parsed = rtcp::parse(&bytes[..len], &mut |message| match message {
            RtcpMessage::Pli { media } | RtcpMessage::Fir { media, .. } => {
                if let Some((section, layer)) = sections.sending(media) {
                    wanted.push((section.mid().clone(), layer));
                    section.layer(layer).into_iter().for_each(|track| track.key_frame_requested());
                }
            }
            RtcpMessage::Nack { media, sequences } => {
                let track = sections.sending(media).and_then(|(section, layer)| section.layer(layer));
                if let (Some(track), Some(to)) = (track, to) {
                    track.resend(clock, sequences, srtp, to, &mut out.batch);
                }
            }
            RtcpMessage::SenderReport { ssrc, ntp, .. } => {
                if let Some(stream) = streams.iter_mut().find(|stream| stream.ssrc() == ssrc) {
                    stream.sender_report(ntp, now);
                }
            }
            _ => {}
        });
        wanted.into_iter().for_each(|(mid, layer)| self.tell(PeerEvent::KeyFrameRequested(mid, layer)));
        parsed
    }

    /// Sender reports, receiver reports, REMB and requests for first key frames.
    pub(super) fn send_reports(&mut self, now: Instant, out: &mut Outbox) {
        let reporter = self.sections.reporter();
        let blocks: Vec<ReportBlock> = self.streams.iter_mut().filter_map(|stream| stream.report(now)).collect();
        let clock = self.config.clock;
        let tracks = self.sections.iter_mut().flat_map(Section::tracks);
        let infos: Vec<_> = tracks.filter_map(|track| track.report(clock, now)).collect();
        let cname = self.sections.cname().to_owned();
        if !infos.is_empty() {
            self.send_compound(out, |w| {
                infos.iter().take(16).try_for_each(|info| w.sender_report(info, &[]))?;
                w.cname(reporter, &cname)
            });
        }
        if infos.is_empty() || !blocks.is_empty() {
            self.send_receiver_report(now, out, reporter, &blocks, &cname);
        }
        for blocks in blocks.chunks(BLOCKS).skip(1) {
            self.send_compound(out, |w| {
                w.receiver_report(reporter, blocks)?;
                w.cname(reporter, &cname)
            });
        }
    }

    /// The first blocks, and the feedback that goes with them.
    fn send_receiver_report(
        &mut self,
        now: Instant,
        out: &mut Outbox,
        reporter: Ssrc,
        blocks: &[ReportBlock],
        cname: &str,
    ) {
        let mut keys: Vec<Ssrc> =
            self.streams.iter_mut().filter_map(|s| s.wants_key_frame(now).then(|| s.ssrc())).collect();
        keys.truncate(KEY_FRAME_REQUESTS);
        self.counts.plis_sent += keys.len() as u64;
        let remb = self.config.remb_bps;
        let ssrcs: Vec<Ssrc> = blocks.iter().take(BLOCKS).map(|block| block.about).collect();
        self.send_compound(out, |w| {
            w.receiver_report(reporter, &blocks[..blocks.len().min(BLOCKS)])?;
            w.cname(reporter, cname)?;
            if let Some(bitrate) = remb {
                w.remb(reporter, bitrate, &ssrcs)?;
            }
            keys.iter().try_for_each(|media| w.pli(reporter, *media))
        });
    }

    /// Asks for what is missing; returns when to ask again.
    pub(super) fn send_nacks(&mut self, now: Instant, out: &mut Outbox) -> Option<Instant> {
        let reporter = self.sections.reporter();
        let mut wanted: Vec<(Ssrc, Vec<u16>)> = Vec::new();
        for stream in &mut self.streams {
            let mut sequences = Vec::new();
            stream.missing(now, &mut sequences);
            if !sequences.is_empty() {
                wanted.push((stream.ssrc(), sequences));
            }
        }
        for (media, sequences) in wanted {
            self.counts.nacks_sent += sequences.len() as u64;
            self.send_compound(out, |w| w.nack(reporter, media, &sequences));
        }
        self.streams.iter().filter_map(Stream::next_nack).min()
    }

    /// Asks for a key frame of a received stream, as a decoder does that cannot go on.
    pub fn request_key_frame(&mut self, media: Ssrc, out: &mut Outbox) {
        let reporter = self.sections.reporter();
        self.counts.plis_sent += 1;
        self.send_compound(out, |w| w.pli(reporter, media));
    }

    /// Tells when the packets since the last time came.
    pub(super) fn send_transport_feedback(&mut self, out: &mut Outbox) {
        let Some(mut arrivals) = self.arrivals.take() else { return };
        let reporter = self.sections.reporter();
        let media = self.streams.first().map_or(Ssrc(0), Stream::ssrc);
        let mut more = arrivals.is_pending();
        while more {
            self.send_compound(out, |w| {
                more = arrivals.build(reporter, media, w);
                Ok(())
            });
            more &= arrivals.is_pending();
        }
        self.arrivals = Some(arrivals);
    }

    /// Writes, seals and sends one compound packet; what does not fit is left out.
    fn send_compound(&mut self, out: &mut Outbox, write: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>) {
        let (Some(srtp), Some(to)) = (self.srtp.as_mut(), self.ice.selected()) else { return };
        let Some(mut slot) = out.batch.slot(to, MAX_COMPOUND + MAX_RTCP_OVERHEAD) else { return };
        let bytes = slot.bytes();
        let mut writer = Writer::new(&mut bytes[..MAX_COMPOUND]);
        // Each packet is written whole or not at all, so that what did fit is a compound packet.
        let _ = write(&mut writer);
        let plain_len = writer.len();
        let len = srtp.out.protect_rtcp(bytes, plain_len);
        if len > 0 {
            slot.commit(len);
        }
    }
}
