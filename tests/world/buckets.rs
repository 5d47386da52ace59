//! Links behind token buckets of more than a few packets, as of Linux's `tbf` and of policers: what passes through one at any rate
//! is not what the link carries.

use crate::encoder::Frames;
use crate::slow::{CHROMIUM, FRAMES, MARK, freezes, layer_lately, scene_of};

/// What a subscriber has seen in 25 s: how often the layer changed, milliseconds of freezes, and the layer of the last ten seconds.
fn seen(seed: u64, bps: u64, burst: usize, encoder: (Frames, usize)) -> (usize, u128, Option<u8>) {
    let (mut world, mut encoder, subscribers, _) = scene_of(seed, &[Some(bps)], (encoder.0, encoder.1, burst));
    let (who, start) = (subscribers[0], world.now);
    encoder.run(&mut world, 25);
    let got = world.members[who].got.iter().filter(|got| got.is_of_picture() && !got.repaired);
    let layers: Vec<u8> = got.map(|got| got.head[MARK]).collect();
    let changes = layers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    (changes, freezes(&world, who, start).iter().map(|freeze| freeze.1).sum(), layer_lately(&world, who, 10))
}

/// A rehearsal went through the spare tokens of the bucket, the layer was raised, the bucket ran dry, and the layer fell, every five
/// seconds: up to eight changes and 2.9 s of freezes. The first raise shows how large the bucket is; later rehearsals empty it.
#[test]
fn behind_a_large_token_bucket_a_layer_is_raised_in_vain_once_at_most() {
    // Over several shards the rate of a layer that does not come here is known later.
    if crate::sim::places::count() > 1 {
        return;
    }
    let mut missed = Vec::new();
    for (frames, fps, bps, burst, layer) in [
        (CHROMIUM, 15, 300_000, 16_000, 0),
        (CHROMIUM, 15, 300_000, 32_000, 0),
        (CHROMIUM, 15, 600_000, 64_000, 1),
        (CHROMIUM, 15, 900_000, 16_000, 1),
        (CHROMIUM, 15, 900_000, 32_000, 1),
        (CHROMIUM, 15, 900_000, 64_000, 1),
        (FRAMES, 30, 300_000, 32_000, 0),
        (FRAMES, 30, 900_000, 32_000, 1),
        (FRAMES, 30, 900_000, 64_000, 1),
    ] {
        for seed in [500, 501] {
            let (changes, frozen, last) = seen(seed, bps, burst, (frames, fps));
            // The fall is seen as three freezes, 1.2 s together, and with every fifth seed 0.15 s more.
            if changes > 2 || frozen > 1_400 || last != Some(layer) {
                missed.push(format!("{fps} fps, {bps} bit/s, {burst} bytes: {changes} changes, {frozen} ms, {last:?}"));
            }
        }
    }
    assert_eq!(missed, [""; 0]);
}
