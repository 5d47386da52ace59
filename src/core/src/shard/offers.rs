//! Offers and answers: what a client wants to publish and receive, decided one question after the other.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::json;

use super::faults::Stage;
use super::{PendingHook, Shard};
use crate::command::{Event, News, OfferRequest, RefusalCode};
use crate::room::client::{Incoming, PendingOffer, PolicyQuestion, SectionUse};
use crate::room::congestion::Congestion;
use crate::room::forward::{Forward, OutgoingStream, Rtx};
use crate::room::negotiation;
use crate::room::track::{Publication, Track};
use moonring_policy::hook::{HookCall, Presence, Verdict};
use moonring_wire::id::{ClientKey, Mid, TrackId, TrackKey};
use moonring_wire::media::{Kind, TrackInfo};
use moonring_wire::negotiate::SectionOutcome;
use moonring_wire::negotiate::{Answer, AnswerCodec, Offer, Setup};
use moonring_wire::transport::Transport;
use moonring_wire::transport::dtls::DtlsRole;

impl Shard {
    pub(super) fn offer(&mut self, now: Instant, request: OfferRequest) {
        let OfferRequest { client: id, request, offer, publish, subscribe } = request;
        let id = &id;
        let Some(key) = self.index.clients.get(id).copied() else { return };
        let client = &self.world.clients[key];
        if client.facts.presence.get() != Presence::Joined || client.negotiated.pending.is_some() {
            let words = "the answer to the previous message is not there yet".to_owned();
            return self.refuse(id, Some(request), RefusalCode::Busy, words);
        }
        if client.negotiated.fingerprint.is_some_and(|known| known != offer.fingerprint) {
            let words = "a=fingerprint: the certificate of a client must stay the same; join again".to_owned();
            return self.refuse(id, Some(request), RefusalCode::BadOffer, words);
        }
        // First, so that what it asks for anew, in another section, is not in its own way.
        self.drop_ended_sections(now, key, &offer);
        if !self.world.clients.contains_key(key) {
            return; // nothing was left of its session
        }
        let mut pending =
            PendingOffer { request, offer, questions: VecDeque::new(), asked: None, outcomes: Vec::new() };
        for intent in publish {
            match self.publish_question(key, &pending, &intent) {
                Ok(question) => pending.questions.push_back(question),
                Err(reason) => pending.outcomes.push(refused(intent.mid, reason)),
            }
        }
        for intent in subscribe {
            match self.subscribe_question(now, key, &pending, &intent) {
                Ok(question) => pending.questions.push_back(question),
                Err(reason) => pending.outcomes.push(refused(intent.mid, reason)),
            }
        }
        self.world.clients[key].negotiated.pending = Some(pending);
        self.stage(Stage::Offered);
        self.ask_next(now, key);
    }

    /// Puts the next question to the policy, or answers the offer when there is none left.
    fn ask_next(&mut self, now: Instant, key: ClientKey) {
        loop {
            let Some(client) = self.world.clients.get_mut(key) else { return };
            let Some(pending) = &mut client.negotiated.pending else { return };
            let Some(question) = pending.questions.pop_front() else { return self.answer(now, key) };
            let (room, facts) = (client.room, client.facts.clone());
            let call = match &question {
                PolicyQuestion::Publish { info, .. } => HookCall::PublishRequest { client: facts, track: info.clone() },
                PolicyQuestion::Subscribe { track, mid, .. } => match self.world.tracks.get(*track) {
                    Some(track) => HookCall::SubscribeRequest { client: facts, track: track.info.clone() },
                    None => {
                        pending.outcomes.push(refused(mid.clone(), "the track is gone".to_owned()));
                        continue;
                    }
                },
            };
            pending.asked = Some(question);
            return self.ask(now, room, PendingHook::Offer(key), call);
        }
    }

    /// Does what the policy has decided, at once, and goes on to the next question.
    pub(super) fn question_decided(&mut self, now: Instant, key: ClientKey, verdict: Verdict) {
        let asked =
            self.world.clients.get_mut(key).and_then(|c| c.negotiated.pending.as_mut()).and_then(|p| p.asked.take());
        let Some(question) = asked else { return };
        // The policy may have taken the right while it was asked.
        let no_right = match &question {
            PolicyQuestion::Publish { info, .. } => self.no_right_to_publish(key, info.source),
            PolicyQuestion::Subscribe { .. } => self.no_right_to_subscribe(key),
        };
        let verdict = no_right.map_or(verdict, |reason| Verdict::Reject(reason.to_owned()));
        let outcome = match (verdict, question) {
            (
                Verdict::Reject(reason) | Verdict::Undecided(_, reason),
                PolicyQuestion::Publish { mid, .. } | PolicyQuestion::Subscribe { mid, .. },
            ) => refused(mid, reason),
            (Verdict::Allow, PolicyQuestion::Publish { info, mid, codec, makes_key_frames }) => {
                self.publish(now, key, info, mid, (&codec, makes_key_frames))
            }
            (Verdict::Allow, PolicyQuestion::Subscribe { track, mid, codec, follows }) => {
                let outcome = self.subscribe(now, key, track, mid, &codec);
                self.set_follows(key, track, follows);
                outcome
            }
        };
        if let Some(pending) = self.world.clients.get_mut(key).and_then(|c| c.negotiated.pending.as_mut()) {
            pending.outcomes.push(outcome);
        }
        self.ask_next(now, key);
    }

    fn publish(
        &mut self,
        now: Instant,
        key: ClientKey,
        info: TrackInfo,
        mid: Mid,
        (codec, makes_key_frames): (&AnswerCodec, bool),
    ) -> SectionOutcome {
        let client = &self.world.clients[key];
        let section = client.negotiated.pending.as_ref().and_then(|p| p.offer.sections.iter().find(|s| s.mid == mid));
        let Some(section) = section else { return refused(mid, "the section is gone".to_owned()) };
        let limits = match info.kind {
            Kind::Video => self.settings.video_history,
            Kind::Audio => self.settings.audio_history,
        };
        let layers = section.layers().min(negotiation::MAX_LAYERS);
        let publication = Publication {
            info: info.clone(),
            room: client.room,
            owner: key,
            mid: mid.clone(),
            codec,
            answered: negotiation::publish_codecs(section, &self.settings.codecs),
            layers,
            rids: &section.rids,
            ssrcs: &section.ssrcs,
        };
        let mut track = Track::new(publication, limits);
        if makes_key_frames {
            track.ask_by_message();
        }
        let (room_key, facts) = (client.room, client.facts.clone());
        let streams: Vec<_> = track.layers.iter().map(|l| (l.ssrc, l.rtx_ssrc)).collect();
        let track_key = self.world.tracks.insert(track);
        self.index.tracks.insert(info.id.clone(), track_key);
        self.stage(Stage::Publishing);
        for (layer, (ssrc, rtx)) in streams.into_iter().enumerate() {
            for (ssrc, is_rtx) in [(ssrc, false), (rtx, true)] {
                if let Some(ssrc) = ssrc {
                    let incoming = Incoming { track: track_key, layer: layer as u8, rtx: is_rtx };
                    self.bind_ssrc(now, key, ssrc, incoming);
                }
            }
        }
        self.bind_former(now, key, track_key);
        let client = &mut self.world.clients[key];
        client.inbound.published.push(track_key);
        client.negotiated.sections.push((mid.clone(), SectionUse::Publish(track_key)));
        if let Some(room) = self.world.rooms.get_mut(room_key) {
            room.tracks.push(track_key);
        }
        self.update_facts(key);
        self.announce(key);
        self.tell_room(room_key, Some(key), News::TrackPublished(info.clone()));
        self.tell_webhook(room_key, "track_published", || json!(info));
        self.notify_policy(now, room_key, HookCall::TrackPublished { client: facts, track: info.clone() });
        SectionOutcome { mid, track: Some(info), reason: None }
    }

    fn subscribe(
        &mut self,
        now: Instant,
        key: ClientKey,
        track_key: TrackKey,
        mid: Mid,
        codec: &AnswerCodec,
    ) -> SectionOutcome {
        let (ssrc, rtx_ssrc) = (self.fresh_ssrc(key), self.fresh_ssrc(key));
        let first = rand::Rng::random_range(&mut self.rng, 0..1u64 << 15);
        let Some(track) = self.world.tracks.get_mut(track_key) else {
            return refused(mid, "the track is gone".to_owned());
        };
        let numbered = codec.feedback.transport_cc;
        let rtx = codec.rtx.map(|pt| Rtx { ssrc: rtx_ssrc, pt, next_index: first });
        let stream = OutgoingStream { rtx, numbered, nack: codec.feedback.nack, ..OutgoingStream::new(ssrc, codec.pt) };
        let mut forward = Forward::new((track_key, track), mid.clone(), stream, first);
        let info = track.info.clone();
        let outbound = &mut self.world.clients[key].outbound;
        forward.limits.policy = outbound.terms_of(&info.id);
        let path = outbound.congestion.get_or_insert_with(|| Box::new(Congestion::new(now)));
        if numbered {
            path.expect_feedback();
        }
        let place = self.world.clients[key].add_forward(forward);
        self.world.tracks[track_key].subscribers.push((key, place));
        self.choose_layers(now, key);
        self.tell_wanted_layers(track_key);
        SectionOutcome { mid, track: Some(info), reason: None }
    }

    /// Answers the pending offer: everything in it has been decided on.
    fn answer(&mut self, now: Instant, key: ClientKey) {
        let Some(pending) = self.world.clients.get_mut(key).and_then(|c| c.negotiated.pending.take()) else { return };
        self.set_up_transport(now, key, &pending.offer);
        for (mid, used) in self.world.clients[key].negotiated.sections.clone() {
            let section = pending.offer.sections.iter().find(|s| s.mid == mid && !s.stopped);
            if let (SectionUse::Publish(track), Some(section)) = (used, section) {
                self.follow_offer(now, key, track, section);
            }
        }
        let sections = pending.offer.sections.iter().map(|s| self.answer_section(key, s)).collect();
        let candidates = self.candidates_for(now, &self.world.clients[key].id);
        let client = &mut self.world.clients[key];
        client.negotiated.answers += 1;
        let answer = Answer {
            version: client.negotiated.answers,
            ice: client.negotiated.local_ice.clone(),
            fingerprint: client.negotiated.shown.unwrap_or_else(|| self.settings.transport.certificate.fingerprint()),
            setup: client.negotiated.setup,
            candidates,
            over_tcp: self.settings.over_tcp,
            sections,
        };
        self.work.events.push(Event::Answered {
            client: client.id.clone(),
            request: pending.request,
            answer: Box::new(answer),
            sections: pending.outcomes,
        });
        self.schedule(key);
    }

    /// What the offer no longer sends or receives is unpublished or unsubscribed; so is, with a word to the client, what it
    /// has the codec no longer for (RFC 3264 section 8.3.2).
    fn drop_ended_sections(&mut self, now: Instant, key: ClientKey, offer: &Offer) {
        for (mid, used) in self.world.clients[key].negotiated.sections.clone() {
            let section = offer.sections.iter().find(|s| s.mid == mid).filter(|s| !s.stopped && !s.unbundled);
            match used {
                SectionUse::Publish(track) if section.is_none_or(|s| !s.direction.sends()) => {
                    self.remove_track(now, track)
                }
                SectionUse::Receive(place) if section.is_none_or(|s| !s.direction.receives()) => {
                    self.remove_forward(key, place);
                }
                SectionUse::Publish(track) => {
                    if let Some(reason) = section.and_then(|section| self.no_codec_to_publish(section)) {
                        self.end_track(now, track, &reason);
                    }
                }
                SectionUse::Receive(place) => {
                    if let Some(reason) = section.and_then(|section| self.no_codec_to_receive(key, place, section)) {
                        self.end_subscription(now, key, place, &reason);
                    }
                }
            }
        }
    }

    fn set_up_transport(&mut self, now: Instant, key: ClientKey, offer: &Offer) {
        let ice = offer.ice_of(|section| negotiation::is_usable(section, &self.settings.codecs));
        let restarts = self.world.clients[key].negotiated.remote_ice.as_ref().is_some_and(|known| known != ice);
        let fresh = restarts.then(|| self.new_ice_credentials());
        let client = &mut self.world.clients[key];
        client.negotiated.remote_ice = Some(ice.clone());
        let has_transport = client.transport.is_some();
        match (&mut client.transport, fresh) {
            (Some(transport), Some(fresh)) => {
                client.negotiated.local_ice = fresh.clone();
                self.index.ufrags.insert(fresh.ufrag.clone(), key);
                client.reach.ufrags.push(fresh.ufrag.clone());
                transport.restart_ice(fresh, ice.clone());
                // Requests with the credentials before the restart are answered until the new ones are used.
                let (local, previous) = (&client.negotiated.local_ice.ufrag, transport.ice().previous_ufrag());
                client.reach.ufrags.retain(|ufrag| {
                    let known = ufrag == local || Some(ufrag.as_str()) == previous;
                    if !known {
                        self.index.ufrags.remove(ufrag);
                    }
                    known
                });
            }
            (Some(_), None) => {}
            (None, _) => {
                client.negotiated.setup = negotiation::answer_setup(offer.setup);
                client.negotiated.fingerprint = Some(offer.fingerprint);
                client.negotiated.shown = Some(self.settings.transport.certificate.fingerprint());
                let role = if client.negotiated.setup == Setup::Active { DtlsRole::Client } else { DtlsRole::Server };
                let (local, remote) = (client.negotiated.local_ice.clone(), ice.clone());
                let config = &self.settings.transport;
                client.transport = Some(Transport::new(now, config, local, remote, offer.fingerprint, role));
                client.deadlines.connect_by = Some(now + self.settings.connect_timeout);
            }
        }
        if restarts && has_transport {
            self.announce_move(now, key, ice);
        }
    }

    /// Keeps what the policy may know of a client's tracks current.
    pub(super) fn update_facts(&mut self, key: ClientKey) {
        let Some(client) = self.world.clients.get(key) else { return };
        let tracks =
            client.inbound.published.iter().filter_map(|k| self.world.tracks.get(*k)).map(|t| t.info.clone()).collect();
        *client.facts.tracks.borrow_mut() = tracks;
    }

    pub(super) fn new_track_id(&mut self) -> TrackId {
        loop {
            let text = format!("t{:016x}", rand::Rng::random::<u64>(&mut self.rng));
            if let Ok(id) = TrackId::parse(&text)
                && !self.index.tracks.contains_key(&id)
            {
                return id;
            }
        }
    }
}

fn refused(mid: Mid, reason: String) -> SectionOutcome {
    SectionOutcome { mid, track: None, reason: Some(reason) }
}
