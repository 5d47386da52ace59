//! One connected user: its transport, what it publishes, what it receives.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::congestion::Congestion;
use super::former::FormerStreams;
use super::forward::{Forward, OutgoingSsrcs, Terms};
use moonring_policy::hook::ClientFacts;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientId, ClientKey, Mid, PlaceId, RoomKey, Ssrc, TrackId, TrackKey};
use moonring_wire::media::TrackInfo;
use moonring_wire::negotiate::{AnswerCodec, Fingerprint, IceCredentials, Offer, Setup};
use moonring_wire::negotiate::{RequestId, SectionOutcome};
use moonring_wire::packet::AddressPair;
use moonring_wire::rtp::twcc::ArrivalRecorder;
use moonring_wire::transport::Transport;

/// Time between two RTCP reports to one client.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(1000);
/// Time between two transport-wide feedback packets to a publisher.
pub const FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);
/// Most tracks that one client may receive, over all of its offers: as many as one offer has sections.
pub const MAX_FORWARDS: usize = moonring_wire::negotiate::MAX_SECTIONS;
/// Most SSRCs that one client may send with (each simulcast layer needs two).
pub const MAX_SSRCS: usize = 256;

/// Which stream an incoming SSRC is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The track.
    pub track: TrackKey,
    /// Its layer.
    pub layer: u8,
    /// True for retransmissions.
    pub rtx: bool,
}

/// What a media section of a client is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionUse {
    /// The client publishes there.
    Publish(TrackKey),
    /// The client receives there: place in [`Outbound::forwards`].
    Receive(u16),
}

/// One thing an offer asks of the policy.
#[derive(Clone, Debug)]
pub enum PolicyQuestion {
    /// May this be published?
    Publish {
        /// The track as it would be.
        info: TrackInfo,
        /// Which section.
        mid: Mid,
        /// What it would be sent in.
        codec: AnswerCodec,
        /// See [`Track::ask_by_message`](super::track::Track::ask_by_message).
        makes_key_frames: bool,
    },
    /// May this be received?
    Subscribe {
        /// Which track.
        track: TrackKey,
        /// Which section.
        mid: Mid,
        /// The client's payload types for it.
        codec: AnswerCodec,
        /// The server has chosen the track.
        follows: bool,
    },
}

impl PolicyQuestion {
    /// Which section.
    pub fn mid(&self) -> &Mid {
        match self {
            Self::Publish { mid, .. } | Self::Subscribe { mid, .. } => mid,
        }
    }
}

/// An offer whose policy questions are not all answered yet. They are asked one after the other, so that each is
/// asked in a room where the one before has taken effect.
#[derive(Debug)]
pub struct PendingOffer {
    /// The client's number for it.
    pub request: RequestId,
    /// The description.
    pub offer: Box<Offer>,
    /// The questions left.
    pub questions: VecDeque<PolicyQuestion>,
    /// What the policy is being asked.
    pub asked: Option<PolicyQuestion>,
    /// What came out so far.
    pub outcomes: Vec<SectionOutcome>,
}

/// One connected user.
pub struct Client {
    /// Its dense key.
    pub key: ClientKey,
    /// Its name.
    pub id: ClientId,
    /// Where it is.
    pub room: RoomKey,
    /// The shard that it is on, if that is another one: it has no transport here, and is told nothing.
    pub far: Option<PlaceId>,
    /// What its policy may know of it.
    pub facts: Rc<ClientFacts>,
    /// True while the others know that it is there.
    pub is_announced: bool,
    /// True for one that was admitted while its room was small enough to be told of everybody.
    pub came_early: bool,
    /// Its secure path, from its first offer on.
    pub transport: Option<Transport>,
    /// What its offers and their answers agreed on.
    pub negotiated: Negotiated,
    /// What comes from it.
    pub inbound: Inbound,
    /// What goes to it.
    pub outbound: Outbound,
    /// When something is due for it.
    pub deadlines: Deadlines,
    /// How the shard finds it by what arrives.
    pub reach: Reach,
}

/// What a client's offers and their answers agreed on.
#[derive(Debug)]
pub struct Negotiated {
    /// The server's ICE credentials for it.
    pub local_ice: IceCredentials,
    /// The client's ICE credentials of its last offer.
    pub remote_ice: Option<IceCredentials>,
    /// Its certificate, from its first offer on.
    pub fingerprint: Option<Fingerprint>,
    /// The server's certificate that it has made its handshake with, which may be another node's.
    pub shown: Option<Fingerprint>,
    /// The server's DTLS role towards it.
    pub setup: Setup,
    /// What its media sections are used for.
    pub sections: Vec<(Mid, SectionUse)>,
    /// The offer being decided on.
    pub pending: Option<PendingOffer>,
    /// Counts its answers.
    pub answers: u64,
}

/// What comes from a client.
#[derive(Debug)]
pub struct Inbound {
    /// Which stream each SSRC is.
    pub streams: BTreeMap<Ssrc, Incoming>,
    /// What it publishes.
    pub published: Vec<TrackKey>,
    /// When its transport-wide sequence numbers came; `None` until the first.
    pub arrivals: Option<ArrivalRecorder>,
    /// What it may publish, in bit/s, as the policy says.
    pub max_bitrate_bps: Option<u64>,
    /// It was told to send less than it could, in a REMB: what ends that is another one.
    pub was_held: bool,
    /// Before this no key frame is asked for: encoders that make one after the other send nothing else.
    pub key_frames_from: Option<Instant>,
    /// The SSRC of the server's reports to it.
    pub report_ssrc: Ssrc,
    /// Scratch for the numbers of missing packets.
    pub sequences: Vec<u16>,
    /// Reasons for which packets of it were dropped that the log has told of.
    pub explained: Vec<DropReason>,
    /// Streams of layers that have ended with their tracks.
    pub former: FormerStreams,
}

/// What goes to a client.
#[derive(Debug, Default)]
pub struct Outbound {
    /// What it receives; a free place is `None`.
    pub forwards: Vec<Option<Forward>>,
    /// What they are known by.
    pub known_by: OutgoingSsrcs,
    /// Places in `forwards` with packets waiting.
    pub todo: Vec<u16>,
    /// SSRCs given out under its keys: none is given out twice, as its indexes would seal twice.
    pub ssrcs: FreshSsrcs,
    /// True while the client is in its room's list of those with packets waiting.
    pub is_touched: bool,
    /// Since when nothing is left of what the server chose for it.
    pub lost_at: Option<Instant>,
    /// What the policy says of tracks of its room, received or not, where that is not the default.
    pub terms: BTreeMap<TrackId, Terms>,
    /// When its layers were chosen last.
    pub chosen: Option<Instant>,
    /// What its path carries; from its first forward on.
    pub congestion: Option<Box<Congestion>>,
}

impl Outbound {
    /// Puts a forward into this place.
    pub fn put_forward(&mut self, place: u16, forward: Forward) {
        self.known_by.set(place, Some(&forward.stream));
        let place = usize::from(place);
        if self.forwards.len() <= place {
            self.forwards.resize_with(place + 1, || None);
        }
        self.forwards[place] = Some(forward);
    }

    /// What the policy says of a track, which may be received or not.
    pub fn terms_of(&self, track: &TrackId) -> Terms {
        self.terms.get(track).copied().unwrap_or_default()
    }
}

/// SSRCs that do not repeat, without a list of those that were given out: a client may subscribe and unsubscribe for days.
#[derive(Debug, Default)]
pub struct FreshSsrcs {
    last: u32,
}

impl FreshSsrcs {
    /// Odd, so that every one of the 2³² numbers comes once before the first comes again; about 2³² over the golden
    /// ratio, so that neighbours are far apart.
    const STEP: u32 = 0x9E37_79B1;

    /// The last one, behind which another place goes on.
    pub fn last(&self) -> Ssrc {
        Ssrc(self.last)
    }

    /// Begins anywhere.
    pub fn from(start: Ssrc) -> Self {
        Self { last: start.0 }
    }

    /// The next one. It is neither 0, which stands for none in some implementations, nor `except`.
    pub fn next(&mut self, except: Ssrc) -> Ssrc {
        loop {
            self.last = self.last.wrapping_add(Self::STEP);
            if self.last != 0 && self.last != except.0 {
                return Ssrc(self.last);
            }
        }
    }
}

/// When something is due for a client.
#[derive(Debug)]
pub struct Deadlines {
    /// Reports.
    pub report: Instant,
    /// Transport-wide feedback; `None` while nothing came.
    pub feedback: Option<Instant>,
    /// When packets are asked for again that came to the shard it has moved from.
    pub former: Option<Instant>,
    /// When its pacer lets pictures pass again, or a packet has waited long enough for what is behind it.
    pub pace: Option<Instant>,
    /// When the handshake must be done.
    pub connect_by: Option<Instant>,
    /// The timer set for it.
    pub scheduled: Option<Instant>,
}

/// How the shard finds a client by what arrives.
#[derive(Debug)]
pub struct Reach {
    /// ICE ufrags under which the shard knows it: the current one and, after a restart, the one before.
    pub ufrags: Vec<String>,
    /// Addresses under which the shard knows it.
    pub addresses: Vec<AddressPair>,
}

impl Client {
    /// More is known of a client that is elsewhere; what it publishes stays.
    pub fn know_as(&mut self, facts: Rc<ClientFacts>) {
        facts.tracks.replace(self.facts.tracks.take());
        self.facts = facts;
    }

    /// A client that has not offered yet.
    pub fn new(
        key: ClientKey,
        room: RoomKey,
        facts: Rc<ClientFacts>,
        ice: IceCredentials,
        report_ssrc: Ssrc,
        now: Instant,
    ) -> Self {
        Self {
            key,
            id: facts.id.clone(),
            room,
            far: None,
            facts,
            is_announced: false,
            came_early: false,
            transport: None,
            reach: Reach { ufrags: vec![ice.ufrag.clone()], addresses: Vec::new() },
            negotiated: Negotiated {
                local_ice: ice,
                remote_ice: None,
                fingerprint: None,
                shown: None,
                setup: Setup::Passive,
                sections: Vec::new(),
                pending: None,
                answers: 0,
            },
            inbound: Inbound {
                streams: BTreeMap::new(),
                published: Vec::new(),
                arrivals: None,
                max_bitrate_bps: None,
                was_held: false,
                key_frames_from: None,
                report_ssrc,
                sequences: Vec::new(),
                explained: Vec::new(),
                former: FormerStreams::default(),
            },
            outbound: Outbound { ssrcs: FreshSsrcs::from(report_ssrc), ..Outbound::default() },
            deadlines: Deadlines {
                report: now + REPORT_INTERVAL,
                feedback: None,
                former: None,
                pace: None,
                connect_by: None,
                scheduled: None,
            },
        }
    }

    /// What its media goes over, for operators: `"udp"` or `"tcp"`; `None` before it is sent to, and elsewhere.
    pub fn transport_name(&self) -> Option<&'static str> {
        let address = self.transport.as_ref()?.selected()?;
        Some(if address.is_connection() { "tcp" } else { "udp" })
    }

    /// What the section `mid` is used for.
    pub fn section(&self, mid: &Mid) -> Option<SectionUse> {
        self.negotiated.sections.iter().find(|(m, _)| m == mid).map(|(_, used)| *used)
    }

    /// Puts a forward into a free place; its place.
    pub fn add_forward(&mut self, forward: Forward) -> u16 {
        let forwards = &self.outbound.forwards;
        let place = forwards.iter().position(Option::is_none).unwrap_or(forwards.len()) as u16;
        self.negotiated.sections.retain(|(mid, _)| *mid != forward.mid);
        self.negotiated.sections.push((forward.mid.clone(), SectionUse::Receive(place)));
        self.outbound.put_forward(place, forward);
        place
    }

    /// Takes the forward at `place` out.
    pub fn remove_forward(&mut self, place: u16) -> Option<Forward> {
        self.negotiated.sections.retain(|(_, used)| *used != SectionUse::Receive(place));
        self.outbound.todo.retain(|p| *p != place);
        self.outbound.known_by.set(place, None);
        self.outbound.forwards.get_mut(usize::from(place))?.take()
    }

    /// The place of the forward of `track`.
    pub fn forward_of(&self, track: TrackKey) -> Option<u16> {
        let is_it = |f: &Option<Forward>| f.as_ref().is_some_and(|f| f.track == track);
        self.outbound.forwards.iter().position(is_it).map(|place| place as u16)
    }

    /// The place of the forward whose SSRC, or whose retransmissions' SSRC, is `ssrc`.
    pub fn forward_with(&self, ssrc: Ssrc) -> Option<u16> {
        self.outbound.known_by.place_of(ssrc)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ssrcs_do_not_repeat_and_leave_out_the_reports_own() {
        for start in [0, 1, u32::MAX, 0x9E37_79B1] {
            let (mut fresh, report) = (FreshSsrcs::from(Ssrc(start)), Ssrc(start.wrapping_add(FreshSsrcs::STEP)));
            let given: HashSet<Ssrc> = (0..100_000).map(|_| fresh.next(report)).collect();
            assert_eq!(given.len(), 100_000);
            assert!(!given.contains(&Ssrc(0)) && !given.contains(&report));
        }
    }
}
