//! Wakeful.
pub mod agent;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod convert;
pub mod engine;
pub mod event;
pub mod journal;
pub mod net;
pub mod paths;
pub mod readers;
pub mod status;
pub mod telemetry;

/// The messages and services of `proto/wakeful/v1`, as generated.
pub mod proto {
    #![allow(missing_docs, clippy::all, reason = "generated; the documentation is in proto/")]

    tonic::include_proto!("wakeful.v1");

    /// The compiled descriptors of everything in `proto/`, comments included.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
