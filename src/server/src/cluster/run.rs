//! The task that takes part in the cluster for as long as the server runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::engine::{Change, QUEUE, Serving, Unwritten, Watched};
use super::messages::{BEATS, node_subject, part_of, room_of};
use super::peers::{BEAT, SILENCE};
use super::rooms::Effect;
use super::{Cluster, Host};
use moonring_wire::id::RoomId;

/// Beats between two looks at rooms that have ended unnoticed, and at the name.
const SWEEP: u32 = 8;
/// Claims that are read or given up at once.
const AT_ONCE: usize = 32;
/// Pause before claims that could not be read or written are looked at again.
const CHECK_AGAIN: Duration = Duration::from_secs(1);
/// Longest that the end of the process waits for its claims to be given up.
const FAREWELL: Duration = Duration::from_secs(1);

impl Cluster {
    /// Takes part until it is aborted.
    pub(crate) async fn run(self, host: Arc<dyn Host>) {
        let ends = self.0.ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut ends) = ends else { return };
        let carrying = tokio::spawn(self.clone().carry(host.clone()));
        let _carrying = Serving(carrying.abort_handle());
        let sealing = tokio::spawn(self.clone().seal_all_anew());
        let _sealing = Serving(sealing.abort_handle());
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
                () = self.0.links_wanted.notified() => host.ask_of_links(),
                Some(room) = ends.ended.recv() => self.end_room(&host, &room),
                Some(watched) = changes.recv() => match watched {
                    Watched::Opened => self.check_all_claims(&host),
                    Watched::Changed(change) => self.take_change(&host, &change),
                },
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
        self.state().peers.hearing(Instant::now(), self.is_connected());
        let (cluster, for_scripts) = (self.clone(), host.clone());
        tokio::spawn(async move {
            cluster.ask_for_namesakes().await;
            cluster.follow_scripts(for_scripts).await;
        });
        self.check_all_claims(host);
    }

    /// Changes of claims may have been missed: all own ones are read, and nothing is remembered of others.
    fn check_all_claims(&self, host: &Arc<dyn Host>) {
        let mut state = self.state();
        state.rooms.forget_far();
        let rooms = state.rooms.all().into_iter().map(|(room, _)| room).collect();
        drop(state);
        let (cluster, host) = (self.clone(), host.clone());
        let checking = tokio::spawn(async move { cluster.check_claims(&host, rooms).await });
        // One that still goes on has read less.
        let former = self.state().checking.replace(Serving(checking.abort_handle()));
        drop(former);
    }

    /// Reads the claims of rooms, and again those that cannot be read now.
    pub(super) async fn check_claims(&self, host: &Arc<dyn Host>, mut rooms: Vec<RoomId>) {
        loop {
            let checks = rooms.into_iter().map(|room| async move {
                let is_read = self.check_claim(host, &room).await;
                (!is_read).then_some(room)
            });
            let checks = stream::iter(checks).buffer_unordered(AT_ONCE);
            rooms = checks.filter_map(std::future::ready).collect().await;
            // All are read when the engine is there again.
            if rooms.is_empty() || !self.is_connected() {
                return;
            }
            sleep(CHECK_AGAIN).await;
        }
    }

    /// Reads the claim of a room of this node's, and does what follows from it; false when it cannot be read now.
    pub(super) async fn check_claim(&self, host: &Arc<dyn Host>, room: &RoomId) -> bool {
        let key = part_of(room);
        let Ok(found) = self.0.engine.read(&key).await else { return false };
        let found = match found.map(|entry| (entry.revision, self.claim_in(&key, &entry.value))) {
            Some((_, None)) => return true,
            Some((revision, Some(claim))) => Some((revision, claim)),
            None => None,
        };
        let effect = self.state().rooms.checked(Instant::now(), room, found);
        self.take_effect(host, room.clone(), effect);
        true
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
                let (cluster, host) = (self.clone(), host.clone());
                tokio::spawn(async move {
                    let key = part_of(&room);
                    match cluster.0.engine.claim(&key, cluster.claim_of(&key), over).await {
                        Ok(term) => cluster.state().rooms.rewritten(&room, term),
                        // The watch tells of who was first.
                        Err(Unwritten::Taken) => {}
                        Err(Unwritten::Full | Unwritten::Offline) => {
                            sleep(CHECK_AGAIN).await;
                            cluster.check_claims(&host, vec![room]).await;
                        }
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
