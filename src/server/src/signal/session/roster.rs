//! Who and what is in a room, in messages of bounded length.

use moonring_wire::media::TrackInfo;
use moonring_wire::message::{Participant, ROSTER_PAGE};

/// What one message tells.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    pub(super) clients: Vec<Participant>,
    pub(super) tracks: Vec<TrackInfo>,
    /// Whether another one follows.
    pub(super) more: bool,
}

/// The pages that tell of all of them, in their order; at least one.
pub(super) fn pages(clients: Vec<Participant>, tracks: Vec<TrackInfo>) -> Vec<Page> {
    let count = clients.len().max(tracks.len()).div_ceil(ROSTER_PAGE).max(1);
    let (mut clients, mut tracks) = (clients.into_iter(), tracks.into_iter());
    let page = |n| Page {
        clients: clients.by_ref().take(ROSTER_PAGE).collect(),
        tracks: tracks.by_ref().take(ROSTER_PAGE).collect(),
        more: n + 1 < count,
    };
    (0..count).map(page).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonring_wire::id::{ClientId, TrackId};
    use moonring_wire::media::{CodecName, Kind, Source};
    use moonring_wire::shared::SharedValue;
    use serde_json::Value;

    fn participant(n: usize) -> Participant {
        let (metadata, attributes) = (Value::Null.into(), SharedValue::empty_object());
        Participant { client: ClientId::parse(&format!("c{n}")).unwrap(), metadata, attributes }
    }

    fn track(n: usize) -> TrackInfo {
        TrackInfo {
            id: TrackId::parse(&format!("t{n}")).unwrap(),
            client: ClientId::parse("c0").unwrap(),
            kind: Kind::Audio,
            source: Source::Microphone,
            codec: CodecName::Opus,
            muted: false,
            layers: 1,
            temporal_layers: 1,
        }
    }

    #[test]
    fn a_roster_comes_in_pages_that_together_have_all_of_it_in_order() {
        for (clients, tracks, expected) in [
            (0, 0, vec![(0, 0, false)]),
            (200, 200, vec![(200, 200, false)]),
            (201, 3, vec![(200, 3, true), (1, 0, false)]),
            (10, 450, vec![(10, 200, true), (0, 200, true), (0, 50, false)]),
        ] {
            let pages = pages((0..clients).map(participant).collect(), (0..tracks).map(track).collect());
            let sizes: Vec<_> = pages.iter().map(|page| (page.clients.len(), page.tracks.len(), page.more)).collect();
            assert_eq!(sizes, expected);
            let told: Vec<_> = pages.iter().flat_map(|page| page.clients.clone()).collect();
            assert_eq!(told, (0..clients).map(participant).collect::<Vec<_>>());
            let told: Vec<_> = pages.into_iter().flat_map(|page| page.tracks).collect();
            assert_eq!(told, (0..tracks).map(track).collect::<Vec<_>>());
        }
    }
}
