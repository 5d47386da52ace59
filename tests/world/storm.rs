//! Random programs from one seed: people come, go, publish, receive, move and lose packets, scripts change, a member
//! attacks. After each step everything has to hold that always holds.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use moonring_core::command::{Command, Event};
use moonring_core::shard::faults::Stage;
use moonring_wire::id::{Ssrc, TrackId};
use moonring_wire::media::CodecName::{self, Opus, Vp8};
use moonring_wire::negotiate::Direction;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::sim::flows::{assert_unbroken, sends, wants};
use crate::sim::net::Link;
use crate::sim::raw::section;
use crate::sim::{World, library};

/// Nobody may receive what a client whose name begins with `p` publishes.
const SCRIPT: &str = "function on_client_connect() return true end
    function on_publish_request() return true end
    function on_subscribe_request(client, track) return track.client_id:sub(1, 1) ~= 'p', 'private' end";
const ROOMS: [&str; 3] = ["red", "green", "blue"];
/// Members beside the call that nobody harms.
const MAX_MEMBERS: usize = 40;
pub(crate) const STEPS: usize = 60;

/// A world under a random program.
pub(crate) struct Storm {
    world: World,
    rng: SmallRng,
    /// Who is there, with its room.
    present: Vec<(usize, &'static str)>,
    /// Tracks with their owner, room and codec.
    tracks: Vec<(TrackId, usize, &'static str, CodecName)>,
    /// The member that attacks.
    mallory: usize,
    /// The receiver of the call that nobody harms.
    bob: usize,
    steps: Vec<String>,
    answered: usize,
    /// Members whose network has ever lost something.
    lossy: HashSet<usize>,
}

/// Runs a seed; what was broken, and after which steps.
pub(crate) fn run(seed: u64, steps: usize) -> Result<(), String> {
    let mut storm = Storm::new(seed);
    for _ in 0..steps {
        let step = catch_unwind(AssertUnwindSafe(|| storm.step()));
        let broken = match step {
            Ok(()) => storm.broken(),
            Err(panic) => vec![panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into())],
        };
        if !broken.is_empty() {
            let last = storm.steps.iter().rev().take(8).rev().cloned().collect::<Vec<_>>().join("; ");
            return Err(format!("seed {seed}, after {} steps ({last}): {}", storm.steps.len(), broken.join("; ")));
        }
    }
    catch_unwind(AssertUnwindSafe(|| storm.calm()))
        .map_err(|_| format!("seed {seed}: the call beside it has lost something"))
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut world = World::ruled(seed, SCRIPT);
        let (alice, bob) = (world.join_room("alice", "calm"), world.join_room("bob", "calm"));
        let track = world.publish(alice, Vp8);
        world.subscribe(bob, &track, Vp8);
        let mallory = world.join_raw_in("red", "mallory");
        let mut sound = section("0", Opus, Direction::SendOnly);
        sound.ssrcs = vec![(Ssrc(900), None)];
        world.raw(mallory).sections = vec![sound];
        world.offer(mallory, vec![sends("0")], vec![]);
        world.run_ms(1_500);
        world.forget_received();
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            world,
            rng,
            present: Vec::new(),
            tracks: Vec::new(),
            mallory,
            bob,
            steps: Vec::new(),
            answered: 0,
            lossy: HashSet::new(),
        }
    }

    fn step(&mut self) {
        self.notice_departures();
        let kind = self.rng.random_range(0..16);
        let somebody = (!self.present.is_empty()).then(|| self.rng.random_range(0..self.present.len()));
        let words = match (kind, somebody) {
            (0..3, _) | (_, None) => self.join(),
            (3, Some(at)) => self.leave(at),
            (4 | 5, Some(at)) => self.publish(at),
            (6 | 7, Some(at)) => self.subscribe(at),
            (8, Some(at)) => self.unpublish(at),
            (9, Some(at)) => self.move_away(at),
            (10, Some(at)) => self.lose(at),
            (11, Some(at)) => self.restart(at),
            (12, _) => self.reload(),
            (13, _) => self.spoof(),
            (14, _) => self.rubbish(),
            _ => self.jump(),
        };
        self.steps.push(words);
        let ms = self.rng.random_range(1..400);
        self.world.run_ms(ms);
    }

    /// A member may end by its own bad network, and by nothing else.
    fn notice_departures(&mut self) {
        let world = &self.world;
        let gone: Vec<usize> =
            self.present.iter().map(|(who, _)| *who).filter(|who| world.left(*who).is_some()).collect();
        for who in &gone {
            let is_lossy = self.lossy.contains(who);
            assert!(is_lossy, "{who} was ended: {:?}", world.left(*who));
        }
        self.present.retain(|(who, _)| !gone.contains(who));
        self.tracks.retain(|(_, owner, ..)| !gone.contains(owner));
    }

    fn join(&mut self) -> String {
        if self.world.members.len() >= MAX_MEMBERS {
            return self.jump();
        }
        let room = ROOMS[self.rng.random_range(0..ROOMS.len())];
        let kind = if self.rng.random_bool(0.3) { 'p' } else { 'm' };
        let name = format!("{kind}{}", self.world.members.len());
        let who = self.world.join_room(&name, room);
        self.present.push((who, room));
        format!("{name} joins {room}")
    }

    fn leave(&mut self, at: usize) -> String {
        let (who, room) = self.present.swap_remove(at);
        self.tracks.retain(|(_, owner, ..)| *owner != who);
        self.world.leave(who);
        self.world.members[who].paused = true;
        format!("{who} leaves {room}")
    }

    fn publish(&mut self, at: usize) -> String {
        let (who, room) = self.present[at];
        if self.tracks.iter().filter(|(_, owner, ..)| *owner == who).count() >= 3 {
            return self.jump();
        }
        let codec = if self.rng.random_bool(0.5) { Opus } else { Vp8 };
        let track = self.world.publish(who, codec);
        self.tracks.push((track, who, room, codec));
        format!("{who} publishes {codec:?}")
    }

    /// Of any room: what is not of the own one does not exist.
    fn subscribe(&mut self, at: usize) -> String {
        let (who, room) = self.present[at];
        if self.tracks.is_empty() {
            return self.jump();
        }
        let (track, owner, of, codec) = self.tracks[self.rng.random_range(0..self.tracks.len())].clone();
        let mid = self.world.peer(who).receive(codec);
        let outcomes = self.world.offer(who, vec![], vec![wants(&mid, Some(&track))]);
        let is_private = self.world.members[owner].id.as_str().starts_with('p');
        let got = outcomes.first().is_some_and(|outcome| outcome.track.is_some());
        assert!(!got || (of == room && !is_private), "{who} of {room} was given {track} of {owner} in {of}");
        format!("{who} asks for {track} of {owner}")
    }

    fn unpublish(&mut self, at: usize) -> String {
        let (who, _) = self.present[at];
        let Some(place) = self.tracks.iter().position(|(_, owner, ..)| *owner == who) else { return self.jump() };
        let (track, ..) = self.tracks.swap_remove(place);
        let client = self.world.id(who);
        self.world.command(Command::Unpublish { client, track });
        format!("{who} unpublishes")
    }

    fn move_away(&mut self, at: usize) -> String {
        let (who, _) = self.present[at];
        let port = self.rng.random_range(1_024..60_000);
        self.world.members[who].address = SocketAddr::from(([10, 0, 2, who as u8], port));
        format!("{who} moves")
    }

    fn lose(&mut self, at: usize) -> String {
        let (who, _) = self.present[at];
        self.lossy.insert(who);
        let loss = [0.0, 0.02, 0.2][self.rng.random_range(0..3)];
        (self.world.members[who].up, self.world.members[who].down) = (Link::lossy(loss), Link::lossy(loss));
        format!("{who} loses {loss}")
    }

    fn restart(&mut self, at: usize) -> String {
        let (who, _) = self.present[at];
        self.world.peer(who).restart_ice();
        self.world.offer(who, vec![], vec![]);
        format!("{who} restarts ICE")
    }

    fn reload(&mut self) -> String {
        let script = format!("{SCRIPT} -- {}", self.rng.random_range(0..1_000));
        self.world.command(Command::Scripts(library(&script)));
        "the script changes".into()
    }

    /// A request of Mallory's from somebody else's address, now and then with a packet behind it.
    fn spoof(&mut self) -> String {
        let victim = self.rng.random_range(0..self.world.members.len());
        let from = self.world.members[victim].address;
        let check = self.world.raw(self.mallory).check();
        if victim != self.mallory {
            self.world.inject(from, &check);
            let report = self.world.raw(self.mallory).control(|writer| writer.bye(&[Ssrc(900)]).unwrap());
            self.world.inject(from, &report);
        }
        format!("mallory claims the address of {victim}")
    }

    fn rubbish(&mut self) -> String {
        for _ in 0..20 {
            let victim = self.rng.random_range(0..self.world.members.len());
            let from = self.world.members[victim].address;
            let len = self.rng.random_range(0..300);
            let mut bytes: Vec<u8> = (0..len).map(|_| self.rng.random()).collect();
            if let Some(first) = bytes.first_mut() {
                *first = [0, 20, 22, 23, 128, 144][self.rng.random_range(0..6)];
            }
            self.world.inject(from, &bytes);
        }
        "rubbish comes from members' addresses".into()
    }

    fn jump(&mut self) -> String {
        let ms = self.rng.random_range(1_000..8_000);
        self.world.run_ms(ms);
        format!("{ms} ms pass")
    }

    /// What does not hold, of what always has to.
    fn broken(&mut self) -> Vec<String> {
        let mut broken = self.world.audit();
        broken.extend(self.world.seals.repeated().map(|ssrc| format!("an index of SSRC {ssrc} was sealed twice")));
        if self.world.shard.counters().panics > 0 {
            broken.push("the shard has panicked".into());
        }
        for event in &self.world.events[self.answered..] {
            if let Event::Answered { client, sections, .. } = event {
                let private = sections
                    .iter()
                    .filter_map(|section| section.track.as_ref())
                    .find(|track| track.client != *client && track.client.as_str().starts_with('p'));
                broken.extend(private.map(|track| format!("{client} was given the private {}", track.id)));
            }
        }
        self.answered = self.world.events.len();
        broken
    }

    /// The call that nobody is to harm has received everything.
    fn calm(&mut self) {
        assert_unbroken(&self.world.got(self.bob, 96));
    }
}

#[test]
fn what_always_holds_holds_in_storms_from_fixed_seeds() {
    for seed in 1..=12 {
        run(seed, STEPS).unwrap();
    }
}

#[test]
fn a_fault_that_is_put_in_and_not_cleaned_up_after_is_found() {
    let mut found = HashMap::new();
    for stage in [Stage::Publishing, Stage::Unpublishing, Stage::Removing] {
        let mut world = World::ruled(800, SCRIPT);
        let (alice, bob) = (world.join("malice"), world.join("mbob"));
        let track = world.publish(alice, Vp8);
        world.subscribe(bob, &track, Vp8);
        world.shard.arm(stage);
        let client = world.id(alice);
        let caught = catch_unwind(AssertUnwindSafe(|| match stage {
            Stage::Publishing => drop(world.publish(alice, Opus)),
            Stage::Unpublishing => world.command(Command::Unpublish { client, track }),
            _ => world.leave(alice),
        }));
        assert!(caught.is_err());
        found.insert(format!("{stage:?}"), world.audit().len());
    }
    assert!(found.values().all(|faults| *faults > 0), "{found:?}");
}
