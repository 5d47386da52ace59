//! Who is to blame for hooks that fail: the client whose events they were called for, or the script.
//!
//! A failing hook counts as strikes, for a minute or so. As long as only one client's events make a hook fail in a
//! certain way, the strikes are that client's, and too many of them disconnect it: no member can stop a script by what
//! it sends. When the events of another person's client fail alike, that is, in the same hook at the same line or for the same
//! reason, the strikes are the script's, of each person only so many; too many of them suspend the script. A person is an
//! identity that the script has given, else a network: who leaves and comes back under another id is no other one. Failures
//! that are about no client (timers, `on_active_speakers`) are the script's. Failures of `on_client_connect` are
//! nobody's: who is not in the room yet is rejected, and strangers come with a new name each time. Nor are those of
//! `on_admin`: the operator's program is told.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use super::client::ClientFacts;
use super::failure::HookFailure;
use super::hook_table::Hook;
use super::person::Person;
use super::settings::{PolicySettings, STRIKE_WINDOW, STRIKES_OF_ERROR, STRIKES_OF_KILL};
use moonring_wire::id::ClientId;

/// Strikes of one person that count against the script.
const MAX_SHARED_STRIKES: u32 = 10;
/// Ways of failing that are told apart; the failures of further ones are the script's.
const MAX_WAYS: usize = 64;
/// Clients, and people, whose strikes are counted; those of further ones count in full.
const MAX_CLIENTS: usize = 1024;

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    Nothing,
    /// The client is disconnected.
    Disconnect,
    /// The script is suspended.
    Suspend,
}

/// A way of failing: the hook, and the line or the budget.
type Way = (&'static str, String);

/// The failures of one room within the last minute or so.
#[derive(Debug)]
pub(crate) struct Faults {
    script_limit: u32,
    client_limit: u32,
    since: Instant,
    script: u32,
    /// Strikes that are a client's own.
    clients: HashMap<ClientId, u32>,
    /// Strikes of a person that count against the script.
    people: HashMap<Person, u32>,
    /// The first person whose events failed this way; `None` once there was another.
    ways: HashMap<Way, Option<Person>>,
}

impl Faults {
    pub(crate) fn new(settings: &PolicySettings, now: Instant) -> Self {
        Self {
            script_limit: settings.strikes,
            client_limit: settings.client_strikes,
            since: now,
            script: 0,
            clients: HashMap::new(),
            people: HashMap::new(),
            ways: HashMap::new(),
        }
    }

    /// Counts a failure of the hook `name`.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        name: &'static str,
        client: Option<&ClientFacts>,
        failure: &HookFailure,
    ) -> Consequence {
        if now.saturating_duration_since(self.since) >= STRIKE_WINDOW {
            (self.since, self.script) = (now, 0);
            self.clients.clear();
            self.people.clear();
            self.ways.clear();
        }
        if [Hook::ClientConnect, Hook::Admin].iter().any(|hook| hook.spec().name == name) {
            return Consequence::Nothing;
        }
        let strikes = if matches!(failure, HookFailure::Error(_)) { STRIKES_OF_ERROR } else { STRIKES_OF_KILL };
        let Some(client) = client else { return self.blame_script(strikes) };
        let person = Person::of(client);
        if self.is_shared((name, place_of(failure)), &person) {
            let more = match counted(&mut self.people, person) {
                Some(shared) => {
                    let more = strikes.min(MAX_SHARED_STRIKES.saturating_sub(*shared));
                    *shared += more;
                    more
                }
                None => strikes,
            };
            return self.blame_script(more);
        }
        let Some(own) = counted(&mut self.clients, client.id.clone()) else { return Consequence::Nothing };
        *own = own.saturating_add(strikes);
        if self.client_limit > 0 && *own >= self.client_limit {
            *own = 0;
            return Consequence::Disconnect;
        }
        Consequence::Nothing
    }

    fn blame_script(&mut self, strikes: u32) -> Consequence {
        self.script = self.script.saturating_add(strikes);
        let is_enough = strikes > 0 && self.script_limit > 0 && self.script >= self.script_limit;
        if is_enough { Consequence::Suspend } else { Consequence::Nothing }
    }

    /// True when the events of different people have failed this way.
    fn is_shared(&mut self, way: Way, person: &Person) -> bool {
        let is_full = self.ways.len() >= MAX_WAYS;
        match self.ways.get_mut(&way) {
            Some(Some(first)) if first == person => false,
            Some(known) => {
                *known = None;
                true
            }
            None if is_full => true,
            None => {
                self.ways.insert(way, Some(person.clone()));
                false
            }
        }
    }
}

/// The strikes of one; `None` for one too many.
fn counted<K: Eq + Hash>(strikes: &mut HashMap<K, u32>, whose: K) -> Option<&mut u32> {
    if !strikes.contains_key(&whose) && strikes.len() >= MAX_CLIENTS {
        return None;
    }
    Some(strikes.entry(whose).or_default())
}

/// `room.lua:12` of an error; else the kind of failure.
fn place_of(failure: &HookFailure) -> String {
    match failure {
        HookFailure::Error(message) => message.splitn(3, ':').take(2).collect::<Vec<_>>().join(":"),
        HookFailure::Time(..) => "time".to_owned(),
        HookFailure::Memory(..) => "memory".to_owned(),
        HookFailure::Panic(_) => "panic".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    /// A client with an address of its own.
    fn client(id: &str) -> ClientFacts {
        let ip = [192, 0, 2, id.as_bytes()[0]];
        ClientFacts::new(ClientId::parse(id).unwrap(), IpAddr::from(ip).into(), json!({}).into(), Instant::now())
    }

    fn error(line: u32) -> HookFailure {
        HookFailure::Error(format!("room.lua:{line}: attempt to index a nil value"))
    }

    fn faults(strikes: u32, client_strikes: u32) -> (Faults, Instant) {
        let now = Instant::now();
        (Faults::new(&PolicySettings { strikes, client_strikes, ..PolicySettings::default() }, now), now)
    }

    #[test]
    fn one_client_alone_is_disconnected_and_the_script_goes_on() {
        let (mut faults, now) = faults(10, 3);
        let a = client("a");
        let said: Vec<_> = (0..6).map(|_| faults.add(now, "on_message", Some(&a), &error(4))).collect();
        use Consequence::{Disconnect, Nothing};
        assert_eq!(said, [Nothing, Nothing, Disconnect, Nothing, Nothing, Disconnect]);
        let killed = HookFailure::Time(Duration::from_millis(5), String::new());
        assert_eq!(faults.add(now, "on_message", Some(&client("b")), &killed), Disconnect, "five strikes at once");
    }

    #[test]
    fn different_clients_that_fail_alike_suspend_the_script() {
        let (mut faults, now) = faults(25, 0);
        let mut add = |id: &str, line| faults.add(now, "on_message", Some(&client(id)), &error(line));
        for line in 0..30 {
            assert_eq!(add("a", line), Consequence::Nothing, "other lines are other ways");
        }
        let ids = ["b", "c", "d"];
        let last = ids.iter().flat_map(|id| [id; 12]).map(|id| add(id, 4)).position(|c| c == Consequence::Suspend);
        assert_eq!(last, Some(28), "b and c count ten each, d the five that are missing");
    }

    #[test]
    fn failures_about_nobody_are_the_scripts_and_those_of_newcomers_nobodys() {
        let (mut faults, now) = faults(2, 2);
        for _ in 0..9 {
            let failure = faults.add(now, "on_client_connect", Some(&client("x")), &error(1));
            assert_eq!(failure, Consequence::Nothing);
        }
        assert_eq!(faults.add(now, "timer", None, &error(1)), Consequence::Nothing);
        assert_eq!(faults.add(now + STRIKE_WINDOW, "timer", None, &error(1)), Consequence::Nothing, "a minute later");
        assert_eq!(faults.add(now + STRIKE_WINDOW, "timer", None, &error(1)), Consequence::Suspend);
    }
}
