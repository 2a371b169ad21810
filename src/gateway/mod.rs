//! The gateway: where the API layer hands external events in, to go on to the hosts of their instances.

pub mod rest;
