//! The RFCs' test vectors. They start from session keys, so that they meet the transforms directly.

use super::cm::Cm;
use super::gcm::Gcm;
use super::keys::{AUTH_KEY, SessionKeys};
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const QUID_PRO_QUO: &str = "51756964 2070726f 2071756f";
const RTP: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465
    73207472 6573";
const RTCP: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef
    deadbeef deadbeef";

fn gcm(profile: SrtpProfile) -> Gcm {
    let key: Vec<u8> = (0..profile.key_len() as u8).collect();
    Gcm::new(profile, &SessionKeys::given(&key, [0; AUTH_KEY], &hex(QUID_PRO_QUO)))
}

#[test]
fn aes_gcm_rtp_is_that_of_rfc_7714_section_16() {
    for (profile, sealed) in [
        (
            SrtpProfile::AeadAes128Gcm,
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b
             36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        ),
        (
            SrtpProfile::AeadAes256Gcm,
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f
             1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ] {
        let (gcm, plain, index) = (gcm(profile), hex(RTP), 0xf17b);
        let mut packet = plain.clone();
        packet.resize(plain.len() + 16, 0);
        gcm.seal_rtp(&mut packet, 12, index);
        assert_eq!(packet, hex(sealed), "{profile:?}");
        assert!(gcm.open_rtp(&mut packet, 12, index));
        assert_eq!(packet[..plain.len()], plain);
    }
}

#[test]
fn aes_gcm_rtcp_is_that_of_rfc_7714_section_17() {
    for (profile, sealed) in [
        (
            SrtpProfile::AeadAes128Gcm,
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46
             86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        ),
        (
            SrtpProfile::AeadAes256Gcm,
            "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658
             c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
        ),
    ] {
        let (gcm, plain, index) = (gcm(profile), hex(RTCP), 0x5d4);
        let mut packet = plain.clone();
        packet.resize(plain.len() + 20, 0);
        gcm.seal_rtcp(&mut packet, index);
        assert_eq!(packet, hex(sealed), "{profile:?}");
        assert_eq!(Gcm::rtcp_word(&packet), 1 << 31 | index);
        assert!(gcm.open_rtcp(&mut packet, index));
        assert_eq!(packet[..plain.len()], plain);
    }
}

#[test]
fn the_aes_cm_key_stream_is_that_of_rfc_3711_appendix_b_2() {
    let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD");
    let cm = Cm::new(&SessionKeys::given(&hex("2B7E151628AED2A6ABF7158809CF4F3C"), [0; AUTH_KEY], &salt));
    let mut packet = [0; 12 + 48 + 10];
    cm.seal_rtp(&mut packet, 12, 0);
    let stream = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(packet[12..60].to_vec(), hex(stream));
}
