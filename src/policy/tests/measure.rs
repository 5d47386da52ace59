//! Figures, printed on demand: `cargo test --lib policy::tests::measure -- --ignored --nocapture`.

#![expect(clippy::print_stdout, reason = "what these tests are for")]

use mlua::{Lua, LuaOptions, StdLib};

use super::runaways::LOOPS;
use super::*;

const HOOKS: u32 = 20_000;
const ROOMS: usize = 1_000;

fn ns_each(times: u32, mut what: impl FnMut()) -> u128 {
    let began = Instant::now();
    (0..times).for_each(|_| what());
    began.elapsed().as_nanos() / u128::from(times)
}

#[test]
#[ignore = "prints figures"]
fn hooks_against_plain_mlua() {
    let script = "function on_client_connect() return true end
        function on_message(c, m) end
        function on_publish_request(c, t) if t.kind == 'video' and c:get_id() ~= 'x' then return true end end";
    let mut world = World::new(script);
    let c = world.join("c1");
    let empty = ns_each(HOOKS, || drop(world.message(&c, json!("x"))));
    let video = track("t1", "c1", Kind::Video);
    let publish = || HookCall::PublishRequest { client: c.clone(), track: video.clone() };
    let publish_ns = ns_each(HOOKS, || drop(world.call(publish())));

    let lua = Lua::new_with(StdLib::NONE, LuaOptions::new()).unwrap();
    lua.load(script).exec().unwrap();
    let hook: mlua::Function = lua.globals().get("on_message").unwrap();
    let object = lua.create_table().unwrap();
    let plain = ns_each(HOOKS, || hook.call::<()>((&object, "x")).unwrap());
    println!("hook_ns={empty} publish_ns={publish_ns} plain_mlua_ns={plain}");
}

#[test]
#[ignore = "prints figures"]
fn rooms_of_the_default_script() {
    let script = compiled(include_str!("../../../scripts/default_room.lua"));
    let mut engine = PolicyEngine::new(generous(), 1);
    let now = Instant::now();
    let began = Instant::now();
    let open = |n: usize| engine.open_room(now, &room(&format!("r{n}")), Ok(script.clone())).unwrap();
    let keys: Vec<_> = (0..ROOMS).map(open).collect();
    let opened = began.elapsed() / ROOMS as u32;
    let lua_bytes = engine.room_status(keys[0]).unwrap().memory;
    let began = Instant::now();
    for key in &keys {
        engine.reload(now, *key, script.clone());
    }
    let reloaded = began.elapsed() / ROOMS as u32;
    println!("open_us={} reload_us={} lua_bytes={lua_bytes}", opened.as_micros(), reloaded.as_micros());
}

#[test]
#[ignore = "prints figures"]
fn how_long_runaways_hold_the_thread() {
    on_a_shards_stack(|| {
        let mut held = Vec::new();
        for body in LOOPS {
            let mut world = runaways::in_room(&format!("do {body} end"));
            let c = world.join("c1");
            let began = Instant::now();
            world.message(&c, json!("run"));
            held.push((began.elapsed(), *body));
        }
        held.sort();
        println!("median {:?}", held[held.len() / 2].0);
        held.iter().rev().take(5).for_each(|(time, body)| println!("{time:?} {body}"));
    });
}
