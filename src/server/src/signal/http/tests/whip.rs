//! WHIP and WHEP over HTTP.

use super::*;

fn receiving() -> String {
    OFFER.replace("a=sendonly", "a=recvonly")
}

#[tokio::test]
async fn whip_publishes_whep_receives_and_delete_leaves() {
    let mut world = start(&config());
    let receiving = receiving();
    for (path, body, via, offer) in [
        ("/whip/demo", OFFER, "whip", "offer 2 0"),
        ("/whip/demo/", OFFER, "whip", "offer 2 0"),
        ("/whep/demo", &receiving, "whep", "offer 0 2"),
        ("/whep/demo/t0", &receiving, "whep", "offer 0 1"),
        ("/whep/demo/ada/", &receiving, "whep", "offer 0 1"),
    ] {
        let response = world.whip(path, Some("yes"), body).await;
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["content-type"], "application/sdp");
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert!(response.headers().contains_key("etag"));
        let resource = response.url().join(response.headers()["location"].to_str().unwrap()).unwrap();
        assert_eq!(resource.path().strip_prefix(&format!("/{via}/demo/")).map(str::len), Some(32), "{resource}");
        // OBS takes what does not begin with "http" as the whole path, and leaves its ".." to curl.
        let mut as_obs_has_it = response.url().clone();
        as_obs_has_it.set_path(response.headers()["location"].to_str().unwrap());
        assert_eq!(as_obs_has_it, resource);
        assert!(response.text().await.unwrap().contains("a=candidate:1 1 udp"));
        assert_eq!(world.told().await, format!("join demo yes {{\"via\":\"{via}\"}} 127.0.0.1"));
        assert_eq!(world.told().await, offer);
        let delete = |path: &str| reqwest::Client::new().delete(world.url(path)).send();
        let elsewhere = resource.path().replace("demo", "other");
        assert_eq!(delete(&elsewhere).await.unwrap().status(), 404, "the room is part of the name");
        let other = if via == "whip" { "whep" } else { "whip" };
        assert_eq!(delete(&resource.path().replace(via, other)).await.unwrap().status(), 404);
        assert_eq!(delete(&format!("{}/", resource.path())).await.unwrap().status(), 200);
        assert_eq!(delete(resource.path()).await.unwrap().status(), 404);
        assert_eq!(world.told().await, "leave left");
    }
}

#[tokio::test]
async fn whip_requests_that_cannot_be_met_say_why() {
    let world = start(&Config { join_timeout_s: 1, ..config() });
    let audio = &OFFER[..OFFER.find("m=video").unwrap()];
    let unbundled = audio.replace("a=group:BUNDLE 0 1\r\n", "");
    let response = world.whip("/whip/demo", Some("yes"), &unbundled).await;
    assert_eq!(response.status(), 201);
    assert!(!response.text().await.unwrap().contains("BUNDLE"));
    let hevc = OFFER.replace("H264/90000", "H265/90000");
    let hevc_alone = hevc.replace("opus/48000/2", "ilbc/8000");
    let without_group = OFFER.replace("a=group:BUNDLE 0 1\r\n", "");
    let receiving = receiving();
    let receiving_audio = receiving[..receiving.find("m=video").unwrap()].replace("BUNDLE 0 1", "BUNDLE 0");
    for (path, token, body, status, detail) in [
        ("/whip/demo", Some("no"), OFFER, 403, "Not on the list"),
        ("/whip/demo", None, &OFFER.replace("sendonly", "recvonly"), 422, "no section that sends"),
        ("/whip/demo", Some("full"), OFFER, 503, "The room is full"),
        ("/whip/demo", Some("hang"), OFFER, 503, "did not answer in time"),
        ("/whip/demo", Some("yes"), "v=1", 400, "session part"),
        ("/whep/demo", Some("yes"), OFFER, 422, "no section that receives"),
        ("/whep/demo/t5", Some("yes"), &receiving, 404, "no client with a track, of the name \"t5\""),
        ("/whep/demo/t0", Some("yes"), &receiving_audio, 409, "nothing of the kind"),
        ("/whip/demo", Some("yes"), &hevc, 406, "sends video in no codec that this server takes: VP8, H264, VP9, AV1"),
        ("/whip/demo", Some("yes"), &hevc_alone, 406, "no audio or video section with a codec"),
        ("/whip/demo", Some("yes"), &without_group, 422, "the video section is not in a=group:BUNDLE with the others"),
        ("/whip/.demo", Some("yes"), OFFER, 400, "the room id has the character '.'"),
        ("/whip/demo", Some("yes"), &"x".repeat(600_000), 413, "longer than 524288 bytes"),
    ] {
        let response = world.whip(path, token, body).await;
        assert_eq!(response.status(), status, "{detail}");
        let headers = response.headers();
        assert_eq!(headers["content-type"], "application/problem+json", "{detail}");
        assert_eq!(headers["access-control-allow-origin"], "*", "{detail}");
        assert_eq!(headers.contains_key("retry-after"), matches!(status, 409 | 503), "{detail}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!((&problem["status"], &problem["type"]), (&json!(status), &json!("about:blank")));
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{detail}: {problem}");
    }
}

#[tokio::test]
async fn requests_of_another_form_are_refused_as_http_has_it() {
    let world = start(&config());
    let client = reqwest::Client::new();
    let untyped = client.post(world.url("/whip/demo")).body(OFFER).send().await.unwrap();
    assert_eq!(untyped.status(), 415);
    let basic =
        client.post(world.url("/whip/demo")).header("content-type", "application/sdp").basic_auth("a", Some("b"));
    let basic = basic.body(OFFER).send().await.unwrap();
    assert_eq!((basic.status().as_u16(), basic.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    let preflight = client.request(reqwest::Method::OPTIONS, world.url("/whip/demo"));
    let preflight = preflight.header("origin", "https://a.example").header("access-control-request-method", "POST");
    let preflight = preflight.send().await.unwrap();
    assert_eq!(preflight.status(), 200);
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "POST,PATCH,DELETE,OPTIONS"),
        ("access-control-allow-headers", "authorization,content-type,if-match"),
        ("accept-post", "application/sdp"),
    ] {
        assert_eq!(preflight.headers()[name], value);
    }
    for (method, path, status) in [
        (reqwest::Method::PUT, "/whip/demo", 405),
        (reqwest::Method::PATCH, "/whip/demo/x", 405),
        (reqwest::Method::POST, "/whip/demo/x", 405),
        (reqwest::Method::GET, "/whip/demo/x/y", 404),
        (reqwest::Method::DELETE, "/whep/demo/x", 404),
        (reqwest::Method::POST, "/whip/%FF", 400),
        (reqwest::Method::POST, "/whep/demo/%C3", 400),
        (reqwest::Method::DELETE, "/whip/demo/%FF/", 400),
    ] {
        let refused = client.request(method, world.url(path)).send().await.unwrap();
        assert_eq!(refused.status(), status, "{path}");
        assert_eq!(refused.headers()["access-control-allow-origin"], "*", "{path}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json", "{path}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_told_what_is_wrong_whatever_they_ask() {
    let world = start(&config());
    let client = reqwest::Client::new();
    let ask = |method: &str, path: &str| {
        let request = client.request(method.parse().unwrap(), world.url(path)).header("origin", "https://a.example");
        async move { request.send().await.unwrap() }
    };
    for (method, path, status, words) in [
        ("POST", "/whip", 404, "the endpoints are /whip/<room> and /whep/<room>"),
        ("POST", "/whip/", 404, "the endpoints are /whip/<room> and /whep/<room>"),
        ("GET", "/whep/", 404, "the endpoints are /whip/<room> and /whep/<room>"),
        ("GET", "/whep/demo/x/y", 404, "the endpoints are /whip/<room> and /whep/<room>"),
        ("PUT", "/whip/demo", 405, "POST an offer to the endpoint, DELETE the session's resource"),
        ("GET", "/clients.js", 404, "there is no such page"),
        ("GET", "/client.js/", 404, "there is no such page"),
        ("POST", "/client.js", 405, "this page is read: GET or HEAD"),
    ] {
        let refused = ask(method, path).await;
        assert_eq!(refused.status(), status, "{method} {path}");
        assert_eq!(refused.headers()["access-control-allow-origin"], "*", "{method} {path}");
        let text = refused.text().await.unwrap();
        assert!(text.contains(words), "{method} {path}: {text}");
    }
    for path in ["/whip/", "/whep/", "/whip/demo", "/whip/demo/x", "/whep/demo/x/"] {
        let preflight = ask("OPTIONS", path).await;
        assert_eq!((preflight.status().as_u16(), path), (200, path));
        assert_eq!(preflight.headers()["access-control-allow-methods"], "POST,PATCH,DELETE,OPTIONS");
    }
    for (method, path, allowed) in [
        ("OPTIONS", "/whip/demo", "POST,GET,HEAD,OPTIONS"),
        ("OPTIONS", "/whip/demo/x", "DELETE,GET,HEAD,OPTIONS"),
        ("OPTIONS", "/whep/demo/x", "POST,DELETE,GET,HEAD,OPTIONS"),
        ("PUT", "/whep/demo", "POST,GET,HEAD,OPTIONS"),
        ("PATCH", "/whip/demo/x/", "DELETE,GET,HEAD,OPTIONS"),
        ("POST", "/healthz", "GET,HEAD"),
    ] {
        assert_eq!(ask(method, path).await.headers()["allow"], allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn who_reads_an_endpoint_or_a_session_gets_nothing_and_no_error() {
    let world = start(&config());
    let created = world.whip("/whip/demo", Some("yes"), OFFER).await;
    let session = created.url().join(created.headers()["location"].to_str().unwrap()).unwrap();
    let client = reqwest::Client::new();
    for (path, status) in [
        (session.path(), 204),
        ("/whip/demo", 204),
        ("/whip/demo/", 204),
        ("/whep/demo", 204),
        ("/whep/demo/t0", 204),
        ("/whip/demo/x", 404),
    ] {
        for method in [reqwest::Method::GET, reqwest::Method::HEAD] {
            let read = client.request(method, world.url(path)).send().await.unwrap();
            assert_eq!(read.status(), status, "{path}");
            assert_eq!(read.headers()["access-control-allow-origin"], "*", "{path}");
        }
    }
    client.delete(session.clone()).send().await.unwrap();
    assert_eq!(client.get(session).send().await.unwrap().status(), 404, "it has ended");
}

#[tokio::test]
async fn an_encoder_that_comes_back_replaces_its_dead_predecessor_but_not_one_that_lives() {
    for (token, status) in [("dead", 201), ("live", 403)] {
        let mut world = start(&config());
        assert_eq!(world.whip("/whip/demo", Some(token), OFFER).await.status(), 201);
        assert_eq!(world.whip("/whip/demo", Some(token), OFFER).await.status(), status);
        let mut told = vec![];
        while let Ok(note) = world.told.try_recv() {
            told.push(note.split(' ').next().unwrap().to_owned());
        }
        let expected = ["join", "offer", "leaveifsilent", "join", "leaveifsilent", "join", "offer"];
        assert_eq!(told, expected[..if status == 201 { 7 } else { 5 }], "{token}");
    }
}

#[tokio::test]
async fn an_encoder_whose_camera_its_dead_predecessor_holds_gets_it() {
    let mut world = start(&config());
    assert_eq!(world.whip("/whip/demo", Some("camera"), OFFER).await.status(), 201);
    assert_eq!(world.whip("/whip/demo", Some("camera"), OFFER).await.status(), 201);
    let mut told = vec![];
    while let Ok(note) = world.told.try_recv() {
        told.push(note);
    }
    // The second one leaves instead of going on without its camera, and comes again.
    let expected = ["join", "offer", "leaveifsilent", "join", "offer", "leave", "leaveifsilent", "join", "offer"];
    let said: Vec<_> = told.iter().filter_map(|note| note.split(' ').next()).collect();
    // What the dead one says last may come in between.
    let said: Vec<_> = said[..6].iter().chain(said[6..].iter().filter(|word| **word != "leave")).copied().collect();
    assert_eq!(said, expected, "{told:?}");
    assert!(told.contains(&"offer 2 0".to_owned()), "{told:?}");
}

#[tokio::test]
async fn an_encoder_whose_camera_is_refused_publishes_nothing_and_a_player_without_pictures_plays() {
    let mut world = start(&config());
    assert_eq!(world.whip("/whip/other", Some("camera"), OFFER).await.status(), 201);
    while world.told.try_recv().is_ok() {}
    let refused = world.whip("/whip/demo", Some("camera"), OFFER).await;
    assert_eq!(refused.status(), 422);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["detail"], "video is refused, so that nothing is published: One camera");
    let told = [world.told().await, world.told().await, world.told().await];
    assert!(told[0].starts_with("join") && told[1] == "offer 2 0" && told[2].starts_with("leave "), "{told:?}");
    assert_eq!(world.whip("/whep/demo", Some("camera"), &receiving()).await.status(), 201);
}

#[tokio::test]
async fn an_encoder_of_another_room_or_token_or_a_player_is_nobodys_predecessor() {
    let mut world = start(&config());
    let receiving = receiving();
    for (path, token, body) in [
        ("/whip/other", Some("yes"), OFFER),
        ("/whip/demo", Some("yes too"), OFFER),
        ("/whip/demo", None, OFFER),
        ("/whip/demo", None, OFFER),
        ("/whep/demo", Some("yes"), &receiving),
        ("/whip/demo", Some("yes"), OFFER),
        ("/whep/demo", Some("yes"), &receiving),
    ] {
        assert_eq!(world.whip(path, token, body).await.status(), 201);
    }
    while let Ok(note) = world.told.try_recv() {
        assert!(!note.starts_with("leaveifsilent"), "{note}");
    }
}
