//! How the home of a room is found, step by step, without I/O.
//!
//! ```text
//!  ask mr.room.<id> ──home──▶ moved                   key: none ──▶ place: here or offer to another node ──▶ claim
//!   │ nobody, silence                                  │
//!   ▼                                                  ▼
//!  read the key ───────────────────────────────▶ of a node that: beats, and answers ──▶ again, three times; try again
//!                                                      │ does not (the first witness)
//!                                                      ▼
//!              its HTTP port, or the link: answers ──▶ try again     does not (the second) ──▶ claim over its revision
//! ```
//! A home that answers with a lower term than one that was heard before has not learnt yet that it is none any more: the key says
//! which node is.

use std::time::Duration;

use super::engine::{Unanswered, Unwritten};
use super::messages::{Node, NodeName};
use super::peers::Standing;

/// Pause before a home that is alive and does not answer for its room is asked again, and how often it is.
const AGAIN: Duration = Duration::from_millis(100);
const ATTEMPTS: u32 = 4;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask the room's home where it is, for a short time at first.
    AskRoom { is_first: bool },
    /// Read the room's claim.
    ReadClaim,
    /// Ask whether anybody has this name.
    AskNode(NodeName),
    /// Look whether the run of a node is there: answers over HTTP, or is heard on a link.
    Look(Node),
    /// Choose where a new room goes.
    Place,
    /// Ask a node to become the home.
    Offer(NodeName),
    /// Write the claim: a new one, or over this revision.
    Claim(Option<u64>),
    /// Wait.
    Wait(Duration),
    /// It is decided.
    Done(Outcome),
}

/// Where the room is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Here, with this term; true when it was another's before.
    Here(u64, bool),
    /// At this node, with this term.
    There(Node, u64),
    /// It cannot be said now: why.
    TryAgain(&'static str),
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Of `AskRoom` and `Offer`: the home, with its term.
    Home(Node, u64),
    /// Of `AskNode`: somebody has the name.
    Somebody,
    /// Of an offer: it is not taken.
    Refused,
    /// Of a question: no answer.
    No(Unanswered),
    /// Of `ReadClaim`: nothing stands there.
    Unclaimed,
    /// Of `ReadClaim`: a process that is so has the room, by this revision.
    Claimed(Node, Standing, u64),
    /// Of `ReadClaim`: something that this node cannot read. It is somebody's claim, and only an operator knows whether it holds.
    Unreadable,
    /// Of `Look`: whether the run is there.
    Answers(bool),
    /// Of `Place`: to whom the room goes; `None`: it stays here.
    Placed(Option<NodeName>),
    /// Of `Claim`: the term.
    Won(u64),
    /// Of `Claim`: nothing was written.
    NotWon(Unwritten),
    /// Of `Wait`: it is over.
    Waited,
    /// The engine cannot be reached.
    Offline,
}

/// Why it cannot be said now.
pub(super) const OFFLINE: &str = "the cluster's messages cannot be reached";
const NO_ANSWER: &str = "the room's home does not answer";
const CONTESTED: &str = "the room's home changes";
const UNREADABLE: &str = "the room's claim cannot be read";

/// One search.
#[derive(Debug)]
pub(super) struct Lookup {
    attempts: u32,
    /// May be given to another node.
    may_offer: bool,
    /// The highest term that was heard of a home: one with a lower term has yet to learn that it is none any more.
    known: u64,
    /// Such a one has answered: the claim says who is.
    contested: Option<(Node, u64)>,
    /// The node that has the claim, while its witnesses are heard.
    holder: Option<(Node, u64)>,
    takes_over: bool,
    step: Step,
}

impl Lookup {
    /// `may_offer` is false for a node that was chosen by another; `known` is the highest term that was heard of a home.
    pub(super) fn new(may_offer: bool, known: u64) -> Self {
        let step = Step::AskRoom { is_first: true };
        Self { attempts: 1, may_offer, known, contested: None, holder: None, takes_over: false, step }
    }

    /// What is to be done.
    pub(super) fn step(&self) -> &Step {
        &self.step
    }

    /// What came of it.
    pub(super) fn hear(&mut self, heard: Heard) {
        self.step = self.next(heard);
    }

    fn next(&mut self, heard: Heard) -> Step {
        match (&self.step, heard) {
            (_, Heard::Offline | Heard::No(Unanswered::Offline) | Heard::NotWon(Unwritten::Offline)) => {
                try_again(OFFLINE)
            }
            (Step::AskRoom { .. } | Step::Offer(_), Heard::Home(node, term)) => self.answered(node, term),
            (Step::AskRoom { .. }, Heard::No(_) | Heard::Refused) => {
                self.contested = None;
                Step::ReadClaim
            }
            (Step::Offer(_), Heard::No(_) | Heard::Refused) => Step::Claim(None),
            (Step::ReadClaim, Heard::Unclaimed) => match self.contested.take() {
                // The table has lost it, and the home is about to write it again.
                Some((node, term)) => Step::Done(Outcome::There(node, term)),
                None if self.may_offer => Step::Place,
                None => Step::Claim(None),
            },
            (Step::ReadClaim, Heard::Unreadable) => try_again(UNREADABLE),
            (Step::ReadClaim, Heard::Claimed(node, standing, revision)) => self.claimed(node, standing, revision),
            (Step::AskNode(_), Heard::No(_)) => self.look(),
            (Step::AskNode(_), _) => self.again(NO_ANSWER),
            (Step::Look(_), Heard::Answers(true)) => try_again(NO_ANSWER),
            (Step::Look(_), Heard::Answers(false)) => self.take_over(),
            (Step::Place, Heard::Placed(Some(name))) => Step::Offer(name),
            (Step::Place, _) => Step::Claim(None),
            (Step::Claim(_), Heard::Won(term)) => Step::Done(Outcome::Here(term, self.takes_over)),
            (Step::Claim(_), Heard::NotWon(Unwritten::Taken)) => self.again(CONTESTED),
            (Step::Wait(_), Heard::Waited) => Step::AskRoom { is_first: false },
            // An answer to another question: nobody gives one.
            _ => try_again(NO_ANSWER),
        }
    }

    fn answered(&mut self, node: Node, term: u64) -> Step {
        if term >= self.known {
            return Step::Done(Outcome::There(node, term));
        }
        self.contested = Some((node, term));
        Step::ReadClaim
    }

    fn claimed(&mut self, node: Node, standing: Standing, revision: u64) -> Step {
        if self.contested.is_some() && standing == Standing::Beats {
            return Step::Done(Outcome::There(node, revision));
        }
        let name = node.name.clone();
        self.holder = Some((node, revision));
        match standing {
            // The word that it was written got lost.
            Standing::Own => Step::Claim(Some(revision)),
            Standing::Replaced | Standing::Dead => self.take_over(),
            Standing::Silent => self.look(),
            Standing::Beats | Standing::Unknown => Step::AskNode(name),
        }
    }

    fn look(&mut self) -> Step {
        self.holder.as_ref().map_or_else(|| try_again(NO_ANSWER), |(node, _)| Step::Look(node.clone()))
    }

    fn take_over(&mut self) -> Step {
        self.takes_over = true;
        Step::Claim(self.holder.as_ref().map(|(_, revision)| *revision))
    }

    fn again(&mut self, why: &'static str) -> Step {
        self.attempts += 1;
        self.takes_over = false;
        if self.attempts > ATTEMPTS { try_again(why) } else { Step::Wait(AGAIN) }
    }
}

fn try_again(why: &'static str) -> Step {
    Step::Done(Outcome::TryAgain(why))
}

#[cfg(test)]
mod tests;
