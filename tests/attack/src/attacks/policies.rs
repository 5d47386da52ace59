//! Members and strangers against their room's script, in the room of the well-behaved call: what it does not expect, and
//! what would not fit into its memory. Each row says whether the script goes on, what the attacker was told, and what a
//! member beside it has noticed.

use std::time::{Duration, Instant};

use anyhow::bail;
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{Attack, Outcome, attack};
use crate::ground::{Ground, SECRET};
use crate::insider::{Insider, Socket, receive, websocket};

/// The room of the well-behaved call.
const ROOM: &str = "well-behaved";
/// When nothing comes for so long, everything has come.
const QUIET: Duration = Duration::from_millis(400);
/// The slowest answer of a script that goes on.
const PROMPT: Duration = Duration::from_secs(1);

pub(super) fn all() -> Vec<Attack> {
    vec![
        attack("script: ten messages of 65 kB, nested 30 deep", |g| Box::pin(heavy_messages(g))),
        attack("script: 50 messages of a type that it does not expect", |g| Box::pin(unexpected(g))),
        attack("script: two members with 15 kB of nested metadata", |g| Box::pin(heavy_members(g))),
        attack("script: 15 kB of nested metadata without a token", |g| Box::pin(heavy_strangers(g))),
    ]
}

/// A member beside the attacker.
struct Witness {
    member: Insider,
    asked: u32,
}

impl Witness {
    async fn join(n: u8) -> anyhow::Result<Self> {
        Ok(Self { member: Insider::join(n, ROOM).await?, asked: 0 })
    }

    /// Asks the script who is there: it reads everybody's metadata. In words, how the script and the member have taken
    /// the attack, and whether that is as it has to be.
    async fn says(&mut self, ground: &Ground) -> anyhow::Result<(String, bool)> {
        self.asked += 1;
        let began = Instant::now();
        let message = json!({ "type": "message", "value": { "who": self.asked } });
        self.member.socket.send(Message::text(message.to_string())).await?;
        let mut noticed = Vec::new();
        loop {
            let Some(heard) = receive(&mut self.member.socket).await else {
                bail!("the member is not answered any more; it has noticed {noticed:?}");
            };
            match heard["type"].as_str().unwrap_or_default() {
                "message" if heard["value"]["who"] == self.asked => break,
                // Who comes and goes, and what the others say.
                "message" | "client_joined" | "client_left" | "active_speakers" | "track_published"
                | "track_unpublished" | "track_changed" => {}
                "error" => noticed.push(heard["message"].to_string()),
                other => noticed.push(other.to_owned()),
            }
        }
        let took = began.elapsed();
        let rooms = ground.get(&format!("/rooms?named={ROOM}")).await?;
        let runs = rooms.contains("\"suspended\":false") && !rooms.contains("\"suspended\":true");
        let script = if runs { "goes on" } else { "IS SUSPENDED" };
        let members = if noticed.is_empty() { "nothing".to_owned() } else { noticed.join(", ") };
        let words = format!("script {script}, answers in {} ms; members notice {members}", took.as_millis());
        Ok((words, runs && noticed.is_empty() && took < PROMPT))
    }
}

/// What a client was told until nothing more came.
#[derive(Default)]
struct Told {
    errors: Vec<String>,
    /// The words with which it was turned away or disconnected.
    ended: Option<String>,
    joined: bool,
}

async fn told(socket: &mut Socket) -> Told {
    let mut told = Told::default();
    while let Ok(Some(message)) = timeout(QUIET, receive(socket)).await {
        let words = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        match message["type"].as_str() {
            Some("error") => told.errors.push(words("message")),
            Some("kicked" | "rejected") => told.ended = Some(words("reason")),
            Some("joined") => told.joined = true,
            _ => {}
        }
    }
    told
}

/// Values in values.
fn nested(depth: usize, inmost: Value) -> Value {
    (0..depth).fold(inmost, |value, _| json!({ "a": value }))
}

async fn say(insider: &mut Insider, value: &Value) -> bool {
    let message = json!({ "type": "message", "value": value }).to_string();
    insider.socket.send(Message::text(message)).await.is_ok()
}

/// Somebody asks to join with this metadata.
async fn ask_to_join(n: u8, token: &str, metadata: &Value) -> anyhow::Result<Socket> {
    let mut socket = websocket(n).await?;
    let join = json!({ "type": "join", "room": ROOM, "token": token, "metadata": metadata });
    socket.send(Message::text(join.to_string())).await?;
    Ok(socket)
}

async fn heavy_messages(ground: &Ground) -> anyhow::Result<Outcome> {
    let (mut witness, mut mallory) = (Witness::join(150).await?, Insider::join(151, ROOM).await?);
    // As text 65 kB; as Lua's tables many times as much.
    let item = (0..28).fold(json!(1), |value, _| json!([value]));
    let value = json!({ "list": vec![item; 1_110] });
    for _ in 0..10 {
        if !say(&mut mallory, &value).await {
            bail!("the attacker is disconnected without a word");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let Told { errors, ended, .. } = told(&mut mallory.socket).await;
    let (words, held) = witness.says(ground).await?;
    let first = errors.first().cloned().unwrap_or_default();
    let attacker = match &ended {
        Some(reason) => format!("disconnected: {reason}"),
        None => format!("refused {} times: {first}", errors.len()),
    };
    let bytes = value.to_string().len();
    let is_told = errors.len() == 10 || ended.is_some();
    Ok(Outcome::new(format!("10 messages of {bytes} bytes"), format!("{words}; attacker {attacker}"), held && is_told))
}

async fn unexpected(ground: &Ground) -> anyhow::Result<Outcome> {
    let (mut witness, mut mallory) = (Witness::join(152).await?, Insider::join(153, ROOM).await?);
    let mut sent = 0;
    while sent < 50 && say(&mut mallory, &json!({ "shout": sent })).await {
        sent += 1;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let ended = told(&mut mallory.socket).await.ended;
    let (words, held) = witness.says(ground).await?;
    let attacker = ended.as_ref().map_or("NOT disconnected".to_owned(), |reason| format!("disconnected: {reason}"));
    Ok(Outcome::new(
        format!("{sent} numbers for texts"),
        format!("{words}; attacker {attacker}"),
        held && ended.is_some(),
    ))
}

/// Metadata of 15 kB: deeper than may be, and as deep and as many as may be.
fn heavy_metadata() -> [Value; 2] {
    let many: Vec<_> = (0..480).map(|n| format!("value {n} of many, {}", "x".repeat(12))).collect();
    [nested(30, json!("x".repeat(15_000))), nested(6, json!({ "list": many }))]
}

async fn heavy_members(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut witness = Witness::join(154).await?;
    let (mut members, mut refused, mut joined) = (Vec::new(), Vec::new(), 0);
    for (n, metadata) in (155..).zip(heavy_metadata().iter().cycle().take(4)) {
        let mut socket = ask_to_join(n, SECRET, metadata).await?;
        let told = told(&mut socket).await;
        joined += usize::from(told.joined);
        refused.extend(told.ended);
        members.push(socket);
    }
    let (words, held) = witness.says(ground).await?;
    let first = refused.first().cloned().unwrap_or_default();
    let attacker = format!("{} too deep: rejected ({first}), {joined} that fit: joined", refused.len());
    Ok(Outcome::new(
        "4 joins with metadata of 15 kB",
        format!("{words}; {attacker}"),
        held && refused.len() == 2 && joined == 2,
    ))
}

async fn heavy_strangers(ground: &Ground) -> anyhow::Result<Outcome> {
    let mut witness = Witness::join(160).await?;
    let (mut reasons, mut rejected, mut waited) = (Vec::new(), 0, 0);
    for (n, metadata) in (161..211).zip(heavy_metadata().iter().cycle()) {
        let Ok(mut socket) = ask_to_join(n % 30 + 161, "no token", metadata).await else {
            waited += 1;
            continue;
        };
        let answer = receive(&mut socket).await.unwrap_or_default();
        rejected += u32::from(answer["type"] == "rejected");
        let reason = answer["reason"].as_str().unwrap_or_default().to_owned();
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let (words, held) = witness.says(ground).await?;
    let attacker = format!("{rejected} rejected ({}), {waited} by 429", reasons.join(" / "));
    let is_told = rejected + waited == 50 && rejected > 0;
    Ok(Outcome::new("50 joins with metadata of 15 kB", format!("{words}; {attacker}"), held && is_told))
}
