//! What clients do, step by step: join, publish, subscribe, leave.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use moonring_core::command::{
    Command, Event, JoinRequest, LeaveCause, OfferRequest, PublishIntent, RefusalCode, SubscribeIntent,
};
use moonring_loadtest::media::{AudioSettings, AudioSource, VideoSettings, VideoSource};
use moonring_loadtest::peer::{Outbox, Peer};
use moonring_policy::client::{Connection, Via};
use moonring_wire::id::{ClientId, Mid, Ssrc, TrackId};
use moonring_wire::media::{CodecName, Source};
use moonring_wire::negotiate::{Offer, SectionOutcome};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;

use super::net::Link;
use super::raw::Raw;
use super::{Device, Feed, Got, Member, World, certificate, places, room};

impl World {
    /// A load-test peer joins room `demo`.
    pub(crate) fn join(&mut self, name: &str) -> usize {
        self.join_room(name, "demo")
    }

    pub(crate) fn join_room(&mut self, name: &str, room: &str) -> usize {
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(self.members.len() as u64);
        let peer = Peer::new(Arc::clone(&self.config), seed);
        self.add(name, room, Device::Peer(Box::new(peer), Box::default()))
    }

    /// A load-test peer joins room `demo` as an encoder or a player over HTTP would.
    pub(crate) fn join_via(&mut self, name: &str, via: Via) -> usize {
        self.via = via;
        let who = self.join(name);
        self.via = Via::WebSocket;
        who
    }

    /// A client made by hand joins room `demo`.
    pub(crate) fn join_raw(&mut self, name: &str) -> usize {
        self.join_raw_in("demo", name)
    }

    pub(crate) fn join_raw_in(&mut self, room: &str, name: &str) -> usize {
        let raw = Raw::new(certificate(), name);
        self.add(name, room, Device::Raw(Box::new(raw)))
    }

    /// Tracks that a member was told it publishes.
    pub(crate) fn published_by(&self, who: usize) -> Vec<TrackId> {
        let id = &self.members[who].id;
        let sections = self.events.iter().filter_map(|event| match event {
            Event::Answered { client, sections, .. } if client == id => Some(sections),
            _ => None,
        });
        let tracks = sections.flatten().filter_map(|section| section.track.as_ref());
        tracks.filter(|track| track.client == *id).map(|track| track.id.clone()).collect()
    }

    /// How many joins were refused with words that begin like this.
    pub(crate) fn refused_by(&self, words: &str) -> usize {
        let reason = |event: &Event| match event {
            Event::Left {
                cause:
                    LeaveCause::Limit(reason)
                    | LeaveCause::Later(reason)
                    | LeaveCause::Rejected(reason)
                    | LeaveCause::Undecided(_, reason),
                ..
            } => reason.starts_with(words),
            _ => false,
        };
        self.events.iter().filter(|event| reason(event)).count()
    }

    /// Bytes that the server has sent to an address.
    pub(crate) fn net_bytes_to(&self, address: SocketAddr) -> u64 {
        self.sent_to.get(&address).copied().unwrap_or_default()
    }

    fn add(&mut self, name: &str, to: &str, device: Device) -> usize {
        let n = self.members.len();
        let id = ClientId::parse(name).unwrap();
        let (host, port) = if self.net.is_home { (1, 5_000 + n as u16) } else { (n as u8 + 1, 5_000) };
        let address = SocketAddr::from(([10, 0, 1, host], port));
        self.members.push(Member {
            id: id.clone(),
            address,
            place: n % places::count(),
            up: Link::GOOD,
            down: Link::GOOD,
            behind: None,
            device,
            feeds: Vec::new(),
            paused: false,
            got: Vec::new(),
            forgotten: HashMap::new(),
            told: Vec::new(),
            sent: Vec::new(),
            outcomes: Vec::new(),
            datagrams_in: 0,
            requests: 0,
        });
        let (token, metadata) = (name.to_owned(), Value::Null);
        let connection = Box::new(Connection { via: self.via, ..address.ip().into() });
        self.command(Command::Join(JoinRequest { room: room(to), client: id, token, metadata, connection }));
        n
    }

    pub(crate) fn id(&self, who: usize) -> ClientId {
        self.members[who].id.clone()
    }

    pub(crate) fn peer(&mut self, who: usize) -> &mut Peer {
        match &mut self.members[who].device {
            Device::Peer(peer, _) => peer,
            Device::Raw(_) => panic!("{who} is made by hand"),
        }
    }

    /// The peer's outbox with it, for what needs both.
    pub(crate) fn peer_and_outbox(&mut self, who: usize) -> (&mut Peer, &mut Outbox) {
        match &mut self.members[who].device {
            Device::Peer(peer, outbox) => (peer, outbox),
            Device::Raw(_) => panic!("{who} is made by hand"),
        }
    }

    pub(crate) fn raw(&mut self, who: usize) -> &mut Raw {
        match &mut self.members[who].device {
            Device::Raw(raw) => raw,
            Device::Peer(..) => panic!("{who} is a peer"),
        }
    }

    /// Sends an offer as it is; what became of its sections.
    pub(crate) fn offer_with(
        &mut self,
        who: usize,
        offer: Offer,
        publish: Vec<PublishIntent>,
        subscribe: Vec<SubscribeIntent>,
    ) -> Vec<SectionOutcome> {
        let member = &mut self.members[who];
        member.requests += 1;
        let (client, request, before) = (member.id.clone(), member.requests, member.outcomes.len());
        self.command(Command::Offer(OfferRequest { client, request, offer: Box::new(offer), publish, subscribe }));
        self.members[who].outcomes.split_off(before)
    }

    /// Sends the device's own offer.
    pub(crate) fn offer(
        &mut self,
        who: usize,
        publish: Vec<PublishIntent>,
        subscribe: Vec<SubscribeIntent>,
    ) -> Vec<SectionOutcome> {
        let offer = match &self.members[who].device {
            Device::Peer(peer, _) => peer.offer(),
            Device::Raw(raw) => raw.offer(),
        };
        self.offer_with(who, offer, publish, subscribe)
    }

    /// Publishes and starts sending; the track's id.
    pub(crate) fn publish(&mut self, who: usize, codec: CodecName) -> TrackId {
        let outcomes = self.ask_to_publish(who, codec);
        outcomes[0].track.as_ref().unwrap_or_else(|| panic!("{outcomes:?}")).id.clone()
    }

    /// The same where the answer comes later.
    pub(crate) fn ask_to_publish(&mut self, who: usize, codec: CodecName) -> Vec<SectionOutcome> {
        let mid = self.peer(who).publish(codec);
        let outcomes = self.offer(
            who,
            vec![PublishIntent { mid: mid.clone(), source: source_of(codec), makes_key_frames: false }],
            vec![],
        );
        let rng = SmallRng::seed_from_u64(self.seed ^ (who as u64 + 77));
        let feed = match codec {
            CodecName::Opus => Feed::Audio(AudioSource::new(AudioSettings::default(), self.now, rng)),
            _ => Feed::Video(VideoSource::new(VideoSettings::default(), self.now, rng)),
        };
        self.members[who].feeds.push((mid, feed));
        outcomes
    }

    /// Receives a track; the section.
    pub(crate) fn subscribe(&mut self, who: usize, track: &TrackId, codec: CodecName) -> Mid {
        let mid = self.peer(who).receive(codec);
        let outcomes = self.offer(who, vec![], vec![wants(&mid, Some(track))]);
        assert_eq!(outcomes[0].reason, None);
        mid
    }

    /// Has a peer told to move to another shard, and lets it restart ICE; why it is not.
    pub(crate) fn begin_move(&mut self, who: usize, to: usize) -> Result<(), String> {
        let client = self.id(who);
        let before = self.events.len();
        self.command(Command::Move { id: 9, order: self.order_to(who, to) });
        let fresh = self.events.split_off(before);
        let answer = fresh.iter().find_map(|event| match event {
            Event::Called { id: 9, answer } => Some(answer.clone()),
            _ => None,
        });
        let is_told = fresh.iter().any(|event| matches!(event, Event::Restart { client: told } if *told == client));
        self.events.extend(fresh);
        answer.expect("an answer")?;
        assert!(is_told, "{client} is told to restart ICE");
        self.peer(who).restart_ice();
        self.offer(who, vec![], vec![]);
        Ok(())
    }

    /// Moves a client made by hand, which from its restart on sends to the other shard only.
    pub(crate) fn move_raw(&mut self, who: usize, to: usize) {
        self.command(Command::Move { id: 9, order: self.order_to(who, to) });
        self.members[who].requests += 1;
        let count = self.members[who].requests;
        let raw = self.raw(who);
        raw.ice.ufrag = format!("{}{count}", raw.ice.ufrag);
        raw.holds = true;
        self.offer(who, vec![], vec![]);
        self.members[who].place = to;
        self.raw(who).holds = false;
        let moved = self.moved;
        self.run_ms(100);
        assert_eq!(self.moved, moved + 1, "{} has moved", self.members[who].id);
    }

    /// The same as [`Self::begin_move`], and waits until it is there.
    pub(crate) fn move_to(&mut self, who: usize, to: usize) {
        self.begin_move(who, to).unwrap();
        self.run_ms(300);
        assert_eq!(self.members[who].place, to, "{} has moved", self.members[who].id);
    }

    pub(crate) fn leave(&mut self, who: usize) {
        let client = self.id(who);
        self.command(Command::Leave { client, reason: "left".into() });
    }

    /// Forgets what was received so far.
    pub(crate) fn forget_received(&mut self) {
        for member in &mut self.members {
            for got in &member.got {
                let highest = member.forgotten.entry(got.pt).or_default();
                *highest = got.counter.map_or(*highest, |counter| counter.max(*highest));
            }
            member.got.clear();
            member.sent.clear();
            member.told.clear();
        }
    }

    /// What `who` received with payload type `pt`.
    pub(crate) fn got(&self, who: usize, pt: u8) -> Vec<Got> {
        self.members[who].got.iter().filter(|got| got.pt == pt).cloned().collect()
    }

    /// Takes the refusals that came since the last call.
    pub(crate) fn refusals(&mut self) -> Vec<(RefusalCode, String)> {
        let events = std::mem::take(&mut self.events);
        let refusal = |event| match event {
            Event::Refused { code, message, .. } => Some((code, message)),
            _ => None,
        };
        events.into_iter().filter_map(refusal).collect()
    }

    /// The events that came since the last call, for `who`, in words.
    pub(crate) fn take_words(&mut self, who: usize) -> Vec<String> {
        let id = format!("client: {:?}", self.members[who].id.as_str());
        let (mine, others) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|event| format!("{event:?}").contains(&id) && !matches!(event, Event::Answered { .. }));
        self.events = others;
        let mine: Vec<Event> = mine;
        mine.iter().map(words).collect()
    }
}

/// An event in words, of which the first is its name.
fn words(event: &Event) -> String {
    match event.news() {
        Some(news) => format!("{news:?}").replacen('(', " (", 1),
        None => format!("{event:?}"),
    }
}

fn source_of(codec: CodecName) -> Source {
    if codec == CodecName::Opus { Source::Microphone } else { Source::Camera }
}

pub(crate) fn sends(mid: &str) -> PublishIntent {
    PublishIntent { mid: Mid::parse(mid).unwrap(), source: Source::Camera, makes_key_frames: false }
}

pub(crate) fn wants(mid: &Mid, track: Option<&TrackId>) -> SubscribeIntent {
    SubscribeIntent { mid: mid.clone(), track: track.cloned() }
}

/// The extended sequence numbers of packets that came in any order within a half round of each other.
pub(crate) fn unwrapped(got: &[Got]) -> Vec<i64> {
    let mut last = got.first().map_or(0, |first| i64::from(first.sequence));
    let mut all = Vec::new();
    for packet in got {
        let step = packet.sequence.wrapping_sub(last as u16) as i16;
        last += i64::from(step);
        all.push(last);
    }
    all
}

/// Asserts that the packets are of one SSRC and follow each other without a gap, a repetition or a step back.
pub(crate) fn assert_unbroken(got: &[Got]) {
    assert!(!got.is_empty(), "something came");
    let sequences = unwrapped(got);
    for (n, pair) in sequences.windows(2).enumerate() {
        assert_eq!(pair[1], pair[0] + 1, "packet {n} of {}", got.len());
    }
    let ssrcs: Vec<Ssrc> = got.iter().map(|g| g.ssrc).collect();
    assert!(ssrcs.iter().all(|ssrc| *ssrc == ssrcs[0]), "one stream");
}
