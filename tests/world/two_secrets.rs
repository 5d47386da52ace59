//! Nodes whose common secret is about to be another one: all have both, and one seals with the former as long as the other seals with the next.

use moonring_wire::drops::DropReason;
use moonring_wire::media::CodecName::Vp8;

use crate::nodes::four;
use crate::sim::OPEN;
use crate::sim::flows::assert_unbroken;
use crate::sim::places::with_two_secrets;

#[test]
fn media_crosses_between_nodes_of_which_each_seals_with_another_secret_of_both() {
    with_two_secrets();
    let (mut world, [alice, bob, carol, dan]) = four(979, OPEN);
    let tracks = [world.publish(alice, Vp8), world.publish(dan, Vp8)];
    for (who, track) in [(carol, 0), (dan, 0), (alice, 1), (bob, 1)] {
        world.subscribe(who, &tracks[track], Vp8);
    }
    world.run_ms(3_000);
    for who in [alice, bob, carol, dan] {
        let got = world.got(who, 96);
        assert!(got.len() > 200, "{who}: {}", got.len());
        assert_unbroken(&got);
    }
    assert_eq!(world.drops(DropReason::LinkBadTag), 0);
    assert_eq!(world.audit(), Vec::<String>::new());
}
