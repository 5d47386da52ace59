//! A flow: a source, a pacer's queue, an estimator, the receiver of it and the feedback on its way.

use std::collections::VecDeque;

use crate::controller::{Controller, Train};
use crate::link::{Fate, Link, Path};
use crate::random::Random;
use crate::receiver::{Receiver, Told};
use crate::source::Source;

/// A flow.
pub struct Flow {
    /// Its estimator.
    pub controller: Box<dyn Controller>,
    /// Its source.
    pub source: Source,
    /// It sends from this time on.
    pub from: i64,
    /// The link behind the bottleneck that it has for itself, if there is one.
    pub own: Option<Link>,
    queue: VecDeque<usize>,
    queued: usize,
    sequence: u64,
    train: Option<Running>,
    receiver: Receiver,
    /// Packets under way: arrival, number, bytes, whether media; ordered by arrival.
    under_way: VecDeque<(i64, u64, usize, bool)>,
    feedback: VecDeque<(i64, Told)>,
    /// Bytes of media delivered.
    pub delivered: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets lost, for whatever reason.
    pub lost: u64,
    /// Bytes of padding sent.
    pub padding: u64,
    /// The queueing delay that each packet met, in microseconds, while `sampling`.
    pub delays: Vec<u32>,
}

struct Running {
    train: Train,
    since: i64,
    bytes: usize,
    packets: usize,
}

impl Flow {
    /// A flow that starts at `from`.
    pub fn new(controller: Box<dyn Controller>, source: Source, path: &Path, from: i64) -> Self {
        Self {
            controller,
            source,
            from,
            own: None,
            queue: VecDeque::new(),
            queued: 0,
            sequence: 0,
            train: None,
            receiver: Receiver::new(path),
            under_way: VecDeque::new(),
            feedback: VecDeque::new(),
            delivered: 0,
            sent: 0,
            lost: 0,
            padding: 0,
            delays: Vec::new(),
        }
    }

    /// One step of time. True when feedback came.
    pub fn tick(&mut self, now: i64, link: &mut Link, random: &mut Random) -> bool {
        let mut is_told = false;
        if now < self.from {
            return is_told;
        }
        while self.feedback.front().is_some_and(|told| told.0 <= now) {
            let Some((_, told)) = self.feedback.pop_front() else { break };
            self.controller.on_feedback(now, &told);
            is_told = true;
        }
        self.receive(now, link, random);
        self.controller.tick(now, self.source.wanted(), self.queued);
        let (target, budget) = (self.controller.target(), self.controller.budget());
        for bytes in self.source.packets(now, target, budget, random) {
            self.queue.push_back(bytes);
            self.queued += bytes;
        }
        // What is too old to send is dropped.
        while self.queued as f64 > target / 8.0 * 2.0 + 6000.0 {
            self.queued -= self.queue.pop_front().unwrap_or(self.queued);
        }
        self.send(now, link, random);
        is_told
    }

    fn receive(&mut self, now: i64, link: &Link, random: &mut Random) {
        while self.under_way.front().is_some_and(|packet| packet.0 <= now) {
            let Some((at, sequence, bytes, media)) = self.under_way.pop_front() else { break };
            self.receiver.on_packet(at, sequence, bytes);
            self.delivered += if media { bytes as u64 } else { 0 };
        }
        for told in self.receiver.feedback(now) {
            if !random.chance(link.path.feedback_loss) {
                self.feedback.push_back((now + link.path.rtt_us / 2, told));
            }
        }
    }

    fn send(&mut self, now: i64, link: &mut Link, random: &mut Random) {
        if self.train.is_none() {
            self.train = self.controller.train(now).map(|train| Running { train, since: now, bytes: 0, packets: 0 });
        }
        let Some(mut running) = self.train.take() else {
            while let Some(bytes) = self.queue.front().copied() {
                if !self.controller.allow(now, bytes) {
                    break;
                }
                self.queue.pop_front();
                self.queued -= bytes;
                self.send_one(now, bytes, true, None, link, random);
            }
            return;
        };
        let train = running.train;
        let due = ((now - running.since) as f64 / 8e6 * train.bps) as usize + 1;
        let pad = (train.bytes / train.packets.max(1)).clamp(250, 1000);
        let is_over = |running: &Running| running.bytes >= train.bytes && running.packets >= train.packets;
        while running.bytes < due && !is_over(&running) {
            let media = self.queue.pop_front();
            self.queued -= media.unwrap_or(0);
            let bytes = media.unwrap_or(pad);
            self.padding += if media.is_none() { bytes as u64 } else { 0 };
            self.send_one(now, bytes, media.is_some(), Some(train), link, random);
            running.bytes += bytes;
            running.packets += 1;
        }
        self.train = (!is_over(&running)).then_some(running);
    }

    fn send_one(
        &mut self,
        now: i64,
        bytes: usize,
        media: bool,
        train: Option<Train>,
        link: &mut Link,
        random: &mut Random,
    ) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.sent += 1;
        self.controller.on_sent(now, sequence, bytes, train);
        let mut queue_us = link.queue_us(now);
        let mut fate = link.send(now, bytes, random);
        if let (Fate::Arrives(at), Some(own)) = (fate, &mut self.own) {
            queue_us += own.queue_us(at);
            fate = own.send(at, bytes, random);
        }
        self.delays.push(queue_us.min(i64::from(u32::MAX)) as u32);
        let Fate::Arrives(mut at) = fate else {
            self.lost += 1;
            return;
        };
        if !link.path.reorders {
            at = self.under_way.back().map_or(at, |last| at.max(last.0));
        }
        let place = self.under_way.partition_point(|other| other.0 <= at);
        self.under_way.insert(place, (at, sequence, bytes, media));
    }
}
