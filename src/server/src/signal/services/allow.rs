//! Where scripts may connect to: hosts that the operator listed, at addresses that are public or listed themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use reqwest::Url;

/// The hosts and addresses of `http_allow`.
#[derive(Clone, Debug, Default)]
pub(in crate::signal) struct AllowList {
    names: Vec<(String, Option<u16>)>,
    networks: Vec<(IpNet, Option<u16>)>,
}

/// An entry of `http_allow` that is neither a host nor a network.
#[derive(Debug, thiserror::Error)]
#[error("http_allow: {0:?} is not a host; write auth.example.com, 10.0.0.7:8443, [::1]:80 or 10.0.0.0/8")]
pub(in crate::signal) struct AllowError(String);

/// Why a script may not ask for a URL, in words for the script.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAllowed {
    #[error("{0}: only http and https are spoken")]
    Scheme(String),
    #[error("the URL names no host")]
    NoHost,
    #[error("{0}:{1} is not listed in http_allow")]
    Host(String, u16),
}

impl AllowList {
    /// Reads entries: `host`, `host:port`, `10.0.0.7`, `10.0.0.7:8443`, `[::1]:80`, `10.0.0.0/8`. Without a port, every
    /// port is allowed. An address or network also allows listed names to resolve into it.
    pub(in crate::signal) fn parse(entries: &[String]) -> Result<Self, AllowError> {
        let mut list = Self::default();
        for entry in entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()) {
            list.add(entry).ok_or_else(|| AllowError(entry.to_owned()))?;
        }
        Ok(list)
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        if let Some(network) = network(entry) {
            self.networks.push((network, None));
            return Some(());
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Some(network) = network(address) {
            self.networks.push((network, port));
            return Some(());
        }
        let character = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(character) {
            return None;
        }
        self.names.push((name, port));
        Some(())
    }

    /// Whether nothing is allowed.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.networks.is_empty()
    }

    /// Whether a script may ask for this URL; where a name leads is for [`AllowList::leads_to`].
    pub(super) fn check(&self, url: &Url) -> Result<(), NotAllowed> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NotAllowed::Scheme(url.scheme().to_owned()));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(NotAllowed::NoHost);
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let fits = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        let allowed = match bare.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                self.networks.iter().any(|(network, wanted)| network.contains(&ip) && fits(wanted))
            }
            Err(_) => {
                let name = host.trim_end_matches('.').to_ascii_lowercase();
                self.names.iter().any(|(listed, wanted)| *listed == name && fits(wanted))
            }
        };
        if allowed { Ok(()) } else { Err(NotAllowed::Host(host.to_owned(), port)) }
    }

    /// Whether a listed name may lead to this address: a public one, a listed one, or loopback for `localhost`.
    pub(super) fn leads_to(&self, name: &str, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let is_localhost = name.trim_end_matches('.').eq_ignore_ascii_case("localhost");
        is_public(ip)
            || (is_localhost && ip.is_loopback())
            || self.networks.iter().any(|(network, _)| network.contains(&ip))
    }
}

/// A network, or an address alone. IPv4 addresses in IPv6's clothes (`::ffff:10.0.0.7`) are IPv4 addresses.
fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(ip.to_canonical().into()),
        Err(_) => text.parse().ok(),
    }
}

/// Whether an address is one of the public internet (IANA's special-purpose registries, RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, ..) | (169, 254, _) | (192, 168, _) | (192, 0, 0 | 2) | (192, 88, 99) => true,
        (198, 51, 100) | (203, 0, 113) => true,
        (100, 64..=127, _) | (172, 16..=31, _) | (198, 18 | 19, _) => true,
        (a, ..) => a >= 224,
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, ..] = ip.segments();
    let [.., high, low] = ip.segments();
    let embedded = |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address inside.
        (0x64, 0xff9b) if ip.segments()[2..6] == [0; 4] => embedded(high, low),
        (0x2002, _) => embedded(b, c),
        (0x2001, 0..=0x1ff | 0xdb8) => false,
        // Global unicast; all else is local, multicast or reserved.
        _ => (0x2000..=0x3ffe).contains(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AllowList {
        AllowList::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_listed_hosts_and_ports_are_allowed() {
        let list =
            list(&["Auth.example.com", "api.example.com:8443", "10.0.0.7:80", "[::1]:9", "172.16.0.0/12", "fd00::5"]);
        for (url, allowed) in [
            ("https://auth.example.com/x", true),
            ("http://AUTH.example.com.:81/x", true),
            ("https://evil-auth.example.com/", false),
            ("https://auth.example.com.evil.net/", false),
            ("https://auth.example.com@evil.net/", false),
            ("https://api.example.com:8443/", true),
            ("https://api.example.com/", false),
            ("http://10.0.0.7/", true),
            ("http://10.0.0.7:81/", false),
            ("http://0xa.7/", true), // 10.0.0.7, as browsers and this parser read it
            ("http://2130706433/", false),
            ("http://[::ffff:10.0.0.7]/", true),
            ("http://[::1]:9/", true),
            ("http://[::1]/", false),
            ("http://172.31.255.255:5/", true),
            ("http://172.32.0.0/", false),
            ("http://[fd00::5]/", true),
            ("http://93.184.216.34/", false),
            ("ftp://auth.example.com/", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(list.check(&Url::parse(url).unwrap()).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn a_name_may_lead_to_public_and_listed_addresses_only() {
        let listed = list(&["auth.example.com", "localhost", "10.1.0.0/16"]);
        for (name, ip, allowed) in [
            ("auth.example.com", "93.184.216.34", true),
            ("auth.example.com", "2606:2800:220:1::1", true),
            ("auth.example.com", "10.1.2.3", true),
            ("auth.example.com", "::ffff:10.1.2.3", true),
            ("auth.example.com", "10.2.0.1", false),
            ("auth.example.com", "127.0.0.1", false),
            ("auth.example.com", "::ffff:127.0.0.1", false),
            ("auth.example.com", "::1", false),
            ("auth.example.com", "0.0.0.0", false),
            ("auth.example.com", "169.254.169.254", false),
            ("auth.example.com", "100.64.0.1", false),
            ("auth.example.com", "172.20.0.1", false),
            ("auth.example.com", "192.168.0.1", false),
            ("auth.example.com", "224.0.0.1", false),
            ("auth.example.com", "255.255.255.255", false),
            ("auth.example.com", "fe80::1", false),
            ("auth.example.com", "fd00::1", false),
            ("auth.example.com", "ff02::1", false),
            ("auth.example.com", "64:ff9b::a00:1", false),
            ("auth.example.com", "2002:7f00:1::", false),
            ("auth.example.com", "::127.0.0.1", false),
            ("localhost", "127.0.0.1", true),
            ("localhost", "::1", true),
            ("localhost", "10.2.0.1", false),
        ] {
            assert_eq!(listed.leads_to(name, ip.parse().unwrap()), allowed, "{name} {ip}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_at_the_start() {
        for entry in
            ["https://a.example", "a.example:99999", "a.example/x", "10.0.0.0/33", "*.example.com", ":80", "a b"]
        {
            assert!(AllowList::parse(&[entry.to_owned()]).is_err(), "{entry}");
        }
        assert!(AllowList::parse(&[" ".to_owned()]).unwrap().is_empty());
    }
}
