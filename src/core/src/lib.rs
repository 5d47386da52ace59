//! Who hears whom: rooms, clients, tracks, the edges between them, and the [`shard`] that owns them. Sans-I/O: time,
//! randomness and buffers come in as arguments, datagrams go out into a
//! [`SendBatch`](moonring_wire::packet::SendBatch).
//!
//! A packet's way, downwards only: [`shard::Shard::handle_datagram`] finds the client, decrypts and finds the track;
//! [`shard::Shard::forward`] encrypts it for everybody who receives it ([`room::fanout`]).
#![forbid(unsafe_code)]

pub mod bandwidth;
pub mod command;
pub mod report;
pub mod room;
pub mod shard;
