//! Clients and other nodes are told the addresses that the machine has when they come, not those of the server's start: another
//! lease of DHCP, or an interface that is up later, changes them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::addresses;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::shard_handle::ShardHandle;
use moonring_core::command::Command;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks at the machine's addresses, and tells shards and cluster of others.
#[derive(Debug)]
pub(super) struct Readdressing {
    /// What the sockets are bound to: others are not told.
    bound: Vec<IpAddr>,
    /// One of each shard.
    ports: Vec<u16>,
    /// Those whose clients are told; none where they are told fixed addresses.
    shards: Vec<ShardHandle>,
    /// Whether other nodes are told where to reach the shards, as no fixed address says so.
    is_linked: bool,
    cluster: Option<Cluster>,
    /// What the machine has, as was told last.
    told: Vec<IpAddr>,
}

/// The addresses that sockets are bound to.
pub(super) fn bound(sockets: &[UdpSocket]) -> std::io::Result<Vec<IpAddr>> {
    sockets.iter().map(|socket| Ok(socket.local_addr()?.ip())).collect()
}

impl Readdressing {
    /// Of shards whose sockets are bound to these addresses; `None` where everybody is told fixed ones.
    pub(super) fn new(config: &Config, bound: Vec<IpAddr>, shards: Vec<ShardHandle>) -> Option<Self> {
        let is_linked = !config.cluster.is_empty() && config.link_ip.is_empty();
        let shards = if config.announced_ip.is_empty() { shards } else { Vec::new() };
        if !bound.iter().any(IpAddr::is_unspecified) || (shards.is_empty() && !is_linked) {
            return None;
        }
        let told = addresses::candidates(&bound, &[], &addresses::own().unwrap_or_default());
        let ports = config.media_ports.iter().take(config.shards()).collect();
        Some(Self { bound, ports, shards, is_linked, cluster: None, told })
    }

    /// The cluster is told, too.
    pub(super) fn with_cluster(self, cluster: Option<Cluster>) -> Self {
        Self { cluster, ..self }
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
        let at = |port: &u16| found.iter().map(|ip| SocketAddr::new(*ip, *port)).collect();
        let all: Vec<Vec<SocketAddr>> = self.ports.iter().map(at).collect();
        // A shard whose queue is full is told at the next look.
        if self.tell(&all) {
            tracing::info!(addresses = ?found, "this machine has other addresses: who comes is told these from now on");
            self.told = found;
        }
        if let Some(cluster) = &self.cluster {
            let links = self.is_linked.then(|| all.iter().filter_map(|of| of.first().copied()).collect());
            cluster.readdressed((!self.shards.is_empty()).then_some(all), links);
        }
    }

    fn tell(&self, all: &[Vec<SocketAddr>]) -> bool {
        let mut are_told = true;
        for (shard, own) in self.shards.iter().zip(all) {
            let command = Command::Candidates { own: own.clone(), all: all.to_vec() };
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
    fn where_everybody_is_told_fixed_addresses_nobody_looks() {
        let shards = || vec![ShardHandle::new(|_| panic!("it is told nothing"))];
        let announced = Config { announced_ip: ips("198.51.100.7"), ..Config::default() };
        assert!(Readdressing::new(&announced, ips("0.0.0.0"), shards()).is_none());
        assert!(Readdressing::new(&Config::default(), ips("192.0.2.2"), shards()).is_none());
        let clustered = Config { cluster: vec!["nats://192.0.2.1:4222".into()], ..announced };
        let linked = Config { link_ip: ips("192.0.2.2"), ..clustered.clone() };
        assert!(Readdressing::new(&linked, ips("0.0.0.0"), shards()).is_none());
        let mut addresses = Readdressing::new(&clustered, ips("0.0.0.0"), shards()).unwrap();
        addresses.look(&ips("192.0.2.3"));
    }

    #[tokio::test]
    async fn the_cluster_is_told_where_clients_and_the_shards_of_other_nodes_reach_each_shard() {
        let (_bus, nodes) = crate::cluster::memory::linked_nodes(&["a"]);
        let shards = || vec![ShardHandle::new(|_| Ok(()))];
        let config = Config { shards: 1, cluster: vec!["nats://192.0.2.1:4222".into()], ..Config::default() };
        let announced = Config { announced_ip: ips("198.51.100.7"), ..config.clone() };
        let at = |text: &str| text.split(' ').map(|at| at.parse().unwrap()).collect::<Vec<SocketAddr>>();
        for (config, own, clients, links) in [
            (config, "192.0.2.3 2001:db8::3", "192.0.2.3:40000 [2001:db8::3]:40000", "192.0.2.3:40000"),
            (announced, "192.0.2.4", "192.0.2.3:40000 [2001:db8::3]:40000", "192.0.2.4:40000"),
        ] {
            let addresses = Readdressing::new(&config, ips("0.0.0.0 ::"), shards()).unwrap();
            addresses.with_cluster(Some(nodes[0].clone())).look(&ips(own));
            assert_eq!(nodes[0].addresses(), (vec![at(clients)], at(links)), "{own}");
        }
    }
}
