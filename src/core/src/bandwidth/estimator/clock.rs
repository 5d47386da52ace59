//! The receiver's clock, from 32 bits of 250 us.

const TICK_US: i64 = 250;
/// A step of more than this, against our own clock, is not the passing of time.
const MAX_STEP_US: i64 = 10_000_000;

/// Extends arrival times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ArrivalClock {
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    ticks: u32,
    arrived: i64,
    /// `arrived` less our own time when the clock was set.
    offset: i64,
}

impl ArrivalClock {
    /// The arrival time in microseconds, by a clock that runs as the receiver's does and was set to ours at first.
    /// `None`: the receiver's clock has stepped and is set again; times before and after must not be compared.
    pub(super) fn micros(&mut self, now: i64, ticks: u32) -> Option<i64> {
        let Some(last) = self.last else {
            self.last = Some(Last { ticks, arrived: now, offset: 0 });
            return Some(now);
        };
        let step = i64::from(ticks.wrapping_sub(last.ticks) as i32) * TICK_US;
        let arrived = last.arrived + step;
        if (arrived - last.offset - now).abs() > MAX_STEP_US {
            self.last = Some(Last { ticks, arrived: now, offset: 0 });
            return None;
        }
        // The clocks may drift apart without bound, a little at a time.
        let offset = last.offset + (arrived - last.offset - now) / 64;
        self.last = Some(Last { ticks, arrived, offset });
        Some(arrived)
    }
}
