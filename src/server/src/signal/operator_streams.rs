//! `moonring trace` and `moonring record`: what a running server tells of a room, line by line.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use anyhow::Context;
use reqwest::Response;

use super::operator::{Admin, answered, client_with, url};
use moonring_policy::tape::line::Line;
use moonring_policy::tools::told::Teller;
use moonring_wire::id::RoomId;

/// Most bytes of one line that are taken.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// Why there is no further line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// The server has none.
    Ended,
    /// Whoever reads them has enough.
    Unread,
    Interrupted,
    Late,
}

/// Shows what the policy of a room does, until the room ends or Ctrl-C.
pub(crate) async fn trace(
    admin: impl Into<Admin>,
    room: &str,
    json: bool,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let response = ask(admin.into(), room, "trace").await?;
    let mut teller = Teller::default();
    let mut show = |line: &[u8]| match serde_json::from_slice::<Line>(line) {
        Ok(told) if !json => out.write_all(teller.tell(&told).as_bytes()).and_then(|()| out.flush()),
        _ => out.write_all(line).and_then(|()| out.flush()),
    };
    lines(response, None, &mut show).await.map(|_| ())
}

/// Writes the recording of a room, until the room ends, the time is over, or Ctrl-C.
pub(crate) async fn record(
    admin: impl Into<Admin>,
    room: &str,
    time: Option<Duration>,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let response = ask(admin.into(), room, "record").await?;
    let over = lines(response, time, &mut |line| out.write_all(line).and_then(|()| out.flush())).await?;
    let reason = match over {
        Over::Ended | Over::Unread => return Ok(()),
        Over::Interrupted => "by the operator",
        Over::Late => "the time is over",
    };
    let end = serde_json::to_string(&Line::End { reason: reason.to_owned() })?;
    writeln!(out, "{end}").context("cannot write the recording")
}

async fn ask(admin: Admin, room: &str, verb: &str) -> anyhow::Result<Response> {
    let room = RoomId::parse(room).map_err(|error| anyhow::anyhow!("the room id {error}"))?;
    let sent = client_with(&admin, None)?.get(url(&admin, &format!("rooms/{room}/{verb}"))).send().await;
    answered(&admin, sent).await
}

/// Hands over whole lines as they come; empty ones only say that the server is there.
async fn lines(
    mut response: Response,
    time: Option<Duration>,
    take: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
) -> anyhow::Result<Over> {
    let mut late = std::pin::pin!(async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    });
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut rest = Vec::new();
    loop {
        let chunk = tokio::select! {
            chunk = response.chunk() => chunk.context("the server tells no more")?,
            () = &mut late => return Ok(Over::Late),
            _ = &mut interrupted => return Ok(Over::Interrupted),
        };
        let Some(chunk) = chunk else { return Ok(Over::Ended) };
        rest.extend_from_slice(&chunk);
        anyhow::ensure!(rest.len() <= MAX_LINE, "the server sends a line of more than {MAX_LINE} bytes");
        let Some(last) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let left = rest.split_off(last + 1);
        for line in rest.split_inclusive(|byte| *byte == b'\n').filter(|line| line.len() > 1) {
            match take(line) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Over::Unread),
                written => written.context("cannot write what the server tells")?,
            }
        }
        rest = left;
    }
}
