//! What clients have lost: sent again, or a key frame in its place.

use std::time::Instant;

use super::Shard;
use crate::room::client::Outbound;
use crate::room::congestion::Congestion;
use crate::room::forward::{Cure, Means};
use crate::room::repairs::{ASSUMED_RTT, MAX_SOUND_RTT};
use crate::room::resends;
use crate::room::sealing::Destination;
use crate::room::track::KeyFrameNeed;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientKey, Ssrc};
use moonring_wire::media::Kind;
use moonring_wire::packet::SendBatch;

impl Shard {
    /// Sends the packets of a stream with these sequence numbers again, as far as that helps.
    pub(super) fn resend(
        &mut self,
        now: Instant,
        (key, ssrc): (ClientKey, Ssrc),
        sequences: impl Iterator<Item = u16> + Clone,
        out: &mut SendBatch,
    ) {
        if self.work.load.is_short(now) {
            sequences.for_each(|_| self.report.counters.drops.count(DropReason::ResendShed));
            return;
        }
        let Some(place) = self.world.clients[key].forward_with(ssrc) else { return };
        let cure = self.cure(now, (key, place), sequences.clone());
        let is_asked = cure != Cure::Resends && self.need_key_frame(now, (key, place), KeyFrameNeed::Lost);
        if is_asked
            && cure == Cure::KeyFrame
            && let Some(forward) = &mut self.world.clients[key].outbound.forwards[usize::from(place)]
        {
            forward.give_up(now);
        }
        let moment = self.moment(now);
        let client = &mut self.world.clients[key];
        let Some(to) = Destination::of(client.transport.as_ref()) else { return };
        let (outbound, tracks) = (&mut client.outbound, &self.world.tracks);
        if is_sound_too_late(outbound, place) {
            return;
        }
        for sequence in sequences {
            let forward = outbound.forwards[usize::from(place)].as_ref();
            let is_given_up = forward.is_none_or(|forward| forward.has_given_up(now, sequence));
            if !is_given_up && resends::resend(moment, (outbound, place), (tracks, to), (sequence, None), out) > 0 {
                self.report.counters.resent += 1;
            }
        }
    }

    /// After an outage all videos go on at a key frame: what was lost of them is more than is worth sending again, and what has
    /// arrived is of no use without it.
    pub(super) fn begin_after_outage(&mut self, now: Instant, key: ClientKey) {
        let client = &mut self.world.clients[key];
        for forward in client.outbound.forwards.iter_mut().flatten() {
            let Some(track) = self.world.tracks.get(forward.track).filter(|track| track.is_video()) else { continue };
            if forward.begin_after_outage(now, track) {
                tracing::debug!(client = %client.id, track = %track.info.id, "begins anew after an outage");
            }
        }
        self.begin_forwards(now, key);
    }

    /// On a path that is too full, key frames would make it fuller, and on one that tells nothing this is not known.
    fn cure(&self, now: Instant, (key, place): (ClientKey, u16), sequences: impl Iterator<Item = u16>) -> Cure {
        let Outbound { forwards, congestion, .. } = &self.world.clients[key].outbound;
        let forward = forwards[usize::from(place)].as_ref().filter(|forward| forward.codec.kind() == Kind::Video);
        let path = congestion.as_deref().filter(|path| path.is_calm());
        let (Some(forward), Some(path)) = (forward, path) else { return Cure::Resends };
        let Some(track) = self.world.tracks.get(forward.track) else { return Cure::Resends };
        let means = Means { bytes: path.repairs.bytes(), rtt: path.rtt().unwrap_or(ASSUMED_RTT) };
        forward.cure(now, track, sequences, means)
    }

    /// Asks for a key frame of what a client is sent, unless one is under way: a browser that waits for its first picture asks
    /// again five times a second. One that gives no feedback may ask only once. Of what is paused it would not be sent any. Whether
    /// one is asked for.
    pub(super) fn need_key_frame(&mut self, now: Instant, (key, place): (ClientKey, u16), need: KeyFrameNeed) -> bool {
        let client = &self.world.clients[key];
        let forward = client.outbound.forwards[usize::from(place)].as_ref();
        let Some(forward) = forward.filter(|forward| forward.allotted.paused.is_none()) else { return false };
        let Some(track) = self.world.tracks.get_mut(forward.track).filter(|track| track.is_video()) else {
            return false;
        };
        let path = client.outbound.congestion.as_deref().and_then(|path| Some((path.told_rtt()?, path.target_bps()?)));
        if path.is_some_and(|(rtt, bps)| forward.key_frame_is_under_way(now, rtt, bps)) {
            return false;
        }
        let layer = forward.layer().unwrap_or(forward.target());
        tracing::debug!(client = %client.id, track = %track.info.id, layer, need = need.label(), "needs a key frame");
        let (owner, layer) = (track.owner, &mut track.layers[usize::from(layer)]);
        layer.want_key_frame(now, need);
        // A datagram may ask a hundred times.
        let scheduled = self.world.clients.get(owner).and_then(|owner| owner.deadlines.scheduled);
        let is_scheduled = layer.key_frame_deadline().zip(scheduled).is_some_and(|(due, at)| at <= due);
        if !is_scheduled {
            self.schedule(owner);
        }
        true
    }
}

fn is_sound_too_late(outbound: &Outbound, place: u16) -> bool {
    let is_sound = outbound.forwards[usize::from(place)].as_ref().is_some_and(|f| f.codec.kind() == Kind::Audio);
    is_sound && outbound.congestion.as_deref().and_then(Congestion::rtt).is_some_and(|rtt| rtt > MAX_SOUND_RTT)
}
