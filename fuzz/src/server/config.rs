//! The configuration file.

use moonring::Options;

/// What can be read is completed by the defaults and checked.
pub(super) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(options) = toml::from_str::<Options>(text) {
        let _ = options.or_default().check();
    }
}

pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    let lists = "announced_ip = [\"203.0.113.7\"]\nmedia_ports = \"40000-40010\"\nroom_scripts = [\"town-*=town.lua\"]
script_config = [\"limit=5\"]\nhttp_allow = [\"auth.example.com\"]\nsrtp_profiles = [\"aes-128-gcm\"]\n";
    vec![include_bytes!("../../../moonring.example.toml").to_vec(), lists.into()]
}
