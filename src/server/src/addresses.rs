//! Where clients are told to send media to.

use std::net::IpAddr;

/// The addresses for candidates: `announced` where given; else those of `bound`, where an unspecified one stands for
/// all of `own` of its family. Loopback and link-local addresses are left out of `own` unless there are no others.
pub(crate) fn candidates(bound: &[IpAddr], announced: &[IpAddr], own: &[IpAddr]) -> Vec<IpAddr> {
    if !announced.is_empty() {
        return announced.to_vec();
    }
    let mut found = Vec::new();
    for ip in bound {
        if ip.is_unspecified() {
            let same_family = own.iter().filter(|o| o.is_ipv4() == ip.is_ipv4());
            found.extend(same_family.filter(|o| !o.is_loopback() && !is_link_local(o)).copied());
        } else {
            found.push(*ip);
        }
    }
    if found.is_empty() {
        let unspecified = |o: &&IpAddr| bound.iter().any(|b| b.is_ipv4() == o.is_ipv4());
        found.extend(own.iter().filter(|o| o.is_loopback()).filter(unspecified).copied());
    }
    found.dedup();
    found
}

/// Addresses that mean nothing without the name of an interface.
fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The addresses of this machine's interfaces that are up.
pub(crate) fn own() -> std::io::Result<Vec<IpAddr>> {
    let up = nix::net::if_::InterfaceFlags::IFF_UP;
    let interfaces = nix::ifaddrs::getifaddrs()?.filter(|interface| interface.flags.contains(up));
    Ok(interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_what_is_announced_else_what_is_bound_else_the_machines_own() {
        let ips = |text: &str| text.split_whitespace().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let own = "127.0.0.1 ::1 192.0.2.2 fe80::1 2001:db8::2";
        for (bound, announced, own, expected) in [
            ("0.0.0.0 ::", "", own, "192.0.2.2 2001:db8::2"),
            ("0.0.0.0", "", own, "192.0.2.2"),
            ("0.0.0.0 ::", "198.51.100.7", own, "198.51.100.7"),
            ("127.0.0.1", "", own, "127.0.0.1"),
            ("::1", "", own, "::1"),
            ("0.0.0.0", "", "127.0.0.1 ::1", "127.0.0.1"),
            ("0.0.0.0 ::", "", "127.0.0.1 ::1", "127.0.0.1 ::1"),
        ] {
            assert_eq!(candidates(&ips(bound), &ips(announced), &ips(own)), ips(expected), "{bound} {announced} {own}");
        }
    }

    #[test]
    fn this_machine_has_an_address_of_its_own() {
        assert!(own().unwrap().iter().any(IpAddr::is_loopback));
    }
}
