//! Picture ids and TL0PICIDX that go on without a gap or a jump back, whatever layers a forward takes its packets from.

use super::PictureIds;
use crate::rtp::sequence::newer;

/// How many of the last pictures are remembered, so that late and repeated packets get the ids of their picture: about
/// two seconds at 30 pictures a second. A power of two.
const HISTORY: usize = 64;
/// Picture ids count modulo this.
const ROUND: u16 = 1 << 15;

/// The numbering of one forward's pictures.
///
/// A receiver waits for picture ids that it believes to be missing, so: a layer switch continues from the last id sent
/// ([`Continuity::switch`]), and a picture that is left out on purpose ([`Continuity::skip`]) closes the gap. A gap is
/// left where a picture was lost before anybody knew that it was to be skipped.
#[derive(Clone, Debug)]
pub struct Continuity {
    /// The newest picture of the present source, in the source's numbers.
    newest: Option<u16>,
    /// What to add to the source's picture id.
    offset: u16,
    tl0_offset: u8,
    /// The newest numbers sent.
    sent: Option<(u16, u8)>,
    /// By picture id modulo its length.
    history: [Picture; HISTORY],
}

/// A picture of the source, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Picture {
    Unknown,
    Skipped { id: u16 },
    Sent { id: u16, offset: u16 },
}

impl Default for Continuity {
    fn default() -> Self {
        Self { newest: None, offset: 0, tl0_offset: 0, sent: None, history: [Picture::Unknown; HISTORY] }
    }
}

impl Continuity {
    /// The next packet comes from another source: its picture continues the numbering. To be called at a change of
    /// layer, after a pause, and when a new key frame has no place in the numbering (the encoder began anew).
    pub fn switch(&mut self) {
        self.newest = None;
        self.history = [Picture::Unknown; HISTORY];
    }

    /// The picture id and TL0PICIDX to send a packet with; the same for every packet of a picture. `None` for a packet
    /// of a picture that was skipped, is from before the switch or too old: it has no place in the numbering.
    pub fn forward(&mut self, ids: &PictureIds) -> Option<(u16, u8)> {
        let tl0 = ids.tl0_picture.map_or(0, |(value, _)| value);
        if self.newest.is_none() {
            self.tl0_offset = self.sent.map_or(0, |(_, sent)| sent.wrapping_add(1).wrapping_sub(tl0));
        }
        let Some(picture) = ids.picture_id else {
            // Without picture ids there is nothing to tell old packets from new ones by; `newest` only marks the start.
            self.newest = Some(0);
            return Some((0, self.send(self.sent.map_or(0, |(id, _)| id), tl0)));
        };
        let bits = if picture.wide { 15 } else { 7 };
        let id = self.advance(picture.value, bits);
        match self.history[usize::from(id) % HISTORY] {
            Picture::Sent { id: known, offset } if known == id => {
                let out = id.wrapping_add(offset) % ROUND;
                Some((out, self.send(out, tl0)))
            }
            _ => None,
        }
    }

    /// A packet of a picture that is not forwarded (a temporal layer too high). Pictures skipped before anything of
    /// their source was forwarded don't count.
    pub fn skip(&mut self, ids: &PictureIds) {
        let (Some(picture), Some(newest)) = (ids.picture_id, self.newest) else { return };
        let bits = if picture.wide { 15 } else { 7 };
        let id = unfold(newest, picture.value, bits);
        if !later(id, newest) {
            return;
        }
        self.advance(picture.value, bits);
        self.history[usize::from(id) % HISTORY] = Picture::Skipped { id };
        self.offset = self.offset.wrapping_sub(1) % ROUND;
    }

    /// Takes note of a picture: those between the newest and it are on their way or lost, and keep their place.
    /// Returns its 15-bit id.
    fn advance(&mut self, value: u16, bits: u32) -> u16 {
        let Some(newest) = self.newest else {
            self.offset = self.sent.map_or(0, |(sent, _)| sent.wrapping_add(1).wrapping_sub(value)) % ROUND;
            self.newest = Some(value);
            self.history[usize::from(value) % HISTORY] = Picture::Sent { id: value, offset: self.offset };
            return value;
        };
        let id = unfold(newest, value, bits);
        if later(id, newest) {
            let steps = (id.wrapping_sub(newest) % ROUND).min(HISTORY as u16);
            for back in 0..steps {
                let id = id.wrapping_sub(back) % ROUND;
                self.history[usize::from(id) % HISTORY] = Picture::Sent { id, offset: self.offset };
            }
            self.newest = Some(id);
        }
        id
    }

    /// The TL0PICIDX of a packet, whose numbers are kept if they are the newest sent.
    fn send(&mut self, out: u16, tl0: u8) -> u8 {
        let tl0 = tl0.wrapping_add(self.tl0_offset);
        self.sent = match self.sent {
            Some((id, sent)) => {
                let newest = if later(out, id) { out } else { id };
                Some((newest, if (tl0.wrapping_sub(sent) as i8) > 0 { tl0 } else { sent }))
            }
            None => Some((out, tl0)),
        };
        tl0
    }
}

/// True when picture `a` comes after `b`, modulo 2^15.
fn later(a: u16, b: u16) -> bool {
    newer(a << 1, b << 1)
}

/// The 15-bit id nearest to `reference` whose low `bits` bits are `value`.
fn unfold(reference: u16, value: u16, bits: u32) -> u16 {
    let round = 1u16 << bits;
    let forward = value.wrapping_sub(reference) % round;
    let id = if forward < round / 2 {
        reference.wrapping_add(forward)
    } else {
        reference.wrapping_add(forward).wrapping_sub(round)
    };
    id % ROUND
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::codec::PictureId;

    fn ids(value: u16, wide: bool, tl0: u8) -> PictureIds {
        PictureIds { picture_id: Some(PictureId { value, wide, at: 0 }), tl0_picture: Some((tl0, 0)) }
    }

    enum Step {
        Send(u16, u8, Option<(u16, u8)>),
        Skip(u16, u8),
        Switch,
    }
    use Step::{Send, Skip, Switch};

    fn check(wide: bool, steps: &[Step]) {
        let mut continuity = Continuity::default();
        for (n, step) in steps.iter().enumerate() {
            match step {
                Send(id, tl0, expected) => {
                    assert_eq!(continuity.forward(&ids(*id, wide, *tl0)), *expected, "step {n}");
                }
                Skip(id, tl0) => continuity.skip(&ids(*id, wide, *tl0)),
                Switch => continuity.switch(),
            }
        }
    }

    #[test]
    fn the_first_source_keeps_its_numbers() {
        check(true, &[Send(32_767, 255, Some((32_767, 255))), Send(0, 0, Some((0, 0))), Send(0, 0, Some((0, 0)))]);
    }

    #[test]
    fn a_switch_continues_after_the_newest_numbers_sent() {
        check(
            true,
            &[
                Send(100, 7, Some((100, 7))),
                Send(101, 8, Some((101, 8))),
                Send(100, 7, Some((100, 7))),
                Switch,
                Send(9_000, 200, Some((102, 9))),
                Send(9_000, 200, Some((102, 9))),
                Send(9_001, 201, Some((103, 10))),
                Send(8_999, 199, None),
                Switch,
                Send(5, 0, Some((104, 11))),
            ],
        );
    }

    #[test]
    fn skipped_pictures_leave_no_gap_and_late_ones_keep_their_place() {
        check(
            true,
            &[
                Skip(9, 0),
                Send(10, 0, Some((10, 0))),
                Skip(11, 0),
                Skip(11, 0),
                Send(12, 1, Some((11, 1))),
                Skip(13, 1),
                Send(14, 2, Some((12, 2))),
                Send(12, 1, Some((11, 1))),
                Send(13, 1, None),
                Send(10, 0, Some((10, 0))),
            ],
        );
    }

    #[test]
    fn pictures_that_were_lost_or_are_late_have_a_place_kept() {
        check(
            true,
            &[
                Send(10, 0, Some((10, 0))),
                Skip(11, 0),
                Send(14, 3, Some((13, 3))),
                Send(13, 2, Some((12, 2))),
                Send(12, 1, Some((11, 1))),
                Send(300, 9, Some((299, 9))),
                Send(14, 3, None),
            ],
        );
    }

    #[test]
    fn short_picture_ids_go_on_over_their_wrap() {
        check(
            false,
            &[
                Send(126, 0, Some((126, 0))),
                Send(127, 1, Some((127, 1))),
                Send(0, 2, Some((128, 2))),
                Send(127, 1, Some((127, 1))),
                Switch,
                Send(50, 9, Some((129, 3))),
                Send(51, 10, Some((130, 4))),
            ],
        );
    }

    #[test]
    fn without_picture_ids_the_other_number_still_continues() {
        let mut continuity = Continuity::default();
        let only_tl0 = |tl0| PictureIds { picture_id: None, tl0_picture: Some((tl0, 0)) };
        assert_eq!(continuity.forward(&only_tl0(5)), Some((0, 5)));
        continuity.switch();
        assert_eq!(continuity.forward(&only_tl0(100)), Some((0, 6)));
        assert_eq!(continuity.forward(&only_tl0(101)), Some((0, 7)));
        continuity.skip(&PictureIds::default());
    }
}
