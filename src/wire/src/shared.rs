//! What many are told of, kept once and written once.

use std::fmt;
use std::io::{self, Write};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Something that many are told, kept once for all of them, with the text that it becomes on the way to them: who needs
/// that first writes it, the others find it there.
pub struct Shared<T>(Arc<Written<T>>);

struct Written<T> {
    value: T,
    text: OnceLock<Bytes>,
}

impl<T> Shared<T> {
    /// For the first who is told of it.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Written { value, text: OnceLock::new() }))
    }

    /// What `write` makes of it, once for all who hold it.
    pub fn text(&self, write: impl FnOnce(&T) -> String) -> Bytes {
        self.0.text.get_or_init(|| write(&self.0.value).into()).clone()
    }

    /// How many hold it now.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::new)
    }
}

/// A JSON value behind a shared pointer, with its length as text: a broadcast to a room of 500 holds one copy of it, not
/// 500, and queues can be bounded in bytes without writing it again.
#[derive(Clone)]
pub struct SharedValue(Arc<Inner>);

struct Inner {
    value: Value,
    bytes: usize,
}

impl SharedValue {
    /// Bytes of the value as JSON text.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// True for `{}`.
    pub fn is_empty_object(&self) -> bool {
        matches!(&self.0.value, Value::Object(fields) if fields.is_empty())
    }

    /// `{}`, the same one for all who have nothing to say.
    pub fn empty_object() -> Self {
        static EMPTY: OnceLock<SharedValue> = OnceLock::new();
        EMPTY.get_or_init(|| Value::Object(serde_json::Map::new()).into()).clone()
    }

    /// Its bytes, divided among those who hold it now.
    pub fn share(&self) -> usize {
        self.0.bytes / Arc::strong_count(&self.0)
    }
}

impl From<Value> for SharedValue {
    fn from(value: Value) -> Self {
        let mut length = Length(0);
        // A value that came from JSON goes back to it, and a counter takes everything.
        let _ = serde_json::to_writer(&mut length, &value);
        Self(Arc::new(Inner { value, bytes: length.0 }))
    }
}

impl Deref for SharedValue {
    type Target = Value;
    fn deref(&self) -> &Value {
        &self.0.value
    }
}

impl PartialEq for SharedValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.value == other.0.value
    }
}

impl PartialEq<Value> for SharedValue {
    fn eq(&self, other: &Value) -> bool {
        self.0.value == *other
    }
}

impl fmt::Debug for SharedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

impl Serialize for SharedValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

/// Writes a value as JSON text within other data: so it is as deep as it may be by itself, and the format around it need not
/// describe itself. For `#[serde(with = "as_text")]`.
pub mod as_text {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes it.
    pub fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(value).map_err(S::Error::custom)?)
    }

    /// Reads it.
    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_shared_is_written_once_for_all_who_hold_it() {
        let first = Shared::new(7);
        let second = first.clone();
        let mut written = 0;
        let mut write = |value: &i32| {
            written += 1;
            format!("<{value}>")
        };
        assert_eq!(first.text(&mut write), "<7>");
        assert_eq!(second.text(&mut write), "<7>");
        assert_eq!((written, first.holders(), *second), (1, 2, 7));
    }

    #[test]
    fn a_shared_value_knows_its_length_as_text_and_is_kept_once() {
        for value in [json!(null), json!({"a": [1, "ä\n"]}), json!("x".repeat(1000))] {
            let shared = SharedValue::from(value.clone());
            assert_eq!(shared.bytes(), value.to_string().len());
            assert_eq!(serde_json::to_string(&shared).unwrap(), value.to_string());
            assert!(Arc::ptr_eq(&shared.0, &shared.clone().0));
            assert_eq!(serde_json::from_str::<SharedValue>(&value.to_string()).unwrap(), shared);
        }
    }
}
