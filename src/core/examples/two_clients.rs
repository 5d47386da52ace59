//! A shard and two clients without a socket, a thread or a clock: Ada publishes a video, Bob receives it.
//!
//! `cargo run -p moonring-core --example two_clients`
//!
//! The shard gets datagrams, commands and the time as arguments; datagrams that it sends stand in a [`SendBatch`], and what
//! happened comes out of [`Shard::poll_event`]. Here the network is a `for` loop, and the time is a variable.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moonring_core::command::{Command, Event, JoinRequest, News, OfferRequest, PublishIntent, SubscribeIntent};
use moonring_core::shard::{Shard, ShardSettings};
use moonring_loadtest::media::{Clock, VideoSettings, VideoSource};
use moonring_loadtest::peer::{Handled, Outbox, Peer, PeerConfig, PeerEvent};
use moonring_policy::{PolicyEngine, PolicySettings, Script, ScriptLibrary};
use moonring_wire::id::{ClientId, Mid, RoomId, TrackId};
use moonring_wire::media::{CodecName, Source};
use moonring_wire::packet::SendBatch;
use moonring_wire::transport::dtls::Certificate;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;

/// The room's policy: only Ada may publish.
const POLICY: &str = "
function on_client_connect(client, token) return token == 'let-me-in', 'Wrong token' end
function on_publish_request(client, track) return client:get_id() == 'ada', 'Only Ada may publish' end
";
const SERVER: &str = "10.0.0.1:40000";
const STEP: Duration = Duration::from_millis(1);

type Failure = Box<dyn std::error::Error>;

struct Client {
    id: ClientId,
    address: SocketAddr,
    peer: Peer,
    outbox: Outbox,
    /// Packets of media that were received and decrypted.
    received: usize,
}

struct World {
    now: Instant,
    shard: Shard,
    out: SendBatch,
    clients: BTreeMap<&'static str, Client>,
    config: Arc<PeerConfig>,
}

fn main() -> Result<(), Failure> {
    let mut world = World::new()?;
    world.join("ada", [10, 0, 1, 1])?;
    world.join("bob", [10, 0, 1, 2])?;

    println!("-- Ada offers a section that sends video");
    let camera = world.client("ada").peer.publish(CodecName::Vp8);
    let track = world.offer("ada", Some(&camera), None)?.ok_or("the policy refused the track")?;

    println!("-- Bob may not publish, and asks to receive Ada's track");
    let refused = world.client("bob").peer.publish(CodecName::Opus);
    world.offer("bob", Some(&refused), None)?;
    let screen = world.client("bob").peer.receive(CodecName::Vp8);
    world.offer("bob", None, Some((&screen, track)))?;

    println!("-- ICE and DTLS, then two seconds of video");
    world.send_video("ada", &camera, Duration::from_secs(2));
    let report = world.shard.report();
    println!("the shard received {} packets and forwarded {}", report.counters.packets_in, report.counters.forwarded);
    println!("Bob received {}", world.client("bob").received);
    if world.client("bob").received == 0 {
        return Err("nothing was forwarded".into());
    }
    Ok(())
}

impl World {
    fn new() -> Result<Self, Failure> {
        // All times are `now` and later; the seed makes the shard's random choices repeatable.
        let now = Instant::now();
        let certificate = Certificate::generate()?;
        let settings = ShardSettings { candidates: vec![SERVER.parse()?], ..ShardSettings::new(certificate.clone()) };
        let mut scripts = ScriptLibrary::new(Vec::new());
        let script = Script::compile("default_room.lua", POLICY.as_bytes()).map(Arc::new);
        scripts.insert("default_room.lua".to_owned(), script);
        let engine = PolicyEngine::new(PolicySettings::unhurried(), 1);
        Ok(Self {
            now,
            shard: Shard::new(now, settings, engine, scripts, [7; 32]),
            out: SendBatch::new(1 << 20, 1_024),
            clients: BTreeMap::new(),
            config: Arc::new(PeerConfig::new(certificate, Clock::new(now, 0))),
        })
    }

    fn client(&mut self, name: &str) -> &mut Client {
        self.clients.get_mut(name).expect("it has joined")
    }

    fn join(&mut self, name: &'static str, ip: [u8; 4]) -> Result<(), Failure> {
        let (id, address) = (ClientId::parse(name)?, SocketAddr::from((ip, 5_000)));
        let peer = Peer::new(Arc::clone(&self.config), u64::from(ip[3]));
        self.clients.insert(name, Client { id: id.clone(), address, peer, outbox: Outbox::default(), received: 0 });
        self.command(Command::Join(JoinRequest {
            room: RoomId::parse("demo")?,
            client: id,
            token: "let-me-in".into(),
            metadata: Value::Null,
            connection: Box::new(address.ip().into()),
        }));
        Ok(())
    }

    /// Makes an offer of what the peer wants by now; the track that is published or received in the named section.
    fn offer(
        &mut self,
        name: &str,
        publish: Option<&Mid>,
        subscribe: Option<(&Mid, TrackId)>,
    ) -> Result<Option<TrackId>, Failure> {
        let client = self.client(name);
        let request = OfferRequest {
            client: client.id.clone(),
            request: 1,
            offer: Box::new(client.peer.offer()),
            publish: publish
                .map(|mid| PublishIntent { mid: mid.clone(), source: Source::Camera, makes_key_frames: false })
                .into_iter()
                .collect(),
            subscribe: subscribe
                .map(|(mid, track)| SubscribeIntent { mid: mid.clone(), track: Some(track) })
                .into_iter()
                .collect(),
        };
        let events = self.command(Command::Offer(request));
        let mut granted = None;
        for event in events {
            let Event::Answered { answer, sections, .. } = event else { continue };
            let now = self.now;
            self.client(name).peer.accept_answer(now, &answer)?;
            granted = sections.into_iter().find_map(|section| section.track).map(|track| track.id);
        }
        Ok(granted)
    }

    /// Hands a command to the shard; what it tells the control plane.
    fn command(&mut self, command: Command) -> Vec<Event> {
        self.shard.handle_command(self.now, command, &mut self.out);
        let events: Vec<_> = std::iter::from_fn(|| self.shard.poll_event()).collect();
        events.iter().for_each(|event| println!("{}", described(event)));
        events
    }

    /// Lets time pass in steps of a millisecond, while one client's camera runs.
    fn send_video(&mut self, name: &str, mid: &Mid, time: Duration) {
        let settings = VideoSettings::default();
        let mut camera = VideoSource::new(settings, self.now, SmallRng::seed_from_u64(1));
        let (end, mut packets) = (self.now + time, Vec::new());
        while self.now < end {
            self.now += STEP;
            let now = self.now;
            // The shard forwards a video from its next key frame on, and asks for one when a subscriber comes.
            while let Some(event) = self.client(name).peer.poll_event() {
                if matches!(event, PeerEvent::KeyFrameRequested(..)) {
                    camera.request_key_frame();
                }
            }
            while camera.next_at() <= now {
                packets.clear();
                camera.frame(now, &mut packets);
                let Client { peer, outbox, .. } = self.client(name);
                // Before the DTLS handshake is over, nothing can be sent.
                packets.iter().for_each(|packet| _ = peer.send(now, mid, packet, outbox));
            }
            self.exchange();
        }
    }

    /// Carries every datagram to where it is sent to.
    fn exchange(&mut self) {
        for client in self.clients.values_mut() {
            client.peer.handle_timeout(self.now, &mut client.outbox);
            for (_, datagram) in client.outbox.batch.iter() {
                self.shard.handle_datagram(self.now, client.address, &mut datagram.to_vec(), &mut self.out);
            }
            client.outbox.batch.clear();
        }
        if self.shard.poll_timeout().is_some_and(|at| at <= self.now) {
            self.shard.handle_timeout(self.now, &mut self.out);
        }
        // True: the batch is full, and there is more.
        while self.shard.forward(self.now, &mut self.out) {
            self.deliver();
        }
        self.deliver();
        while let Some(event) = self.shard.poll_event() {
            println!("{}", described(&event));
        }
    }

    fn deliver(&mut self) {
        for (to, datagram) in self.out.iter() {
            let Some(client) = self.clients.values_mut().find(|client| client.address == to) else { continue };
            let handled = client.peer.handle_datagram(self.now, &mut datagram.to_vec(), &mut client.outbox);
            client.received += usize::from(matches!(handled, Ok(Handled::Rtp(_))));
        }
        self.out.clear();
    }
}

/// An event in a line.
fn described(event: &Event) -> String {
    match event {
        Event::Joined { client, clients, .. } => format!("{client} has joined; {} others are there", clients.len()),
        Event::Connected { client } => format!("{client} is connected: ICE and DTLS are complete"),
        Event::News { client, news } => match &**news {
            News::TrackPublished(track) => format!("{client} is told of track {}", track.id),
            other => format!("{client} is told {other:?}"),
        },
        Event::Answered { client, sections, .. } => {
            let outcome = |reason: &Option<String>| reason.clone().unwrap_or_else(|| "granted".into());
            let outcomes: Vec<_> =
                sections.iter().map(|s| format!("section {}: {}", s.mid, outcome(&s.reason))).collect();
            format!("{client} has an answer; {}", outcomes.join(", "))
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn the_example_forwards_video() -> Result<(), Failure> {
    main()
}
