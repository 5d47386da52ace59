//! Both sides by this crate, as between the server and `moonring-loadtest`.

use super::super::dtls::{Dtls, DtlsEvent, DtlsTerms, DtlsVersions};
use super::*;

/// The two sides, the client first, with a network between them that loses, repeats and delays.
struct Pair {
    now: Instant,
    sides: [Dtls; 2],
    events: [Vec<DtlsEvent>; 2],
    scratch: Vec<u8>,
    fate: Fate,
    count: usize,
    /// On their way: when they come, to which side.
    held: Vec<(Instant, usize, Vec<u8>)>,
}

/// What becomes of some datagrams, by their numbers in the order in which they were sent.
#[derive(Clone, Debug, Default)]
struct Fate {
    lost: Vec<usize>,
    twice: Vec<usize>,
    late: Vec<(usize, Duration)>,
}

impl Pair {
    fn new(fate: Fate) -> Self {
        let now = Instant::now();
        let certificates = [(); 2].map(|()| Certificate::generate().unwrap());
        let side = |own: usize, role| {
            let fingerprint = certificates[1 - own].fingerprint();
            let (versions, profiles) = (DtlsVersions::V12, SrtpProfile::ALL.to_vec());
            Dtls::new(now, &certificates[own], DtlsTerms { role, versions, profiles, fingerprint })
        };
        let sides = [side(0, DtlsRole::Client), side(1, DtlsRole::Server)];
        let (events, scratch, held) = (Default::default(), vec![0; SCRATCH], Vec::new());
        Self { now, sides, events, scratch, fate, count: 0, held }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        self.sides[0].handle_timeout(self.now);
        (0..2).for_each(|side| self.poll(side));
        while self.now < end {
            let now = self.now;
            let due: Vec<_> = self.held.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, to, datagram) in &due {
                let _ = self.sides[*to].handle_packet(now, datagram);
            }
            for side in &mut self.sides {
                if side.poll_timeout().is_some_and(|at| at <= now) {
                    side.handle_timeout(now);
                }
            }
            (0..2).for_each(|side| self.poll(side));
            let timers = self.sides.iter().filter_map(Dtls::poll_timeout);
            let next = timers.chain(self.held.iter().map(|(at, ..)| *at)).min();
            // A timer that is due again at once must not hold time up.
            self.now =
                next.unwrap_or(end).clamp(now + Duration::from_millis(1), end.max(now + Duration::from_millis(1)));
        }
    }

    /// Takes what a side has sent, and what happened there.
    fn poll(&mut self, side: usize) {
        loop {
            let mut sent = Vec::new();
            let event = self.sides[side].poll(&mut self.scratch, |datagram| sent.push(datagram.to_vec()));
            sent.into_iter().for_each(|datagram| self.carry(1 - side, datagram));
            match event {
                Some(event) => self.events[side].push(event),
                None => return,
            }
        }
    }

    fn carry(&mut self, to: usize, datagram: Vec<u8>) {
        let (number, fate) = (self.count, &self.fate);
        self.count += 1;
        let by = fate.late.iter().find(|(late, _)| *late == number).map(|(_, by)| *by);
        let at = self.now + by.unwrap_or(Duration::from_millis(5));
        let copies = usize::from(!fate.lost.contains(&number)) + usize::from(fate.twice.contains(&number));
        self.held.extend(std::iter::repeat_n((at, to, datagram), copies));
    }

    fn are_connected(&self) -> bool {
        self.events.iter().all(|events| matches!(events[..], [DtlsEvent::Connected(_)]))
    }
}

/// Those of a table, and some with up to three of each kind.
fn fates() -> Vec<Fate> {
    let mut fates = Vec::new();
    for (number, other) in (0..100).map(|n| (n / 10, n % 10)) {
        fates.push(Fate { lost: vec![other], twice: vec![number], late: vec![] });
        for late in [100, 260, 600, 1_100].map(|ms| vec![(number, Duration::from_millis(ms))]) {
            fates.push(Fate { lost: vec![other], twice: vec![], late: late.clone() });
            fates.push(Fate { lost: vec![], twice: vec![other], late });
        }
    }
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    fates.extend((0..200).map(|_| Fate {
        lost: (0..random(4)).map(|_| random(16)).collect(),
        twice: (0..random(4)).map(|_| random(16)).collect(),
        late: (0..random(4)).map(|_| (random(16), Duration::from_millis(random(2_000) as u64))).collect(),
    }));
    fates
}

#[test]
fn a_handshake_with_both_sides_of_ours_survives_what_a_network_does_with_datagrams() {
    for fate in fates() {
        let mut pair = Pair::new(fate);
        pair.run(20);
        assert!(pair.are_connected(), "{:?}: {:?} {:?}", pair.fate, pair.events, pair.sides);
    }
}
