//! What messages are made of.

use serde::{Deserialize, Serialize};

use crate::id::{ClientId, Mid, TrackId};
use crate::media::{Source, TrackInfo};
use crate::shared::SharedValue;

/// A section of an offer that newly publishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Publish {
    /// `RTCRtpTransceiver.mid`.
    pub mid: Mid,
    /// What it shows.
    #[serde(default)]
    pub source: Source,
    /// Of several encodings in VP8: the client is told `key_frame` when key frames of them are needed, and asked for them by RTCP
    /// only where none comes then. For servers whose `joined` says that they know of it.
    #[serde(default, skip_serializing_if = "super::is_false")]
    #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
    pub key_frames: bool,
}

/// A section of an offer that newly receives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Subscribe {
    /// `RTCRtpTransceiver.mid`.
    pub mid: Mid,
    /// Which track.
    pub track: TrackId,
}

/// A client as others see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Participant {
    /// Its id.
    pub client: ClientId,
    /// What it said of itself.
    #[cfg_attr(test, ts(type = "any"))]
    pub metadata: SharedValue,
    /// What the room's policy says of it, an object: unlike metadata, nothing that the client could have made up.
    #[serde(default = "SharedValue::empty_object", skip_serializing_if = "SharedValue::is_empty_object")]
    #[cfg_attr(test, ts(optional, type = "any"))]
    pub attributes: SharedValue,
}

/// What became of one section that an offer named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SectionResult {
    /// Which section.
    pub mid: Mid,
    /// The track published or received there, unless refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub track: Option<TrackInfo>,
    /// Why it was refused, in words for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub reason: Option<String>,
}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum ErrorCode {
    /// Not JSON, an unknown `type`, a missing, unknown or ill-typed field.
    BadMessage,
    /// Longer than a bound.
    TooLarge,
    /// A message before the join, or a second join.
    OutOfOrder,
    /// The description does not parse, or cannot be answered.
    BadSdp,
    /// A track that does not exist or is not the client's.
    UnknownTrack,
    /// The client's previous offer has no answer yet.
    Busy,
    /// The policy takes no messages.
    MessageDropped,
    /// A bound of the server was reached.
    Limit,
    /// The client speaks another version of the protocol.
    Protocol,
    /// The ticket of a resume is unknown, used or expired: join instead. The server closes.
    Ticket,
    /// The room cannot be joined for the moment: try again by yourself, after a pause of seconds. The server closes.
    TryAgain,
}
