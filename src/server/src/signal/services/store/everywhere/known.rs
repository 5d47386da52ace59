//! What this node has seen of entries, for the time in which the engine cannot be reached.

use std::collections::HashMap;

use super::super::stored::Stored;
use moonring_policy::output::SharedValue;

/// Bytes of one half: when it is full, the older half goes.
const HALF_BYTES: usize = 8 * 1024 * 1024;
/// What an entry costs beside its key and its text, about.
const ENTRY_BYTES: usize = 96;

/// Entries by key, as they were seen last; `None`: there was none.
#[derive(Debug, Default)]
pub(super) struct Known {
    new: HashMap<String, Option<Stored>>,
    old: HashMap<String, Option<Stored>>,
    new_bytes: usize,
}

impl Known {
    /// An entry was seen, or that there is none.
    pub(super) fn see(&mut self, key: &str, stored: Option<Stored>) {
        let cost = |stored: &Option<Stored>| {
            let text = stored.as_ref().map_or(0, |stored| match &stored.value {
                SharedValue::Text(text) => text.len(),
                _ => 0,
            });
            ENTRY_BYTES + key.len() + text
        };
        self.old.remove(key);
        self.new_bytes += cost(&stored);
        if let Some(before) = self.new.insert(key.to_owned(), stored) {
            self.new_bytes -= cost(&before);
        }
        if self.new_bytes > HALF_BYTES {
            self.old = std::mem::take(&mut self.new);
            self.new_bytes = 0;
        }
    }

    /// What was seen; `None`: nothing is known.
    pub(super) fn find(&self, key: &str) -> Option<&Option<Stored>> {
        self.new.get(key).or_else(|| self.old.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_long_ago_is_forgotten_within_a_bound() {
        let mut known = Known::default();
        let text = |n: usize| Some(Stored { value: SharedValue::Text(vec![0; n]), expires: 0 });
        known.see("first", text(1));
        known.see("absent", None);
        for n in 0..7 {
            known.see(&format!("{n}"), text(1024 * 1024));
        }
        assert_eq!(
            (known.find("first"), known.find("absent"), known.find("other")),
            (Some(&text(1)), Some(&None), None)
        );
        known.see("first", text(2));
        for n in 0..16 {
            known.see(&format!("{n}"), text(1024 * 1024));
        }
        assert_eq!((known.find("first"), known.find("absent")), (None, None));
        assert_eq!(known.find("15"), Some(&text(1024 * 1024)));
        assert!(known.new.len() + known.old.len() <= 16);
    }
}
