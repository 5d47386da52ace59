//! An offer as SDP text, the way a browser writes it. The server's code for SDP is not used: this is the other side.

use std::fmt::Write;

use moonring_wire::negotiate::{Direction, Feedback, MediaLine, Offer, OfferSection, OfferedCodec, Setup};

/// Writes the offer.
pub fn render(offer: &Offer) -> String {
    let mut text = String::with_capacity(1_024 * (1 + offer.sections.len()));
    text.push_str("v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    let mids: Vec<_> = offer.sections.iter().map(|section| section.mid.as_str()).collect();
    line(&mut text, format_args!("a=group:BUNDLE {}", mids.join(" ")));
    line(&mut text, format_args!("a=extmap-allow-mixed"));
    line(&mut text, format_args!("a=msid-semantic: WMS"));
    offer.sections.iter().for_each(|section| write_section(&mut text, offer, section));
    text
}

fn write_section(text: &mut String, offer: &Offer, section: &OfferSection) {
    let port = if section.stopped { 0 } else { 9 };
    let MediaLine { media, protocol, formats } = &section.line;
    line(text, format_args!("m={media} {port} {protocol} {}", formats.join(" ")));
    line(text, format_args!("c=IN IP4 0.0.0.0"));
    line(text, format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
    line(text, format_args!("a=ice-ufrag:{}", offer.ice.ufrag));
    line(text, format_args!("a=ice-pwd:{}", offer.ice.pwd));
    line(text, format_args!("a=ice-options:trickle"));
    line(text, format_args!("a=fingerprint:{}", offer.fingerprint));
    let setup = match offer.setup {
        Setup::Active => "active",
        Setup::Passive => "passive",
        Setup::ActPass => "actpass",
    };
    line(text, format_args!("a=setup:{setup}"));
    line(text, format_args!("a=mid:{}", section.mid));
    for (id, extension) in &section.extensions {
        line(text, format_args!("a=extmap:{id} {}", extension.uri()));
    }
    let direction = match section.direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    };
    line(text, format_args!("a={direction}"));
    if section.direction.sends() {
        line(text, format_args!("a=msid:load track{}", section.mid));
    }
    line(text, format_args!("a=rtcp-mux"));
    line(text, format_args!("a=rtcp-rsize"));
    section.codecs.iter().for_each(|codec| write_codec(text, codec));
    if section.ssrcs_are_layers {
        let layers: Vec<_> = section.ssrcs.iter().map(|(ssrc, _)| ssrc.0.to_string()).collect();
        line(text, format_args!("a=ssrc-group:SIM {}", layers.join(" ")));
    }
    for (ssrc, rtx) in &section.ssrcs {
        if let Some(rtx) = rtx {
            line(text, format_args!("a=ssrc-group:FID {} {}", ssrc.0, rtx.0));
        }
        for ssrc in [Some(ssrc), rtx.as_ref()].into_iter().flatten() {
            line(text, format_args!("a=ssrc:{} cname:load", ssrc.0));
            line(text, format_args!("a=ssrc:{} msid:load track{}", ssrc.0, section.mid));
        }
    }
    for layer in &section.rids {
        line(text, format_args!("a=rid:{} send", layer.rid));
    }
    if !section.rids.is_empty() {
        let rids: Vec<_> = section.rids.iter().map(|layer| layer.rid.as_str()).collect();
        line(text, format_args!("a=simulcast:send {}", rids.join(";")));
    }
}

fn write_codec(text: &mut String, offered: &OfferedCodec) {
    let (pt, name, rate) = (offered.pt.0, offered.codec.name.as_sdp(), offered.codec.name.clock_rate());
    // RFC 7587 section 7: "The number of channels [...] MUST be 2".
    let channels = if name == "opus" { "/2" } else { "" };
    line(text, format_args!("a=rtpmap:{pt} {name}/{rate}{channels}"));
    let Feedback { nack, pli, fir, remb, transport_cc } = offered.feedback;
    for (does, what) in
        [(remb, "goog-remb"), (transport_cc, "transport-cc"), (fir, "ccm fir"), (nack, "nack"), (pli, "nack pli")]
    {
        if does {
            line(text, format_args!("a=rtcp-fb:{pt} {what}"));
        }
    }
    if !offered.codec.fmtp.is_empty() {
        line(text, format_args!("a=fmtp:{pt} {}", offered.codec.fmtp));
    }
    if let Some(rtx) = offered.rtx {
        line(text, format_args!("a=rtpmap:{} rtx/{rate}", rtx.0));
        line(text, format_args!("a=fmtp:{} apt={pt}", rtx.0));
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    text.write_fmt(content).expect("a String takes all");
    text.push_str("\r\n");
}
