//! Lines of the log about what befalls single clients: bounded, as whoever has many of them could fill it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use moonring_wire::id::RoomId;

/// For so long a line counts.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines about one room meanwhile: one room that refuses everybody leaves the others theirs.
const OF_ROOM: u32 = 10;
/// Lines in all meanwhile.
const IN_ALL: u32 = 200;

/// The lines of one kind.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    /// How many there were, of those rooms that had one: no more than [`IN_ALL`].
    of_rooms: HashMap<RoomId, u32>,
    said: u32,
    /// What would have been said since the last line.
    unsaid: u64,
}

impl Lines {
    /// Whether there is a line for one more of this room; with how many had none before it.
    pub(super) fn due(&self, now: Instant, room: &RoomId) -> Option<u64> {
        // Counts are whole after each line, so that a panic elsewhere does no harm.
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            *window = Window { began: Some(now), unsaid: window.unsaid, ..Window::default() };
        }
        let of_room = window.of_rooms.get(room).copied().unwrap_or_default();
        if window.said >= IN_ALL || of_room >= OF_ROOM {
            window.unsaid += 1;
            return None;
        }
        window.said += 1;
        window.of_rooms.insert(room.clone(), of_room + 1);
        Some(std::mem::take(&mut window.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_room_or_of_many_rooms_has_so_many_lines_a_minute_and_the_next_says_how_many_there_were() {
        let (lines, t0) = (Lines::default(), Instant::now());
        let said = |seconds, rooms: &mut dyn Iterator<Item = String>| {
            let now = t0 + Duration::from_secs(seconds);
            rooms.filter_map(|room| lines.due(now, &RoomId::parse(&room).unwrap())).collect::<Vec<_>>()
        };
        let one = |room: &str, times| std::iter::repeat_n(room.to_owned(), times);
        assert_eq!(said(0, &mut one("loud", 1_000)), [0; 10]);
        assert_eq!(said(1, &mut one("other", 1)), [990]);
        assert!(said(59, &mut one("loud", 5)).is_empty());
        assert_eq!(said(60, &mut one("loud", 2)), [5, 0]);
        assert_eq!(said(61, &mut (0..1_000).map(|n| format!("room-{n}"))), [0; 198]);
        assert_eq!(lines.0.lock().unwrap().of_rooms.len(), 199);
        assert_eq!(said(120, &mut one("other", 1)), [802]);
    }
}
