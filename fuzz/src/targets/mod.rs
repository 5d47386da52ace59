//! Each target takes any bytes. It must not panic, run on, or take memory without bound; some hold what comes out
//! against a second opinion.

mod dtls;
mod media;
mod policy;
mod seal;
mod shard;
mod text;

/// A function that is fuzzed.
pub struct Target {
    /// Its program below `fuzz_targets/`.
    pub name: &'static str,
    /// Takes an input.
    pub run: fn(&[u8]),
    /// Inputs to begin with: good ones.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Changed inputs in a run of the tests: a second's worth at most.
    pub rounds: usize,
}

/// Every target.
pub const ALL: &[Target] = &[
    Target { name: "rtp", run: media::rtp, seeds: media::rtp_seeds, rounds: 20_000 },
    Target { name: "payload", run: media::payload, seeds: media::payload_seeds, rounds: 20_000 },
    Target { name: "rtcp", run: media::rtcp, seeds: media::rtcp_seeds, rounds: 20_000 },
    Target { name: "stun", run: seal::stun, seeds: seal::stun_seeds, rounds: 10_000 },
    Target { name: "srtp", run: seal::srtp, seeds: seal::srtp_seeds, rounds: 5_000 },
    Target { name: "dtls", run: dtls::dtls, seeds: dtls::dtls_seeds, rounds: 150 },
    Target { name: "sdp", run: text::sdp, seeds: text::sdp_seeds, rounds: 300 },
    Target { name: "signalling", run: text::signalling, seeds: text::signalling_seeds, rounds: 5_000 },
    Target { name: "pattern", run: policy::pattern, seeds: policy::pattern_seeds, rounds: 5_000 },
    Target { name: "plain", run: policy::plain, seeds: policy::plain_seeds, rounds: 5_000 },
    Target { name: "script", run: policy::script, seeds: policy::script_seeds, rounds: 300 },
    Target { name: "shard", run: shard::shard, seeds: shard::shard_seeds, rounds: 150 },
];

/// An input as parts, each behind its length in two bytes; the last may be shorter than it says.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        self.0 = rest;
        Some(part)
    }
}

/// What [`Parts`] takes apart.
fn joined<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let with_length = |part: &[u8]| [&(part.len() as u16).to_be_bytes(), part].concat();
    parts.into_iter().flat_map(with_length).collect()
}
