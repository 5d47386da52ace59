//! The store, on real files: what it answers, what lasts, and what it says when the file is no good.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{channel, sync_channel};

use super::super::taken::Taken;
use super::disk::{DiskStore, Limits};
use super::*;

/// The folder of a store, for a test that runs this program a second time.
const CHILD: &str = "MOONRING_STORE_OF_CHILD";

pub(super) fn operation(room: &str, request: SharedRequest) -> Operation {
    let space = Space::Scripts(StoreSpace::Room { script: "a.lua".into() });
    Operation { room: RoomId::parse(room).unwrap(), space, request }
}

pub(super) fn global(request: SharedRequest) -> Operation {
    Operation { space: Space::Scripts(StoreSpace::Global), ..operation("any", request) }
}

pub(super) fn get(key: &str) -> SharedRequest {
    SharedRequest::Get { key: key.into() }
}

pub(super) fn set(key: &str, value: SharedValue, ttl: Option<u64>) -> SharedRequest {
    SharedRequest::Set { key: key.into(), value, ttl: ttl.map(Duration::from_secs) }
}

pub(super) fn incr(key: &str, by: f64, ttl: Option<u64>) -> SharedRequest {
    SharedRequest::Incr { key: key.into(), by, ttl: ttl.map(Duration::from_secs) }
}

pub(super) fn compare_and_set(key: &str, expected: Option<SharedValue>, value: Option<SharedValue>) -> SharedRequest {
    SharedRequest::CompareAndSet { key: key.into(), expected, value }
}

fn number(number: f64) -> SharedValue {
    SharedValue::Number(number)
}

/// One operation, waited for.
fn ask(store: &LastingStore, operation: Operation) -> Answer {
    let (sender, answer) = channel();
    store.submit(operation, Box::new(move |answer| sender.send(answer).unwrap()));
    answer.recv().unwrap()
}

fn bounded(path: &Path, limits: Limits) -> DiskStore {
    DiskStore::over(redb::Database::create(path).unwrap(), limits).unwrap()
}

#[test]
fn values_live_as_long_as_they_were_given_and_each_space_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = DiskStore::open(&folder.path().join(FILE)).unwrap();
    let (text, flag) = (SharedValue::Text(b"\xff".into()), SharedValue::Flag(true));
    for (second, operation, expected) in [
        (0, operation("r", get("a")), Ok(None)),
        (0, operation("r", set("a", flag.clone(), None)), Ok(None)),
        (0, operation("r", get("a")), Ok(Some(flag.clone()))),
        (0, operation("other", get("a")), Ok(None)),
        (0, global(get("a")), Ok(None)),
        (0, global(set("a", text.clone(), Some(10))), Ok(None)),
        (9, global(get("a")), Ok(Some(text))),
        (10, global(get("a")), Ok(None)),
        (10, operation("r", incr("n", 2.0, Some(5))), Ok(Some(number(2.0)))),
        (14, operation("r", incr("n", 0.5, Some(5))), Ok(Some(number(2.5)))),
        (15, operation("r", incr("n", 1.0, None)), Ok(Some(number(1.0)))),
        (15, operation("r", incr("a", 1.0, None)), Err("\"a\" holds no number".to_owned())),
        (15, operation("r", incr("n", f64::MAX, None)), Ok(Some(number(f64::MAX)))),
        (15, operation("r", incr("n", f64::MAX, None)), Err("the sum is too large".to_owned())),
        (15, operation("r", compare_and_set("n", Some(number(1.0)), None)), Ok(Some(SharedValue::Flag(false)))),
        (15, operation("r", compare_and_set("n", Some(number(f64::MAX)), None)), Ok(Some(flag.clone()))),
        (15, operation("r", compare_and_set("n", None, Some(number(3.0)))), Ok(Some(flag))),
        (15, operation("r", get("n")), Ok(Some(number(3.0)))),
        (15, operation("r", SharedRequest::Delete { key: "n".into() }), Ok(None)),
        (15, operation("r", get("n")), Ok(None)),
    ] {
        let said = format!("{second} {operation:?}");
        assert_eq!(store.apply(Duration::from_secs(second), &[operation]).unwrap(), [expected], "{said}");
    }
}

#[test]
fn a_full_store_refuses_what_is_new_until_something_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { all: Taken { entries: 6, bytes: 2_000 }, room: Taken { entries: 3, bytes: 1_000 } };
    let path = folder.path().join(FILE);
    let text = |bytes: usize| SharedValue::Text(vec![b'x'; bytes]);
    let share = "this room's share of the store is full (3 entries or 1000 bytes)";
    for reopened in 0..2 {
        let mut store = bounded(&path, limits);
        for (operation, expected) in [
            (operation("a", set("1", number(1.0), None)), ""),
            (operation("a", set("2", number(1.0), Some(5))), ""),
            (operation("a", set("3", text(700), None)), ""),
            (operation("a", set("4", number(1.0), None)), share),
            (operation("a", set("1", text(700), None)), share),
            (operation("a", incr("1", 1.0, None)), ""),
            (operation("b", set("1", number(1.0), None)), ""),
            (global(set("1", text(1_000), None)), "the store is full"),
            (global(set("1", text(100), None)), ""),
            (global(set("2", number(1.0), None)), ""),
            (operation("b", compare_and_set("2", None, Some(number(1.0)))), "the store is full"),
            (global(SharedRequest::Delete { key: "2".into() }), ""),
            (operation("b", compare_and_set("2", None, Some(number(1.0)))), ""),
            (operation("b", SharedRequest::Delete { key: "2".into() }), ""),
        ] {
            let said = format!("{operation:?}").chars().take(99).collect::<String>();
            let answer = store.apply(Duration::from_secs(1), &[operation]).unwrap().remove(0);
            match answer {
                Ok(_) => assert_eq!(expected, "", "{reopened} {said}"),
                Err(message) => {
                    assert!(!expected.is_empty() && message.starts_with(expected), "{reopened} {said}: {message}");
                }
            }
        }
        // What has expired makes room, although nobody asks for it.
        let late = store.apply(Duration::from_secs(6), &[operation("a", set("4", number(1.0), None))]).unwrap();
        assert_eq!(late, [Ok(None)]);
        store.apply(Duration::from_secs(6), &[operation("a", SharedRequest::Delete { key: "4".into() })]).unwrap();
    }
}

#[test]
fn a_file_that_is_no_store_or_is_in_use_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
    let message = DiskStore::open(&path).err().unwrap();
    assert!(message.starts_with(&format!("the store {} cannot be opened: ", path.display())), "{message}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 100_000], "it is left as it is");
    std::fs::remove_file(&path).unwrap();
    let first = DiskStore::open(&path).unwrap();
    let message = DiskStore::open(&path).err().unwrap();
    assert!(message.contains("another process uses it; give this one a data_dir of its own"), "{message}");
    drop(first);
    assert!(DiskStore::open(&path).is_ok());
    let nowhere = LastingStore::in_folder(PathBuf::new());
    assert_eq!(ask(&nowhere, operation("r", get("k"))), Err("there is no store: data_dir is empty".to_owned()));
    assert!(DiskStore::open(&path.join("below a file")).err().unwrap().contains("cannot be opened"));
}

#[test]
fn a_damaged_file_is_an_error_and_the_server_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let store = LastingStore::in_folder(folder.path().into());
    for n in 0..2_000 {
        ask(&store, operation("r", set(&format!("k{n}"), SharedValue::Text(vec![b'x'; 200]), None))).unwrap();
    }
    drop(store);
    std::thread::sleep(Duration::from_millis(200));
    let whole = std::fs::read(&path).unwrap();
    for (from, to) in [(0, 64), (64, 4_096), (4_096, whole.len() / 2), (whole.len() / 2, whole.len())] {
        let mut bytes = whole.clone();
        bytes[from..to].fill(0xa5);
        std::fs::write(&path, &bytes).unwrap();
        let store = LastingStore::in_folder(folder.path().into());
        // Whatever is damaged: each answer is what was stored or an error, and the thread is still there to say so.
        for n in 0..3 {
            let answer = ask(&store, operation("r", get(&format!("k{n}"))));
            assert!(answer.is_err() || answer == Ok(Some(SharedValue::Text(vec![b'x'; 200]))), "{answer:?}");
        }
        drop(store);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An engine whose disk is full as long as the flag is set.
struct Fragile(Arc<AtomicBool>);

impl Engine for Fragile {
    fn apply(&mut self, _: Duration, batch: &[Operation]) -> Result<Vec<Answer>, String> {
        if self.0.load(Ordering::Relaxed) {
            return Err("no space left on the disk".to_owned());
        }
        Ok(batch.iter().map(|_| Ok(None)).collect())
    }
}

#[test]
fn while_the_disk_is_full_each_operation_is_an_error_and_afterwards_it_works_again() {
    let full = Arc::new(AtomicBool::new(true));
    let (opened, disk) = (Arc::new(AtomicU64::new(0)), full.clone());
    let count = opened.clone();
    let store = LastingStore::over(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Fragile(disk.clone())))
    }));
    for _ in 0..50 {
        assert_eq!(ask(&store, operation("r", get("k"))), Err("no space left on the disk".to_owned()));
    }
    assert_eq!(opened.load(Ordering::Relaxed), 1, "it is not opened again at once");
    full.store(false, Ordering::Relaxed);
    std::thread::sleep(PAUSE);
    assert_eq!(ask(&store, operation("r", get("k"))), Ok(None));
    assert_eq!(store.counts(), (1, 50));
}

#[test]
fn operations_beyond_the_queue_are_refused_at_once() {
    let (hold, held) = sync_channel::<()>(0);
    let store = LastingStore::over(Box::new(move || {
        let _ = held.recv();
        Err("closed".to_owned())
    }));
    let (sender, answers) = channel();
    for _ in 0..MAX_QUEUED + MAX_BATCH + 10 {
        let sender = sender.clone();
        store.submit(operation("r", get("k")), Box::new(move |answer| sender.send(answer).unwrap()));
    }
    assert_eq!(answers.try_recv(), Ok(Err("the store is overloaded".to_owned())));
    drop(hold);
}

/// The rooms of the test below.
const ROOMS: usize = 1_000;

#[test]
fn what_was_answered_before_a_kill_is_there_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::meters_until_it_is_killed");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--include-ignored"])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = vec![0.0; ROOMS];
    let mut count = 0;
    for line in lines {
        let line = line.unwrap();
        let Some((room, sum)) = line.strip_prefix("told ").and_then(|rest| rest.split_once(' ')) else { continue };
        told[room.parse::<usize>().unwrap()] = sum.parse().unwrap();
        count += 1;
        if count == 5 * ROOMS {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(count >= 5 * ROOMS, "{count}");
    let store = LastingStore::in_folder(folder.path().into());
    for (room, told) in told.iter().enumerate() {
        let Ok(Some(SharedValue::Number(kept))) = ask(&store, operation(&format!("r{room}"), get("minutes"))) else {
            panic!("room {room} has nothing")
        };
        assert!(kept >= *told, "room {room}: told {told}, kept {kept}");
    }
}

/// What the test above kills: a thousand rooms count minutes, each as soon as its last count was answered.
#[test]
#[ignore = "run by what_was_answered_before_a_kill_is_there_afterwards"]
fn meters_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = LastingStore::in_folder(folder.into());
    let (sender, answers) = channel();
    let meter = |room: usize| {
        let sender = sender.clone();
        let request = incr("minutes", 1.0, None);
        store.submit(operation(&format!("r{room}"), request), Box::new(move |a| sender.send((room, a)).unwrap()));
    };
    (0..ROOMS).for_each(meter);
    let mut out = io::stdout().lock();
    while let Ok((room, answer)) = answers.recv() {
        let Ok(Some(SharedValue::Number(sum))) = answer else { panic!("{answer:?}") };
        writeln!(out, "told {room} {sum}").unwrap();
        meter(room);
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p moonring --lib -- --ignored --nocapture the_store_costs"]
fn the_store_costs() {
    let folder = tempfile::tempdir().unwrap();
    let store = LastingStore::in_folder(folder.path().into());
    ask(&store, operation("r", get("k"))).unwrap();
    let mut out = io::stdout().lock();
    for (name, rooms, rounds) in [("one room", 1, 200), ("1000 rooms at once", 1_000, 20)] {
        let begun = Instant::now();
        for _ in 0..rounds {
            let (sender, answers) = channel();
            for room in 0..rooms {
                let sender = sender.clone();
                let reply: Reply = Box::new(move |answer| sender.send(answer).unwrap());
                store.submit(operation(&format!("r{room}"), incr("n", 1.0, None)), reply);
            }
            drop(sender);
            assert!(answers.iter().all(|answer| answer.is_ok()));
        }
        let (took, operations) = (begun.elapsed(), rooms * rounds);
        let per_second = operations as f64 / took.as_secs_f64();
        writeln!(out, "{name}: store_set_ns {}, {per_second:.0} writes/s", took.as_nanos() / operations as u128)
            .unwrap();
    }
    let (reads, begun) = (20_000, Instant::now());
    (0..reads).for_each(|_| drop(ask(&store, operation("r1", get("n")))));
    writeln!(out, "store_get_ns {}", begun.elapsed().as_nanos() / reads).unwrap();
}
