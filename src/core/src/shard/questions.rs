//! What an offer asks for, section by section: checked, and made a question to the policy.

use std::time::Instant;

use super::Shard;
use crate::command::{PublishIntent, SubscribeIntent};
use crate::room::client::{Client, MAX_FORWARDS, PendingOffer, PolicyQuestion, SectionUse};
use crate::room::negotiation;
use crate::room::track::Track;
use moonring_wire::id::{ClientKey, Mid, TrackKey};
use moonring_wire::media::{Kind, TrackInfo};
use moonring_wire::negotiate::{Offer, OfferSection, SectionKind};

impl Shard {
    pub(super) fn publish_question(
        &mut self,
        key: ClientKey,
        pending: &PendingOffer,
        intent: &PublishIntent,
    ) -> Result<PolicyQuestion, String> {
        if let Some(reason) = self.no_right_to_publish(key, intent.source) {
            return Err(reason.to_owned());
        }
        let (section, kind) = media_section(&pending.offer, &intent.mid)?;
        if !section.direction.sends() {
            return Err(format!("section {} does not send", intent.mid));
        }
        let client = &self.world.clients[key];
        is_free(client, pending, &intent.mid, true)?;
        let asked = pending.questions.len();
        if client.inbound.published.len() + asked >= self.settings.max_tracks_per_client {
            return Err(format!("a client may publish at most {} tracks", self.settings.max_tracks_per_client));
        }
        let codec = negotiation::publish_codecs(section, &self.settings.codecs)
            .into_iter()
            .find(|codec| !codec.codec.is_red())
            .ok_or_else(|| negotiation::nothing_taken(&intent.mid))?;
        let info = TrackInfo {
            id: self.new_track_id(),
            client: self.world.clients[key].id.clone(),
            kind,
            source: intent.source,
            codec: codec.codec.name,
            layers: section.layers().min(negotiation::MAX_LAYERS) as u8,
            temporal_layers: 1,
            muted: false,
        };
        let makes_key_frames = intent.makes_key_frames;
        Ok(PolicyQuestion::Publish { info, mid: intent.mid.clone(), codec, makes_key_frames })
    }

    pub(super) fn subscribe_question(
        &self,
        now: Instant,
        key: ClientKey,
        pending: &PendingOffer,
        intent: &SubscribeIntent,
    ) -> Result<PolicyQuestion, String> {
        if let Some(reason) = self.no_right_to_subscribe(key) {
            return Err(reason.to_owned());
        }
        let (section, kind) = media_section(&pending.offer, &intent.mid)?;
        if !section.direction.receives() {
            return Err(format!("section {} does not receive", intent.mid));
        }
        let client = &self.world.clients[key];
        is_free(client, pending, &intent.mid, false)?;
        let track_key = match &intent.track {
            Some(id) => self.index.tracks.get(id).copied().filter(|k| self.world.tracks[*k].room == client.room),
            None => self.next_track_for(now, key, pending, (kind, section)),
        };
        let Some(track_key) = track_key else {
            return Err(match &intent.track {
                Some(id) => format!("there is no track {id}"),
                None => self.nothing_for(now, key, pending, (&intent.mid, kind, section)),
            });
        };
        let track = &self.world.tracks[track_key];
        if track.info.kind != kind {
            return Err(format!(
                "track {} is {}, section {} is not",
                track.info.id,
                track.info.kind.as_str(),
                intent.mid
            ));
        }
        if client.forward_of(track_key).is_some() || is_asked_for(pending, track_key) {
            return Err(format!("track {} is received already", track.info.id));
        }
        let asked = pending.questions.iter().filter(|q| matches!(q, PolicyQuestion::Subscribe { .. })).count();
        if client.outbound.forwards.iter().flatten().count() + asked >= MAX_FORWARDS {
            return Err(format!("a client may receive at most {MAX_FORWARDS} tracks"));
        }
        let codecs = negotiation::receive_codecs(section, &self.settings.codecs);
        let codec = negotiation::codec_for(&codecs, &track.codec, self.settings.h264_any_profile)
            .cloned()
            .ok_or_else(|| negotiation::mismatch(&intent.mid, &codecs, &track.codec))?;
        Ok(PolicyQuestion::Subscribe {
            track: track_key,
            mid: intent.mid.clone(),
            codec,
            follows: intent.track.is_none(),
        })
    }

    /// Why there is no track for a section that leaves the choice to the server.
    fn nothing_for(
        &self,
        now: Instant,
        key: ClientKey,
        pending: &PendingOffer,
        (mid, kind, section): (&Mid, Kind, &OfferSection),
    ) -> String {
        let client = &self.world.clients[key];
        let taken =
            |k: TrackKey, t: &Track| t.owner == key || client.forward_of(k).is_some() || is_asked_for(pending, k);
        match self.best_track(now, client.room, (kind, None), taken) {
            Some(other) => {
                let codecs = negotiation::receive_codecs(section, &self.settings.codecs);
                negotiation::mismatch(mid, &codecs, &self.world.tracks[other].codec)
            }
            None => format!("nothing is published that section {mid} could receive"),
        }
    }

    /// The track that serves the client best of those it neither publishes nor receives; preferably of the publisher
    /// it is to receive another from.
    fn next_track_for(
        &self,
        now: Instant,
        key: ClientKey,
        pending: &PendingOffer,
        (kind, section): (Kind, &OfferSection),
    ) -> Option<TrackKey> {
        let client = &self.world.clients[key];
        let codecs = negotiation::receive_codecs(section, &self.settings.codecs);
        let taken = |k: TrackKey, track: &Track| {
            track.owner == key
                || client.forward_of(k).is_some()
                || is_asked_for(pending, k)
                || negotiation::codec_for(&codecs, &track.codec, self.settings.h264_any_profile).is_none()
        };
        let preferred = pending.questions.iter().find_map(|q| match q {
            PolicyQuestion::Subscribe { track, .. } => Some(self.world.tracks[*track].owner),
            PolicyQuestion::Publish { .. } => None,
        });
        self.best_track(now, client.room, (kind, preferred), taken)
    }
}

/// A section carries one track, whatever its direction: browsers reuse one that receives for `addTrack`.
fn is_free(client: &Client, pending: &PendingOffer, mid: &Mid, publishes: bool) -> Result<(), String> {
    let hint = match client.section(mid) {
        Some(SectionUse::Receive(_)) if publishes => {
            " for receiving; publish in one of its own (addTransceiver with the direction sendonly)"
        }
        Some(SectionUse::Publish(_)) if !publishes => {
            " for publishing; receive in one of its own (addTransceiver with the direction recvonly)"
        }
        None if pending.questions.iter().all(|question| question.mid() != mid) => return Ok(()),
        _ => "",
    };
    Err(format!("section {mid} is in use{hint}"))
}

fn is_asked_for(pending: &PendingOffer, key: TrackKey) -> bool {
    pending.questions.iter().any(|q| matches!(q, PolicyQuestion::Subscribe { track, .. } if *track == key))
}

fn media_section<'o>(offer: &'o Offer, mid: &Mid) -> Result<(&'o OfferSection, Kind), String> {
    let section = offer.sections.iter().find(|s| s.mid == *mid).filter(|s| !s.stopped);
    match section.map(|s| (s, s.kind)) {
        Some((section, _)) if section.unbundled => Err(format!(
            "section {mid} is not in a=group:BUNDLE with the others, which share one transport; use the bundle policy max-bundle"
        )),
        Some((section, SectionKind::Media(kind))) => Ok((section, kind)),
        Some(_) => Err(format!("section {mid} carries no audio or video")),
        None => Err(format!("the offer has no section {mid}")),
    }
}
