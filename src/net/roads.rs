//! The way to a peer: over TCP, or in a simulated world.

use tonic::transport::Channel;

use crate::client::address::Address;

/// Where peers are reached.
pub trait Roads: Send + Sync + 'static {
    /// A way to the peer at an address, which is connected with the first call; `None` if that is no address.
    fn to(&self, address: &str) -> Option<Channel>;
}

/// Over TCP.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Roads for Tcp {
    fn to(&self, address: &str) -> Option<Channel> {
        Address::Tcp(address.to_owned()).channel().ok()
    }
}
