//! How much arrived, over the last tenths of a second.

/// Reports remembered.
const REPORTS: usize = 16;
/// Packets that a rate is computed from at least, unless [`LONGEST_US`] is reached.
const MIN_PACKETS: u32 = 10;
const LONGEST_US: i64 = 1_000_000;
/// Below this span nothing is said: a few packets of one burst are no rate.
const SHORTEST_US: i64 = 20_000;
/// Feedbacks are remembered as one while they tell of no longer than this together: all of them are half a second or more.
const LEAST_SPAN_US: i64 = 64_000;

const _: () = assert!(LEAST_SPAN_US * (REPORTS as i64) / 2 > 500_000);

/// What one feedback covered, or several that follow each other closely.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    arrival_us: i64,
    sent_us: i64,
    bytes: u64,
    packets: u32,
}

impl Span {
    fn add(&mut self, other: Self) {
        self.arrival_us += other.arrival_us;
        self.sent_us += other.sent_us;
        self.bytes += other.bytes;
        self.packets += other.packets;
    }
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    pub(super) sent: i64,
    pub(super) arrived: i64,
    pub(super) bytes: u32,
}

/// Measures the rate of arrivals. Time of which no feedback tells does not count, so that a lost feedback does not look
/// like a slow path.
#[derive(Clone, Debug, Default)]
pub(super) struct Throughput {
    spans: [Span; REPORTS],
    newest: usize,
    /// The packet that the last span ended with.
    last: Option<Acked>,
    open: Option<Span>,
    /// Where the open span begins.
    start: Option<Acked>,
    latest: Option<Acked>,
}

impl Throughput {
    /// A feedback begins; the first packet it tells of is `index`. If packets before it were never told of, a feedback
    /// was lost, and the span begins with its first arrival instead of the last one known.
    pub(super) fn begin(&mut self, contiguous: bool) {
        self.open = Some(Span::default());
        self.start = self.last.filter(|_| contiguous);
        self.latest = None;
    }

    pub(super) fn on_packet(&mut self, packet: Acked) {
        let Some(open) = &mut self.open else { return };
        if self.start.is_none() {
            // The first packet marks the time only.
            self.start = Some(packet);
        } else {
            open.bytes += u64::from(packet.bytes);
            open.packets += 1;
        }
        if self.latest.is_none_or(|latest| packet.arrived >= latest.arrived) {
            self.latest = Some(packet);
        }
    }

    pub(super) fn end(&mut self) {
        let (Some(mut open), Some(start), Some(latest)) = (self.open.take(), self.start, self.latest) else { return };
        open.arrival_us = latest.arrived - start.arrived;
        open.sent_us = latest.sent - start.sent;
        // A feedback that another one has overtaken tells of time that counts already.
        if self.last.is_none_or(|last| latest.arrived >= last.arrived) {
            self.last = Some(latest);
        }
        if open.arrival_us < 0 || open.sent_us < 0 || open.arrival_us > 2 * LONGEST_US {
            return;
        }
        // Some receivers send feedback with every packet or frame: all that there is room for would be a moment.
        let newest = &mut self.spans[self.newest];
        if newest.arrival_us + open.arrival_us <= LEAST_SPAN_US {
            newest.add(open);
            return;
        }
        self.newest = (self.newest + 1) % REPORTS;
        self.spans[self.newest] = open;
    }

    /// Bit/s over the last `window_us` or so, and the last ten packets at least. The rate at which the same packets
    /// were sent, if that is lower: nothing can arrive faster than it was sent for long.
    pub(super) fn bps(&self, window_us: i64) -> Option<f64> {
        let (bytes, time_us) = self.last(window_us)?;
        Some(bytes as f64 * 8e6 / time_us as f64)
    }

    /// The same without `bucket` bytes, that a token bucket on the way may have let pass at any rate, and over no less than
    /// `window_us`: what is left of a burst is no rate.
    pub(super) fn bps_beyond(&self, bucket: u64, window_us: i64) -> Option<f64> {
        let (bytes, time_us) = self.last(window_us)?;
        Some(bytes.saturating_sub(bucket) as f64 * 8e6 / time_us.max(window_us) as f64)
    }

    /// What has arrived over the last `window_us` or so, in bytes, and the time that it took to, or to be sent.
    fn last(&self, window_us: i64) -> Option<(u64, i64)> {
        let mut sum = Span::default();
        for back in 0..REPORTS {
            let span = self.spans[(self.newest + REPORTS - back) % REPORTS];
            if sum.arrival_us + span.arrival_us > LONGEST_US && sum.packets > 0 {
                break;
            }
            sum.add(span);
            if sum.arrival_us >= window_us && sum.packets >= MIN_PACKETS {
                break;
            }
        }
        let longest = sum.arrival_us.max(sum.sent_us);
        (longest >= SHORTEST_US && sum.packets > 0).then_some((sum.bytes, longest))
    }

    /// Forgets everything: the receiver's clock stepped.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet every 5 ms, 400 kbit/s, told of by feedbacks of `each` packets that come in this order.
    fn told(each: i64, order: impl Iterator<Item = i64>) -> Throughput {
        let mut throughput = Throughput::default();
        let mut told = 0;
        for feedback in order {
            let first = feedback * each;
            throughput.begin(first <= told);
            for packet in first..first + each {
                let at = packet * 5_000;
                throughput.on_packet(Acked { sent: at, arrived: at + 9_000, bytes: 250 });
            }
            told = told.max(first + each);
            throughput.end();
        }
        throughput
    }

    #[test]
    fn a_rate_is_of_half_a_second_however_often_feedback_comes() {
        for each in [1, 2, 3, 10, 50] {
            let throughput = told(each, 0..300 / each);
            for (bucket, expected) in [(0, 400_000.0), (8_000, 272_000.0)] {
                let bps = throughput.bps_beyond(bucket, 500_000).unwrap_or_default();
                assert!((expected * 0.9..expected * 1.1).contains(&bps), "{each} packets each: {bps} beyond {bucket}");
            }
        }
    }

    #[test]
    fn a_feedback_that_another_one_has_overtaken_makes_no_rate_smaller() {
        for order in [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 5, 4, 6, 7], [0, 1, 2, 3, 4, 6, 7, 5]] {
            let throughput = told(10, order.into_iter());
            for window_us in [50_000, 150_000, 300_000] {
                let bps = throughput.bps(window_us).unwrap_or_default();
                assert!((380_000.0..420_000.0).contains(&bps), "{order:?}: {bps} over {window_us} us");
            }
        }
    }

    #[test]
    fn what_a_bucket_may_have_let_pass_is_no_rate() {
        let mut throughput = Throughput::default();
        // Feedback every 50 ms for half a second, of ten packets each after the first, that marks the time.
        for feedback in 0..11 {
            throughput.begin(true);
            for packet in 0..10 {
                let at = feedback * 50_000 + packet * 5_000;
                throughput.on_packet(Acked { sent: at, arrived: at + 9_000, bytes: 250 });
            }
            throughput.end();
        }
        for (window_us, bucket, expected) in
            [(500_000, 0, 400_000.0), (500_000, 8_000, 272_000.0), (50_000, 2_500, 0.0), (50_000, 8_000, 0.0)]
        {
            assert_eq!(throughput.bps_beyond(bucket, window_us), Some(expected), "{bucket} bytes in {window_us} us");
        }
    }
}
