//! Rooms here whose home's node is gone: this node becomes the home, or learns which one does. Who is in them stays.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::app::App;
use crate::cluster::Place;
use moonring_wire::id::{PlaceId, RoomId};

/// How long another home is looked for; then everybody joins anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks for the home of a room whose former one is gone: whoever is first to claim it is the home.
pub(super) async fn find_home(app: App, room: RoomId, former: PlaceId) {
    let Some(cluster) = app.cluster.clone() else { return };
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && app.directory.far_home(&room) == Some(former) {
        match cluster.place(&room).await {
            // Held until the room is here.
            Place::Here(_hold) => return app.directory.becomes_home(&room, former),
            Place::There(url) => {
                if let Some(home) = cluster.wing_at(&room, &url).await {
                    return app.directory.has_home(&room, former, home);
                }
            }
            Place::TryAgain(_) => {}
        }
        sleep(PAUSE).await;
    }
    if app.directory.far_home(&room) == Some(former) {
        app.join_anew(&room);
    }
}
