//! An answer's SDP text as types: our server's, and that of other WHIP and WHEP servers.

use std::net::{IpAddr, SocketAddr};

use moonring_wire::id::{Mid, Pt, Rid, Ssrc};
use moonring_wire::media::{Codec, CodecName, Extension, Kind};
use moonring_wire::negotiate::{
    Answer, AnswerCodec, AnswerSection, AnswerStream, Direction, Feedback, Fingerprint, IceCredentials, MediaLine,
    Setup, SimulcastLayer,
};

use super::AnswerError;

/// Longest answer that is looked at.
const MAX_TEXT: usize = 1 << 20;
const MAX_SECTIONS: usize = 1_024;

/// Reads an answer. What a section does not say it has from the session, ICE and DTLS from whichever section says it
/// first (all are bundled).
pub fn parse(text: &str) -> Result<Answer, AnswerError> {
    if text.len() > MAX_TEXT {
        return Err(malformed("too long"));
    }
    let mut blocks = text.split("\nm=");
    let session = Lines(blocks.next().unwrap_or_default());
    let sections: Vec<Lines<'_>> = blocks.map(Lines).collect();
    if sections.is_empty() || sections.len() > MAX_SECTIONS {
        return Err(malformed("no media sections, or too many"));
    }
    let all = || std::iter::once(session).chain(sections.iter().copied());
    let first = |name: &str| all().find_map(|lines| lines.value(name));
    let ufrag = first("ice-ufrag").ok_or_else(|| malformed("no ice-ufrag"))?.to_owned();
    let pwd = first("ice-pwd").ok_or_else(|| malformed("no ice-pwd"))?.to_owned();
    let fingerprint =
        all().flat_map(|lines| lines.values("fingerprint")).find_map(|value| Fingerprint::parse(value).ok()?);
    let setup = match first("setup") {
        Some("active") => Setup::Active,
        Some("passive") => Setup::Passive,
        other => return Err(malformed(&format!("setup {other:?}"))),
    };
    let mut candidates: Vec<SocketAddr> = Vec::new();
    for address in all().flat_map(|lines| lines.values("candidate")).filter_map(candidate) {
        if !candidates.contains(&address) {
            candidates.push(address);
        }
    }
    Ok(Answer {
        version: 0,
        ice: IceCredentials { ufrag, pwd },
        fingerprint: fingerprint.ok_or_else(|| malformed("no fingerprint of a known hash function"))?,
        setup,
        candidates,
        // Loads go over UDP.
        over_tcp: false,
        sections: sections.iter().map(|lines| section(*lines)).collect::<Result<_, _>>()?,
    })
}

fn section(lines: Lines<'_>) -> Result<AnswerSection, AnswerError> {
    // The split has taken "m=".
    let mut words = lines.0.lines().next().unwrap_or_default().split_ascii_whitespace();
    let (media, port, protocol) = (words.next(), words.next(), words.next());
    let (Some(media), Some(port), Some(protocol)) = (media, port, protocol) else {
        return Err(malformed("an m= line ends early"));
    };
    let formats: Vec<String> = words.map(str::to_owned).collect();
    let mid = lines.value("mid").map(Mid::parse).transpose();
    let mid = mid.map_err(|error| malformed(&format!("the mid {error}")))?;
    let refused = || MediaLine { media: media.into(), protocol: protocol.into(), formats: formats.clone() };
    let kind = match media {
        "audio" => Kind::Audio,
        "video" => Kind::Video,
        _ => return Ok(AnswerSection::Refused { mid, line: refused() }),
    };
    if port == "0" {
        return Ok(AnswerSection::Refused { mid, line: refused() });
    }
    Ok(AnswerSection::Accepted {
        mid,
        kind,
        protocol: protocol.to_owned(),
        direction: lines.direction(),
        codecs: codecs(lines, &formats),
        extensions: lines.values("extmap").filter_map(extension).collect(),
        rids: lines.values("rid").filter_map(layer).collect(),
        stream: stream(lines),
        max_bitrate_bps: lines.0.lines().find_map(|line| line.trim_end().strip_prefix("b=TIAS:")?.parse().ok()),
    })
}

fn layer(value: &str) -> Option<SimulcastLayer> {
    Some(SimulcastLayer { rid: Rid::parse(value.split(' ').next()?).ok()?, is_paused: false })
}

fn codecs(lines: Lines<'_>, formats: &[String]) -> Vec<AnswerCodec> {
    let of = |name: &'static str, pt: &str| {
        let start = format!("{pt} ");
        lines.values(name).filter_map(move |value| Some(value.strip_prefix(start.as_str())?.trim()))
    };
    let rtx_of = |pt: &str| {
        let apt = format!("apt={pt}");
        let is_rtx = |other: &&String| of("fmtp", other).any(|fmtp| fmtp.split(';').any(|p| p.trim() == apt));
        formats.iter().find(is_rtx)?.parse().ok().map(Pt)
    };
    let codec = |pt: &String| {
        let name = CodecName::from_sdp(of("rtpmap", pt).next()?.split('/').next()?)?;
        let has = |what: &str| of("rtcp-fb", pt).any(|fb| fb == what);
        Some(AnswerCodec {
            pt: Pt(pt.parse().ok()?),
            codec: Codec { name, fmtp: of("fmtp", pt).next().unwrap_or_default().to_owned() },
            rtx: rtx_of(pt),
            feedback: Feedback {
                nack: has("nack"),
                pli: has("nack pli"),
                fir: has("ccm fir"),
                remb: has("goog-remb"),
                transport_cc: has("transport-cc"),
            },
        })
    };
    formats.iter().filter_map(codec).collect()
}

fn stream(lines: Lines<'_>) -> Option<AnswerStream> {
    let group = lines.value("ssrc-group").and_then(|group| {
        let mut ssrcs = group.strip_prefix("FID ")?.split(' ').filter_map(|ssrc| ssrc.trim().parse().ok().map(Ssrc));
        Some((ssrcs.next()?, ssrcs.next()))
    });
    let attributes = || lines.values("ssrc").filter_map(|value| value.split_once(' '));
    let first = || Some((Ssrc(attributes().next()?.0.parse().ok()?), None));
    let (ssrc, rtx_ssrc) = group.or_else(first)?;
    let cname = attributes().find_map(|(_, attribute)| attribute.strip_prefix("cname:")).unwrap_or_default();
    let from_ssrc = || attributes().find_map(|(_, attribute)| attribute.strip_prefix("msid:"));
    let msid = lines.value("msid").or_else(from_ssrc).unwrap_or_default();
    let (stream_id, track_id) = msid.split_once(' ').unwrap_or((msid, ""));
    Some(AnswerStream {
        ssrc,
        rtx_ssrc,
        stream_id: stream_id.into(),
        track_id: track_id.trim().into(),
        cname: cname.trim().into(),
    })
}

/// `4 urn:ietf:params:rtp-hdrext:sdes:mid`, perhaps with a direction behind the id.
fn extension(value: &str) -> Option<(u8, Extension)> {
    let mut words = value.split_ascii_whitespace();
    let id = words.next()?.split('/').next()?.parse().ok()?;
    Some((id, Extension::from_uri(words.next()?)?))
}

/// `foundation component udp priority address port typ ...` (RFC 8839 section 5.1): UDP for RTP.
fn candidate(value: &str) -> Option<SocketAddr> {
    let mut words = value.split_ascii_whitespace().skip(1);
    let (component, transport, _priority) = (words.next()?, words.next()?, words.next()?);
    let address: IpAddr = words.next()?.parse().ok()?;
    let usable = component == "1" && transport.eq_ignore_ascii_case("udp");
    usable.then_some(SocketAddr::new(address, words.next()?.parse().ok()?))
}

fn malformed(what: &str) -> AnswerError {
    AnswerError::Malformed(what.into())
}

/// The lines of the session or of a section.
#[derive(Clone, Copy)]
struct Lines<'a>(&'a str);

impl<'a> Lines<'a> {
    fn values(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.lines().filter_map(move |line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
    }

    fn value(self, name: &str) -> Option<&'a str> {
        self.values(name).next().map(str::trim)
    }

    fn direction(self) -> Direction {
        let of = |line: &str| match line.trim_end() {
            "a=sendrecv" => Some(Direction::SendRecv),
            "a=sendonly" => Some(Direction::SendOnly),
            "a=recvonly" => Some(Direction::RecvOnly),
            "a=inactive" => Some(Direction::Inactive),
            _ => None,
        };
        // RFC 8866 section 6.7: sendrecv is the default.
        self.0.lines().find_map(of).unwrap_or(Direction::SendRecv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-lite\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:secret\r\n\
        a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
        a=setup:passive\r\na=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 40000 typ host\r\n\
        a=candidate:2 1 UDP 2130706175 ::1 40000 typ host generation 0\r\na=candidate:3 1 tcp 1 127.0.0.1 9 typ host\r\n\
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendonly\r\na=msid:stream track\r\na=rtcp-mux\r\n\
        a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
        a=ssrc-group:FID 11 12\r\na=ssrc:11 cname:c\r\na=ssrc:12 cname:c\r\n\
        m=audio 0 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=inactive\r\n";

    #[test]
    fn an_answer_is_read_section_by_section() {
        let answer = parse(TEXT).unwrap();
        assert_eq!((answer.ice.ufrag.as_str(), answer.ice.pwd.as_str()), ("abcd", "secret"));
        assert_eq!(
            answer.candidates,
            ["127.0.0.1:40000", "[::1]:40000"].map(|text| text.parse::<SocketAddr>().unwrap())
        );
        assert_eq!((answer.setup, answer.fingerprint.bytes()[31]), (Setup::Passive, 0x1F));
        let AnswerSection::Accepted { direction, codecs, extensions, stream, .. } = &answer.sections[0] else {
            panic!("{answer:?}")
        };
        assert_eq!(*direction, Direction::SendOnly);
        assert_eq!((codecs[0].pt, codecs[0].rtx, codecs[0].codec.name), (Pt(96), Some(Pt(97)), CodecName::Vp8));
        assert!(codecs[0].feedback.nack && codecs[0].feedback.pli && !codecs[0].feedback.remb);
        assert_eq!(extensions[..], [(4, Extension::Mid)]);
        let stream = stream.as_ref().unwrap();
        assert_eq!((stream.ssrc, stream.rtx_ssrc), (Ssrc(11), Some(Ssrc(12))));
        assert_eq!((stream.stream_id.as_str(), stream.track_id.as_str()), ("stream", "track"));
        assert!(matches!(&answer.sections[1], AnswerSection::Refused { line, .. } if line.media == "audio"));
    }

    #[test]
    fn what_is_no_answer_is_named() {
        for (from, to, named) in [
            ("m=", "x=", "no media"),
            ("a=ice-pwd", "a=x", "ice-pwd"),
            ("a=fingerprint:sha-256", "a=fingerprint:sha-1", "fingerprint"),
            ("a=setup:passive", "a=setup:actpass", "actpass"),
        ] {
            let error = parse(&TEXT.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        for len in 0..TEXT.len() {
            let _ = parse(&TEXT[..len]);
        }
    }
}
