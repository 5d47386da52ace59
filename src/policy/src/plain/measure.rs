//! Figures, for eyes only: `cargo test --lib plain::measure -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use mlua::{Lua, Value};

use super::{Limits, decode, encode, from_json, to_json};

#[test]
#[ignore = "prints figures"]
fn the_state_of_a_thousand_clients() {
    let limits = Limits { bytes: 16 << 20, depth: 64, values: 1_000_000 };
    let state = "local c = {} for i = 1, N do c['client-' .. i] = {user = 'user' .. i, role = 'host', joined = i,
        tracks = {['t' .. i] = {kind = 'video', label = 'cam', layers = 'q,h,f'}}} end return {version = 3, clients = c}";
    for clients in [1, 10, 1_000] {
        let lua = Lua::new();
        let value: Value = lua.load(state.replace('N', &clients.to_string())).eval().expect("a table");
        let bytes = encode(&value, limits).expect("plain");
        let json = to_json(&value, limits, &mut || false).expect("plain");
        let heir = Lua::new();
        eprintln!(
            "{clients} clients, {} bytes: encode {:?}, decode {:?}, to_json {:?}, from_json {:?}",
            bytes.len(),
            median(|| drop(encode(&value, limits))),
            median(|| drop(decode(&heir, &bytes))),
            median(|| drop(to_json(&value, limits, &mut || false))),
            median(|| drop(from_json(&heir, &json, &mut || false))),
        );
    }
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..51)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}
