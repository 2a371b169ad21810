//! The wire: what every listener, every connection and every call goes through.
//!
//! One accept loop of our own serves TCP and the Unix socket, whatever is spoken there, because the server that
//! comes with tonic does not stop while a peer holds a stream open, and bounds neither connections nor silence.

pub mod call;
pub mod codec;
pub mod flag;
pub mod http1;
pub mod http2;
pub mod listen;
pub mod outbound;
pub(crate) mod reflection;
mod refuse;
pub mod roads;
pub mod serve;
#[cfg(test)]
pub(crate) mod testing;
pub mod wire;
