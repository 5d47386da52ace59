use moonring_wire::id::{Pt, Ssrc};
use moonring_wire::media::{Extension, Kind};
use moonring_wire::negotiate::{
    AnswerCodec, AnswerSection, AnswerStream, Direction, IceCredentials, OfferSection, SectionKind, Setup,
};
use moonring_wire::packet::SendBatch;
use moonring_wire::rtp::header::{NewHeader, write_header};
use moonring_wire::rtp::rtcp::{self, RtcpMessage, Writer};
use moonring_wire::transport::dtls::{self, Certificate, DtlsRole};
use moonring_wire::transport::{Transport, TransportConfig, TransportEvent, ice, stun};

use super::*;
use crate::media::{AudioSettings, AudioSource, Clock, Stamp, VideoSettings, VideoSource};

mod offers;
mod simulcast;

const PEER: &str = "127.0.0.2:5000";
const SERVER: &str = "127.0.0.1:40000";

/// A server made of nothing but a transport, and one peer, on virtual time.
struct World {
    now: Instant,
    peer: Peer,
    peer_out: Outbox,
    server: Transport,
    server_out: SendBatch,
    scratch: Vec<u8>,
    /// What the server opened: (header, payload).
    at_server: Vec<(Header, Vec<u8>)>,
    rtcp_at_server: Vec<String>,
    received: Vec<RtpReceived>,
    /// Datagrams from the peer that are lost on the way.
    lose: usize,
}

fn certificate() -> Certificate {
    Certificate::generate().unwrap()
}

fn config() -> PeerConfig {
    PeerConfig::new(certificate(), Clock::new(Instant::now(), 1_000_000))
}

/// Accepts everything; what the peer receives gets SSRCs 1000 and up.
fn answer(offer: &Offer, ice: IceCredentials, config: &TransportConfig, setup: Setup) -> Answer {
    let section = |(n, section): (usize, &OfferSection)| {
        let SectionKind::Media(kind) = section.kind else { panic!("{section:?}") };
        let receives = section.direction.receives();
        let ssrc = 1_000 + 2 * n as u32;
        let stream = || AnswerStream {
            ssrc: Ssrc(ssrc),
            rtx_ssrc: (kind == Kind::Video).then_some(Ssrc(ssrc + 1)),
            stream_id: "s".into(),
            track_id: "t".into(),
            cname: "c".into(),
        };
        let codec = &section.codecs[0];
        AnswerSection::Accepted {
            mid: section.shown_mid(),
            kind,
            protocol: "UDP/TLS/RTP/SAVPF".into(),
            direction: if receives { Direction::SendOnly } else { Direction::RecvOnly },
            codecs: vec![AnswerCodec {
                pt: codec.pt,
                codec: codec.codec.clone(),
                rtx: codec.rtx,
                feedback: codec.feedback,
            }],
            extensions: section.extensions.clone(),
            rids: Vec::new(),
            stream: receives.then(stream),
            max_bitrate_bps: None,
        }
    };
    Answer {
        version: 1,
        ice,
        fingerprint: config.certificate.fingerprint(),
        setup,
        candidates: vec![SERVER.parse().unwrap()],
        over_tcp: false,
        sections: offer.sections.iter().enumerate().map(section).collect(),
    }
}

impl World {
    fn new(setup: Setup, config: PeerConfig, sections: impl FnOnce(&mut Peer)) -> Self {
        let now = Instant::now();
        let mut peer = Peer::new(Arc::new(config), 7);
        sections(&mut peer);
        let offer = peer.offer();
        let transport = TransportConfig::new(certificate());
        let local = ice::generate_credentials(&mut SmallRng::seed_from_u64(3));
        let role = if setup == Setup::Passive { DtlsRole::Server } else { DtlsRole::Client };
        let server = Transport::new(now, &transport, local.clone(), offer.ice.clone(), offer.fingerprint, role);
        peer.accept_answer(now, &answer(&offer, local, &transport, setup)).unwrap();
        Self {
            now,
            peer,
            peer_out: Outbox::default(),
            server,
            server_out: SendBatch::new(1 << 20, 1_024),
            scratch: vec![0; dtls::SCRATCH],
            at_server: Vec::new(),
            rtcp_at_server: Vec::new(),
            received: Vec::new(),
            lose: 0,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.peer.handle_timeout(self.now, &mut self.peer_out);
            let _ = self.server.handle_timeout(self.now, &mut self.scratch, &mut self.server_out);
            while !self.peer_out.batch.is_empty() || !self.server_out.is_empty() {
                self.deliver();
            }
            self.now += Duration::from_millis(5);
        }
    }

    fn deliver(&mut self) {
        let to_server: Vec<Vec<u8>> = self.peer_out.batch.iter().map(|(_, bytes)| bytes.to_vec()).collect();
        let to_peer: Vec<Vec<u8>> = self.server_out.iter().map(|(_, bytes)| bytes.to_vec()).collect();
        self.peer_out.batch.clear();
        self.server_out.clear();
        for bytes in to_server {
            if self.lose > 0 {
                self.lose -= 1;
                continue;
            }
            self.serve(bytes);
        }
        for mut bytes in to_peer {
            if let Handled::Rtp(received) = self.peer.handle_datagram(self.now, &mut bytes, &mut self.peer_out).unwrap()
            {
                self.received.push(received);
            }
        }
    }

    fn serve(&mut self, mut bytes: Vec<u8>) {
        let (from, out) = (PEER.parse::<SocketAddr>().unwrap(), &mut self.server_out);
        match classify(&bytes).unwrap() {
            Protocol::Stun => _ = self.server.handle_stun(self.now, from, &stun::parse(&bytes).unwrap(), out).unwrap(),
            Protocol::Dtls => {
                let event = self.server.handle_dtls(self.now, from, &bytes, &mut self.scratch, out).unwrap();
                assert!(!matches!(event, Some(TransportEvent::Failed(_))), "{event:?}");
            }
            Protocol::Link => panic!("a peer is not a shard"),
            Protocol::Rtp => {
                let header = Header::parse(&bytes).unwrap();
                let opened = self.server.unprotect_rtp(
                    (self.now, from),
                    &mut bytes,
                    header.header_len,
                    header.ssrc.0,
                    header.sequence,
                );
                bytes.truncate(opened.unwrap().0);
                let payload = header.payload_range(&bytes).unwrap();
                self.at_server.push((header, bytes[payload].to_vec()));
            }
            Protocol::Rtcp => {
                let len = self.server.unprotect_rtcp((self.now, from), &mut bytes).unwrap();
                let name = |message: RtcpMessage<'_>| self.rtcp_at_server.push(format!("{message:?}"));
                rtcp::parse(&bytes[..len], &mut { name }).unwrap();
            }
        }
    }

    /// Sends a packet as the server would.
    fn forward(&mut self, pt: u8, ssrc: u32, index: u64, timestamp: u32, payload: &[u8]) {
        let header =
            NewHeader { marker: false, payload_type: Pt(pt), sequence: index as u16, timestamp, ssrc: Ssrc(ssrc) };
        let mut slot = self.server_out.slot(PEER.parse::<SocketAddr>().unwrap(), 1_400).unwrap();
        let header_len = write_header(slot.bytes(), &header, &[]);
        let srtp = self.server.srtp_out().unwrap();
        let len = srtp.seal_rtp(payload, slot.bytes(), header_len, index);
        slot.commit(len);
    }

    fn control(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        let mut slot = self.server_out.slot(PEER.parse::<SocketAddr>().unwrap(), 1_400).unwrap();
        let mut writer = Writer::new(slot.bytes());
        write(&mut writer);
        let len = writer.len();
        let len = self.server.srtp_out_mut().unwrap().protect_rtcp(slot.bytes(), len);
        slot.commit(len);
    }

    fn events(&mut self) -> Vec<PeerEvent> {
        std::iter::from_fn(|| self.peer.poll_event()).collect()
    }
}

fn stamped(header: &[u8], counter: u64) -> Vec<u8> {
    stamped_in_layer(header, counter, 0)
}

fn stamped_in_layer(header: &[u8], counter: u64, layer: u8) -> Vec<u8> {
    let mut packet = Packet::new(header, 100, 0, false);
    packet.stamp(Stamp { sent_ns: 5, counter, layer });
    let mut payload = vec![0; 100];
    packet.write(&mut payload);
    payload
}

#[test]
fn a_peer_connects_in_either_dtls_role_even_when_the_first_datagrams_are_lost() {
    for (setup, lose) in [(Setup::Passive, 0), (Setup::Active, 0), (Setup::Passive, 3), (Setup::Active, 3)] {
        let mut world = World::new(setup, config(), |peer| drop(peer.publish(CodecName::Vp8)));
        world.lose = lose;
        world.run(Duration::from_secs(2));
        assert_eq!(world.events(), [PeerEvent::Connected], "{setup:?}, {lose} lost");
        assert!(world.server.is_connected());
        assert_eq!(world.peer.profile(), Some(SrtpProfile::AeadAes256Gcm));
    }
}

#[test]
fn frames_arrive_with_mid_level_and_stamp() {
    let mut mids = Vec::new();
    let mut world = World::new(Setup::Passive, config(), |peer| {
        mids = vec![peer.publish(CodecName::Vp8), peer.publish(CodecName::Opus)];
    });
    world.run(Duration::from_millis(500));
    let start = world.now;
    let mut video = VideoSource::new(VideoSettings::default(), start, SmallRng::seed_from_u64(1));
    let mut audio = AudioSource::new(AudioSettings::default(), start, SmallRng::seed_from_u64(2));
    let mut packets = Vec::new();
    assert!(video.frame(start, &mut packets));
    for packet in &packets {
        assert!(world.peer.send(world.now, &mids[0], packet, &mut world.peer_out));
    }
    let sound = audio.packet();
    assert!(world.peer.send(world.now, &mids[1], &sound, &mut world.peer_out));
    world.run(Duration::from_millis(10));

    assert_eq!(world.at_server.len(), packets.len() + 1);
    let sent_ns = world.peer.config.clock.nanos(start);
    for (counter, (header, payload)) in world.at_server[..packets.len()].iter().enumerate() {
        assert_eq!(header.payload_type, Pt(96));
        assert_eq!(Stamp::find(payload), Some(Stamp { sent_ns, counter: counter as u64, layer: 0 }));
    }
    assert!(world.at_server[packets.len() - 1].0.marker);
    let (header, payload) = world.at_server.last().unwrap();
    assert_eq!((header.payload_type, payload.len()), (Pt(111), sound.payload_len()));
    assert_eq!(world.peer.sent().packets, packets.len() as u64 + 1);
}

#[test]
fn a_publisher_answers_nack_with_retransmissions_and_pli_with_an_event() {
    let mut mid = None;
    let mut world = World::new(Setup::Passive, config(), |peer| mid = Some(peer.publish(CodecName::Vp8)));
    let mid = mid.unwrap();
    world.run(Duration::from_millis(500));
    for n in 0..300_u32 {
        assert!(world.peer.send(world.now, &mid, &Packet::plain(&n.to_be_bytes(), n, false), &mut world.peer_out));
        world.run(Duration::from_millis(5));
    }
    let originals = std::mem::take(&mut world.at_server);
    let ssrc = originals[0].0.ssrc;
    let wanted = [originals[10].0.sequence, originals[290].0.sequence, originals[299].0.sequence];
    let never = originals[299].0.sequence.wrapping_add(1);
    world.control(|w| w.nack(Ssrc(1), ssrc, &[wanted[0], wanted[1], wanted[2], never]).unwrap());
    world.control(|w| w.pli(Ssrc(1), ssrc).unwrap());
    let _ = world.events();
    world.run(Duration::from_millis(20));

    let repaired: Vec<_> = world.at_server.iter().map(|(h, payload)| (h.payload_type, h.ssrc, payload)).collect();
    assert_eq!(repaired.len(), 2);
    for ((pt, rtx_ssrc, payload), n) in repaired.into_iter().zip([290_usize, 299]) {
        assert_eq!(pt, Pt(97));
        assert_ne!(rtx_ssrc, ssrc);
        let original = &originals[n];
        assert_eq!(rtx::unwrap(payload), Some((original.0.sequence, &original.1[..])));
    }
    assert_eq!(world.events(), [PeerEvent::KeyFrameRequested(mid, 0)]);
    let counts = world.peer.sent();
    assert_eq!((counts.resent, counts.not_resent, counts.key_frame_requests), (2, 2, 1));
}

#[test]
fn loss_reordering_duplicates_and_repairs_are_told_apart() {
    let mut world = World::new(Setup::Passive, config(), |peer| drop(peer.receive(CodecName::Vp8)));
    world.run(Duration::from_millis(500));
    assert_eq!(world.events(), [PeerEvent::Connected]);
    // Sequence numbers wrap; 65534 comes late, 65535 and 2 are lost, 2 is repaired; 1 comes twice.
    let key = [0x10, 0x00, 0, 0];
    for (sequence, timestamp) in [(65_533_u64, 0), (65_536, 1), (65_534, 2), (65_537, 3), (65_539, 4), (65_540, 5)] {
        let header = if sequence == 65_536 { &key[..] } else { &[0x00] };
        world.forward(96, 1_000, sequence, timestamp, &stamped(header, sequence - 65_533));
        world.run(Duration::from_millis(5));
    }
    let mut twice = vec![];
    world.forward(96, 1_000, 65_541, 9, &stamped(&[0], 8));
    for (_, bytes) in world.server_out.iter() {
        twice.push(bytes.to_vec());
    }
    world.run(Duration::from_millis(100));
    let asked: Vec<_> = world.rtcp_at_server.iter().filter(|text| text.starts_with("Nack")).collect();
    assert!(!asked.is_empty());
    let mut repair = 2_u16.to_be_bytes().to_vec();
    repair.extend(stamped(&[0], 5));
    world.forward(97, 1_001, 77, 3, &repair);
    world.run(Duration::from_millis(20));

    let counts = world.peer.streams()[0].counts();
    assert_eq!(
        counts,
        StreamCounts {
            received: 8,
            expected: 9,
            published: 9,
            received_of_published: 7,
            reordered: 1,
            repaired: 1,
            duplicates: 0
        }
    );
    assert!(world.received.iter().any(|r| r.repaired && r.sequence == 2 && r.ssrc == Ssrc(1_000)));
    assert_eq!(world.events(), [PeerEvent::FirstKeyFrame(Ssrc(1_000))]);
    // SRTP's own replay protection drops the copy.
    assert_eq!(world.peer.handle_datagram(world.now, &mut twice[0], &mut world.peer_out), Err(DropReason::SrtpReplay));
    assert_eq!(world.peer.counts().dropped, 1);
}

#[test]
fn reports_have_blocks_and_a_receiver_without_key_frame_asks_for_one() {
    let mut world = World::new(Setup::Passive, config(), |peer| drop(peer.receive(CodecName::Vp8)));
    world.run(Duration::from_millis(400));
    world.forward(96, 1_000, 5, 0, &[0x00, 1, 2]);
    world.forward(96, 1_000, 7, 0, &[0x00, 1, 2]);
    world.run(Duration::from_secs(3));
    let all = world.rtcp_at_server.join("\n");
    assert!(all.contains("about: Ssrc(1000), fraction_lost: 85, cumulative_lost: 1"), "{all}");
    assert!(all.contains("Pli { media: Ssrc(1000) }"), "{all}");
}

#[test]
fn packets_that_stay_closed_are_counted_all_the_same() {
    let config = PeerConfig { open_one_in: 10, ..config() };
    let mut world = World::new(Setup::Passive, config, |peer| drop(peer.receive(CodecName::Opus)));
    world.run(Duration::from_millis(400));
    for index in 100..200 {
        world.forward(111, 1_000, index, index as u32 * 960, &stamped(&[0xFC], index));
        world.run(Duration::from_millis(5));
    }
    let counts = world.peer.streams()[0].counts();
    assert_eq!((counts.received, counts.expected), (100, 100));
    assert_eq!(world.received.iter().filter(|received| received.stamp.is_some()).count(), 10);
}

#[test]
fn a_server_that_falls_silent_is_gone_after_the_consent_timeout() {
    for (connected, expected) in [(true, "Closed"), (false, "Failed")] {
        let config = PeerConfig { consent_timeout: Duration::from_secs(12), ..config() };
        let mut world = World::new(Setup::Passive, config, |peer| drop(peer.receive(CodecName::Vp8)));
        if connected {
            world.run(Duration::from_secs(20));
            assert_eq!(world.events(), [PeerEvent::Connected]);
        }
        world.lose = usize::MAX;
        world.run(Duration::from_secs(20));
        let events = format!("{:?}", world.events());
        assert!(events.contains(expected), "{events}");
        assert_eq!(world.peer.poll_timeout(), None);
    }
}

#[test]
fn random_bytes_are_dropped_and_change_nothing() {
    let mut world = World::new(Setup::Passive, config(), |peer| drop(peer.receive(CodecName::Vp8)));
    world.run(Duration::from_millis(400));
    let mut rng = SmallRng::seed_from_u64(9);
    for n in 0..20_000_usize {
        let mut bytes: Vec<u8> = (0..n % 80).map(|_| rng.random()).collect();
        if let Some(first) = bytes.first_mut() {
            *first = [0, 22, 0x80, 0x90][n % 4];
        }
        // Only DTLS takes what it then ignores.
        let handled = world.peer.handle_datagram(world.now, &mut bytes, &mut world.peer_out);
        assert!(!matches!(handled, Ok(Handled::Rtp(_))));
    }
    assert!(world.peer.is_connected() && world.peer.streams().is_empty());
}
