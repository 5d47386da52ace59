//! One connected user: its transport, what it publishes, what it receives.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::forward::Forward;
use moonring_policy::hook::ClientFacts;
use moonring_wire::id::{ClientId, ClientKey, Mid, RoomKey, Ssrc, TrackKey};
use moonring_wire::media::{ExtensionIds, TrackInfo};
use moonring_wire::negotiate::{AnswerCodec, Fingerprint, IceCredentials, Offer, Setup};
use moonring_wire::negotiate::{RequestId, SectionOutcome};
use moonring_wire::rtp::twcc::ArrivalRecorder;
use moonring_wire::transport::Transport;

/// Time between two RTCP reports to one client.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(1000);
/// Time between two transport-wide feedback packets to a publisher.
pub const FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);
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
pub enum Use {
    /// The client publishes there.
    Publish(TrackKey),
    /// The client receives there: place in [`Client::forwards`].
    Receive(u16),
}

/// One thing an offer asks of the policy.
#[derive(Clone, Debug)]
pub enum Question {
    /// May this be published?
    Publish {
        /// The track as it would be.
        info: TrackInfo,
        /// Which section.
        mid: Mid,
        /// What it would be sent in.
        codec: AnswerCodec,
    },
    /// May this be received?
    Subscribe {
        /// Which track.
        track: TrackKey,
        /// Which section.
        mid: Mid,
        /// The client's payload types for it.
        codec: AnswerCodec,
    },
}

impl Question {
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
    pub questions: VecDeque<Question>,
    /// What the policy is being asked.
    pub asked: Option<Question>,
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
    /// What its policy may know of it.
    pub facts: Rc<ClientFacts>,
    /// Its secure path, from its first offer on.
    pub transport: Option<Transport>,
    /// The server's ICE credentials for it.
    pub local_ice: IceCredentials,
    /// The client's ICE credentials of its last offer.
    pub remote_ice: Option<IceCredentials>,
    /// Its certificate, from its first offer on.
    pub fingerprint: Option<Fingerprint>,
    /// The server's DTLS role towards it.
    pub setup: Setup,
    /// Its ids of header extensions.
    pub extensions: ExtensionIds,
    /// What its media sections are used for.
    pub sections: Vec<(Mid, Use)>,
    /// Its incoming streams.
    pub incoming: HashMap<Ssrc, Incoming>,
    /// What it publishes.
    pub published: Vec<TrackKey>,
    /// What it receives; a free place is `None`.
    pub forwards: Vec<Option<Forward>>,
    /// Places in `forwards` with packets waiting.
    pub todo: Vec<u16>,
    /// The offer being decided on.
    pub pending: Option<PendingOffer>,
    /// Counts its answers.
    pub answers: u64,
    /// When its transport-wide sequence numbers came; `None` until the first.
    pub arrivals: Option<ArrivalRecorder>,
    /// What it may publish, in bit/s, as the policy says.
    pub max_bitrate_bps: Option<u64>,
    /// What it can receive, in bit/s, as it says (REMB).
    pub remb_bps: Option<u64>,
    /// The SSRC of reports to it.
    pub report_ssrc: Ssrc,
    /// Scratch for the numbers of missing packets.
    pub sequences: Vec<u16>,
    /// When reports are due.
    pub next_report: Instant,
    /// When transport-wide feedback is due; `None` while nothing came.
    pub next_feedback: Option<Instant>,
    /// When the handshake must be done.
    pub connect_by: Option<Instant>,
    /// The timer set for it.
    pub scheduled: Option<Instant>,
    /// ICE ufrags under which the shard knows it: the current one and, after a restart, the one before.
    pub ufrags: Vec<String>,
    /// Addresses under which the shard knows it.
    pub addresses: Vec<SocketAddr>,
}

impl Client {
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
            ufrags: vec![ice.ufrag.clone()],
            id: facts.id.clone(),
            room,
            facts,
            transport: None,
            local_ice: ice,
            remote_ice: None,
            fingerprint: None,
            setup: Setup::Passive,
            extensions: ExtensionIds::default(),
            sections: Vec::new(),
            incoming: HashMap::new(),
            published: Vec::new(),
            forwards: Vec::new(),
            todo: Vec::new(),
            pending: None,
            answers: 0,
            arrivals: None,
            max_bitrate_bps: None,
            remb_bps: None,
            report_ssrc,
            sequences: Vec::new(),
            next_report: now + REPORT_INTERVAL,
            next_feedback: None,
            connect_by: None,
            scheduled: None,
            addresses: Vec::new(),
        }
    }

    /// What the section `mid` is used for.
    pub fn section(&self, mid: &Mid) -> Option<Use> {
        self.sections.iter().find(|(m, _)| m == mid).map(|(_, used)| *used)
    }

    /// Puts a forward into a free place; its place.
    pub fn add_forward(&mut self, forward: Forward) -> u16 {
        let place = match self.forwards.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                self.forwards.push(None);
                self.forwards.len() - 1
            }
        };
        self.sections.retain(|(mid, _)| *mid != forward.mid);
        self.sections.push((forward.mid.clone(), Use::Receive(place as u16)));
        self.forwards[place] = Some(forward);
        place as u16
    }

    /// Takes the forward at `place` out.
    pub fn remove_forward(&mut self, place: u16) -> Option<Forward> {
        self.sections.retain(|(_, used)| *used != Use::Receive(place));
        self.todo.retain(|p| *p != place);
        self.forwards.get_mut(usize::from(place))?.take()
    }

    /// The place of the forward of `track`.
    pub fn forward_of(&self, track: TrackKey) -> Option<u16> {
        let is_it = |f: &Option<Forward>| f.as_ref().is_some_and(|f| f.track == track);
        self.forwards.iter().position(is_it).map(|place| place as u16)
    }

    /// The place of the forward whose SSRC, or whose retransmissions' SSRC, is `ssrc`.
    pub fn forward_with(&self, ssrc: Ssrc) -> Option<u16> {
        let is_it = |f: &Option<Forward>| {
            f.as_ref().is_some_and(|f| f.ssrc == ssrc || f.rtx.is_some_and(|rtx| rtx.ssrc == ssrc))
        };
        self.forwards.iter().position(is_it).map(|place| place as u16)
    }
}
