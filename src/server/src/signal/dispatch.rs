//! Where the events of a shard go.

use super::app::App;
use crate::event_queue::EventReceiver;
use moonring_core::command::Event;

/// Hands a shard's events to whom they are for, until the shard ends.
pub(super) async fn dispatch(app: App, shard: usize, mut events: EventReceiver) {
    while let Some(event) = events.recv().await {
        match event {
            Event::PolicyRequest { id, room, request } => {
                if let Some(handle) = app.directory.shard(shard) {
                    app.services.serve(handle.clone(), id, room, request);
                }
            }
            Event::Webhook { room, event, data } => app.services.tell(room, event, data),
            Event::Called { id, answer } => app.calls.answer(id, answer),
            Event::Report { id, rooms } => app.reports.answer(id, rooms),
            Event::Counters(report) => {
                if let (Some(scripts), Some(counts)) = (&app.scripts, report.canary) {
                    scripts.tell_canary(shard, counts);
                }
                app.reports.counters(shard, *report);
            }
            event => app.directory.route(shard, event),
        }
    }
    tracing::info!(shard, "has ended");
}
