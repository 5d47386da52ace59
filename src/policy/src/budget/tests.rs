//! Steps that keep their budget, and those that do not.

use super::*;

fn spinning(code: &str) -> (mlua::Result<mlua::Value>, Spent) {
    let lua = Lua::new_with(mlua::StdLib::NONE, mlua::LuaOptions::new().catch_rust_panics(true)).unwrap();
    let thread = lua.create_thread(lua.load(code).into_function().unwrap()).unwrap();
    bounded(&lua, Duration::from_millis(3), || thread.resume(()))
}

#[test]
fn a_loop_is_stopped_also_inside_pcall() {
    for code in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function f() return f() end f()",
    ] {
        let (result, spent) = spinning(code);
        assert!(spent.killed, "{code}: {result:?}");
        assert!(spent.cpu >= Duration::from_millis(1), "{spent:?}");
        assert_eq!(result.unwrap(), mlua::Value::Nil, "{code}");
    }
}

#[test]
fn a_step_within_its_budget_is_left_alone() {
    let (result, spent) = spinning("return 7");
    assert_eq!(result.unwrap().as_integer(), Some(7));
    assert!(!spent.killed);
    assert!(!should_stop());
}

#[test]
fn a_thread_that_only_waits_uses_no_budget() {
    let lua = Lua::new_with(mlua::StdLib::NONE, mlua::LuaOptions::new()).unwrap();
    let (_, spent) = bounded(&lua, Duration::from_millis(3), || thread::sleep(Duration::from_millis(20)));
    assert!(!spent.killed, "{spent:?}");
}

#[test]
fn the_clock_of_clean_ups_stands_still_while_the_thread_does() {
    let (spent, elapsed) = (cpu_stopwatch(), stopwatch());
    thread::sleep(Duration::from_millis(20));
    let (slept, used) = (elapsed(), spent());
    assert!(used < slept / 2, "{used:?} of {slept:?}");
    let work: u64 = (0..1_000_000).map(std::hint::black_box).sum();
    assert!(spent() > used, "{work}");
}

/// A thread that something else takes the processor from looks to its clocks as one that waits.
#[test]
fn a_step_that_is_preempted_is_not_charged_for_what_its_thread_did_before() {
    const AWAY: Duration = Duration::from_millis(100);
    let lua = Lua::new_with(mlua::StdLib::NONE, mlua::LuaOptions::new()).unwrap();
    let cpu = || read_clock(libc::CLOCK_THREAD_CPUTIME_ID);
    let (_, first) = bounded(&lua, Duration::from_secs(1), || thread::sleep(Duration::from_millis(1)));
    let until = cpu() + 4 * AWAY.as_nanos() as u64;
    while cpu() < until {}
    let elapsed = stopwatch();
    let (seen, spent) = bounded(&lua, Duration::from_secs(1), || {
        THREAD.with(|thread| {
            let watch = &thread.get().unwrap().watch;
            while watch.looked_at.load(Acquire) != watch.step.load(Relaxed) {
                thread::sleep(Duration::from_micros(100));
            }
        });
        let seen = elapsed();
        thread::sleep(AWAY);
        seen
    });
    assert!(spent.cpu < seen + AWAY / 2, "{spent:?}, seen after {seen:?}, before that {first:?}");
}
