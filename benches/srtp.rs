//! What SRTP costs per packet: ours, webrtc-srtp, and libsrtp2 where it is installed. CPU time, medians of interleaved
//! rounds; in every round each has to make, byte by byte, what ours makes.
//!
//! `seal` is what forwarding does: a header is written into the send slot, the shared payload comes behind it and is
//! encrypted there, once per receiver. The others protect and unprotect a whole packet: ours and libsrtp2 in place,
//! webrtc-srtp into a buffer that it allocates. `cargo bench -p moonring-benches --bench srtp [case]`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "not a library")]

mod common;

use bytes::Bytes;
use common::counting::{Counting, allocations};
use common::libsrtp::Library;
use common::{Way, interleave, is_bench, thread_ns};
use moonring_wire::id::{Pt, Ssrc};
use moonring_wire::rtp::header::{Header, NewHeader, write_header};
use moonring_wire::transport::srtp::{MasterKey, SrtpIn, SrtpOut, SrtpProfile};
use webrtc_srtp::context::Context;
use webrtc_srtp::option::srtp_replay_protection;
use webrtc_srtp::protection_profile::ProtectionProfile;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Packets of one round.
const PACKETS: usize = 500;
/// Packets that the others' replay windows remember, as many as ours.
const WINDOW: usize = 128;
/// Bytes of a buffer: libsrtp wants 144 of them behind the packet.
const BUFFER: usize = 1_500;
const SSRC: Ssrc = Ssrc(0x1234_5678);

const PROFILES: &[(&str, SrtpProfile)] = &[
    ("gcm256", SrtpProfile::AeadAes256Gcm),
    ("gcm128", SrtpProfile::AeadAes128Gcm),
    ("cm_sha1_80", SrtpProfile::Aes128CmHmacSha1_80),
];
/// Bytes of a sealed packet: video, audio.
const SIZES: &[usize] = &[1_200, 160];

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Protect,
    Unprotect,
    Seal,
}

/// What one implementation does with one packet.
type Step = Box<dyn FnMut(&mut Packet)>;
/// An implementation's steps, by name.
type Steps = Vec<(&'static str, Work, Step)>;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let library = Library::load();
    if library.is_none() {
        println!("libsrtp2 is not installed: apt install libsrtp2-1");
    }
    for (name, profile) in PROFILES {
        for size in SIZES {
            let name = format!("{name}/{size}");
            if wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())) {
                run(&name, &Case::new(*profile, *size), library);
            }
        }
    }
}

fn run(name: &str, case: &Case, library: Option<Library>) {
    let mut steps = ours(case);
    steps.extend(webrtc_srtp(case));
    steps.extend(library.into_iter().flat_map(|library| libsrtp(case, library)));
    let all = [("protect", Work::Protect), ("seal", Work::Seal), ("unprotect", Work::Unprotect)];
    let mut ways: Vec<_> = steps
        .into_iter()
        .map(|(by, work, step)| {
            let work_name = all.iter().find(|(_, w)| *w == work).expect("listed").0;
            (work, way(format!("srtp/{work_name}/{name}/{by}"), case.clone(), work, step))
        })
        .collect();
    ways.sort_by_key(|(work, _)| all.iter().position(|(_, w)| w == work));
    let (works, mut ways): (Vec<_>, Vec<_>) = ways.into_iter().unzip();
    interleave(&mut ways, if is_bench() { 41 } else { 1 });
    let results: Vec<_> = ways.iter_mut().map(Way::result).collect();
    for ((work, way), (ns, allocs)) in works.iter().zip(&ways).zip(&results) {
        // The first of each work is ours.
        let ours = works.iter().position(|w| w == work).expect("itself");
        // C allocates beside Rust's allocator.
        let allocs = if way.name.ends_with("libsrtp2") { "unknown".into() } else { format!("{allocs:.3}") };
        let ratio = ns / results[ours].0;
        println!("{} ns={ns:.0} pps={:.0} allocs={allocs} ratio_to_ours={ratio:.2}", way.name, 1e9 / ns);
    }
}

/// A profile with its keys, and the size of its packets.
#[derive(Clone)]
struct Case {
    profile: SrtpProfile,
    key: Vec<u8>,
    salt: Vec<u8>,
    /// Packets without tag; the header's sequence number is set for each.
    plain: Vec<u8>,
    header_len: usize,
}

impl Case {
    fn new(profile: SrtpProfile, size: usize) -> Self {
        let mut plain: Vec<u8> = (0..size - profile.tag_len()).map(|i| (i * 7) as u8).collect();
        let header_len = header(&mut plain, 0);
        let key = (1..=profile.key_len() as u8).collect();
        Self { profile, key, salt: (101..101 + profile.salt_len() as u8).collect(), plain, header_len }
    }

    fn master(&self) -> MasterKey {
        MasterKey::new(self.profile, &self.key, &self.salt).expect("a key of the right length")
    }

    /// A packet before or after it was protected.
    fn packet(&self, index: u64, seal: Option<&SrtpOut>) -> Packet {
        let mut buffer = vec![0; BUFFER];
        buffer[..self.plain.len()].copy_from_slice(&self.plain);
        header(&mut buffer, index);
        let sealed = seal.map(|out| out.protect_rtp(&mut buffer, self.header_len, self.plain.len(), index));
        Packet { index, len: sealed.unwrap_or(self.plain.len()), buffer, moved: None }
    }
}

/// Writes a packet's header, with an extension; its length.
fn header(buffer: &mut [u8], index: u64) -> usize {
    let sequence = index as u16;
    let fields = NewHeader { marker: false, payload_type: Pt(96), sequence, timestamp: 1, ssrc: SSRC };
    write_header(buffer, &fields, &[(1, &[1, 2, 3])])
}

/// A packet with its index: rollover counter and sequence number.
struct Packet {
    index: u64,
    buffer: Vec<u8>,
    len: usize,
    /// The packet, once an implementation that does not work in place has handled it.
    moved: Option<Bytes>,
}

impl Packet {
    fn bytes(&self) -> &[u8] {
        self.moved.as_deref().unwrap_or(&self.buffer[..self.len])
    }
}

fn way(name: String, case: Case, work: Work, mut step: Step) -> Way {
    let reference = SrtpOut::new(case.profile, &case.master());
    let mut next = 1;
    Way::new(name, move || {
        let indices = next..next + PACKETS as u64;
        next = indices.end;
        // A send slot holds what was there before, nothing of use.
        let (before, after) = match work {
            Work::Protect | Work::Seal => (None, Some(&reference)),
            Work::Unprotect => (Some(&reference), None),
        };
        let mut packets: Vec<_> = indices.map(|index| case.packet(index, before)).collect();
        if work == Work::Seal {
            packets.iter_mut().for_each(|packet| packet.buffer.fill(0xFF));
        }
        let (start, allocated) = (thread_ns(), allocations());
        packets.iter_mut().for_each(&mut step);
        let (ns, allocs) = (thread_ns() - start, allocations() - allocated);
        for packet in &packets {
            assert!(packet.bytes() == case.packet(packet.index, after).bytes(), "packet {} differs", packet.index);
        }
        (ns / PACKETS as f64, allocs as f64 / PACKETS as f64)
    })
}

fn ours(case: &Case) -> Steps {
    let out = SrtpOut::new(case.profile, &case.master());
    let (plain_len, header_len) = (case.plain.len(), case.header_len);
    let protect = move |packet: &mut Packet| {
        packet.len = out.protect_rtp(&mut packet.buffer, header_len, plain_len, packet.index);
    };
    let (out, payload) = (SrtpOut::new(case.profile, &case.master()), case.plain[header_len..].to_vec());
    let seal = move |packet: &mut Packet| {
        let header_len = header(&mut packet.buffer, packet.index);
        packet.len = out.seal_rtp(&payload, &mut packet.buffer, header_len, packet.index);
    };
    let mut incoming = SrtpIn::new(case.profile, &case.master(), 4);
    let unprotect = move |packet: &mut Packet| {
        let bytes = &mut packet.buffer[..packet.len];
        let header = Header::parse(bytes).expect("a packet");
        let opened = incoming.unprotect_rtp(bytes, header.header_len, header.ssrc.0, header.sequence);
        packet.len = opened.expect("authentic").0;
    };
    vec![
        ("ours", Work::Protect, Box::new(protect)),
        ("ours", Work::Seal, Box::new(seal)),
        ("ours", Work::Unprotect, Box::new(unprotect)),
    ]
}

fn webrtc_srtp(case: &Case) -> Steps {
    let profile = match case.profile {
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let context = || Context::new(&case.key, &case.salt, profile, Some(srtp_replay_protection(WINDOW)), None);
    let (mut out, mut incoming) = (context().expect("keys"), context().expect("keys"));
    let protect = move |packet: &mut Packet| {
        packet.moved = Some(out.encrypt_rtp(&packet.buffer[..packet.len]).expect("protected"));
    };
    let unprotect = move |packet: &mut Packet| {
        packet.moved = Some(incoming.decrypt_rtp(&packet.buffer[..packet.len]).expect("authentic"));
    };
    vec![("webrtc_srtp", Work::Protect, Box::new(protect)), ("webrtc_srtp", Work::Unprotect, Box::new(unprotect))]
}

/// Nothing if libsrtp was built without the profile.
fn libsrtp(case: &Case, library: Library) -> Steps {
    let key_and_salt = [case.key.as_slice(), &case.salt].concat();
    let session = || library.session(case.profile, &key_and_salt, SSRC.0, WINDOW);
    let (Some(mut out), Some(mut incoming)) = (session(), session()) else {
        println!("libsrtp2 is installed without {:?}", case.profile);
        return vec![];
    };
    let protect = move |packet: &mut Packet| {
        packet.len = out.protect(&mut packet.buffer, packet.len).expect("protected");
    };
    let unprotect = move |packet: &mut Packet| {
        packet.len = incoming.unprotect(&mut packet.buffer[..packet.len]).expect("authentic");
    };
    vec![("libsrtp2", Work::Protect, Box::new(protect)), ("libsrtp2", Work::Unprotect, Box::new(unprotect))]
}
