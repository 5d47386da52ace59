//! About how much memory an event takes, for the queues that are bounded in bytes.

use super::{ClientInfo, Event};
use moonring_wire::shared::SharedValue;

/// An event without what hangs on it.
const BASE: usize = 128;
/// A track, with its ids.
const TRACK: usize = 160;
/// A section of an answer, with its codecs and extensions.
const SECTION: usize = 2 * 1024;
/// A client's id on the heap.
const ID: usize = 48;

impl Event {
    /// Bytes, about, that the event takes when it is the only one to hold its values.
    pub fn bytes(&self) -> usize {
        self.weigh(&|value| value.bytes())
    }

    /// Bytes, about, when each value that others hold too counts for its share.
    pub fn share(&self) -> usize {
        self.weigh(&SharedValue::share)
    }

    fn weigh(&self, value_bytes: &dyn Fn(&SharedValue) -> usize) -> usize {
        let info = |info: &ClientInfo| ID + value_bytes(&info.metadata) + value_bytes(&info.attributes);
        BASE + match self {
            Self::Joined { clients, tracks, own, .. } => {
                clients.iter().map(info).sum::<usize>() + TRACK * (tracks.len() + own.len())
            }
            Self::Message { value, .. } | Self::ClientChanged { attributes: value, .. } => value_bytes(value),
            Self::Unsubscribed { reason, .. } | Self::TrackUnpublished { reason: Some(reason), .. } => {
                ID + reason.len()
            }
            Self::ClientJoined { other, .. } => info(other),
            Self::Answered { answer, sections, .. } => SECTION * answer.sections.len() + TRACK * sections.len(),
            Self::Refused { message, .. } => message.len(),
            Self::ActiveSpeakers { speakers, .. } => ID * speakers.len(),
            Self::TrackPublished { .. } | Self::TrackChanged { .. } => TRACK,
            _ => ID,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::id::ClientId;
    use moonring_wire::rights::Rights;
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
        let clients = vec![ClientInfo { client: client(), metadata, attributes: SharedValue::empty_object() }; 500];
        let (tracks, own, attributes) = (vec![], vec![], SharedValue::empty_object());
        let joined = Event::Joined { client: client(), clients, tracks, own, attributes, rights: Rights::default() };
        assert!(joined.bytes() > 500 * 16 * 1024);
        assert!(joined.share() < 500 * 1024);
        let refused = Event::Message { client: client(), value: Value::Null.into() };
        assert!(refused.bytes() < 256);
    }
}
