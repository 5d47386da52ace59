//! Against `webrtc-dtls` over loopback sockets, and what it makes of the keys in `webrtc-srtp`.

use tokio::net::UdpSocket;
use webrtc_dtls::config::{Config, ExtendedMasterSecretType};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Theirs;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util_dtls::KeyingMaterialExporter;

use super::*;

/// The client's handshake; its connection and the exported keying material.
async fn connect(
    socket: UdpSocket,
    certificate: webrtc_dtls::crypto::Certificate,
    profile: Theirs,
) -> (DTLSConn, Vec<u8>) {
    let config = Config {
        certificates: vec![certificate],
        extended_master_secret: ExtendedMasterSecretType::Require,
        srtp_protection_profiles: vec![profile],
        insecure_skip_verify: true,
        ..Config::default()
    };
    let connection = DTLSConn::new(Arc::new(socket), config, true, None).await.unwrap();
    let len = if profile == Theirs::Srtp_Aes128_Cm_Hmac_Sha1_80 { 60 } else { 56 };
    let state = connection.connection_state().await;
    let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], len).await.unwrap();
    (connection, material)
}

/// Carries datagrams between the socket and the transport for as long as it is polled.
async fn pump(socket: &UdpSocket, transport: &mut Transport, until: TransportEventKind) {
    let (mut buf, mut scratch, mut out) = ([0; 2048], vec![0; SCRATCH], SendBatch::new(1 << 16, 64));
    loop {
        let (len, from) = socket.recv_from(&mut buf).await.unwrap();
        let now = Instant::now();
        let event = transport.handle_dtls(now, from, &buf[..len], &mut scratch, &mut out).unwrap_or_default();
        for (to, datagram) in out.iter() {
            socket.send_to(datagram, to).await.unwrap();
        }
        out.clear();
        match (event, until) {
            (Some(TransportEvent::Connected), TransportEventKind::Connected) => return,
            (Some(TransportEvent::Closed(_)), TransportEventKind::Closed) => return,
            (None, _) => {}
            (Some(event), _) => panic!("{event:?}"),
        }
    }
}

#[derive(Clone, Copy)]
enum TransportEventKind {
    Connected,
    Closed,
}

#[tokio::test]
async fn webrtc_dtls_connects_and_its_keys_open_our_packets() {
    for (theirs, ours, reference) in [
        (Theirs::Srtp_Aead_Aes_128_Gcm, SrtpProfile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
        (Theirs::Srtp_Aes128_Cm_Hmac_Sha1_80, SrtpProfile::Aes128CmHmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
    ] {
        let certificate = webrtc_dtls::crypto::Certificate::generate_self_signed(vec!["client".into()]).unwrap();
        let fingerprint = Fingerprint::sha256(&certificate.certificate[0]);
        let (server, client) = sockets().await;
        let config = TransportConfig::new(Certificate::generate().unwrap());
        let address = client.local_addr().unwrap();
        let mut transport = transport(Instant::now(), &config, address, fingerprint, DtlsRole::Server);

        let pumped = pump(&server, &mut transport, TransportEventKind::Connected);
        let (_, (connection, material)) = tokio::join!(pumped, connect(client, certificate, theirs));

        let keys = SrtpKeys::from_keying_material(ours, &material, true).unwrap();
        assert_media_flows(&mut transport, &keys);
        let mut packet = rtp();
        packet[3] = 8;
        let len = transport.srtp_out().unwrap().protect_rtp(&mut packet, 12, 22, 8);
        let (key_len, salt_len) = (ours.key_len(), ours.salt_len());
        let server_salt = &material[2 * key_len + salt_len..];
        let mut context = Context::new(&material[key_len..2 * key_len], server_salt, reference, None, None).unwrap();
        assert_eq!(context.decrypt_rtp(&packet[..len]).unwrap()[12..], rtp()[12..22]);

        let pumped = pump(&server, &mut transport, TransportEventKind::Closed);
        let (_, closed) = tokio::join!(pumped, connection.close());
        closed.unwrap();
    }
}

/// The server's socket and the client's, connected to it.
async fn sockets() -> (UdpSocket, UdpSocket) {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(server.local_addr().unwrap()).await.unwrap();
    (server, client)
}
