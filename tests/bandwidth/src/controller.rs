//! The estimators that are compared.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use goog_cc::network_control::*;
use goog_cc::transport::*;
use goog_cc::units::*;
use goog_cc::*;
use moonring_core::bandwidth::sharing::Flows;
use moonring_core::bandwidth::{Estimator, Pacer, ProbeId, Settings};

use crate::receiver::Told;

/// A train of packets.
#[derive(Clone, Copy, Debug)]
pub struct Train {
    /// Names it.
    pub id: u32,
    /// Rate to send at.
    pub bps: f64,
    /// It ends when both of these have been sent.
    pub bytes: usize,
    /// See `bytes`.
    pub packets: usize,
}

/// An estimator with its pacer.
pub trait Controller {
    /// A packet goes out.
    fn on_sent(&mut self, now: i64, sequence: u64, bytes: usize, train: Option<Train>);
    /// Feedback came.
    fn on_feedback(&mut self, now: i64, told: &Told);
    /// Time passes.
    fn tick(&mut self, now: i64, wanted: f64, queued: usize);
    /// The next train to send.
    fn train(&mut self, now: i64) -> Option<Train>;
    /// Whether a packet of `bytes` may go out.
    fn allow(&mut self, now: i64, bytes: usize) -> bool;
    /// The target rate.
    fn target(&self) -> f64;
    /// What the layers may take.
    fn budget(&self) -> f64;
    /// It is the flow `key` of those to one address, and of no use with less than `least`: it may be told of the others.
    fn meet(&mut self, _now: i64, _key: usize, _least: f64, _flows: &mut Flows<usize>) {}
}

/// The part of the stable rate that layers may take.
const SENT_OF_STABLE: f64 = 0.95;
/// Where all flows of a home go.
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Ours.
pub struct Ours {
    start: Instant,
    estimator: Estimator,
    pacer: Pacer,
    wanted: f64,
}

impl Ours {
    /// Starts at `now`, which is so long after `start`.
    pub fn new(start: Instant, now: i64) -> Self {
        let at = start + Duration::from_micros(now as u64);
        let settings = Settings { max_bps: 30_000_000, ..Settings::default() };
        Self { start, estimator: Estimator::new(at, settings), pacer: Pacer::new(at), wanted: 0.0 }
    }

    fn at(&self, now: i64) -> Instant {
        self.start + Duration::from_micros(now as u64)
    }
}

impl Controller for Ours {
    fn on_sent(&mut self, now: i64, sequence: u64, bytes: usize, train: Option<Train>) {
        let id = train.and_then(|train| u8::try_from(train.id).ok()?.try_into().ok()).map(ProbeId);
        let at = self.at(now);
        self.estimator.on_sent(at, sequence as u16, bytes, id);
        if id.is_some() {
            self.pacer.force(at, bytes);
        }
    }

    fn on_feedback(&mut self, now: i64, told: &Told) {
        let result = self.estimator.on_feedback(self.at(now), &told.packet);
        assert!(result.is_ok(), "{result:?}");
    }

    fn tick(&mut self, now: i64, wanted: f64, _queued: usize) {
        let at = self.at(now);
        if wanted != self.wanted {
            self.wanted = wanted;
            self.estimator.set_wanted(at, wanted as u64);
        }
        self.pacer.set_target(at, self.estimator.target_bps());
    }

    fn train(&mut self, now: i64) -> Option<Train> {
        let probe = self.estimator.poll_probe(self.at(now))?;
        let (bytes, packets) = (probe.min_bytes as usize, usize::from(probe.min_packets));
        Some(Train { id: probe.id.0.get().into(), bps: probe.bps as f64, bytes, packets })
    }

    fn allow(&mut self, now: i64, bytes: usize) -> bool {
        self.pacer.allow(self.at(now), bytes)
    }

    fn target(&self) -> f64 {
        self.estimator.target_bps() as f64
    }

    fn budget(&self) -> f64 {
        self.estimator.stable_bps() as f64 * SENT_OF_STABLE
    }

    fn meet(&mut self, now: i64, key: usize, least: f64, flows: &mut Flows<usize>) {
        self.estimator.set_least((least / SENT_OF_STABLE) as u64);
        let share = flows.hear(self.at(now), HOME, key, self.estimator.view());
        self.estimator.set_share(share);
    }
}

/// A packet that goog_cc wants to be reminded of.
struct Remembered {
    bytes: usize,
    at: i64,
    train: Option<Train>,
    in_flight: bool,
    received: bool,
}

/// libwebrtc's controller.
pub struct Google {
    controller: GoogCcNetworkController,
    target: f64,
    pace: f64,
    budget: f64,
    refilled_at: i64,
    trains: VecDeque<Train>,
    processed_at: i64,
    wanted: f64,
    sent: VecDeque<Remembered>,
    first: u64,
    in_flight: usize,
}

fn stamp(now: i64) -> Timestamp {
    Timestamp::from_micros(now + 1_000_000_000)
}

impl Google {
    /// Starts at `now`.
    pub fn new(now: i64) -> Self {
        let config = NetworkControllerConfig {
            constraints: TargetRateConstraints {
                at_time: stamp(now),
                min_data_rate: Some(DataRate::from_bits_per_sec(30_000)),
                max_data_rate: Some(DataRate::from_bits_per_sec(30_000_000)),
                starting_rate: Some(DataRate::from_bits_per_sec(300_000)),
            },
            stream_based_config: Self::streams(now, 25e6),
            ..Default::default()
        };
        let mut google = Self {
            controller: GoogCcNetworkController::new(config, GoogCcConfig { feedback_only: true }),
            target: 300e3,
            pace: 750e3,
            budget: 0.0,
            refilled_at: now,
            trains: VecDeque::new(),
            processed_at: now - 1_000_000,
            wanted: 0.0,
            sent: VecDeque::new(),
            first: 0,
            in_flight: 0,
        };
        let available = NetworkAvailability { at_time: stamp(now), network_available: true };
        let update = google.controller.on_network_availability(available);
        google.take(update);
        google
    }

    fn streams(now: i64, wanted: f64) -> StreamsConfig {
        StreamsConfig {
            at_time: stamp(now),
            requests_alr_probing: Some(true),
            max_total_allocated_bitrate: Some(DataRate::from_bits_per_sec(wanted as i64)),
            ..Default::default()
        }
    }

    fn take(&mut self, update: NetworkControlUpdate) {
        if let Some(target) = update.target_rate {
            self.target = target.target_rate.bps() as f64;
        }
        if let Some(pacer) = update.pacer_config {
            self.pace = pacer.data_rate().bps() as f64;
        }
        for probe in update.probe_cluster_configs {
            let bps = probe.target_data_rate.bps() as f64;
            let bytes = (bps / 8.0 * probe.target_duration.us() as f64 / 1e6) as usize;
            let packets = probe.target_probe_count as usize;
            self.trains.push_back(Train { id: probe.id as u32, bps, bytes, packets });
        }
    }

    fn packet(at: i64, sequence: u64, bytes: usize, train: Option<Train>) -> SentPacket {
        let pacing_info = train.map_or_else(PacedPacketInfo::default, |train| {
            let mut info = PacedPacketInfo::new(train.id as i32, train.packets as i64, train.bytes as i64);
            info.send_bitrate = DataRate::from_bits_per_sec(train.bps as i64);
            info
        });
        SentPacket {
            send_time: stamp(at),
            size: DataSize::from_bytes(bytes as i64),
            pacing_info,
            sequence_number: sequence as i64,
            ..Default::default()
        }
    }
}

impl Controller for Google {
    fn on_sent(&mut self, now: i64, sequence: u64, bytes: usize, train: Option<Train>) {
        self.in_flight += bytes;
        self.sent.push_back(Remembered { bytes, at: now, train, in_flight: true, received: false });
        let mut packet = Self::packet(now, sequence, bytes, train);
        packet.data_in_flight = DataSize::from_bytes(self.in_flight as i64);
        let update = self.controller.on_sent_packet(packet);
        self.take(update);
    }

    fn on_feedback(&mut self, now: i64, told: &Told) {
        let mut results = Vec::new();
        for (sequence, at) in &told.statuses {
            let Some(place) = sequence.checked_sub(self.first) else { continue };
            let Some(sent) = self.sent.get_mut(place as usize).filter(|sent| !sent.received) else { continue };
            if sent.in_flight {
                (sent.in_flight, self.in_flight) = (false, self.in_flight - sent.bytes);
            }
            sent.received = at.is_some();
            results.push(PacketResult {
                sent_packet: Self::packet(sent.at, *sequence, sent.bytes, sent.train),
                receive_time: at.map_or(Timestamp::plus_infinity(), stamp),
                ..Default::default()
            });
        }
        while self.sent.len() > 20_000 {
            let old = self.sent.pop_front();
            self.first += 1;
            self.in_flight -= old.filter(|old| old.in_flight).map_or(0, |old| old.bytes);
        }
        // It panics on a feedback in which nothing arrived.
        if results.iter().all(|result| result.receive_time == Timestamp::plus_infinity()) {
            return;
        }
        let update = self.controller.on_transport_packets_feedback(TransportPacketsFeedback {
            feedback_time: stamp(now),
            data_in_flight: DataSize::from_bytes(self.in_flight as i64),
            packet_feedbacks: results,
            sendless_arrival_times: vec![],
        });
        self.take(update);
    }

    fn tick(&mut self, now: i64, wanted: f64, queued: usize) {
        if wanted != self.wanted {
            self.wanted = wanted;
            let update = self.controller.on_streams_config(Self::streams(now, wanted));
            self.take(update);
        }
        if now - self.processed_at >= 25_000 {
            self.processed_at = now;
            let interval =
                ProcessInterval { at_time: stamp(now), pacer_queue: Some(DataSize::from_bytes(queued as i64)) };
            let update = self.controller.on_process_interval(interval);
            self.take(update);
        }
        let added = self.pace / 8e6 * (now - self.refilled_at) as f64;
        self.refilled_at = now;
        self.budget = (self.budget + added).min(self.pace / 8.0 * 0.005 + 1200.0);
    }

    fn train(&mut self, _now: i64) -> Option<Train> {
        self.trains.pop_front()
    }

    fn allow(&mut self, _now: i64, bytes: usize) -> bool {
        let allowed = self.budget > 0.0;
        self.budget -= if allowed { bytes as f64 } else { 0.0 };
        allowed
    }

    fn target(&self) -> f64 {
        self.target
    }

    fn budget(&self) -> f64 {
        self.target * 0.9
    }
}
