//! One secret takes the place of another.

use std::time::UNIX_EPOCH;

use super::scripts::files;
use super::*;
use crate::cluster::tables::{Table, Unread};

const OLD: u8 = 1;
const NEW: u8 = 2;
const VALUES: [Table; 3] = [Table::Store, Table::Shared, Table::State];

impl World {
    /// The process is killed, and the bus has it no more.
    fn lose(&self, peer: &Peer) {
        self.kill(peer);
        self.bus.cut(peer.who, true);
    }
}

/// What a node reads under a key of all tables of values.
async fn values(peer: &Peer, key: &str) -> Vec<Result<Option<Vec<u8>>, Unread>> {
    let mut found = Vec::new();
    for table in VALUES {
        found.push(peer.cluster.value(table, key).await.map(|kept| kept.value.map(|value| value.to_vec())));
    }
    found
}

async fn write(peer: &Peer, table: Table, key: &str, ttl: Option<Duration>) {
    let before = peer.cluster.value(table, key).await.unwrap();
    peer.cluster.put_value(table, key, Some(b"kept".to_vec()), before.revision, ttl).await.unwrap();
}

fn needs_further(peer: &Peer) -> bool {
    peer.cluster.counts().further_needed
}

fn sealed_anew(peer: &Peer) -> u64 {
    peer.cluster.0.counts.sealed_anew.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_sees_those_that_believe_what_it_seals_with_and_seal_with_what_it_believes() {
    let mut world = World::default();
    let nodes = [("a", &[OLD][..]), ("b", &[OLD, NEW]), ("c", &[NEW, OLD]), ("d", &[NEW])];
    let peers = nodes.map(|(name, secrets)| world.start_with(name, secrets));
    let seen = || {
        peers.each_ref().map(|peer| {
            let seen = nodes.iter().filter(|(name, _)| peer.sees(name) == Some(Verdict::Alive));
            seen.map(|(name, _)| *name).collect::<String>()
        })
    };
    let expected = ["b", "ac", "bd", "c"];
    eventually(|| seen() == expected).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(seen(), expected);
    // What they say to each other, and claim, likewise.
    let [a, b, c, d] = &peers;
    for (home, guest, expected) in [
        (a, b, "https://a/"),
        (b, a, "https://b/"),
        (b, c, "https://b/"),
        (c, b, "https://c/"),
        (c, d, "https://c/"),
        (d, c, "https://d/"),
        (a, d, "try again"),
    ] {
        let demo = room(&format!("of-{}-for-{}", home.cluster.name(), guest.cluster.name()));
        assert_eq!(home.joins_in_the_end(&demo).await, "here", "{demo}");
        assert_eq!(guest.join(&demo).await, expected, "{demo}");
    }
    // A node with two secrets says that it needs both, as one of each seals with the other one.
    assert_eq!(peers.each_ref().map(needs_further), [false, true, true, false]);
    assert_eq!(peers.each_ref().map(sealed_anew), [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_former_secret_has_sealed_is_read_and_then_sealed_anew_and_the_next_one_alone_reads_it() {
    let mut world = World::default();
    let day = Duration::from_secs(86_400);
    let a = world.start_with("a", &[OLD]);
    assert_eq!(a.joins_in_the_end(&room("demo")).await, "here");
    assert_eq!(a.push(files(&[("x.lua", "1")])).await.unwrap(), "true of 1: a: 0 failed");
    for table in VALUES {
        write(&a, table, "k", None).await;
        write(&a, table, "day", Some(day)).await;
    }
    world.bus.put_value(Table::Store, "strange", b"nonsense");
    let kept = vec![Ok(Some(b"kept".to_vec())); 3];
    // All nodes believe both, and then the first one seals with the next. Its home's end has left a claim behind.
    let b = world.start_with("b", &[OLD, NEW]);
    eventually(|| b.sees("a") == Some(Verdict::Alive)).await;
    world.lose(&a);
    let c = world.start_with("c", &[NEW, OLD]);
    eventually(|| b.sees("c") == Some(Verdict::Alive) && c.sees("b") == Some(Verdict::Alive)).await;
    write(&c, Table::Store, "of c", None).await;
    assert_eq!((values(&b, "k").await, values(&c, "k").await), (kept.clone(), kept.clone()));
    assert_eq!(values(&b, "of c").await[0], kept[0]);
    eventually(|| c.has() == "x.lua 1").await;
    // One still writes with the former.
    sleep(Duration::from_secs(3)).await;
    write(&b, Table::Store, "late", None).await;
    assert_eq!((needs_further(&c), sealed_anew(&c)), (true, 0));
    world.lose(&b);
    eventually(|| !needs_further(&c)).await;
    // A claim, three values and one of each table, and of the scripts the set in use, its name and its text.
    assert_eq!(sealed_anew(&c), 1 + 2 * 3 + 1 + 3);
    // The last one, too, has but the next one.
    let d = world.start_with("d", &[NEW]);
    eventually(|| d.sees("c") == Some(Verdict::Alive)).await;
    world.lose(&c);
    assert_eq!((values(&d, "k").await, values(&d, "day").await), (kept.clone(), kept.clone()));
    assert_eq!(
        (values(&d, "late").await[0].clone(), values(&d, "of c").await[0].clone()),
        (kept[0].clone(), kept[0].clone())
    );
    eventually(|| d.has() == "x.lua 1" && d.sees("c") == Some(Verdict::Dead)).await;
    assert_eq!(d.joins_in_the_end(&room("demo")).await, "here");
    assert_eq!(d.push(files(&[("x.lua", "2")])).await.unwrap(), "true of 1: d: 0 failed, c is away");
    // What was given a time goes, and what is a stranger's stays as it was.
    assert_eq!(values(&d, "strange").await[0], Err(Unread::Unreadable));
    world.bus.set_clock(UNIX_EPOCH + Duration::from_secs(2_000_000) + day);
    assert_eq!((values(&d, "k").await, values(&d, "day").await), (kept, vec![Ok(None); 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sealed_anew_now_is_later_and_the_former_secret_is_needed_until_then() {
    let mut world = World::default();
    let a = world.start_with("a", &[OLD]);
    write(&a, Table::Store, "k", None).await;
    world.lose(&a);
    world.bus.fill(Table::Store, true);
    let b = world.start_with("b", &[NEW, OLD]);
    let alone = world.start_with("c", &[NEW]);
    sleep(Duration::from_secs(4)).await;
    assert_eq!((needs_further(&b), alone.cluster.value(Table::Store, "k").await), (true, Err(Unread::Unreadable)));
    world.bus.fill(Table::Store, false);
    eventually(|| !needs_further(&b)).await;
    assert_eq!(alone.cluster.value(Table::Store, "k").await.unwrap().value.as_deref(), Some(&b"kept"[..]));
}
