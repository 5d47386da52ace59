//! What is kept on the disk belongs to one server at a time.

use std::fs;

use crate::process::{Server, Setup};

#[test]
fn a_second_server_on_the_same_data_does_not_start_and_names_the_first() {
    let (setup, other) = (Setup::new(), Setup::new());
    let mut first = setup.start(&[]);
    let folder = setup.path("data");
    let folder = folder.to_str().unwrap();
    let (code, log) = other.fail(&["--data-dir", folder]);
    assert_eq!(code, Some(1), "{log}");
    let last = log.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("moonring: data folder {folder} is in use by process {} on ", first.id())),
        "{last}"
    );
    first.terminate();
    first.wait();
    let mut second = other.start(&["--data-dir", folder]);
    second.terminate();
    second.wait();
}

#[test]
fn a_process_that_takes_over_has_the_data_as_well() {
    let (setup, other) = (Setup::new(), Setup::new());
    let socket = setup.path("take-over.sock");
    let with_socket = ["--take-over", socket.to_str().unwrap()];
    let mut before = setup.start(&with_socket);
    let after = setup.start(&with_socket);
    assert_eq!(before.wait().code(), Some(0), "{}", before.log());
    assert_eq!(after.join("room")["type"], "joined");
    let (code, log) = other.fail(&["--data-dir", setup.path("data").to_str().unwrap()]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.lines().last().unwrap().contains(&format!("is in use by process {} on ", after.id())), "{log}");
}

#[test]
fn the_recording_of_a_room_goes_on_in_a_new_file_of_the_process_that_takes_over() {
    let setup = Setup::new();
    let socket = setup.path("take-over.sock");
    let recorded = ["--take-over", socket.to_str().unwrap(), "--record", "demo"];
    let files = || -> Vec<String> {
        let mut paths: Vec<_> =
            fs::read_dir(setup.path("data/recordings")).unwrap().map(|f| f.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    };
    let mut before = setup.start(&recorded);
    let (_ada, told) = before.enter("demo", "");
    let name = told["client"].as_str().unwrap();
    let mut after = setup.start(&recorded);
    assert_eq!(before.wait().code(), Some(0), "{}", before.log());
    after.terminate();
    assert_eq!(after.wait().code(), Some(0));
    let files = files();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].contains("on_client_connect"), "{}", files[0]);
    let end = files[1].lines().find(|line| line.contains("on_client_disconnect"));
    assert!(end.is_some_and(|line| line.contains(name) && line.contains("the server shuts down")), "{}", files[1]);
}

#[test]
fn of_two_that_start_at_once_one_takes_over_from_the_other() {
    let setup = Setup::new();
    let socket = setup.path("take-over.sock");
    let with_socket = ["--take-over", socket.to_str().unwrap()];
    let mut both = [setup.spawn(&with_socket), setup.spawn(&with_socket)];
    let (status, former) = Server::wait_for_one(&mut both);
    assert_eq!(status.code(), Some(0), "{}", both[former].log());
    let [a, b] = both;
    let after = if former == 0 { b } else { a };
    assert_eq!(after.join("room")["type"], "joined");
}

/// Counts who comes, and tells them.
const COUNTS: &str = "CHECKPOINT_SECONDS = 1
    local n = 0
    function on_unload() return n end
    function on_load(state) n = state end
    function on_client_connect(client) n = n + 1 client:set_attributes({ n = n }) return true end";

#[test]
fn a_room_goes_on_with_its_checkpoint_after_its_process_was_killed_and_begins_anew_after_its_end() {
    let setup = Setup::new();
    setup.policy(COUNTS);
    let join = |server: &Server| server.join("room")["attributes"]["n"].as_u64();
    let mut server = setup.start(&[]);
    assert_eq!(join(&server), Some(1));
    for n in [2, 3] {
        server.metric_reaches("moonring_checkpoints_total{outcome=\"kept\"}", 1.0);
        // It is killed.
        drop(server);
        server = setup.start(&[]);
        assert_eq!(join(&server), Some(n));
        assert_eq!(server.metric("moonring_checkpoints_found_total"), 1.0);
    }
    server.metric_reaches("moonring_checkpoints_total{outcome=\"kept\"}", 1.0);
    server.terminate();
    server.wait();
    assert_eq!(join(&setup.start(&[])), Some(1));
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_what_to_do() {
    let setup = Setup::new();
    // A file.
    let folder = setup.path("scripts/default_room.lua").join("data");
    let (code, log) = setup.fail(&["--data-dir", folder.to_str().unwrap()]);
    let last = log.lines().last().unwrap();
    assert_eq!(code, Some(1), "{log}");
    assert!(last.starts_with(&format!("moonring: data folder {}: cannot be ", folder.display())), "{last}");
    assert!(last.contains("--data-dir"), "{last}");
}
