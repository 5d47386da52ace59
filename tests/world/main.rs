//! The core in a simulated world: sentences about what clients experience, on virtual time, over a bad network, from
//! fixed seeds. `WORLD_SEED=random cargo test --test world` searches with others; a failure prints its seed.
#![allow(missing_docs, reason = "tests")]

mod call;
mod codecs;
mod follow;
mod forgery;
mod fuzzed;
mod handshake;
mod ice;
mod keyframes;
mod leaving;
mod lipsync;
mod loss;
mod loudest;
mod mute;
mod offers;
mod overload;
mod policy;
mod resume;
mod runaways;
mod sim;
mod simulcast;
mod slow;
mod sound;
mod streams;
