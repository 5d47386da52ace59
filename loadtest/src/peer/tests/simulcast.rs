//! Publishers of layers, and receivers of what was chosen of them.

use std::io::Cursor;

use super::*;

/// A publisher of three layers that is connected, and what was sent in each.
fn publisher() -> (World, Mid) {
    let mut mid = None;
    let mut world = World::new(Setup::Passive, config(), |peer| mid = Some(peer.publish_layers(CodecName::Vp8, 3)));
    world.run(Duration::from_millis(500));
    let _ = world.events();
    (world, mid.unwrap())
}

fn send(world: &mut World, mid: &Mid, layer: u8) -> bool {
    let mut packet = Packet::new(&[0x10, 0, 0, 0], 100 + usize::from(layer), 0, false);
    packet.layer = layer;
    let sent = world.peer.send(world.now, mid, &packet, &mut world.peer_out);
    world.run(Duration::from_millis(10));
    sent
}

#[test]
fn layers_are_offered_from_the_lowest_to_the_highest_in_one_section() {
    let mut peer = Peer::new(Arc::new(config()), 1);
    peer.publish_layers(CodecName::Vp8, 3);
    peer.publish(CodecName::Vp8);
    let text = offer_text::render(&peer.offer());
    let parsed = sdp::description::session::SessionDescription::unmarshal(&mut Cursor::new(&text)).unwrap();
    let groups = |n: usize| {
        let attributes = &parsed.media_descriptions[n].attributes;
        let of = attributes.iter().filter(|attribute| attribute.key == "ssrc-group");
        of.filter_map(|attribute| attribute.value.clone()).collect::<Vec<_>>()
    };
    let OfferSection { ssrcs, ssrcs_are_layers, .. } = &peer.offer().sections[0];
    let [low, middle, high] = [0, 1, 2].map(|n: usize| ssrcs[n].0.0);
    assert!(*ssrcs_are_layers);
    assert_eq!(groups(0)[0], format!("SIM {low} {middle} {high}"));
    assert_eq!(groups(0)[1..], [0, 1, 2].map(|n: usize| format!("FID {} {}", ssrcs[n].0.0, ssrcs[n].1.unwrap().0)));
    assert_eq!(groups(1).len(), 1, "one layer is no group");
    let server = moonring_wire::sdp::parse_offer(&text).unwrap();
    assert_eq!((server.sections[0].layers(), server.sections[1].layers()), (3, 1));
    assert_eq!(server.sections[0].ssrcs, *ssrcs);
}

#[test]
fn each_layer_has_its_own_ssrc_counter_and_repairs() {
    let (mut world, mid) = publisher();
    for layer in [0, 1, 2, 0, 2] {
        assert!(send(&mut world, &mid, layer));
    }
    assert!(!send(&mut world, &mid, 3), "there is no fourth layer");
    let ssrcs: Vec<_> = world.peer.offer().sections[0].ssrcs.clone();
    let sent = std::mem::take(&mut world.at_server);
    let of: Vec<_> = sent.iter().map(|(header, payload)| (header.ssrc, Stamp::find(payload).unwrap())).collect();
    for ((ssrc, stamp), (layer, counter)) in of.iter().zip([(0, 0), (1, 0), (2, 0), (0, 1), (2, 1)]) {
        assert_eq!((*ssrc, stamp.layer, stamp.counter), (ssrcs[usize::from(layer)].0, layer, counter));
    }
    world.control(|w| w.nack(Ssrc(1), ssrcs[2].0, &[sent[2].0.sequence]).unwrap());
    world.run(Duration::from_millis(20));
    assert_eq!(world.at_server.len(), 1);
    let (header, payload) = &world.at_server[0];
    assert_eq!(header.ssrc, ssrcs[2].1.unwrap());
    assert_eq!(rtx::unwrap(payload), Some((sent[2].0.sequence, &sent[2].1[..])));
    let counts = world.peer.sent();
    assert_eq!((counts.packets, counts.resent), (5, 1));
    assert_eq!(world.peer.track_counts(&mid), Some(counts));
}

#[test]
fn a_key_frame_is_asked_for_of_one_layer_and_each_has_a_sender_report() {
    let (mut world, mid) = publisher();
    (0..3).for_each(|layer| assert!(send(&mut world, &mid, layer)));
    let ssrcs: Vec<_> = world.peer.offer().sections[0].ssrcs.clone();
    for layer in [1, 2] {
        world.control(|w| w.pli(Ssrc(1), ssrcs[layer].0).unwrap());
        world.run(Duration::from_millis(20));
        assert_eq!(world.events(), [PeerEvent::KeyFrameRequested(mid.clone(), layer as u8)]);
    }
    world.rtcp_at_server.clear();
    world.run(Duration::from_secs(2));
    for (ssrc, _) in ssrcs {
        let report = format!("SenderReport {{ ssrc: {ssrc:?}");
        assert!(world.rtcp_at_server.iter().any(|text| text.starts_with(&report)), "{:?}", world.rtcp_at_server);
    }
}

#[test]
fn what_was_left_out_is_counted_within_each_run_of_a_layer() {
    let mut world = World::new(Setup::Passive, config(), |peer| drop(peer.receive(CodecName::Vp8)));
    world.run(Duration::from_millis(500));
    // (the server's number, layer, the publisher's counter): 102 and 103 change places at a switch from layer 0, the
    // server leaves two packets out of layer 2 without a gap, and goes back to layer 0, whose counter went on.
    let packets =
        [(100, 0, 50), (101, 0, 51), (103, 2, 900), (102, 0, 52), (104, 2, 901), (105, 2, 904), (106, 0, 700)];
    for (sequence, layer, counter) in packets {
        world.forward(96, 1_000, sequence, 0, &stamped_in_layer(&[0], counter, layer));
        world.run(Duration::from_millis(5));
    }
    let counts = world.peer.streams()[0].counts();
    // Two of the first run in order, five of layer 2 and one of the last; 52 came too late to count as published.
    assert_eq!((counts.published, counts.received_of_published, counts.received), (8, 7, 7));
    assert_eq!((counts.expected, counts.reordered), (7, 1));
}

#[test]
fn a_receiver_asks_for_a_key_frame_when_told_to() {
    let mut world = World::new(Setup::Passive, config(), |peer| drop(peer.receive(CodecName::Vp8)));
    world.run(Duration::from_millis(500));
    world.peer.request_key_frame(Ssrc(1_000), &mut world.peer_out);
    world.run(Duration::from_millis(20));
    assert!(world.rtcp_at_server.iter().any(|text| text.contains("Pli { media: Ssrc(1000) }")));
    assert_eq!(world.peer.counts().plis_sent, 1);
}
