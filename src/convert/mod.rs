//! Proto to model and back, and the log's notes too.

pub mod bindings;
pub mod ended;
mod incoming;
mod outgoing;

pub use incoming::*;
pub use outgoing::*;
