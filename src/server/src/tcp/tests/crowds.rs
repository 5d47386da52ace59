//! A process that has no descriptor left for who comes.

use std::fs::File;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

use super::*;

#[test]
fn who_comes_while_no_descriptor_is_left_is_let_in_once_there_is_one() {
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::has_no_descriptor_left");
    let mut child = Command::new(std::env::current_exe().unwrap());
    let status = child.args(["--exact", &name, "--nocapture", "--include-ignored"]).status().unwrap();
    assert!(status.success());
}

/// As many descriptors as this process may have.
fn all_that_are_left() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
#[ignore = "run by who_comes_while_no_descriptor_is_left_is_let_in_once_there_is_one, as all of a process has to do without"]
fn has_no_descriptor_left() {
    let ((mut tcp, address), now) = (listening(10), Instant::now());
    let mut ada = connect(address);
    ada.write_all(&framed(&[b"a check"])).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let mut taken = all_that_are_left();
    for second in 0..3 {
        let mut keep = Keep { at_a_time: 1, ..Keep::default() };
        for _ in 0..100 {
            assert!(!tcp.receive_into(now, 1_000, &mut keep).more, "it does not go round and round");
        }
        assert_eq!(tcp.stats().accepted, 0);
        // Others have what it lets go.
        taken.extend(all_that_are_left());
        tcp.look_after(now + PAUSE * (second + 1), |_| false);
    }
    drop(taken);
    tcp.look_after(now + PAUSE * 5, |_| false);
    assert_eq!(first(&mut tcp, now).1, b"a check");
}
