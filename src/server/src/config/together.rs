//! Settings that have to go with each other.

use anyhow::bail;

use super::{Config, RoomSpread};

impl Config {
    /// Refuses what a take-over does not go with.
    pub(super) fn check_take_over(&self) -> anyhow::Result<()> {
        if self.take_over.as_os_str().is_empty() {
            return Ok(());
        }
        if !self.cluster.is_empty() {
            bail!("take_over and cluster do not go together yet: drain the node and start the new binary instead");
        }
        if self.room_spread != RoomSpread::Never && self.shards() > 1 {
            bail!("take_over and room_spread do not go together yet: set room_spread to never, or leave take_over out");
        }
        if self.resume_s == 0 {
            bail!("take_over needs resume_s above 0: clients go on with the tickets that they resume with");
        }
        Ok(())
    }
}
