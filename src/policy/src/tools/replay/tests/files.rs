//! Files that are no recordings, are damaged, or long.

use std::fmt::Write;
use std::sync::Arc;

use super::*;
use crate::Script;

#[test]
fn a_file_that_is_no_recording_says_which_line_and_why() {
    let text = recorded(patient(), 45, 20);
    let lines: Vec<_> = text.lines().collect();
    let with = |number: usize, line: &str| {
        let mut lines = lines.clone();
        lines[number - 1] = line;
        lines.join("\n") + "\n"
    };
    let first = |a: &str, b: &str| lines[0].replacen(a, b, 1) + "\n";
    for (text, expected) in [
        (String::new(), "line 1: the file is empty"),
        ("\0\0\0".into(), "line 1: is not the beginning of a recording"),
        ("{}".into(), "line 1: is not the beginning of a recording"),
        (lines[1..].join("\n"), "line 1: is not the beginning of a recording"),
        ("{\"line\":\"watching\"}".into(), "line 1: is the beginning of a trace"),
        (
            first("\"version\":1", "\"version\":2"),
            "line 1: is in version 2 of the format; this moonring reads version 1",
        ),
        (first("\"seeds\"", "\"seats\""), "line 1: missing field `seeds`"),
        (with(3, "{\"line\":\"step\"}"), "line 3: missing field `t`"),
        (with(3, "not JSON"), "line 3: expected ident"),
        (with(3, "\0"), "line 3: expected value"),
        (with(4, "{\"line\":\"teleport\",\"t\":1}"), "line 4: unknown variant `teleport`"),
        (
            with(3, "{\"line\":\"event\",\"t\":1,\"ticket\":1,\"hook\":\"on_dream\"}"),
            "line 3: unknown variant `on_dream`",
        ),
        (with(2, "{\"line\":\"resumed\",\"t\":99000000000}"), "line 3: its time is before that of the line above"),
        (with(2, "{\"line\":\"resumed\",\"t\":18446744073709551615}"), "line 2: its time is before"),
        (with(5, lines[0]), "line 5: a second beginning"),
        (with(5, "{\"line\":\"lost\",\"lines\":3}"), "line 5: lines are missing here"),
    ] {
        let error = Recording::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[test]
fn a_recording_cut_anywhere_is_read_up_to_there() {
    on_a_shards_stack(|| {
        let text = recorded(narrow(), 46, 60);
        let first = text.find('\n').unwrap() + 1;
        let step = (text.len() - first) / 40;
        for cut in (first..text.len() - 1).step_by(step) {
            let recording = read(&text[..cut]);
            let warning = recording.warning.clone().unwrap();
            // A line whose line feed alone is missing is whole.
            let line = text[..cut].matches('\n').count() + usize::from(text.as_bytes()[cut] == b'\n');
            assert!(warning.ends_with(&format!("up to line {line}")), "{warning}");
            let report = replay(&recording, compiled(BUSY), Instant::now());
            assert!(report.is_same(), "{report}");
        }
    });
}

#[test]
fn edited_lines_never_panic() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    on_a_shards_stack(|| {
        let text = recorded(patient(), 47, 40);
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..150 {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(1..lines.len());
                match random.random_range(0..4) {
                    0 => drop(lines.remove(at)),
                    1 => lines.insert(at, lines[at].clone()),
                    2 => {
                        let other = random.random_range(1..lines.len());
                        lines.swap(at, other);
                    }
                    _ => {
                        let digits: Vec<_> =
                            lines[at].match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at).collect();
                        if let Some(digit) = digits.get(random.random_range(0..digits.len().max(1))) {
                            lines[at].replace_range(*digit..digit + 1, &random.random_range(0..10).to_string());
                        }
                    }
                }
            }
            if let Ok(recording) = Recording::read(lines.join("\n").as_bytes()) {
                replay(&recording, compiled(BUSY), Instant::now());
            }
        }
    });
}

#[test]
fn a_million_lines_are_replayed() {
    on_a_shards_stack(|| {
        let mut room = Recorded::open("function on_client_connect() return true end", patient(), 48, true);
        room.join("x");
        let mut text = room.text();
        let t = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()).unwrap()["t"].clone();
        for n in 0..if cfg!(debug_assertions) { 20_000 } else { 333_333 } {
            let ticket = 1000 + n;
            let _ = writeln!(
                text,
                "{{\"line\":\"event\",\"t\":{t},\"ticket\":{ticket},\"hook\":\"on_message\",\"client\":\"c1\",\"message\":{n}}}"
            );
            let _ = writeln!(
                text,
                "{{\"line\":\"step\",\"t\":{t},\"unix\":1786000000000000000,\"of\":{{\"ticket\":{ticket}}},\"hook\":\"on_message\",\"cpu_ns\":1}}"
            );
            let _ = writeln!(
                text,
                "{{\"line\":\"outcome\",\"t\":{t},\"ticket\":{ticket},\"outcome\":{{\"allowed\":true,\"missing\":true}}}}"
            );
        }
        let script =
            "function on_client_connect() return true end function on_message(c, m) if m == 7 then c:send(m) end end";
        let report =
            replay(&read(&text), Arc::new(Script::compile("room.lua", script.as_bytes()).unwrap()), Instant::now());
        assert!(report.differences.iter().any(|d| d.after.contains(&"send 7 (to \"c1\")".to_owned())));
    });
}
