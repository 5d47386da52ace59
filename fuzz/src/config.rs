//! The configuration file: a target of its own file, as the server's tests run it and the simulated world does not know
//! the server.

use moonring::Options;

use crate::targets::Target;

/// The target.
pub const TARGET: Target = Target { name: "config", run: config, seeds: config_seeds, rounds: 1_000 };

/// The configuration file.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(options) = toml::from_str::<Options>(text) {
        let _ = options.or_default().check();
    }
}

fn config_seeds() -> Vec<Vec<u8>> {
    let lists = "announced_ip = [\"203.0.113.7\"]\nmedia_ports = \"40000-40010\"\nroom_scripts = [\"town-*=town.lua\"]
script_config = [\"limit=5\"]\nhttp_allow = [\"auth.example.com\"]\nsrtp_profiles = [\"aead_aes_128_gcm\"]\n";
    vec![include_bytes!("../../moonring.example.toml").to_vec(), lists.into()]
}
