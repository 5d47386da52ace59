//! From text to an [`Offer`]: what belongs to the whole bundle.

use super::error::{Problem, SdpError};
use super::lines::{self, Part};
use super::section;
use crate::id::Mid;
use crate::negotiate::{Fingerprint, IceCredentials, MAX_SECTIONS, Offer, OfferSection, SectionKind, Setup};

/// Reads what a client offers. Candidates are passed over: an ICE-lite server needs none.
///
/// # Errors
///
/// Names the media section and the line where it can, for the client's developer.
///
/// ```
/// use moonring_wire::media::{CodecName, Kind};
/// use moonring_wire::negotiate::SectionKind;
/// use moonring_wire::sdp::parse_offer;
///
/// let text = concat!(
///     "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n",
///     "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n",
///     "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n",
///     "a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:",
///     "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n",
///     "a=rtpmap:111 opus/48000/2\r\na=ssrc:7 cname:ada\r\n",
/// );
/// let offer = parse_offer(text)?;
/// assert_eq!(offer.sections[0].kind, SectionKind::Media(Kind::Audio));
/// assert_eq!(offer.sections[0].codecs[0].codec.name, CodecName::Opus);
///
/// let error = parse_offer(&text.replace("a=rtcp-mux\r\n", "")).unwrap_err();
/// assert!(error.to_string().contains("rtcp-mux"), "{error}");
/// # Ok::<(), moonring_wire::sdp::SdpError>(())
/// ```
pub fn parse_offer(text: &str) -> Result<Offer, SdpError> {
    let (session, parts) = lines::split(text)?;
    if parts.is_empty() {
        return Err(session.error(None, Problem::NoSections));
    }
    let mut sections = sections(&session, &parts)?;
    let tagged = tagged(&session, &sections).ok_or_else(|| {
        let all_stopped = sections.iter().all(|section| section.stopped);
        session.error(None, if all_stopped { Problem::AllStopped } else { Problem::NothingUsable })
    })?;
    mark_unbundled(&session, &mut sections, tagged);
    check_sections(&session, &parts, &sections)?;
    // RFC 8843 section 7.3.1: the answerer takes the transport of the first section of the bundle that it accepts.
    // Firefox and aiortc give other sections of a first offer credentials of their own; they are void in the bundle.
    let tagged = &parts[tagged];
    let ice = ice_credentials(&session, tagged)?;
    // They count where the server can take the codecs of none of the sections before.
    for (part, section) in parts.iter().zip(&mut sections).filter(|(_, section)| in_use(section)) {
        section.ice = ice_credentials(&session, part).ok();
    }
    Ok(Offer {
        ice,
        fingerprint: common_fingerprint(&session, &parts, &sections, tagged)?,
        setup: setup(&session, tagged)?,
        sections,
    })
}

/// True when the text has a BUNDLE group: only then may the answer have one (RFC 8843 section 7.3).
pub fn has_bundle(text: &str) -> bool {
    text.lines().any(|line| line.strip_prefix("a=group:BUNDLE").is_some_and(|rest| rest.starts_with(' ')))
}

fn bundle(session: &Part) -> Option<impl Iterator<Item = &str>> {
    let (_, value) = session.all("group").find(|(_, value)| value.split(' ').next() == Some("BUNDLE"))?;
    Some(value.split_ascii_whitespace().skip(1))
}

/// Reads the sections. What has no mid gets a name of ours, which is none of the offer's mids and stays the same as
/// long as these do.
fn sections(session: &Part, parts: &[Part]) -> Result<Vec<OfferSection>, SdpError> {
    let mids: Vec<Option<Mid>> = parts.iter().map(section::mid).collect::<Result<_, _>>()?;
    let mut sections = Vec::with_capacity(parts.len());
    for (at, (part, mid)) in parts.iter().zip(&mids).enumerate() {
        if mid.is_some() && mids[..at].contains(mid) {
            let (line, mid) = part.first("mid").unwrap_or_default();
            return Err(part.error(Some(line), Problem::DuplicateMid(mid.to_owned())));
        }
        let listed = mid.as_ref().is_some_and(|mid| is_listed(session, mid));
        let named = match mid {
            Some(mid) => (mid.clone(), true),
            None => (spare_mid(at, &mids), false),
        };
        sections.push(section::parse(session, part, named, listed)?);
    }
    Ok(sections)
}

/// A name for section `at`: there are fewer mids than candidates, and no two sections have a candidate in common.
fn spare_mid(at: usize, mids: &[Option<Mid>]) -> Mid {
    let candidates = (0..).filter_map(|round| Mid::parse(&format!("_{}", at + round * MAX_SECTIONS)).ok());
    let mut free = candidates.filter(|mid| !mids.iter().flatten().any(|taken| taken == mid));
    free.next().expect("a number that no section is named by")
}

fn is_listed(session: &Part, mid: &Mid) -> bool {
    bundle(session).is_some_and(|mut mids| mids.any(|listed| listed == mid.as_str()))
}

fn in_use(section: &OfferSection) -> bool {
    !section.stopped && !section.unbundled && section.kind != SectionKind::Other
}

/// The section whose transport attributes count: the first one, in the group's order, that can be accepted.
fn tagged(session: &Part, sections: &[OfferSection]) -> Option<usize> {
    let usable = |section: &OfferSection| in_use(section) && !section.codecs.is_empty();
    let named = |mid: &str| sections.iter().position(|s| s.has_mid && s.mid.as_str() == mid && usable(s));
    let in_group = bundle(session).into_iter().flatten().find_map(named);
    in_group.or_else(|| sections.iter().position(usable))
}

/// There is one transport: the group's, or without a group the one of the first section that can be accepted.
/// What would need another one is refused in the answer, section by section.
fn mark_unbundled(session: &Part, sections: &mut [OfferSection], tagged: usize) {
    let listed = |section: &OfferSection| section.has_mid && is_listed(session, &section.mid);
    let bundled = listed(&sections[tagged]);
    for (at, section) in sections.iter_mut().enumerate().filter(|(_, section)| in_use(section)) {
        section.unbundled = at != tagged && !(bundled && listed(section));
    }
}

/// RTP shares the transport with RTCP, and a bundle's sections are told apart by their mids.
fn check_sections(session: &Part, parts: &[Part], sections: &[OfferSection]) -> Result<(), SdpError> {
    let has_group = bundle(session).is_some();
    for (part, section) in parts.iter().zip(sections) {
        // In an offer without a group such a section is refused; here it was meant to be a part of it.
        if !section.has_mid && section.unbundled && has_group {
            return Err(part.error(Some(part.line), Problem::Missing("mid")));
        }
        if in_use(section) && !part.has("rtcp-mux") {
            return Err(part.error(Some(part.line), Problem::Missing("rtcp-mux")));
        }
    }
    Ok(())
}

/// An attribute of a section or, when it has none, of the session.
fn inherited<'a>(session: &'a Part, part: &'a Part, name: &'static str) -> Result<(usize, &'a str), SdpError> {
    part.first(name).or_else(|| session.first(name)).ok_or_else(|| part.error(Some(part.line), Problem::Missing(name)))
}

fn ice_credentials(session: &Part, part: &Part) -> Result<IceCredentials, SdpError> {
    let value = |name: &'static str, length: std::ops::RangeInclusive<usize>| {
        let (line, value) = inherited(session, part, name)?;
        // RFC 8839 section 5.4: ice-char is a letter, a digit, "+" or "/"; some write base64 with padding.
        let well_formed = value.bytes().all(|b| b.is_ascii_graphic() && b != b':') && length.contains(&value.len());
        if well_formed { Ok(value.to_owned()) } else { Err(part.error(Some(line), Problem::Malformed(name))) }
    };
    Ok(IceCredentials { ufrag: value("ice-ufrag", 4..=256)?, pwd: value("ice-pwd", 22..=256)? })
}

fn setup(session: &Part, part: &Part) -> Result<Setup, SdpError> {
    let (line, value) = inherited(session, part, "setup")?;
    match value {
        "active" => Ok(Setup::Active),
        "passive" => Ok(Setup::Passive),
        "actpass" => Ok(Setup::ActPass),
        _ => Err(part.error(Some(line), Problem::Malformed("setup"))),
    }
}

/// The one certificate of the bundle, by the strongest of the hash functions that it is known by (RFC 8122 section 5.1).
fn common_fingerprint(
    session: &Part,
    parts: &[Part],
    sections: &[OfferSection],
    tagged: &Part,
) -> Result<Fingerprint, SdpError> {
    let source = if tagged.has("fingerprint") { tagged } else { session };
    let known = fingerprints(source)?;
    let used = parts.iter().zip(sections).filter(|(_, section)| in_use(section)).map(|(part, _)| part);
    for part in std::iter::once(session).chain(used) {
        for (line, other) in fingerprints(part)? {
            if known.iter().any(|(_, one)| one.hash() == other.hash() && *one != other) {
                return Err(part.error(Some(line), Problem::FingerprintsDiffer));
            }
        }
    }
    if let Some((_, strongest)) = known.into_iter().max_by_key(|(_, fingerprint)| fingerprint.bytes().len()) {
        return Ok(strongest);
    }
    let (line, _) = inherited(session, tagged, "fingerprint")?;
    Err(tagged.error(Some(line), Problem::UnknownHash))
}

/// Those of a part that are of a known hash function, with their lines.
fn fingerprints(part: &Part) -> Result<Vec<(usize, Fingerprint)>, SdpError> {
    let mut known = Vec::new();
    for (line, value) in part.all("fingerprint") {
        let read = Fingerprint::parse(value).map_err(|_| part.error(Some(line), Problem::Malformed("fingerprint")))?;
        known.extend(read.map(|fingerprint| (line, fingerprint)));
    }
    Ok(known)
}
