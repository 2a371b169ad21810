//! The wire: what every listener and every call goes through.

pub mod codec;
