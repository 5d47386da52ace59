//! Scripts that are uploaded to a server that is alone.

use std::path::PathBuf;

use super::*;
use crate::config::OptionalSecret;
use crate::signal::operator_scripts;

#[tokio::test]
async fn a_script_is_uploaded_refused_shown_and_taken_back() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> (String, PathBuf) {
        let path = folder.path().join(name.replace('/', "_"));
        fs::write(&path, text).unwrap();
        (name.to_owned(), path)
    };
    let push = |scripts: Vec<(String, PathBuf)>, replace| async move {
        let pushed = operator_scripts::push(world.admin, &scripts, replace).await;
        pushed.map_err(|error| format!("{error:#}"))
    };
    let both = vec![file("rooms/demo.lua", "x = 1"), file("rooms/other.lua", "x = 2")];
    assert_eq!(push(both, false).await.unwrap(), "this server has loaded them, 2 changed\n2 uploaded scripts\n");
    let refused = push(vec![file("rooms/demo.lua", "x = 1\nx = = 2")], false).await.unwrap_err();
    let words = "nothing was changed anywhere\nthis server refuses:\n  rooms/demo.lua:2: unexpected symbol near '='\n";
    assert_eq!(refused, words);
    let listed = operator_scripts::list(world.admin).await.unwrap();
    let lines: Vec<_> = listed.lines().map(|line| line.split(' ').next_back().unwrap()).collect();
    assert_eq!(lines, ["scripts", "rooms/demo.lua", "rooms/other.lua", "them"], "{listed}");
    let only = vec![file("rooms/demo.lua", "x = 3")];
    assert_eq!(push(only, true).await.unwrap(), "this server has loaded them, 2 changed\n1 uploaded scripts\n");
    let dropped = operator_scripts::drop_scripts(world.admin, &["rooms/demo.lua".to_owned()]).await.unwrap();
    assert_eq!(dropped, "this server has loaded them, 1 changed\n0 uploaded scripts\n");
    for (scripts, words) in [
        (vec![file("../demo.lua", "x = 1")], "\"../demo.lua\" is not the name of a script"),
        (vec![file("a.lua", &"-".repeat(256 * 1024 + 1))], "a.lua has 262145 bytes, a script may have 262144"),
        (vec![("a.lua".to_owned(), folder.path().join("absent"))], "absent: No such file"),
        (vec![], "there is no script to upload"),
    ] {
        let error = push(scripts, false).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let gone = operator_scripts::drop_scripts(world.admin, &["rooms/demo.lua".to_owned()]).await.unwrap_err();
    assert!(gone.to_string().contains("rooms/demo.lua is not an uploaded script"), "{gone}");
    let ask = reqwest::Client::new().post(format!("http://{}/scripts", world.admin)).json(&json!({}));
    assert_eq!(ask.header("origin", "https://evil.example").send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn an_upload_needs_the_admin_token() {
    let world = World::with(Config { admin_token: OptionalSecret("hush".into()), ..Config::default() }).await;
    let ask = reqwest::Client::new().post(format!("http://{}/scripts", world.admin)).json(&json!({}));
    assert_eq!(ask.send().await.unwrap().status(), 401);
}
