//! Takes the steps of a [`Lookup`]: one search per room at a time, whoever asks for it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::engine::{IsGood, Unanswered};
use super::lookup::{Heard, Lookup, OFFLINE, Outcome, Step};
use super::messages::{
    Answer, Ask, Claim, Node, NodeName, Question, answer_topic, claim_topic, node_subject, part_of, question_topic,
    room_subject,
};
use super::placement::choose;
use super::{Cluster, State};
use moonring_wire::id::RoomId;

/// Searches at once.
pub(super) const MAX_SEARCHES: usize = 4096;
/// Longest search; that a home hangs is known after two seconds.
const SEARCH: Duration = Duration::from_secs(5);
/// Time for the home of a room to answer before its claim is read: a home that hangs is known to be dead by then.
const FIRST_ANSWER: Duration = Duration::from_millis(400);
/// Time for the home of a room, or a node, to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// Time for a node to become a room's home, for which it has to write.
const OFFER: Duration = Duration::from_millis(2500);
/// Time for a node to ask its shards about rooms.
const ROOMS: Duration = Duration::from_secs(3);
/// A room that was begun is kept until who asked for it has come: from here, or by way of another node.
const KEPT_HERE: Duration = Duration::from_secs(2);
const KEPT_OFFERED: Duration = Duration::from_secs(10);

/// Where a room is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Here,
    There(Node),
    TryAgain(&'static str),
}

/// Who looks for a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A client of this node.
    Client,
    /// Another node, which has chosen this one.
    Node,
}

impl Cluster {
    /// The search for a room, begun if it is not under way; `None` when there are too many.
    pub(super) fn search(&self, state: &mut State, room: &RoomId, by: By) -> Option<watch::Receiver<Option<Found>>> {
        if let Some(search) = state.searches.get(room) {
            return Some(search.clone());
        }
        if state.searches.len() >= MAX_SEARCHES {
            return None;
        }
        let (found, search) = watch::channel(None);
        state.searches.insert(room.clone(), search.clone());
        let (cluster, room) = (self.clone(), room.clone());
        tokio::spawn(async move {
            let outcome = timeout(SEARCH, cluster.find(&room, by)).await;
            let outcome = outcome.unwrap_or(Found::TryAgain("the room's home does not answer in time"));
            cluster.state().searches.remove(&room);
            found.send_replace(Some(outcome));
        });
        Some(search)
    }

    async fn find(&self, room: &RoomId, by: By) -> Found {
        if !self.state().is_accepted {
            let why = if self.is_connected() { "this node is not yet part of the cluster" } else { OFFLINE };
            return Found::TryAgain(why);
        }
        let mut lookup = Lookup::new(by == By::Client, self.state().rooms.far_term(room));
        loop {
            let heard = match lookup.step() {
                Step::Done(outcome) => return self.found(room, by, outcome),
                step => self.take(room, step).await,
            };
            lookup.hear(heard);
        }
    }

    fn found(&self, room: &RoomId, by: By, outcome: &Outcome) -> Found {
        let now = Instant::now();
        match outcome {
            Outcome::There(node, _) if node.run == self.0.own.run => Found::TryAgain("the room begins just now"),
            Outcome::There(node, term) => {
                self.state().rooms.know(now, room, (node.clone(), *term));
                Found::There(node.clone())
            }
            Outcome::Here(term, is_taken_over) => {
                let keep_until = now + if by == By::Client { KEPT_HERE } else { KEPT_OFFERED };
                let serve = || self.0.engine.serve(&room_subject(room), self.0.inbox.clone());
                let mut state = self.state();
                state.rooms.won(room, *term, keep_until, serve);
                state.begun.add(now);
                drop(state);
                if *is_taken_over {
                    self.0.counts.taken_over.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(%room, term, "its home has died: the room begins anew here");
                }
                Found::Here
            }
            Outcome::TryAgain(why) => Found::TryAgain(why),
        }
    }

    async fn take(&self, room: &RoomId, step: &Step) -> Heard {
        match step {
            Step::AskRoom { is_first } => {
                let patience = if *is_first { FIRST_ANSWER } else { ANSWER };
                self.heard(&room_subject(room), Ask::Where { room: room.clone() }, patience).await
            }
            Step::ReadClaim => self.read_claim(room).await,
            Step::AskNode(name) => self.heard(&node_subject(name), Ask::Who {}, ANSWER).await,
            Step::Look(node) => Heard::Answers(self.is_there(node).await),
            Step::Place => Heard::Placed(self.choose()),
            Step::Offer(name) => self.offer(room, name).await,
            Step::Claim(over) => {
                let key = part_of(room);
                match self.0.engine.claim(&key, self.claim_of(&key), *over).await {
                    Ok(term) => Heard::Won(term),
                    Err(error) => Heard::NotWon(error),
                }
            }
            Step::Wait(time) => {
                sleep(*time).await;
                Heard::Waited
            }
            Step::Done(_) => Heard::Waited,
        }
    }

    async fn heard(&self, subject: &str, ask: Ask, patience: Duration) -> Heard {
        match self.ask(subject, ask, patience).await {
            Ok(Answer::Home { node, term }) => Heard::Home(node, term),
            Ok(Answer::Me { .. }) => Heard::Somebody,
            Ok(_) => Heard::Refused,
            Err(error) => Heard::No(error),
        }
    }

    /// Asks a question that only a node of this cluster can answer.
    pub(super) async fn ask(&self, subject: &str, ask: Ask, patience: Duration) -> Result<Answer, Unanswered> {
        let (seal, nonce) = (&self.0.seal, rand::random());
        let question = Question { nonce, from: self.0.own.clone(), ask };
        let topic = answer_topic(nonce);
        // An answer of this very process is none: it may serve the subject itself.
        let is_other = |answer: &Answer| !matches!(answer, Answer::Me { node, .. } if node.run == self.0.own.run);
        let check = |bytes: &[u8]| seal.open::<Answer>(&topic, bytes).is_ok_and(|answer| is_other(&answer));
        let sealed = seal.close(&question_topic(subject), &question);
        let answer = self.0.engine.ask(subject, sealed, IsGood { patience, check: &check }).await?;
        seal.open(&topic, &answer).map_err(|_| Unanswered::Silence)
    }

    /// Where the node of this name is, if it is another one that beats and answers: one that has just died still beats in
    /// the others' eyes.
    pub(crate) async fn url_of(&self, name: &str) -> Option<String> {
        let name = NodeName::parse(name).ok()?;
        let node = self.state().peers.alive(Instant::now(), &name).cloned()?;
        let answer = self.ask(&node_subject(&name), Ask::Who {}, FIRST_ANSWER).await;
        matches!(answer, Ok(Answer::Me { node: found, .. }) if found.run == node.run).then_some(node.url)
    }

    /// Some rooms of each other node, and what to ask it next; `None` of one that does not answer. The dead are left out: their
    /// rooms are not theirs any more.
    pub(crate) async fn rooms_of_others(
        &self,
        after: Option<RoomId>,
        named: Option<String>,
    ) -> Vec<(NodeName, Option<(Vec<serde_json::Value>, Option<RoomId>)>)> {
        let (nodes, silent) = {
            let (state, now) = (self.state(), Instant::now());
            (state.peers.all_alive(now), state.peers.all_silent(now))
        };
        let asked = nodes.into_iter().map(|Node { name, .. }| {
            let ask = Ask::Rooms { after: after.clone(), named: named.clone() };
            async move {
                let rooms = match self.ask(&node_subject(&name), ask, ROOMS).await {
                    Ok(Answer::Rooms { rooms, next }) => Some((rooms, next)),
                    _ => None,
                };
                (name, rooms)
            }
        });
        let answers = futures_util::future::join_all(asked).await;
        answers.into_iter().chain(silent.into_iter().map(|name| (name, None))).collect()
    }

    async fn read_claim(&self, room: &RoomId) -> Heard {
        let key = part_of(room);
        match self.0.engine.read(&key).await {
            Err(_) => Heard::Offline,
            Ok(None) => Heard::Unclaimed,
            Ok(Some(entry)) => match self.claim_in(&key, &entry.value) {
                Some(Claim { node }) => {
                    let standing = self.state().peers.standing(Instant::now(), &node.name, Some(node.run));
                    Heard::Claimed(node, standing, entry.revision)
                }
                None => Heard::Unreadable,
            },
        }
    }

    fn choose(&self) -> Option<NodeName> {
        let mut state = self.state();
        let now = Instant::now();
        let score = super::peers::busy(&state.beat.shards) + state.begun.score(now);
        let is_draining = state.beat.state == super::NodeState::Draining;
        let others = state.peers.candidates(now);
        choose(score, is_draining, &others)
    }

    async fn offer(&self, room: &RoomId, name: &NodeName) -> Heard {
        let seen = self.state().peers.seq(name);
        let heard = self.heard(&node_subject(name), Ask::Take { room: room.clone(), seen }, OFFER).await;
        if matches!(heard, Heard::Home(..)) {
            self.state().peers.placed(Instant::now(), name);
        }
        heard
    }

    /// A claim for this node, as it is written.
    pub(super) fn claim_of(&self, key: &str) -> Bytes {
        self.0.seal.close(&claim_topic(key), &Claim { node: self.0.own.clone() })
    }
}
