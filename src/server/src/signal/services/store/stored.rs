//! A value that is kept, and what each operation makes of it, wherever it is kept.

use std::time::Duration;

use super::Answer;
use moonring_policy::output::{SharedRequest, SharedValue};

/// The expiry of what lives until it is deleted.
pub(super) const NEVER: u64 = 0;

// The first byte of a value.
const FALSE: u8 = 0;
const TRUE: u8 = 1;
const NUMBER: u8 = 2;
const TEXT: u8 = 3;

/// A value with the moment at which it expires, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) value: SharedValue,
    pub(super) expires: u64,
}

/// What an operation changes.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    Nothing,
    Remove,
    Put(Stored),
}

impl Stored {
    pub(super) fn lives(&self, now: u64) -> bool {
        self.expires == NEVER || self.expires > now
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.expires.to_le_bytes().to_vec();
        match &self.value {
            SharedValue::Flag(false) => bytes.push(FALSE),
            SharedValue::Flag(true) => bytes.push(TRUE),
            SharedValue::Number(number) => {
                bytes.push(NUMBER);
                bytes.extend(number.to_le_bytes());
            }
            SharedValue::Text(text) => {
                bytes.push(TEXT);
                bytes.extend(text);
            }
        }
        bytes
    }

    /// `None`: these are not the bytes of a value.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (expires, value) = bytes.split_first_chunk()?;
        let value = match value.split_first()? {
            (&FALSE, []) => SharedValue::Flag(false),
            (&TRUE, []) => SharedValue::Flag(true),
            (&NUMBER, number) => SharedValue::Number(f64::from_le_bytes(number.try_into().ok()?)),
            (&TEXT, text) => SharedValue::Text(text.to_owned()),
            _ => return None,
        };
        Some(Self { value, expires: u64::from_le_bytes(*expires) })
    }
}

/// Does one operation on what lives under its key.
pub(super) fn step(now: u64, request: &SharedRequest, before: Option<&Stored>) -> (Change, Answer) {
    match request {
        SharedRequest::Get { .. } => (Change::Nothing, Ok(before.map(|stored| stored.value.clone()))),
        SharedRequest::Delete { .. } => (Change::Remove, Ok(None)),
        SharedRequest::Set { value, ttl, .. } => {
            (Change::Put(Stored { value: value.clone(), expires: expiry(now, *ttl) }), Ok(None))
        }
        SharedRequest::Incr { key, by, ttl } => {
            let (number, expires) = match before {
                Some(Stored { value: SharedValue::Number(number), expires }) => (*number, *expires),
                Some(_) => return (Change::Nothing, Err(format!("{key:?} holds no number"))),
                None => (0.0, expiry(now, *ttl)),
            };
            let sum = number + by;
            if !sum.is_finite() {
                return (Change::Nothing, Err("the sum is too large".to_owned()));
            }
            let value = SharedValue::Number(sum);
            (Change::Put(Stored { value: value.clone(), expires }), Ok(Some(value)))
        }
        SharedRequest::CompareAndSet { expected, value, .. } => {
            let is_expected = before.map(|stored| &stored.value) == expected.as_ref();
            let change = match value {
                _ if !is_expected => Change::Nothing,
                None => Change::Remove,
                Some(value) => {
                    let expires = before.map_or(NEVER, |stored| stored.expires);
                    Change::Put(Stored { value: value.clone(), expires })
                }
            };
            (change, Ok(Some(SharedValue::Flag(is_expected))))
        }
    }
}

/// A moment beyond what can be said is never.
fn expiry(now: u64, ttl: Option<Duration>) -> u64 {
    let after = |ttl: Duration| now.checked_add(u64::try_from(ttl.as_millis()).ok()?);
    ttl.and_then(after).unwrap_or(NEVER)
}
