//! What policies ask of the world outside their shard: HTTP requests, the store that all rooms share, and the one that
//! lasts.
mod allow;
mod authorities;
mod checkpoints;
mod http;
mod shared;
mod store;
mod taken;
#[cfg(test)]
mod tests;
mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::cluster::{Cluster, Table};
use crate::shard_handle::{Full, ShardHandle};
use checkpoints::{CheckpointCounts, Checkpoints};
use http::HttpService;
use moonring_core::command::{CheckpointOrder, Command};
use moonring_policy::output::StoreSpace;
use moonring_policy::{PolicyReply, PolicyRequest, PolicyRequestId};
use moonring_wire::id::RoomId;
use serde_json::Value;
use shared::SharedStore;
use store::{LastingStore, Operation, Space};
use webhooks::Webhooks;

pub(super) use allow::AllowList;
pub(super) use authorities::Authorities;
pub(super) use checkpoints::{decode as checkpoint_of, encode as bytes_of_checkpoint};
pub(super) use shared::SharedEntry;
pub(super) use store::value_again;
pub(super) use webhooks::{WaitingMessage, WebhookTarget};

/// HTTP requests of all rooms that are under way or wait for their turn.
const MAX_REQUESTS: usize = 2_048;
/// Pause before a reply is offered again to a shard whose queue is full.
const RETRY: Duration = Duration::from_millis(10);
/// Offers of a reply; the policy has given it up by then.
const MAX_OFFERS: usize = 500;

/// The services; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Services(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: SharedStore,
    /// In a cluster: the one of all nodes, in the place of `shared`.
    shared_everywhere: Option<LastingStore>,
    store: LastingStore,
    checkpoints: Checkpoints,
    http: HttpService,
    webhooks: Webhooks,
    /// Apart from that of scripts: a receiver that is slow holds no script up.
    webhook_http: HttpService,
    places: Arc<Semaphore>,
    counts: Counts,
}

/// Where the stores are.
#[derive(Debug, Default)]
pub(super) struct Stores {
    /// The folder of the file of `sfu.store`, unless a cluster keeps it.
    pub(super) data_dir: PathBuf,
    /// The cluster that keeps `sfu.store`.
    pub(super) store: Option<Cluster>,
    /// The cluster that keeps `sfu.shared`; without, it is this process' own.
    pub(super) shared: Option<Cluster>,
    /// The cluster that keeps rooms' checkpoints; without, they are in the folder.
    pub(super) checkpoints: Option<Cluster>,
}

/// What was asked for since the start.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    shared: AtomicU64,
    store: AtomicU64,
}

/// A copy of the counters, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceCounts {
    /// HTTP requests that were answered, whatever the status.
    pub(super) http_answered: u64,
    /// HTTP requests that were refused or came to nothing.
    pub(super) http_failed: u64,
    /// HTTP requests under way or waiting.
    pub(super) http_under_way: u64,
    /// Of checkpoints.
    pub(super) checkpoints: CheckpointCounts,
    /// Operations on the shared store.
    pub(super) shared_operations: u64,
    /// Entries of the shared store.
    pub(super) shared_entries: u64,
    /// Bytes of its keys and values.
    pub(super) shared_bytes: u64,
    /// Messages that the webhook has taken.
    pub(super) webhooks_delivered: u64,
    /// Messages to the webhook that were given up.
    pub(super) webhooks_failed: u64,
    /// Operations on the store that lasts.
    pub(super) store_operations: u64,
    /// Those that it could not do.
    pub(super) store_failed: u64,
    /// How often the disk was waited for.
    pub(super) store_commits: u64,
}

impl Services {
    /// Must be called inside a tokio runtime where stores are those of a cluster.
    pub(super) fn new(
        http_allow: AllowList,
        http_ca: &Authorities,
        stores: Stores,
        webhook: Option<WebhookTarget>,
    ) -> Self {
        let Stores { data_dir, store, shared, checkpoints } = stores;
        Self(Arc::new(Inner {
            checkpoints: Checkpoints::new(checkpoints.as_ref(), !data_dir.as_os_str().is_empty()),
            shared: SharedStore::default(),
            shared_everywhere: shared.map(|cluster| LastingStore::in_cluster(&cluster, Table::Shared)),
            store: store.map_or_else(
                || LastingStore::in_folder(data_dir),
                |cluster| LastingStore::in_cluster(&cluster, Table::Store),
            ),
            webhook_http: HttpService::new(
                if webhook.is_some() { http_allow.clone() } else { AllowList::default() },
                http_ca,
            ),
            http: HttpService::new(http_allow, http_ca),
            webhooks: Webhooks::new(webhook),
            places: Arc::new(Semaphore::new(MAX_REQUESTS)),
            counts: Counts::default(),
        }))
    }

    /// Serves a request; the reply goes to the shard that asked. Never waits. Must be called inside a tokio runtime.
    pub(super) fn serve(&self, shard: ShardHandle, id: PolicyRequestId, room: RoomId, request: PolicyRequest) {
        let inner = self.0.clone();
        match request {
            PolicyRequest::Shared(request) => {
                inner.counts.shared.fetch_add(1, Ordering::Relaxed);
                match &inner.shared_everywhere {
                    // Whose script it is does not matter there.
                    Some(store) => {
                        submit(store, shard, id, Operation { room, space: Space::Scripts(StoreSpace::Global), request })
                    }
                    None => reply(&shard, id, PolicyReply::Shared(inner.shared.serve(Instant::now(), &room, request))),
                }
            }
            PolicyRequest::Store(space, request) => {
                inner.counts.store.fetch_add(1, Ordering::Relaxed);
                submit(&inner.store, shard, id, Operation { room, space: Space::Scripts(space), request });
            }
            PolicyRequest::Http(request) => {
                let Ok(place) = inner.places.clone().try_acquire_owned() else {
                    inner.counts.failed.fetch_add(1, Ordering::Relaxed);
                    let words = "too many requests of this server are under way".to_owned();
                    return reply(&shard, id, PolicyReply::Http(Err(words)));
                };
                tokio::spawn(async move {
                    let answer = inner.http.serve(&room, request).await;
                    let counter = if answer.is_ok() { &inner.counts.answered } else { &inner.counts.failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                    drop(place);
                    reply(&shard, id, PolicyReply::Http(answer));
                });
            }
        }
    }

    /// Does something with the checkpoint of a room; what is found goes to the shard that asked. Never waits. Must be called inside a
    /// tokio runtime.
    pub(super) fn checkpoint(&self, shard: ShardHandle, room: RoomId, order: CheckpointOrder) {
        self.0.checkpoints.serve(&self.0.store, shard, room, order);
    }

    /// A room is not here any more.
    pub(super) fn room_closed(&self, room: &RoomId) {
        self.0.checkpoints.room_closed(room);
    }

    /// All rooms end with this process: none has a checkpoint. Waits for the store, but not for long.
    pub(super) async fn end_checkpoints(&self) {
        self.0.checkpoints.end(&self.0.store).await;
    }

    /// Tells the operator's webhook of something. Never waits. Must be called inside a tokio runtime.
    pub(super) fn tell(&self, room: RoomId, event: String, data: Value) {
        let inner = self.0.clone();
        tokio::spawn(async move { inner.webhooks.send(&inner.webhook_http, room, event, data).await });
    }

    /// The messages to the webhook that wait, for another process.
    pub(super) fn waiting_messages(&self) -> Vec<WaitingMessage> {
        self.0.webhooks.hand_over()
    }

    /// Another process goes on with them.
    pub(super) fn let_messages_go(&self) {
        self.0.webhooks.let_go();
    }

    /// Goes on with those of the process before. Must be called inside a tokio runtime.
    pub(super) fn inherit_messages(&self, messages: Vec<WaitingMessage>) {
        for message in messages {
            let inner = self.0.clone();
            tokio::spawn(async move { inner.webhooks.go_on(&inner.webhook_http, message).await });
        }
    }

    /// Ends when no message to the webhook waits.
    pub(super) async fn all_told(&self) {
        self.0.webhooks.rest().await;
    }

    /// Says how many messages to the webhook are lost with this process.
    pub(super) fn note_untold(&self) {
        let messages = self.0.webhooks.left();
        if messages > 0 {
            tracing::error!(
                messages,
                "messages to the webhook are lost: they wait to be repeated, and this process ends"
            );
        }
    }

    /// What `sfu.shared` holds, for another process.
    pub(super) fn shared_entries(&self) -> Vec<SharedEntry> {
        self.0.shared.entries(Instant::now())
    }

    /// Takes in what it held in the process before.
    pub(super) fn inherit_shared(&self, entries: Vec<SharedEntry>) {
        self.0.shared.inherit(Instant::now(), entries);
    }

    /// Lets go of the store's file for another process. Waits for what is under way there.
    pub(super) fn close_store(&self) {
        self.0.store.close();
    }

    pub(super) fn counts(&self) -> ServiceCounts {
        let (inner, load) = (&self.0, |counter: &AtomicU64| counter.load(Ordering::Relaxed));
        let (entries, bytes) = inner.shared.size();
        let (store_commits, store_failed) = inner.store.counts();
        let (webhooks_delivered, webhooks_failed) = inner.webhooks.counts();
        ServiceCounts {
            http_answered: load(&inner.counts.answered),
            http_failed: load(&inner.counts.failed),
            http_under_way: (MAX_REQUESTS - inner.places.available_permits()) as u64,
            checkpoints: inner.checkpoints.counts(),
            shared_operations: load(&inner.counts.shared),
            shared_entries: entries as u64,
            shared_bytes: bytes as u64,
            store_operations: load(&inner.counts.store),
            webhooks_delivered,
            webhooks_failed,
            store_failed,
            store_commits,
        }
    }
}

/// Lets a store do an operation; its reply goes to the shard.
fn submit(store: &LastingStore, shard: ShardHandle, id: PolicyRequestId, operation: Operation) {
    // The store answers on a thread of its own.
    let runtime = Handle::current();
    let answered = move |answer| {
        let _entered = runtime.enter();
        reply(&shard, id, PolicyReply::Shared(answer));
    };
    store.submit(operation, Box::new(answered));
}

fn reply(shard: &ShardHandle, id: PolicyRequestId, reply: PolicyReply) {
    offer(shard, Command::PolicyReply { id, reply });
}

/// Hands a command to the shard, again and again while its queue is full.
fn offer(shard: &ShardHandle, command: Command) {
    let Err(Full(command)) = shard.send(command) else { return };
    let (shard, mut command) = (shard.clone(), command);
    tokio::spawn(async move {
        for _ in 0..MAX_OFFERS {
            tokio::time::sleep(RETRY).await;
            match shard.send(*command) {
                Ok(()) => return,
                Err(Full(back)) => command = back,
            }
        }
    });
}
