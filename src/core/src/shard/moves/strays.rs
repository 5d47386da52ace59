//! Datagrams of a client that come to a shard where it is not any more, or not yet.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::MAX_WAITING;
use crate::room::links::Sent;
use crate::shard::Shard;
use moonring_wire::drops::DropReason;
use moonring_wire::id::{ClientId, ClientKey, PlaceId};
use moonring_wire::link::Frame;
use moonring_wire::packet::{AddressPair, SendBatch};
use moonring_wire::rtp::protocol::{Protocol, classify};

impl Shard {
    /// Passes a packet of media, or a report, on to where its sender is; the reason when it is nobody's.
    pub(in crate::shard) fn stray(
        &mut self,
        from: AddressPair,
        bytes: &[u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        let id = self.moves.at(from).ok_or(DropReason::UnknownAddress)?;
        let place = match (self.moves.expected.get(&id), self.moves.departed.get(&id)) {
            (Some(expected), _) => expected.from,
            (None, Some(departed)) => departed.to,
            (None, None) => return Err(DropReason::UnknownAddress),
        };
        let is_selected = self.moves.transport(&id).is_some_and(|transport| transport.selected() == Some(from));
        self.pass_on(place, (&id, is_selected), bytes, out)
    }

    fn pass_on(
        &mut self,
        to: PlaceId,
        (id, is_selected): (&ClientId, bool),
        datagram: &[u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        let frame = Frame::Stray { client: id.as_str().as_bytes(), is_selected, datagram };
        match self.world.links.send(to, &frame, 0, out) {
            Sent::Yes => Ok(()),
            Sent::Full => Err(DropReason::Overload),
            Sent::Never => Err(DropReason::SendFailed),
        }
    }

    /// A datagram that another shard has passed on.
    pub(in crate::shard) fn stray_came(
        &mut self,
        now: Instant,
        (place, client, is_selected): (PlaceId, &[u8], bool),
        datagram: &[u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        let id = std::str::from_utf8(client).ok().and_then(|id| ClientId::parse(id).ok());
        let id = id.ok_or(DropReason::LinkMalformed)?;
        let here = self.index.clients.get(&id).copied();
        let here = here.filter(|key| self.world.clients.get(*key).is_some_and(|client| client.transport.is_some()));
        if let Some(key) = here {
            let mut bytes = std::mem::take(&mut self.moves.scratch);
            bytes.clear();
            bytes.extend_from_slice(datagram);
            let received = self.receive_passed(now, (key, is_selected), &mut bytes, out);
            self.moves.scratch = bytes;
            return received;
        }
        if let Some(to) = self.moves.departed.get(&id).map(|departed| departed.to) {
            return self.pass_on(to, (&id, is_selected), datagram, out);
        }
        // It has come back: the client's state is on its way.
        let expected = self.moves.expected.get_mut(&id).filter(|expected| expected.from == place);
        let expected = expected.ok_or(DropReason::UnknownAddress)?;
        if expected.waiting.len() >= MAX_WAITING {
            return Err(DropReason::Overload);
        }
        expected.waiting.push((is_selected, datagram.to_vec()));
        Ok(())
    }

    /// Takes a datagram that has come another way than from an address of its client's here.
    pub(super) fn receive_passed(
        &mut self,
        now: Instant,
        (key, is_selected): (ClientKey, bool),
        bytes: &mut [u8],
        out: &mut SendBatch,
    ) -> Result<(), DropReason> {
        if self.world.clients.get(key).is_none_or(|client| client.far.is_some()) {
            return Err(DropReason::UnknownAddress);
        }
        let from = AddressPair::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        match classify(bytes)? {
            Protocol::Rtp => self.receive_rtp_of(now, (key, from), bytes),
            Protocol::Rtcp => self.receive_rtcp(now, (key, from, Some(is_selected)), bytes, out),
            Protocol::Stun | Protocol::Dtls | Protocol::Link => Err(DropReason::LinkMalformed),
        }
    }
}
