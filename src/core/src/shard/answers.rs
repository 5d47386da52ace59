//! The sections of an answer, and publishers that send with another of the payload types that were answered.

use std::time::{Duration, Instant};

use super::Shard;
use super::header_extensions::HeaderExtensions;
use crate::command::News;
use crate::room::client::SectionUse;
use crate::room::formats::{self, Format, PublishedFormats};
use crate::room::negotiation;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, Pt, TrackKey};
use moonring_wire::negotiate::{AnswerSection, AnswerStream, OfferSection};
use moonring_wire::rtp::codec;

/// Least time between two changes of a track's codec: everybody in the room is told of each.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

impl Shard {
    /// What is answered for a section of `key`'s offer. The payload types that the section has now count from here on.
    pub(super) fn answer_section(&mut self, key: ClientKey, section: &OfferSection) -> AnswerSection {
        let answered = match self.world.clients[key].section(&section.mid) {
            Some(_) if section.unbundled => None,
            Some(SectionUse::Publish(track)) => self.answer_publisher(key, section, track),
            Some(SectionUse::Receive(place)) => self.answer_receiver(key, section, place),
            None => None,
        };
        answered.unwrap_or_else(|| negotiation::idle(section, &self.settings.codecs))
    }

    fn answer_publisher(&mut self, key: ClientKey, section: &OfferSection, track: TrackKey) -> Option<AnswerSection> {
        let codecs = negotiation::publish_codecs(section, &self.settings.codecs);
        let client = &mut self.world.clients[key];
        let track = self.world.tracks.get_mut(track).filter(|_| !codecs.is_empty())?;
        track.formats = PublishedFormats::new(codecs.clone(), &track.codec);
        // The same codec may have another number now. One that the offer has no longer stays the track's until its
        // publisher sends in another.
        if let Some(codec) = negotiation::codec_for(&codecs, &track.codec, false) {
            track.follow(codec);
        }
        // A browser keeps to `b=` until the next answer, whatever feedback allows it meanwhile: nothing would lift the limit. So it
        // is only for who takes no estimates.
        let takes_estimates = codecs.iter().any(|codec| codec.feedback.remb);
        let limit = client.inbound.max_bitrate_bps.or(self.settings.max_bitrate_bps);
        let limit = limit.filter(|_| track.is_video() && !takes_estimates);
        track.formats.ids = negotiation::ids_from_publisher(section);
        Some(negotiation::publishing(section, track.info.kind, codecs, limit))
    }

    fn answer_receiver(&mut self, key: ClientKey, section: &OfferSection, place: u16) -> Option<AnswerSection> {
        let codecs = negotiation::receive_codecs(section, &self.settings.codecs);
        let client = &mut self.world.clients[key];
        let forward = client.outbound.forwards[usize::from(place)].as_mut()?;
        let track = self.world.tracks.get(forward.track)?;
        let chosen = negotiation::codec_for(&codecs, &track.codec, self.settings.h264_any_profile)?;
        forward.renumber(Format::of(chosen));
        forward.formats = codecs.iter().map(Format::of).collect();
        forward.stream.red = forward.formats.iter().find(|format| format.profile.is_red()).map(|format| format.pt);
        let stream = AnswerStream {
            ssrc: forward.stream.ssrc,
            rtx_ssrc: forward.stream.rtx.map(|rtx| rtx.ssrc),
            stream_id: track.info.client.to_string(),
            track_id: track.info.id.to_string(),
            cname: track.info.client.to_string(),
        };
        forward.stream.ids = negotiation::ids_to_subscriber(section);
        Some(negotiation::receiving(section, track.info.kind, codecs, stream))
    }

    /// Why a client cannot go on publishing in `section`.
    pub(super) fn no_codec_to_publish(&self, section: &OfferSection) -> Option<String> {
        let has_none = negotiation::publish_codecs(section, &self.settings.codecs).is_empty();
        has_none.then(|| negotiation::nothing_taken(&section.mid))
    }

    /// Why what `key` receives at `place` cannot go on in `section`.
    pub(super) fn no_codec_to_receive(&self, key: ClientKey, place: u16, section: &OfferSection) -> Option<String> {
        let forward = self.world.clients.get(key)?.outbound.forwards[usize::from(place)].as_ref()?;
        let track = self.world.tracks.get(forward.track)?;
        let codecs = negotiation::receive_codecs(section, &self.settings.codecs);
        let chosen = negotiation::codec_for(&codecs, &track.codec, self.settings.h264_any_profile);
        chosen.is_none().then(|| negotiation::mismatch(&section.mid, &codecs, &track.codec))
    }

    /// Lets a track go on in the codec of a packet that came with `pt`, another answered payload type.
    ///
    /// A publisher may send with any payload type of the answer. Pion sends what its application gives it, whichever
    /// codec stands first; Chromium goes on in the next codec when an encoder fails. A track has one codec at a time,
    /// though, which its receivers were chosen for. So the track follows at a frame that a decoder can begin with,
    /// and each of its forwards goes on as what its client was answered for that codec; one whose client was not
    /// answered it ends. A publisher that changes to and fro costs one change a second, and its packets in between.
    pub(super) fn follow_format(
        &mut self,
        now: Instant,
        key: TrackKey,
        pt: Pt,
        (bytes, payload, elements): (&[u8], &[u8], &HeaderExtensions),
    ) -> Result<(), DropReason> {
        let track = self.world.tracks.get_mut(key).ok_or(DropReason::RtpUnknownSsrc)?;
        let answered = track.formats.codec(pt).cloned().ok_or(DropReason::RtpUnknownPayloadType)?;
        let descriptor = Some(elements.descriptor(bytes)).filter(|descriptor| !descriptor.is_empty());
        let info = codec::inspect(answered.codec.name, payload, descriptor);
        let is_early = track.followed.is_some_and(|at| now.saturating_duration_since(at) < FOLLOW_INTERVAL);
        if is_early || !info.begins_key_frame() {
            return Err(DropReason::RtpUnknownPayloadType);
        }
        let before = track.info.codec;
        track.followed = Some(now);
        track.follow(&answered);
        let (room, owner, info) = (track.room, track.owner, track.info.clone());
        let unable = self.repoint_forwards(key);
        tracing::info!(
            track = %info.id, client = %info.client, "sends {} (payload type {}) instead of {}",
            answered.codec.name.as_sdp(), pt.0, before.as_sdp()
        );
        self.update_facts(owner);
        if info.codec != before {
            self.tell_room(room, None, News::TrackChanged(info));
        }
        self.end_unable(now, unable);
        Ok(())
    }

    /// Lets the forwards of a track go on in its codec; those that cannot.
    pub(super) fn repoint_forwards(&mut self, key: TrackKey) -> Vec<(ClientKey, u16)> {
        let Some(track) = self.world.tracks.get(key) else { return Vec::new() };
        let any_profile = self.settings.h264_any_profile;
        let mut unable = Vec::new();
        for (client, place) in &track.subscribers {
            let client_state = self.world.clients.get_mut(*client);
            let forward = client_state.and_then(|c| c.outbound.forwards[usize::from(*place)].as_mut());
            let Some(forward) = forward else { continue };
            match formats::format_for(&forward.formats, &track.codec, any_profile) {
                Some(format) => forward.follow(track, format),
                None => unable.push((*client, *place)),
            }
        }
        unable
    }

    /// Ends the forwards that cannot go on in their track's codec. Who is told of that has to know the codec already: its
    /// client may receive the track in a section that takes it.
    pub(super) fn end_unable(&mut self, now: Instant, unable: Vec<(ClientKey, u16)>) {
        for (client, place) in unable {
            let forward = self.world.clients.get(client).and_then(|c| c.outbound.forwards[usize::from(place)].as_ref());
            let Some(track) = forward.and_then(|forward| self.world.tracks.get(forward.track)) else { continue };
            let name = track.codec.name.as_sdp();
            let reason = format!("the track goes on as {name}, which its section does not take");
            self.end_subscription(now, client, place, &reason);
        }
    }
}
