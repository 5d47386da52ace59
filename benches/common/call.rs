//! A call in memory: one shard, one publisher and its subscribers in each room, connected by a real handshake.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moonring::command::{Command, Event, PublishIntent, SubscribeIntent};
use moonring::id::{ClientId, Mid, RoomId};
use moonring::media::{CodecName, Source};
use moonring::packet::SendBatch;
use moonring::policy::{PolicyEngine, PolicySettings, Script, ScriptLibrary};
use moonring::room::history::HistoryLimits;
use moonring::shard::{Shard, ShardSettings};
use moonring::transport::TransportConfig;
use moonring::transport::dtls::Certificate;
use moonring_loadtest::media::{Clock, Packet};
use moonring_loadtest::peer::{Outbox, Peer, PeerConfig};

/// Everybody may do everything.
const POLICY: &[u8] = b"function on_client_connect() return true end function on_publish_request() return true end";

/// A shard with connected clients. Time is virtual.
pub struct Call {
    /// The shard.
    pub shard: Shard,
    /// Now.
    pub now: Instant,
    /// What the shard sends.
    pub out: SendBatch,
    config: Arc<PeerConfig>,
    peers: Vec<Peer>,
    addresses: Vec<SocketAddr>,
    by_address: HashMap<SocketAddr, usize>,
    publishers: Vec<(usize, Mid)>,
    outbox: Outbox,
    sent: u32,
}

impl Call {
    /// An empty shard.
    pub fn new() -> Self {
        let now = Instant::now();
        let certificate = Certificate::generate().expect("a certificate");
        let server: SocketAddr = ([127, 0, 0, 1], 9).into();
        let limits = |bytes| HistoryLimits { age: Duration::from_millis(500), bytes };
        let settings = ShardSettings {
            transport: TransportConfig::new(certificate.clone()),
            candidates: vec![server],
            codecs: vec![CodecName::Opus, CodecName::Vp8],
            video_history: limits(256 * 1024),
            audio_history: limits(16 * 1024),
            connect_timeout: Duration::from_secs(60),
            max_clients_per_room: 10_000,
            max_clients: 1_000_000,
            max_tracks_per_client: 4,
            max_bitrate_bps: None,
        };
        let mut scripts = ScriptLibrary::new(vec![]);
        scripts.insert("default_room.lua".into(), Script::compile("default_room.lua", POLICY).map(Arc::new));
        let engine = PolicyEngine::new(PolicySettings::default(), 7);
        Self {
            shard: Shard::new(now, settings, engine, scripts, [7; 32]),
            now,
            out: SendBatch::new(1 << 20, 1024),
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
            self.peers.push(Peer::new(self.config.clone(), n as u64));
            self.addresses.push(address(n));
            self.by_address.insert(address(n), n);
            self.command(Command::Join {
                room: RoomId::parse(&format!("room-{first}")).expect("an id"),
                client: id(n),
                token: String::new(),
                metadata: serde_json::Value::Null,
                ip: address(n).ip(),
            });
        }
        let mid = self.peers[first].publish(codec);
        self.offer(first, vec![PublishIntent { mid: mid.clone(), source: Source::Other }], vec![]);
        for n in first + 1..=first + subscribers {
            let mid = self.peers[n].receive(codec);
            self.offer(n, vec![], vec![SubscribeIntent { mid, track: None }]);
        }
        self.publishers.push((first, mid));
        self.connect(first);
    }

    fn command(&mut self, command: Command) {
        // A room's policy has a share of the time only.
        self.now += Duration::from_millis(2);
        self.shard.handle_timeout(self.now, &mut self.out);
        self.shard.handle_command(self.now, command, &mut self.out);
        self.out.clear();
    }

    fn offer(&mut self, n: usize, publish: Vec<PublishIntent>, subscribe: Vec<SubscribeIntent>) {
        let offer = Box::new(self.peers[n].offer());
        while self.shard.poll_event().is_some() {}
        self.command(Command::Offer { client: id(n), request: 1, offer, publish, subscribe });
        let answered = std::iter::from_fn(|| self.shard.poll_event()).find_map(|event| match event {
            Event::Answered { answer, sections, .. } => Some((answer, sections)),
            _ => None,
        });
        let (answer, sections) = answered.expect("an answer");
        assert!(sections.iter().all(|s| s.reason.is_none()), "{sections:?}");
        self.peers[n].accept_answer(self.now, &answer).expect("a good answer");
    }

    /// Exchanges datagrams until everybody from `first` on is connected.
    fn connect(&mut self, first: usize) {
        for _ in 0..200 {
            for n in first..self.peers.len() {
                self.peers[n].handle_timeout(self.now, &mut self.outbox);
                self.hand_to_shard(n);
            }
            if self.peers[first..].iter().all(Peer::is_connected) {
                return;
            }
            self.now += Duration::from_millis(10);
            self.shard.handle_timeout(self.now, &mut self.out);
            self.hand_to_peers();
        }
        panic!("the call did not connect");
    }

    fn hand_to_shard(&mut self, n: usize) {
        let datagrams: Vec<_> = self.outbox.batch.iter().map(|(_, bytes)| bytes.to_vec()).collect();
        self.outbox.batch.clear();
        for mut datagram in datagrams {
            self.shard.handle_datagram(self.now, self.addresses[n], &mut datagram, &mut self.out);
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
