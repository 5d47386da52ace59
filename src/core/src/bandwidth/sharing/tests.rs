use super::*;

fn view(queue_ms: u64) -> FlowView {
    let queue = Duration::from_millis(queue_ms);
    let (claim_bps, least_bps, wish_bps) = (1e6, 0.0, 2e6);
    FlowView { queue, claim_bps, least_bps, wish_bps, is_growing: true, probed: None, misled_until: None }
}

/// Whether flows to these two addresses are told of each other, whose queues are the same.
fn share(one: &str, other: &str) -> bool {
    let began = Instant::now();
    let mut flows = Flows::default();
    let addresses = [one, other].map(|address| address.parse::<IpAddr>().unwrap());
    (0..100).fold(false, |_, n| {
        let now = began + Duration::from_millis(100) * n;
        let told =
            addresses.iter().zip(0..).map(|(address, key)| flows.hear(now, *address, key, view(u64::from(n % 10) * 4)));
        told.fold(false, |_, told| told.is_some())
    })
}

#[test]
fn flows_to_one_network_are_compared_and_to_others_not() {
    for (one, other, expected) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::9", true),
        ("2001:db8:1:2::9", "2001:db8:1:3::9", false),
    ] {
        assert_eq!(share(one, other), expected, "{one} {other}");
    }
}

#[test]
fn who_has_use_for_nothing_is_not_remembered() {
    let now = Instant::now();
    let mut flows = Flows::default();
    let idle = FlowView { wish_bps: 0.0, ..view(0) };
    assert_eq!(flows.hear(now, IpAddr::from([192, 0, 2, 1]), 1, idle), None);
    assert!(flows.networks.is_empty());
}

#[test]
fn networks_are_bounded_and_forgotten_when_nothing_is_heard_of_them() {
    let now = Instant::now();
    let mut flows = Flows::default();
    for n in 0..MAX_NETWORKS as u32 + 10 {
        flows.hear(now, IpAddr::from((n + 0x0A00_0000).to_be_bytes()), n, view(0));
    }
    assert_eq!(flows.networks.len(), MAX_NETWORKS);
    flows.hear(now + SWEEP_INTERVAL, IpAddr::from([192, 0, 2, 1]), 0, view(0));
    assert_eq!(flows.networks.len(), 1);
}
