//! Peers that speak HTTP/2 by hand, or nothing like it.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::soon;

/// What every HTTP/2 connection starts with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const HEADER: usize = 9;

pub(crate) const HEADERS: u8 = 1;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;

/// A frame of HTTP/2.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
}

/// Says hello as HTTP/2 has it, and gives what the agent says to that.
pub(crate) async fn speak(peer: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Vec<u8> {
    peer.write_all(&[PREFACE, &EMPTY_SETTINGS].concat()).await.expect("the agent reads");
    let mut said = Vec::new();
    while !frames(&said).iter().any(|frame| frame.kind == SETTINGS) {
        assert!(soon("the agent's settings", peer.read_buf(&mut said)).await.expect("a read") > 0);
    }
    said
}

/// What the agent says until it closes the connection, in whatever way.
pub(crate) async fn until_closed(peer: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut said = Vec::new();
    // An error is a connection that was reset.
    while soon("the connection's end", peer.read_buf(&mut said)).await.is_ok_and(|read| read > 0) {}
    said
}

/// The whole frames in what was read.
pub(crate) fn frames(mut said: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let Some((&[a, b, c, kind, ..], rest)) = said.split_first_chunk::<HEADER>() {
        let Some((payload, rest)) = rest.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize) else {
            break;
        };
        frames.push(Frame { kind, payload });
        said = rest;
    }
    frames
}
