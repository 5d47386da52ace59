//! Values of policies in the tables that nodes share, sealed.

use std::time::{Duration, SystemTime};

use super::Cluster;
use super::engine::{Offline, Unwritten};
use super::tables::{Kept, Table, Unread, bucket_of};

impl Cluster {
    /// What stands under a key.
    pub(crate) async fn value(&self, table: Table, key: &str) -> Result<Kept, Unread> {
        let found = self.0.engine.look(table, key).await.map_err(|Offline| Unread::Offline)?;
        self.opened(table, key, found).ok_or(Unread::Unreadable)
    }

    /// All that stands under keys which begin so, up to a dot, and can be read.
    pub(crate) async fn values(&self, table: Table, prefix: &str) -> Result<Vec<(String, Kept)>, Offline> {
        let all = self.0.engine.all(table, prefix).await?;
        let opened = all.into_iter().filter_map(|(key, found)| {
            let found = self.opened(table, &key, found)?;
            Some((key, found))
        });
        Ok(opened.collect())
    }

    /// Writes a value over the revision that was found, or takes it out. It goes by itself after `ttl`.
    pub(crate) async fn put_value(
        &self,
        table: Table,
        key: &str,
        value: Option<Vec<u8>>,
        over: u64,
        ttl: Option<Duration>,
    ) -> Result<(), Unwritten> {
        let sealed = value.map(|value| self.0.seal.close_bytes(&topic(table, key), &value));
        self.0.engine.put(table, key, sealed, over, ttl).await.map(|_| ())
    }

    /// What the engine's clock says, which all nodes go by; `None` when it cannot be read now.
    pub(crate) async fn engine_time(&self, table: Table) -> Option<SystemTime> {
        let key = format!("clock.{}", self.name());
        let before = self.value(table, &key).await.ok()?;
        self.put_value(table, &key, Some(Vec::new()), before.revision, None).await.ok()?;
        self.value(table, &key).await.ok().map(|found| found.written)
    }

    fn opened(&self, table: Table, key: &str, found: Kept) -> Option<Kept> {
        let Some(sealed) = &found.value else { return Some(found) };
        match self.0.seal.open_bytes(&topic(table, key), sealed) {
            Ok(value) => {
                let value = Some(sealed.slice_ref(value));
                Some(Kept { value, ..found })
            }
            Err(error) => {
                self.leave_entry(&bucket_of(table), key, &error);
                None
            }
        }
    }
}

/// What the proof of a value is about.
pub(super) fn topic(table: Table, key: &str) -> String {
    format!("value {} {key}", table.name())
}
