//! A client made by hand: every offer, packet and report is the test's, so that it can send what no browser would.

use std::time::Instant;

use moonring_wire::drops::DropReason;
use moonring_wire::id::{Mid, Pt, Rid, Ssrc};
use moonring_wire::media::{Codec, CodecName, Extension, Kind};
use moonring_wire::negotiate::{
    Answer, AnswerSection, AnswerStream, Direction, Feedback, IceCredentials, MediaLine, Offer, OfferSection,
    OfferedCodec, SectionKind, Setup, SimulcastLayer,
};
use moonring_wire::rtp::header::{Header, NewHeader, write_header};
use moonring_wire::rtp::protocol::{Protocol, classify};
use moonring_wire::rtp::rtcp::{self, RtcpMessage, Writer};
use moonring_wire::transport::dtls::{self, Certificate, Dtls, DtlsEvent, DtlsRole, DtlsTerms, DtlsVersions};
use moonring_wire::transport::srtp::{MAX_RTCP_OVERHEAD, SrtpIn, SrtpOut, SrtpProfile};
use moonring_wire::transport::stun;

use super::Got;
use super::stun::check;

pub(crate) const MID_ID: u8 = 4;
pub(crate) const RID_ID: u8 = 10;
pub(crate) const REPAIRED_RID_ID: u8 = 11;

/// See the module's words.
pub(crate) struct Raw {
    pub(crate) certificate: Certificate,
    pub(crate) ice: IceCredentials,
    pub(crate) setup: Setup,
    pub(crate) sections: Vec<OfferSection>,
    pub(crate) answer: Option<Answer>,
    /// What the server's reports said, in words.
    pub(crate) reports: Vec<(Instant, String)>,
    /// (SSRC, NTP, RTP time stamp) of the server's sender reports.
    pub(crate) clocks: Vec<(Ssrc, u64, u32)>,
    pub(crate) connected: bool,
    pub(crate) profile: Option<SrtpProfile>,
    /// The datagrams of RTP that came, still sealed.
    pub(crate) sealed: Vec<Vec<u8>>,
    /// Datagrams to send.
    pub(crate) out: Vec<Vec<u8>>,
    dtls: Option<Dtls>,
    srtp: Option<(SrtpOut, SrtpIn)>,
    scratch: Vec<u8>,
    checks: u64,
    is_checked: bool,
    /// Whether it answers the server's checks, as every agent does.
    pub(crate) answers_checks: bool,
    /// While set, what it would send stays in `out`.
    pub(crate) holds: bool,
}

impl Raw {
    pub(crate) fn new(certificate: Certificate, name: &str) -> Self {
        let ice = IceCredentials { ufrag: format!("uf{name}"), pwd: format!("password-of-{name:-<24}") };
        Self {
            certificate,
            ice,
            setup: Setup::ActPass,
            sections: Vec::new(),
            answer: None,
            reports: Vec::new(),
            clocks: Vec::new(),
            connected: false,
            profile: None,
            sealed: Vec::new(),
            out: Vec::new(),
            dtls: None,
            srtp: None,
            scratch: vec![0; dtls::SCRATCH],
            checks: 0,
            is_checked: false,
            answers_checks: true,
            holds: false,
        }
    }

    pub(crate) fn offer(&self) -> Offer {
        Offer {
            ice: self.ice.clone(),
            fingerprint: self.certificate.fingerprint(),
            setup: self.setup,
            sections: self.sections.clone(),
        }
    }

    pub(crate) fn accept(&mut self, now: Instant, answer: &Answer) {
        let is_new = self.answer.as_ref().is_none_or(|known| known.ice != answer.ice);
        self.answer = Some(answer.clone());
        if self.dtls.is_none() {
            let (versions, profiles) = (DtlsVersions::default(), SrtpProfile::ALL.to_vec());
            let role = if answer.setup == Setup::Active { DtlsRole::Server } else { DtlsRole::Client };
            let terms = DtlsTerms { role, versions, profiles, fingerprint: answer.fingerprint };
            self.dtls = Some(Dtls::new(now, &self.certificate, terms));
        }
        if is_new {
            let check = self.check();
            self.out.push(check);
        }
    }

    /// What a section of the last answer sends to this client.
    pub(crate) fn stream(&self, mid: &Mid) -> Option<AnswerStream> {
        self.answer.as_ref()?.sections.iter().find_map(|section| match section {
            AnswerSection::Accepted { mid: of, stream, .. } if of.as_ref() == Some(mid) => stream.clone(),
            _ => None,
        })
    }

    /// A valid connectivity check.
    pub(crate) fn check(&mut self) -> Vec<u8> {
        let answer = self.answer.as_ref().expect("an answer");
        self.checks += 1;
        check(&format!("{}:{}", answer.ice.ufrag, self.ice.ufrag), &answer.ice.pwd, self.checks)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.dtls.as_ref().and_then(Dtls::poll_timeout).filter(|_| self.is_checked)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(dtls) = self.dtls.as_mut().filter(|_| self.is_checked) {
            dtls.handle_timeout(now);
            self.drive();
        }
    }

    /// Says goodbye by DTLS.
    pub(crate) fn close(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
            self.drive();
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, bytes: &mut [u8]) -> Option<Got> {
        match classify(bytes).ok()? {
            Protocol::Stun => {
                if let Ok(request) = stun::parse(bytes) {
                    if self.answers_checks {
                        let (mut response, server) = ([0; stun::MAX_RESPONSE], super::SERVER.parse().unwrap());
                        let len = request.respond(&stun::StunKey::new(&self.ice.pwd), server, &mut response);
                        self.out.push(response[..len].to_vec());
                    }
                    return None;
                }
                // Its integrity is what the load test's peer checks.
                self.is_checked = true;
                self.handle_timeout(now);
                None
            }
            Protocol::Link => None,
            Protocol::Dtls => {
                let _ = self.dtls.as_mut()?.handle_packet(now, bytes);
                self.drive();
                None
            }
            Protocol::Rtp => {
                self.sealed.push(bytes.to_vec());
                let header = Header::parse(bytes).ok()?;
                let (_, incoming) = self.srtp.as_mut()?;
                let opened = incoming.unprotect_rtp(bytes, header.header_len, header.ssrc.0, header.sequence);
                let len = opened.ok()?.0;
                Some(Got::read(now, &header, &bytes[..len]))
            }
            Protocol::Rtcp => {
                let len = self.srtp.as_mut()?.1.unprotect_rtcp(bytes).ok()?;
                let _ = rtcp::parse(&bytes[..len], &mut |message| self.note(now, message));
                None
            }
        }
    }

    fn note(&mut self, now: Instant, message: RtcpMessage<'_>) {
        let words = match message {
            RtcpMessage::SenderReport { ssrc, ntp, rtp_time, .. } => {
                self.clocks.push((ssrc, ntp, rtp_time));
                return;
            }
            RtcpMessage::Nack { media, sequences } => format!("Nack {} {:?}", media.0, sequences.collect::<Vec<_>>()),
            RtcpMessage::Pli { media } => format!("Pli {}", media.0),
            RtcpMessage::Fir { media, .. } => format!("Fir {}", media.0),
            other => format!("{other:?}"),
        };
        self.reports.push((now, words));
    }

    fn drive(&mut self) {
        let Some(dtls) = &mut self.dtls else { return };
        let out = &mut self.out;
        while let Some(event) = dtls.poll(&mut self.scratch, |datagram| out.push(datagram.to_vec())) {
            if let DtlsEvent::Connected(keys) = event {
                let incoming = SrtpIn::new(keys.profile, &keys.remote, 64);
                self.srtp = Some((SrtpOut::new(keys.profile, &keys.local), incoming));
                self.connected = true;
                self.profile = Some(keys.profile);
            }
        }
    }

    /// An SRTP packet; `index` is its sequence number with the rollover counter.
    pub(crate) fn seal(&self, fields: &Fields<'_>, payload: &[u8]) -> Vec<u8> {
        let header = NewHeader {
            marker: fields.marker,
            payload_type: Pt(fields.pt),
            sequence: fields.index as u16,
            timestamp: fields.timestamp,
            ssrc: Ssrc(fields.ssrc),
        };
        let mut bytes = vec![0; 1_500];
        let header_len = write_header(&mut bytes, &header, fields.elements);
        bytes[header_len..header_len + payload.len()].copy_from_slice(payload);
        let (srtp, _) = self.srtp.as_ref().expect("connected");
        let len = srtp.protect_rtp(&mut bytes, header_len, header_len + payload.len(), fields.index);
        bytes.truncate(len);
        bytes
    }

    /// Any bytes, sealed as what they look like; none if that is neither RTP nor RTCP.
    pub(crate) fn seal_any(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let (srtp, _) = self.srtp.as_mut().expect("connected");
        let mut bytes = plain.to_vec();
        bytes.resize(plain.len() + MAX_RTCP_OVERHEAD, 0);
        let len = match classify(plain).ok()? {
            Protocol::Rtp => {
                let header = Header::parse(plain).ok()?;
                srtp.protect_rtp(&mut bytes, header.header_len, plain.len(), header.sequence.into())
            }
            Protocol::Rtcp => srtp.protect_rtcp(&mut bytes, plain.len()),
            Protocol::Stun | Protocol::Dtls | Protocol::Link => 0,
        };
        bytes.truncate(len);
        (len > 0).then_some(bytes)
    }

    /// An SRTCP packet.
    pub(crate) fn control(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut bytes = vec![0; 1_400];
        let mut writer = Writer::new(&mut bytes[..1_200]);
        writer.receiver_report(Ssrc(1), &[]).unwrap();
        write(&mut writer);
        let plain_len = writer.len();
        let (srtp, _) = self.srtp.as_mut().expect("connected");
        let len = srtp.protect_rtcp(&mut bytes, plain_len);
        bytes.truncate(len);
        bytes
    }
}

/// The header of a packet made by hand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) ssrc: u32,
    pub(crate) pt: u8,
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) elements: &'a [(u8, &'a [u8])],
}

/// A media section as Chrome would offer it.
pub(crate) fn section(mid: &str, codec: CodecName, direction: Direction) -> OfferSection {
    let is_video = codec.kind() == Kind::Video;
    let (pt, rtx) = if is_video { (Pt(96), Some(Pt(97))) } else { (Pt(111), None) };
    let feedback = Feedback { nack: is_video, pli: is_video, fir: false, remb: is_video, transport_cc: false };
    OfferSection {
        mid: Mid::parse(mid).unwrap(),
        has_mid: true,
        kind: SectionKind::Media(codec.kind()),
        stopped: false,
        unbundled: false,
        ice: None,
        direction,
        codecs: vec![OfferedCodec { pt, codec: Codec { name: codec, fmtp: String::new() }, rtx, feedback }],
        extensions: vec![(MID_ID, Extension::Mid)],
        ssrcs: Vec::new(),
        ssrcs_are_layers: false,
        rids: Vec::new(),
        line: MediaLine {
            media: codec.kind().as_str().into(),
            protocol: "UDP/TLS/RTP/SAVPF".into(),
            formats: vec![pt.0.to_string()],
        },
    }
}

/// A section that sends layers `rids`, from the lowest.
pub(crate) fn simulcast(mid: &str, rids: &[&str]) -> OfferSection {
    let mut section = section(mid, CodecName::Vp8, Direction::SendOnly);
    section.rids = rids.iter().map(|rid| SimulcastLayer { rid: Rid::parse(rid).unwrap(), is_paused: false }).collect();
    section.extensions.extend([(RID_ID, Extension::Rid), (REPAIRED_RID_ID, Extension::RepairedRid)]);
    section
}

/// Every reason a datagram can be dropped for, with its count.
pub(crate) fn reasons() -> impl Iterator<Item = DropReason> {
    DropReason::ALL.iter().copied()
}
