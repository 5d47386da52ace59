//! Subscribers behind links: what holds their datagrams up, and what they then see.

use std::time::{Duration, Instant};

use super::{Engine, Views};

impl Engine {
    /// True when a client's datagram is its link's now.
    pub(super) fn hold(&mut self, index: usize, now: Instant, arrived_ns: u64, datagram: &[u8]) -> bool {
        let client = self.clients.get(index).and_then(Option::as_ref);
        let Some(viewer) = client.and_then(|client| client.viewer.as_ref()) else { return false };
        // It comes to the link when it came to the machine.
        let age = Duration::from_nanos(self.config.peer.clock.nanos(now).saturating_sub(arrived_ns));
        let came = now.checked_sub(age).unwrap_or(now);
        self.links.take(viewer.viewing.link, came, (index, arrived_ns), datagram)
    }

    /// Hands over what has passed its link.
    pub(super) fn deliver(&mut self) {
        while let Some(mut passed) = self.links.due(Instant::now()) {
            let Some(Some(client)) = self.clients.get_mut(passed.client) else { continue };
            let socket = client.socket.take();
            // What the peer tells the server of a packet of media is when it passed the link, not when this thread saw it.
            let is_media = passed.bytes.first().is_some_and(|byte| byte >> 6 == 2);
            let at = if is_media { passed.at } else { Instant::now() };
            self.hand_over(passed.client, at, passed.arrived_ns, &mut passed.bytes, socket.as_ref());
            if let Some(Some(client)) = self.clients.get_mut(passed.client) {
                client.socket = socket;
            }
        }
    }

    /// Lifts all links' limits.
    pub(super) fn lift(&mut self) {
        let now = Instant::now();
        self.links.lift(now);
        self.clients
            .iter_mut()
            .flatten()
            .filter_map(|client| client.viewer.as_mut())
            .for_each(|viewer| viewer.lift(now));
    }

    /// What subscribers behind links saw so far.
    pub(super) fn views(&self) -> Views {
        let now = Instant::now();
        let viewers = self.clients.iter().flatten().filter_map(|client| client.viewer.as_ref());
        Views {
            subscribers: viewers.map(|viewer| (viewer.viewing.link, viewer.views(now))).collect(),
            links: self.links.counts().cloned().collect(),
        }
    }
}
