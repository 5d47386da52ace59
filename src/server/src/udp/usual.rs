//! Which address the kernel sends from by itself. Naming it with each send costs a control message, so it is named only
//! where it is another one that was asked: a floating address, a second address, one of several interfaces.

use std::net::{IpAddr, Ipv4Addr};

use moonring_wire::packet::{AddressPair, Local};

/// What is known of this machine's addresses from when its sockets were bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsualSources {
    /// The only IPv4 address beside the loopback's, if there is only one.
    only_v4: Option<Ipv4Addr>,
}

impl UsualSources {
    pub(super) fn of_this_machine() -> Self {
        let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
        let addresses = interfaces.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
        Self::of(addresses)
    }

    fn of(addresses: impl Iterator<Item = Ipv4Addr>) -> Self {
        let mut others = addresses.filter(|ip| !ip.is_loopback());
        let first = others.next();
        Self { only_v4: first.filter(|_| others.next().is_none()) }
    }

    /// The pair without its local address where the kernel would take that one anyway.
    pub(super) fn without(self, pair: AddressPair) -> AddressPair {
        let is_usual = match pair.local {
            Local::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)) => pair.remote.ip().is_loopback(),
            Local::Address(IpAddr::V4(local)) => Some(local) == self.only_v4 && !pair.remote.ip().is_loopback(),
            Local::Address(IpAddr::V6(local)) => local.is_loopback(),
            Local::Any | Local::Connection(_) => return pair,
        };
        if is_usual { pair.remote.into() } else { pair }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_unless_the_kernel_takes_it_anyway() {
        let one = ["127.0.0.1", "10.0.0.5"];
        let two = ["127.0.0.1", "10.0.0.5", "10.0.0.6"];
        for (addresses, remote, local, named) in [
            (&one[..], "203.0.113.9:1", "10.0.0.5", false),
            // Came later: a floating address.
            (&one, "203.0.113.9:1", "10.0.0.9", true),
            (&one, "127.0.0.1:1", "127.0.0.1", false),
            (&one, "127.0.0.1:1", "127.0.0.2", true),
            (&one, "10.0.0.5:1", "127.0.0.1", true),
            (&one, "127.0.0.1:1", "10.0.0.5", true),
            (&two, "203.0.113.9:1", "10.0.0.5", true),
            (&two, "203.0.113.9:1", "10.0.0.6", true),
            (&one, "[2001:db8::9]:1", "2001:db8::5", true),
            (&one, "[::1]:1", "::1", false),
        ] {
            let usual = UsualSources::of(addresses.iter().map(|ip| ip.parse().unwrap()));
            let local = Local::Address(local.parse().unwrap());
            let pair = AddressPair { remote: remote.parse().unwrap(), local };
            let expected = if named { pair } else { pair.remote.into() };
            assert_eq!(usual.without(pair), expected, "{addresses:?} {pair:?}");
        }
    }
}
