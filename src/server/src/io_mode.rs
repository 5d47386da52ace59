//! Which system calls carry the packets: a setting, and what the sockets go by.

use std::fmt;

use clap::ValueEnum;
use serde::Deserialize;

/// Which system calls carry the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IoMode {
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
    /// Single datagrams over an io_uring beside glommio's, in the call that the shard then sleeps in; batches that are
    /// mostly runs, and all receives, as [`IoMode::Mmsg`] has them: whichever is cheaper (docs/performance.md). A kernel
    /// that cannot send this way gets `Mmsg`.
    #[default]
    Uring,
}

impl fmt::Display for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mmsg => "mmsg",
            Self::Uring => "uring",
        })
    }
}
