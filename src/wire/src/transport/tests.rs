//! Whole handshakes: against `dimpl` on virtual time here, against `webrtc-dtls` in `foreign`, against OpenSSL in
//! `openssl`.

mod foreign;
mod forged;
mod handshake;
mod moved;
mod mutated;
mod openssl;
mod ours;

use std::net::SocketAddr;
use std::sync::Arc;

use dimpl::Output;

use super::dtls::SCRATCH;
use super::ice::tests::nomination;
use super::srtp::SrtpKeys;
use super::*;

/// Where the client is.
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50_000);

fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: name.into(), pwd: format!("{name}'s password of 22 characters") }
}

/// A transport whose client is `fingerprint`'s owner, with `client` validated.
fn transport(
    now: Instant,
    config: &TransportConfig,
    client: SocketAddr,
    fingerprint: Fingerprint,
    role: DtlsRole,
) -> Transport {
    let (local, remote) = (credentials("server"), credentials("client"));
    let check = nomination("server:client", &local.pwd);
    let mut transport = Transport::new(now, config, local, remote, fingerprint, role);
    let mut out = SendBatch::new(2_000, 1);
    assert_eq!(
        transport.handle_stun(now, client, &stun::parse(&check).unwrap(), &mut out),
        Ok(IceEvent::Selected(client.into()))
    );
    assert_eq!(out.datagrams(), 1);
    transport
}

/// The combinations of library, version and side that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// This side is the server, by `rtc-dtls`.
    Rtc,
    /// This side sends the ClientHello, by `rtc-dtls`.
    RtcClient,
    /// By `dimpl` with DTLS 1.2.
    Dimpl12,
    /// By `dimpl` with DTLS 1.3.
    Dimpl13,
}

impl Case {
    const ALL: [Self; 4] = [Self::Rtc, Self::RtcClient, Self::Dimpl12, Self::Dimpl13];

    fn role(self) -> DtlsRole {
        if self == Self::RtcClient { DtlsRole::Client } else { DtlsRole::Server }
    }
}

/// The client: somebody with a certificate and DTLS.
struct Client {
    dtls: dimpl::Dtls,
    keys: Option<SrtpKeys>,
    closed: bool,
    next_timeout: Option<Instant>,
    active: bool,
    /// Alerts in the clear that it was sent.
    alerts: Vec<u8>,
    /// Its datagrams so far.
    sent: Vec<Vec<u8>>,
}

/// Transport and client with a network between them that can lose datagrams.
struct World {
    now: Instant,
    transport: Transport,
    client: Client,
    events: Vec<TransportEvent>,
    scratch: Vec<u8>,
    out: SendBatch,
    /// Datagrams so far, either way, and those of them that are lost.
    count: usize,
    lost: Vec<usize>,
    /// Those of them that come twice.
    twice: Vec<usize>,
    /// Those that come later than what is sent meanwhile, and by how much.
    late: Vec<(usize, Duration)>,
    /// On their way, and when they come.
    held: Vec<(Instant, Way, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl World {
    fn new(case: Case) -> Self {
        Self::with_fingerprint(case, Fingerprint::sha256)
    }

    /// `announce` says which fingerprint the client's offer has for its certificate.
    fn with_fingerprint(case: Case, announce: impl Fn(&[u8]) -> Fingerprint) -> Self {
        let config = TransportConfig::new(Certificate::generate().unwrap());
        Self::with(case, &config, announce)
    }

    fn with(case: Case, config: &TransportConfig, announce: impl Fn(&[u8]) -> Fingerprint) -> Self {
        let now = Instant::now();
        let own = dimpl::certificate::generate_self_signed_certificate().unwrap();
        let mut transport = transport(now, config, CLIENT, announce(&own.certificate), case.role());
        if case == Case::Dimpl12 {
            transport.dtls.as_mut().unwrap().begin_with_dimpl12(now);
        }
        let theirs = Arc::new(dimpl::Config::default());
        let new = if case == Case::Dimpl13 { dimpl::Dtls::new_13 } else { dimpl::Dtls::new_12 };
        let mut dtls = new(theirs, own, now);
        let active = case.role() == DtlsRole::Server;
        dtls.set_active(active);
        Self {
            now,
            transport,
            client: Client::new(now, dtls, active),
            events: vec![],
            scratch: vec![0; SCRATCH],
            out: SendBatch::new(1 << 20, 1 << 10),
            count: 0,
            lost: vec![],
            twice: vec![],
            late: vec![],
            held: vec![],
        }
    }

    /// Runs until nothing moves for `seconds`, or somebody has come to an end.
    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            let held = self.held.iter().map(|(at, ..)| *at);
            let at = self.transport.poll_timeout().into_iter().chain(self.client.next_timeout).chain(held).min();
            self.now = at.unwrap_or(end).clamp(self.now, end);
            let event = self.transport.handle_timeout(self.now, &mut self.scratch, &mut self.out);
            self.events.extend(event);
            self.client.next_timeout = None;
            let _ = self.client.dtls.handle_timeout(self.now);
            self.exchange();
            // A timer that is due again at once must not hold time up.
            self.now += Duration::from_millis(1);
        }
    }

    /// Carries datagrams to and fro until there are none.
    fn exchange(&mut self) {
        let now = self.now;
        for (_, way, datagram) in self.held.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>() {
            self.arrive(way, &datagram);
        }
        loop {
            let to_server = self.client.poll(&mut self.scratch);
            let to_client = self.sent();
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
            to_server.into_iter().for_each(|datagram| self.carry(Way::ToServer, datagram));
            to_client.into_iter().for_each(|datagram| self.carry(Way::ToClient, datagram));
        }
    }

    fn carry(&mut self, way: Way, datagram: Vec<u8>) {
        let number = self.count;
        self.count += 1;
        if self.lost.contains(&number) {
            return;
        }
        if let Some((_, by)) = self.late.iter().find(|(late, _)| *late == number) {
            return self.held.push((self.now + *by, way, datagram));
        }
        for _ in 0..1 + usize::from(self.twice.contains(&number)) {
            self.arrive(way, &datagram);
        }
    }

    fn arrive(&mut self, way: Way, datagram: &[u8]) {
        match way {
            Way::ToServer => {
                let outcome = self.receive(datagram);
                self.events.extend(outcome.ok().flatten());
            }
            Way::ToClient => self.client.receive(datagram),
        }
    }

    /// Takes what the transport has sent.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let sent = self.out.iter().map(|(_, datagram)| datagram.to_vec()).collect();
        self.out.clear();
        sent
    }

    /// Lets the transport have a datagram.
    fn receive(&mut self, datagram: &[u8]) -> Result<Option<TransportEvent>, DropReason> {
        self.transport.handle_dtls(self.now, CLIENT, datagram, &mut self.scratch, &mut self.out)
    }

    /// Media that the client seals is opened by the transport, and the other way round.
    fn assert_media_flows(&mut self) {
        let keys = self.client.keys.clone().expect("the client has keys");
        assert_media_flows(&mut self.transport, &keys);
    }

    /// The reason of the one event that there was.
    fn failure(&self) -> &str {
        match &self.events[..] {
            [TransportEvent::Failed(reason)] => reason,
            events => panic!("{events:?}"),
        }
    }
}

impl Client {
    fn new(now: Instant, dtls: dimpl::Dtls, active: bool) -> Self {
        Self { dtls, keys: None, closed: false, next_timeout: Some(now), active, alerts: vec![], sent: vec![] }
    }

    fn receive(&mut self, datagram: &[u8]) {
        if let [21, 0xFE, 0xFD, 0, 0, .., 2, description] = datagram {
            self.alerts.push(*description);
        }
        let _ = self.dtls.handle_packet(datagram);
    }

    fn poll(&mut self, scratch: &mut [u8]) -> Vec<Vec<u8>> {
        let mut datagrams = vec![];
        loop {
            match self.dtls.poll_output(scratch) {
                Output::Packet(datagram) => datagrams.push(datagram.to_vec()),
                Output::KeyingMaterial(material, dimpl::SrtpProfile::AEAD_AES_256_GCM) => {
                    self.keys = SrtpKeys::from_keying_material(SrtpProfile::AeadAes256Gcm, &material, self.active);
                }
                Output::CloseNotify => self.closed = true,
                Output::Timeout(at) => {
                    self.next_timeout = Some(at);
                    self.sent.extend_from_slice(&datagrams);
                    return datagrams;
                }
                _ => {}
            }
        }
    }
}

/// An RTP packet of ten bytes of payload, and room for the tag.
fn rtp() -> [u8; 22 + srtp::MAX_RTP_OVERHEAD] {
    let mut packet = [0; 22 + srtp::MAX_RTP_OVERHEAD];
    packet[..12].copy_from_slice(&[0x80, 96, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9]);
    packet[12..22].copy_from_slice(b"ten  bytes");
    packet
}

/// When and where from a packet came that is opened.
fn heard() -> (Instant, SocketAddr) {
    (Instant::now(), ([192, 0, 2, 1], 1).into())
}

/// With the client's keys: what it seals is opened here, what is sealed here it opens.
fn assert_media_flows(transport: &mut Transport, client: &SrtpKeys) {
    let theirs = SrtpOut::new(client.profile, &client.local);
    let mut packet = rtp();
    let len = theirs.protect_rtp(&mut packet, 12, 22, 7);
    assert_eq!(transport.unprotect_rtp(heard(), &mut packet[..len], 12, 9, 7), Ok((22, 7)));
    assert_eq!(packet[..22], rtp()[..22]);

    let mut packet = rtp();
    let len = transport.srtp_out().expect("connected").protect_rtp(&mut packet, 12, 22, 7);
    assert_ne!(packet[12..22], rtp()[12..22]);
    let mut incoming = SrtpIn::new(client.profile, &client.remote, 1);
    assert_eq!(incoming.unprotect_rtp(&mut packet[..len], 12, 9, 7), Ok((22, 7)));
    assert_eq!(packet[..22], rtp()[..22]);
}
