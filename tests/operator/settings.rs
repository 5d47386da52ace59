//! Settings that a server starts with although they will not do what is meant, and signals to it.

use std::fs;
use std::process::Stdio;

use crate::process::{Server, Setup};

#[test]
fn settings_without_effect_and_scripts_that_are_not_there_are_told_of_at_the_start() {
    let setup = Setup::new();
    let mut server = setup.start(&[
        "--node",
        "n1",
        "--cluster-spread",
        "load",
        "--room-scripts",
        "a-*=gone.lua,b-*=default_room.lua",
    ]);
    server.terminate();
    server.wait();
    let log = server.log();
    let lines = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!(
        lines("without the setting cluster this server is alone, and node, cluster_spread without effect"),
        1,
        "{log}"
    );
    assert_eq!(lines("there is no gone.lua in "), 1, "{log}");
    assert_eq!(lines("which room_scripts names: its rooms reject everybody"), 1, "{log}");
}

#[test]
fn a_webhook_that_may_not_be_reached_is_refused_at_the_start() {
    let setup = Setup::new();
    for (url, allowed, words) in [
        (
            "https://shop.example.com/x",
            "other.example.com",
            "webhook_url: shop.example.com:443 is not listed in http_allow",
        ),
        ("shop", "shop", "webhook_url \"shop\" is not a URL such as https://shop.example.com/rooms: "),
    ] {
        let (code, log) = setup.fail(&["--webhook-url", url, "--webhook-secret", "s", "--http-allow", allowed]);
        let last = log.lines().last().unwrap();
        assert_eq!(code, Some(1), "{log}");
        assert!(last.starts_with(&format!("moonring: {words}")), "{last}");
    }
}

#[test]
fn a_hangup_reads_the_scripts_again_and_ends_nobody() {
    let setup = Setup::new();
    let mut server = setup.start(&["--on-save", "nothing"]);
    assert_eq!(server.join("room")["type"], "joined");
    fs::write(setup.path("scripts/default_room.lua"), "function on_client_connect() return false, 'new' end").unwrap();
    server.hang_up();
    server.join_until("other", "rejected");
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let log = server.log();
    assert!(log.contains("SIGHUP: the scripts folder is read again; settings are those of the start"), "{log}");
}

#[test]
fn a_server_whose_terminal_is_closed_shuts_down() {
    let setup = Setup::new();
    let mut server = setup.spawn_in_a_terminal();
    server.wait_until_it_serves();
    let _goes_late = setup.silent_client();
    server.close_terminal();
    server.wait_until_nobody_listens();
    let log = fs::read_to_string(setup.path("log")).unwrap();
    assert!(log.contains("shutting down"), "{log}");
    assert!(!log.contains("SIGHUP"), "it ends, and reads nothing again: {log}");
}

#[test]
fn an_empty_variable_for_a_list_is_one_that_is_not_set() {
    let setup = Setup::new();
    let mut command = setup.command(&[]);
    for name in
        ["CONFIG", "ANNOUNCED_IP", "CLUSTER", "HTTP_ALLOW", "ROOM_SCRIPTS", "SCRIPT_CONFIG", "RECORD", "LINK_IP"]
    {
        command.env(format!("MOONRING_{name}"), "");
    }
    let mut server = Server::spawn(&setup, command.stderr(Stdio::null()));
    server.wait_until_it_serves();
    assert_eq!(server.join("room")["type"], "joined");
}
