//! Figures, printed on demand: `cargo test --lib policy::tests::measure -- --ignored --nocapture`.

#![expect(clippy::print_stdout, reason = "what these tests are for")]

use mlua::{Lua, LuaOptions, StdLib};

use super::runaways::{BOMBS, LOOPS};
use super::*;

const HOOKS: u32 = 20_000;
const ROOMS: usize = 1_000;
/// How often each runaway is measured: a look of the watchdog may come early or late in a step.
const RUNS: usize = 10;
/// How many of the slowest runaways are named, beside those that once took more than twice the budget.
const NAMED: usize = 8;

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
fn sorting_against_luajits() {
    let sort = "local t, seed = {}, 7 for i = 1, 10000 do seed = seed * 16807 % 2147483647 t[i] = seed end
        table.sort(t, by)";
    let patient = PolicySettings { step_budget: Duration::from_secs(9), ..generous() };
    for by in ["nil", "function(a, b) return a < b end"] {
        let chunk = format!("local by = {by} {sort}");
        let script = format!("function on_client_connect() return true end function on_message() {chunk} end");
        let mut world = World::with(patient.clone(), &script);
        let c = world.join("c1");
        let ours = ns_each(20, || drop(world.message(&c, json!("x"))));
        let lua = Lua::new_with(StdLib::TABLE, LuaOptions::new()).unwrap();
        let chunk = lua.load(chunk).into_function().unwrap();
        let plain = ns_each(20, || chunk.call::<()>(()).unwrap());
        println!("sort 10,000 by {by}: ours_us={} luajit_us={}", ours / 1_000, plain / 1_000);
    }
}

#[test]
#[ignore = "prints figures"]
fn rooms_of_the_default_script() {
    let script = compiled(include_str!("../../../../scripts/default_room.lua"));
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

/// How long one hook held its thread, in CPU time: other processes' share of the machine is not the script's doing.
#[derive(Clone, Copy)]
struct Held {
    total: Duration,
    /// The script itself; the rest is the host's: the log line, and collecting what the script has left.
    step: Duration,
}

impl Held {
    fn by(body: &str) -> Self {
        let mut world = runaways::in_room(&format!("do (function() {body} end)() end"));
        let c = world.join("c1");
        let before = thread_cpu();
        world.message(&c, json!("run"));
        let total = thread_cpu() - before;
        Self { total, step: Duration::from_nanos(world.engine.stats().latency.max_ns).min(total) }
    }
}

fn thread_cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Sorts; the value that a share of all does not exceed.
fn quantile(all: &mut [Held], share: f64) -> Held {
    all.sort_by_key(|held| held.total);
    all[((all.len() - 1) as f64 * share).round() as usize]
}

#[test]
#[ignore = "prints figures"]
fn how_long_runaways_hold_the_thread() {
    on_a_shards_stack(|| {
        let budget = generous().step_budget;
        let corpus = LOOPS.iter().chain(BOMBS);
        let mut scripts: Vec<(Vec<Held>, &str)> = corpus.map(|body| (Vec::new(), *body)).collect();
        for _ in 0..RUNS {
            scripts.iter_mut().for_each(|(held, body)| held.push(Held::by(body)));
        }
        let mut all: Vec<Held> = scripts.iter().flat_map(|(held, _)| held.iter().copied()).collect();
        let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|share| ms(quantile(&mut all, share).total));
        println!(
            "budget_ms={} scripts={} runs={RUNS} held_p50_ms={p50:.2} held_p90_ms={p90:.2} held_p99_ms={p99:.2} \
             held_max_ms={max:.2}",
            budget.as_millis(),
            scripts.len(),
        );
        // A script that is slow by itself is slow every time; one that is only once met a late look of the watchdog.
        scripts.sort_by_cached_key(|(held, _)| quantile(&mut held.clone(), 0.5).total);
        for (n, (held, body)) in scripts.iter_mut().rev().enumerate() {
            let [median, worst] = [0.5, 1.0].map(|share| quantile(held, share));
            if n < NAMED || worst.total > 2 * budget {
                let (own, after) = (ms(median.step), ms(median.total - median.step));
                let worst = ms(worst.total);
                println!("median {own:.2} ms script + {after:.2} ms host afterwards, worst {worst:.2} ms: {body}");
            }
        }
    });
}
