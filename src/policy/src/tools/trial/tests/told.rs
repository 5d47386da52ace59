//! What whoever writes a test is told: prints, logs, and how clients have gone.

use super::*;

#[test]
fn what_a_test_prints_is_a_comment_before_its_result() {
    let source = "test.it('it', function() print('a', { b = 1 }, nil) print('c\\nd') end) print('after')";
    let cases = file("", source.to_owned());
    assert_eq!(words(&cases[0]), "# a\t{ b = 1 }\tnil\n# c\n# d\n# after\nok 1 - it\n");
    let body = "print('x') local c = room:connect() test.eq(#room.log, 0)";
    assert_eq!(one("", body).failure, None, "it is not in a room's log");
}

#[test]
fn a_test_that_fails_shows_what_the_script_and_the_engine_have_logged_in_it() {
    for (script, body, expected) in [
        (
            "function on_client_connect(c) sfu.log_warn('hm') end",
            "local _, ok = room:connect() room:connect() test.eq(ok, true)",
            "  log: |\n    warn on_client_connect: hm\n    warn on_client_connect: the hook has returned nil and no reason: only \
             true allows, and whoever asks is turned away; return true or false\n    warn on_client_connect: hm\n  ...\n",
        ),
        (
            "function on_message(c, m) for i = 1, m do print(i) end end",
            "room:connect():message(22) test.ok(false)",
            "  log: |\n    … 2 lines before these\n    info on_message: 3\n",
        ),
        ("", "room:connect() test.ok(false)", "  expected: true\n  ...\n"),
    ] {
        let text = words(&one(script, body));
        assert!(text.contains(expected), "{text}");
    }
    let passes = words(&one("function on_message() print('x') end", "room:connect():message(1) test.eq(#room.log, 1)"));
    assert_eq!(passes, "ok 1 - it\n");
}

#[test]
fn what_a_client_does_that_is_not_in_the_room_says_how_it_has_gone() {
    for (script, body, expected) in [
        ("function on_client_connect() return false, 'no' end", "", "client 'c1' was not let in: no"),
        ("function on_client_connect() end", "", "client 'c1' was not let in: Permission denied by script"),
        ("function on_message(c) c:kick('out') end", "c:message(1)", "client 'c1' has left: out"),
        ("", "c:disconnect()", "client 'c1' has left: left"),
    ] {
        let failure = one(script, &format!("local c = room:connect() {body} c:publish{{ kind = 'audio' }}")).failure;
        assert_eq!(failure.unwrap_or_default().message, expected, "{script}");
    }
}

#[test]
fn a_hidden_client_may_not_publish_whatever_the_hook_says() {
    let script = "function on_client_connect(c) c:set_hidden(true) return true end
        function on_message(c) c:set_hidden(false) end";
    let body = "local c = room:connect() local _, ok, why = c:publish{ kind = 'audio' }
        test.eq({ ok, why }, { false, 'Who is hidden may not publish' })
        c:message(1) _, ok = c:publish{ kind = 'audio' } test.eq(ok, true)";
    assert_eq!(one(script, body).failure, None);
}

#[test]
fn an_error_of_the_store_names_the_key_that_the_script_has_said() {
    let script = "function on_message() sfu.store.set('k', 'v') sfu.store.incr('k') end";
    let failure = one(script, "room:connect():message(1)").failure.unwrap_or_default();
    assert!(failure.message.contains("room.lua:2: \"k\" holds no number"), "{failure:?}");
}
