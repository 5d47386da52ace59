use super::*;

fn node(name: &str, run: u64) -> Node {
    Node { name: NodeName::parse(name).unwrap(), run: Run(run), url: format!("https://{name}/") }
}

fn beat(name: &str, run: u64, seq: u64) -> Beat {
    Beat {
        node: node(name, run),
        seq,
        region: "eu".into(),
        version: "0.1.0".into(),
        state: NodeState::Serving,
        shards: vec![ShardLoad { busy: 100, clients: 1, packets: 0 }],
        rooms: 1,
        links: vec![],
        scripts: String::new(),
        unheard: Vec::new(),
    }
}

/// The node a hears the node b, in its run 2, for the first time.
fn peers(now: Instant) -> Peers {
    let mut peers = Peers::new(node("a", 1), "eu".into());
    peers.hearing(now, true);
    assert_eq!(peers.hear(now, beat("b", 2, 1)), Heard::Unproven);
    peers.proven(now, beat("b", 2, 1));
    peers
}

fn verdict(peers: &Peers, now: Instant) -> Verdict {
    peers.lines(now)[0].verdict
}

#[test]
fn a_beat_is_heard_once_and_in_order() {
    let now = Instant::now();
    let mut peers = peers(now);
    for (seq, expected) in
        [(1, Heard::Old), (2, Heard::GoesOn(false)), (2, Heard::Old), (9, Heard::GoesOn(false)), (8, Heard::Old)]
    {
        assert_eq!(peers.hear(now, beat("b", 2, seq)), expected, "{seq}");
    }
    assert_eq!(peers.hear(now, beat("a", 1, 5)), Heard::Old, "its own");
}

#[test]
fn silence_is_no_death_and_a_beat_ends_both() {
    let now = Instant::now();
    let mut peers = peers(now);
    let later = now + SILENCE;
    assert_eq!((verdict(&peers, now), verdict(&peers, later)), (Verdict::Alive, Verdict::Silent));
    assert!(!peers.looked(now, &node("b", 2), false), "one that beats does not die for its port");
    assert_eq!(peers.due(now), []);
    assert_eq!(peers.due(later), [node("b", 2)]);
    assert_eq!(peers.due(later), [], "it is looked at once a second");
    assert!(!peers.looked(later, &node("b", 9), false), "another run");
    assert!(!peers.looked(later, &node("b", 2), true), "who answers is not dead");
    assert!(peers.looked(later, &node("b", 2), false));
    assert_eq!(verdict(&peers, later), Verdict::Dead);
    assert_eq!(peers.standing(later, &node("b", 2).name, Some(Run(2))), Standing::Dead);
    assert_eq!(peers.due(later + LOOK), [node("b", 2)], "it may come back");
    assert!(peers.looked(later, &node("b", 2), true));
    assert_eq!(verdict(&peers, later), Verdict::Silent);
    assert!(peers.looked(later, &node("b", 2), false));
    assert_eq!(peers.hear(later, beat("b", 2, 2)), Heard::GoesOn(true));
    assert_eq!(verdict(&peers, later), Verdict::Alive);
    assert!(peers.looked(later + SILENCE, &node("b", 2), false));
    assert_eq!(peers.due(later + SILENCE + REMEMBERED), []);
    assert_eq!(peers.lines(later), [], "forgotten");
}

#[test]
fn who_hears_nothing_judges_nobody_and_begins_anew_when_it_hears_again() {
    let now = Instant::now();
    let mut peers = peers(now);
    let (later, name) = (now + 10 * SILENCE, NodeName::parse("b").unwrap());
    peers.hearing(now, false);
    assert_eq!(verdict(&peers, later), Verdict::Unheard);
    assert_eq!((peers.due(later), peers.alive(later, &name)), (vec![], None));
    peers.hearing(later, true);
    assert_eq!(verdict(&peers, later), Verdict::Alive);
    assert_eq!(verdict(&peers, later + SILENCE), Verdict::Silent);
}

#[test]
fn a_run_proves_itself_and_takes_the_place_of_a_silent_one_only() {
    let now = Instant::now();
    let mut peers = peers(now);
    assert_eq!(peers.hear(now, beat("b", 3, 1)), Heard::Namesake(node("b", 3)));
    assert_eq!(peers.hear(now, beat("a", 3, 1)), Heard::Namesake(node("a", 3)));
    let later = now + SILENCE;
    assert_eq!(peers.hear(later, beat("b", 3, 1)), Heard::Unproven);
    peers.proven(later, beat("b", 3, 1));
    let (a, b, c) = (node("a", 1).name, node("b", 1).name, node("c", 1).name);
    for (name, run, expected) in [
        (&b, 3, Standing::Beats),
        (&b, 2, Standing::Replaced),
        (&a, 1, Standing::Own),
        (&a, 9, Standing::Replaced),
        (&c, 1, Standing::Unknown),
    ] {
        assert_eq!(peers.standing(later, name, Some(Run(run))), expected, "{name} {run}");
    }
    assert_eq!(peers.standing(later + SILENCE, &b, Some(Run(3))), Standing::Silent);
    assert_eq!(peers.standing(later + SILENCE, &b, Some(Run(2))), Standing::Unknown);
}

#[test]
fn what_no_node_says_is_refused_and_so_are_more_nodes_than_there_may_be() {
    let now = Instant::now();
    let mut peers = peers(now);
    let bad = |change: fn(&mut Beat)| {
        let mut beat = beat("c", 1, 1);
        change(&mut beat);
        beat
    };
    for beat in [
        bad(|beat| beat.node.url = "javascript:alert(1)".into()),
        bad(|beat| beat.node.url = format!("https://{}", "x".repeat(MAX_URL))),
        bad(|beat| beat.region = "x".repeat(MAX_REGION + 1)),
        bad(|beat| beat.shards = vec![ShardLoad::default(); MAX_SHARDS + 1]),
    ] {
        assert!(matches!(peers.hear(now, beat.clone()), Heard::Bad(_)), "{beat:?}");
    }
    for n in 1..MAX_NODES as u64 {
        peers.proven(now, beat(&format!("n{n}"), n, 1));
    }
    assert_eq!(peers.hear(now, beat("c", 1, 1)), Heard::Bad("there are too many nodes"));
}

#[test]
fn a_node_that_lies_about_its_load_gets_so_many_rooms_and_no_more() {
    let now = Instant::now();
    let mut peers = peers(now);
    let mut lies = beat("b", 2, 2);
    lies.shards = vec![ShardLoad { busy: 0, clients: 0, packets: 0 }];
    peers.hear(now, lies);
    (0..50).for_each(|_| peers.placed(now, &node("b", 2).name));
    assert_eq!(peers.candidates(now)[0].score, 250);
    let mut boasts = beat("b", 2, 3);
    boasts.shards = vec![ShardLoad { busy: u32::MAX, clients: 0, packets: 0 }; 3];
    peers.hear(now, boasts);
    assert_eq!(peers.candidates(now)[0].score, 1250);
    assert_eq!(peers.candidates(now + SILENCE), [], "nothing is given to a silent node");
}
