//! For the people who write policies: [`check`] reads a script and says what looks wrong; [`trial`] runs a script's own
//! tests against the real engine, with clients, time, HTTP and the shared store made up. Nothing here touches a file or
//! a clock: `crate::tools` does.

mod bytecode;
pub mod check;
mod fields;
mod file_kind;
mod maps;
mod methods;
mod mistakes;
mod misuse;
pub mod names;
mod nearest;
pub mod replay;
pub mod told;
pub mod trial;

/// How much more CPU time a script has here than in a room: the machine may be slower, or busy with other things.
const PATIENCE: u32 = 20;
