//! DTLS: records from anybody to associations in every state.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use moonring_wire::transport::dtls::{Certificate, Dtls, DtlsEvent, DtlsRole, DtlsTerms, DtlsVersions, SCRATCH};
use moonring_wire::transport::srtp::SrtpProfile;

use super::{Parts, joined};

/// Datagrams to a server and a client that have just begun, and to both after their handshake: that one holds.
pub(super) fn dtls(bytes: &[u8]) {
    let mut scratch = vec![0; SCRATCH];
    let mut now = Instant::now();
    for role in [DtlsRole::Server, DtlsRole::Client] {
        let mut side = side(now, role);
        for part in Parts(bytes) {
            now += Duration::from_millis(100);
            side.handle_timeout(now);
            let _ = side.handle_packet(now, part);
            while side.poll(&mut scratch, |_| {}).is_some() {}
        }
    }
    let (mut server, mut client) = connected(now, &mut scratch);
    for part in Parts(bytes) {
        for side in [&mut server, &mut client] {
            let _ = side.handle_packet(now, part);
            assert!(
                side.poll(&mut scratch, |_| {}).is_none() && side.is_connected(),
                "a forged record changed something"
            );
        }
    }
}

/// A whole handshake, the client's and the server's datagrams in turns.
pub(super) fn dtls_seeds() -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    exchange(Instant::now(), &mut vec![0; SCRATCH], |datagram| sent.push(datagram.to_vec()));
    let every = |n: usize| joined(sent.iter().skip(n).step_by(2).map(Vec::as_slice));
    let alert = [21, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40];
    vec![joined(sent.iter().map(Vec::as_slice)), every(0), every(1), joined([&alert[..], &sent[0]])]
}

fn side(now: Instant, role: DtlsRole) -> Dtls {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    let certificate = CERTIFICATE.get_or_init(|| Certificate::generate().expect("a certificate"));
    let (versions, profiles) = (DtlsVersions::default(), SrtpProfile::ALL.to_vec());
    Dtls::new(now, certificate, DtlsTerms { role, versions, profiles, fingerprint: certificate.fingerprint() })
}

fn connected(now: Instant, scratch: &mut [u8]) -> (Dtls, Dtls) {
    exchange(now, scratch, |_| {})
}

/// A server and a client after their handshake.
fn exchange(now: Instant, scratch: &mut [u8], mut see: impl FnMut(&[u8])) -> (Dtls, Dtls) {
    let (mut server, mut client) = (side(now, DtlsRole::Server), side(now, DtlsRole::Client));
    client.handle_timeout(now);
    for _ in 0..8 {
        deliver(now, &mut client, &mut server, scratch, &mut see);
        deliver(now, &mut server, &mut client, scratch, &mut see);
    }
    assert!(server.is_connected() && client.is_connected());
    (server, client)
}

fn deliver(now: Instant, from: &mut Dtls, to: &mut Dtls, scratch: &mut [u8], see: &mut impl FnMut(&[u8])) {
    let mut datagrams = Vec::new();
    while let Some(event) = from.poll(scratch, |datagram| datagrams.push(datagram.to_vec())) {
        assert!(matches!(event, DtlsEvent::Connected(_)), "{event:?}");
    }
    for datagram in datagrams {
        see(&datagram);
        to.handle_packet(now, &datagram).expect("a datagram of the other side");
    }
}
