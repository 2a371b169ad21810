//! The gateway: takes events in over REST, keeps them, and sends each to every host that has its instance.

pub mod outbox;
pub mod rest;
