use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::command::{Command, JoinRequest};
use crate::shard::ShardSettings;
use moonring_policy::{PolicyEngine, PolicySettings, Script, ScriptLibrary};
use moonring_wire::id::RoomId;
use moonring_wire::packet::SendBatch;
use moonring_wire::transport::dtls::Certificate;

const SCRIPT: &str = "
function on_client_connect() sfu.set_interval(10, function() sfu.broadcast('tick') end) return true end
function on_message(_, size) sfu.broadcast(('x'):rep(size)) end";

fn id(name: &str) -> ClientId {
    ClientId::parse(name).unwrap()
}

fn message(value: Value) -> Event {
    Event::message(id("c"), value)
}

/// A shard without limits of processor time, with a room of three.
struct World {
    shard: Shard,
    now: Instant,
    out: SendBatch,
}

impl World {
    fn new() -> Self {
        let mut scripts = ScriptLibrary::new(Vec::new());
        scripts.insert("default_room.lua".into(), Script::compile("default_room.lua", SCRIPT.as_bytes()).map(Arc::new));
        let (now, settings) = (Instant::now(), ShardSettings::new(Certificate::generate().unwrap()));
        let shard = Shard::new(now, settings, PolicyEngine::new(PolicySettings::unhurried(), 1), scripts, [7; 32]);
        let mut world = Self { shard, now, out: SendBatch::new(1 << 16, 64) };
        for name in ["ada", "bob", "eve"] {
            let (room, client) = (RoomId::parse("demo").unwrap(), id(name));
            let connection = Box::new([127, 0, 0, 1].into());
            let (token, metadata) = (String::new(), Value::Null);
            world.command(Command::Join(JoinRequest { room, client, token, metadata, connection }));
        }
        world
    }

    fn command(&mut self, command: Command) {
        self.shard.handle_command(self.now, command, &mut self.out);
    }

    /// Lets time pass; nobody takes events.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.shard.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.shard.handle_timeout(self.now, &mut self.out);
        }
        self.now = end;
    }

    fn waiting(&self) -> (usize, usize) {
        (self.shard.work.events.queue.len(), self.shard.work.events.bytes)
    }

    fn take_all(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.shard.poll_event()).collect()
    }
}

#[test]
fn a_queue_says_that_it_is_backed_up_by_number_and_by_bytes() {
    for (value, number) in [(json!(1), MAX_EVENTS), (json!("x".repeat(64 * 1024)), MAX_EVENT_BYTES / (64 * 1024))] {
        let mut queue = Outgoing::default();
        let mut taken = 0;
        while !queue.is_backed_up() {
            queue.push(message(value.clone()));
            taken += 1;
        }
        assert!(taken <= number && taken > number - 10, "{taken} of {number}");
        while queue.pop().is_some() {}
        assert_eq!((queue.bytes, queue.is_backed_up()), (0, false));
        assert!(queue.queue.capacity() <= 2 * KEPT_CAPACITY, "memory is given back");
    }
}

#[test]
fn what_is_beyond_the_last_place_is_lost_but_for_ends() {
    let mut queue = Outgoing::default();
    (0..LAST_EVENTS + 3).for_each(|_| queue.push(message(json!(1))));
    assert_eq!((queue.queue.len(), queue.lost()), (LAST_EVENTS, 3));
    queue.push(Event::Left { client: id("c"), cause: LeaveCause::Left });
    queue.push(Event::RoomClosed(RoomId::parse("demo").unwrap()));
    assert_eq!((queue.queue.len(), queue.lost(), queue.has_unheard()), (LAST_EVENTS + 2, 3, true));
}

#[test]
fn scripts_are_not_woken_while_nobody_takes_what_they_say() {
    let mut world = World::new();
    world.pass(Duration::from_secs(3_600));
    let (waiting, _) = world.waiting();
    assert!((MAX_EVENTS..MAX_EVENTS + 1_024).contains(&waiting), "{waiting}");
    assert!(world.shard.is_backed_up());
    let _ = world.take_all();
    world.pass(Duration::from_secs(1));
    let told = world.take_all().len();
    assert!((100..1_000).contains(&told), "it goes on: {told}");
}

#[test]
fn a_client_that_cannot_be_told_of_something_ends_and_memory_stays_bounded() {
    let mut world = World::new();
    for _ in 0..2 * LAST_EVENT_BYTES / 60_000 {
        world.command(Command::Message { client: id("ada"), value: json!(60_000) });
    }
    let (_, bytes) = world.waiting();
    assert!((LAST_EVENT_BYTES - 100_000..LAST_EVENT_BYTES + 100_000).contains(&bytes), "{bytes}");
    assert_eq!(world.shard.audit(), Vec::<String>::new());
    assert!(world.shard.report().counters.events_lost > 0);
    let unheard = LeaveCause::Later(UNHEARD.to_owned());
    let ended = world.take_all().into_iter().filter(|e| matches!(e, Event::Left { cause, .. } if *cause == unheard));
    assert_eq!(ended.count(), 3);
    assert_eq!(world.shard.report().clients, 0);
}
