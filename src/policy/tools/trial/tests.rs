use super::*;

fn cases(test: &'static str) -> Vec<Case> {
    let load: fn(&str) -> Result<Vec<u8>, String> = |name| match name {
        "open.lua" => {
            Ok(b"function on_client_connect() return true end function on_publish_request() return true end".to_vec())
        }
        other => Err(format!("{other}: no such file")),
    };
    let thread = std::thread::Builder::new().stack_size(64 << 20);
    let run = move || run("x_test.lua", test.as_bytes(), Rc::new(load), Instant::now());
    thread.spawn(run).unwrap().join().unwrap()
}

#[test]
fn it_runs() {
    let cases = cases(
        "test.it('a', function() local c, ok = test.room('open.lua'):connect() test.ok(ok) test.eq(c.id, 'c1') end)",
    );
    assert_eq!(cases, [Case { name: "a".into(), failure: None }]);
}
