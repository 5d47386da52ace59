//! Figures, for eyes only: `cargo test --lib pattern::measure -- --ignored --nocapture`.

use std::time::Instant;

use mlua::{Function, Lua};

const ROUNDS: u32 = 20_000;

#[test]
#[ignore = "prints figures"]
fn patterns_against_those_of_luajit() {
    let states = [Lua::new(), Lua::new()];
    let strings: mlua::Table = states[0].globals().get("string").expect("the string library");
    super::lua::install(&states[0], &strings, || false).expect("installs");
    let start = Instant::now();
    for _ in 0..ROUNDS / 100 {
        super::lua::install(&states[0], &strings, || false).expect("installs");
    }
    eprintln!("install {:?}", start.elapsed() / (ROUNDS / 100));
    for call in [
        "string.find('room-1234', '-', 1, true)",
        "string.find('room-1234', '%d+')",
        "string.match('Bearer abc.def.ghi', '^Bearer%s+(%S+)$')",
        "string.match('user=alice; role=host', 'role=(%w+)')",
        "string.gsub('hello world from lua', '%w+', '<%0>')",
        "string.gsub('hello world from lua', '%w+', print and function(w) return w end)",
        "string.find(long, 'needle', 1, true)",
        "string.find(long, '[^a]')",
        "string.gsub(long, 'a', 'b')",
    ] {
        let nanoseconds = states.each_ref().map(|lua| {
            let rounds = if call.contains("long") { ROUNDS / 100 } else { ROUNDS };
            let chunk =
                format!("local long = ('a'):rep(10000) return function(n) for i = 1, n do local a, b = {call} end end");
            let run: Function = lua.load(chunk).eval().expect("a function");
            run.call::<()>(rounds / 10).expect("runs");
            let start = Instant::now();
            run.call::<()>(rounds).expect("runs");
            start.elapsed() / rounds
        });
        eprintln!("{call:<90} ours {:?}, LuaJIT {:?}", nanoseconds[0], nanoseconds[1]);
    }
}
