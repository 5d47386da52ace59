//! A call in memory: one shard, one publisher and its subscribers in each room, connected by a real handshake.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moonring_core::command::{Command, Event, JoinRequest, OfferRequest, PublishIntent, SubscribeIntent};
use moonring_core::room::history::HistoryLimits;
use moonring_core::shard::{Shard, ShardSettings};
use moonring_loadtest::media::{Clock, Packet};
use moonring_loadtest::peer::{Outbox, Peer, PeerConfig};
use moonring_policy::{PolicyEngine, PolicySettings, Script, ScriptLibrary};
use moonring_wire::id::{ClientId, Mid, RoomId};
use moonring_wire::media::{CodecName, Source};
use moonring_wire::packet::SendBatch;
use moonring_wire::transport::TransportConfig;
use moonring_wire::transport::dtls::Certificate;

use super::counting::live_bytes;

/// Everybody may do everything.
const POLICY: &[u8] = b"function on_client_connect() return true end function on_publish_request() return true end";
/// Longer than the virtual time in which the largest call is made: nobody is gone because nothing came for a while.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// What is kept of a video layer and of a sound track.
const VIDEO_HISTORY: HistoryLimits = HistoryLimits { age: Duration::from_millis(500), bytes: 256 * 1024 };
const AUDIO_HISTORY: HistoryLimits = HistoryLimits { bytes: 16 * 1024, ..VIDEO_HISTORY };

/// A shard with connected clients. Time is virtual.
pub struct Call {
    /// The shard.
    pub shard: Shard,
    /// Now.
    pub now: Instant,
    /// What the shard sends.
    pub out: SendBatch,
    /// Memory that the shard has allocated and not freed, as far as its calls were made through this.
    pub bytes: i64,
    token: &'static str,
    config: Arc<PeerConfig>,
    peers: Vec<Peer>,
    addresses: Vec<SocketAddr>,
    by_address: HashMap<SocketAddr, usize>,
    publishers: Vec<(usize, Mid)>,
    outbox: Outbox,
    sent: u32,
}

impl Call {
    /// An empty shard whose rooms allow everything.
    pub fn new() -> Self {
        Self::with(POLICY, "", VIDEO_HISTORY, AUDIO_HISTORY)
    }

    /// An empty shard whose rooms run `policy`, which clients show `secret` to.
    pub fn with(policy: &[u8], secret: &'static str, video: HistoryLimits, audio: HistoryLimits) -> Self {
        let now = Instant::now();
        let certificate = Certificate::generate().expect("a certificate");
        let server: SocketAddr = ([127, 0, 0, 1], 9).into();
        let settings = ShardSettings {
            transport: TransportConfig { idle_timeout: PATIENCE, ..TransportConfig::new(certificate.clone()) },
            candidates: vec![server],
            codecs: vec![CodecName::Opus, CodecName::Vp8],
            video_history: video,
            audio_history: audio,
            connect_timeout: PATIENCE,
            max_clients_per_room: 10_000,
            max_clients: 1_000_000,
            max_tracks_per_client: 4,
            ..ShardSettings::new(certificate.clone())
        };
        let mut policies = PolicySettings::unhurried();
        policies.config.insert("secret".into(), secret.into());
        let before = live_bytes();
        let mut scripts = ScriptLibrary::new(vec![]);
        scripts.insert("default_room.lua".into(), Script::compile("default_room.lua", policy).map(Arc::new));
        let shard = Shard::new(now, settings, PolicyEngine::new(policies, 7), scripts, [7; 32]);
        Self {
            shard,
            now,
            out: SendBatch::new(1 << 20, 1024),
            bytes: live_bytes() - before,
            token: secret,
            config: Arc::new(PeerConfig::new(certificate, Clock::new(now, 0))),
            peers: Vec::new(),
            addresses: Vec::new(),
            by_address: HashMap::new(),
            publishers: Vec::new(),
            outbox: Outbox::default(),
            sent: 0,
        }
    }

    /// A room with one publisher and `subscribers` others; `address` gives client `n` of the shard its address.
    pub fn room(&mut self, codec: CodecName, subscribers: usize, address: impl Fn(usize) -> SocketAddr) {
        let first = self.peers.len();
        for n in first..=first + subscribers {
            self.join(&format!("room-{first}"), address(n));
        }
        self.publish(first, codec);
        for n in first + 1..=first + subscribers {
            self.subscribe(n, codec);
        }
        self.connect(first..self.peers.len());
    }

    /// A client comes into a room; its number.
    pub fn join(&mut self, room: &str, address: SocketAddr) -> usize {
        let n = self.peers.len();
        self.peers.push(Peer::new(self.config.clone(), n as u64));
        self.addresses.push(address);
        self.by_address.insert(address, n);
        let token = self.token;
        self.command(|| {
            Command::Join(JoinRequest {
                room: RoomId::parse(room).expect("an id"),
                client: id(n),
                token: token.into(),
                metadata: serde_json::Value::Null,
                connection: Box::new(address.ip().into()),
            })
        });
        n
    }

    /// Client `n` publishes one more track.
    pub fn publish(&mut self, n: usize, codec: CodecName) {
        let mid = self.peers[n].publish(codec);
        self.offer(n, &[PublishIntent { mid: mid.clone(), source: Source::Other, makes_key_frames: false }], &[]);
        self.publishers.push((n, mid));
    }

    /// Client `n` receives one more of the room's tracks.
    pub fn subscribe(&mut self, n: usize, codec: CodecName) {
        let mid = self.peers[n].receive(codec);
        self.offer(n, &[], &[SubscribeIntent { mid, track: None }]);
    }

    /// Client `n` leaves.
    pub fn leave(&mut self, n: usize) {
        self.command(|| Command::Leave { client: id(n), reason: "over".into() });
    }

    /// Time passes for the shard.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.work(|shard, now, out| {
            shard.handle_timeout(now, out);
            while shard.poll_event().is_some() {}
        });
        self.out.clear();
    }

    /// The shard gets datagrams, and forwards what is in them.
    pub fn deliver(&mut self, datagrams: Vec<(SocketAddr, Vec<u8>)>) {
        for (from, mut bytes) in datagrams {
            self.work(|shard, now, out| shard.handle_datagram(now, from, &mut bytes, out));
            self.out.clear();
        }
        while self.work(|shard, now, out| shard.forward(now, out)) {
            self.out.clear();
        }
        self.out.clear();
    }

    /// Everything that makes the shard allocate what lasts, or free it, counted in [`Call::bytes`].
    fn work<T>(&mut self, work: impl FnOnce(&mut Shard, Instant, &mut SendBatch) -> T) -> T {
        let before = live_bytes();
        let result = work(&mut self.shard, self.now, &mut self.out);
        self.bytes += live_bytes() - before;
        result
    }

    fn command(&mut self, command: impl FnOnce() -> Command) {
        // A room's policy has a share of the time only.
        self.wait(Duration::from_millis(2));
        self.work(|shard, now, out| {
            shard.handle_command(now, command(), out);
            while shard.poll_event().is_some() {}
        });
        self.out.clear();
    }

    fn offer(&mut self, n: usize, publish: &[PublishIntent], subscribe: &[SubscribeIntent]) {
        let offer = self.peers[n].offer();
        let answered = self.work(|shard, now, out| {
            let (offer, publish, subscribe) = (Box::new(offer.clone()), publish.to_vec(), subscribe.to_vec());
            shard.handle_command(
                now,
                Command::Offer(OfferRequest { client: id(n), request: 1, offer, publish, subscribe }),
                out,
            );
            std::iter::from_fn(|| shard.poll_event()).find_map(|event| match event {
                Event::Answered { answer, sections, .. } => Some((answer, sections)),
                _ => None,
            })
        });
        self.out.clear();
        let (answer, sections) = answered.as_ref().expect("an answer");
        assert!(sections.iter().all(|s| s.reason.is_none()), "{sections:?}");
        self.peers[n].accept_answer(self.now, answer).expect("a good answer");
        self.work(|_, _, _| drop(answered));
    }

    /// Exchanges datagrams until these clients are connected.
    pub fn connect(&mut self, clients: Range<usize>) {
        for _ in 0..200 {
            for n in clients.clone() {
                self.peers[n].handle_timeout(self.now, &mut self.outbox);
                self.hand_to_shard(n);
            }
            if self.peers[clients.clone()].iter().all(Peer::is_connected) {
                return;
            }
            self.now += Duration::from_millis(10);
            self.work(|shard, now, out| shard.handle_timeout(now, out));
            self.hand_to_peers();
        }
        panic!("the call did not connect");
    }

    fn hand_to_shard(&mut self, n: usize) {
        let datagrams: Vec<_> = self.outbox.batch.iter().map(|(_, bytes)| bytes.to_vec()).collect();
        self.outbox.batch.clear();
        for mut datagram in datagrams {
            let from = self.addresses[n];
            self.work(|shard, now, out| shard.handle_datagram(now, from, &mut datagram, out));
            self.hand_to_peers();
        }
    }

    fn hand_to_peers(&mut self) {
        let datagrams: Vec<_> = self.out.iter().map(|(to, bytes)| (to, bytes.to_vec())).collect();
        self.out.clear();
        for (to, mut datagram) in datagrams {
            let Some(n) = self.by_address.get(&to).copied() else { continue };
            let _ = self.peers[n].handle_datagram(self.now, &mut datagram, &mut self.outbox);
            self.hand_to_shard(n);
        }
    }

    /// The next `count` packets of each room's publisher as they come from the network: (from, datagram). A burst of
    /// `burst` packets is a frame. The first frame ever is a key frame.
    pub fn packets(&mut self, count: usize, burst: usize, payload: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut datagrams = Vec::with_capacity(count * self.publishers.len());
        for n in 0..count {
            let frame = self.sent / burst as u32;
            let (starts, ends) = (self.sent.is_multiple_of(burst as u32), (n + 1).is_multiple_of(burst));
            // VP8 (RFC 7741): S bit with the first packet; the first byte's P bit is 0 in key frames.
            let header: [u8; 2] = [if starts { 0x10 } else { 0 }, u8::from(frame > 0)];
            // libwebrtc cuts a frame into packets that differ by a byte, the longer ones last.
            let longer = usize::from(self.sent as usize % burst >= burst / 2);
            let packet = Packet::new(&header, payload - 1 + longer, frame.wrapping_mul(3_000), ends);
            for (publisher, mid) in &self.publishers {
                let peer = &mut self.peers[*publisher];
                assert!(
                    peer.send(self.now, mid, &packet, &mut self.outbox),
                    "{:?}",
                    (peer.is_connected(), peer.counts(), peer.poll_event())
                );
                let from = self.addresses[*publisher];
                datagrams.extend(self.outbox.batch.iter().map(|(_, bytes)| (from, bytes.to_vec())));
                self.outbox.batch.clear();
            }
            self.sent += 1;
        }
        datagrams
    }
}

fn id(n: usize) -> ClientId {
    ClientId::parse(&format!("c{n}")).expect("an id")
}
