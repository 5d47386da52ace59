//! Why an offer is not taken, and where in its text.

use crate::id::IdError;
use crate::negotiate::MAX_SECTIONS;
use crate::sdp::limits::{MAX_LINE_BYTES, MAX_LINES};

/// Why an offer is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdpError {
    /// The media section, counted from 0; `None` for the session part.
    pub section: Option<usize>,
    /// The line of the text, counted from 1, when one line is to blame.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Something else, as far as its first lines tell.
    #[error("no SDP: it has to begin with the lines v=0, o= and s=")]
    NotSdp,
    /// Not a line of SDP.
    #[error("is not of the form <letter>=<value>")]
    NotALine,
    /// One line is too long.
    #[error("is {0} bytes long, at most {MAX_LINE_BYTES} are allowed")]
    LineTooLong(usize),
    /// The text has too many lines.
    #[error("more than {MAX_LINES} lines")]
    TooManyLines,
    /// The offer has too many sections.
    #[error("more than {MAX_SECTIONS} media sections")]
    TooManySections,
    /// More of something than any client needs.
    #[error("more than {1} {0}")]
    TooMany(&'static str, usize),
    /// The text has no media section.
    #[error("no media section")]
    NoSections,
    /// No section is usable, so that there is nothing to connect for.
    #[error("no audio or video section with a codec that the server forwards (opus, VP8, VP9, H264, AV1)")]
    NothingUsable,
    /// The client has given up all of its sections, and the transport with them.
    #[error("every media section is stopped (port 0): keep one of them, inactive, or leave")]
    AllStopped,
    /// The `sdp` crate's words.
    #[error("{0}")]
    Syntax(String),
    /// A value that does not parse.
    #[error("a={0} has a malformed value")]
    Malformed(&'static str),
    /// A mid or rid with characters that are not allowed.
    #[error("the {0} {1}")]
    Id(&'static str, IdError),
    /// Two sections with one mid.
    #[error("the mid {0:?} is used twice")]
    DuplicateMid(String),
    /// An attribute that has to be there.
    #[error("no a={0}")]
    Missing(&'static str),
    /// The certificate is only known by other hashes.
    #[error("no a=fingerprint with sha-256, sha-384 or sha-512")]
    UnknownHash,
    /// Certificates differ within the bundle.
    #[error("the fingerprint differs from another one of the same hash function in the bundle")]
    FingerprintsDiffer,
    /// Not secured by DTLS, or not by RTP.
    #[error("the protocol {0:?} is not RTP over DTLS (UDP/TLS/RTP/SAVPF)")]
    Protocol(String),
}

impl Problem {
    pub(super) fn at(self, section: Option<usize>, line: Option<usize>) -> SdpError {
        SdpError { section, line, problem: self }
    }
}

impl std::error::Error for SdpError {}

impl std::fmt::Display for SdpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.section {
            Some(section) => write!(f, "media section {section}")?,
            None => write!(f, "session part")?,
        }
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}
