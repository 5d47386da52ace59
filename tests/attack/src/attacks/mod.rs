//! The attacks, by what they go for.

mod datagrams;
mod encoders;
mod faults;
mod insiders;
mod orders;
mod policies;
mod requests;
mod resources;
mod sockets;
mod strangers;
mod streams;
#[cfg(target_arch = "x86_64")]
mod traced;

use std::future::Future;
use std::pin::Pin;

use crate::ground::Ground;

/// An attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
    /// The server is expected to end, and is started anew for the next one.
    pub(crate) ends_server: bool,
}

/// Does it, and says what came of it.
pub(crate) type Run = Box<dyn for<'a> Fn(&'a Ground) -> Running<'a>>;
type Running<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>> + 'a>>;

/// What was sent and what the server did; whether that is as it has to be.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: String,
    pub(crate) did: String,
    pub(crate) held: bool,
}

impl Outcome {
    pub(crate) fn new(sent: impl Into<String>, did: impl Into<String>, held: bool) -> Self {
        Self { sent: sent.into(), did: did.into(), held }
    }
}

/// An attack that leaves the server as it is.
fn attack<F>(name: &'static str, run: F) -> Attack
where
    F: for<'a> Fn(&'a Ground) -> Running<'a> + 'static,
{
    Attack { name, run: Box::new(run), ends_server: false }
}

/// All of them, in their order; what ends the server comes last.
pub(crate) fn all() -> Vec<Attack> {
    let strangers = [
        datagrams::all(),
        streams::strangers(),
        strangers::all(),
        sockets::all(),
        requests::all(),
        resources::all(),
        encoders::all(),
    ];
    let members = [
        insiders::all(),
        streams::members(),
        orders::all(),
        policies::all(),
        faults::all(),
        #[cfg(target_arch = "x86_64")]
        traced::all(),
    ];
    strangers.into_iter().chain(members).flatten().collect()
}
