//! About how much memory events and commands take, for the queues that are bounded in bytes.

use serde_json::Value;

use super::{ClientInfo, Command, Event};
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
            Self::Join(join) => ID + join.token.len() + value_bytes(&join.metadata),
            Self::Offer(offer) => {
                OFFER_SECTION * offer.offer.sections.len() + TRACK * (offer.publish.len() + offer.subscribe.len())
            }
            Self::Message { value, .. } => ID + value_bytes(value),
            Self::Call { request, .. } => ID + value_bytes(request),
            Self::PolicyReply { reply, .. } => reply.bytes(),
            Self::Report { rooms, .. } => ID * rooms.len(),
            _ => ID,
        }
    }
}

impl Event {
    /// Bytes, about, that the event takes when it is the only one to hold its values.
    pub fn bytes(&self) -> usize {
        self.weigh(&|value| value.bytes())
    }

    /// Bytes, about, when each value that others hold too counts for its share.
    pub fn share(&self) -> usize {
        self.weigh(&SharedValue::share)
    }

    fn weigh(&self, shared_bytes: &dyn Fn(&SharedValue) -> usize) -> usize {
        let info = |info: &ClientInfo| ID + shared_bytes(&info.metadata);
        BASE + match self {
            Self::Joined { clients, tracks, own, .. } => {
                clients.iter().map(info).sum::<usize>() + TRACK * (tracks.len() + own.len())
            }
            Self::Message { value, .. } => shared_bytes(value),
            Self::ClientJoined { other, .. } => info(other),
            Self::Answered { answer, sections, .. } => SECTION * answer.sections.len() + TRACK * sections.len(),
            Self::Refused { message, .. } => message.len(),
            Self::ActiveSpeakers { speakers, .. } => ID * speakers.len(),
            Self::TrackPublished { .. } | Self::TrackChanged { .. } => TRACK,
            Self::PolicyRequest { request, .. } => ID + request.bytes(),
            Self::Webhook { data, .. } => ID + value_bytes(data),
            Self::Called { answer: Ok(answer), .. } => value_bytes(answer),
            _ => ID,
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
    use serde_json::{Value, json};

    #[test]
    fn a_broadcast_weighs_the_same_for_each_receiver_and_once_for_the_room() {
        let value = SharedValue::from(json!("x".repeat(64 * 1024)));
        let client = || ClientId::parse("c").unwrap();
        let events: Vec<_> = (0..100).map(|_| Event::Message { client: client(), value: value.clone() }).collect();
        drop(value);
        assert!(events.iter().all(|event| event.bytes() > 64 * 1024));
        let together: usize = events.iter().map(Event::share).sum();
        assert!((64 * 1024..64 * 1024 + 100 * (BASE + 2)).contains(&together), "{together}");
    }

    #[test]
    fn what_a_client_says_of_itself_counts() {
        let metadata = SharedValue::from(json!("x".repeat(16 * 1024)));
        let client = || ClientId::parse("c").unwrap();
        let clients = vec![ClientInfo { client: client(), metadata }; 500];
        let joined = Event::Joined { client: client(), clients, tracks: vec![], own: vec![] };
        assert!(joined.bytes() > 500 * 16 * 1024);
        assert!(joined.share() < 500 * 1024);
        let refused = Event::Message { client: client(), value: Value::Null.into() };
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
