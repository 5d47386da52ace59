//! What the shards of a spread room tell each other: its home, which has the policy, and its wings.
//!
//! ```text
//! wing --Attach, Asked, News, Track, Traffic, Loudness, Gone, Detach--> home
//! wing <--Roster, Decided, Act, News, Track, Loudest, Ended------------ home
//!
//! messages were lost:   wing --Attach, Members, Whole--> home --Lost, Roster, Whole--> wing
//!
//! node n1: home, wings <--- links, messages ---> node n2: lead (a wing, the home's in the eyes of the others) <---> wings
//!
//! a client moves:   former place --Expect-> new <-Freeze-- --Moved-> --Passed...-> --Complete->
//!                   former place --Departed-> home <-Arrived-- new,   home --Noted-> former place; by way of their leads
//! ```
//! Messages between two shards come in order and complete; where that cannot be kept, both are told by
//! [`Command::PlaceLost`](super::Command::PlaceLost), and say anew what they have.

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::moved::{ExpectedClient, ForMoved, MovedClient};
use super::news::{ClientInfo, News};
use moonring_policy::client::{Announced, Connection, PathFigures, Traffic};
use moonring_policy::hook::{Action, HookCall, Outcome, Undecided, Verdict};
use moonring_wire::id::{ClientId, PlaceId, TrackId};
use moonring_wire::media::TrackInfo;
use moonring_wire::negotiate::AnswerCodec;
use moonring_wire::rights::Rights;
use moonring_wire::shared::{Shared, SharedValue, as_text};

/// What the clients of a wing are told whose home is lost.
pub const ROOM_LOST: &str = "the server lost the room, please join again";

/// One message about one room.
#[derive(Debug, Serialize, Deserialize)]
pub enum PlaceMessage {
    /// The sender has clients who want into the room. Answered by [`Self::Roster`], or [`Self::Ended`].
    Attach {
        /// The room's home, where the receiver is not it but the sender's way there: another shard of the sender's node.
        home: Option<PlaceId>,
        /// The sender has clients who are in it already: it says who by [`Self::Members`] and [`Self::Whole`], and is told the room
        /// then.
        anew: bool,
    },
    /// The room's policy is asked, with a number for the answer, or told of something.
    Asked {
        /// For [`Self::Decided`]; `None` when no answer is waited for.
        ticket: Option<u64>,
        /// What.
        call: Box<FarCall>,
    },
    /// What passed for the sender's clients, since they came.
    Traffic(Vec<(ClientId, TrafficFigures)>),
    /// How loud the sender's tracks are, smoothed, 127 + dBov; those that were heard lately.
    Loudness(Vec<(TrackId, f32)>),
    /// A client is gone, or was never admitted: nothing more follows for it.
    Gone(ClientId),
    /// Nobody is left at the sender: nothing more follows until it attaches again.
    Detach,
    /// The room as it is.
    Roster(Box<Roster>),
    /// The policy's answer.
    Decided {
        /// The number of the question.
        ticket: u64,
        /// What it says; of its actions those that the receiver is to take.
        outcome: Box<Outcome>,
        /// The place of a client that has been admitted.
        seat: Option<SeatGiven>,
        /// In place of the verdict: there is no seat left, in words.
        full: Option<String>,
    },
    /// What the policy wants done with the receiver's clients.
    Act(Vec<Action>),
    /// The tracks whose sound is forwarded; `None`: all.
    Loudest(Option<Vec<TrackId>>),
    /// The room has ended at home, or could not begin.
    Ended(RoomEnd),
    /// What everybody in the room is told; the receiver notes it and tells its clients.
    News(Shared<News>),
    /// A track that can be received, as it is now: new, changed, or at another place.
    Track(Box<FarTrack>),
    /// Messages of the receiver's, a wing, were lost: it says anew who is there, by [`Self::Members`] and [`Self::Whole`], or, if it
    /// has ended meanwhile, [`Self::Detach`].
    Lost,
    /// Admitted clients of the sender's, a wing, and what they publish.
    Members(Box<Members>),
    /// The sender has told all that it has: what it has not named is gone.
    Whole,
    /// From the lead of a node: the room's home is this node of another one, or the lead itself.
    #[serde(skip)]
    HomeIs(Option<PlaceId>),
    /// A client moves.
    Move(MoveMessage),
    /// The home of the room moves.
    Home(HomeMessage),
}

/// How a room ends for those of its clients who are not at its home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomEnd {
    /// Its policy has closed it, or does not start, with words.
    Closed(String),
    /// The server has lost it, or its home changes, with words: whoever joins again is let in as everybody is.
    Lost(String),
}

impl RoomEnd {
    /// Its home is lost.
    pub fn lost() -> Self {
        Self::Lost(ROOM_LOST.to_owned())
    }

    /// The words for its clients.
    pub fn words(&self) -> &str {
        let (Self::Closed(words) | Self::Lost(words)) = self;
        words
    }

    /// The verdict on those who wait for one.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Closed(words) => Verdict::Reject(words.clone()),
            Self::Lost(words) => Verdict::Undecided(Undecided::Unheard, words.clone()),
        }
    }
}

/// What a home that moves to one of its wings and all its wings say to each other.
#[derive(Debug, Serialize, Deserialize)]
pub enum HomeMessage {
    /// From the home: nothing more is to be asked until it says what becomes of it. Answered by [`Self::Ready`] or
    /// [`Self::Refused`].
    Prepare,
    /// Nothing more is asked.
    Ready,
    /// From the home: what its script has had, and who is in the room, up to where [`Self::Take`] goes on.
    Part(#[serde(with = "super::moved::as_base64")] Zeroizing<Vec<u8>>),
    /// The last part of it. Answered by [`Self::Taken`] or [`Self::Refused`].
    Take(#[serde(with = "super::moved::as_base64")] Zeroizing<Vec<u8>>),
    /// The sender is the home now.
    Taken,
    /// It does not become the home: why.
    Refused(String),
    /// From the home: it stays.
    Cancelled,
    /// From the former home, to the other wings: another place is the home. Answered by [`Self::Left`].
    Moved(PlaceId),
    /// The sender speaks to the new home: nothing more comes from it.
    Left,
}

/// What two places say to each other of a client that moves from one to the other, and to its room's home.
#[derive(Debug, Serialize, Deserialize)]
pub enum MoveMessage {
    /// A client of the sender's is asked to come to the receiver.
    Expect(Box<ExpectedClient>),
    /// The client has proven to reach the sender, which goes on with it when the receiver has stopped: answered by
    /// [`Self::Moved`]. Asked again until it is.
    Freeze(ClientId),
    /// The sender does not seal for the client any more.
    Moved(Box<MovedClient>),
    /// To the home, by way of the sender's lead: a client is not at the place `from` any more, which has nothing more to say of
    /// it. Answered by [`Self::Noted`], once [`Self::Arrived`] has come as well. Said again where messages were lost: it is on its
    /// way, and not gone because nobody names it.
    Departed {
        /// Who.
        client: ClientId,
        /// Where it was.
        from: PlaceId,
    },
    /// To the home, by way of the sender's lead: a client that has moved is at the sender now, or is reached by it.
    Arrived(ClientId),
    /// From the home, by way of its lead, to the place `from`: nothing more comes from there for a client that has moved.
    Noted {
        /// Who.
        client: ClientId,
        /// Where it was.
        from: PlaceId,
    },
    /// What came to the sender for a client that has moved to the receiver.
    Passed(Box<ForMoved>),
    /// That was all of it.
    Complete(ClientId),
}

/// An event of a far client for which a hook is called: as [`HookCall`], in values that may leave the shard.
#[derive(Debug, Serialize, Deserialize)]
pub enum FarCall {
    /// A client asks to join.
    Connect {
        /// Who.
        client: ClientId,
        /// The request that it has come with.
        connection: Box<Connection>,
        /// What it says of itself.
        #[serde(with = "as_text")]
        metadata: SharedValue,
        /// What it shows.
        auth_token: String,
    },
    /// It is gone.
    Disconnect {
        /// Who.
        client: ClientId,
        /// Why.
        reason: String,
    },
    /// It asks to publish.
    PublishRequest(TrackInfo),
    /// It publishes.
    Published(TrackInfo),
    /// It publishes no longer.
    Unpublished(TrackInfo),
    /// It asks to receive.
    SubscribeRequest {
        /// Who.
        client: ClientId,
        /// What.
        track: TrackInfo,
    },
    /// It has sent a message.
    Message {
        /// Who.
        client: ClientId,
        /// What.
        #[serde(with = "as_text")]
        message: Value,
    },
}

impl FarCall {
    /// The same event; `None` of one that only a home has.
    pub fn of(call: HookCall) -> Option<Self> {
        Some(match call {
            HookCall::ClientConnect { client, auth_token } => Self::Connect {
                client: client.id.clone(),
                connection: Box::new(client.connection.clone()),
                metadata: client.metadata.clone(),
                auth_token,
            },
            HookCall::ClientDisconnect { client, reason } => Self::Disconnect { client: client.id.clone(), reason },
            HookCall::PublishRequest { track, .. } => Self::PublishRequest(track),
            HookCall::TrackPublished { track, .. } => Self::Published(track),
            HookCall::TrackUnpublished { track, .. } => Self::Unpublished(track),
            HookCall::SubscribeRequest { client, track } => Self::SubscribeRequest { client: client.id.clone(), track },
            HookCall::Message { client, message } => Self::Message { client: client.id.clone(), message },
            HookCall::ActiveSpeakers { .. } | HookCall::Admin { .. } | HookCall::Close { .. } => return None,
        })
    }

    /// Whose event it is.
    pub fn client(&self) -> &ClientId {
        match self {
            Self::Connect { client, .. }
            | Self::Disconnect { client, .. }
            | Self::SubscribeRequest { client, .. }
            | Self::Message { client, .. } => client,
            Self::PublishRequest(track) | Self::Published(track) | Self::Unpublished(track) => &track.client,
        }
    }
}

/// What goes with the admission of a far client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatGiven {
    /// Who it is, as the policy says.
    pub identity: Option<String>,
    /// The room was small enough to be told of everybody.
    pub came_early: bool,
}

/// A track as far places have to know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FarTrack {
    /// What everybody is told of it.
    pub info: TrackInfo,
    /// The shard that has its publisher.
    pub place: PlaceId,
    /// Its number on links from there.
    pub handle: u64,
    /// The codec that it is sent in.
    pub codec: AnswerCodec,
    /// How many encodings it has.
    pub encodings: u8,
    /// How often its publisher has moved from shard to shard.
    pub moves: u32,
}

/// A room as a new wing has to know it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Roster {
    /// Those who are told of.
    pub clients: Vec<ClientInfo>,
    /// What is published.
    pub tracks: Vec<FarTrack>,
    /// Whom its policy wants to be told of.
    pub announcing: Option<Announced>,
    /// The tracks whose sound is forwarded; `None`: all.
    pub loudest: Option<Vec<TrackId>>,
    /// Who speaks.
    pub speakers: Vec<ClientId>,
}

/// Clients of a wing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Members {
    /// Those that were admitted.
    pub clients: Vec<Member>,
    /// What they publish.
    pub tracks: Vec<FarTrack>,
}

/// A client of a wing, as its home has to know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// What others are told of it.
    pub info: ClientInfo,
    /// The request that it has come with.
    pub connection: Connection,
    /// Who it is, as the policy says.
    pub identity: Option<String>,
    /// What it may do.
    pub rights: Rights,
    /// Others do not hear of it.
    pub is_hidden: bool,
    /// They have.
    pub is_announced: bool,
}

/// What passed for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficFigures {
    counts: [u64; 4],
    path: Option<PathFigures>,
}

impl TrafficFigures {
    /// As it is counted.
    pub fn of(traffic: &Traffic) -> Self {
        let counts = [&traffic.packets_in, &traffic.bytes_in, &traffic.packets_out, &traffic.bytes_out];
        Self { counts: counts.map(Cell::get), path: traffic.path.get() }
    }

    /// Notes it where the policy reads it.
    pub fn note(&self, traffic: &Traffic) {
        let cells = [&traffic.packets_in, &traffic.bytes_in, &traffic.packets_out, &traffic.bytes_out];
        cells.into_iter().zip(self.counts).for_each(|(cell, count)| cell.set(count));
        traffic.path.set(self.path);
    }
}
