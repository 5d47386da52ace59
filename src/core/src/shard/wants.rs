//! What this shard wants of tracks of others.

use super::Shard;
use moonring_wire::id::TrackKey;
use moonring_wire::link::MAX_LAYERS;

impl Shard {
    /// Has a layer of a far track sent from now on.
    pub(super) fn want_far_layer(&mut self, key: TrackKey, layer: u8) {
        let asked = self.asked_of(key);
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let Some(far) = track.far.as_deref_mut() else { return };
        if far.wanted >> layer & 1 == 0 && asked >> layer & 1 == 1 {
            far.wanted |= 1 << layer;
            // Nobody is to ask for what passed while nobody wanted it.
            track.layers[usize::from(layer)].missing.restart();
            self.work.wants.push(key);
        }
    }

    /// Has of a far track sent from now on what somebody here receives or is about to.
    pub(super) fn want_far_track(&mut self, key: TrackKey) {
        let (wanted, useful) = self.wanted_of(key);
        let wanted = wanted & self.asked_of(key);
        let Some(track) = self.world.tracks.get_mut(key) else { return };
        let Some(far) = track.far.as_deref_mut() else { return };
        let before = (std::mem::replace(&mut far.wanted, wanted), std::mem::replace(&mut far.useful, useful));
        for (_, layer) in track.layers.iter_mut().enumerate().filter(|(n, _)| wanted & !before.0 >> n & 1 == 1) {
            layer.missing.restart();
        }
        if before != (wanted, useful) {
            self.work.wants.push(key);
        }
    }

    /// The encodings of a far track that are asked for at all: a link that loses much has fewer of them.
    fn asked_of(&self, key: TrackKey) -> u8 {
        let Some(track) = self.world.tracks.get(key) else { return 0 };
        let down = track.far.as_deref().map_or(0, |far| self.world.links.layers_down(far.link));
        all_of(track.layers.len().saturating_sub(down).max(1))
    }

    /// The encodings of a track that somebody here receives or is about to, and the layers that they have use for.
    pub(super) fn wanted_of(&self, key: TrackKey) -> (u8, u8) {
        let Some(track) = self.world.tracks.get(key) else { return (0, 0) };
        let told = track.told_layers().max(track.info.layers).clamp(1, MAX_LAYERS as u8);
        let (mut wanted, mut useful) = (0, 0);
        let all = all_of(track.layers.len());
        if track.far.is_some() {
            // At the lead of a node: what its other shards want.
            track.hops.iter().for_each(|hop| (wanted, useful) = (wanted | hop.wanted, useful | hop.useful));
        }
        // Whichever it receives by then.
        if self.moves.awaits_receiver_of(&track.info.id) {
            return (all, all_of(told.into()));
        }
        for (client, place) in &track.subscribers {
            let client = self.world.clients.get(*client);
            let forward = client.and_then(|c| c.outbound.forwards.get(usize::from(*place))?.as_ref());
            let Some(forward) = forward else { continue };
            if forward.allotted.paused.is_none() {
                wanted |= 1 << forward.target() | forward.layer().map_or(0, |layer| 1 << layer);
            }
            if forward.allotted.view != Some((0, 0)) {
                let limit = forward.limits.highest().min(told - 1);
                useful |= all_of(usize::from(limit) + 1);
            }
            if (wanted, useful) == (all, all_of(told.into())) {
                break;
            }
        }
        (wanted, useful)
    }
}

/// A bit for each of so many layers.
fn all_of(layers: usize) -> u8 {
    ((1_u16 << layers.min(MAX_LAYERS)) - 1) as u8
}
