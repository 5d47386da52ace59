//! `room:lose_server()`: a room goes on with its last checkpoint, and with nothing else.

use super::*;

/// Counts messages and joins, says what it has counted, and rings a bell after a minute.
const COUNTS: &str = "CHECKPOINT_SECONDS = 10 STATE_VERSION = 3
    local n, gone, seen = 0, 0, nil
    function on_init() sfu.set_timeout('bell', 60000, function() sfu.broadcast('ding') end) end
    function on_client_connect() sfu.count('joins') return true end
    function on_client_disconnect() gone = gone + 1 sfu.log_info('gone') end
    function on_message(c, m) n = n + 1 c:send({ n, gone, sfu.room.metadata.plan or 'none', seen or 'new' }) end
    function on_close() sfu.log_info('close') end
    function on_unload() return { n = n, gone = gone } end
    function on_load(state, version) n, gone, seen = state.n, state.gone, version end
";
/// What a client of such a room is told that counts a message.
const SAYS: &str = "local function says(c) c:message(0) return c:last() end ";

fn failure_of(script: &str, body: &str) -> Option<Failing> {
    one(script, &format!("{SAYS} {body}")).failure
}

#[test]
fn a_room_whose_server_is_lost_goes_on_as_of_its_last_checkpoint() {
    let body = "room = test.room('room.lua', {}, { metadata = { plan = 'gold' } })
        local ann, bob = room:connect(), room:connect()
        bob:disconnect()
        test.eq(says(ann), { 1, 1, 'gold', 'new' })
        room:advance(11000)
        test.eq(says(ann), { 2, 1, 'gold', 'new' })
        room:connect()
        room:lose_server()
        test.eq({ ann.joined, bob.joined, room:counter('joins') }, { false, false, 0 })
        room:advance(5000)
        local carl, allowed = room:connect()
        test.eq({ carl.id, allowed, room:counter('joins') }, { 'c4', true, 3 })
        test.eq(says(carl), { 2, 1, 'gold', 3 })
        -- The next server has checkpoints, too, and the one before holds until then.
        room:lose_server()
        test.eq(says(room:connect()), { 2, 1, 'gold', 3 })
        room:advance(10000)
        room:lose_server()
        local dora = room:connect()
        test.eq({ room:now() - test.start, room.over }, { 26 })
        test.eq(says(dora), { 3, 1, 'gold', 3 })
        local log = {}
        for i, line in ipairs(room.log) do log[i] = line.text end
        test.eq(log, { 'gone' }, 'nobody is told of a server that is lost')";
    assert_eq!(failure_of(COUNTS, body), None);
}

#[test]
fn a_room_without_a_checkpoint_begins_anew() {
    let lost = "room = test.room('room.lua', {}, { metadata = { plan = 'gold' } })
        says(room:connect()) room:advance(9999) room:lose_server()
        local c = room:connect() test.eq({ says(c), room:counter('joins') }, { { 1, 0, 'none', 'new' }, 1 })";
    let never = COUNTS.replace("CHECKPOINT_SECONDS = 10", "");
    assert_eq!(failure_of(COUNTS, lost), None, "none was due yet");
    assert_eq!(failure_of(&never, &lost.replace("9999", "99999")), None, "there are none");
    let late =
        "local c = room:connect() says(c) room:advance(10000) room:lose_server() room:advance(15 * 60 * 1000 - 1)
        says(room:connect()) room:lose_server() room:advance(1) test.eq(says(room:connect()), { 1, 0, 'none', 'new' })";
    assert_eq!(failure_of(COUNTS, late), None, "it has been there for too long");
    let over = "local c = room:connect() says(c) room:advance(10000) c:disconnect() test.eq(room.over, 'empty')
        room:lose_server() test.eq(says(room:connect()), { 1, 0, 'none', 'new' })";
    assert_eq!(failure_of(COUNTS, over), None, "a room that has ended leaves none");
}

#[test]
fn a_room_that_nobody_is_in_is_lost_like_any_other() {
    let kept = format!("EMPTY_TIMEOUT_S = 600 {COUNTS}");
    let body = "local c = room:connect() says(c) c:disconnect() room:advance(20000)
        room:lose_server() room:advance(20000) test.eq(says(room:connect()), { 2, 1, 'none', 3 })";
    assert_eq!(failure_of(&kept, body), None, "its script keeps it");
    let opened = "room = test.room('room.lua', {}, { metadata = { plan = 'gold' } })
        room:advance(10000) room:lose_server() test.eq({ room:call(1) }, { nil, 'there is no such room' })
        test.eq(says(room:connect()), { 1, 0, 'gold', 3 })";
    assert_eq!(failure_of(COUNTS, opened), None, "somebody has opened it");
}

#[test]
fn timers_with_names_go_on_while_there_is_no_server() {
    let lost = |away: u32, ms: u32, rings: u32| {
        format!(
            "room:connect() room:advance(15000) room:lose_server() room:advance({away}) local c = room:connect()
             test.eq(#c.sent, {at_once}) room:advance({ms}) test.eq(#c.sent, 0) room:advance(1) test.eq(#c.sent, {rings})",
            at_once = 0
        )
    };
    assert_eq!(one(COUNTS, &lost(5_000, 39_999, 1)).failure, None);
    assert_eq!(one(COUNTS, &lost(44_999, 0, 1)).failure, None);
    let at_once = "room:connect() room:advance(15000) room:lose_server() room:advance(50000)
        test.eq(room:connect().sent, { 'ding' })";
    assert_eq!(one(COUNTS, at_once).failure, None, "it was due meanwhile");
    let unnamed = COUNTS.replace("'bell', ", "");
    assert_eq!(one(&unnamed, &lost(5_000, 59_999, 1)).failure, None, "this one begins anew");
}

#[test]
fn clients_of_a_server_that_is_lost_are_gone_and_say_so() {
    let expected = "client 'ann' was lost with the room's server: who comes back joins anew, with room:connect, and has \
        another id";
    for body in [
        "ann:message(1)",
        "ann:disconnect()",
        "ann:publish{ kind = 'audio' }",
        "ann:traffic{ bytes_in = 1 }",
        "room:speakers{ ann }",
        "room:operator{ kick = 'ann', reason = 'x' }",
        "room:connect{ id = 'ann' }",
        "room:connect() ann:message(1)",
    ] {
        let body = format!("local ann = room:connect{{ id = 'ann' }} room:lose_server()\n{body}");
        let failure = one(COUNTS, &body).failure.unwrap_or_default();
        assert_eq!((failure.message.as_str(), failure.at.as_str()), (expected, "x_test.lua:4"), "{body}");
    }
    let track = "local ann = room:connect() local track = ann:publish{ kind = 'audio' } room:lose_server()
        local bob = room:connect() bob:subscribe(track)";
    assert_eq!(one(COUNTS, track).failure.unwrap_or_default().message, "nobody publishes a track 't1'");
}

#[test]
fn what_is_under_way_when_a_server_is_lost_never_ends() {
    let waits = "CHECKPOINT_SECONDS = 10
        function on_client_connect(c, wait) if wait == 'http' then sfu.http('https://a/') end return true end
        function on_message(c) sfu.sleep(1000) sfu.broadcast('late') end
        function on_close() sfu.sleep(1000) sfu.log_info('closed') end";
    let body = "room:http(function() return { delay = 100 } end)
        local d = room:connect{ token = 'http' } room:connect():message(1) room:lose_server()
        -- Its requests are none of the next one's, although they have the same numbers.
        room:http(function() return { delay = 2000 } end)
        local e, allowed = room:connect{ token = 'http' } test.eq(allowed, nil)
        room:advance(1999) test.eq(e.allowed, nil) room:advance(1) test.eq(e.allowed, true)
        test.eq({ d.allowed, d.joined, #room.broadcasts }, { nil, false, 0 })
        e:disconnect() local late = room:connect() test.eq(late.allowed, nil)
        room:lose_server() room:advance(5000) test.eq({ late.allowed, #room.log, room.over }, { nil, 0, 'empty' })";
    assert_eq!(one(waits, body).failure, None);
    let within = "room:http(function() room:lose_server() return { delay = 100 } end)
        local c = room:connect{ token = 'http' } room:http(function() return { delay = 2000 } end)
        local d = room:connect{ token = 'http' } room:advance(1999) test.eq({ c.allowed, d.allowed }, {})
        room:advance(1) test.eq({ c.allowed, d.allowed }, { nil, true })";
    assert_eq!(one(waits, within).failure, None, "a handler of HTTP loses it");
}

#[test]
fn a_state_that_cannot_be_kept_fails_the_test_in_the_words_of_the_server() {
    for (returns, expected) in [
        (
            "error('no')",
            "there is no checkpoint of the room: on_unload: room.lua:2: no\nstack traceback:\n\t[C]: in function \
             'error'\n\troom.lua:2: in function 'on_unload'",
        ),
        (
            "return { print }",
            "there is no checkpoint of the room: on_unload: state[1]: a function can't cross a reload",
        ),
        (
            "return ('x'):rep(70000)",
            "there is no checkpoint of the room: its state takes 70143 bytes, of 65536 that a checkpoint may have",
        ),
    ] {
        let script = format!("function on_unload() {returns} end CHECKPOINT_SECONDS = 10");
        let failure = one(&script, "room:connect() room:advance(30000)").failure.unwrap_or_default();
        assert_eq!(failure.message, expected, "{returns}");
        let asked = "room:connect() room:advance(30000) test.eq(#room:failures(), 1)
            room:lose_server() room:connect() test.eq(#room:failures(), 0)";
        assert_eq!(one(&script, asked).failure, None, "{returns}");
    }
    let wrong = "function on_message() end CHECKPOINT_SECONDS = 1000";
    let body = "local room = test.room('room.lua') test.match(room:failures()[1].text, 'not a number of 1 to 300')";
    assert_eq!(one(wrong, body).failure, None);
    let on_load =
        "CHECKPOINT_SECONDS = 10 function on_unload() return 1 end function on_load(n) error('not ' .. n) end";
    let body = "room:connect() room:advance(10000) room:lose_server() local _, allowed = room:connect()
        test.eq(allowed, true) test.match(room:failures()[1].text, '^the script begins anew, without the state it \
        had: on_load: room.lua:2: not 1')";
    assert_eq!(one(on_load, body).failure, None);
}

#[test]
fn the_next_server_may_have_another_version_of_the_script() {
    let body = "room:connect():message(0) room:advance(10000) room:lose_server()
        test.ok(room:reload{ source = [[ CHECKPOINT_SECONDS = 10
            function on_client_connect() return true end
            function on_load(state, version) sfu.log_info(state.n .. ' of ' .. version) end ]] })
        test.eq(#room.log, 0) room:connect() test.eq(room.log[1].text, '1 of 3')";
    assert_eq!(one(COUNTS, body).failure, None);
}
