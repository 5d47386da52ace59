//! From lines to an [`OfferSection`]: codecs, header extensions, SSRCs, simulcast layers.

use super::error::{Problem, SdpError};
use super::limits::{MAX_FORMATS, MAX_RIDS, MAX_SSRCS};
use super::lines::Part;
use crate::id::{Mid, Pt, Rid, Ssrc};
use crate::media::{Codec, CodecName, Extension, Kind};
use crate::negotiate::{Direction, Feedback, OfferSection, OfferedCodec, SectionKind, SimulcastLayer};

/// Media SSRCs, each with that of its retransmissions.
type Ssrcs = Vec<(Ssrc, Option<Ssrc>)>;

/// The mid of a section, if it has one.
pub(super) fn mid(part: &Part) -> Result<Option<Mid>, SdpError> {
    let Some((line, mid)) = part.first("mid") else { return Ok(None) };
    Mid::parse(mid).map(Some).map_err(|error| part.error(Some(line), Problem::Id("mid", error)))
}

/// Reads one section, which `session` is inherited by. Its mid is left to the caller: `mid` is a name for a section
/// without one. `listed` says that the BUNDLE group has it.
pub(super) fn parse(session: &Part, part: &Part, mid: (Mid, bool), listed: bool) -> Result<OfferSection, SdpError> {
    let kind = match part.media.kind.as_str() {
        "audio" => SectionKind::Media(Kind::Audio),
        "video" => SectionKind::Media(Kind::Video),
        _ => SectionKind::Other,
    };
    if part.media.formats.len() > MAX_FORMATS {
        return Err(part.error(Some(part.line), Problem::TooMany("formats", MAX_FORMATS)));
    }
    let direction = direction(part).or_else(|| direction(session)).unwrap_or(Direction::SendRecv);
    let mut section = OfferSection {
        mid: mid.0,
        has_mid: mid.1,
        kind,
        stopped: is_stopped(part, direction, listed),
        unbundled: false,
        ice: None,
        direction,
        codecs: Vec::new(),
        extensions: Vec::new(),
        ssrcs: Vec::new(),
        ssrcs_are_layers: false,
        rids: Vec::new(),
        line: part.media.line(),
    };
    if let (SectionKind::Media(kind), false) = (kind, section.stopped) {
        // RFC 8829 section 5.1.2: any profile with TLS means UDP/TLS/RTP/SAVPF; RTP/SAVPF is an old spelling of it.
        if !part.media.protocol.ends_with("RTP/SAVPF") {
            return Err(part.error(Some(part.line), Problem::Protocol(part.media.protocol.chars().take(40).collect())));
        }
        section.codecs = codecs(part, kind);
        section.extensions = extensions(session, part);
        (section.ssrcs, section.ssrcs_are_layers) = ssrcs(part)?;
        section.rids = rids(part)?;
    }
    Ok(section)
}

/// True for a section that the client has given up: port 0 (RFC 3264 section 6), unless the BUNDLE group lists it,
/// since its address is then another section's (RFC 8843 section 6). `a=bundle-only` should say so; where it is missing, a section
/// that nothing flows in was rather given up and left in the group.
fn is_stopped(part: &Part, direction: Direction, listed: bool) -> bool {
    let in_bundle = listed && (part.has("bundle-only") || direction != Direction::Inactive);
    part.media.port == 0 && (!in_bundle || part.media.formats.is_empty())
}

fn direction(part: &Part) -> Option<Direction> {
    [
        ("sendrecv", Direction::SendRecv),
        ("sendonly", Direction::SendOnly),
        ("recvonly", Direction::RecvOnly),
        ("inactive", Direction::Inactive),
    ]
    .into_iter()
    .find_map(|(name, direction)| part.has(name).then_some(direction))
}

/// Known codecs in the order of the `m=` line.
fn codecs(part: &Part, kind: Kind) -> Vec<OfferedCodec> {
    let (rtx, opus) = (rtx_of(part), opus_of(part));
    let mut codecs: Vec<OfferedCodec> = Vec::new();
    for format in &part.media.formats {
        let Some(pt) = payload_type(format) else { continue };
        if codecs.iter().any(|codec| codec.pt == pt) {
            continue;
        }
        let fmtp = attribute_of(part, "fmtp", format).collect::<Vec<_>>().join(";");
        let known = attribute_of(part, "rtpmap", format).find_map(known_codec);
        let Some(name) = known.or_else(|| red(part, format, &fmtp, &opus)) else { continue };
        if name.kind() != kind {
            continue;
        }
        let retransmission = rtx.iter().find(|(apt, _)| *apt == pt).map(|(_, rtx)| *rtx);
        codecs.push(OfferedCodec {
            pt,
            codec: Codec { name, fmtp },
            rtx: retransmission,
            feedback: feedback(part, format),
        });
    }
    codecs
}

/// `(apt, pt)` of every retransmission format (RFC 4588 section 8.6).
fn rtx_of(part: &Part) -> Vec<(Pt, Pt)> {
    let is_rtx = |map: &str| map.split('/').next().is_some_and(|name| name.eq_ignore_ascii_case("rtx"));
    let pair = |format: &String| {
        attribute_of(part, "rtpmap", format).find(|map| is_rtx(map))?;
        let apt = attribute_of(part, "fmtp", format)
            .flat_map(|value| value.split(';'))
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("apt"))?
            .1;
        Some((payload_type(apt)?, payload_type(format)?))
    };
    part.media.formats.iter().filter_map(pair).collect()
}

/// The payload types of Opus: what stands first of one that is named more than once counts.
fn opus_of(part: &Part) -> Vec<Pt> {
    let mut known: Vec<(Pt, CodecName)> = Vec::new();
    for (_, value) in part.all("rtpmap") {
        let Some((format, map)) = value.split_once(' ') else { continue };
        if let (Some(pt), Some(name)) = (payload_type(format), known_codec(map.trim()))
            && known.iter().all(|(of, _)| *of != pt)
        {
            known.push((pt, name));
        }
    }
    known.into_iter().filter(|(_, name)| *name == CodecName::Opus).map(|(pt, _)| pt).collect()
}

/// `a=<name>:<format> <value>`, the values.
fn attribute_of<'a>(part: &'a Part, name: &'a str, format: &'a str) -> impl Iterator<Item = &'a str> {
    part.all(name).filter_map(move |(_, value)| {
        let (of, value) = value.split_once(' ')?;
        (of == format).then_some(value.trim())
    })
}

/// The codec of an `a=rtpmap` value: name, clock rate and, for Opus, two channels (RFC 7587 section 7).
fn known_codec(map: &str) -> Option<CodecName> {
    let mut fields = map.split('/');
    let name = CodecName::from_sdp(fields.next()?)?;
    let clock: u32 = fields.next()?.parse().ok()?;
    let channels = fields.next();
    (clock == name.clock_rate() && (name != CodecName::Opus || channels == Some("2"))).then_some(name)
}

/// Opus for redundant Opus (`red/48000/2`, RFC 2198) whose parameters name nothing but Opus's payload types.
fn red(part: &Part, format: &str, fmtp: &str, opus: &[Pt]) -> Option<CodecName> {
    let is_red = |map: &str| map.to_ascii_lowercase().starts_with("red/48000");
    attribute_of(part, "rtpmap", format).find(|map| is_red(map))?;
    let is_opus = |inner: &str| payload_type(inner).is_some_and(|pt| opus.contains(&pt));
    fmtp.split('/').all(is_opus).then_some(CodecName::Opus)
}

fn payload_type(text: &str) -> Option<Pt> {
    text.trim().parse().ok().filter(|pt| *pt < 128).map(Pt)
}

fn feedback(part: &Part, format: &str) -> Feedback {
    let mut feedback = Feedback::default();
    // RFC 4585 section 4.2: "*" stands for all formats.
    for value in attribute_of(part, "rtcp-fb", format).chain(attribute_of(part, "rtcp-fb", "*")) {
        match value {
            "nack" => feedback.nack = true,
            "nack pli" => feedback.pli = true,
            "ccm fir" => feedback.fir = true,
            "goog-remb" => feedback.remb = true,
            "transport-cc" => feedback.transport_cc = true,
            _ => {}
        }
    }
    feedback
}

/// Known header extensions; the first id wins where one is named twice. A line without an id that can be used costs
/// that extension only: the answer leaves it out, and the client does not send it then.
fn extensions(session: &Part, part: &Part) -> Vec<(u8, Extension)> {
    let mut extensions: Vec<(u8, Extension)> = Vec::new();
    for (_, value) in session.all("extmap").chain(part.all("extmap")) {
        let mut words = value.split_ascii_whitespace();
        // RFC 8285 section 4.3: the two-byte form has ids up to 255, and 0 is padding.
        let id = words.next().and_then(|word| word.split('/').next()?.parse().ok()).filter(|id: &u8| *id > 0);
        let extension = words.next().and_then(Extension::from_uri);
        if let (Some(id), Some(extension)) = (id, extension)
            && !extensions.iter().any(|(known_id, known)| *known_id == id || *known == extension)
        {
            extensions.push((id, extension));
        }
    }
    extensions
}

/// Media SSRCs with their retransmissions' (`FID`, RFC 5576 section 4.2), without FEC's, and whether they are
/// layers of an `a=ssrc-group:SIM`, which has them from the lowest to the highest.
fn ssrcs(part: &Part) -> Result<(Ssrcs, bool), SdpError> {
    let all = announced_ssrcs(part)?;
    let (mut rtx, mut fec, mut sim) = (Vec::<(Ssrc, Ssrc)>::new(), Vec::new(), Vec::<Ssrc>::new());
    for (line, value) in part.all("ssrc-group") {
        let mut words = value.split_ascii_whitespace();
        let semantics = words.next();
        let numbers: Vec<Ssrc> = words.filter_map(|word| word.parse().ok().map(Ssrc)).take(MAX_SSRCS).collect();
        match (semantics, numbers.as_slice()) {
            // One stream of retransmissions belongs to one stream of media: the first that claims it.
            (Some("FID"), [_, retransmission]) if rtx.iter().any(|(_, r)| r == retransmission) => {}
            (Some("FID"), [media, retransmission]) => rtx.push((*media, *retransmission)),
            (Some("FEC" | "FEC-FR"), [_, repair]) => fec.push(*repair),
            (Some("FID" | "FEC" | "FEC-FR"), _) => {
                return Err(part.error(Some(line), Problem::Malformed("ssrc-group")));
            }
            (Some("SIM"), numbers) if sim.is_empty() => sim.extend(numbers),
            _ => {}
        }
    }
    let is_media = |ssrc: &Ssrc| all.contains(ssrc) && !fec.contains(ssrc) && !rtx.iter().any(|(_, r)| r == ssrc);
    let with_rtx = |ssrc: Ssrc| (ssrc, rtx.iter().find(|(media, _)| *media == ssrc).map(|(_, r)| *r));
    let mut layers: Vec<Ssrc> = Vec::new();
    for ssrc in sim.into_iter().filter(is_media) {
        if !layers.contains(&ssrc) {
            layers.push(ssrc);
        }
    }
    let are_layers = layers.len() > 1;
    let media = if are_layers { layers } else { all.iter().copied().filter(is_media).collect() };
    Ok((media.into_iter().map(with_rtx).collect(), are_layers))
}

/// Every SSRC that an `a=ssrc` line names, once.
fn announced_ssrcs(part: &Part) -> Result<Vec<Ssrc>, SdpError> {
    let mut all: Vec<Ssrc> = Vec::new();
    for (line, value) in part.all("ssrc") {
        let ssrc = value.split(' ').next().and_then(|number| number.parse().ok()).map(Ssrc);
        let ssrc = ssrc.ok_or_else(|| part.error(Some(line), Problem::Malformed("ssrc")))?;
        if !all.contains(&ssrc) {
            all.push(ssrc);
        }
        if all.len() > MAX_SSRCS {
            return Err(part.error(Some(line), Problem::TooMany("SSRCs in one section", MAX_SSRCS)));
        }
    }
    Ok(all)
}

/// The layers of `a=simulcast:send` that an `a=rid` line describes (RFC 8853 section 5.1).
fn rids(part: &Part) -> Result<Vec<SimulcastLayer>, SdpError> {
    let Some((line, value)) = part.first("simulcast") else { return Ok(Vec::new()) };
    let mut words = value.split_ascii_whitespace();
    let Some(streams) = words.by_ref().find(|word| *word == "send").and_then(|_| words.next()) else {
        return Ok(Vec::new());
    };
    let mut rids: Vec<SimulcastLayer> = Vec::new();
    if streams.split(';').count() > MAX_RIDS {
        return Err(part.error(Some(line), Problem::TooMany("simulcast layers", MAX_RIDS)));
    }
    for stream in streams.split(';') {
        // Alternatives are separated by commas, a paused one begins with "~".
        let first = stream.split(',').next().unwrap_or("");
        let text = first.trim_start_matches('~');
        let rid = Rid::parse(text).map_err(|error| part.error(Some(line), Problem::Id("rid", error)))?;
        let mut described = part.all("rid").map(|(_, value)| value.split_ascii_whitespace());
        let sends = described.any(|mut words| words.next() == Some(text) && words.next() == Some("send"));
        if sends && rids.iter().all(|known| known.rid != rid) {
            rids.push(SimulcastLayer { rid, is_paused: first.starts_with('~') });
        }
    }
    Ok(rids)
}
