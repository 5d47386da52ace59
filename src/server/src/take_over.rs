//! A new process takes over from a running one, without an end of any call: `moonring run --take-over SOCKET`.
//!
//! ```text
//!    old process                                          new process
//!       listens at SOCKET                    <----------  Hello: versions, and what has to agree
//!       Hello, or why not                    ---------->
//!                                                         compiles scripts, reads certificates, starts threads
//!       takes no joins, waits for handshakes <----------  Ready
//!       its shards stop, and tell
//!       Listeners, Shard.., Control          ---------->  reads all of it
//!                                            <----------  Taken
//!       Go: the last word before it ends     ---------->  begins
//!       tells WebSockets to resume
//!       Policy..: `on_unload` of each room   ---------->  `on_init`, `on_load`
//!       End, and ends                        ---------->
//! ```
//! Until `Go` has left, any failure lets the old process go on as if nothing had been: it has kept its sockets and its state,
//! and the new one has sealed nothing. From `Go` on the new process has the calls.
//!
//! `channel` passes frames and descriptors, `endpoint` is the socket's file, `hello` what has to agree; `predecessor` and
//! `successor` are the two sides. What the control plane hands over is bytes here.

mod channel;
mod endpoint;
mod hello;
mod predecessor;
mod successor;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use endpoint::Endpoint;
pub(crate) use hello::Hello;
pub(crate) use predecessor::{ControlPlane, Predecessor};
pub(crate) use successor::{InheritedShard, Successor};

/// Counts the changes of what is said between the two processes.
const PROTOCOL: u32 = 1;
/// How long one side waits for the other's next word, but for what follows.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the old process waits for the new one to be ready: scripts are compiled and certificates made meanwhile.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How long handshakes and verdicts that are under way have to end.
const REST: Duration = Duration::from_secs(2);
