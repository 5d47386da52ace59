//! Names of things: stable ids for people and protocols, dense keys for the packet path.

use std::fmt;

use serde::{Deserialize, Serialize};

slotmap::new_key_type! {
    /// Dense key of a client on its shard: index and generation.
    pub struct ClientKey;
    /// Dense key of a track on its shard: index and generation.
    pub struct TrackKey;
    /// Dense key of a room on its shard: index and generation.
    pub struct RoomKey;
}

/// What a process calls a place, which is a shard of its own or of another node: those of its own have their numbers from 0
/// on, others get further ones when they are first heard of. Between processes a place is a [`crate::link::Place`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlaceId(pub u16);

/// Longest id accepted from outside, in bytes.
pub const MAX_ID_LEN: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Zero characters.
    #[error("is empty")]
    Empty,
    /// More than [`MAX_ID_LEN`] bytes.
    #[error("is {0} bytes long, at most {MAX_ID_LEN} are allowed")]
    TooLong(usize),
    /// A character outside the alphabet.
    #[error("has the character {0:?}; allowed are letters, digits, '-', '_' and, not in front, '.'")]
    BadCharacter(char),
}

/// Checks the alphabet of ids: ASCII letters, digits, `-`, `_`, and `.` but not in front, so that an id is a safe
/// file name, URL segment and metric label.
fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_LEN {
        return Err(IdError::TooLong(text.len()));
    }
    let allowed =
        |(at, c): &(usize, char)| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || (*c == '.' && *at > 0);
    match text.char_indices().find(|pair| !allowed(pair)) {
        Some((_, c)) => Err(IdError::BadCharacter(c)),
        None => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $label:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(test, derive(ts_rs::TS), ts(type = "string"))]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks length and alphabet.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text).map(|()| Self(text.into()))
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            /// Where a message is read, nothing else says which of its fields is wrong.
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                match check(&text) {
                    Ok(()) => Ok(Self(text.into_boxed_str())),
                    Err(error) => Err(format!(concat!($label, " {}"), error)),
                }
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into_string()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text_id!(
    /// A room's name, chosen by who joins it.
    ///
    /// ```
    /// use moonring_wire::id::{IdError, RoomId};
    ///
    /// assert_eq!(RoomId::parse("stand-up.2")?.as_str(), "stand-up.2");
    /// assert_eq!(RoomId::parse("../etc/passwd"), Err(IdError::BadCharacter('.')));
    /// assert_eq!(RoomId::parse("a room").unwrap_err().to_string(),
    ///     "has the character ' '; allowed are letters, digits, '-', '_' and, not in front, '.'");
    /// # Ok::<(), IdError>(())
    /// ```
    RoomId, "the room id"
);
text_id!(
    /// A client's name, chosen by the server.
    ClientId, "the client id"
);
text_id!(
    /// A track's name, chosen by the server.
    TrackId, "the track id"
);
text_id!(
    /// A media section's identification tag (RFC 8843, `a=mid`).
    Mid, "the mid"
);
text_id!(
    /// A simulcast encoding's restriction id (RFC 8851, `a=rid`).
    Rid, "the rid"
);

/// Synchronisation source of an RTP stream (RFC 3550 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Ssrc(pub u32);

/// RTP payload type, 0..=127 (RFC 3550 section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Pt(pub u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_safe_file_name() {
        for (text, expected) in [
            ("demo", Ok(())),
            ("a.b-c_9", Ok(())),
            ("", Err(IdError::Empty)),
            (".hidden", Err(IdError::BadCharacter('.'))),
            ("a/b", Err(IdError::BadCharacter('/'))),
            ("ä", Err(IdError::BadCharacter('ä'))),
            ("a\0", Err(IdError::BadCharacter('\0'))),
            (&"x".repeat(65), Err(IdError::TooLong(65))),
        ] {
            assert_eq!(RoomId::parse(text).map(|_| ()), expected, "{text:?}");
        }
    }
}
