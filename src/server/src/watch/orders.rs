//! What operators want of the scripts: that all rooms get the newest ones, or some rooms first.

use tokio::sync::oneshot;

use super::canary::{Canary, CanaryOrder, CanaryReport};
use super::{ReloadReport, Watch};
use crate::script_set::{FailedScript, ScriptSet};
use moonring_policy::ScriptLibrary;
use moonring_policy::canary::{Judgement, Reason as Why};

/// Why no canary begins.
const NOTHING_NEW: &str = "no script is newer than what all rooms run; with on_save = \"reload\" a saved script is given to \
    all of them at once: set it to \"nothing\" or \"canary\"";
/// Why none can be ended.
const NO_CANARY: &str = "there is no canary";

/// What an operator wants of the watch.
#[derive(Debug)]
pub(super) enum Request {
    /// All rooms are to have the newest scripts.
    Reload(oneshot::Sender<(u64, ReloadReport)>),
    Canary(Wanted, oneshot::Sender<Result<CanaryReport, String>>),
    /// What would not compile if these were the uploaded scripts.
    Check(ScriptSet, oneshot::Sender<Result<Vec<FailedScript>, String>>),
    /// These are to be the uploaded scripts.
    Take(ScriptSet, oneshot::Sender<Result<ReloadReport, String>>),
    /// They are, on the disk.
    Taken(oneshot::Sender<Result<ReloadReport, String>>),
    /// The uploaded scripts themselves.
    Uploaded(oneshot::Sender<Result<ScriptSet, String>>),
}

/// What an operator wants of a canary.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Begin(CanaryOrder),
    Status,
    Promote,
    Abort,
}

impl Watch {
    /// Does what an operator wants, after the folder has been read.
    pub(super) fn serve(&mut self, request: Request, report: ReloadReport) {
        // Who asked may have gone.
        match request {
            Request::Reload(reply) => {
                // Rooms where it failed are given it again, also when nothing is new.
                let has_told = self.library.orders() == self.orders;
                if !self.is_given || self.canary.is_some() || !has_told {
                    self.give_newest();
                }
                let _ = reply.send((self.orders, report));
            }
            Request::Canary(wanted, reply) => {
                let _ = reply.send(self.serve_canary(wanted));
            }
            Request::Taken(reply) => {
                let _ = reply.send(Ok(report));
            }
            // Answered before the folder was read.
            Request::Check(..) | Request::Take(..) | Request::Uploaded(..) => {}
        }
    }

    fn serve_canary(&mut self, wanted: Wanted) -> Result<CanaryReport, String> {
        match wanted {
            Wanted::Begin(_) if self.is_given => return Err(NOTHING_NEW.to_owned()),
            Wanted::Begin(order) => self.begin_canary(order),
            Wanted::Status => {}
            Wanted::Promote => self.promote_canary()?,
            Wanted::Abort => self.end_canary(&Why::Asked)?,
        }
        Ok(self.canary.as_ref().map_or_else(|| self.last_canary.clone(), |canary| canary.report(&self.told)))
    }

    /// Gives all rooms the newest scripts of the folder; a canary of others ends.
    pub(super) fn give_newest(&mut self) {
        let Some(newest) = self.folder.as_ref().map(|folder| folder.library().clone()) else { return };
        if let Some(canary) = self.canary.take() {
            self.last_canary = canary.ended(&self.told, Some(&Why::Newer));
        }
        self.is_given = true;
        self.give(newest);
    }

    /// Hands other scripts to all shards.
    fn give(&mut self, library: ScriptLibrary) {
        self.before = std::mem::replace(&mut self.library, library.with_orders(self.orders));
        self.behind = (0..self.shards.len()).collect();
        self.deliver();
    }

    /// Some rooms get the newest scripts of the folder. A canary of an older version ends, and its rooms are among the
    /// others.
    pub(super) fn begin_canary(&mut self, order: CanaryOrder) {
        let Some(newest) = self.folder.as_ref().map(|folder| folder.library().clone()) else { return };
        let base = match self.canary.take() {
            Some(canary) => {
                self.last_canary = canary.ended(&self.told, Some(&Why::Newer));
                canary.base
            }
            None => self.library.clone(),
        };
        self.canaries += 1;
        let canary = Canary::new(self.canaries, order, base, newest);
        self.is_given = true;
        self.give(canary.library());
        self.canary = Some(canary);
    }

    /// Looks at what both sides of the canary have done.
    pub(super) fn judge_canary(&mut self) {
        let Some(canary) = &self.canary else { return };
        // An error says that there is none.
        let _ = match canary.judge(&self.told) {
            Judgement::GoOn => Ok(()),
            Judgement::Promote => self.promote_canary(),
            Judgement::Back(reason) => self.end_canary(&reason),
        };
    }

    fn promote_canary(&mut self) -> Result<(), String> {
        let canary = self.canary.take().ok_or(NO_CANARY)?;
        self.last_canary = canary.ended(&self.told, None);
        self.give(canary.newer);
        Ok(())
    }

    /// The canary's rooms go back to what the others run. Its version is not tried again until it is saved again, or
    /// asked for.
    fn end_canary(&mut self, reason: &Why) -> Result<(), String> {
        let canary = self.canary.take().ok_or(NO_CANARY)?;
        self.last_canary = canary.ended(&self.told, Some(reason));
        self.is_given = false;
        self.give(canary.base);
        Ok(())
    }
}
