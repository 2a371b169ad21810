//! The client.

pub mod address;
