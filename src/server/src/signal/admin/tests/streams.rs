//! Traces and recordings of rooms, over the admin pages.

use std::io::Write;
use std::sync::{Arc, Mutex};

use moonring_policy::tape::MAX_TAPES;
use moonring_policy::tools::replay::Recording;

use super::*;
use crate::config::OptionalSecret;
use crate::signal::operator_streams;

const POLICY: &str = "function on_client_connect(c, token) return token == 'let me in please', 'No' end
    function on_message(client, message) sfu.broadcast({ got = message, by = client:get_id() }) end";

/// What has been written so far.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits until it says this.
    async fn says(&self, wanted: &str) {
        for _ in 0..2_000 {
            if self.text().contains(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{wanted:?} is not in {}", self.text());
    }
}

/// Says something to a room's policy.
async fn say(socket: &mut Socket, value: Value) {
    socket.send(Message::text(json!({ "type": "message", "value": value }).to_string())).await.unwrap();
}

#[tokio::test]
async fn a_trace_tells_of_hooks_verdicts_and_actions_as_they_happen_and_of_no_token() {
    let world = World::new().await;
    world.write(POLICY);
    operator::reload(world.admin).await.unwrap();
    let (_, mut ada) = world.join("demo", "let me in please").await;
    let (told, json) = (Page::default(), Page::default());
    for (page, as_json) in [(told.clone(), false), (json.clone(), true)] {
        let admin = world.admin;
        tokio::spawn(async move {
            operator_streams::trace(admin, "demo", as_json, &mut page.clone()).await.unwrap();
        });
    }
    told.says("demo runs default_room.lua").await;
    json.says("{\"line\":\"watching\"").await;
    let (_, bob) = world.join("demo", "let me in, or else").await;
    say(&mut ada, json!({ "password": "hunter2-hunter2" })).await;
    told.says("broadcast {\"by\":").await;
    json.says("\"actions\":[{\"broadcast\"").await;
    drop((ada, bob));
    let text = told.text();
    for wanted in [": rejected: No", "ran for ", "on_message ", "{\"password\":\"[secret "] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let both = text + &json.text();
    assert!(!both.contains("hunter2") && !both.contains("or else"), "{both}");
}

#[tokio::test]
async fn a_recording_over_the_admin_pages_is_one_that_can_be_replayed() {
    let world = World::new().await;
    world.write(POLICY);
    operator::reload(world.admin).await.unwrap();
    let (_, mut ada) = world.join("demo", "let me in please").await;
    let page = Page::default();
    let (admin, mut out) = (world.admin, page.clone());
    let time = Duration::from_secs(2);
    let recorder = tokio::spawn(async move { operator_streams::record(admin, "demo", Some(time), &mut out).await });
    page.says("{\"line\":\"start\"").await;
    for n in 0..10 {
        say(&mut ada, json!(n)).await;
    }
    recorder.await.unwrap().unwrap();
    let recording = Recording::read(page.text().as_bytes()).unwrap();
    assert_eq!((recording.warning, recording.start.room.as_str()), (None, "demo"));
    assert_eq!(page.text().matches("\"hook\":\"on_message\",\"client\"").count(), 10);
    assert!(page.text().ends_with("{\"line\":\"end\",\"reason\":\"the time is over\"}\n"));
}

#[tokio::test]
async fn nobody_watches_without_the_token_from_a_browser_or_a_room_that_is_not_there() {
    let world = World::with(Config { admin_token: OptionalSecret("s3cret".into()), ..Config::default() }).await;
    world.write(POLICY);
    let get = async |path: &str, name: &'static str, value: &'static str| {
        let request = reqwest::Client::new().get(format!("http://{}/{path}", world.admin)).header(name, value);
        request.send().await.unwrap().status().as_u16()
    };
    for (path, name, value, expected) in [
        ("rooms/demo/trace", "x", "x", 401),
        ("rooms/demo/record", "authorization", "Bearer wrong", 401),
        ("rooms/demo/record", "authorization", "Bearer s3cret", 404),
        ("rooms/%20/trace", "authorization", "Bearer s3cret", 404),
    ] {
        assert_eq!(get(path, name, value).await, expected, "{path} {value}");
    }
    // A picture or a script of a foreign page is asked for without Origin.
    for (name, value, expected) in [
        ("origin", "https://evil.example", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "none", 404),
        ("sec-fetch-site", "same-origin", 404),
    ] {
        let request = reqwest::Client::new().get(format!("http://{}/rooms/demo/trace", world.admin));
        let browser = request.header("authorization", "Bearer s3cret").header(name, value);
        assert_eq!(browser.send().await.unwrap().status(), expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn who_has_stopped_watching_a_quiet_room_takes_no_place_of_who_comes() {
    let world = World::new().await;
    world.write(POLICY);
    operator::reload(world.admin).await.unwrap();
    let (_, _ada) = world.join("demo", "let me in please").await;
    let watch = async || reqwest::get(format!("http://{}/rooms/demo/trace", world.admin)).await.unwrap();
    for n in 0..2 * MAX_TAPES {
        // Until the server has noticed that the one before has gone.
        let mut watched = watch().await.status();
        for _ in 0..400 {
            if watched.is_success() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            watched = watch().await.status();
        }
        assert_eq!(watched, 200, "watcher {n}");
    }
}
