//! The house rules, held by reading the sources: who may import whom, where a clock, a socket, `unsafe` or a lock may
//! stand, how long a file and how large a struct may be, that every dependency has a reason and a use, that no file
//! lies about unused, and that the documents name things that exist.
//!
//! `cargo test -p moonring-tidy` takes seconds, as the package depends on nothing. A rule that is in the way is changed
//! here, in the same commit as what it is in the way of, with the reason in the commit's message (CONTRIBUTING.md).
#![cfg(test)]

mod circles;
mod code;
mod crates;
mod files;
mod imports;
mod lengths;
mod links;
mod manifests;
mod modules;
mod rules;
mod shapes;
mod unused;
