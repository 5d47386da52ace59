//! A shard: the core-pinned owner of rooms, its event loop and its socket.

pub mod event_loop;
pub mod probe;
pub mod udp;
