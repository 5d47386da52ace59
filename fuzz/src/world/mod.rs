//! The targets that need moonring-core: what a room and a shard make of bytes that could be read.

mod crowd;
mod estimator;
mod homes;
mod links;
mod messages;
mod moved;
mod pictures;
mod places;
mod predecessor;
mod records;
mod shard;

use super::target::{Parts, Target, joined};

/// The targets.
pub const TARGETS: &[Target] = &[
    Target { name: "pictures", run: pictures::pictures, seeds: pictures::pictures_seeds },
    Target { name: "offers", run: messages::offers, seeds: messages::offers_seeds },
    Target { name: "messages", run: messages::messages, seeds: messages::messages_seeds },
    Target { name: "shard", run: shard::shard, seeds: shard::shard_seeds },
    Target { name: "crowd", run: crowd::crowd, seeds: crowd::crowd_seeds },
    Target { name: "moved", run: moved::moved, seeds: moved::moved_seeds },
    Target { name: "homes", run: homes::homes, seeds: homes::homes_seeds },
    Target { name: "predecessor", run: predecessor::predecessor, seeds: predecessor::predecessor_seeds },
    Target { name: "places", run: places::places, seeds: places::places_seeds },
    Target { name: "links", run: links::links, seeds: links::links_seeds },
    Target { name: "records", run: records::records, seeds: records::records_seeds },
    Target { name: "estimator", run: estimator::estimator, seeds: estimator::estimator_seeds },
];

/// Said when a panic was contained.
const PANICS: &str = "a panic was contained, which ends a client or a room";
/// Everybody may do everything, and what comes as a message goes back through the script.
const POLICY: &str = "function on_client_connect() return true end
function on_publish_request() return true end
function on_message(client, message) client:send(message) end";
