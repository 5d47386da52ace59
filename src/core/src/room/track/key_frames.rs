//! Key frames that a publisher is asked for: when, and why.

use std::time::{Duration, Instant};

/// Least time between two requests for a key frame of one layer: encoders need about that long to answer the first.
pub const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);

/// Why a key frame is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFrameNeed {
    /// Somebody begins to receive it, or goes on after a pause or an outage.
    Begin,
    /// Somebody goes over to it from another layer.
    Switch,
    /// A client that receives it asks (PLI or FIR), as its decoder can't go on.
    Asked,
    /// What a client has lost can't be sent again, or would be more bytes than a key frame.
    Lost,
    /// Packets of it have not come here.
    Gap,
    /// The publisher's stream has begun anew, or another track goes on in the same place.
    Anew,
    /// Another shard or node needs one, for a reason of its own.
    Relay,
}

impl KeyFrameNeed {
    /// Every need.
    pub const ALL: &'static [Self] =
        &[Self::Begin, Self::Switch, Self::Asked, Self::Lost, Self::Gap, Self::Anew, Self::Relay];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Switch => "switch",
            Self::Asked => "asked",
            Self::Lost => "lost",
            Self::Gap => "gap",
            Self::Anew => "anew",
            Self::Relay => "relay",
        }
    }
}

/// How many requests were sent to publishers, by what they were first needed for.
#[derive(Clone, Debug, Default)]
pub struct KeyFrameCounts([u64; KeyFrameNeed::ALL.len()]);

impl KeyFrameCounts {
    /// Counts one.
    pub fn count(&mut self, need: KeyFrameNeed) {
        self.0[need as usize] += 1;
    }

    /// How many were for `need`.
    pub fn get(&self, need: KeyFrameNeed) -> u64 {
        self.0[need as usize]
    }
}

/// How a publisher is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asking {
    /// PLI or FIR.
    #[default]
    Rtcp,
    /// A message of the signalling protocol, for all layers of the track.
    Message,
}

/// A request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFrameRequest {
    /// Which of the layer it is, from one on: FIR's number (RFC 5104 section 4.3.1.1).
    pub number: u8,
    /// What it is for.
    pub need: KeyFrameNeed,
    /// How it is made.
    pub by: Asking,
}

/// The requests for key frames of one layer: those of all who need one are one.
#[derive(Debug, Default)]
pub(super) struct KeyFrameRequests {
    /// Since when one is needed, and what for: the first of its needs.
    wanted: Option<(Instant, KeyFrameNeed)>,
    asked: Option<Instant>,
    count: u8,
    /// How the publisher is asked, while it has not been for what is needed now.
    by: Asking,
    is_asked: bool,
}

impl KeyFrameRequests {
    /// True when none was needed before: a timer has to be set.
    pub(super) fn want(&mut self, now: Instant, need: KeyFrameNeed) -> bool {
        let is_new = self.wanted.is_none();
        self.wanted.get_or_insert((now, need));
        is_new
    }

    pub(super) fn came(&mut self) {
        (self.wanted, self.is_asked) = (None, false);
    }

    /// From now on the publisher is told by a message first, and asked by RTCP where no key frame comes then.
    pub(super) fn ask_by_message(&mut self) {
        self.by = Asking::Message;
    }

    pub(super) fn are_by_message(&self) -> bool {
        self.by == Asking::Message
    }

    /// When a request may be sent that somebody waits for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (wanted, _) = self.wanted?;
        Some(self.asked.map_or(wanted, |at| wanted.max(at + KEY_FRAME_INTERVAL)))
    }

    /// The request that is due now, if one is. Of a layer that is not sent any more none can come: looked at again when another
    /// could be asked for.
    pub(super) fn take(&mut self, now: Instant, is_sent: bool) -> Option<KeyFrameRequest> {
        let (_, need) = self.wanted.filter(|_| self.deadline().is_some_and(|at| at <= now))?;
        self.asked = Some(now);
        if !is_sent {
            return None;
        }
        self.count = self.count.wrapping_add(1);
        let by = if std::mem::replace(&mut self.is_asked, true) { Asking::Rtcp } else { self.by };
        Some(KeyFrameRequest { number: self.count, need, by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_rtcp(number: u8, need: KeyFrameNeed) -> Option<KeyFrameRequest> {
        Some(KeyFrameRequest { number, need, by: Asking::Rtcp })
    }

    #[test]
    fn the_requests_of_all_who_need_a_key_frame_are_one_and_counted_for_the_first_need() {
        let (mut requests, t0) = (KeyFrameRequests::default(), Instant::now());
        let at = |ms| t0 + Duration::from_millis(ms);
        assert_eq!(requests.take(at(0), true), None);
        requests.want(at(10), KeyFrameNeed::Switch);
        requests.want(at(20), KeyFrameNeed::Asked);
        assert_eq!(requests.take(at(9), true), None);
        assert_eq!(requests.take(at(20), true), by_rtcp(1, KeyFrameNeed::Switch));
        // Not before half a second has passed, and then again until one has come.
        assert_eq!(requests.take(at(519), true), None);
        assert_eq!(requests.take(at(520), true), by_rtcp(2, KeyFrameNeed::Switch));
        requests.came();
        assert_eq!(requests.take(at(2_000), true), None);
    }

    #[test]
    fn a_layer_that_is_not_sent_is_not_asked_for_a_key_frame_and_looked_at_half_a_second_later() {
        let (mut requests, t0) = (KeyFrameRequests::default(), Instant::now());
        requests.want(t0, KeyFrameNeed::Begin);
        assert_eq!(requests.take(t0, false), None);
        assert_eq!(requests.deadline(), Some(t0 + KEY_FRAME_INTERVAL));
        assert_eq!(requests.take(t0 + KEY_FRAME_INTERVAL, true), by_rtcp(1, KeyFrameNeed::Begin));
    }

    #[test]
    fn who_makes_key_frames_when_told_is_told_once_for_each_need_and_asked_by_rtcp_where_none_comes() {
        let (mut requests, t0) = (KeyFrameRequests::default(), Instant::now());
        requests.ask_by_message();
        let mut number = 0;
        for second in [0_u64, 10] {
            let at = |ms| t0 + Duration::from_millis(second * 1_000 + ms);
            requests.want(at(0), KeyFrameNeed::Switch);
            for (ms, by) in [(0, Asking::Message), (500, Asking::Rtcp), (1_000, Asking::Rtcp)] {
                number += 1;
                let expected = KeyFrameRequest { number, need: KeyFrameNeed::Switch, by };
                assert_eq!(requests.take(at(ms), true), Some(expected), "{second} s {ms} ms");
            }
            requests.came();
        }
    }

    #[test]
    fn every_need_has_a_place_of_its_own() {
        let mut counts = KeyFrameCounts::default();
        for (n, need) in KeyFrameNeed::ALL.iter().enumerate() {
            (0..=n).for_each(|_| counts.count(*need));
        }
        let counted: Vec<u64> = KeyFrameNeed::ALL.iter().map(|need| counts.get(*need)).collect();
        assert_eq!(counted, [1, 2, 3, 4, 5, 6, 7]);
    }
}
