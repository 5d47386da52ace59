//! The engine on NATS, server 2.11 or newer: messages and requests on core NATS, claims in one bucket of JetStream's
//! key-value store.

mod said;
mod tables;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::client::PublishErrorKind;
use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::stream::{StorageType, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{sleep, timeout};

use self::said::Said;
use super::engine::{
    Change, Engine, Entry, IsGood, MAX_BYTES, MAX_PLACE_MESSAGE, Message, Offline, Pending, QUEUE, Reply, Serving,
    Unanswered, Unwritten, Watched,
};
use super::messages::PLACES;
use super::settings::{ClusterSettings, Login};
use super::tables::Table;
use moonring_wire::causes::causes;

/// The bucket of the claims.
pub(super) const BUCKET: &str = "mr_rooms";
/// Bytes of the bucket: a claim has about 200.
const BUCKET_BYTES: i64 = 256 * 1024 * 1024;
/// What is left of an entry that was taken out goes after this time.
const MARKERS: Duration = Duration::from_secs(60);
/// A server that does not answer a ping for two of these is gone.
const PING: Duration = Duration::from_secs(1);
/// Longest wait for the bucket.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before something is tried again that goes on for ever.
const RETRY: Duration = Duration::from_millis(500);
/// Longest pause between two attempts to connect.
const RECONNECT: Duration = Duration::from_secs(1);

/// A connection to NATS.
pub(super) struct Nats {
    client: Client,
    jetstream: Context,
    /// The bucket, once it was found or made.
    store: Mutex<Option<Store>>,
    /// The streams of the other tables, once they were found or made.
    tables: Mutex<BTreeMap<Table, Stream>>,
    connected: watch::Receiver<bool>,
    /// What the log has said of what fails again and again.
    said: Said,
}

impl Nats {
    /// Connects, or goes on trying to. An error says what is wrong with the settings.
    pub(super) async fn connect(settings: &ClusterSettings) -> anyhow::Result<Self> {
        let (is_connected, connected) = watch::channel(false);
        let said = Said::default();
        let mut options = match &settings.login {
            Login::None => ConnectOptions::new(),
            Login::Token(token) => ConnectOptions::with_token(token.clone()),
            Login::User(user, password) => ConnectOptions::with_user_and_password(user.clone(), password.clone()),
        };
        if let Some(ca) = &settings.ca {
            options = options.add_root_certificates(ca.clone());
        }
        let options = options
            .name(format!("moonring {}", settings.node.name))
            .retry_on_initial_connect()
            .ping_interval(PING)
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .subscription_capacity(QUEUE)
            .reconnect_delay_callback(|attempts| RECONNECT.min(Duration::from_millis(50 << attempts.min(6))))
            .event_callback(move |event| {
                note(&event, &is_connected, &said);
                std::future::ready(())
            });
        let servers: Result<Vec<async_nats::ServerAddr>, _> = settings.servers.iter().map(|url| url.parse()).collect();
        let client = options.connect(servers.context("cluster")?).await.context("cluster")?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(PATIENCE);
        let (store, tables, said) = (Mutex::new(None), Mutex::default(), Said::default());
        Ok(Self { client, jetstream, store, tables, connected, said })
    }

    /// Does something with the bucket, within a bound of time. After a failure the bucket is looked for anew.
    async fn with_store<T, E, F>(&self, work: impl FnOnce(Store) -> F, offline: E) -> Result<T, E>
    where
        E: Copy + PartialEq,
        F: Future<Output = Result<T, E>>,
    {
        if !*self.connected.borrow() {
            return Err(offline);
        }
        let worked = timeout(PATIENCE, async {
            let store = self.store().await.ok_or(offline)?;
            work(store).await
        });
        let worked = worked.await.unwrap_or(Err(offline));
        if worked.as_ref().is_err_and(|error| *error == offline) {
            *self.store.lock().await = None;
        }
        worked
    }

    async fn store(&self) -> Option<Store> {
        let mut store = self.store.lock().await;
        if store.is_none() {
            match self.bucket().await {
                Ok(bucket) => *store = Some(bucket),
                Err(error) => {
                    let words = format!("the cluster has no table of rooms: {}", causes(error.as_ref()));
                    if self.said.is_due(&words, Instant::now()) {
                        tracing::error!("{words}");
                    }
                }
            }
        }
        store.clone()
    }

    async fn bucket(&self) -> anyhow::Result<Store> {
        let info = self.client.server_info();
        anyhow::ensure!(
            self.client.is_server_compatible(2, 11, 0),
            "the NATS server is version {}, 2.11 or newer is needed",
            info.version
        );
        if let Ok(store) = self.jetstream.get_key_value(BUCKET).await {
            return Ok(store);
        }
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "moonring: which node is a room's home".to_owned(),
            max_value_size: i32::try_from(MAX_BYTES)?,
            history: 1,
            max_bytes: BUCKET_BYTES,
            storage: StorageType::File,
            // A claim that was acknowledged is not lost with one server.
            num_replicas: if info.cluster.is_some() { 3 } else { 1 },
            limit_markers: Some(MARKERS),
            ..kv::Config::default()
        };
        let made = self.jetstream.create_key_value(config).await;
        made.with_context(|| format!("the bucket {BUCKET} cannot be made; does the server run with JetStream?"))
    }
}

/// Logs what happens to the connection, and says whether it is there.
fn note(event: &Event, is_connected: &watch::Sender<bool>, said: &Said) {
    match event {
        Event::Connected => {
            tracing::info!("connected to the cluster's messages");
            is_connected.send_replace(true);
        }
        Event::Disconnected | Event::Closed => {
            tracing::warn!("the cluster's messages cannot be reached: rooms and calls of this node go on");
            is_connected.send_replace(false);
        }
        Event::SlowConsumer(_) => tracing::debug!("messages of the cluster are lost, as they come too fast"),
        // What it does not permit, for example, is done again with each beat.
        Event::ServerError(error) if said.is_due(&error.to_string(), Instant::now()) => tracing::warn!("NATS: {error}"),
        Event::ServerError(error) => tracing::debug!("NATS: {error}"),
        Event::ClientError(error) => {
            if !*is_connected.borrow() && said.is_due(&error.to_string(), Instant::now()) {
                let advice = "look at cluster, cluster_login_file and cluster_ca; until then only joins at rooms of this node are taken";
                tracing::warn!("no connection to the cluster's messages: {error}; {advice}");
            } else {
                tracing::debug!("NATS: {error}");
            }
        }
        Event::LameDuckMode | Event::Draining => tracing::debug!("NATS: {event}"),
    }
}

impl Engine for Nats {
    fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    fn tell(&self, subject: &str, body: Bytes) -> Pending<'_, ()> {
        let subject = subject.to_owned();
        Box::pin(async move {
            if *self.connected.borrow() {
                // While it reconnects, the client takes no more than its queue holds.
                let _ = timeout(PING, self.client.publish(subject, body)).await;
            }
        })
    }

    fn serve(&self, subject: &str, into: mpsc::Sender<Message>) -> Serving {
        let (client, subject) = (self.client.clone(), subject.to_owned());
        let task = tokio::spawn(async move {
            while !into.is_closed() {
                if let Ok(mut messages) = client.subscribe(subject.clone()).await {
                    while let Some(message) = messages.next().await {
                        take(&client, message, &into);
                    }
                }
                sleep(RETRY).await;
            }
        });
        Serving(task.abort_handle())
    }

    fn ask<'a>(
        &'a self,
        subject: &str,
        question: Bytes,
        is_good: IsGood<'a>,
    ) -> Pending<'a, Result<Bytes, Unanswered>> {
        let subject = subject.to_owned();
        Box::pin(async move {
            if !*self.connected.borrow() {
                return Err(Unanswered::Offline);
            }
            let asked = async {
                let inbox = self.client.new_inbox();
                // Not a request: the first answer may be a stranger's.
                let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|_| Unanswered::Offline)?;
                let sent = self.client.publish_with_reply(subject, inbox, question).await;
                sent.map_err(|error| match error.kind() {
                    PublishErrorKind::MaxPayloadExceeded => Unanswered::Silence,
                    _ => Unanswered::Offline,
                })?;
                while let Some(answer) = answers.next().await {
                    if answer.status == Some(StatusCode::NO_RESPONDERS) {
                        return Err(Unanswered::Nobody);
                    }
                    if (is_good.check)(&answer.payload) {
                        return Ok(answer.payload);
                    }
                }
                Err(Unanswered::Offline)
            };
            let silence = || if *self.connected.borrow() { Unanswered::Silence } else { Unanswered::Offline };
            timeout(is_good.patience, asked).await.unwrap_or_else(|_| Err(silence()))
        })
    }

    fn read(&self, key: &str) -> Pending<'_, Result<Option<Entry>, Offline>> {
        let key = key.to_owned();
        Box::pin(self.with_store(
            move |store: Store| async move {
                let entry = store.entry(key).await.map_err(|_| Offline)?;
                let entry = entry.filter(|entry| entry.operation == Operation::Put);
                Ok(entry.map(|entry| Entry { value: entry.value, revision: entry.revision }))
            },
            Offline,
        ))
    }

    fn claim(&self, key: &str, value: Bytes, over: Option<u64>) -> Pending<'_, Result<u64, Unwritten>> {
        let key = key.to_owned();
        Box::pin(self.with_store(
            move |store: Store| async move {
                match over {
                    None => store.create(key, value).await.map_err(|error| match error.kind() {
                        CreateErrorKind::AlreadyExists => Unwritten::Taken,
                        _ => Unwritten::Offline,
                    }),
                    Some(revision) => store.update(key, value, revision).await.map_err(|error| match error.kind() {
                        UpdateErrorKind::WrongLastRevision => Unwritten::Taken,
                        _ => Unwritten::Offline,
                    }),
                }
            },
            Unwritten::Offline,
        ))
    }

    fn release(&self, key: &str, revision: u64) -> Pending<'_, Result<(), Unwritten>> {
        let key = key.to_owned();
        Box::pin(self.with_store(
            move |store: Store| async move {
                let gone = store.purge_expect_revision_with_ttl(key, revision, MARKERS).await;
                gone.map_err(|_| Unwritten::Taken)
            },
            Unwritten::Offline,
        ))
    }

    fn watch(&self, into: mpsc::Sender<Watched>) -> Serving {
        let (jetstream, mut connected) = (self.jetstream.clone(), self.connected.clone());
        let task = tokio::spawn(async move {
            while !into.is_closed() {
                let _ = connected.wait_for(|connected| *connected).await;
                if let Ok(store) = jetstream.get_key_value(BUCKET).await
                    && let Ok(mut changes) = store.watch_all().await
                {
                    if into.send(Watched::Opened).await.is_err() {
                        return;
                    }
                    // An error is one of silence, too: the server has forgotten who watches.
                    while let Some(Ok(entry)) = changes.next().await {
                        let value = (entry.operation == Operation::Put).then_some(entry.value);
                        let change = Change { key: entry.key, value, revision: entry.revision };
                        if into.send(Watched::Changed(change)).await.is_err() {
                            return;
                        }
                    }
                }
                sleep(RETRY).await;
            }
        });
        Serving(task.abort_handle())
    }
}

/// Hands a message over; one too many is lost.
fn take(client: &Client, message: async_nats::Message, into: &mpsc::Sender<Message>) {
    let most = if message.subject.starts_with(PLACES) { MAX_PLACE_MESSAGE } else { MAX_BYTES };
    if message.payload.len() > most {
        return;
    }
    let client = client.clone();
    let reply = message.reply.map(|to| -> Reply {
        Box::new(move |answer| {
            tokio::spawn(async move {
                // Who asked asks again.
                let _ = client.publish(to, answer).await;
            });
        })
    });
    let _ = into.try_send(Message { subject: message.subject.to_string(), body: message.payload, reply });
}

#[cfg(test)]
mod tests;
