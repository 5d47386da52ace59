//! Records that anybody can send to a client's association once it is complete.

use super::*;

/// A kind of record, and how to make some of it; the argument is all that the client has sent.
type Kind = (&'static str, fn(&[Vec<u8>]) -> Vec<Vec<u8>>);

const KINDS: [Kind; 20] = [
    ("a fatal alert in the clear", |_| vec![clear(21, &[2, 40])]),
    ("close_notify in the clear", |_| vec![clear(21, &[1, 0])]),
    ("a warning in the clear", |_| vec![clear(21, &[1, 90])]),
    ("an alert without content", |_| vec![clear(21, &[]), record(21, 1, 9, &[])]),
    ("application data in the clear", |_| vec![clear(23, &[7; 40])]),
    ("ChangeCipherSpec in the clear", |_| vec![clear(20, &[1]), clear(20, &[2]), clear(20, &[1, 1])]),
    ("ChangeCipherSpec of the encrypted epoch", |_| vec![record(20, 1, 1, &[1]), record(20, 1, FAR, &[1])]),
    ("a new ClientHello", |sent| vec![sent[0].clone(), message(1, 0, &[0xFE; 60]), message(1, 1, &[0xFE; 60])]),
    ("HelloRequest and HelloVerifyRequest", |_| vec![message(0, 0, &[]), message(3, 9, &[0xFE, 0xFD, 4, 1, 2, 3, 4])]),
    ("a ServerHello", |_| vec![message(2, 9, &[0xFE; 70])]),
    ("further handshake messages in order", |_| (0..300).map(|n| message(11, n, &[0; 90])).collect()),
    ("Finished in the clear", |_| (0..12).map(|n| message(20, n, &[5; 12])).collect()),
    ("parts of a long message", |_| {
        (0..300).map(|n| clear(22, &[11, 0, 40, 0, 0, 7, 0, 0, n as u8, 0, 0, 1, 5])).collect()
    }),
    ("an alert with a wrong tag", |_| vec![record(21, 1, 1, &[8; 26]), record(21, 1, FAR, &[8; 26])]),
    ("a handshake message with a wrong tag", |_| (0..300).map(|n| record(22, 1, n, &[8; 48])).collect()),
    ("application data with a wrong tag", |_| vec![record(23, 1, FAR, &[8; 64]), record(23, 1, 1, &[8])]),
    ("records of epochs to come", |_| (20..24).map(|kind| record(kind, 2, 1, &[1; 30])).collect()),
    ("records of DTLS 1.3", |_| vec![vec![0x2F; 60], vec![0x3F, 1, 2], [clear(26, &[0; 18]), vec![0x2C; 40]].concat()]),
    ("the client's own records once more", |sent| sent.to_vec()),
    ("the client's own records with one bit changed", |sent| {
        let flipped = |datagram: &Vec<u8>| {
            let mut copy = datagram.clone();
            *copy.last_mut().unwrap() ^= 1;
            copy
        };
        sent.iter().map(flipped).collect()
    }),
];
/// A number that would move every replay window to its end.
const FAR: u64 = (1 << 48) - 1;

fn record(kind: u8, epoch: u8, number: u64, fragment: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0xFE, 0xFD, 0, epoch];
    bytes.extend(&number.to_be_bytes()[2..]);
    bytes.extend((fragment.len() as u16).to_be_bytes());
    bytes.extend(fragment);
    bytes
}

fn clear(kind: u8, fragment: &[u8]) -> Vec<u8> {
    record(kind, 0, 9_999, fragment)
}

/// A whole handshake message in the clear.
fn message(kind: u8, sequence: u16, body: &[u8]) -> Vec<u8> {
    let len = [0, 0, body.len() as u8];
    let number = 10_000 + u64::from(sequence);
    record(22, 0, number, &[&[kind], &len[..], &sequence.to_be_bytes(), &[0; 3], &len, body].concat())
}

#[test]
fn no_forged_record_ends_a_complete_association_or_deafens_it() {
    for case in Case::ALL {
        for (kind, make) in KINDS {
            let mut world = World::new(case);
            world.run(5);
            assert_eq!(world.events, [TransportEvent::Connected], "{case:?}");
            for datagram in make(&world.client.sent) {
                let outcome = world.receive(&datagram);
                assert!(matches!(outcome, Ok(None) | Err(_)), "{case:?}, {kind}: {outcome:?} {datagram:02x?}");
            }
            let answers: usize = world.sent().iter().map(Vec::len).sum();
            assert!(answers < 4_000, "{case:?}, {kind}: {answers} bytes of answers");
            world.run(10);
            assert_eq!(world.events, [TransportEvent::Connected], "{case:?}, {kind}");
            world.assert_media_flows();
            // What the client itself says is still heard.
            world.client.dtls.close().unwrap();
            world.exchange();
            assert!(matches!(world.events[..], [_, TransportEvent::Closed(_)]), "{case:?}, {kind}: {:?}", world.events);
        }
    }
}
