//! When and with what a replay begins.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::PolicySettings;
use crate::client::{ClientFacts, Presence};
use crate::tape::line::{ClientLine, Start};
use crate::tools::PATIENCE;

/// How long before the recording a room, or a client, can have come.
pub(super) const PAST: Duration = Duration::from_secs(400 * 86_400);
/// Memory of the script, whatever the recording says.
const MAX_MEMORY: usize = 64 * 1024 * 1024;

/// A moment on the recording's clock; one that is too long ago is as long ago as can be.
pub(super) fn moment(start: Instant, t: i64) -> Instant {
    let time = Duration::from_nanos(t.unsigned_abs());
    if t < 0 { start.checked_sub(time.min(PAST)).unwrap_or(start) } else { start.checked_add(time).unwrap_or(start) }
}

/// The budgets of the recorded room, with more patience.
pub(super) fn settings_of(start: &Start) -> PolicySettings {
    let budgets = &start.budgets;
    let patient = |us: u64| Duration::from_micros(us.clamp(1, 1_000_000)) * PATIENCE;
    PolicySettings {
        step_budget: patient(budgets.step_us),
        load_budget: patient(budgets.load_us),
        memory_bytes: budgets.memory_bytes.clamp(256 * 1024, MAX_MEMORY),
        state_bytes: budgets.state_bytes,
        host_bytes: budgets.host_bytes,
        max_queued_events: budgets.max_queued_events,
        max_queued_joins: budgets.max_queued_joins,
        strikes: budgets.strikes,
        client_strikes: budgets.client_strikes,
        config: start.config.clone(),
        ..PolicySettings::unhurried()
    }
}

/// A client as the recording has it.
pub(super) fn facts_of(start: Instant, line: &ClientLine, presence: Presence) -> Rc<ClientFacts> {
    let (id, connection) = (line.client.clone(), line.connection.clone());
    let client = ClientFacts::new(id, connection, line.metadata.clone().into(), moment(start, line.since));
    client.presence.set(presence);
    client.left.set(line.left.map(|at| moment(start, at)));
    // It has none yet.
    let _ = line.identity.clone().map(|identity| client.identity.set(identity));
    client.attributes.replace(Value::Object(line.attributes.clone()).into());
    client.rights.set(line.rights);
    client.is_hidden.set(line.hidden);
    client.tracks.replace(line.tracks.clone());
    set_traffic(&client, line.traffic);
    client.traffic.path.set(line.path);
    Rc::new(client)
}

/// Sets what a client has sent and received: packets and bytes in, packets and bytes out.
pub(super) fn set_traffic(client: &ClientFacts, values: [u64; 4]) {
    let traffic = &client.traffic;
    let cells = [&traffic.packets_in, &traffic.bytes_in, &traffic.packets_out, &traffic.bytes_out];
    cells.into_iter().zip(values).for_each(|(cell, value)| cell.set(value));
}
