//! The scripts of the scripts folder, and the rules that choose one for a room.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use globset::{Glob, GlobMatcher};

use super::canary::{Chosen, Side};
use super::{Script, ScriptError};
use moonring_wire::id::RoomId;

/// The script of rooms that no other is for.
pub const DEFAULT_SCRIPT: &str = "default_room.lua";
/// The folder of scripts that are for one room each.
pub const ROOMS_FOLDER: &str = "rooms";

/// A rule of the configuration: rooms whose id fits the pattern run the script.
#[derive(Clone, Debug)]
pub struct ScriptRule {
    pattern: GlobMatcher,
    script: String,
}

impl ScriptRule {
    /// A rule: rooms whose id fits `pattern` run `script`.
    pub fn new(pattern: &Glob, script: &str) -> Self {
        Self { pattern: pattern.compile_matcher(), script: script.to_owned() }
    }
}

/// Why there is no script for a room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No file of that name is there.
    #[error("there is no script {0} in the scripts folder")]
    Missing(String),
    /// No version of the script can be used.
    #[error(transparent)]
    Broken(#[from] ScriptError),
}

/// All scripts, by their path below the scripts folder, compiled or with the reason why not.
/// Cheap to clone: a shard gets the whole of it with every change.
///
/// ```
/// use std::sync::Arc;
///
/// use moonring_policy::{Script, ScriptLibrary};
/// use moonring_wire::id::RoomId;
///
/// let mut library = ScriptLibrary::new(Vec::new());
/// for (name, source) in [("default_room.lua", "-- for all"), ("rooms/demo.lua", "-- for one"), ("rooms/bad.lua", "x =")] {
///     library.insert(name.into(), Script::compile(name, source.as_bytes()).map(Arc::new));
/// }
/// let resolve = |room: &str| library.resolve(&RoomId::parse(room).unwrap());
/// assert_eq!(resolve("stand-up").unwrap().name(), "default_room.lua");
/// assert_eq!(resolve("demo").unwrap().name(), "rooms/demo.lua");
/// assert!(resolve("bad").is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct ScriptLibrary {
    scripts: Arc<Scripts>,
    rules: Arc<[ScriptRule]>,
    canary: Option<Arc<Canary>>,
    /// How often operators have ordered a reload: an order holds also where no text has changed.
    orders: u64,
}

type Scripts = HashMap<String, Result<Arc<Script>, ScriptError>>;

/// Some rooms get other scripts.
#[derive(Debug)]
struct Canary {
    number: u64,
    chosen: Chosen,
    scripts: Arc<Scripts>,
}

impl ScriptLibrary {
    /// A library without scripts.
    pub fn new(rules: Vec<ScriptRule>) -> Self {
        Self { scripts: Arc::default(), rules: rules.into(), canary: None, orders: 0 }
    }

    /// These scripts, but those of `newer` for the chosen rooms.
    pub fn with_canary(&self, number: u64, newer: &Self, chosen: Chosen) -> Self {
        let canary = Canary { number, chosen, scripts: newer.scripts.clone() };
        Self { canary: Some(Arc::new(canary)), ..self.clone() }
    }

    /// The number of the canary that there is.
    pub fn canary(&self) -> Option<u64> {
        self.canary.as_ref().map(|canary| canary.number)
    }

    /// The same scripts, after so many orders to reload.
    pub fn with_orders(self, orders: u64) -> Self {
        Self { orders, ..self }
    }

    /// How often operators have ordered a reload.
    pub fn orders(&self) -> u64 {
        self.orders
    }

    /// The names of the scripts that are others than in `older`.
    pub fn changed_from(&self, older: &Self) -> Vec<String> {
        let is_same = |name: &String| match (self.scripts.get(name), older.scripts.get(name)) {
            (Some(Ok(a)), Some(Ok(b))) => a.is(b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let all: BTreeSet<_> = self.scripts.keys().chain(older.scripts.keys()).collect();
        all.into_iter().filter(|name| !is_same(name)).cloned().collect()
    }

    /// The side of a room in the canary; `None` when there is none, or when both sides of it run the same script.
    pub fn side(&self, room: &RoomId) -> Option<Side> {
        let canary = self.canary.as_ref()?;
        let (new, old) = (self.resolve_in(&canary.scripts, room), self.resolve_in(&self.scripts, room));
        let is_same = match (&new, &old) {
            (Ok(new), Ok(old)) => new.is(old),
            (Err(new), Err(old)) => new == old,
            _ => false,
        };
        let side = if canary.chosen.takes(canary.number, room) { Side::Canary } else { Side::Rest };
        (!is_same).then_some(side)
    }

    /// Adds or replaces a script. `name` is its path below the scripts folder, with `/`.
    pub fn insert(&mut self, name: String, script: Result<Arc<Script>, ScriptError>) {
        Arc::make_mut(&mut self.scripts).insert(name, script);
    }

    /// Takes a script out; false when there was none.
    pub fn remove(&mut self, name: &str) -> bool {
        self.contains(name) && Arc::make_mut(&mut self.scripts).remove(name).is_some()
    }

    /// The script of that name, or the reason why it cannot be used.
    pub fn get(&self, name: &str) -> Option<&Result<Arc<Script>, ScriptError>> {
        self.scripts.get(name)
    }

    /// How many scripts there are, usable or not.
    pub fn len(&self) -> usize {
        self.scripts.len()
    }

    /// Whether there is no script at all.
    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    /// Whether rooms depend on a script of that name being there: the default one, or a rule's.
    pub fn is_depended_on(&self, name: &str) -> bool {
        name == DEFAULT_SCRIPT || self.rules.iter().any(|rule| rule.script == name)
    }

    /// Scripts that rules name and that are not there.
    pub fn missing(&self) -> Vec<&str> {
        let mut missing: Vec<_> = self.rules.iter().map(|rule| rule.script.as_str()).collect();
        missing.retain(|name| !self.contains(name));
        missing.dedup();
        missing
    }

    /// Whether there is a script of that name, usable or not.
    pub fn contains(&self, name: &str) -> bool {
        self.scripts.contains_key(name)
    }

    /// Every script with its name.
    pub fn scripts(&self) -> impl Iterator<Item = (&str, &Result<Arc<Script>, ScriptError>)> {
        self.scripts.iter().map(|(name, script)| (name.as_str(), script))
    }

    /// The script that `room` runs: its own, the one of the first rule that matches, or the default one.
    pub fn resolve(&self, room: &RoomId) -> Result<Arc<Script>, ResolveError> {
        match &self.canary {
            Some(canary) if canary.chosen.takes(canary.number, room) => self.resolve_in(&canary.scripts, room),
            _ => self.resolve_in(&self.scripts, room),
        }
    }

    fn resolve_in(&self, scripts: &Scripts, room: &RoomId) -> Result<Arc<Script>, ResolveError> {
        let own = format!("{ROOMS_FOLDER}/{room}.lua");
        let name = if scripts.contains_key(&own) {
            own.as_str()
        } else {
            let rule = self.rules.iter().find(|rule| rule.pattern.is_match(room.as_str()));
            rule.map_or(DEFAULT_SCRIPT, |rule| rule.script.as_str())
        };
        match scripts.get(name) {
            Some(Ok(script)) => Ok(script.clone()),
            Some(Err(error)) => Err(ResolveError::Broken(error.clone())),
            None => Err(ResolveError::Missing(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_runs_its_own_script_else_the_first_rules_else_the_default() {
        let rules = [("vip-*", "vip.lua"), ("*-test", "test.lua"), ("lost", "nowhere.lua")];
        let mut library =
            ScriptLibrary::new(rules.iter().map(|(p, s)| ScriptRule::new(&Glob::new(p).unwrap(), s)).collect());
        for name in ["rooms/vip-9.lua", "vip.lua", "test.lua", DEFAULT_SCRIPT] {
            library.insert(name.to_owned(), Script::compile(name, b"x = 1").map(Arc::new));
        }
        library.insert("rooms/bad.lua".to_owned(), Script::compile("rooms/bad.lua", b"x = ").map(Arc::new));
        for (room, expected) in [
            ("vip-9", Ok("rooms/vip-9.lua")),
            ("vip-test", Ok("vip.lua")),
            ("a-test", Ok("test.lua")),
            ("demo", Ok(DEFAULT_SCRIPT)),
            ("lost", Err("there is no script nowhere.lua in the scripts folder")),
            ("bad", Err("rooms/bad.lua:1: unexpected symbol near '<eof>'")),
        ] {
            let resolved = library.resolve(&RoomId::parse(room).unwrap());
            let resolved = resolved.as_ref().map(|s| s.name()).map_err(ToString::to_string);
            assert_eq!(resolved, expected.map_err(str::to_owned), "{room}");
        }
    }
}
