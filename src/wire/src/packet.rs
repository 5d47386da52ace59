//! Where packets come from and go to, and the memory that they leave from: plain bytes and addresses, no socket.

use std::net::{IpAddr, SocketAddr};

/// Most datagrams in one run: the kernel's `UDP_MAX_SEGMENTS` is 128, older ones had 64.
pub const MAX_RUN_DATAGRAMS: u16 = 64;
/// Most bytes in one run: a UDP payload's limit over IPv4, with room for the header.
pub const MAX_RUN_BYTES: u32 = 65_000;
/// Largest datagram sent: what fits every path that WebRTC is used on.
pub const MAX_DATAGRAM: usize = 1_500;

/// Both ends of a datagram's way. An answer leaves from the address that was asked, or a NAT, a firewall and the client's
/// ICE agent do not take it for one (RFC 8445 section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressPair {
    /// The client's address.
    pub remote: SocketAddr,
    /// This server's end.
    pub local: Local,
}

/// This server's end of a datagram's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Local {
    /// Whatever the socket is bound to and the kernel takes.
    #[default]
    Any,
    /// One of several addresses.
    Address(IpAddr),
    /// A TCP connection from the client (RFC 6544), by its number, which no other one of this process has.
    Connection(u32),
}

impl AddressPair {
    /// Whether this is a TCP connection. It ends with its process, and leads from no other shard.
    pub fn is_connection(&self) -> bool {
        matches!(self.local, Local::Connection(_))
    }
}

impl From<SocketAddr> for AddressPair {
    fn from(remote: SocketAddr) -> Self {
        Self { remote, local: Local::Any }
    }
}

impl std::fmt::Display for AddressPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.remote.fmt(f)?;
        if self.is_connection() { f.write_str(" over TCP") } else { Ok(()) }
    }
}

/// Datagrams to one address, back to back in memory and equally long but for a shorter last one: one GSO send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where to, and from where.
    pub to: AddressPair,
    /// Offset of the first byte in [`SendBatch::bytes`].
    pub start: u32,
    /// Bytes of all datagrams.
    pub len: u32,
    /// Bytes of each datagram but the last, which may be shorter.
    pub segment: u16,
    /// Number of datagrams.
    pub datagrams: u16,
}

/// The datagrams of one tick, in one arena of fixed capacity. Packets are written straight into their place
/// ([`SendBatch::slot`]) and chained into runs as they come.
///
/// ```
/// use std::net::SocketAddr;
///
/// use moonring_wire::packet::SendBatch;
///
/// let (ada, bob) = (SocketAddr::from(([192, 0, 2, 1], 5000)), SocketAddr::from(([192, 0, 2, 2], 5000)));
/// let mut batch = SendBatch::new(64 * 1024, 8); // bytes, runs
///
/// let mut slot = batch.slot(ada, 1_200).expect("there is room");
/// slot.bytes()[..4].copy_from_slice(b"one!");
/// slot.commit(4);
/// assert!(batch.push(ada, b"two!"));
/// assert!(batch.push(bob, b"three"));
///
/// // Equally long datagrams to one address leave as one send.
/// let runs: Vec<_> = batch.runs().iter().map(|run| (run.to.remote, run.datagrams)).collect();
/// assert_eq!(runs, [(ada, 2), (bob, 1)]);
/// assert_eq!(batch.iter().nth(1), Some((ada, &b"two!"[..])));
///
/// batch.clear();
/// assert!(batch.is_empty());
/// ```
#[derive(Debug)]
pub struct SendBatch {
    bytes: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
    max_runs: usize,
    datagrams: usize,
    /// Bytes of runs that were taken out.
    taken: usize,
}

/// Room for one datagram at the end of the batch. Nothing is sent unless [`Slot::commit`] is called.
pub struct Slot<'a> {
    batch: &'a mut SendBatch,
    to: AddressPair,
    capacity: usize,
}

impl SendBatch {
    /// An arena of `bytes` bytes for at most `runs` sends.
    pub fn new(bytes: usize, runs: usize) -> Self {
        Self {
            bytes: vec![0; bytes].into(),
            used: 0,
            runs: Vec::with_capacity(runs),
            max_runs: runs,
            datagrams: 0,
            taken: 0,
        }
    }

    /// Room for a datagram of up to `capacity` bytes to `to`; `None` when the batch must be flushed first.
    pub fn slot(&mut self, to: impl Into<AddressPair>, capacity: usize) -> Option<Slot<'_>> {
        if self.used + capacity > self.bytes.len() || self.runs.len() == self.max_runs {
            return None;
        }
        Some(Slot { batch: self, to: to.into(), capacity })
    }

    /// Copies a whole datagram in; false when the batch is full.
    pub fn push(&mut self, to: impl Into<AddressPair>, datagram: &[u8]) -> bool {
        match self.slot(to, datagram.len()) {
            Some(mut slot) => {
                slot.bytes()[..datagram.len()].copy_from_slice(datagram);
                slot.commit(datagram.len());
                true
            }
            None => false,
        }
    }

    /// The arena; [`Run`]s point into it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// What is to be sent, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Bytes of all runs.
    pub fn len_bytes(&self) -> usize {
        self.used - self.taken
    }

    /// Hands the datagrams that go over TCP connections to `each`, with the connection's number, and takes their runs out.
    pub fn take_connections(&mut self, mut each: impl FnMut(u32, &[u8])) {
        let (bytes, taken, datagrams) = (&self.bytes, &mut self.taken, &mut self.datagrams);
        self.runs.retain(|run| {
            let Local::Connection(connection) = run.to.local else { return true };
            let of_run = &bytes[run.start as usize..(run.start + run.len) as usize];
            of_run.chunks(usize::from(run.segment)).for_each(|datagram| each(connection, datagram));
            *taken += of_run.len();
            *datagrams -= usize::from(run.datagrams);
            false
        });
    }

    /// Number of datagrams in all runs.
    pub fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// True when `datagrams` more of `MAX_DATAGRAM` bytes fit, whoever they are for.
    pub fn has_room(&self, datagrams: usize) -> bool {
        self.runs.len() + datagrams <= self.max_runs && self.used + datagrams * MAX_DATAGRAM <= self.bytes.len()
    }

    /// Forgets all datagrams, keeps the memory.
    pub fn clear(&mut self) {
        (self.used, self.taken) = (0, 0);
        self.runs.clear();
        self.datagrams = 0;
    }

    /// Every datagram with the client's address, for tests and simulated networks.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.runs.iter().flat_map(|run| {
            let bytes = &self.bytes[run.start as usize..(run.start + run.len) as usize];
            bytes.chunks(run.segment as usize).map(|datagram| (run.to.remote, datagram))
        })
    }
}

impl Slot<'_> {
    /// The slot's memory, `capacity` bytes; what was there before is unspecified.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.batch.bytes[self.batch.used..self.batch.used + self.capacity]
    }

    /// Makes the first `len` bytes a datagram. `len` is 1..=capacity.
    pub fn commit(self, len: usize) {
        assert!(len > 0 && len <= self.capacity, "a datagram of {len} bytes in a slot of {}", self.capacity);
        let batch = self.batch;
        let start = batch.used as u32;
        batch.used += len;
        batch.datagrams += 1;
        if let Some(last) = batch.runs.last_mut()
            && last.to == self.to
            && last.len == u32::from(last.segment) * u32::from(last.datagrams)
            && len <= usize::from(last.segment)
            && last.datagrams < MAX_RUN_DATAGRAMS
            && last.len + len as u32 <= MAX_RUN_BYTES
        {
            last.len += len as u32;
            last.datagrams += 1;
            return;
        }
        batch.runs.push(Run { to: self.to, start, len: len as u32, segment: len as u16, datagrams: 1 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// (port, length) of each datagram in → (datagrams, segment) of each run out.
    fn runs_of(datagrams: &[(u16, usize)]) -> Vec<(u16, u16)> {
        let mut batch = SendBatch::new(1 << 20, 1024);
        for (port, len) in datagrams {
            assert!(batch.push(addr(*port), &vec![7; *len]));
        }
        assert_eq!(batch.iter().map(|(to, d)| (to.port(), d.len())).collect::<Vec<_>>(), datagrams);
        batch.runs().iter().map(|r| (r.datagrams, r.segment)).collect()
    }

    #[test]
    fn equal_datagrams_to_one_address_become_one_run() {
        assert_eq!(runs_of(&[(1, 1200), (1, 1200), (1, 1200)]), [(3, 1200)]);
    }

    #[test]
    fn a_shorter_datagram_ends_a_run_and_a_longer_one_starts_another() {
        assert_eq!(runs_of(&[(1, 1200), (1, 900), (1, 900), (1, 901)]), [(2, 1200), (1, 900), (1, 901)]);
    }

    #[test]
    fn another_address_starts_another_run() {
        assert_eq!(runs_of(&[(1, 100), (2, 100), (1, 100)]), [(1, 100), (1, 100), (1, 100)]);
    }

    #[test]
    fn the_same_client_asked_at_another_of_our_addresses_starts_another_run() {
        let mut batch = SendBatch::new(1 << 10, 8);
        let [one, two] = [1, 2].map(|last| Local::Address([10, 0, 0, last].into()));
        let locals = [Local::Any, one, two];
        for local in [0, 1, 1, 2].map(|n: usize| locals[n]) {
            assert!(batch.push(AddressPair { remote: addr(1), local }, &[7; 10]));
        }
        let runs: Vec<_> = batch.runs().iter().map(|run| (run.to.local, run.datagrams)).collect();
        assert_eq!(runs, [(locals[0], 1), (locals[1], 2), (locals[2], 1)]);
    }

    #[test]
    fn a_run_is_bounded_in_datagrams_and_in_bytes() {
        assert_eq!(runs_of(&[(1, 100); 65]), [(64, 100), (1, 100)]);
        assert_eq!(runs_of(&[(1, 1400); 47]), [(46, 1400), (1, 1400)]);
    }

    #[test]
    fn a_full_batch_takes_nothing_more_and_is_empty_after_clear() {
        let mut batch = SendBatch::new(250, 8);
        assert!(batch.push(addr(1), &[0; 100]));
        assert!(batch.push(addr(1), &[0; 100]));
        assert!(!batch.push(addr(1), &[0; 100]));
        batch.clear();
        assert!(batch.is_empty() && batch.push(addr(1), &[0; 100]));
    }

    #[test]
    fn what_goes_over_connections_is_taken_out_and_the_rest_stays_in_its_order() {
        let mut batch = SendBatch::new(1 << 10, 8);
        let over = |connection| AddressPair { remote: addr(1), local: Local::Connection(connection) };
        let ways = [addr(1).into(), over(7), over(7), over(8), addr(2).into()];
        (0..).zip(ways).for_each(|(n, to): (u8, AddressPair)| assert!(batch.push(to, &[n; 10])));
        let mut taken = Vec::new();
        batch.take_connections(|connection, datagram| taken.push((connection, datagram.to_vec())));
        assert_eq!(taken, [(7, vec![1; 10]), (7, vec![2; 10]), (8, vec![3; 10])]);
        let left: Vec<_> = batch.iter().collect();
        assert_eq!(left, [(addr(1), &[0; 10][..]), (addr(2), &[4; 10])]);
        assert_eq!((batch.len_bytes(), batch.datagrams(), batch.runs().len()), (20, 2, 2));
        batch.clear();
        assert_eq!(batch.len_bytes(), 0);
    }

    #[test]
    fn a_connection_is_another_way_than_datagrams_from_the_same_address() {
        let over = AddressPair { remote: addr(1), local: Local::Connection(1) };
        assert_ne!(over, AddressPair::from(addr(1)));
        assert_eq!((over.to_string(), over.is_connection()), ("127.0.0.1:1 over TCP".into(), true));
    }

    #[test]
    fn a_slot_that_is_not_committed_sends_nothing() {
        let mut batch = SendBatch::new(250, 8);
        assert!(batch.slot(addr(1), 100).is_some());
        assert!(batch.is_empty());
    }
}
