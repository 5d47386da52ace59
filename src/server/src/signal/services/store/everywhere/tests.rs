//! Two nodes on a bus in memory, whose clock is years from this machine's.

use std::collections::BTreeSet;

use super::super::tests::{compare_and_set, get, global, incr, operation, set};
use super::*;
use crate::cluster::memory::{Bus, nodes};
use moonring_policy::output::SharedRequest::Delete;
use moonring_policy::output::SharedValue::{Flag, Number, Text};

const BEGIN: u64 = 1_000_000;

struct World {
    runtime: tokio::runtime::Runtime,
    bus: Bus,
    clusters: Vec<Cluster>,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (bus, clusters) = {
            let _entered = runtime.enter();
            nodes(&["a", "b"])
        };
        Self { runtime, bus, clusters }
    }

    fn store(&self, node: usize, table: Table) -> EverywhereStore {
        let store = EverywhereStore::new(self.clusters[node].clone(), self.runtime.handle().clone(), table);
        // The test's clock jumps.
        EverywhereStore { clock_fresh: Duration::ZERO, ..store }
    }

    fn second(&self, second: u64) {
        self.bus.set_clock(UNIX_EPOCH + Duration::from_secs(BEGIN + second));
    }
}

fn delete(key: &str) -> SharedRequest {
    Delete { key: key.into() }
}

/// One operation.
fn ask(store: &mut EverywhereStore, operation: Operation) -> Answer {
    store.apply(Duration::ZERO, &[operation]).unwrap().remove(0)
}

#[test]
fn what_one_node_writes_the_other_reads_for_as_long_as_it_was_given() {
    let world = World::new();
    let mut stores = [world.store(0, Table::Store), world.store(1, Table::Store)];
    for (second, node, asked, expected) in [
        (0, 0, operation("r", get("a")), Ok(None)),
        (0, 0, operation("r", set("a", Flag(true), None)), Ok(None)),
        (0, 1, operation("r", get("a")), Ok(Some(Flag(true)))),
        (0, 1, operation("other", get("a")), Ok(None)),
        (0, 1, global(get("a")), Ok(None)),
        (0, 1, global(set("a", Text(b"\xff".into()), Some(10))), Ok(None)),
        (9, 0, global(get("a")), Ok(Some(Text(b"\xff".into())))),
        (10, 0, global(get("a")), Ok(None)),
        (10, 0, operation("r", incr("n", 2.0, Some(5))), Ok(Some(Number(2.0)))),
        (14, 1, operation("r", incr("n", 0.5, Some(5))), Ok(Some(Number(2.5)))),
        (15, 0, operation("r", incr("n", 1.0, None)), Ok(Some(Number(1.0)))),
        (15, 1, operation("r", incr("a", 1.0, None)), Err("\"a\" holds no number".to_owned())),
        (15, 1, operation("r", incr("n", f64::MAX, None)), Ok(Some(Number(f64::MAX)))),
        (15, 0, operation("r", incr("n", f64::MAX, None)), Err("the sum is too large".to_owned())),
        (15, 0, operation("r", compare_and_set("n", Some(Number(1.0)), None)), Ok(Some(Flag(false)))),
        (15, 0, operation("r", compare_and_set("n", Some(Number(f64::MAX)), None)), Ok(Some(Flag(true)))),
        (15, 1, operation("r", compare_and_set("n", None, Some(Number(3.0)))), Ok(Some(Flag(true)))),
        (15, 0, operation("r", get("n")), Ok(Some(Number(3.0)))),
        (15, 0, operation("r", delete("n")), Ok(None)),
        (15, 1, operation("r", get("n")), Ok(None)),
        (15, 1, global(set("far", Flag(true), Some(u64::MAX))), Ok(None)),
        (99, 0, global(get("far")), Ok(Some(Flag(true)))),
    ] {
        let said = format!("{second} {node} {asked:?}");
        world.second(second);
        assert_eq!(ask(&mut stores[node], asked), expected, "{said}");
    }
}

#[test]
fn operations_on_one_key_are_done_in_their_order_with_one_write() {
    let world = World::new();
    let mut store = world.store(0, Table::Store);
    let batch: Vec<_> =
        [incr("n", 1.0, None), get("n"), incr("n", 1.0, None), incr("m", 5.0, None), delete("n"), get("n")]
            .map(global)
            .into();
    let expected = [
        Ok(Some(Number(1.0))),
        Ok(Some(Number(1.0))),
        Ok(Some(Number(2.0))),
        Ok(Some(Number(5.0))),
        Ok(None),
        Ok(None),
    ];
    assert_eq!(store.apply(Duration::ZERO, &batch).unwrap(), expected);
    assert_eq!(world.bus.table_keys(Table::Store).len(), 2, "the clock and one of the two keys");
}

#[test]
fn of_nodes_that_write_one_key_at_the_same_time_each_gets_another_sum_and_one_wins() {
    let world = World::new();
    let (rounds, batch) = (50, 8);
    let sums: Vec<f64> = std::thread::scope(|scope| {
        let count = |node: usize| {
            let mut store = world.store(node, Table::Shared);
            move || {
                let operations: Vec<_> = (0..batch).map(|_| global(incr("n", 1.0, None))).collect();
                let answers = (0..rounds).flat_map(|_| store.apply(Duration::ZERO, &operations).unwrap());
                answers
                    .map(|answer| if let Ok(Some(Number(sum))) = answer { sum } else { panic!("{answer:?}") })
                    .collect::<Vec<_>>()
            }
        };
        let counting: Vec<_> = [0, 1, 0, 1].map(|node| scope.spawn(count(node))).into();
        counting.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let different: BTreeSet<_> = sums.iter().map(|sum| *sum as u64).collect();
    let all = 4 * rounds * batch;
    assert_eq!((different.len(), different.last()), (all, Some(&(all as u64))));
    let won = std::thread::scope(|scope| {
        let claim = |n: usize| {
            let mut store = world.store(n % 2, Table::Shared);
            move || ask(&mut store, global(compare_and_set("lock", None, Some(Number(n as f64)))))
        };
        let claims: Vec<_> = (0..8).map(|n| scope.spawn(claim(n))).collect();
        claims
            .into_iter()
            .filter(|_| true)
            .map(|claim| claim.join().unwrap())
            .filter(|won| *won == Ok(Some(Flag(true))))
            .count()
    });
    assert_eq!(won, 1);
}

#[test]
fn without_the_engine_what_was_seen_is_read_and_all_else_is_an_error() {
    let world = World::new();
    let (mut a, mut b) = (world.store(0, Table::Store), world.store(1, Table::Store));
    for asked in [
        global(set("seen", Number(1.0), Some(10))),
        global(get("absent")),
        global(set("gone", Flag(true), None)),
        global(delete("gone")),
    ] {
        assert_eq!(ask(&mut a, asked), Ok(None));
    }
    assert_eq!(ask(&mut b, global(set("theirs", Flag(true), None))), Ok(None));
    world.bus.cut(0, true);
    let away = || Err(AWAY.to_owned());
    for (asked, expected) in [
        (get("seen"), Ok(Some(Number(1.0)))),
        (get("absent"), Ok(None)),
        (get("gone"), Ok(None)),
        (get("theirs"), away()),
        (set("seen", Number(2.0), None), away()),
        (incr("seen", 1.0, None), away()),
        (delete("seen"), away()),
        (compare_and_set("absent", None, Some(Flag(true))), away()),
    ] {
        let said = format!("{asked:?}");
        assert_eq!(ask(&mut a, global(asked)), expected, "{said}");
    }
    assert_eq!(ask(&mut b, global(set("seen", Number(3.0), None))), Ok(None));
    world.bus.cut(0, false);
    assert_eq!(
        (ask(&mut a, global(get("seen"))), ask(&mut a, global(get("theirs")))),
        (Ok(Some(Number(3.0))), Ok(Some(Flag(true))))
    );
}

#[test]
fn without_the_engine_a_checkpoint_is_not_what_was_seen_of_it_before_its_room_was_elsewhere() {
    let world = World::new();
    let (mut a, mut b) = (world.store(0, Table::State), world.store(1, Table::State));
    let of_room = |request| Operation { space: Space::Checkpoint, ..operation("r", request) };
    assert_eq!(ask(&mut a, of_room(get(""))), Ok(None));
    assert_eq!(ask(&mut b, of_room(set("", Number(1.0), None))), Ok(None));
    world.bus.cut(0, true);
    assert_eq!(ask(&mut a, of_room(get(""))), Err(AWAY.to_owned()));
    world.bus.cut(0, false);
    assert_eq!(ask(&mut a, of_room(get(""))), Ok(Some(Number(1.0))));
}

#[test]
fn a_room_that_moves_takes_its_share_with_it_and_what_others_delete_makes_room() {
    let world = World::new();
    let small = |node, table| {
        let share = Taken { entries: 3, bytes: 1_000 };
        EverywhereStore { taken: RefCell::new(TakenBy::new(share)), ..world.store(node, table) }
    };
    let full =
        Err("this room's share of the store is full (3 entries or 1000 bytes): delete entries, or give them a ttl"
            .to_owned());
    let (mut a, mut b) = (small(0, Table::Store), small(1, Table::Store));
    for (key, ttl) in [("1", None), ("2", Some(5)), ("3", None)] {
        assert_eq!(ask(&mut a, operation("r", set(key, Number(1.0), ttl))), Ok(None));
    }
    let another = |store: &mut EverywhereStore| ask(store, operation("r", set("4", Number(1.0), None)));
    assert_eq!((another(&mut a), another(&mut b)), (full.clone(), full.clone()));
    assert_eq!(ask(&mut b, operation("r", incr("3", 1.0, None))), Ok(Some(Number(2.0))), "in its own place");
    assert_eq!(ask(&mut b, operation("r", set("3", Text(vec![0; 900]), None))), full);
    assert_eq!(ask(&mut b, operation("other", set("1", Number(1.0), None))), Ok(None));
    assert_eq!(ask(&mut b, global(set("1", Text(vec![0; 5_000]), None))), Ok(None), "nobody's share");
    world.second(5);
    assert_eq!(another(&mut b), Ok(None), "what has expired makes room");
    // Of the shared store each node counts what its rooms have made.
    let (mut a, mut b) = (small(0, Table::Shared), small(1, Table::Shared));
    for key in ["1", "2", "3"] {
        assert_eq!(ask(&mut a, operation("r", set(key, Flag(true), None))), Ok(None));
    }
    assert_eq!(another(&mut a), full);
    assert_eq!(ask(&mut b, operation("else", delete("2"))), Ok(None));
    assert_eq!((another(&mut a), another(&mut a)), (Ok(None), Ok(None)));
}

#[test]
fn a_full_table_refuses_what_is_new_and_what_strangers_write_is_neither_read_nor_written_over() {
    let world = World::new();
    let mut store = world.store(0, Table::Store);
    assert_eq!(ask(&mut store, global(set("a", Flag(true), None))), Ok(None));
    world.bus.fill(Table::Store, true);
    let batch = [get("a"), incr("a2", 1.0, None), delete("a")].map(global);
    assert_eq!(
        store.apply(Duration::ZERO, &batch).unwrap(),
        [Ok(Some(Flag(true))), Err(FULL.to_owned()), Ok(None)].map(|answer| answer)
    );
    world.bus.fill(Table::Store, false);
    assert_eq!(ask(&mut store, global(set("a", Flag(true), None))), Ok(None));
    for key in world.bus.table_keys(Table::Store) {
        world.bus.put_value(Table::Store, &key, b"nonsense");
    }
    let before = world.bus.table_values(Table::Store);
    for operation in [get("a"), incr("a", 1.0, None), set("a", Flag(true), None), delete("a")] {
        assert_eq!(ask(&mut store, global(operation)), Err(UNREADABLE.to_owned()));
    }
    assert_eq!(store.take_failed(), 4);
    assert_eq!(world.bus.table_values(Table::Store), before);
}
