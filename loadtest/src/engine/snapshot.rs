//! What went through an engine, at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::peer::{Peer, PeerCounts, StreamCounts, TrackCounts};

/// Longest time told apart.
const LONGEST_US: u64 = 60_000_000;
/// Different reasons for failures that are kept.
const MAX_REASONS: usize = 16;

/// Times, in microseconds.
#[derive(Clone, Debug)]
pub struct Histograms {
    /// From sending to arrival, since the last snapshot.
    pub latency: Histogram<u64>,
    /// From the begin of a join to the end of the DTLS handshake, since the start.
    pub join: Histogram<u64>,
    /// From the begin of a join to the first key frame, since the start.
    pub first_picture: Histogram<u64>,
    /// From being told to resume to going on, since the start.
    pub resume: Histogram<u64>,
    /// From being told to restart ICE to media at another address of the server's, since the start.
    pub moves: Histogram<u64>,
}

/// Counts since the engine's start; the histogram of latencies since the last snapshot.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Peers with media transport.
    pub connected: u64,
    /// Streams that are received.
    pub streams: u64,
    /// Packets received, bytes, drops.
    pub received: PeerCounts,
    /// Loss and order of what was received.
    pub order: StreamCounts,
    /// What was published.
    pub sent: TrackCounts,
    /// Joins that came to a media transport.
    pub joins: u64,
    /// Clients that went on over another connection, as a process of the server has replaced another.
    pub resumed: u64,
    /// The longest time without a packet of a stream, between two of it, since the last snapshot; in microseconds.
    pub longest_gap_us: u64,
    /// Ends that nobody here wanted, and why.
    pub failures: BTreeMap<String, u64>,
    /// Datagrams that this machine did not take.
    pub send_refused: u64,
    /// Datagrams that came and found this program's receive buffers full: its own loss, not the server's.
    pub overrun: u64,
    /// Times.
    pub histograms: Histograms,
}

impl Default for Histograms {
    fn default() -> Self {
        let new = || Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order");
        Self { latency: new(), join: new(), first_picture: new(), resume: new(), moves: new() }
    }
}

impl Histograms {
    pub(super) fn record(&mut self, latency_ns: u64) {
        self.latency.saturating_record((latency_ns / 1_000).max(1));
    }
}

impl Snapshot {
    /// Adds another engine's.
    pub fn merge(&mut self, other: &Self) {
        self.connected += other.connected;
        self.streams += other.streams;
        add_received(&mut self.received, other.received);
        self.order += other.order;
        self.sent = [self.sent, other.sent].into_iter().sum();
        self.joins += other.joins;
        self.resumed += other.resumed;
        self.longest_gap_us = self.longest_gap_us.max(other.longest_gap_us);
        self.send_refused += other.send_refused;
        self.overrun += other.overrun;
        for (reason, count) in &other.failures {
            *self.failures.entry(reason.clone()).or_default() += count;
        }
        for (ours, theirs) in [
            (&mut self.histograms.latency, &other.histograms.latency),
            (&mut self.histograms.join, &other.histograms.join),
            (&mut self.histograms.first_picture, &other.histograms.first_picture),
            (&mut self.histograms.resume, &other.histograms.resume),
            (&mut self.histograms.moves, &other.histograms.moves),
        ] {
            ours.add(theirs).expect("all have the same bounds");
        }
    }

    /// Counts a failure.
    pub fn fail(&mut self, reason: String) {
        if self.failures.len() < MAX_REASONS || self.failures.contains_key(&reason) {
            *self.failures.entry(reason).or_default() += 1;
        }
    }

    pub(super) fn joined(&mut self, time: Duration) {
        self.joins += 1;
        self.histograms.join.saturating_record(time.as_micros() as u64);
    }

    pub(super) fn resumed(&mut self, time: Duration) {
        self.resumed += 1;
        self.histograms.resume.saturating_record(time.as_micros() as u64);
    }

    pub(super) fn moved(&mut self, time: Duration) {
        self.histograms.moves.saturating_record(time.as_micros() as u64);
    }

    pub(super) fn first_picture(&mut self, time: Duration) {
        self.histograms.first_picture.saturating_record(time.as_micros() as u64);
    }

    /// Takes the longest time without a packet of a stream that a peer receives.
    pub(super) fn take_gap(&mut self, peer: &mut Peer) {
        let gap = peer.take_longest_gap().as_micros() as u64;
        self.longest_gap_us = self.longest_gap_us.max(gap);
    }

    pub(super) fn begin_interval(&mut self) {
        self.longest_gap_us = 0;
        self.histograms.latency.reset();
    }

    /// Adds what went through a peer.
    pub(super) fn add(&mut self, peer: &Peer) {
        add_received(&mut self.received, peer.counts());
        peer.streams().iter().for_each(|stream| self.order += stream.counts());
        self.sent = [self.sent, peer.sent()].into_iter().sum();
    }
}

fn add_received(to: &mut PeerCounts, from: PeerCounts) {
    to.packets_in += from.packets_in;
    to.bytes_in += from.bytes_in;
    to.dropped += from.dropped;
    to.plis_sent += from.plis_sent;
    to.nacks_sent += from.nacks_sent;
}
