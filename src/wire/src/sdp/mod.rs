//! Session descriptions: from a client's text to an [`Offer`], from an [`Answer`] to text. Pure functions.
//!
//! The `sdp` crate splits text into lines and joins them again; it refuses some texts that browsers send and keeps no
//! line numbers, so `lines` first drops what nobody here needs and remembers where everything stood.

mod answer;
mod error;
mod limits;
mod lines;
mod offer;
mod section;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;

pub use answer::{render_answer, render_unbundled_answer};
pub use error::{Problem, SdpError};
pub use offer::{has_bundle, parse_offer};

#[cfg(doc)]
use crate::negotiate::{Answer, Offer};
