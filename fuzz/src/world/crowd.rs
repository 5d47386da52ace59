//! A room whose three members all mean ill, with their credentials and from each other's addresses, beside a room with a
//! call of two: that one loses nothing.

use moonring_core::command::Command;
use moonring_wire::id::{Mid, Ssrc, TrackId};
use moonring_wire::media::CodecName::{Opus, Vp8};
use moonring_wire::media::Extension;
use moonring_wire::negotiate::Direction;

use super::{PANICS, POLICY, Parts, joined};
use crate::sim::World;
use crate::sim::flows::{assert_unbroken, sends, wants};
use crate::sim::raw::section;

/// Steps of one input.
const MOST: usize = 30;
/// Members that come beside the first three.
const MOST_NEWCOMERS: usize = 4;
/// Sections that one member offers.
const MOST_SECTIONS: usize = 12;

struct Crowd {
    world: World,
    /// Those of the room that mean ill, and are there.
    members: Vec<usize>,
    newcomers: usize,
    sections: usize,
}

/// Steps, each behind three bytes: what happens, whose credentials it is done with, and from whose address.
pub(super) fn crowd(bytes: &[u8]) {
    let (mut world, receiver) = quiet_call();
    let members = ["ada", "eve", "mal"].map(|name| world.join_raw(name)).to_vec();
    let mut crowd = Crowd { world, members, newcomers: 0, sections: 0 };
    for who in crowd.members.clone() {
        crowd.publish(who, 0);
        crowd.publish(who, 1);
    }
    crowd.world.run_ms(150);
    for part in Parts(bytes).take(MOST) {
        if let [kind, who, at, rest @ ..] = part {
            crowd.step(*kind, (*who).into(), (*at).into(), rest);
        }
    }
    let mut world = crowd.world;
    world.run_ms(100);
    assert_eq!(world.shard.counters().panics, 0, "{PANICS}");
    assert_eq!(world.shard.audit(), Vec::<String>::new(), "the tables do not agree");
    assert_unbroken(&world.got(receiver, 111));
}

/// A call in a room of its own, under way.
fn quiet_call() -> (World, usize) {
    let mut world = World::ruled(1, POLICY);
    let (speaker, receiver) = (world.join_room("speaker", "quiet"), world.join_room("receiver", "quiet"));
    let track = world.publish(speaker, Opus);
    world.subscribe(receiver, &track, Opus);
    world.run_ms(300);
    assert!(!world.got(receiver, 111).is_empty());
    (world, receiver)
}

impl Crowd {
    fn step(&mut self, kind: u8, who: usize, at: usize, rest: &[u8]) {
        let who = self.members[who % self.members.len()];
        let at = self.members[at % self.members.len()];
        let address = self.world.members[at].address;
        match kind {
            0..60 => {
                if self.world.raw(who).connected
                    && let Some(sealed) = self.world.raw(who).seal_any(rest)
                {
                    self.world.inject(address, &sealed);
                }
            }
            60..90 if self.world.raw(who).answer.is_some() => {
                let check = self.world.raw(who).check();
                self.world.inject(address, &check);
            }
            90..100 => {
                let raw = self.world.raw(who);
                raw.answers_checks = !raw.answers_checks;
            }
            100..110 => self.stop_a_section(who, at),
            110..135 => self.publish(who, kind),
            135..150 => self.receive(who, at),
            150..160 => {
                self.world.raw(who).ice.ufrag.push((b'a' + kind % 26).into());
                self.world.offer(who, vec![], vec![]);
            }
            160..175 => self.order(kind, who, at, rest),
            175..180 => self.leave_and_come(who),
            180.. => self.world.run_ms(10 * u64::from(kind - 180).pow(2)),
            _ => {}
        }
    }

    /// One more section that sends.
    fn publish(&mut self, who: usize, kind: u8) {
        if self.world.raw(who).sections.len() >= MOST_SECTIONS {
            return;
        }
        self.sections += 1;
        let mid = format!("m{}", self.sections);
        let mut section = section(&mid, if kind.is_multiple_of(2) { Opus } else { Vp8 }, Direction::SendOnly);
        section.extensions.push((3, Extension::TransportSequence));
        section.ssrcs = vec![(Ssrc(900 + self.sections as u32), None)];
        self.world.raw(who).sections.push(section);
        self.world.offer(who, vec![sends(&mid)], vec![]);
    }

    /// One more section that receives something of another member's.
    fn receive(&mut self, who: usize, of: usize) {
        if self.world.raw(who).sections.len() >= MOST_SECTIONS {
            return;
        }
        let Some(track) = self.track_of(of, 0) else { return };
        self.sections += 1;
        let mid = format!("m{}", self.sections);
        for codec in [Opus, Vp8] {
            self.world.raw(who).sections.push(section(&mid, codec, Direction::RecvOnly));
            let outcomes = self.world.offer(who, vec![], vec![wants(&Mid::parse(&mid).expect("a mid"), Some(&track))]);
            if outcomes.iter().any(|outcome| outcome.track.is_some()) {
                return;
            }
            self.world.raw(who).sections.pop();
        }
    }

    fn stop_a_section(&mut self, who: usize, nth: usize) {
        let sections = &mut self.world.raw(who).sections;
        let Some(at) = nth.checked_rem(sections.len()) else { return };
        sections[at].direction = Direction::Inactive;
        self.world.offer(who, vec![], vec![]);
    }

    fn track_of(&self, who: usize, nth: usize) -> Option<TrackId> {
        let tracks = self.world.published_by(who);
        tracks.get(nth.checked_rem(tracks.len())?).cloned()
    }

    /// What a client may ask for its own tracks, for anybody's.
    fn order(&mut self, kind: u8, who: usize, of: usize, rest: &[u8]) {
        let number = rest.first().copied().unwrap_or(0);
        let Some(track) = self.track_of(of, number.into()) else { return };
        let client = self.world.id(who);
        self.world.command(match kind % 5 {
            0 => Command::Unpublish { client, track },
            1 => Command::SetMuted { client, track, muted: number.is_multiple_of(2) },
            2 => Command::SetView { client, track, width: number.into(), height: number.into() },
            3 => Command::SetLayer { client, track, layer: Some(number % 4) },
            _ => Command::Unsubscribe { client, track },
        });
    }

    fn leave_and_come(&mut self, who: usize) {
        self.world.leave(who);
        if self.newcomers < MOST_NEWCOMERS {
            self.newcomers += 1;
            let new = self.world.join_raw(&format!("new{}", self.newcomers));
            self.members.push(new);
            self.publish(new, 0);
        }
    }
}

pub(super) fn crowd_seeds() -> Vec<Vec<u8>> {
    let rtp = |ssrc: u16, sequence: u8| {
        let [a, b] = ssrc.to_be_bytes();
        [&[0, 0, 0, 0x80, 111, 0, sequence, 0, 0, 0, 9, 0, 0, a, b][..], &[0xFC; 30]].concat()
    };
    let take_over = vec![
        vec![135, 1, 0],
        vec![60, 2, 0],
        vec![60, 2, 1],
        rtp(901, 1),
        vec![90, 2, 0],
        vec![61, 2, 0],
        vec![200, 0, 0],
        rtp(901, 2),
        vec![61, 0, 2],
        vec![255, 0, 0],
    ];
    let changes = vec![
        vec![135, 0, 1],
        vec![136, 2, 1],
        vec![160, 1, 1, 0],
        vec![111, 1, 0],
        vec![100, 0, 2],
        vec![163, 0, 1, 2],
        vec![152, 2, 0],
        vec![62, 2, 2],
        vec![164, 0, 1, 1],
        vec![230, 0, 0],
    ];
    let comings = vec![
        vec![175, 0, 0],
        vec![63, 0, 1],
        vec![137, 3, 1],
        vec![220, 0, 0],
        vec![161, 2, 3, 1],
        vec![176, 3, 0],
        vec![64, 3, 3],
        vec![255, 0, 0],
    ];
    [take_over, changes, comings].iter().map(|parts| joined(parts.iter().map(Vec::as_slice))).collect()
}
