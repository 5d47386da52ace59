//! Settings that have to go with each other.

use anyhow::bail;

use super::{Config, RoomSpread};

impl Config {
    /// Refuses operators' pages that everybody could reach.
    pub(super) fn check_admin(&self) -> anyhow::Result<()> {
        if self.admin_token.0.is_empty() && !self.admin_listen.ip().to_canonical().is_loopback() {
            let address = self.admin_listen;
            bail!("admin_listen is {address}, beyond loopback, where everybody could close rooms: set admin_token");
        }
        Ok(())
    }

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

    /// Refuses budgets within which a script may hold its shard for so long that the watchdog takes it for stuck.
    pub(super) fn check_watchdog(&self) -> anyhow::Result<()> {
        // A reload: on_unload, the main chunk, on_init and on_load.
        let longest = self.step_budget_ms + 3 * self.load_budget_ms;
        let watchdog_s = self.watchdog_s;
        if watchdog_s > 0 && longest >= 1_000 * u64::from(watchdog_s) {
            bail!(
                "step_budget_ms and load_budget_ms let the reload of a script hold its shard for {longest} ms, which watchdog_s ({watchdog_s}) takes for stuck: lower them, or raise it"
            );
        }
        Ok(())
    }
}
