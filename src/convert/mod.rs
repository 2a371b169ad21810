//! Proto to model and back.

mod incoming;
mod outgoing;

pub use incoming::*;
pub use outgoing::*;
