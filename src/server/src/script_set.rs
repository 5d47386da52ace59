//! Scripts that an operator has uploaded, which stand in the place of files of the same name in the scripts folder.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use moonring_policy::settings::MAX_SOURCE_BYTES;

/// Uploaded scripts in number.
const MAX_SCRIPTS: usize = 512;
/// Bytes of all their texts.
pub(crate) const MAX_SET_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a script's name.
const MAX_NAME: usize = 200;
/// Folders that a script may be in, one in the other; more of them are not looked into.
const MAX_FOLDERS: usize = 4;
/// Scripts of which a node says why it cannot use them, and bytes of each reason.
const MAX_FAILED: usize = 64;
const MAX_REASON: usize = 512;
/// Bytes of an id, as text.
const ID_DIGITS: usize = 32;

/// All uploaded scripts: names with their texts, within the bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScriptSet(BTreeMap<String, String>);

/// What an upload changes in the set of before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScriptChange {
    /// Scripts that are new, or have another text.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Names of scripts that are not uploaded any more.
    #[serde(default)]
    pub drop: BTreeSet<String>,
    /// All uploaded scripts go that are not among `files`.
    #[serde(default)]
    pub replace: bool,
}

/// The names of a set and the SHA-256 of each text, in hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest(pub BTreeMap<String, String>);

/// A script whose newest version is not in use, or would not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedScript {
    /// Its name.
    pub script: String,
    /// Why, with file and line where there is one.
    pub error: String,
}

/// What a node says of uploaded scripts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScriptsTold {
    /// Scripts that are others now.
    pub changed: usize,
    /// Scripts that do not compile there.
    pub failed: Vec<FailedScript>,
    /// Why it could do nothing.
    pub error: Option<String>,
}

impl ScriptSet {
    /// A set within the bounds; the error says what is beyond them.
    pub(crate) fn new(scripts: BTreeMap<String, String>) -> Result<Self, String> {
        if scripts.len() > MAX_SCRIPTS {
            return Err(format!("{} scripts are uploaded, {MAX_SCRIPTS} at most may be", scripts.len()));
        }
        for (name, text) in &scripts {
            check_name(name)?;
            if text.len() > MAX_SOURCE_BYTES {
                return Err(format!("{name} has {} bytes, a script may have {MAX_SOURCE_BYTES}", text.len()));
            }
        }
        let bytes: usize = scripts.values().map(String::len).sum();
        if bytes > MAX_SET_BYTES {
            return Err(format!("the uploaded scripts have {bytes} bytes together, they may have {MAX_SET_BYTES}"));
        }
        Ok(Self(scripts))
    }

    /// What it becomes by an upload.
    pub(crate) fn changed(&self, change: ScriptChange) -> Result<Self, String> {
        let mut scripts = if change.replace { BTreeMap::new() } else { self.0.clone() };
        for name in &change.drop {
            if scripts.remove(name).is_none() && !self.0.contains_key(name) {
                return Err(format!("{name} is not an uploaded script"));
            }
        }
        scripts.extend(change.files);
        Self::new(scripts)
    }

    /// The scripts, by name.
    pub(crate) fn scripts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The text of one.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether nothing is uploaded.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and hashes.
    pub(crate) fn manifest(&self) -> Manifest {
        Manifest(self.0.iter().map(|(name, text)| (name.clone(), hash_of(text))).collect())
    }
}

impl Manifest {
    /// What tells this set from any other; empty where nothing is uploaded.
    pub(crate) fn id(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut hash = Sha256::new();
        for (name, text) in &self.0 {
            // No name has a zero byte, and no hash another length.
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(text.as_bytes());
        }
        hex(&hash.finalize())[..ID_DIGITS].to_owned()
    }
}

impl ScriptsTold {
    pub(crate) fn error(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failed.is_empty() && self.error.is_none()
    }

    /// As much as one message holds.
    pub(crate) fn bounded(mut self) -> Self {
        self.failed.truncate(MAX_FAILED);
        for failed in &mut self.failed {
            let end = (0..=MAX_REASON.min(failed.error.len())).rev().find(|at| failed.error.is_char_boundary(*at));
            failed.error.truncate(end.unwrap_or_default());
        }
        self
    }
}

/// The SHA-256 of a text.
pub(crate) fn hash_of(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names become paths: none leads elsewhere, and none is passed over when the folder is read.
fn check_name(name: &str) -> Result<(), String> {
    let parts: Vec<_> = name.split('/').collect();
    let fits = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && !part.contains(|c: char| c.is_control() || c == '\\')
    };
    let is_script = name.ends_with(".lua") && !name.ends_with("_test.lua");
    if name.len() > MAX_NAME || parts.len() > MAX_FOLDERS + 1 || !is_script || !parts.iter().all(|part| fits(part)) {
        let shown: String = name.chars().take(MAX_NAME).collect();
        return Err(format!(
            "{shown:?} is not the name of a script: a path below the scripts folder that ends with .lua and not with _test.lua"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scripts: &[(&str, &str)]) -> Result<ScriptSet, String> {
        ScriptSet::new(scripts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn an_upload_adds_replaces_and_drops() {
        let before = set(&[("a.lua", "1"), ("b.lua", "1")]).unwrap();
        let change = |files: &[(&str, &str)], drop: &[&str], replace| ScriptChange {
            files: set(files).unwrap().0,
            drop: drop.iter().map(|name| (*name).to_owned()).collect(),
            replace,
        };
        for (upload, after) in [
            (change(&[("b.lua", "2"), ("rooms/c.lua", "3")], &[], false), Ok("a.lua 1, b.lua 2, rooms/c.lua 3")),
            (change(&[("c.lua", "3")], &[], true), Ok("c.lua 3")),
            (change(&[], &["a.lua"], false), Ok("b.lua 1")),
            (change(&[], &["a.lua", "b.lua"], true), Ok("")),
            (change(&[], &["x.lua"], false), Err("x.lua is not an uploaded script")),
        ] {
            let shown = before
                .changed(upload)
                .map(|set| set.scripts().map(|(name, text)| format!("{name} {text}")).collect::<Vec<_>>().join(", "));
            assert_eq!(shown, after.map(str::to_owned).map_err(str::to_owned));
        }
    }

    #[test]
    fn what_is_beyond_a_bound_is_refused_by_name() {
        for name in [
            "",
            "a",
            "a.txt",
            "a_test.lua",
            "/a.lua",
            "../a.lua",
            "a/../b.lua",
            ".a.lua",
            "x/.y/z.lua",
            "a\0.lua",
            "a\\b.lua",
            "1/2/3/4/5/6.lua",
            &format!("{}.lua", "x".repeat(197)),
        ] {
            assert!(set(&[(name, "")]).unwrap_err().contains("is not the name of a script"), "{name:?}");
        }
        set(&[("1/2/3/4/5.lua", ""), ("ä.lua", ""), (&format!("{}.lua", "x".repeat(196)), "")]).unwrap();
        let long = "x".repeat(MAX_SOURCE_BYTES + 1);
        assert_eq!(set(&[("a.lua", &long)]).unwrap_err(), "a.lua has 262145 bytes, a script may have 262144");
        let many = (0..=MAX_SCRIPTS).map(|n| (format!("{n}.lua"), String::new())).collect();
        assert_eq!(ScriptSet::new(many).unwrap_err(), "513 scripts are uploaded, 512 at most may be");
        let large = (0..17).map(|n| (format!("{n}.lua"), long[1..].to_owned())).collect();
        assert!(ScriptSet::new(large).unwrap_err().contains("4456448 bytes together, they may have 4194304"));
    }

    #[test]
    fn sets_with_other_names_or_texts_have_other_ids() {
        let ids: BTreeSet<_> = [
            set(&[("a.lua", "1")]),
            set(&[("a.lua", "2")]),
            set(&[("b.lua", "1")]),
            set(&[("a.lua", "1"), ("b.lua", "1")]),
            set(&[]),
        ]
        .map(|set| set.unwrap().manifest().id())
        .into();
        assert_eq!(ids.len(), 5);
        assert!(ids.contains(""));
    }
}
