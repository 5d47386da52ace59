//! Offers as text, and answers that do not fit them.

use std::io::Cursor;

use super::*;

#[test]
fn the_offer_as_text_is_what_a_foreign_parser_reads() {
    let mut peer = Peer::new(Arc::new(config()), 1);
    peer.publish(CodecName::Opus);
    peer.publish(CodecName::Vp8);
    let stopped = peer.receive(CodecName::Vp8);
    peer.receive(CodecName::Opus);
    peer.stop(&stopped);
    let offer = peer.offer();
    let text = offer_text::render(&offer);
    let parsed = sdp::description::session::SessionDescription::unmarshal(&mut Cursor::new(&text)).unwrap();
    assert_eq!(parsed.marshal().lines().count(), text.lines().count());
    assert_eq!(parsed.attribute("group").unwrap(), "BUNDLE 0 1 2 3");
    let of = |n: usize, name: &str| parsed.media_descriptions[n].attribute(name).flatten().map(str::to_owned);
    for (n, (media, direction)) in
        [("audio", "sendonly"), ("video", "sendonly"), ("video", "inactive"), ("audio", "recvonly")].iter().enumerate()
    {
        let section = &parsed.media_descriptions[n];
        assert_eq!(section.media_name.media, *media);
        assert!(section.attribute(direction).is_some(), "{n}: {text}");
        assert_eq!(of(n, "mid"), Some(n.to_string()));
        assert_eq!(of(n, "ice-ufrag"), Some(offer.ice.ufrag.clone()));
    }
    let OfferSection { ssrcs, extensions, .. } = &offer.sections[1];
    assert_eq!(of(1, "ssrc-group"), Some(format!("FID {} {}", ssrcs[0].0.0, ssrcs[0].1.unwrap().0)));
    assert!(extensions.contains(&(4, Extension::Mid)));
}

#[test]
fn an_answer_with_other_sections_is_refused() {
    let mut peer = Peer::new(Arc::new(config()), 1);
    peer.publish(CodecName::Opus);
    let transport = TransportConfig::new(certificate());
    let ice = ice::generate_credentials(&mut SmallRng::seed_from_u64(3));
    let good = answer(&peer.offer(), ice, &transport, Setup::Passive);
    for (change, named) in [
        (
            Box::new(|a: &mut Answer| a.sections.push(a.sections[0].clone())) as Box<dyn Fn(&mut Answer)>,
            "2 instead of 1",
        ),
        (Box::new(|a| a.candidates.clear()), "no candidates"),
        (Box::new(|a| a.setup = Setup::ActPass), "DTLS role"),
    ] {
        let mut bad = good.clone();
        change(&mut bad);
        let error = peer.accept_answer(Instant::now(), &bad).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
