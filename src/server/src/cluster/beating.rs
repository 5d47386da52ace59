//! Beats: said four times a second, heard of the others, and the proof that a new run gives of itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::answer::age_ms;
use super::engine::Unanswered;
use super::find::ANSWER;
use super::messages::{Answer, Ask, BEATS, Beat, Node, node_subject};
use super::peers::Heard;
use super::{Cluster, Host};

/// Nodes that are asked at once whether they are there.
const MAX_PROVING: usize = 16;
/// Time in which an older process of the same name says so.
const NAMESAKES: Duration = Duration::from_millis(500);

impl Cluster {
    /// Says how this node does.
    pub(super) fn say_beat(&self, host: &Arc<dyn Host>) {
        let beat = {
            let mut state = self.state();
            state.beat.shards = host.loads();
            state.beat.scripts = host.scripts_id();
            state.beat.rooms = state.rooms.len();
            state.beat.unheard = self.mail().dead.unheard(Instant::now());
            if !state.is_accepted {
                return;
            }
            state.beat.seq += 1;
            state.beat.clone()
        };
        let cluster = self.clone();
        let sealed = self.0.seal.close(BEATS, &beat);
        tokio::spawn(async move { cluster.0.engine.tell(BEATS, sealed).await });
    }

    /// Takes in a beat of another node.
    pub(super) fn hear_beat(&self, host: &Arc<dyn Host>, body: &[u8]) {
        let (beat, by): (Beat, _) = match self.0.seal.open_by(BEATS, body) {
            Ok(opened) => opened,
            Err(error) => return self.refuse_message(BEATS, &error),
        };
        let name = beat.node.name.clone();
        let mut state = self.state();
        let now = Instant::now();
        let heard = state.peers.hear(now, beat.clone());
        state.heard_by(now, &heard, &name, by);
        match heard {
            Heard::GoesOn(comes_back) => {
                drop(state);
                self.hear_links(host, &beat);
                self.hear_unheard(&beat);
                self.0.counts.beats.fetch_add(1, Ordering::Relaxed);
                if comes_back {
                    tracing::info!(node = %name, "beats again");
                }
            }
            Heard::Old => {}
            Heard::Unproven => {
                if state.proving.len() < MAX_PROVING && state.proving.insert(name) {
                    drop(state);
                    tokio::spawn(self.clone().prove(beat));
                }
            }
            Heard::Namesake(Node { name, run, url }) => {
                if state.warns(format!("namesake {name} {}", run.0)) {
                    let known = state.peers.alive(Instant::now(), &name).map_or(&self.0.own.url, |node| &node.url);
                    tracing::error!(
                        "two nodes have the name {name}: one at {known}, and one at {url}, which is not believed"
                    );
                }
            }
            Heard::Bad(what) => {
                if state.warns(format!("bad {name} {what}")) {
                    tracing::error!(node = %name, "is not believed: {what}");
                }
            }
        }
    }

    /// A beat may be a copy of one that was said long ago: who says it now can answer.
    async fn prove(self, beat: Beat) {
        let name = beat.node.name.clone();
        let answer = self.ask(&node_subject(&name), Ask::Who {}, ANSWER).await;
        let mut state = self.state();
        state.proving.remove(&name);
        if matches!(answer, Ok(Answer::Me { node, .. }) if node == beat.node) {
            let (url, region) = (beat.node.url.clone(), beat.region.clone());
            state.peers.proven(Instant::now(), beat);
            drop(state);
            tracing::info!(node = %name, url, region, "is in the cluster");
        }
    }

    /// Asks whether an older process has this node's name. Until there is none, this one takes no part.
    pub(super) async fn ask_for_namesakes(&self) {
        let answer = self.ask(&node_subject(&self.0.own.name), Ask::Who {}, NAMESAKES).await;
        let own = &self.0.own;
        let accepted = match answer {
            Ok(Answer::Me { node, age_ms: age }) => {
                let own_age = age_ms(self.0.started);
                // Who runs for longer has the name; of two that began together, the one with the lower run.
                let is_older = (own_age, node.run) > (age, own.run);
                if self.state().warns(format!("namesake {} {}", node.name, node.run.0)) {
                    let verdict =
                        if is_older { "the other one is refused" } else { "this one is refused: give it another node" };
                    tracing::error!(
                        "two nodes have the name {}: this one at {}, and one at {}; {verdict}",
                        own.name,
                        own.url,
                        node.url
                    );
                }
                is_older
            }
            Ok(_) | Err(Unanswered::Offline) => return,
            Err(Unanswered::Nobody | Unanswered::Silence) => true,
        };
        let mut state = self.state();
        if accepted && !state.is_accepted {
            tracing::info!(node = %own.name, "takes part in the cluster");
        }
        state.is_accepted = accepted;
    }

    /// Looks whether the nodes that are silent are there.
    pub(super) fn look_at_silent(&self) {
        let due = self.state().peers.due(Instant::now());
        for node in due {
            let cluster = self.clone();
            tokio::spawn(async move {
                let answers = cluster.is_there(&node).await;
                let changes = cluster.state().peers.looked(Instant::now(), &node, answers);
                if changes && answers {
                    tracing::info!(node = %node.name, "is there again, over HTTP or on a link, and does not beat: its rooms stay its own");
                } else if changes {
                    cluster.0.counts.deaths.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(node = %node.name, url = node.url, "is dead: it does not beat, does not answer over HTTP, and is not heard on a link");
                }
            });
        }
    }
}
