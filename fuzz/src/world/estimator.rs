//! What a receiver reports of its path, into the estimate that its layers and its pacer follow.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use moonring_core::bandwidth::sharing::Flows;
use moonring_core::room::congestion::{Congestion, Demand, Estimate, Served};
use moonring_wire::id::Ssrc;
use moonring_wire::rtp::rtcp::Writer;
use moonring_wire::rtp::twcc::ArrivalRecorder;

use super::{Parts, joined};

/// Most steps of one input.
const MOST: usize = 200;
/// No estimate is beyond this, whatever a receiver says: ten times what any link of a client carries.
const ABSURD_BPS: u64 = 100_000_000_000;

/// What reports can say of a round trip: their clock has 16 bits for seconds (RFC 3550 section 6.4.1).
const LONGEST_RTT_US: u64 = 65_536_000_000;
/// What a room can want to send to one client.
const MOST_WANTED_BPS: u64 = 10_000_000_000;

/// Steps, each behind a byte that says what happens: packets are sent, time passes, and feedback of all kinds comes, as it
/// is or made to speak of what was sent last. The estimate stays a number that can be used.
pub(super) fn estimator(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut path = Congestion::new(now);
    path.expect_feedback();
    let mut flows = Flows::default();
    for part in Parts(bytes).take(MOST) {
        let Some((kind, rest)) = part.split_first() else { continue };
        let number = rest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        match kind {
            0..80 => send(&mut path, now, rest, usize::from(*kind)),
            80..120 => now += Duration::from_millis(u64::from(kind - 80).pow(2)),
            120..160 => _ = path.feedback(now, rest),
            160..190 => _ = path.feedback(now, &about_the_last(&path, rest)),
            190..205 => remb(&mut path, now, number, rest),
            205..215 => path.round_trip(Duration::from_micros(number % LONGEST_RTT_US)),
            215..230 => {
                let floor_bps = rest.first().copied().unwrap_or(0).into();
                let (least_bps, wanted_bps) = (number % 1_000_000, number % MOST_WANTED_BPS);
                path.set_wanted(now, Demand { least_bps, wanted_bps, floor_bps, sound_bps: number % 10_000_000 });
            }
            230..235 => {
                let served = [Served::Whole, Served::Less, Served::Nothing][usize::from(*kind) % 3];
                path.set_starved(now, kind.is_multiple_of(2), served);
            }
            // By two names at one address or the other it is told of itself.
            235..245 => path.meet(now, &mut flows, (kind % 2, IpAddr::from([10, 0, 0, (number % 2) as u8]))),
            _ => {
                for _ in 0..300 {
                    let Some(slice) = path.poll_probe(now) else { break };
                    path.sent(now, slice.bytes.clamp(1, 1_500), true, slice.probe);
                    now += Duration::from_millis(1);
                }
            }
        }
        for bps in [path.stable_bps(), path.target_bps()].into_iter().flatten() {
            assert!(bps < ABSURD_BPS, "{bps}");
        }
        assert!((0.0..=1.0).contains(&path.loss()), "{}", path.loss());
        let _ = (path.may_send(now), path.ready_at(), path.rtt(), path.is_calm(), path.promises_more(now));
    }
}

/// Sends packets whose sizes are `sizes`.
fn send(path: &mut Congestion, now: Instant, sizes: &[u8], spread: usize) {
    for size in sizes.iter().take(256) {
        path.sent(now, 100 + usize::from(*size) * (1 + spread % 5), true, None);
    }
}

/// An estimate of the receiver's own, of the streams that its bytes name.
fn remb(path: &mut Congestion, now: Instant, bps: u64, bytes: &[u8]) {
    let streams: Vec<_> = bytes.iter().skip(8).take(8).map(|byte| Ssrc(u32::from(*byte))).collect();
    path.set_probed(now, !bps.is_multiple_of(3));
    let covers_sound = streams.is_empty() || bps.is_multiple_of(2);
    path.remb(now, Estimate { sender: Ssrc(bps as u32 % 5), bps, streams, covers_sound });
}

/// The feedback with the number of a packet that was sent lately in the place of the one it names.
fn about_the_last(path: &Congestion, feedback: &[u8]) -> Vec<u8> {
    let mut feedback = feedback.to_vec();
    if let Some(field) = feedback.get_mut(12..14) {
        let back = u16::from(field[1]);
        field.copy_from_slice(&path.next_sequence().wrapping_sub(back).to_be_bytes());
    }
    feedback
}

/// Feedback as a receiver of this project makes it, about `arrived` of the first packets.
pub(super) fn feedback(arrived: &[u16], step: Duration) -> Vec<u8> {
    let (mut recorder, now) = (ArrivalRecorder::new(), Instant::now());
    for (n, sequence) in (0..).zip(arrived) {
        recorder.record(*sequence, now + step * n);
    }
    let mut bytes = [0; 1_200];
    let mut writer = Writer::new(&mut bytes);
    assert!(recorder.build(Ssrc(1), Ssrc(2), &mut writer));
    writer.as_bytes().to_vec()
}

pub(super) fn estimator_seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let some: Vec<u16> = (0..60).collect();
    let few: Vec<u16> = (0..60).filter(|n| n % 3 != 0).collect();
    let sizes = [200; 60];
    let calm = vec![
        with(215, &2_000_000_u64.to_be_bytes()),
        with(4, &sizes),
        vec![90],
        with(170, &feedback(&some, Duration::from_millis(1))),
        vec![240],
        with(3, &sizes),
        vec![88],
        with(171, &feedback(&few, Duration::from_millis(20))),
        vec![115],
        vec![241],
    ];
    let other = vec![
        with(4, &sizes),
        with(125, &feedback(&few, Duration::from_micros(10))),
        with(190, &300_000_u64.to_be_bytes()),
        with(206, &40_000_u64.to_be_bytes()),
        with(191, &u64::MAX.to_be_bytes()),
        vec![119],
        with(230, &[]),
    ];
    let own = [calm, other];
    own.iter().map(|parts| joined(parts.iter().map(Vec::as_slice))).collect()
}
