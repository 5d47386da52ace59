//! Whole handshakes: against `dimpl` on virtual time here, against `webrtc-dtls` in `foreign`.

mod foreign;
mod handshake;

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

/// A transport whose client is `fingerprint`'s owner, with `CLIENT` validated.
fn transport(now: Instant, config: &TransportConfig, fingerprint: Fingerprint, role: DtlsRole) -> Transport {
    let (local, remote) = (credentials("server"), credentials("client"));
    let check = nomination("server:client", &local.pwd);
    let mut transport = Transport::new(now, config, local, remote, fingerprint, role);
    let mut out = SendBatch::new(2_000, 1);
    assert_eq!(
        transport.handle_stun(now, CLIENT, &stun::parse(&check).unwrap(), &mut out),
        Ok(IceEvent::Selected(CLIENT))
    );
    assert_eq!(out.datagrams(), 1);
    transport
}

/// The client: somebody with a certificate and DTLS.
struct Client {
    dtls: dimpl::Dtls,
    keys: Option<SrtpKeys>,
    closed: bool,
    next_timeout: Option<Instant>,
    active: bool,
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
}

impl World {
    fn new(versions: DtlsVersions, role: DtlsRole) -> Self {
        Self::with_fingerprint(versions, role, |fingerprint| fingerprint)
    }

    /// `announce` says which fingerprint the client's offer has.
    fn with_fingerprint(versions: DtlsVersions, role: DtlsRole, announce: impl Fn(Fingerprint) -> Fingerprint) -> Self {
        let now = Instant::now();
        let own = dimpl::certificate::generate_self_signed_certificate().unwrap();
        let fingerprint = announce(Fingerprint(own.fingerprint().try_into().unwrap()));
        let config = TransportConfig { versions, ..TransportConfig::new(Certificate::generate().unwrap()) };
        let theirs = Arc::new(dimpl::Config::default());
        let mut dtls = match versions {
            DtlsVersions::V12 => dimpl::Dtls::new_12(theirs, own, now),
            DtlsVersions::V12AndV13 => dimpl::Dtls::new_auto(theirs, own, now),
        };
        let active = role == DtlsRole::Server;
        dtls.set_active(active);
        Self {
            now,
            transport: transport(now, &config, fingerprint, role),
            client: Client { dtls, keys: None, closed: false, next_timeout: Some(now), active },
            events: vec![],
            scratch: vec![0; SCRATCH],
            out: SendBatch::new(1 << 20, 1 << 10),
            count: 0,
            lost: vec![],
        }
    }

    /// Runs until nothing moves for `seconds`, or somebody has come to an end.
    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            let at = self.transport.poll_timeout().into_iter().chain(self.client.next_timeout).min();
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
        loop {
            let to_server = self.client.poll(&mut self.scratch);
            let to_client: Vec<Vec<u8>> = self.out.iter().map(|(_, datagram)| datagram.to_vec()).collect();
            self.out.clear();
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
            for datagram in to_server {
                if self.arrives() {
                    let outcome = self.receive(&datagram);
                    self.events.extend(outcome.ok().flatten());
                }
            }
            for datagram in to_client {
                if self.arrives() {
                    let _ = self.client.dtls.handle_packet(&datagram);
                }
            }
        }
    }

    /// Lets the transport have a datagram.
    fn receive(&mut self, datagram: &[u8]) -> Result<Option<TransportEvent>, DropReason> {
        self.transport.handle_dtls(self.now, CLIENT, datagram, &mut self.scratch, &mut self.out)
    }

    fn arrives(&mut self) -> bool {
        self.count += 1;
        !self.lost.contains(&(self.count - 1))
    }

    /// Media that the client seals is opened by the transport, and the other way round.
    fn assert_media_flows(&mut self) {
        let keys = self.client.keys.clone().expect("the client has keys");
        assert_media_flows(&mut self.transport, &keys);
    }
}

impl Client {
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
