//! HTTP requests and offers that are built to hurt.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Attack, Outcome, attack};
use crate::ground::{Ground, SECRET};
use crate::insider::connect;

const PATIENCE: Duration = Duration::from_secs(17);

pub(super) fn all() -> Vec<Attack> {
    let with_body = |headers: &str, body: &str| {
        format!(
            "POST /whip/bombs HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {SECRET}\r\n\
             Content-Type: application/sdp\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let offer = include_str!("../../../../src/wire/src/sdp/fixtures/ffmpeg_whip.sdp");
    let many_sections = format!("{offer}{}", offer.split_once("m=").map_or("", |(_, rest)| rest));
    let lines = format!("{offer}{}", "a=x:y\r\n".repeat(20_000));
    vec![
        one("http: 1000 headers", get(&"X-A: b\r\n".repeat(1_000)), &["431", "400", ""]),
        one("http: a header of 1 MiB", get(&format!("X-A: {}\r\n", "x".repeat(1 << 20))), &["431", "400", ""]),
        one(
            "http: a target of 64 KiB",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(65_536)),
            &["414", "431", "400", ""],
        ),
        one(
            "http: two lengths",
            "POST /whip/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".into(),
            &["400"],
        ),
        one("http: HTTP/2 without asking", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &["400", "505", ""]),
        one(
            "http: a path out of the folder",
            "GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".into(),
            &["404", "400"],
        ),
        one(
            "http: a body that never comes",
            with_body("", offer).replace("Content-Length: ", "Content-Length: 9"),
            &["408", "400", "413", ""],
        ),
        one("http: a body of 8 MiB", with_body("", &"x".repeat(8 << 20)), &["413", ""]),
        one("offers: 20000 attribute lines", with_body("", &lines), &["400", "201", "406", "413"]),
        one("offers: sections twice", with_body("", &many_sections), &["400", "201", "406"]),
        one(
            "offers: a line of 200 KiB",
            with_body("", &format!("{offer}a={}\r\n", "x".repeat(200_000))),
            &["400", "201", "406"],
        ),
        one("offers: no description", with_body("", &"v=0\r\n".repeat(1_000)), &["400"]),
        one("offers: not UTF-8", with_body("", "v=0\r\no=\u{FFFD}\u{0}"), &["400"]),
        attack("admin: another Host, as a rebound name gives it", |ground| Box::pin(other_host(ground))),
    ]
}

fn get(headers: &str) -> String {
    format!("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")
}

/// An attack of one request, sent twenty times; the answer's status has to be one of these (nothing: only closed).
fn one(name: &'static str, request: String, statuses: &'static [&'static str]) -> Attack {
    attack(name, move |_| {
        let request = request.clone();
        Box::pin(async move {
            let mut tasks = Vec::new();
            for n in 0..20 {
                let request = request.clone();
                tasks.push(tokio::spawn(async move { status(n, &request).await }));
            }
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await??);
            }
            let held = answers.iter().all(|status| statuses.contains(&status.as_str()));
            let did = if answers[0].is_empty() { "closed".to_owned() } else { format!("answered {}", answers[0]) };
            Ok(Outcome::new(format!("20 requests of {} KiB", request.len() >> 10), did, held))
        })
    })
}

/// The status of the answer; empty when the connection only ends.
async fn status(n: u8, request: &str) -> anyhow::Result<String> {
    let mut stream = connect(n).await?;
    let (mut reader, mut writer) = stream.split();
    let write = async {
        let _ = writer.write_all(request.as_bytes()).await;
    };
    let read = async {
        let mut answer = [0; 32];
        let len = reader.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..len]).split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let both = async { tokio::join!(write, read).1 };
    timeout(PATIENCE, both).await.map_err(|_| anyhow::anyhow!("neither answered nor closed"))
}

async fn other_host(_: &Ground) -> anyhow::Result<Outcome> {
    let mut statuses = Vec::new();
    for host in ["evil.example", "evil.example:8081", "127.0.0.1:8081", "localhost"] {
        let mut stream = tokio::net::TcpStream::connect("127.0.0.1:8081").await?;
        let request = format!("GET /rooms HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        statuses.push(answer.split(' ').nth(1).unwrap_or_default().to_owned());
    }
    let held = statuses == ["403", "403", "200", "200"];
    Ok(Outcome::new("4 requests for /rooms", format!("answered {}", statuses.join(", ")), held))
}
