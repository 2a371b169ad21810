//! Wakeful runs on a compute host beside the virt driver. An operation on an instance starts work elsewhere and
//! must not go on until an *external event* tells it that the work is done. Wakeful takes those events in over
//! gRPC, matches them against the waits that operations have opened, and wakes or fails each within its
//! deadline.
//!
//! A host's events are one log, and a wait is a question asked of it: after this place, have all of these keys
//! come? Nothing is consumed.
//!
//! The path of an event, by the modules that it goes through:
//!
//! ```text
//!  sender ─▶ net ─▶ agent::dispatch ─▶ journal ─▶ engine ─▶ agent::streams ─▶ driver
//!                   (convert, event)   append      match     a place each
//!                        ◀─────────── disposition, only after the commit
//!                                         │
//!                                         └─▶ readers: watch, list, explain
//! ```
//!
//! [`client`] is what drivers written in Rust use, [`cli`] is the command line, and `docs/ARCHITECTURE.md` says
//! what always holds.

pub mod agent;
mod backoff;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod convert;
pub mod directory;
pub mod engine;
pub mod event;
pub mod gateway;
pub mod journal;
pub mod net;
pub mod paths;
pub mod plant;
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
