//! An engine in the memory of a test: all nodes share a [`Bus`], from which each can be cut, and on which each can hang.

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::Cluster;
use super::engine::{
    Change, Engine, Entry, IsGood, Message, Offline, Pending, Reply, Serving, Unanswered, Unwritten, Watched,
};
use super::messages::{Node, NodeName, Run};
use super::seal::{MIN_SECRET, Seal};
use super::settings::{ClusterSettings, Login};
use super::tables::{Kept, Table};
use super::witness::{Port, Witness};
use crate::config::RoomSpread;

/// What all nodes share; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Bus(Arc<Mutex<State>>);

struct State {
    served: BTreeMap<u64, (usize, String, mpsc::Sender<Message>)>,
    watchers: BTreeMap<u64, (usize, mpsc::Sender<Watched>)>,
    /// Nodes whose watch has ended, and that have not begun another.
    deaf: BTreeSet<usize>,
    /// Nodes whose table does not answer.
    blind: BTreeSet<usize>,
    next: u64,
    table: BTreeMap<String, Entry>,
    revision: u64,
    connections: Vec<watch::Sender<bool>>,
    /// Nodes that take nothing and say nothing, and are not known to be gone.
    hanging: BTreeSet<usize>,
    delay: Duration,
    /// How late the word comes that an entry was taken out.
    release_delay: Duration,
    /// Values of the other tables, each with the time at which it goes.
    tables: BTreeMap<(Table, String), (Kept, Option<SystemTime>)>,
    full: BTreeSet<Table>,
    clock: SystemTime,
}

impl Default for State {
    fn default() -> Self {
        Self {
            served: BTreeMap::new(),
            watchers: BTreeMap::new(),
            deaf: BTreeSet::new(),
            blind: BTreeSet::new(),
            next: 0,
            table: BTreeMap::new(),
            revision: 0,
            connections: Vec::new(),
            hanging: BTreeSet::new(),
            delay: Duration::ZERO,
            release_delay: Duration::ZERO,
            tables: BTreeMap::new(),
            full: BTreeSet::new(),
            clock: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        }
    }
}

/// One node's connection.
pub(super) struct Memory {
    bus: Bus,
    who: usize,
}

/// Answers for nobody.
struct Nobody;

impl Witness for Nobody {
    fn look(&self, _: Node) -> Pending<'_, Port> {
        Box::pin(std::future::ready(Port::Refuses))
    }
}

/// Nodes of these names on one bus, at `http://NAME/`; the nth is the bus' nth.
pub(crate) fn nodes(names: &[&str]) -> (Bus, Vec<Cluster>) {
    nodes_of(names, RoomSpread::Never)
}

/// The same, each with one shard that the others' shards speak to.
pub(crate) fn linked_nodes(names: &[&str]) -> (Bus, Vec<Cluster>) {
    nodes_of(names, RoomSpread::Always)
}

fn nodes_of(names: &[&str], spread: RoomSpread) -> (Bus, Vec<Cluster>) {
    let bus = Bus::default();
    let node = |(n, name): (usize, &&str)| {
        let node =
            Node { name: NodeName::parse(name).unwrap(), run: Run(rand::random()), url: format!("http://{name}/") };
        let seal = Seal::new(&[1; MIN_SECRET]);
        let (servers, login, ca, region) = (vec![], Login::None, None, "here".to_owned());
        let links = match spread {
            RoomSpread::Never => Vec::new(),
            _ => vec![([10, 0, 0, n as u8], 40_000).into()],
        };
        let settings = ClusterSettings {
            servers,
            login,
            ca,
            seal,
            node,
            region,
            spread,
            candidates: links.iter().map(|link| vec![*link]).collect(),
            links,
        };
        Cluster::new(settings, Box::new(bus.connect()), Box::new(Nobody))
    };
    let nodes = names.iter().enumerate().map(node).collect();
    (bus, nodes)
}

impl Cluster {
    /// Where clients are said to reach each shard, and where other nodes are.
    pub(crate) fn addresses(&self) -> (Vec<Vec<SocketAddr>>, Vec<SocketAddr>) {
        let state = self.state();
        (state.candidates.clone(), state.beat.links.clone())
    }
}

impl Bus {
    /// A further node's connection.
    pub(super) fn connect(&self) -> Memory {
        let mut state = self.state();
        state.connections.push(watch::channel(true).0);
        Memory { bus: self.clone(), who: state.connections.len() - 1 }
    }

    /// Takes a node off the bus, which notices, or puts it back.
    pub(crate) fn cut(&self, who: usize, is_cut: bool) {
        self.state().connections[who].send_replace(!is_cut);
    }

    /// Lets a node hang, which nobody is told, or go on.
    pub(super) fn hang(&self, who: usize, hangs: bool) {
        let mut state = self.state();
        if hangs {
            state.hanging.insert(who)
        } else {
            state.hanging.remove(&who)
        };
    }

    /// Ends a node's watch, or lets it begin another.
    pub(super) fn deafen(&self, who: usize, is_deaf: bool) {
        let mut state = self.state();
        if is_deaf {
            state.deaf.insert(who);
            return;
        }
        state.deaf.remove(&who);
        let of = state.watchers.values().filter(|(watcher, _)| *watcher == who);
        of.for_each(|(_, into)| into.try_send(Watched::Opened).unwrap());
    }

    /// Lets a node read no entries, as when the table elects its leader, or read them again.
    pub(super) fn blind(&self, who: usize, is_blind: bool) {
        let blind = &mut self.state().blind;
        if is_blind {
            blind.insert(who)
        } else {
            blind.remove(&who)
        };
    }

    /// Delays every message by so much.
    pub(super) fn delay(&self, by: Duration) {
        self.state().delay = by;
    }

    /// Delays the word that an entry was taken out.
    pub(crate) fn delay_release(&self, by: Duration) {
        self.state().release_delay = by;
    }

    /// Loses the table.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.table.clear();
        state.revision = 0;
    }

    /// What a stranger writes.
    pub(super) fn write(&self, key: &str, value: Option<&'static [u8]>) {
        self.state().write(key, value.map(Bytes::from_static));
    }

    /// What a stranger says.
    pub(super) fn shout(&self, subject: &str, body: Bytes) {
        self.state().send(subject, &body, None);
    }

    /// The revision of an entry; 0 where nothing stands.
    pub(super) fn revision(&self, key: &str) -> u64 {
        self.state().table.get(key).map_or(0, |entry| entry.revision)
    }

    /// The keys of the table.
    pub(super) fn keys(&self) -> Vec<String> {
        self.state().table.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn is_online(&self, who: usize) -> bool {
        *self.connections[who].borrow()
    }

    /// How many serve the subject, whether they hang or not.
    fn send(&self, subject: &str, body: &Bytes, reply: Option<&mpsc::Sender<Bytes>>) -> usize {
        let listeners = self.served.values().filter(|(who, served, _)| served == subject && self.is_online(*who));
        let mut found = 0;
        for (who, _, into) in listeners {
            found += 1;
            if self.hanging.contains(who) {
                continue;
            }
            let reply = reply.cloned().map(|reply| -> Reply {
                Box::new(move |answer| {
                    let _ = reply.try_send(answer);
                })
            });
            let message = Message { subject: subject.to_owned(), body: body.clone(), reply };
            let (into, delay) = (into.clone(), self.delay);
            tokio::spawn(async move {
                sleep(delay).await;
                let _ = into.try_send(message);
            });
        }
        found
    }

    fn write(&mut self, key: &str, value: Option<Bytes>) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        match &value {
            Some(value) => drop(self.table.insert(key.to_owned(), Entry { value: value.clone(), revision })),
            None => drop(self.table.remove(key)),
        }
        let change = Change { key: key.to_owned(), value, revision };
        for (who, into) in self.watchers.values() {
            if self.is_online(*who) && !self.hanging.contains(who) && !self.deaf.contains(who) {
                let _ = into.try_send(Watched::Changed(change.clone()));
            }
        }
        revision
    }
}

impl Memory {
    /// What goes on until it is dropped.
    fn serving(&self, add: impl FnOnce(&mut State, u64), remove: fn(&mut State, u64)) -> Serving {
        let id = {
            let mut state = self.bus.state();
            state.next += 1;
            let id = state.next;
            add(&mut state, id);
            id
        };
        struct Removal(Bus, u64, fn(&mut State, u64));
        impl Drop for Removal {
            fn drop(&mut self) {
                (self.2)(&mut self.0.state(), self.1);
            }
        }
        let removal = Removal(self.bus.clone(), id, remove);
        let task = tokio::spawn(async move {
            let _removal = removal;
            std::future::pending::<()>().await;
        });
        Serving(task.abort_handle())
    }

    fn is_online(&self) -> bool {
        self.bus.state().is_online(self.who)
    }
}

impl Engine for Memory {
    fn connected(&self) -> watch::Receiver<bool> {
        self.bus.state().connections[self.who].subscribe()
    }

    fn tell(&self, subject: &str, body: Bytes) -> Pending<'_, ()> {
        let state = self.bus.state();
        if state.is_online(self.who) && !state.hanging.contains(&self.who) {
            state.send(subject, &body, None);
        }
        Box::pin(std::future::ready(()))
    }

    fn serve(&self, subject: &str, into: mpsc::Sender<Message>) -> Serving {
        let (who, subject) = (self.who, subject.to_owned());
        let remove = |state: &mut State, id: u64| drop(state.served.remove(&id));
        self.serving(|state, id| drop(state.served.insert(id, (who, subject, into))), remove)
    }

    fn ask<'a>(
        &'a self,
        subject: &str,
        question: Bytes,
        is_good: IsGood<'a>,
    ) -> Pending<'a, Result<Bytes, Unanswered>> {
        let subject = subject.to_owned();
        Box::pin(async move {
            if !self.is_online() {
                return Err(Unanswered::Offline);
            }
            let (reply, mut answers) = mpsc::channel(16);
            if self.bus.state().send(&subject, &question, Some(&reply)) == 0 {
                return Err(Unanswered::Nobody);
            }
            let good = async {
                while let Some(answer) = answers.recv().await {
                    if (is_good.check)(&answer) {
                        return Some(answer);
                    }
                }
                None
            };
            let answer = tokio::time::timeout(is_good.patience, good).await;
            answer.ok().flatten().ok_or(Unanswered::Silence)
        })
    }

    fn read(&self, key: &str) -> Pending<'_, Result<Option<Entry>, Offline>> {
        let state = self.bus.state();
        let can_read = state.is_online(self.who) && !state.blind.contains(&self.who);
        let found = if can_read { Ok(state.table.get(key).cloned()) } else { Err(Offline) };
        drop(state);
        Box::pin(std::future::ready(found))
    }

    fn claim(&self, key: &str, value: Bytes, over: Option<u64>) -> Pending<'_, Result<u64, Unwritten>> {
        let mut state = self.bus.state();
        let claimed = match state.table.get(key).map(|entry| entry.revision) {
            _ if !state.is_online(self.who) => Err(Unwritten::Offline),
            revision if revision == over => Ok(state.write(key, Some(value))),
            _ => Err(Unwritten::Taken),
        };
        drop(state);
        Box::pin(std::future::ready(claimed))
    }

    fn release(&self, key: &str, revision: u64) -> Pending<'_, Result<(), Unwritten>> {
        let mut state = self.bus.state();
        let released = match state.table.get(key).map(|entry| entry.revision) {
            _ if !state.is_online(self.who) => Err(Unwritten::Offline),
            Some(found) if found == revision => {
                state.write(key, None);
                Ok(())
            }
            _ => Err(Unwritten::Taken),
        };
        let delay = state.release_delay;
        drop(state);
        Box::pin(async move {
            sleep(delay).await;
            released
        })
    }

    fn watch(&self, into: mpsc::Sender<Watched>) -> Serving {
        let who = self.who;
        let _ = into.try_send(Watched::Opened);
        let remove = |state: &mut State, id: u64| drop(state.watchers.remove(&id));
        self.serving(|state, id| drop(state.watchers.insert(id, (who, into))), remove)
    }
}
