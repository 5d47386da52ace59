//! Against the `openssl` command over loopback sockets: RSA and ECDSA certificates, small datagrams, either role.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use super::*;

/// For how long is waited for whatever comes next.
const PATIENCE: Duration = Duration::from_secs(20);
const KEYS: [(&str, &[&str]); 4] = [
    ("RSA-2048", &["-newkey", "rsa:2048"]),
    ("RSA-3072", &["-newkey", "rsa:3072"]),
    ("P-256", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("P-384", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]),
];
const CM_FIRST: &str = "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM";
const GCM_ONLY: &str = "SRTP_AEAD_AES_128_GCM";

/// False, with a word about it, where there is no OpenSSL: `make test` installs it.
fn is_installed() -> bool {
    let installed = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !installed {
        eprintln!("SKIPPED: there is no openssl command; `make test` installs it, or: apt-get install openssl");
    }
    installed
}

/// Makes a certificate and its key in `folder`; returns the certificate in DER form.
fn make_certificate(folder: &Path, kind: &[&str]) -> Vec<u8> {
    let file = |name: &str| folder.join(name).display().to_string();
    let (key, certificate) = (file("key.pem"), file("certificate.pem"));
    let request =
        ["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=client", "-keyout", &key, "-out", &certificate];
    let made = Command::new("openssl").args(request).args(kind).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    pem::parse(std::fs::read(certificate).unwrap()).unwrap().into_contents()
}

/// A running `openssl`, ended with the test.
struct OpenSsl {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl OpenSsl {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(arguments)
            .args(["-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", "88"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        for stream in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(err)] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// Waits for a line with this text, and returns what comes behind it.
    fn line(&self, text: &str) -> String {
        let mut others = String::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            match line.split_once(text) {
                Some((_, rest)) => return rest.trim().to_owned(),
                None => others += &format!("{line}\n"),
            }
        }
        panic!("openssl never said {text:?}:\n{others}");
    }

    fn keys(&self, profile: SrtpProfile, it_is_client: bool) -> SrtpKeys {
        let hex = self.line("Keying material: ");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let material: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        SrtpKeys::from_keying_material(profile, &material[..profile.keying_material_len()], it_is_client).unwrap()
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This side of a loopback connection.
struct Side {
    socket: UdpSocket,
    config: TransportConfig,
    /// Of this side's datagrams after the end of its handshake, the first ones that are lost.
    lost: usize,
    /// The peer's first last flight is lost.
    misses_finish: bool,
}

impl Side {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self { socket, config: TransportConfig::new(Certificate::generate().unwrap()), lost: 0, misses_finish: false }
    }

    fn port(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    /// Carries datagrams until the transport has come to something.
    fn run(&mut self, fingerprint: Fingerprint, server: Option<SocketAddr>) -> (Transport, TransportEvent) {
        let (mut buf, mut scratch, mut out) = ([0; 2048], vec![0; SCRATCH], SendBatch::new(1 << 16, 64));
        let role = if server.is_some() { DtlsRole::Client } else { DtlsRole::Server };
        let begin = Instant::now();
        let mut transport = server.map(|peer| transport(begin, &self.config, peer, fingerprint, role));
        let mut happened = None;
        while begin.elapsed() < PATIENCE {
            let now = Instant::now();
            if let Some(transport) = &mut transport {
                happened = happened.or(transport.handle_timeout(now, &mut scratch, &mut out));
            }
            if let Ok((len, from)) = self.socket.recv_from(&mut buf) {
                if self.misses_finish && has_change_cipher_spec(&buf[..len]) {
                    self.misses_finish = false;
                    continue;
                }
                let transport =
                    transport.get_or_insert_with(|| super::transport(now, &self.config, from, fingerprint, role));
                let event = transport.handle_dtls(now, from, &buf[..len], &mut scratch, &mut out);
                happened = happened.or(event.ok().flatten());
            }
            let complete = happened.is_some();
            for (to, datagram) in out.iter() {
                let lost = complete && self.lost > 0;
                self.lost -= usize::from(lost);
                if !lost {
                    self.socket.send_to(datagram, to).unwrap();
                }
            }
            out.clear();
            if complete && self.lost == 0 {
                return (transport.unwrap(), happened.unwrap());
            }
        }
        panic!("nothing happened for {PATIENCE:?}: {transport:?}");
    }

    /// Goes on for a while, for a peer that repeats its last flight.
    fn answer_once(&self, transport: &mut Transport) {
        let (mut buf, mut scratch, mut out) = ([0; 2048], vec![0; SCRATCH], SendBatch::new(1 << 16, 64));
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && out.is_empty() {
            if let Ok((len, from)) = self.socket.recv_from(&mut buf) {
                let event = transport.handle_dtls(Instant::now(), from, &buf[..len], &mut scratch, &mut out);
                assert!(matches!(event, Ok(None) | Err(_)), "{event:?}");
            }
        }
        out.iter().for_each(|(to, datagram)| assert!(self.socket.send_to(datagram, to).is_ok()));
    }
}

/// Whether one of the records is a ChangeCipherSpec.
fn has_change_cipher_spec(mut datagram: &[u8]) -> bool {
    while let Some(header) = datagram.first_chunk::<13>() {
        if header[0] == 20 {
            return true;
        }
        let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
        datagram = datagram.get(13 + len..).unwrap_or_default();
    }
    false
}

const CREDENTIALS: [&str; 4] = ["-cert", "certificate.pem", "-key", "key.pem"];

/// `openssl` as the client of `side`.
fn client(folder: &Path, side: &Side, more: &[&str]) -> OpenSsl {
    let port = side.port();
    OpenSsl::start(folder, &[&["s_client", "-dtls1_2", "-connect", &port], more].concat())
}

/// `openssl` as a server, and its address.
fn server(folder: &Path, more: &[&str]) -> (OpenSsl, SocketAddr) {
    let arguments = ["s_server", "-dtls1_2", "-accept", "127.0.0.1:0", "-Verify", "1"];
    let openssl = OpenSsl::start(folder, &[&arguments[..], more].concat());
    let address = openssl.line("ACCEPT ").parse().unwrap();
    (openssl, address)
}

#[test]
fn openssl_connects_as_client_with_every_kind_of_key_and_the_best_profile_is_chosen() {
    if !is_installed() {
        return;
    }
    for (name, kind) in KEYS {
        let folder = tempfile::tempdir().unwrap();
        let der = make_certificate(folder.path(), kind);
        for (profiles, mtu, expected) in [
            (CM_FIRST, "1500", SrtpProfile::AeadAes256Gcm),
            // Its certificate comes in parts.
            (GCM_ONLY, "300", SrtpProfile::AeadAes128Gcm),
        ] {
            let mut side = Side::new();
            let openssl =
                client(folder.path(), &side, &[&CREDENTIALS[..], &["-use_srtp", profiles, "-mtu", mtu]].concat());
            let (mut transport, event) = side.run(Fingerprint::sha256(&der), None);
            assert_eq!(event, TransportEvent::Connected, "{name}");
            assert_eq!(transport.srtp_out().unwrap().profile(), expected, "{name}");
            assert_media_flows(&mut transport, &openssl.keys(expected, true));
        }
    }
}

#[test]
fn openssl_connects_as_server_with_every_kind_of_key() {
    if !is_installed() {
        return;
    }
    for (name, kind) in KEYS {
        let folder = tempfile::tempdir().unwrap();
        let der = make_certificate(folder.path(), kind);
        for (profiles, mtu, expected) in
            [(CM_FIRST, "1500", SrtpProfile::Aes128CmHmacSha1_80), (GCM_ONLY, "300", SrtpProfile::AeadAes128Gcm)]
        {
            let mut side = Side::new();
            let more = [&CREDENTIALS[..], &["-use_srtp", profiles, "-mtu", mtu]].concat();
            let (openssl, address) = server(folder.path(), &more);
            let (mut transport, event) = side.run(Fingerprint::sha256(&der), Some(address));
            assert_eq!(event, TransportEvent::Connected, "{name}");
            assert_media_flows(&mut transport, &openssl.keys(expected, false));
        }
    }
}

#[test]
fn a_lost_last_flight_is_sent_again_when_openssl_repeats_its_own() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let der = make_certificate(folder.path(), KEYS[0].1);
    let mut side = Side { lost: 1, ..Side::new() };
    let openssl = client(folder.path(), &side, &[&CREDENTIALS[..], &["-use_srtp", CM_FIRST]].concat());
    let (mut transport, event) = side.run(Fingerprint::sha256(&der), None);
    assert_eq!(event, TransportEvent::Connected);
    side.answer_once(&mut transport);
    assert_media_flows(&mut transport, &openssl.keys(SrtpProfile::AeadAes256Gcm, true));
}

#[test]
fn the_last_flight_of_an_openssl_server_that_was_lost_is_asked_for_again() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let der = make_certificate(folder.path(), KEYS[0].1);
    let mut side = Side { misses_finish: true, ..Side::new() };
    let (openssl, address) = server(folder.path(), &[&CREDENTIALS[..], &["-use_srtp", GCM_ONLY]].concat());
    let (mut transport, event) = side.run(Fingerprint::sha256(&der), Some(address));
    assert_eq!(event, TransportEvent::Connected);
    assert_media_flows(&mut transport, &openssl.keys(SrtpProfile::AeadAes128Gcm, false));
}

#[test]
fn openssl_is_told_with_an_alert_why_a_handshake_fails() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let der = make_certificate(folder.path(), KEYS[0].1);
    let with_srtp = [&CREDENTIALS[..], &["-use_srtp", CM_FIRST]].concat();
    let (right, other) = (Fingerprint::sha256(&der), Fingerprint::sha256(b"another certificate"));
    let cbc = [&with_srtp[..], &["-cipher", "ECDHE-ECDSA-AES256-SHA"]].concat();
    for (more, fingerprint, reason, alert) in [
        (&with_srtp[..], other, "not the one of its offer", "SSL alert number 42"),
        (&CREDENTIALS[..], right, "no common SRTP profile", "SSL alert number 40"),
        (&["-use_srtp", CM_FIRST][..], right, "has shown no certificate", "SSL alert number 41"),
        (&cbc[..], right, "no common cipher suite", "SSL alert number 71"),
    ] {
        let mut side = Side::new();
        let openssl = client(folder.path(), &side, more);
        let (_, event) = side.run(fingerprint, None);
        assert!(matches!(&event, TransportEvent::Failed(why) if why.contains(reason)), "{event:?}");
        openssl.line(alert);
    }
    let mut side = Side::new();
    let (openssl, address) = server(folder.path(), &with_srtp);
    let (_, event) = side.run(other, Some(address));
    assert!(matches!(&event, TransportEvent::Failed(why) if why.contains("not the one of its offer")), "{event:?}");
    openssl.line("SSL alert number 42");
}
