//! The text as lines: bounded, numbered, and reduced to what the `sdp` crate takes and an offer is made of.

use std::io::Cursor;

use sdp::description::common::Attribute;
use sdp::description::session::SessionDescription;

use super::error::{Problem, SdpError};
use super::limits::{MAX_ATTRIBUTES, MAX_LINE_BYTES, MAX_LINES};
use crate::negotiate::{MAX_SECTIONS, MediaLine};

/// One `m=` line with its attributes; the session part is one without `m=`.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// `None` for the session part, else the section's number.
    pub(super) section: Option<usize>,
    /// The line number of `m=` (of the first line for the session part).
    pub(super) line: usize,
    /// `m=` split at white space.
    pub(super) media: Media,
    attributes: Vec<Attribute>,
    attribute_lines: Vec<usize>,
}

/// The fields of an `m=` line, as they stand there.
#[derive(Debug, Default)]
pub(super) struct Media {
    pub(super) kind: String,
    pub(super) port: u16,
    pub(super) protocol: String,
    pub(super) formats: Vec<String>,
}

impl Media {
    /// What an answer repeats of it.
    pub(super) fn line(&self) -> MediaLine {
        MediaLine { media: self.kind.clone(), protocol: self.protocol.clone(), formats: self.formats.clone() }
    }
}

impl Part {
    /// The values of all attributes of this name with their line numbers; "" for those without a value.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        self.attributes
            .iter()
            .zip(&self.attribute_lines)
            .filter(move |(a, _)| a.key == name)
            .map(|(a, line)| (*line, a.value.as_deref().unwrap_or("")))
    }
    /// The first of them.
    pub(super) fn first<'a>(&'a self, name: &'a str) -> Option<(usize, &'a str)> {
        self.all(name).next()
    }
    pub(super) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }
    pub(super) fn error(&self, line: Option<usize>, problem: Problem) -> SdpError {
        problem.at(self.section, line)
    }
}

/// The session part and the sections of a text.
pub(super) fn split(text: &str) -> Result<(Part, Vec<Part>), SdpError> {
    let mut parts = vec![Part { line: 1, ..Part::default() }];
    let mut kept = String::with_capacity(text.len());
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let section = parts.len().checked_sub(2);
        let refuse = |problem: Problem| Err(problem.at(section, Some(number)));
        if number > MAX_LINES {
            return refuse(Problem::TooManyLines);
        }
        if line.len() > MAX_LINE_BYTES {
            return refuse(Problem::LineTooLong(line.len()));
        }
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        // A lone carriage return would be a line break to some reader of the answer.
        if line.contains(|c: char| c.is_control() && c != '\t') {
            return refuse(Problem::NotALine);
        }
        let Some((letter @ ("v" | "o" | "s" | "m" | "a"), value)) = line.split_once('=') else {
            // RFC 8866 section 5: i=, u=, e=, p=, c=, b=, t=, r=, z=, k= tell an ICE-lite answerer nothing.
            if line.as_bytes().get(1) == Some(&b'=') && line.as_bytes()[0].is_ascii_lowercase() {
                continue;
            }
            return refuse(Problem::NotALine);
        };
        match letter {
            "m" => {
                if parts.len() > MAX_SECTIONS {
                    return Err(Problem::TooManySections.at(Some(parts.len() - 1), Some(number)));
                }
                let media = parse_media(value).ok_or_else(|| {
                    Problem::Syntax(format!("m={} is not <media> <port> <protocol> <formats>", shorten(value)))
                        .at(Some(parts.len() - 1), Some(number))
                })?;
                kept.push_str(tame_media(&media));
                parts.push(Part { section: Some(parts.len() - 1), line: number, media, ..Part::default() });
            }
            "a" => {
                // An ICE-lite server sends no checks, so that it needs no candidates (RFC 8445 section 6.1.1).
                if value.starts_with("candidate:") {
                    continue;
                }
                if let Some(part) = parts.last_mut() {
                    if part.attribute_lines.len() == MAX_ATTRIBUTES {
                        return refuse(Problem::TooMany("attributes", MAX_ATTRIBUTES));
                    }
                    part.attribute_lines.push(number);
                }
                kept.push_str(line);
            }
            "o" => kept.push_str("o=- 0 0 IN IP4 0.0.0.0"),
            // The crate wants t= before the attributes.
            "s" => kept.push_str("s=-\r\nt=0 0"),
            _ => kept.push_str(line),
        }
        kept.push_str("\r\n");
    }
    fill(&kept, &mut parts)?;
    let sections = parts.split_off(1);
    Ok((parts.swap_remove(0), sections))
}

/// Hands the reduced text to the `sdp` crate and moves its attributes to the parts.
fn fill(kept: &str, parts: &mut [Part]) -> Result<(), SdpError> {
    let parsed = SessionDescription::unmarshal(&mut Cursor::new(kept.as_bytes())).map_err(|error| {
        let begins = kept.starts_with("v=0\r\no=") && kept.contains("\r\ns=");
        let problem = if begins { Problem::Syntax(shorten(&error.to_string())) } else { Problem::NotSdp };
        problem.at(None, None)
    })?;
    let attributes =
        std::iter::once(parsed.attributes).chain(parsed.media_descriptions.into_iter().map(|m| m.attributes));
    let mut filled = 0;
    for (part, attributes) in parts.iter_mut().zip(attributes) {
        filled += usize::from(attributes.len() == part.attribute_lines.len());
        part.attributes = attributes;
    }
    // The crate reads `t=` after `a=` and the like as errors, so this does not happen; line numbers depend on it.
    if filled == parts.len() { Ok(()) } else { Err(Problem::NotALine.at(None, None)) }
}

fn parse_media(value: &str) -> Option<Media> {
    let mut words = value.split_ascii_whitespace();
    let kind = words.next()?.to_owned();
    let port: u16 = words.next()?.split('/').next()?.parse().ok()?;
    let protocol = words.next()?.to_owned();
    let formats: Vec<String> = words.map(str::to_owned).collect();
    // RFC 8866 section 9 wants a format; some leave it out of a section that they have given up.
    (port == 0 || !formats.is_empty()).then_some(Media { kind, port, protocol, formats })
}

/// An `m=` line the crate takes: it refuses kinds and protocols that it does not know, which are refused one by one
/// in the answer, not with the whole offer. The fields that count are in [`Media`].
fn tame_media(media: &Media) -> &'static str {
    match media.kind.as_str() {
        "audio" => "m=audio 9 UDP/TLS/RTP/SAVPF 0",
        "video" => "m=video 9 UDP/TLS/RTP/SAVPF 0",
        _ => "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    }
}

/// The beginning of a text from outside, for an error message.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
