//! How a connection has ended.

use super::{MISSED_PINGS, SEND_TIMEOUT};
use axum::extract::ws::CloseFrame;

/// The connection has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// By the network, or without a goodbye: the client may resume. With what has ended it, for the log.
    Lost(String),
    /// By a goodbye of either side.
    Done,
}

impl Closed {
    /// Nothing more comes, or nothing that can be read: a message that is too long, too.
    pub(super) fn unreadable(error: Option<axum::Error>) -> Self {
        Self::Lost(error.map_or_else(|| "it ended without a word".to_owned(), |error| error.to_string()))
    }

    /// The client's side has closed it, as a browser does with a page that is left.
    pub(super) fn by_client(frame: Option<&CloseFrame>) -> Self {
        let code = frame.map(|frame| format!(", with code {}", frame.code)).unwrap_or_default();
        Self::Lost(format!("the client's side closed it without leave{code}"))
    }

    /// Nothing came for several pings.
    pub(super) fn silent() -> Self {
        Self::Lost(format!("nothing came for {MISSED_PINGS} pings"))
    }

    /// A message could not be written, or not in time.
    pub(super) fn unwritable(error: Option<axum::Error>) -> Self {
        let too_late = || format!("a message was not taken within {} s", SEND_TIMEOUT.as_secs());
        Self::Lost(error.map_or_else(too_late, |error| error.to_string()))
    }
}
