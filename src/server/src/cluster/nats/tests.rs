//! Against the real server.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use super::super::messages::{Node, NodeName, Run};
use super::super::seal::Seal;
use super::super::tables::{Kept, Scanned, Table, Tables};
use super::*;

/// A NATS server of the test's own.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    binary: PathBuf,
}

impl Server {
    /// `None` where there is none, which `make tools-nats` changes; in CI it has to be there.
    fn start() -> Option<Self> {
        let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/nats/bin/nats-server"));
        let Some(binary) = built.exists().then_some(built) else {
            assert!(std::env::var_os("CI").is_none(), "there is no nats-server: make tools-nats");
            eprintln!("NOT TESTED: there is no nats-server: make tools-nats");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = run(&binary, port, &folder);
        Some(Self { child, port, folder, binary })
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = run(&self.binary, self.port, &self.folder);
    }

    async fn connect(&self) -> Nats {
        let settings = ClusterSettings {
            servers: vec![format!("nats://127.0.0.1:{}", self.port)],
            login: Login::Token("hush".into()),
            ca: None,
            seal: Seal::new(&[0; 16]),
            node: Node { name: NodeName::parse("n1").unwrap(), run: Run(1), url: "https://n1/".into() },
            region: String::new(),
            spread: crate::config::RoomSpread::Never,
            links: vec![],
            candidates: vec![],
        };

        let nats = Nats::connect(&settings).await.unwrap();
        nats.connected().wait_for(|connected| *connected).await.unwrap();
        nats
    }
}

fn run(binary: &PathBuf, port: u16, folder: &tempfile::TempDir) -> Child {
    let mut command = Command::new(binary);
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "--auth", "hush", "-js", "-sd"]).arg(folder.path());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn ask(nats: &Nats, subject: &str, good: &'static str) -> Result<Bytes, Unanswered> {
    let check = |answer: &[u8]| answer == good.as_bytes();
    nats.ask(subject, bytes("?"), IsGood { patience: Duration::from_millis(500), check: &check }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_claim_wins_and_only_its_revision_is_written_over() {
    let Some(server) = Server::start() else { return };
    let (a, b) = (server.connect().await, server.connect().await);
    let (changed, mut changes) = mpsc::channel(16);
    // The bucket is there from the first claim on.
    let first = a.claim("other", bytes("x"), None).await.unwrap();
    let _watch = b.watch(changed);
    assert_eq!(changes.recv().await, Some(Watched::Opened));
    let (won, lost) = tokio::join!(a.claim("demo", bytes("a"), None), b.claim("demo", bytes("b"), None));
    let term = won.or(lost).unwrap();
    assert!(term > first);
    assert_eq!([won, lost].iter().filter(|claim| **claim == Err(Unwritten::Taken)).count(), 1);
    assert_eq!(b.claim("demo", bytes("c"), Some(term - 1)).await, Err(Unwritten::Taken));
    let over = b.claim("demo", bytes("c"), Some(term)).await.unwrap();
    assert_eq!(a.read("demo").await, Ok(Some(Entry { value: bytes("c"), revision: over })));
    assert_eq!(a.release("demo", term).await, Err(Unwritten::Taken));
    assert_eq!(b.release("demo", over).await, Ok(()));
    assert_eq!(a.read("demo").await, Ok(None));
    let anew = a.claim("demo", bytes("d"), None).await.unwrap();
    assert!(anew > over, "terms only grow");
    let mut told = Vec::new();
    while told.len() < 4 {
        let Some(Watched::Changed(Change { key, value, revision })) = changes.recv().await else { panic!("{told:?}") };
        assert_eq!(key, "demo");
        told.push((value, revision));
    }
    assert_eq!((told[0].1, &told[1]), (term, &(Some(bytes("c")), over)));
    assert_eq!((&told[2].0, &told[3]), (&None, &(Some(bytes("d")), anew)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_who_serves_its_subject_and_a_strangers_answer_is_passed_over() {
    let Some(server) = Server::start() else { return };
    let (a, b) = (server.connect().await, server.connect().await);
    assert_eq!(ask(&a, "mr.room.demo", "yes").await, Err(Unanswered::Nobody));
    let (into, mut messages) = mpsc::channel(16);
    let serving = b.serve("mr.room.demo", into.clone());
    let _stranger = b.serve("mr.room.demo", into);
    tokio::spawn(async move {
        let mut n = 0;
        while let Some(Message { subject, body, reply }) = messages.recv().await {
            assert_eq!((subject.as_str(), &body), ("mr.room.demo", &bytes("?")));
            n += 1;
            reply.unwrap()(bytes(if n % 2 == 1 { "no" } else { "yes" }));
        }
    });
    while ask(&a, "mr.room.demo", "yes").await == Err(Unanswered::Nobody) {}
    assert_eq!(ask(&a, "mr.room.demo", "yes").await, Ok(bytes("yes")));
    assert_eq!(ask(&a, "mr.room.demo", "other").await, Err(Unanswered::Silence));
    drop((serving, _stranger));
    while ask(&a, "mr.room.demo", "yes").await != Err(Unanswered::Nobody) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_nothing_is_waited_for_and_afterwards_everything_is_there() {
    let Some(mut server) = Server::start() else { return };
    let nats = server.connect().await;
    let (into, mut messages) = mpsc::channel(16);
    let _serving = nats.serve("mr.beat", into);
    let term = nats.claim("demo", bytes("a"), None).await.unwrap();
    server.stop();
    let mut connected = nats.connected();
    connected.wait_for(|connected| !*connected).await.unwrap();
    assert_eq!(nats.read("demo").await, Err(Offline));
    assert_eq!(nats.claim("demo", bytes("b"), Some(term)).await, Err(Unwritten::Offline));
    assert_eq!(ask(&nats, "mr.beat", "yes").await, Err(Unanswered::Offline));
    nats.tell("mr.beat", bytes("lost")).await;
    server.start_again();
    connected.wait_for(|connected| *connected).await.unwrap();
    while nats.read("demo").await.is_err() {}
    assert_eq!(nats.read("demo").await, Ok(Some(Entry { value: bytes("a"), revision: term })));
    nats.tell("mr.beat", bytes("heard")).await;
    assert_eq!(messages.recv().await.unwrap().body, bytes("heard"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_begins_anew_says_so_before_what_is_written_then() {
    let Some(mut server) = Server::start() else { return };
    let nats = server.connect().await;
    let term = nats.claim("demo", bytes("a"), None).await.unwrap();
    let (changed, mut changes) = mpsc::channel(16);
    let _watch = nats.watch(changed);
    assert_eq!(changes.recv().await, Some(Watched::Opened));
    server.stop();
    nats.connected().wait_for(|connected| !*connected).await.unwrap();
    server.start_again();
    assert_eq!(changes.recv().await, Some(Watched::Opened), "the server has forgotten who watches");
    while nats.claim("demo", bytes("b"), Some(term)).await == Err(Unwritten::Offline) {}
    let Some(Watched::Changed(change)) = changes.recv().await else { panic!("it is told") };
    assert_eq!((change.key.as_str(), change.value), ("demo", Some(bytes("b"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_of_a_value_one_is_told_and_what_is_written_is_read_by_all() {
    let Some(server) = Server::start() else { return };
    let (a, b) = (server.connect().await, server.connect().await);
    for table in [Table::Store, Table::Shared, Table::Scripts] {
        assert_eq!(a.look(table, "x.k").await, Ok(Kept::NOTHING), "the table is not there yet");
        assert_eq!(b.all(table, "x.").await, Ok(vec![]));
        let (won, lost) = tokio::join!(
            a.put(table, "x.k", Some(bytes("a")), 0, None),
            b.put(table, "x.k", Some(bytes("b")), 0, None)
        );
        let first = won.or(lost).unwrap();
        assert_eq!([won, lost].iter().filter(|put| **put == Err(Unwritten::Taken)).count(), 1);
        let second = b.put(table, "x.k", Some(bytes("c")), first, None).await.unwrap();
        assert!(second > first);
        assert_eq!(a.put(table, "x.k", Some(bytes("d")), first, None).await, Err(Unwritten::Taken));
        let found = a.look(table, "x.k").await.unwrap();
        assert_eq!((found.value, found.revision), (Some(bytes("c")), second));
        let other = a.put(table, "y.k", Some(bytes("e")), 0, None).await.unwrap();
        let all: Vec<_> =
            b.all(table, "x.").await.unwrap().into_iter().map(|(key, found)| (key, found.value)).collect();
        assert_eq!(all, [("x.k".to_owned(), Some(bytes("c")))]);
        assert_eq!(a.put(table, "x.k", None, first, None).await, Err(Unwritten::Taken));
        let gone = a.put(table, "x.k", None, second, None).await.unwrap();
        let found = b.look(table, "x.k").await.unwrap();
        assert_eq!((found.value, found.revision), (None, gone));
        assert!(b.put(table, "x.k", Some(bytes("f")), gone, None).await.unwrap() > other, "over what is left of it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_goes_by_itself_when_its_time_is_over() {
    let Some(server) = Server::start() else { return };
    let nats = server.connect().await;
    let first = nats.put(Table::Shared, "x.k", Some(bytes("a")), 0, Some(Duration::from_millis(900))).await.unwrap();
    assert!(nats.look(Table::Shared, "x.k").await.unwrap().written > SystemTime::UNIX_EPOCH);
    while nats.look(Table::Shared, "x.k").await.unwrap().value.is_some() {
        sleep(Duration::from_millis(50)).await;
    }
    let found = nats.look(Table::Shared, "x.k").await.unwrap();
    assert!(nats.put(Table::Shared, "x.k", Some(bytes("b")), found.revision, None).await.unwrap() > first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_tells_of_all_that_stands_in_a_table_or_of_all_claims_with_the_time_that_each_was_given() {
    let Some(server) = Server::start() else { return };
    let nats = server.connect().await;
    let scanned = async |table| {
        let (into, mut entries) = mpsc::channel(2);
        let told = async {
            let mut told = Vec::new();
            while let Some(Scanned { key, value, revision, ttl }) = entries.recv().await {
                told.push((key, value, revision, ttl));
            }
            told
        };
        let (scan, told) = tokio::join!(nats.scan(table, into), told);
        assert_eq!(scan, Ok(()));
        told
    };
    assert_eq!((scanned(None).await, scanned(Some(Table::Store)).await), (vec![], vec![]), "there are no buckets yet");
    let (table, minute) = (Table::Store, Duration::from_secs(60));
    let over = nats.put(table, "x.over", Some(bytes("a")), 0, None).await.unwrap();
    let gone = nats.put(table, "x.gone", Some(bytes("b")), 0, None).await.unwrap();
    let timed = nats.put(table, "y.timed", Some(bytes("c")), 0, Some(minute)).await.unwrap();
    let over = nats.put(table, "x.over", Some(bytes("d")), over, None).await.unwrap();
    nats.put(table, "x.gone", None, gone, None).await.unwrap();
    let expected =
        [("y.timed".to_owned(), bytes("c"), timed, Some(minute)), ("x.over".to_owned(), bytes("d"), over, None)];
    assert_eq!(scanned(Some(table)).await, expected);
    // More than are read ahead or asked for at once.
    for n in 0..600 {
        nats.put(table, &format!("z.{n}"), Some(vec![7; 2000].into()), 0, None).await.unwrap();
    }
    let mut keys: Vec<_> = scanned(Some(table)).await.into_iter().map(|(key, ..)| key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 602);
    let claim = nats.claim("demo", bytes("e"), None).await.unwrap();
    let left = nats.claim("left", bytes("f"), None).await.unwrap();
    nats.release("left", left).await.unwrap();
    assert_eq!(scanned(None).await, [("demo".to_owned(), bytes("e"), claim, None)]);
}

/// Lines of the log at WARN while `test` runs.
fn warnings(test: impl FnOnce()) -> Vec<String> {
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, test);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
}

#[test]
fn why_there_is_no_connection_is_said_at_once_and_once_a_minute() {
    let ((is_connected, _), said) = (watch::channel(false), Said::default());
    let failed = |why: &str| Event::ClientError(async_nats::ClientError::Other(why.into()));
    let refused = || Event::ServerError(async_nats::ServerError::Other("Permissions Violation".into()));
    let events = [failed("IO error"), failed("IO error"), failed("no login"), failed("IO error"), refused(), refused()];
    let lines = warnings(|| events.iter().for_each(|event| note(event, &is_connected, &said)));
    let [line, other, not_permitted] = &lines[..] else { panic!("{lines:?}") };
    assert!(other.contains("no login") && not_permitted.contains("Permissions Violation"), "{lines:?}");
    assert!(line.contains("no connection to the cluster's messages: ") && line.contains("IO error"), "{line}");
    assert!(line.contains("; look at cluster, cluster_login_file and cluster_ca"), "{line}");
}
