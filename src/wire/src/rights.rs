//! What a client may do in its room; the room's policy gives and takes it.

use serde::{Deserialize, Serialize};

use crate::media::Source;

/// A set of sources; in messages, the list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Source>", into = "Vec<Source>")]
pub struct Sources(u8);

impl Sources {
    /// Every source.
    pub const ALL: Self = Self((1 << Source::ALL.len()) - 1);
    /// No source.
    pub const NONE: Self = Self(0);

    /// Whether `source` is one of them.
    pub fn has(self, source: Source) -> bool {
        self.0 & bit(source) != 0
    }

    /// These, in the order of [`Source::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Source> {
        Source::ALL.into_iter().filter(move |source| self.has(*source))
    }
}

impl FromIterator<Source> for Sources {
    fn from_iter<I: IntoIterator<Item = Source>>(sources: I) -> Self {
        Self(sources.into_iter().fold(0, |set, source| set | bit(source)))
    }
}

impl From<Vec<Source>> for Sources {
    fn from(sources: Vec<Source>) -> Self {
        sources.into_iter().collect()
    }
}

impl From<Sources> for Vec<Source> {
    fn from(sources: Sources) -> Self {
        sources.iter().collect()
    }
}

fn bit(source: Source) -> u8 {
    1 << source as u8
}

/// What a client may do. Without a word of the policy's, everything; its hooks are still asked about each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Rights {
    /// The sources that it may publish.
    #[cfg_attr(test, ts(as = "Vec<Source>"))]
    pub publish: Sources,
    /// Whether it may receive tracks.
    pub subscribe: bool,
    /// Whether it may send messages to the room's policy.
    pub message: bool,
}

impl Default for Rights {
    fn default() -> Self {
        Self { publish: Sources::ALL, subscribe: true, message: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_the_json_that_clients_read() {
        let rights = Rights { publish: [Source::Screen, Source::Camera].into_iter().collect(), ..Rights::default() };
        let text = r#"{"publish":["camera","screen"],"subscribe":true,"message":true}"#;
        assert_eq!(serde_json::to_string(&rights).unwrap(), text);
        assert_eq!(serde_json::from_str::<Rights>(text).unwrap(), rights);
    }

    #[test]
    fn a_set_has_what_it_was_made_of() {
        for source in Source::ALL {
            assert!(Sources::ALL.has(source) && !Sources::NONE.has(source));
            assert_eq!([source].into_iter().collect::<Sources>().iter().collect::<Vec<_>>(), [source]);
        }
    }
}
