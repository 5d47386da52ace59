//! Settings that have to go with each other.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::bail;

use super::{ClusterStore, Config, RoomSpread, SandboxPart};

impl Config {
    /// Refuses operators' pages that everybody could reach.
    pub(super) fn check_admin(&self) -> anyhow::Result<()> {
        if self.admin_token.0.is_empty() && !self.admin_listen.ip().to_canonical().is_loopback() {
            let address = self.admin_listen;
            bail!("admin_listen is {address}, beyond loopback, where everybody could close rooms: set admin_token");
        }
        Ok(())
    }

    /// Refuses lists with entries that contradict each other, or mean nothing.
    pub(super) fn check_lists(&self) -> anyhow::Result<()> {
        let nowhere =
            |ip: &&IpAddr| ip.is_unspecified() || ip.is_multicast() || **ip == IpAddr::from(Ipv4Addr::BROADCAST);
        if let Some(ip) = self.announced_ip.iter().find(nowhere) {
            bail!(
                "announced_ip has {ip}, to which no client can send media: name the address that leads to this machine"
            );
        }
        for (name, has_none, entries) in [
            ("sandbox", self.sandbox.contains(&SandboxPart::None), self.sandbox.len()),
            ("cluster_stores", self.cluster_stores.contains(&ClusterStore::None), self.cluster_stores.len()),
        ] {
            if has_none && entries > 1 {
                bail!("{name} has none beside others: none stands alone");
            }
        }
        for (at, setting) in self.script_config.iter().enumerate() {
            if setting.name == "secret" {
                bail!("script_config has secret, which scripts have from the setting of that name: set secret itself");
            }
            if self.script_config[..at].iter().any(|before| before.name == setting.name) {
                bail!("script_config has {} twice", setting.name);
            }
        }
        Ok(())
    }

    /// Settings of a node that are given although the server is alone: whoever has forgotten `cluster` would not notice.
    pub(crate) fn without_cluster(&self) -> Vec<&'static str> {
        if !self.cluster.is_empty() {
            return Vec::new();
        }
        let given = [
            ("cluster_secret_file", !self.cluster_secret_file.as_os_str().is_empty()),
            ("cluster_login_file", !self.cluster_login_file.as_os_str().is_empty()),
            ("cluster_ca", !self.cluster_ca.as_os_str().is_empty()),
            ("node", !self.node.is_empty()),
            ("advertised_url", !self.advertised_url.is_empty()),
            ("cluster_spread", self.cluster_spread != RoomSpread::Never),
            ("link_ip", !self.link_ip.is_empty()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
    }

    /// Says that the bound of a recording is none, where all together may have less.
    pub(crate) fn beyond_all_recordings(&self) -> Option<String> {
        let (room, all) = (self.record_room_kib, self.record_all_mib);
        (!self.record.is_empty() && room > all.saturating_mul(1024)).then(|| {
            format!(
                "record_room_kib ({room}) is more than record_all_mib ({all}) lets all recordings have together: that of one room takes the place of all others, and ends there; raise record_all_mib, or lower record_room_kib"
            )
        })
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
