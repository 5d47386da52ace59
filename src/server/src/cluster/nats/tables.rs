//! The tables in buckets of NATS' key-value store.
//!
//! Values are read from the leader of a bucket, not from a copy that may lag behind: what one node was told is written, the next
//! one finds.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, pull, push};
use async_nats::jetstream::context::{GetStreamErrorKind, PublishError};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{self, ErrorCode, kv};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::engine::{Offline, Pending, Unwritten};
use super::super::tables::{Kept, MAX_VALUE, Scanned, Table, Tables, bucket_of};
use super::{BUCKET, MARKERS, Nats, PATIENCE};
use moonring_wire::causes::causes;

/// The header that says what a write is, and its value for one that takes out.
const OPERATION: &str = "KV-Operation";
const PURGE: &str = "PURGE";
/// The header of what the server itself writes when an entry's time is over.
const MARKER: &str = "Nats-Marker-Reason";
/// The same as [`ErrorCode::STREAM_WRONG_LAST_SEQUENCE`], where the server does not say which was the last.
const WRONG_LAST_SEQUENCE: ErrorCode = ErrorCode(10164);
/// Longest wait for all entries below a prefix.
const ALL: Duration = Duration::from_secs(5);

/// Bytes of a bucket.
fn bytes_of(table: Table) -> i64 {
    const MIB: i64 = 1024 * 1024;
    match table {
        Table::Scripts => 32 * MIB,
        Table::Store | Table::State => 256 * MIB,
        Table::Shared => 64 * MIB,
    }
}

fn subject_of(table: Table, key: &str) -> String {
    format!("$KV.{}.{key}", bucket_of(table))
}

impl Nats {
    /// The table's stream, found or, with the first write, made; `Ok(None)` where there is none.
    async fn table(&self, table: Table, make: bool) -> Result<Option<Stream>, Offline> {
        let mut tables = self.tables.lock().await;
        if let Some(stream) = tables.get(&table) {
            return Ok(Some(stream.clone()));
        }
        let bucket = bucket_of(table);
        let found = match self.jetstream.get_stream(format!("KV_{bucket}")).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND && make => {
                    let made = self.make_table(table, bucket).await;
                    made.map_err(|error| {
                        let words = format!("the cluster has no table of {}: {}", table.name(), causes(error.as_ref()));
                        if self.said.is_due(&words, Instant::now()) {
                            tracing::error!("{words}");
                        }
                        Offline
                    })?
                }
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    return Ok(None);
                }
                _ => return Err(Offline),
            },
        };
        tables.insert(table, found.clone());
        Ok(Some(found))
    }

    async fn make_table(&self, table: Table, bucket: String) -> anyhow::Result<Stream> {
        let config = kv::Config {
            bucket: bucket.clone(),
            description: format!("moonring: {}", table.name()),
            max_value_size: i32::try_from(MAX_VALUE)?,
            history: 1,
            max_bytes: bytes_of(table),
            storage: if table == Table::Shared { StorageType::Memory } else { StorageType::File },
            // What was acknowledged is not lost with one server.
            num_replicas: if self.client.server_info().cluster.is_some() { 3 } else { 1 },
            limit_markers: Some(MARKERS),
            ..kv::Config::default()
        };
        let made = self.jetstream.create_key_value(config).await;
        let made =
            made.with_context(|| format!("the bucket {bucket} cannot be made; does the server run with JetStream?"));
        made.map(|store| store.stream)
    }

    /// Does something within a bound of time, with the bucket looked for anew after a failure.
    async fn within<T, E: Copy + PartialEq>(
        &self,
        table: Table,
        patience: Duration,
        offline: E,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if !*self.connected.borrow() {
            return Err(offline);
        }
        let worked = timeout(patience, work).await.unwrap_or(Err(offline));
        if worked.as_ref().is_err_and(|error| *error == offline) {
            self.tables.lock().await.remove(&table);
        }
        worked
    }

    async fn look_at(&self, table: Table, key: &str) -> Result<Kept, Offline> {
        let Some(stream) = self.table(table, false).await? else { return Ok(Kept::NOTHING) };
        match stream.get_last_raw_message_by_subject(&subject_of(table, key)).await {
            Ok(message) => {
                let written = SystemTime::from(message.time);
                Ok(found(&message.headers, message.payload, message.sequence, written))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(Kept::NOTHING),
            Err(_) => Err(Offline),
        }
    }

    async fn write(
        &self,
        (table, key): (Table, &str),
        value: Option<Bytes>,
        over: u64,
        ttl: Option<Duration>,
    ) -> Result<u64, Unwritten> {
        self.table(table, true).await.map_err(|Offline| Unwritten::Offline)?;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(over));
        let ttl = if value.is_some() { ttl } else { Some(MARKERS) };
        if value.is_none() {
            headers.insert(OPERATION, PURGE);
        }
        let mut message = PublishMessage::build().payload(value.unwrap_or_default()).headers(headers);
        if let Some(ttl) = ttl {
            message = message.ttl(Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)));
        }
        let sent = self.jetstream.send_publish(subject_of(table, key), message).await;
        let sent = match sent {
            Ok(acknowledged) => acknowledged.await,
            Err(error) => Err(error),
        };
        sent.map(|acknowledged| acknowledged.sequence).map_err(|error| match code_of(&error) {
            Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE | WRONG_LAST_SEQUENCE) => Unwritten::Taken,
            Some(ErrorCode::STREAM_STORE_FAILED) => Unwritten::Full,
            _ => Unwritten::Offline,
        })
    }

    async fn list(&self, table: Table, prefix: &str) -> Result<Vec<(String, Kept)>, Offline> {
        let Some(stream) = self.table(table, false).await? else { return Ok(Vec::new()) };
        let consumer = stream.create_consumer(push::OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            filter_subject: subject_of(table, &format!("{prefix}>")),
            replay_policy: ReplayPolicy::Instant,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..push::OrderedConfig::default()
        });
        let consumer = consumer.await.map_err(|_| Offline)?;
        let mut waiting = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await.map_err(|_| Offline)?;
        let (mut all, begin) = (Vec::new(), subject_of(table, ""));
        while waiting > 0 {
            let message = messages.next().await.ok_or(Offline)?.map_err(|_| Offline)?;
            let (kept, pending) = read(&message)?;
            waiting = pending;
            let Some(key) = message.subject.strip_prefix(&begin) else { continue };
            all.push((key.to_owned(), kept));
        }
        Ok(all)
    }

    async fn scan_all(&self, bucket: &str, into: mpsc::Sender<Scanned>) -> Result<(), Offline> {
        let stream = match self.jetstream.get_stream(format!("KV_{bucket}")).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    return Ok(());
                }
                _ => return Err(Offline),
            },
        };
        // What is written from now on is not waited for: there would be no end of it.
        let last = stream.cached_info().state.last_sequence;
        // Each key has but its last message.
        let consumer = stream.create_consumer(pull::OrderedConfig {
            replay_policy: ReplayPolicy::Instant,
            deliver_policy: DeliverPolicy::All,
            ..pull::OrderedConfig::default()
        });
        let consumer = consumer.await.map_err(|_| Offline)?;
        let mut waiting = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await.map_err(|_| Offline)?;
        let begin = format!("$KV.{bucket}.");
        while waiting > 0 {
            let message = timeout(ALL, messages.next()).await.map_err(|_| Offline)?;
            let message = message.ok_or(Offline)?.map_err(|_| Offline)?;
            let (Kept { value, revision, .. }, pending) = read(&message)?;
            waiting = if revision >= last { 0 } else { pending };
            let (Some(key), Some(value)) = (message.subject.strip_prefix(&begin), value) else { continue };
            let ttl = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_TTL));
            let ttl = ttl.and_then(|ttl| ttl.as_str().parse().ok()).map(Duration::from_secs);
            into.send(Scanned { key: key.to_owned(), value, revision, ttl }).await.map_err(|_| Offline)?;
        }
        Ok(())
    }
}

impl Tables for Nats {
    fn look(&self, table: Table, key: &str) -> Pending<'_, Result<Kept, Offline>> {
        let key = key.to_owned();
        Box::pin(async move { self.within(table, PATIENCE, Offline, self.look_at(table, &key)).await })
    }

    fn put(
        &self,
        table: Table,
        key: &str,
        value: Option<Bytes>,
        over: u64,
        ttl: Option<Duration>,
    ) -> Pending<'_, Result<u64, Unwritten>> {
        let key = key.to_owned();
        Box::pin(async move {
            let write = self.write((table, &key), value, over, ttl);
            self.within(table, PATIENCE, Unwritten::Offline, write).await
        })
    }

    fn all(&self, table: Table, prefix: &str) -> Pending<'_, Result<Vec<(String, Kept)>, Offline>> {
        let prefix = prefix.to_owned();
        Box::pin(async move { self.within(table, ALL, Offline, self.list(table, &prefix)).await })
    }

    fn scan(&self, table: Option<Table>, into: mpsc::Sender<Scanned>) -> Pending<'_, Result<(), Offline>> {
        let bucket = table.map_or_else(|| BUCKET.to_owned(), bucket_of);
        Box::pin(async move { self.scan_all(&bucket, into).await })
    }
}

/// What the server has against a write.
fn code_of(error: &PublishError) -> Option<ErrorCode> {
    let source = std::error::Error::source(error)?.downcast_ref::<jetstream::Error>()?;
    Some(source.error_code())
}

/// What a message of a table's stream says, and how many wait behind it.
fn read(message: &jetstream::Message) -> Result<(Kept, u64), Offline> {
    let info = message.info().map_err(|_| Offline)?;
    let headers = message.headers.clone().unwrap_or_default();
    let kept = found(&headers, message.payload.clone(), info.stream_sequence, info.published.into());
    Ok((kept, info.pending))
}

fn found(headers: &HeaderMap, value: Bytes, revision: u64, written: SystemTime) -> Kept {
    let is_gone = headers.get(MARKER).is_some() || headers.get(OPERATION).is_some_and(|what| what.as_str() != "PUT");
    Kept { value: (!is_gone).then_some(value), revision, written }
}
