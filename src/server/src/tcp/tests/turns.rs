//! Connections that have more than is taken at once, beside others.

use super::*;

/// Datagrams of one receive, as beside forwarding.
const LIMIT: usize = 256;

/// Sends the shortest datagrams there are, as many as the kernel takes.
struct Flood {
    stream: TcpStream,
    bytes: Vec<u8>,
    written: usize,
}

impl Flood {
    fn new(address: SocketAddr) -> Self {
        let stream = connect(address);
        stream.set_nonblocking(true).unwrap();
        Self { stream, bytes: framed(&[&b"x"[..]; 10_000]), written: 0 }
    }

    fn go_on(&mut self) {
        while let Ok(count) = self.stream.write(&self.bytes[self.written..]) {
            self.written = (self.written + count) % self.bytes.len();
        }
    }
}

/// How many receives pass until a datagram comes of somebody who sends one beside so many floods.
fn receives_until_heard(floods: usize) -> Option<usize> {
    let ((mut tcp, address), now) = (listening(1_000), Instant::now());
    let mut floods: Vec<_> = (0..floods).map(|_| Flood::new(address)).collect();
    let mut keep = Keep { at_a_time: usize::MAX, ..Keep::default() };
    let mut ada = connect(address);
    let all = floods.len() as u64 + 1;
    receive_more(&mut tcp, now, &mut keep, |tcp, _| tcp.stats().open == all);
    floods.iter_mut().for_each(Flood::go_on);
    tcp.receive_into(now, LIMIT, &mut keep);
    ada.write_all(&framed(&[b"Ada"])).unwrap();
    (1..=1_000).find(|_| {
        floods.iter_mut().for_each(Flood::go_on);
        keep.taken.clear();
        assert!(tcp.receive_into(now, LIMIT, &mut keep).datagrams <= LIMIT);
        keep.taken.iter().any(|(_, bytes)| bytes == b"Ada")
    })
}

#[test]
fn who_sends_without_end_takes_nobody_elses_turn() {
    for floods in [1, 2, 30, 100] {
        let receives = receives_until_heard(floods);
        assert!(receives.is_some_and(|count| count <= 20), "beside {floods}: {receives:?}");
    }
}
