//! About how much memory events and commands take, for the queues that are bounded in bytes.

use serde_json::Value;

use super::{
    CheckpointOrder, ClientInfo, Command, Event, FarCall, ForMoved, HomeMessage, MoveMessage, News, PlaceMessage,
};
use moonring_wire::id::RoomId;
use moonring_wire::link::LinkPeer;
use moonring_wire::shared::SharedValue;

/// An event or a command without what hangs on it.
const BASE: usize = 128;
/// A track, with its ids.
const TRACK: usize = 160;
/// A section of an answer, with its codecs and extensions.
const SECTION: usize = 2 * 1024;
/// A section of an offer, likewise, with the formats that nobody here knows.
const OFFER_SECTION: usize = 4 * 1024;
/// A client's id on the heap.
const ID: usize = 48;

impl Command {
    /// Bytes, about, that the command takes.
    pub fn bytes(&self) -> usize {
        BASE + match self {
            Self::FromPlace { messages, .. } => all_bytes(messages),
            Self::Join(join) | Self::JoinWing { request: join, .. } => {
                ID + join.token.len() + value_bytes(&join.metadata)
            }
            Self::Offer(offer) => {
                OFFER_SECTION * offer.offer.sections.len() + TRACK * (offer.publish.len() + offer.subscribe.len())
            }
            Self::Message { value, .. } => ID + value_bytes(value),
            Self::Call { request: value, .. } | Self::Open { metadata: value, .. } => ID + value_bytes(value),
            Self::PolicyReply { reply, .. } => reply.bytes(),
            Self::PolicyCarried { carried, .. } => carried.as_ref().map_or(ID, |carried| ID + carried.bytes()),
            Self::CheckpointFound { found, .. } => found.as_ref().map_or(ID, |found| ID + found.bytes()),
            Self::Report { rooms, .. } => ID * rooms.len(),
            Self::Peers(peers) => size_of::<LinkPeer>() * peers.len(),
            _ => ID,
        }
    }
}

impl Event {
    /// Bytes, about, that the event takes when it is the only one to hold its values.
    pub fn bytes(&self) -> usize {
        self.weigh(&|value| value.bytes(), false)
    }

    /// Bytes, about, when each value that others hold too counts for its share.
    pub fn share(&self) -> usize {
        self.weigh(&SharedValue::share, true)
    }

    fn weigh(&self, shared_bytes: &dyn Fn(&SharedValue) -> usize, is_share: bool) -> usize {
        let info = |info: &ClientInfo| ID + shared_bytes(&info.metadata) + shared_bytes(&info.attributes);
        BASE + match self {
            Self::Joined { clients, tracks, own, .. } => {
                clients.iter().map(info).sum::<usize>() + TRACK * (tracks.len() + own.len())
            }
            // Those who hold the news hold its values by it: each counts for its share of the whole.
            Self::News { news, .. } if is_share => ID + news.bytes() / news.holders(),
            Self::News { news, .. } => ID + news.bytes(),
            Self::Unsubscribed { reason, .. } | Self::TrackEnded { reason, .. } => ID + reason.len(),
            Self::Answered { answer, sections, .. } => SECTION * answer.sections.len() + TRACK * sections.len(),
            Self::Refused { message, .. } => message.len(),
            Self::PolicyRequest { request, .. } => ID + request.bytes(),
            Self::Checkpoint { order: CheckpointOrder::Keep(checkpoint), .. } => ID + checkpoint.bytes(),
            Self::ToPlace { messages, .. } => all_bytes(messages),
            Self::Webhook { data, .. } => ID + value_bytes(data),
            Self::Called { answer: Ok(answer), .. } => value_bytes(answer),
            _ => ID,
        }
    }
}

fn all_bytes(messages: &[(RoomId, PlaceMessage)]) -> usize {
    messages.iter().map(|(_, message)| BASE + ID + message.bytes()).sum()
}

impl PlaceMessage {
    /// Bytes, about, that the message takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Asked { call, .. } => match &**call {
                FarCall::Connect { metadata, auth_token, .. } => SECTION + metadata.bytes() + auth_token.len(),
                FarCall::Message { message, .. } => value_bytes(message),
                _ => TRACK,
            },
            Self::Traffic(figures) => 3 * ID * figures.len(),
            Self::Loudness(levels) => ID * levels.len(),
            Self::Roster(roster) => {
                let infos = roster.clients.iter().map(|info| ID + info.metadata.share() + info.attributes.share());
                infos.sum::<usize>() + SECTION * roster.tracks.len()
            }
            Self::Decided { outcome, .. } => BASE * (1 + outcome.actions.len()),
            Self::Act(actions) => BASE * actions.len(),
            Self::News(news) => news.bytes() / news.holders(),
            Self::Track(_) => SECTION,
            Self::Loudest(tracks) => ID * tracks.as_ref().map_or(0, Vec::len),
            Self::Move(message) => message.bytes(),
            Self::Home(HomeMessage::Part(state) | HomeMessage::Take(state)) => state.len(),
            Self::Home(_) => ID,
            Self::Members(members) => {
                let infos =
                    members.clients.iter().map(|member| member.info.metadata.share() + member.info.attributes.share());
                infos.sum::<usize>() + SECTION * (members.clients.len() + members.tracks.len())
            }
            Self::Attach { .. }
            | Self::Gone(_)
            | Self::Detach
            | Self::Ended(_)
            | Self::Lost
            | Self::Whole
            | Self::HomeIs(_) => ID,
        }
    }
}

impl MoveMessage {
    fn bytes(&self) -> usize {
        match self {
            Self::Moved(moved) => moved.state.len() + moved.stay.len() + ID * moved.receivers.len(),
            Self::Expect(expected) => SECTION + TRACK * expected.receives.len(),
            Self::Passed(passed) => match &**passed {
                ForMoved::Command(command) => command.bytes(),
                ForMoved::Action(_) => BASE,
            },
            Self::Freeze(_) | Self::Departed { .. } | Self::Arrived(_) | Self::Noted { .. } | Self::Complete(_) => ID,
        }
    }
}

impl News {
    /// Bytes, about, that the news takes, and again as text.
    fn bytes(&self) -> usize {
        match self {
            Self::ClientJoined(info) => ID + info.metadata.bytes() + info.attributes.bytes(),
            Self::ClientLeft(_) | Self::TrackUnpublished(_) => ID,
            Self::ClientChanged { attributes: value, .. } | Self::Message(value) => ID + value.bytes(),
            Self::TrackPublished(_) | Self::TrackChanged(_) => TRACK,
            Self::ActiveSpeakers(speakers) => ID * speakers.len(),
        }
    }
}

/// Bytes, about, that a JSON value takes.
fn value_bytes(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(value_bytes).sum(),
            Value::Object(fields) => fields.iter().map(|(name, value)| ID + name.len() + value_bytes(value)).sum(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::id::ClientId;
    use moonring_wire::rights::Rights;
    use moonring_wire::shared::Shared;
    use serde_json::{Value, json};

    #[test]
    fn a_broadcast_weighs_the_same_for_each_receiver_and_once_for_the_room() {
        let news = Shared::new(News::Message(json!("x".repeat(64 * 1024)).into()));
        let client = || ClientId::parse("c").unwrap();
        let events: Vec<_> = (0..100).map(|_| Event::News { client: client(), news: news.clone() }).collect();
        drop(news);
        assert!(events.iter().all(|event| event.bytes() > 64 * 1024));
        let together: usize = events.iter().map(Event::share).sum();
        assert!((64 * 1024..64 * 1024 + 100 * (BASE + ID + 2)).contains(&together), "{together}");
    }

    #[test]
    fn what_a_client_says_of_itself_counts() {
        let metadata = SharedValue::from(json!("x".repeat(16 * 1024)));
        let client = || ClientId::parse("c").unwrap();
        let clients = vec![ClientInfo { client: client(), metadata, attributes: SharedValue::empty_object() }; 500];
        let (tracks, own, attributes) = (vec![], vec![], SharedValue::empty_object());
        let joined = Event::Joined { client: client(), clients, tracks, own, attributes, rights: Rights::default() };
        assert!(joined.bytes() > 500 * 16 * 1024);
        assert!(joined.share() < 500 * 1024);
        let refused = Event::message(client(), Value::Null);
        assert!(refused.bytes() < 256);
    }

    #[test]
    fn a_command_weighs_what_its_client_has_sent() {
        let message = |value| Command::Message { client: ClientId::parse("c").unwrap(), value };
        for (value, least, most) in [
            (json!("x".repeat(60_000)), 60_000, 61_000),
            (json!(vec![0; 10_000]), 200_000, 500_000),
            (json!({ "a": { "b": [1, 2] } }), 200, 1_000),
            (Value::Null, BASE, 300),
        ] {
            let bytes = message(value).bytes();
            assert!((least..most).contains(&bytes), "{bytes} is not within {least} and {most}");
        }
    }
}
