//! The task that takes part in the cluster for as long as the server runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::engine::{Change, QUEUE, Serving};
use super::messages::{BEATS, node_subject, part_of, room_of};
use super::peers::{BEAT, SILENCE};
use super::rooms::Effect;
use super::{Cluster, Host};
use moonring_wire::id::RoomId;

/// Beats between two looks at rooms that have ended unnoticed, and at the name.
const SWEEP: u32 = 8;
/// Claims that are read or given up at once.
const AT_ONCE: usize = 32;
/// Longest that the end of the process waits for its claims to be given up.
const FAREWELL: Duration = Duration::from_secs(1);

impl Cluster {
    /// Takes part until it is aborted.
    pub(crate) async fn run(self, host: Arc<dyn Host>) {
        let ends = self.0.ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut ends) = ends else { return };
        let carrying = tokio::spawn(self.clone().carry(host.clone()));
        let _carrying = Serving(carrying.abort_handle());
        let engine = &self.0.engine;
        let _beats = engine.serve(BEATS, self.0.inbox.clone());
        let _own = engine.serve(&node_subject(&self.0.own.name), self.0.inbox.clone());
        let (changed, mut changes) = mpsc::channel(QUEUE);
        let _watch = engine.watch(changed);
        let mut connected = engine.connected();
        connected.mark_changed();
        let mut ticks = interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut count) = (Instant::now(), 0_u32);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let now = Instant::now();
                    let away = now.duration_since(last);
                    last = now;
                    if away > SILENCE {
                        tracing::warn!("this process stood still for {} ms", away.as_millis());
                        self.hear_anew(&host);
                    }
                    self.say_beat(&host);
                    self.look_at_silent();
                    self.look_at_places(&host);
                    count = count.wrapping_add(1);
                    if count.is_multiple_of(SWEEP) {
                        self.sweep(&host);
                    }
                }
                Some(message) = ends.inbox.recv() => match message.subject == BEATS {
                    true => self.hear_beat(&host, &message.body),
                    false => self.answer(&host, message),
                },
                Some(room) = ends.ended.recv() => self.end_room(&host, &room),
                Some(change) = changes.recv() => self.take_change(&host, &change),
                Ok(()) = connected.changed() => {
                    let is_connected = *connected.borrow_and_update();
                    match is_connected {
                        true => self.hear_anew(&host),
                        false => self.state().peers.hearing(Instant::now(), false),
                    }
                }
            }
        }
    }

    /// Messages may have been missed: nobody is judged by silence from before, and all own claims are read.
    fn hear_anew(&self, host: &Arc<dyn Host>) {
        let mut state = self.state();
        state.peers.hearing(Instant::now(), self.is_connected());
        state.rooms.forget_far();
        drop(state);
        let (cluster, host) = (self.clone(), host.clone());
        tokio::spawn(async move {
            cluster.ask_for_namesakes().await;
            cluster.check_claims(&host).await;
            cluster.follow_scripts(host).await;
        });
    }

    async fn check_claims(&self, host: &Arc<dyn Host>) {
        let rooms = self.state().rooms.all();
        let checks = stream::iter(rooms).map(|(room, _)| self.check_claim(host, room)).buffer_unordered(AT_ONCE);
        checks.collect::<()>().await;
    }

    pub(super) async fn check_claim(&self, host: &Arc<dyn Host>, room: RoomId) {
        let key = part_of(&room);
        // Who cannot read it now will, when the engine is there again.
        let Ok(found) = self.0.engine.read(&key).await else { return };
        let found = match found.map(|entry| (entry.revision, self.claim_in(&key, &entry.value))) {
            Some((_, None)) => return,
            Some((revision, Some(claim))) => Some((revision, claim)),
            None => None,
        };
        let effect = self.state().rooms.checked(Instant::now(), &room, found);
        self.take_effect(host, room, effect);
    }

    fn take_change(&self, host: &Arc<dyn Host>, change: &Change) {
        let Some(room) = room_of(&change.key) else { return };
        let claim = match change.value.as_deref().map(|value| self.claim_in(&change.key, value)) {
            // Somebody's; of a room of this node's the home stays here all the same.
            Some(None) => return,
            claim => claim.flatten(),
        };
        let effect = self.state().rooms.changed(Instant::now(), &room, change.revision, claim);
        self.take_effect(host, room, effect);
    }

    fn take_effect(&self, host: &Arc<dyn Host>, room: RoomId, effect: Effect<Serving>) {
        match effect {
            Effect::None => {}
            Effect::GiveWay(node, serving) => {
                drop(serving);
                self.0.counts.gave_way.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%room, home = %node.name, "has another home by a higher term: its clients are sent there");
                host.give_way(&room, &node.url);
            }
            Effect::Rewrite(over) => {
                let cluster = self.clone();
                tokio::spawn(async move {
                    let key = part_of(&room);
                    if let Ok(term) = cluster.0.engine.claim(&key, cluster.claim_of(&key), over).await {
                        cluster.state().rooms.rewritten(&room, term);
                    }
                });
            }
        }
    }

    /// Gives a room up that nobody is in.
    fn end_room(&self, host: &Arc<dyn Host>, room: &RoomId) {
        if host.has_room(room) {
            return;
        }
        let ended = self.state().rooms.end(Instant::now(), room);
        if let Some((term, serving)) = ended {
            drop(serving);
            let (cluster, key) = (self.clone(), part_of(room));
            // A claim that stays is written over by whoever asks for the room next.
            tokio::spawn(async move { cluster.0.engine.release(&key, term).await });
        }
    }

    fn sweep(&self, host: &Arc<dyn Host>) {
        let rooms = self.state().rooms.all();
        rooms.iter().for_each(|(room, _)| self.end_room(host, room));
        if !self.is_connected() {
            return;
        }
        let (cluster, host, is_accepted) = (self.clone(), host.clone(), self.state().is_accepted);
        tokio::spawn(async move {
            match is_accepted {
                true => cluster.follow_scripts(host).await,
                false => cluster.ask_for_namesakes().await,
            }
        });
    }

    /// The process ends: what it still has is free for others.
    pub(crate) async fn leave(&self) {
        let rooms = self.state().rooms.leave();
        let release = |(room, term): (RoomId, u64)| async move {
            let _ = self.0.engine.release(&part_of(&room), term).await;
        };
        let released = stream::iter(rooms).map(release).buffer_unordered(AT_ONCE).collect::<()>();
        // What is not given up is taken over.
        let _ = timeout(FAREWELL, released).await;
    }
}
