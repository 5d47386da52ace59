//! Where the events of a shard go.

use std::time::Duration;

use tokio::time::timeout;

use super::app::App;
use super::between_shards::BetweenShards;
use crate::cluster::Host;
use crate::event_queue::EventReceiver;
use moonring_core::command::Event;

/// Pause before messages are offered again to a shard whose queue is full.
const RETRY: Duration = Duration::from_millis(2);

/// Hands a shard's events to whom they are for, until the shard ends.
pub(super) async fn dispatch(app: App, shard: usize, mut events: EventReceiver) {
    let mut others = BetweenShards::new(shard);
    loop {
        let next = match others.is_waiting() {
            true => timeout(RETRY, events.recv()).await,
            false => Ok(events.recv().await),
        };
        others.offer(&app.directory);
        let Ok(next) = next else { continue };
        let Some(event) = next else { break };
        match event {
            Event::ToPlace { to, mut messages } if app.directory.shard(to.0.into()).is_none() => {
                app.with_stays(to, &mut messages);
                let is_said = app.cluster.as_ref().is_none_or(|cluster| cluster.place_said(shard, to, messages));
                if !is_said {
                    tracing::error!(shard, to = to.0, "a shard of another node takes no messages: they are lost");
                    app.place_lost(shard, to);
                }
            }
            Event::ToPlace { to, messages } => others.send(&app.directory, to, messages),
            Event::ClaimHome(room) => app.claim_home(shard, room),
            Event::HomeMoved { room, home } => app.directory.home_moved(&room, home),
            Event::Moved { client, to } => others.client_moved(&app.directory, client, to),
            Event::PolicyRequest { id, room, request } => {
                if let Some(handle) = app.directory.shard(shard) {
                    app.services.serve(handle.clone(), id, room, request);
                }
            }
            Event::Checkpoint { room, order } => {
                if let Some(handle) = app.directory.shard(shard) {
                    app.services.checkpoint(handle.clone(), room, order);
                }
            }
            Event::Webhook { room, event, data } => app.services.tell(room, event, data),
            Event::Called { id, answer } => app.calls.answer(id, answer),
            Event::Report { id, rooms } => app.reports.answer(id, rooms),
            Event::Counters(report) => {
                if let (Some(scripts), Some(counts)) = (&app.scripts, report.canary) {
                    scripts.tell_canary(shard, counts);
                }
                if let Some(cluster) = &app.cluster {
                    cluster.links_told(shard, &report.links);
                }
                app.directory.note_load(shard, &report);
                app.reports.counters(shard, *report);
            }
            Event::Links(links) => app.cluster.iter().for_each(|cluster| cluster.links_told(shard, &links)),
            Event::RoomClosed(room) => {
                app.services.room_closed(&room);
                app.directory.route(shard, Event::RoomClosed(room.clone()));
                if let Some(cluster) = &app.cluster {
                    cluster.room_ended(&room);
                }
            }
            event => app.directory.route(shard, event),
        }
    }
    tracing::info!(shard, "has ended");
}
