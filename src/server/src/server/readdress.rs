//! Clients are told the addresses that the machine has when they come, not those of the server's start: another lease of
//! DHCP, or an interface that is up later, changes them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::addresses;
use crate::config::Config;
use crate::shard_handle::ShardHandle;
use moonring_core::command::Command;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks at the machine's addresses, and tells the shards of others.
#[derive(Debug)]
pub(super) struct Readdressing {
    /// What the sockets are bound to: others are not told.
    bound: Vec<IpAddr>,
    /// One of each shard.
    ports: Vec<u16>,
    shards: Vec<ShardHandle>,
    /// What clients are told.
    told: Vec<IpAddr>,
}

/// The addresses that sockets are bound to.
pub(super) fn bound(sockets: &[UdpSocket]) -> std::io::Result<Vec<IpAddr>> {
    sockets.iter().map(|socket| Ok(socket.local_addr()?.ip())).collect()
}

impl Readdressing {
    /// Of shards whose sockets are bound to these addresses; `None` where clients are told fixed ones.
    pub(super) fn new(config: &Config, bound: Vec<IpAddr>, shards: Vec<ShardHandle>) -> Option<Self> {
        let is_fixed = !config.announced_ip.is_empty() || !bound.iter().any(IpAddr::is_unspecified);
        let told = addresses::candidates(&bound, &[], &addresses::own().unwrap_or_default());
        let ports = config.media_ports.iter().take(config.shards()).collect();
        (!is_fixed).then_some(Self { bound, ports, shards, told })
    }

    /// Looks for as long as the server runs.
    pub(super) async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match addresses::own() {
                Ok(own) => self.look(&own),
                Err(error) => tracing::debug!(%error, "this machine's addresses cannot be listed"),
            }
        }
    }

    /// With no address at all the ones before are kept: there may be one again in a moment.
    fn look(&mut self, own: &[IpAddr]) {
        let found = addresses::candidates(&self.bound, &[], own);
        if found.is_empty() || found == self.told {
            return;
        }
        // A shard whose queue is full is told at the next look.
        if self.tell(&found) {
            tracing::info!(addresses = ?found, "this machine has other addresses: clients are told these from now on");
            self.told = found;
        }
    }

    fn tell(&self, ips: &[IpAddr]) -> bool {
        let at = |port: &u16| ips.iter().map(|ip| SocketAddr::new(*ip, *port)).collect();
        let all: Vec<Vec<SocketAddr>> = self.ports.iter().map(at).collect();
        let mut are_told = true;
        for (shard, own) in self.shards.iter().zip(&all) {
            let command = Command::Candidates { own: own.clone(), all: all.clone() };
            are_told &= shard.send(command).is_ok();
        }
        are_told
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;
    use crate::config::PortRange;

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn shards_are_told_once_of_addresses_that_their_sockets_receive_at() {
        let (sender, told) = mpsc::channel();
        let shards = (0..2).map(|n| {
            let sender = sender.clone();
            ShardHandle::new(move |command| {
                let Command::Candidates { own, all } = command else { panic!("{command:?}") };
                sender.send(format!("{n}: {own:?} {all:?}")).unwrap();
                Ok(())
            })
        });
        let config = Config { shards: 2, media_ports: PortRange { first: 7, last: 9 }, ..Config::default() };
        let mut addresses = Readdressing::new(&config, ips("0.0.0.0"), shards.collect()).unwrap();
        addresses.told = ips("192.0.2.2");
        for (own, expected) in [
            ("127.0.0.1 192.0.2.2", &[][..]),
            ("127.0.0.1 192.0.2.2 2001:db8::2", &[]),
            (
                "127.0.0.1 192.0.2.3",
                &["0: [192.0.2.3:7] [[192.0.2.3:7], [192.0.2.3:8]]", "1: [192.0.2.3:8] [[192.0.2.3:7], [192.0.2.3:8]]"],
            ),
            ("127.0.0.1 192.0.2.3", &[]),
            ("", &[]),
        ] {
            addresses.look(&ips(own));
            assert_eq!(told.try_iter().collect::<Vec<_>>(), expected, "{own}");
        }
    }

    #[test]
    fn a_shard_that_takes_nothing_is_told_later() {
        let (sender, told) = mpsc::sync_channel(1);
        sender.send(Command::Candidates { own: vec![], all: vec![] }).unwrap();
        let shard = ShardHandle::over(sender, Arc::new(|| {}));
        let mut addresses = Readdressing::new(&Config::default(), ips("::"), vec![shard]).unwrap();
        addresses.look(&ips("2001:db8::3"));
        told.recv().unwrap();
        addresses.look(&ips("2001:db8::3"));
        assert!(matches!(told.try_recv(), Ok(Command::Candidates { own, .. }) if own[0].ip() == ips("2001:db8::3")[0]));
    }

    #[test]
    fn where_clients_are_told_fixed_addresses_nobody_looks() {
        let announced = Config { announced_ip: ips("198.51.100.7"), ..Config::default() };
        assert!(Readdressing::new(&announced, ips("0.0.0.0"), vec![]).is_none());
        assert!(Readdressing::new(&Config::default(), ips("192.0.2.2"), vec![]).is_none());
    }
}
