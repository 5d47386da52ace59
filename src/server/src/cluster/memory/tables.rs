//! The tables in the memory of a test.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::engine::{Offline, Pending, Unwritten};
use super::super::tables::{Kept, Scanned, Table, Tables};
use super::{Bus, Memory};

impl Bus {
    /// The time of the engine's clock.
    pub(crate) fn set_clock(&self, now: SystemTime) {
        self.state().clock = now;
    }

    /// What a stranger writes into a table.
    pub(crate) fn put_value(&self, table: Table, key: &str, value: &'static [u8]) {
        let mut state = self.state();
        state.revision += 1;
        let (revision, written) = (state.revision, state.clock);
        let found = Kept { value: Some(Bytes::from_static(value)), revision, written };
        state.tables.insert((table, key.to_owned()), (found, None));
    }

    /// Refuses writes of new values to a table from now on.
    pub(crate) fn fill(&self, table: Table, is_full: bool) {
        let full = &mut self.state().full;
        if is_full {
            full.insert(table)
        } else {
            full.remove(&table)
        };
    }

    /// What was written under all keys of a table, sealed.
    pub(crate) fn table_values(&self, table: Table) -> Vec<Kept> {
        let state = self.state();
        let of = state.tables.iter().filter(|((of, _), _)| *of == table);
        of.map(|(_, (found, _))| found.clone()).collect()
    }

    /// Takes out what stands under a key, as an operator does.
    pub(crate) fn drop_value(&self, table: Table, key: &str) {
        self.state().tables.remove(&(table, key.to_owned()));
    }

    /// The keys of a table.
    pub(crate) fn table_keys(&self, table: Table) -> Vec<String> {
        let state = self.state();
        let of = state.tables.iter().filter(|((of, _), (found, _))| *of == table && found.value.is_some());
        of.map(|((_, key), _)| key.clone()).collect()
    }
}

impl Tables for Memory {
    fn look(&self, table: Table, key: &str) -> Pending<'_, Result<Kept, Offline>> {
        let is_online = self.is_online();
        let state = self.bus.state();
        let found = state.tables.get(&(table, key.to_owned()));
        let found = found.map_or(Kept::NOTHING, |(found, until)| match until {
            Some(until) if *until <= state.clock => Kept { value: None, ..found.clone() },
            _ => found.clone(),
        });
        Box::pin(std::future::ready(if is_online { Ok(found) } else { Err(Offline) }))
    }

    fn put(
        &self,
        table: Table,
        key: &str,
        value: Option<Bytes>,
        over: u64,
        ttl: Option<Duration>,
    ) -> Pending<'_, Result<u64, Unwritten>> {
        let mut state = self.bus.state();
        let at = (table, key.to_owned());
        let put = match state.tables.get(&at).map_or(0, |(found, _)| found.revision) {
            _ if !state.is_online(self.who) => Err(Unwritten::Offline),
            revision if revision != over => Err(Unwritten::Taken),
            _ if value.is_some() && state.full.contains(&table) => Err(Unwritten::Full),
            _ => {
                state.revision += 1;
                let (revision, written) = (state.revision, state.clock);
                state.tables.insert(at, (Kept { value, revision, written }, ttl.map(|ttl| written + ttl)));
                Ok(revision)
            }
        };
        drop(state);
        // Others may write before this is told.
        Box::pin(async move {
            tokio::task::yield_now().await;
            put
        })
    }

    fn all(&self, table: Table, prefix: &str) -> Pending<'_, Result<Vec<(String, Kept)>, Offline>> {
        let is_online = self.is_online();
        let state = self.bus.state();
        let of = state.tables.iter().filter(|((of, key), _)| *of == table && key.starts_with(prefix));
        let all = of.map(|((_, key), (found, _))| (key.clone(), found.clone())).collect();
        Box::pin(std::future::ready(if is_online { Ok(all) } else { Err(Offline) }))
    }

    fn scan(&self, table: Option<Table>, into: mpsc::Sender<Scanned>) -> Pending<'_, Result<(), Offline>> {
        let is_online = self.is_online();
        let state = self.bus.state();
        let of =
            state.tables.iter().filter(|((of, _), _)| Some(*of) == table).filter_map(|((_, key), (found, until))| {
                let ttl = until.and_then(|until| until.duration_since(found.written).ok());
                Some(Scanned { key: key.clone(), value: found.value.clone()?, revision: found.revision, ttl })
            });
        let claims = state.table.iter().filter(|_| table.is_none()).map(|(key, entry)| Scanned {
            key: key.clone(),
            value: entry.value.clone(),
            revision: entry.revision,
            ttl: None,
        });
        let all: Vec<_> = claims.chain(of).collect();
        Box::pin(async move {
            for entry in all {
                into.send(entry).await.map_err(|_| Offline)?;
            }
            if is_online { Ok(()) } else { Err(Offline) }
        })
    }
}
