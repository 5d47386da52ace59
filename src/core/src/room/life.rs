//! How long a room is there.
//!
//! ```text
//!  open --last client leaves--> kept, for the script's EMPTY_TIMEOUT_S --somebody comes--> open
//!   |                            |
//!   +---closed by the script-----+--time is over--> ending: on_close --> gone
//! ```
//! It is kept, or ends, once the hooks that its clients have left behind have nothing left to say, or have had a minute.
//! While a room is ending nobody comes in any more: who asks to waits until it is gone, and finds a new one.

use std::time::Instant;

use moonring_policy::client::CloseReason;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Somebody was admitted, or an operator has opened it: its script hears of the end.
    pub lived: bool,
    /// Until when it is kept although nobody is in it.
    pub kept_until: Option<Instant>,
    /// Why it ends, once that is decided.
    pub ending: Option<CloseReason>,
    /// Its script has been told of the end.
    pub is_told: bool,
    /// When it is kept, or ends, even if hooks still wait.
    pub end_by: Option<Instant>,
}
