//! From an [`Answer`] to text.

use std::net::SocketAddr;

use sdp::description::common::{Address, Attribute, Bandwidth, ConnectionInformation};
use sdp::description::media::{MediaDescription, MediaName, RangedPort};
use sdp::description::session::{Origin, SessionDescription, TimeDescription};
use webrtc_ice::candidate::candidate_base::CandidateBaseConfig;
use webrtc_ice::candidate::candidate_host::CandidateHostConfig;
use webrtc_ice::candidate::{Candidate, candidate_base::CandidateBase};
use webrtc_ice::tcp_type::TcpType;

use crate::id::{Mid, Pt, Ssrc};
use crate::media::{CodecName, Extension};
use crate::negotiate::{Answer, AnswerCodec, AnswerSection, AnswerStream, Direction, Feedback, Setup, SimulcastLayer};

/// The port of sections in use: the discard port, since addresses are in candidates (RFC 8840 section 4.1.1).
const DISCARD_PORT: isize = 9;
/// Component 1: RTP, and with rtcp-mux RTCP too.
const COMPONENT: u16 = 1;
/// Priority of a host candidate with the highest local preference (RFC 8445 section 5.1.2.1).
const HOST_PRIORITY: u32 = (126 << 24) | (65_535 << 8) | (256 - COMPONENT as u32);
/// The same over TCP: less than any over UDP, of a passive end (RFC 6544 section 4.2).
const TCP_PRIORITY: u32 = (90 << 24) | ((4 << 13 | 8_191) << 8) | (256 - COMPONENT as u32);
/// `o=` wants a number that is unique for the author; the shard tells sessions apart by ICE and DTLS, so any will do.
const SESSION_ID: u64 = 1;

/// The text of an answer to an offer with a BUNDLE group.
pub fn render_answer(answer: &Answer) -> String {
    render(answer, true)
}

/// The text of an answer to an offer of one section without a BUNDLE group (RFC 8843 section 7.3: no group then).
pub fn render_unbundled_answer(answer: &Answer) -> String {
    render(answer, false)
}

fn render(answer: &Answer, bundled: bool) -> String {
    let mut session = SessionDescription {
        origin: Origin {
            username: "-".into(),
            session_id: SESSION_ID,
            session_version: answer.version,
            network_type: "IN".into(),
            address_type: "IP4".into(),
            unicast_address: "127.0.0.1".into(),
        },
        session_name: "-".into(),
        time_descriptions: vec![TimeDescription::default()],
        ..SessionDescription::default()
    };
    let mids: Vec<&str> = answer.sections.iter().filter_map(accepted_mid).collect();
    if bundled && !mids.is_empty() {
        value(&mut session.attributes, "group", format!("BUNDLE {}", mids.join(" ")));
    }
    flag(&mut session.attributes, "extmap-allow-mixed");
    value(&mut session.attributes, "msid-semantic", " WMS *".into());
    flag(&mut session.attributes, "ice-lite");

    let first = answer.sections.iter().position(|section| matches!(section, AnswerSection::Accepted { .. }));
    let media = answer.sections.iter().enumerate().map(|(at, s)| media_description(answer, s, Some(at) == first));
    session.media_descriptions = media.collect();
    session.marshal()
}

fn accepted_mid(section: &AnswerSection) -> Option<&str> {
    match section {
        AnswerSection::Accepted { mid, .. } => mid.as_ref().map(Mid::as_str),
        AnswerSection::Refused { .. } => None,
    }
}

fn media_description(answer: &Answer, section: &AnswerSection, with_candidates: bool) -> MediaDescription {
    match section {
        AnswerSection::Refused { mid, line } => {
            let mut a = Vec::new();
            // Whoever knows RFC 3264 section 6 looks at nothing behind the port. GStreamer looks for these first, and
            // refuses the whole answer where they are missing.
            transport(&mut a, answer);
            show_mid(&mut a, mid.as_ref());
            flag(&mut a, "inactive");
            media_line(&line.media, 0, &line.protocol, line.formats.clone(), a)
        }
        AnswerSection::Accepted {
            mid,
            kind,
            protocol,
            direction,
            codecs,
            extensions,
            rids,
            stream,
            max_bitrate_bps,
        } => {
            let mut a = Vec::new();
            if with_candidates {
                // Those over UDP first: some clients look at the first one alone.
                for transport in if answer.over_tcp { &[Over::Udp, Over::Tcp][..] } else { &[Over::Udp] } {
                    answer.candidates.iter().zip(0..).for_each(|(to, at)| candidate(&mut a, *transport, *to, at));
                }
                flag(&mut a, "end-of-candidates");
            }
            transport(&mut a, answer);
            show_mid(&mut a, mid.as_ref());
            extensions.iter().for_each(|(id, extension)| extmap(&mut a, *id, *extension));
            flag(&mut a, direction_word(*direction));
            if let Some(stream) = stream {
                value(&mut a, "msid", format!("{} {}", stream.stream_id, stream.track_id));
            }
            flag(&mut a, "rtcp-mux");
            flag(&mut a, "rtcp-rsize");
            codecs.iter().for_each(|c| codec(&mut a, c));
            simulcast(&mut a, rids);
            if let Some(stream) = stream {
                // Chrome refuses a description whose audio has an FID group without an rtx format.
                let rtx = stream.rtx_ssrc.filter(|_| codecs.iter().any(|codec| codec.rtx.is_some()));
                ssrcs(&mut a, stream, rtx);
            }
            let formats = codecs.iter().flat_map(|c| [Some(c.pt), c.rtx]).flatten().map(|pt| pt.0.to_string());
            let mut media = media_line(kind.as_str(), DISCARD_PORT, protocol, formats.collect(), a);
            media.bandwidth.extend(max_bitrate_bps.map(|bandwidth| Bandwidth {
                bandwidth_type: "TIAS".into(),
                bandwidth,
                ..Bandwidth::default()
            }));
            media
        }
    }
}

fn show_mid(a: &mut Vec<Attribute>, mid: Option<&Mid>) {
    if let Some(mid) = mid {
        value(a, "mid", mid.to_string());
    }
}

fn media_line(media: &str, port: isize, protocol: &str, formats: Vec<String>, a: Vec<Attribute>) -> MediaDescription {
    MediaDescription {
        media_name: MediaName {
            media: media.into(),
            port: RangedPort { value: port, range: None },
            protos: vec![protocol.into()],
            formats,
        },
        connection_information: Some(ConnectionInformation {
            network_type: "IN".into(),
            address_type: "IP4".into(),
            address: Some(Address { address: "0.0.0.0".into(), ttl: None, range: None }),
        }),
        attributes: a,
        ..MediaDescription::default()
    }
}

/// What a candidate's packets go over.
#[derive(Clone, Copy)]
enum Over {
    Udp,
    Tcp,
}

/// A host candidate; earlier ones are preferred, since local preferences have to differ (RFC 8445 section 5.1.2.1).
fn candidate(a: &mut Vec<Attribute>, over: Over, address: SocketAddr, at: u32) {
    let (network, highest, foundation, tcp_type) = match over {
        Over::Udp => ("udp", HOST_PRIORITY, "", TcpType::Unspecified),
        // The client connects.
        Over::Tcp => ("tcp", TCP_PRIORITY, "t", TcpType::Passive),
    };
    let config = CandidateHostConfig {
        base_config: CandidateBaseConfig {
            network: network.into(),
            address: address.ip().to_string(),
            port: address.port(),
            component: COMPONENT,
            priority: highest - (at.min(1024) << 8),
            foundation: format!("{foundation}{}", at + 1),
            ..CandidateBaseConfig::default()
        },
        tcp_type,
    };
    // An address that is one always makes a candidate.
    if let Ok(candidate) = config.new_candidate_host() {
        value(a, "candidate", CandidateBase::marshal(&candidate));
    }
}

fn transport(a: &mut Vec<Attribute>, answer: &Answer) {
    value(a, "ice-ufrag", answer.ice.ufrag.clone());
    value(a, "ice-pwd", answer.ice.pwd.clone());
    value(a, "fingerprint", answer.fingerprint.to_string());
    let setup = match answer.setup {
        Setup::Active => "active",
        // RFC 8842 section 5.3: an answer is never "actpass".
        Setup::Passive | Setup::ActPass => "passive",
    };
    value(a, "setup", setup.into());
}

fn extmap(a: &mut Vec<Attribute>, id: u8, extension: Extension) {
    value(a, "extmap", format!("{id} {}", extension.uri()));
}

fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

fn codec(a: &mut Vec<Attribute>, codec: &AnswerCodec) {
    let name = codec.codec.name;
    let channels = if name == CodecName::Opus { "/2" } else { "" };
    let word = if codec.codec.is_red() { "red" } else { name.as_sdp() };
    value(a, "rtpmap", format!("{} {word}/{}{channels}", codec.pt.0, name.clock_rate()));
    feedback(a, codec.pt, codec.feedback);
    if !codec.codec.fmtp.is_empty() {
        value(a, "fmtp", format!("{} {}", codec.pt.0, codec.codec.fmtp));
    }
    if let Some(rtx) = codec.rtx {
        value(a, "rtpmap", format!("{} rtx/{}", rtx.0, name.clock_rate()));
        value(a, "fmtp", format!("{} apt={}", rtx.0, codec.pt.0));
    }
}

fn feedback(a: &mut Vec<Attribute>, pt: Pt, feedback: Feedback) {
    for (wanted, word) in [
        (feedback.remb, "goog-remb"),
        (feedback.transport_cc, "transport-cc"),
        (feedback.fir, "ccm fir"),
        (feedback.nack, "nack"),
        (feedback.pli, "nack pli"),
    ] {
        if wanted {
            value(a, "rtcp-fb", format!("{} {word}", pt.0));
        }
    }
}

/// The layers that are received. Those that the offer pauses stay so: clients take what is not said to be paused here as
/// switched on (libwebrtc does).
fn simulcast(a: &mut Vec<Attribute>, rids: &[SimulcastLayer]) {
    if rids.is_empty() {
        return;
    }
    rids.iter().for_each(|layer| value(a, "rid", format!("{} recv", layer.rid)));
    let name = |layer: &SimulcastLayer| format!("{}{}", if layer.is_paused { "~" } else { "" }, layer.rid);
    let list: Vec<String> = rids.iter().map(name).collect();
    value(a, "simulcast", format!("recv {}", list.join(";")));
}

fn ssrcs(a: &mut Vec<Attribute>, stream: &AnswerStream, rtx: Option<Ssrc>) {
    if let Some(rtx) = rtx {
        value(a, "ssrc-group", format!("FID {} {}", stream.ssrc.0, rtx.0));
    }
    for ssrc in [Some(stream.ssrc), rtx].into_iter().flatten() {
        value(a, "ssrc", format!("{} cname:{}", ssrc.0, stream.cname));
        value(a, "ssrc", format!("{} msid:{} {}", ssrc.0, stream.stream_id, stream.track_id));
    }
}

fn flag(a: &mut Vec<Attribute>, name: &str) {
    a.push(Attribute::new(name.into(), None));
}

fn value(a: &mut Vec<Attribute>, name: &str, value: String) {
    a.push(Attribute::new(name.into(), Some(value)));
}
