//! What this node answers to others' questions.

use std::sync::Arc;
use std::time::Instant;

use super::engine::{Message, Reply};
use super::find::{By, Found};
use super::messages::{Answer, Ask, NodeState, Question, answer_topic, question_topic};
use super::seal::Broken;
use super::{Cluster, Host};
use crate::config::RoomSpread;
use moonring_core::command::PLACE_VERSION;
use moonring_wire::id::RoomId;

/// How many beats old the knowledge of who offers a room may be: ten seconds.
const OLDEST: u64 = 40;
/// Bytes of rooms in one answer: the frame, the proof and what follows the list need the rest.
const MAX_ROOMS_BYTES: usize = 48 * 1024;

impl Cluster {
    /// Answers a question, if it is one of a node's.
    pub(super) fn answer(&self, host: &Arc<dyn Host>, message: Message) {
        let Some(reply) = message.reply else { return };
        let question: Question = match self.0.seal.open(&question_topic(&message.subject), &message.body) {
            Ok(question) => question,
            Err(error) => return self.refuse_message(&message.subject, &error),
        };
        let cluster = self.clone();
        let send = move |answer: Answer| reply_with(&cluster, reply, question.nonce, &answer);
        match question.ask {
            Ask::Where { room } => match self.state().rooms.term(&room) {
                Some(term) => send(Answer::Home { node: self.0.own.clone(), term }),
                None => send(no("the room is not here")),
            },
            Ask::Who {} => {
                let (name, own, other) = (&self.0.own.name, &self.0.own.url, &question.from.url);
                let is_namesake = question.from.name == *name && question.from.run != self.0.own.run;
                if is_namesake && self.state().warns(format!("namesake {name} {}", question.from.run.0)) {
                    tracing::error!("two nodes have the name {name}: this one at {own}, and one at {other}");
                }
                send(Answer::Me { node: self.0.own.clone(), age_ms: age_ms(self.0.started) });
            }
            Ask::Take { room, seen } => self.take_room(room, seen, send),
            Ask::Wing { version, .. } if version != PLACE_VERSION => {
                let name = &question.from.name;
                if self.state().warns(format!("places {name} {version}")) {
                    tracing::error!(
                        "shards of node {name} speak version {version} to others, those of this node version \
                         {PLACE_VERSION}: rooms do not spread over both"
                    );
                }
                send(no("another version"));
            }
            Ask::Wing { room, .. } => {
                let is_home = self.state().rooms.term(&room).is_some() && self.spread() != RoomSpread::Never;
                match host.shard_of(&room).filter(|_| is_home) {
                    Some(shard) => send(Answer::Wing { shard }),
                    None => send(no("the room is not here")),
                }
            }
            Ask::TakeClient { room, shard, version } => send(self.take_client(host, &room, shard, version)),
            Ask::MoveClient { room, client, node, shard } => {
                let host = host.clone();
                tokio::spawn(async move {
                    let moves = host.move_client(room, client, (node, shard)).await;
                    send(moves.map_or_else(|why| no(&why), |()| Answer::Moves {}));
                });
            }
            Ask::Rooms { after, named } => {
                let host = host.clone();
                tokio::spawn(async move {
                    let (rooms, next) = host.rooms(after, named).await;
                    send(bounded(rooms, next));
                });
            }
            Ask::CheckScripts { id } => self.tell_of_scripts(host, id, false, send),
            Ask::TakeScripts { id } => self.tell_of_scripts(host, id, true, send),
        }
    }

    fn tell_of_scripts(
        &self,
        host: &Arc<dyn Host>,
        id: String,
        is_taken: bool,
        send: impl FnOnce(Answer) + Send + 'static,
    ) {
        let (cluster, host) = (self.clone(), host.clone());
        tokio::spawn(async move {
            let told = cluster.serve_scripts(&*host, &id, is_taken).await;
            send(Answer::Scripts { told: told.bounded() });
        });
    }

    /// Becomes a room's home, unless it has one.
    fn take_room(&self, room: RoomId, seen: u64, send: impl FnOnce(Answer) + Send + 'static) {
        let mut state = self.state();
        if state.beat.seq.saturating_sub(seen) > OLDEST || seen > state.beat.seq {
            return send(no("the offer is old"));
        }
        if state.beat.state == NodeState::Draining {
            return send(no("this node takes no rooms"));
        }
        let Some(mut search) = self.search(&mut state, &room, By::Node) else { return send(no("too many searches")) };
        drop(state);
        let cluster = self.clone();
        tokio::spawn(async move {
            let found = search.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
            send(match found {
                Some(Found::Here) => {
                    let term = cluster.state().rooms.term(&room).unwrap_or_default();
                    Answer::Home { node: cluster.0.own.clone(), term }
                }
                Some(Found::There(node)) => {
                    let term = cluster.state().rooms.far_term(&room);
                    Answer::Home { node, term }
                }
                Some(Found::TryAgain(why)) => no(why),
                None => no("it is not known"),
            });
        });
    }

    /// Says once of each that somebody's messages are not believed, and counts them.
    pub(super) fn refuse_message(&self, subject: &str, error: &Broken) {
        self.0.counts.strangers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match error {
            Broken::Stranger if self.state().warns("a stranger".to_owned()) => tracing::warn!(
                subject,
                "somebody with another cluster_secret_file, or none, sends messages to this cluster's subjects: they change nothing"
            ),
            Broken::Version(version, body) => {
                let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
                let word = |key: &str| body[key].as_str().unwrap_or("?").chars().take(512).collect::<String>();
                let (name, url) = (word("name"), word("url"));
                if self.state().warns(format!("version {version} {name} {url}")) {
                    let own = super::seal::VERSION;
                    tracing::error!(
                        "node {name:?} at {url:?} speaks version {version} of the cluster's protocol, this node version \
                         {own}: they are not part of the same cluster"
                    );
                }
            }
            Broken::Malformed(why) if self.state().warns(format!("malformed {subject}")) => {
                tracing::warn!(subject, why, "a message of the cluster cannot be read");
            }
            Broken::Stranger | Broken::Malformed(_) => {}
        }
    }
}

fn reply_with(cluster: &Cluster, reply: Reply, nonce: u64, answer: &Answer) {
    reply(cluster.0.seal.close(&answer_topic(nonce), answer));
}

fn no(why: &str) -> Answer {
    Answer::No { why: why.to_owned() }
}

/// As many rooms as one message holds.
fn bounded(rooms: Vec<serde_json::Value>, next: Option<RoomId>) -> Answer {
    let (mut bytes, all) = (0, rooms.len());
    let fits = |room: &serde_json::Value| {
        bytes += room.to_string().len() + 1;
        bytes <= MAX_ROOMS_BYTES
    };
    let rooms: Vec<_> = rooms.into_iter().take_while(fits).collect();
    let last = || rooms.last().and_then(|room| RoomId::parse(room["room"].as_str()?).ok());
    let next = if rooms.len() < all { last() } else { next };
    Answer::Rooms { rooms, next }
}

/// For how many milliseconds this process has run.
pub(super) fn age_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_holds_as_many_rooms_as_one_message_may() {
        let room = |n: usize| json!({"room": format!("r{n:04}"), "pad": "x".repeat(1000)});
        let Answer::Rooms { rooms, next } = bounded((0..100).map(room).collect(), None) else { panic!("rooms") };
        assert_eq!((rooms.len(), next), (47, RoomId::parse("r0046").ok()));
        let Answer::Rooms { rooms, next } = bounded((0..3).map(room).collect(), RoomId::parse("z").ok()) else {
            panic!("rooms")
        };
        assert_eq!((rooms.len(), next), (3, RoomId::parse("z").ok()));
    }
}
