//! Orders at the server's admin pages that move clients between its shards and nodes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use moonring_wire::causes::causes;
use moonring_wire::id::{ClientId, RoomId};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::signalling::Context;

/// Somebody is asked for again when nobody is there.
const NOBODY: Duration = Duration::from_millis(100);
/// Words of a server that refuses a move of somebody who has just come, or is on the way.
const PASSING: [&str; 3] = ["moving already", "has just come", "is not up"];

/// Why nobody moves at a server of one shard.
const NOWHERE: &str =
    "there is nowhere to move to: the server has one shard. Start it with --shards 2 or more, or load a cluster";

/// Who moves, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Moves {
    /// The admin pages, `http://host:port`, of one node or of several.
    pub admin: Vec<String>,
    /// Moves in a second.
    pub per_s: f64,
    /// Seeds the choice.
    pub seed: u64,
}

/// Where a client can go.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Shard(u16),
    Node(String, u16),
}

/// Moves somebody somewhere, again and again, until the run stops.
pub(crate) async fn run(context: Arc<Context>, moves: Moves) {
    let mut stop = context.stop.clone();
    let places = match places(&context, &moves).await {
        Ok(places) if places.len() > 1 => Ok(places),
        Ok(_) => Err(NOWHERE.to_owned()),
        Err(error) => Err(causes(error.as_ref())),
    };
    let places = match places {
        Ok(places) => places,
        Err(why) => {
            let _ = context.hopeless.set(why);
            return;
        }
    };
    tokio::select! {
        outcome = wander(&context, &moves, &places) => if let Err(error) = outcome {
            let _ = context.failures.send(format!("moves: {}", causes(error.as_ref())));
        },
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn wander(context: &Context, moves: &Moves, places: &[Place]) -> anyhow::Result<()> {
    let mut rng = SmallRng::seed_from_u64(moves.seed);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / moves.per_s));
    loop {
        ticks.tick().await;
        let members = context.members();
        let Some((room, client)) = members.choose(&mut rng) else {
            tokio::time::sleep(NOBODY).await;
            continue;
        };
        let place = &places[rng.random_range(0..places.len())];
        if let Some(words) = order(context, moves, (room, client), place).await?
            && !PASSING.iter().any(|passing| words.contains(passing))
            && !words.contains("already")
            && context.members().contains(&(room.clone(), client.clone()))
        {
            let _ = context.failures.send(format!("a move is refused: {words}"));
        }
    }
}

/// Orders one move, at the first node that has the room; why it is refused.
async fn order(
    context: &Context,
    moves: &Moves,
    (room, client): (&RoomId, &ClientId),
    place: &Place,
) -> anyhow::Result<Option<String>> {
    let body = match place {
        Place::Shard(shard) => json!({ "client": client, "shard": shard }),
        Place::Node(node, shard) => json!({ "client": client, "node": node, "shard": shard }),
    };
    let mut why = "no node has the room".to_owned();
    for admin in &moves.admin {
        let sent = context.http.post(format!("{admin}/rooms/{room}/move")).json(&body).send().await;
        let answer = sent.with_context(|| format!("no admin pages at {admin}"))?;
        if answer.status().is_success() {
            return Ok(None);
        }
        if answer.status() != reqwest::StatusCode::NOT_FOUND {
            why = answer.text().await?.trim().to_owned();
        }
    }
    Ok(Some(why))
}

/// All shards of all nodes.
async fn places(context: &Context, moves: &Moves) -> anyhow::Result<Vec<Place>> {
    let admin = moves.admin.first().context("moves need the admin pages: --admin")?;
    let get = async |page: &str| -> anyhow::Result<String> {
        let sent = context.http.get(format!("{admin}/{page}")).send().await;
        Ok(sent.with_context(|| format!("no admin pages at {admin}"))?.error_for_status()?.text().await?)
    };
    let nodes: Vec<Value> = serde_json::from_str(&get("nodes").await?)?;
    match nodes.is_empty() {
        true => Ok(of_one(&get("metrics").await?)),
        false => Ok(nodes.iter().flat_map(of_node).collect()),
    }
}

fn of_node(node: &Value) -> Vec<Place> {
    let (name, shards) = (node["node"].as_str().unwrap_or_default(), node["shards"].as_array().map_or(0, Vec::len));
    (0..shards).map(|shard| Place::Node(name.to_owned(), shard as u16)).collect()
}

/// The shards of a server that is alone, by its metrics.
fn of_one(metrics: &str) -> Vec<Place> {
    let shards = metrics.lines().filter(|line| line.starts_with("moonring_shard_clients{")).count();
    (0..shards).map(|shard| Place::Shard(shard as u16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_the_shards_of_all_nodes_or_of_the_only_one() {
        let node = json!({ "node": "n1", "shards": [{}, {}] });
        assert_eq!(of_node(&node), [Place::Node("n1".into(), 0), Place::Node("n1".into(), 1)]);
        let metrics = "# TYPE moonring_shard_clients gauge\n\
            moonring_shard_clients{shard=\"0\"} 1\nmoonring_shard_clients{shard=\"1\"} 0\nmoonring_rooms 1\n";
        assert_eq!(of_one(metrics), [Place::Shard(0), Place::Shard(1)]);
    }
}
