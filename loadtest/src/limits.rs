//! Subscribers on slow links: who is behind which, and the layer that fits there.

use std::collections::HashMap;
use std::time::Duration;

use moonring_wire::id::RoomId;
use moonring_wire::media::Kind;

use crate::engine::{IP_UDP_BYTES, LinkSettings, Viewing};
use crate::media::{AudioSettings, VideoSettings};
use crate::signalling::{ClientPlan, Receive};

/// Share of a link that is to be filled: the server leaves the rest to its probes, too.
const FILLED: f64 = 0.9;
/// What a packet is longer than its payload by: RTP's header, its extensions, SRTP's tag, UDP and IPv4.
const PACKET_OVERHEAD: usize = 12 + 20 + 16 + IP_UDP_BYTES;
/// The least that a layer may have: below, packets are longer than its share of the bits.
const LEAST_LAYER_BPS: u64 = 20_000;

/// Most simulcast layers, as with browsers.
const MAX_LAYERS: u8 = 3;

/// Slow links before subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What the links carry, in kbit/s, in turn; 0 is no limit. Empty: no subscriber is watched.
    pub kbps: Vec<u64>,
    /// So many subscribers in a row share a link.
    pub share: usize,
    /// What would wait at a link for longer than this is dropped.
    pub queue: Duration,
    /// When all limits are lifted, from the begin of the measurement on.
    pub lift_after: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { kbps: Vec::new(), share: 1, queue: Duration::from_millis(400), lift_after: None }
    }
}

/// One link of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// What it carries, in kbit/s; 0 is no limit.
    pub kbps: u64,
    /// How many subscribers share it.
    pub sharers: usize,
    /// The highest layer of all that each of them receives that fits it; `None` when not even the lowest does.
    pub right: Option<u8>,
    /// The highest layer there is.
    pub top: u8,
}

impl LinkPlan {
    /// For an engine.
    pub fn settings(&self, limits: &Limits) -> LinkSettings {
        LinkSettings { rate_bps: (self.kbps > 0).then_some(self.kbps * 1_000), queue: limits.queue }
    }
}

/// What all publishers send.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// Video, in its highest layer.
    pub video: &'a VideoSettings,
    /// Its simulcast layers.
    pub layers: u8,
    /// Sound.
    pub audio: &'a AudioSettings,
    /// Nothing at all.
    pub silent: bool,
}

impl Limits {
    /// Puts the subscribers of `plans` behind links, one link after another, and says which links these are: none, when
    /// nobody is watched.
    pub fn assign(&self, sending: Sending<'_>, plans: &mut [ClientPlan]) -> Result<Vec<LinkPlan>, String> {
        sending.check()?;
        if self.kbps.is_empty() {
            return Ok(Vec::new());
        }
        if self.share == 0 {
            return Err("a link is for one subscriber at least".into());
        }
        let published = published(plans);
        let mut subscribers: Vec<_> = plans.iter_mut().filter(|plan| plan.receive == Receive::Everything).collect();
        let mut links = Vec::new();
        for (number, sharers) in subscribers.chunks_mut(self.share).enumerate() {
            let kbps = self.kbps[number % self.kbps.len()];
            let mut link = LinkPlan { kbps, sharers: sharers.len(), right: None, top: sending.layers - 1 };
            for plan in sharers {
                if plan.stays.is_some() {
                    return Err("subscribers that leave and come again cannot be behind links".into());
                }
                let all = published.get(&plan.room).copied().unwrap_or_default();
                let own = Tracks::of(plan);
                let tracks = Tracks { pictures: all.pictures - own.pictures, sounds: all.sounds - own.sounds };
                if tracks.pictures == 0 || sending.silent {
                    return Err("only subscribers that get video can be behind links".into());
                }
                link.right = sending.right_layer(&link, tracks);
                let LinkPlan { right, top, .. } = link;
                plan.viewing = Some(Viewing { link: number, pictures: tracks.pictures, right, top });
            }
            links.push(link);
        }
        Ok(links)
    }
}

impl Sending<'_> {
    fn check(&self) -> Result<(), String> {
        let (video, layers) = (self.video, self.layers);
        if !(1..=MAX_LAYERS).contains(&layers) {
            return Err(format!("{layers} layers: there are 1 to {MAX_LAYERS}"));
        }
        let lowest = video.of_layer(0, layers).bitrate_bps;
        if layers > 1 && lowest < LEAST_LAYER_BPS {
            let [all, lowest, least] = [video.bitrate_bps, lowest, LEAST_LAYER_BPS].map(|bps| bps / 1_000);
            return Err(format!(
                "{all} kbit/s in {layers} layers leave {lowest} kbit/s to the lowest; {least} is the least"
            ));
        }
        Ok(())
    }

    /// The highest layer that a subscriber's part of the link carries, of all the videos that it receives.
    fn right_layer(&self, link: &LinkPlan, tracks: Tracks) -> Option<u8> {
        if link.kbps == 0 {
            return Some(link.top);
        }
        let AudioSettings { payload_bytes, packet_ms, .. } = *self.audio;
        let sound_bps = (payload_bytes + PACKET_OVERHEAD) as f64 * 8_000.0 / f64::from(packet_ms.max(1));
        let share_bps = link.kbps as f64 * 1_000.0 / link.sharers as f64 * FILLED;
        let picture_bps = (share_bps - sound_bps * tracks.sounds as f64) / tracks.pictures as f64;
        let link_bps = |layer: u8| self.video.of_layer(layer, self.layers).link_bps(PACKET_OVERHEAD);
        (0..=link.top).rev().find(|layer| link_bps(*layer) as f64 <= picture_bps)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tracks {
    pictures: usize,
    sounds: usize,
}

impl Tracks {
    fn of(plan: &ClientPlan) -> Self {
        let pictures = plan.publish.iter().filter(|codec| codec.kind() == Kind::Video).count();
        Self { pictures, sounds: plan.publish.len() - pictures }
    }
}

/// What is published in each room.
fn published(plans: &[ClientPlan]) -> HashMap<RoomId, Tracks> {
    let mut rooms: HashMap<RoomId, Tracks> = HashMap::new();
    for plan in plans {
        let (all, own) = (rooms.entry(plan.room.clone()).or_default(), Tracks::of(plan));
        all.pictures += own.pictures;
        all.sounds += own.sounds;
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::size;
    use crate::scenario::{Scenario, Size};

    fn limits(kbps: &[u64], share: usize) -> Limits {
        Limits { kbps: kbps.into(), share, ..Limits::default() }
    }

    fn assign(
        limits: &Limits,
        scenario: Scenario,
        (layers, bitrate_bps): (u8, u64),
        silent: bool,
    ) -> Result<(Vec<LinkPlan>, Vec<ClientPlan>), String> {
        let mut plans = scenario.plan(&Size { subscribers: 7, with_audio: true, ..size() }).unwrap();
        let video = &VideoSettings { bitrate_bps, ..VideoSettings::default() };
        let sending = Sending { video, layers, audio: &AudioSettings::default(), silent };
        limits.assign(sending, &mut plans).map(|links| (links, plans))
    }

    #[test]
    fn subscribers_take_the_links_in_turn_and_each_has_its_right_layer() {
        let limits = limits(&[3_000, 800, 300, 0], 1);
        let (links, plans) = assign(&limits, Scenario::Webinar, (3, 1_500_000), false).unwrap();
        let of = |link: &LinkPlan| (link.kbps, link.sharers, link.right, link.top);
        let expected = [(3_000, 1, Some(2), 2), (800, 1, Some(1), 2), (300, 1, Some(0), 2), (0, 1, Some(2), 2)];
        assert_eq!(links.iter().map(of).collect::<Vec<_>>(), [&expected[..], &expected[..3]].concat());
        let viewing: Vec<_> = plans.iter().map(|plan| plan.viewing.map(|viewing| viewing.link)).collect();
        assert_eq!(viewing, [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6)]);
        assert_eq!(plans[2].viewing, Some(Viewing { link: 1, pictures: 1, right: Some(1), top: 2 }));
        let rates = links.iter().map(|link| link.settings(&limits).rate_bps).take(4);
        assert_eq!(rates.collect::<Vec<_>>(), [Some(3_000_000), Some(800_000), Some(300_000), None]);
    }

    #[test]
    fn who_shares_a_link_gets_a_part_of_it() {
        let (links, plans) = assign(&limits(&[2_400, 200], 3), Scenario::Webinar, (3, 1_500_000), false).unwrap();
        let of = |link: &LinkPlan| (link.kbps, link.sharers, link.right);
        let expected = [(2_400, 3, Some(1)), (200, 3, None), (2_400, 1, Some(2))];
        assert_eq!(links.iter().map(of).collect::<Vec<_>>(), expected);
        let viewing: Vec<_> = plans[1..].iter().map(|plan| plan.viewing.unwrap().link).collect();
        assert_eq!(viewing, [0, 0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn in_a_meeting_the_link_carries_all_the_others() {
        let (links, plans) = assign(&limits(&[4_000, 1_300], 1), Scenario::Meeting, (3, 1_500_000), false).unwrap();
        assert_eq!(links.iter().map(|link| link.right).collect::<Vec<_>>(), [Some(2), Some(1), Some(2)]);
        assert!(plans.iter().all(|plan| plan.viewing.unwrap().pictures == 2));
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        let (good, bps) = (limits(&[600, 0], 2), 1_500_000);
        for (limits, scenario, video, silent, named) in [
            (&good, Scenario::AudioRoom, (3, bps), false, "only subscribers that get video"),
            (&good, Scenario::Webinar, (3, bps), true, "only subscribers that get video"),
            (&good, Scenario::Churn, (3, bps), false, "leave and come again"),
            (&good, Scenario::Webinar, (3, 300_000), false, "300 kbit/s in 3 layers leave 18 kbit/s"),
            (&good, Scenario::Webinar, (0, bps), false, "0 layers: there are 1 to 3"),
            (&good, Scenario::Webinar, (4, bps), false, "4 layers: there are 1 to 3"),
            (&limits(&[600], 0), Scenario::Webinar, (3, bps), false, "one subscriber at least"),
        ] {
            let error = assign(limits, scenario, video, silent).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        assert!(assign(&good, Scenario::Webinar, (3, bps), false).is_ok());
        assert_eq!(assign(&Limits::default(), Scenario::Churn, (1, 1_000), true).unwrap().0, []);
    }
}
