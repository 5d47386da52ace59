//! Requests over TLS: whose certificate is good enough, and where a redirect from there may lead.

use axum_server::tls_rustls::RustlsConfig;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;
use crate::signal::tls::{install_crypto_provider, server_config};

/// The decision service of these tests; every name leads to loopback.
const NAME: &str = "decide.example.com";

/// An authority of the operator's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate with its key, for `name`.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A server with that certificate; `/to/<port>` redirects from it to other places.
async fn secure_server((certificate, key): &(String, String)) -> u16 {
    install_crypto_provider();
    let redirect = |to: String| (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]);
    let router = Router::new()
        .route("/echo", any(|body: String| async move { format!("heard {body}") }))
        .route("/metadata", any(move || async move { redirect("https://169.254.169.254/latest".into()) }))
        .route(
            "/inner/{port}",
            any(move |Path(port): Path<u16>| async move { redirect(format!("http://inner.example.com:{port}/echo")) }),
        )
        .route(
            "/plain/{port}",
            any(move |Path(port): Path<u16>| async move { redirect(format!("http://{NAME}:{port}/echo")) }),
        );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
    let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(tls))).unwrap();
    tokio::spawn(server.serve(router.into_make_service()));
    port
}

/// A service that may ask the names of these tests, and trusts the authorities in `pem`; of all addresses it may reach,
/// only loopback is listed.
fn trusting(pem: Option<&str>) -> HttpService {
    install_crypto_provider();
    let allow: Vec<String> = [NAME, "inner.example.com", "127.0.0.1:1"].map(str::to_owned).into();
    let own = pem.map(|pem| Authorities::of_pem(pem.as_bytes()).unwrap()).unwrap_or_default();
    let lookup: Lookup = Arc::new(|name| {
        let found = if name == NAME { "127.0.0.1" } else { "10.0.0.9" };
        Box::pin(async move { Ok(vec![found.parse().unwrap()]) })
    });
    HttpService::with_lookup(AllowList::parse(&allow).unwrap(), &own, lookup)
}

async fn asked(service: &HttpService, port: u16, path: &str) -> Result<(u16, String), String> {
    let mut post = request("POST", format!("https://{NAME}:{port}/{path}"));
    post.body = b"secret".into();
    text(service, post).await
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_refused_with_what_is_wrong_with_it() {
    let own = Authority::new("own");
    let stranger = Authority::new("stranger");
    let self_signed = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let self_signed = (self_signed.cert.pem(), self_signed.signing_key.serialize_pem());
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2999, 1, 1);
    let heard = Ok("heard secret");
    for (what, certificate, trusted, expected) in [
        ("of our authority", own.sign(NAME, |_| ()), Some(&own.pem), heard),
        ("self-signed, and trusted itself", self_signed.clone(), Some(&self_signed.0), heard),
        ("self-signed", self_signed.clone(), None, Err("UnknownIssuer")),
        ("self-signed, another trusted", self_signed.clone(), Some(&own.pem), Err("UnknownIssuer")),
        ("nobody trusted", own.sign(NAME, |_| ()), None, Err("UnknownIssuer")),
        ("of another authority", stranger.sign(NAME, |_| ()), Some(&own.pem), Err("UnknownIssuer")),
        ("for another name", own.sign("other.example.com", |_| ()), Some(&own.pem), Err("not valid for name")),
        ("expired", own.sign(NAME, expired), Some(&own.pem), Err("certificate expired")),
        ("of the future", own.sign(NAME, early), Some(&own.pem), Err("certificate not valid yet")),
    ] {
        let port = secure_server(&certificate).await;
        let answer = asked(&trusting(trusted.map(String::as_str)), port, "echo").await;
        match (&answer, expected) {
            (Ok((200, text)), Ok(expected)) if text == expected => {}
            (Err(words), Err(expected)) if words.contains("invalid peer certificate: ") && words.contains(expected) => {
            }
            _ => panic!("{what}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_redirect_from_https_leads_to_no_private_address_and_to_no_unlisted_one() {
    let own = Authority::new("own");
    let port = secure_server(&own.sign(NAME, |_| ())).await;
    let plain = server().await.port();
    let service = trusting(Some(&own.pem));
    for (path, expected) in [
        ("metadata".to_owned(), "169.254.169.254:443 is not listed in http_allow"),
        (
            format!("inner/{plain}"),
            "inner.example.com leads to 10.0.0.9, which is not public and not listed in http_allow",
        ),
    ] {
        let words = asked(&service, port, &path).await.unwrap_err();
        assert!(words.ends_with(expected), "{path}: {words}");
    }
    // To where it may go, it is followed, with the body: also to plain http, as the script could ask there itself.
    assert_eq!(asked(&service, port, &format!("plain/{plain}")).await, Ok((200, "POST - - secret".into())));
}

#[tokio::test]
async fn plain_http_at_a_port_of_tls_and_the_reverse_are_errors_not_hangs() {
    let own = Authority::new("own");
    let (secure, plain) = (secure_server(&own.sign(NAME, |_| ())).await, server().await.port());
    let service = trusting(Some(&own.pem));
    for url in [format!("http://{NAME}:{secure}/echo"), format!("https://{NAME}:{plain}/echo")] {
        let words = text(&service, request("GET", url.clone())).await.unwrap_err();
        assert!(!words.contains("timed out") && !words.contains(NAME), "{url}: {words}");
    }
}
