//! Who stands behind a client, whatever id it comes with.

use std::net::IpAddr;

use super::client::ClientFacts;
use moonring_wire::id::ClientId;

/// Who stands behind a client, as far as that can be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Person {
    Named(String),
    Network(IpAddr),
    /// Behind the loopback address is whoever comes by a proxy.
    Client(ClientId),
}

impl Person {
    pub(crate) fn of(client: &ClientFacts) -> Self {
        let network = client.network();
        match client.identity.get() {
            Some(identity) => Self::Named(identity.clone()),
            None if network.is_loopback() => Self::Client(client.id.clone()),
            None => Self::Network(network),
        }
    }
}
