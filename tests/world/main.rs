//! The core in a simulated world: sentences about what clients experience, on virtual time, over a bad network, from
//! fixed seeds. `WORLD_SEED=random cargo test --test world` searches with others; a failure prints its seed.
#![allow(missing_docs, reason = "tests")]

mod addresses;
mod call;
mod codecs;
mod door;
mod faults;
mod follow;
mod forgery;
mod fuzzed;
mod handshake;
mod held;
mod home_moves;
mod ice;
mod keyframes;
mod layers;
mod leaving;
mod life;
mod lipsync;
mod loss;
mod loudest;
mod moves;
mod moves_nodes;
mod moves_random;
mod mute;
mod nack;
mod nodes;
mod offers;
mod operators;
mod overload;
mod policy;
mod redundancy;
mod remb;
mod replay;
mod resume;
mod rights;
mod runaways;
mod sim;
mod simulcast;
mod slow;
mod sound;
mod spread;
mod storm;
mod streams;
mod take_over;
