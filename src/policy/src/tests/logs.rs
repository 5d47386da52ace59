//! What the engine writes to the log when a script fails: every fact as a field of its own, for who searches them.

use std::io;
use std::sync::Mutex;

use super::*;

/// Where the log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The fields of the errors that a test logged, the words as `message`.
pub(super) fn errors(test: impl FnOnce()) -> Vec<Value> {
    logged("ERROR", test)
}

/// The same of the lines of a level.
fn logged(level: &str, test: impl FnOnce()) -> Vec<Value> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    keep_listening();
    tracing::subscriber::with_default(subscriber, test);
    let text = String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["level"] == level).map(|line| line["fields"].clone()).collect()
}

const SCRIPT: &str = "local function deeper() error('boom') end
function on_client_connect() return true end
function on_message(client, message)
  if message == 'fail' then deeper() end
  if message == 'spin' then while true do end end
  if message == 'later' then sfu.set_timeout(10, deeper) end
end";

#[test]
fn a_failure_is_logged_with_room_script_version_hook_client_and_traceback() {
    let version = format!("{:016x}", compiled(SCRIPT).version());
    for (message, hook, who, words, frames) in [
        (
            "fail",
            "on_message",
            "c1",
            "room.lua:1: boom",
            ["room.lua:1: in upvalue 'deeper'", "room.lua:4: in function 'on_message'"],
        ),
        (
            "spin",
            "on_message",
            "c1",
            "more than its CPU time of 100ms",
            ["room.lua:5: in function 'on_message'", "stack traceback:"],
        ),
        ("later", "timer", "", "room.lua:1: boom", ["room.lua:1: in function", "stack traceback:"]),
    ] {
        let lines = errors(|| {
            let mut world = World::new(SCRIPT);
            let c = world.join("c1");
            world.message(&c, json!(message));
            world.pass(Duration::from_millis(20));
        });
        let [line] = &lines[..] else { panic!("{message}: {lines:?}") };
        for (field, expected) in
            [("room", "demo"), ("script", "room.lua"), ("version", &version), ("hook", hook), ("client", who)]
        {
            assert_eq!(line[field], expected, "{message}: {field} of {line}");
        }
        let told = line["message"].as_str().unwrap();
        assert!(told.contains(words) && frames.iter().all(|frame| told.contains(frame)), "{message}: {told}");
        assert!(!told.contains("sfu.lua"), "none of our own frames: {told}");
    }
}

#[test]
fn a_script_that_does_not_start_is_logged_with_its_room_and_line() {
    let lines = errors(|| {
        let tried = World::try_with(generous(), "function on_init() local x = nil + 1 end");
        assert_eq!(tried.err().map(|error| error.reason()), Some("Internal script error"));
    });
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(line["room"], "demo");
    assert!(
        line["message"].as_str().unwrap().contains("room.lua:1: attempt to perform arithmetic on a nil value"),
        "{line}"
    );
}

fn connect(world: &mut World, name: &str) -> Verdict {
    let client = client(world.now, name);
    world.call(HookCall::ClientConnect { client, auth_token: String::new() }).verdict
}

#[test]
fn a_hook_that_decides_and_returns_nothing_to_decide_by_is_told_of_once() {
    for (returned, kind) in [("", "nil"), ("return 1", "number"), ("return 'yes'", "string"), ("return nil", "nil")] {
        let lines = logged("WARN", || {
            let mut world = World::new(&format!("function on_client_connect() {returned} end"));
            let verdicts = ["c1", "c2"].map(|name| connect(&mut world, name));
            assert_eq!(verdicts, [(); 2].map(|()| Verdict::Reject("Permission denied by script".into())));
        });
        let [line] = &lines[..] else { panic!("{returned}: {lines:?}") };
        assert_eq!((&line["hook"], &line["client"]), (&json!("on_client_connect"), &json!("c1")), "{line}");
        assert!(line["message"].as_str().unwrap().starts_with(&format!("the hook has returned {kind} ")), "{line}");
    }
    for returned in ["return false", "return nil, 'no'", "return false, 'no'", "return true"] {
        let lines = logged("WARN", || {
            let mut world = World::new(&format!("function on_client_connect() {returned} end"));
            connect(&mut world, "c1");
        });
        assert_eq!(lines, Vec::<Value>::new(), "{returned}");
    }
}

#[test]
fn a_failure_in_a_call_right_behind_return_names_the_function_in_which_it_was() {
    let lines = errors(|| {
        let mut world = World::new("\n\nfunction on_client_connect(client, token) return sfu.equal(token, nil) end");
        connect(&mut world, "c1");
    });
    let text = lines[0]["message"].as_str().unwrap();
    let place = "room.lua:3: in this function, by a call right behind 'return', of which Lua keeps no line";
    assert!(text.contains("'b' to 'sfu.equal' (string expected, got nil)") && text.contains(place), "{text}");
}

/// The script's memory was full of what it keeps, and each further error said "error in error handling" alone.
#[test]
fn an_error_that_no_memory_is_left_to_tell_of_names_the_limit() {
    let lines = errors(|| {
        let mut world = World::new(
            "local kept = {}
             function on_client_connect() return true end
             function on_message(client, message)
               if message == 'fill' then for i = 1, 1e9 do kept[i] = ('x'):rep(100) .. i end end
               client:kick(12)
             end",
        );
        let c = world.join("c1");
        world.message(&c, json!("fill"));
        world.message(&c, json!("x"));
    });
    let told: Vec<_> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let limit = "the script failed: more memory than the 2048 KiB of a room's script (memory_kib): ";
    assert!(told.iter().all(|line| line.starts_with(limit)), "{told:?}");
    assert!(told[1].ends_with("there is none left to say which error it was"), "{told:?}");
}
