//! A standard error output that takes nothing.

use std::io::{BufRead, BufReader, PipeWriter, Read, Write, pipe};

use tokio_tungstenite::tungstenite::Message;

use crate::process::{Server, Setup};

/// Lets everybody in, with so many lines of 1,000 characters in the log.
fn talkative(lines: usize) -> String {
    format!(
        "function on_client_connect() for _ = 1, {lines} do sfu.log_info(string.rep('x', 1000)) end return true end"
    )
}

/// Writes as much into a pipe as it holds.
fn fill(pipe: &mut PipeWriter) {
    // What it holds at the start of a process (pipe(7)).
    pipe.write_all(&[b'\n'; 64 << 10]).unwrap();
}

#[test]
fn nobody_waits_for_who_does_not_read_the_log() {
    let setup = Setup::new();
    setup.policy(&talkative(10));
    let (mut unread, stderr) = pipe().unwrap();
    let mut server = Server::spawn(&setup, setup.command(&["--log-filter", "debug"]).stderr(stderr));
    server.wait_until_it_serves();
    // A pipe holds 64 KiB.
    for n in 0..20 {
        assert_eq!(server.join(&format!("room-{n}"))["type"], "joined");
        assert!(server.get("/healthz").starts_with("HTTP/1.1 200"));
    }
    // The log's own queue holds 1 MiB.
    for n in 0..200 {
        assert_eq!(server.join(&format!("room-{n}"))["type"], "joined");
    }
    let lost = server.metric("moonring_log_lines_lost_total");
    assert!(lost > 0.0);
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"));
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "the process ends, with the pipe still full");
    let mut log = String::new();
    unread.read_to_string(&mut log).unwrap();
    assert!(log.contains("receives media"), "{log}");
}

#[test]
fn a_log_with_a_gap_says_how_many_lines_it_lacks() {
    let setup = Setup::new();
    setup.policy(&talkative(10));
    let (unread, stderr) = pipe().unwrap();
    let mut server = Server::spawn(&setup, setup.command(&[]).stderr(stderr));
    server.wait_until_it_serves();
    for n in 0.. {
        if server.metric("moonring_log_lines_lost_total") > 0.0 {
            break;
        }
        assert_eq!(server.join(&format!("room-{n}"))["type"], "joined");
    }
    let lost = server.metric("moonring_log_lines_lost_total");
    let mut lines = BufReader::new(unread).lines().map(Result::unwrap);
    let told = lines.find(|line| line.contains("lines of the log are missing before this one")).unwrap();
    assert!(told.ends_with(&format!("lines={lost}")), "{told}, and {lost} are lost");
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let last = lines.last().unwrap();
    assert!(last.ends_with("the server shuts down\""), "{last}");
}

#[test]
fn the_log_says_who_has_come_and_who_has_left() {
    let setup = Setup::new();
    setup.policy("function on_client_connect() return true end");
    let mut server = setup.start(&[]);
    let told = server.join("demo");
    let name = told["client"].as_str().unwrap();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let log = server.log();
    let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("{words:?} is not in {log}"));
    let came = at(&format!("client joined room=\"demo\" client={name}\n"));
    assert!(came < at(&format!("client left room=\"demo\" client={name} reason=")));
}

#[test]
fn why_it_did_not_start_is_said_and_kept_for_nobody_who_does_not_read() {
    let setup = Setup::new();
    let (code, log) = setup.fail(&["--log-filter", "moonring=debug", "--scripts-dir", "/nowhere"]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.lines().last().unwrap().starts_with("moonring: scripts folder /nowhere: "), "{log}");
    let (_unread, mut stderr) = pipe().unwrap();
    fill(&mut stderr);
    let mut server = Server::spawn(&setup, setup.command(&["--scripts-dir", "/nowhere"]).stderr(stderr));
    assert_eq!(server.wait().code(), Some(1), "the process ends, with the pipe full from its start");
}

/// Lines of the log with these words.
fn count(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn the_log_says_why_joins_are_refused_and_of_a_flood_how_many_there_were() {
    let setup = Setup::new();
    setup.policy(
        "function on_client_connect(_, token) if token == 'x' then error('boom') end return false, 'Ask Ada' end",
    );
    let mut server = setup.start(&[]);
    for (token, told, reason) in [("", "Ask Ada", "Ask Ada"), ("x", "Internal script error", "Internal script error")] {
        assert_eq!(server.enter("demo", token).1["reason"], told);
        let line = server.logs(&format!("reason=\"{reason}\""));
        assert!(line.contains("INFO") && line.contains("a join is refused room=demo client="), "{line}");
        assert!(line.ends_with(&format!("address=127.0.0.1 reason=\"{reason}\"")), "{line}");
    }
    (0..50).for_each(|_| assert_eq!(server.join("demo")["type"], "rejected"));
    assert_eq!(server.join("other")["type"], "rejected");
    assert!(server.logs("room=other").ends_with("reason=\"Ask Ada\" unsaid=42"));
    server.terminate();
    server.wait();
    assert_eq!(count(&server.log(), "a join is refused"), 11);
}

#[test]
fn the_log_says_what_has_ended_a_websocket() {
    let setup = Setup::new();
    let mut server = setup.start(&["--ping-interval-s", "1"]);
    let (mut long, _) = server.enter("long", "");
    // Nobody reads its end.
    let _ = long.send(Message::text("x".repeat(3 << 20)));
    let line = server.logs("room=long client=");
    assert!(line.contains("INFO") && line.contains("the client's WebSocket is lost"), "{line}");
    assert!(line.contains("too long"), "{line}");
    let (mut left, _) = server.enter("left", "");
    left.close(None).unwrap();
    assert!(server.logs("room=left client=").contains("the client's side closed it without leave"));
    let (cut, _) = server.enter("cut", "");
    drop(cut);
    server.logs("room=cut client=");
    let (_silent, _) = server.enter("silent", "");
    assert!(server.logs("room=silent client=").contains("reason=\"nothing came for 3 pings\""));
}

#[test]
fn a_transport_that_fails_has_one_line_with_its_room() {
    let setup = Setup::new();
    setup.policy("function on_client_connect() return true end function on_publish_request() return true end");
    let mut server = setup.start(&["--handshake-timeout-s", "1"]);
    let answer = server.post_offer("/whip/demo", include_str!("../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp"));
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let words = "the media transport did not come up in time";
    let line = server.logs("client left");
    assert!(line.contains("room=\"demo\" client=") && line.ends_with(&format!("reason=\"{words}\"")), "{line}");
    server.terminate();
    server.wait();
    assert_eq!(count(&server.log(), words), 1);
}

#[test]
fn an_encoder_or_player_whose_request_is_refused_leaves_for_that_reason() {
    let setup = Setup::new();
    setup.policy(
        "function on_client_connect() return true end function on_publish_request() return false, 'No cameras today' end",
    );
    let mut server = setup.start(&[]);
    let offer = include_str!("../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp");
    for (path, offer, status, reason) in [
        ("/whip/demo", offer.to_owned(), "403", "No cameras today"),
        (
            "/whep/demo/ada",
            offer.replace("sendonly", "recvonly"),
            "404",
            "room demo has no track, and no client with a track",
        ),
    ] {
        let answer = server.post_offer(path, &offer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        server.logs(&format!("reason=\"its request is refused: {reason}"));
    }
}
