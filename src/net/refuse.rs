//! A connection more than there may be: told so in HTTP/2's own words, and closed.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a peer that is refused has to take that in.
const FAREWELL: Duration = Duration::from_secs(1);

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const GOAWAY: u8 = 7;
/// RFC 9113, section 7. gRPC reads it as RESOURCE_EXHAUSTED.
const ENHANCE_YOUR_CALM: u32 = 11;

/// Ends a connection with GOAWAY and a text for people.
pub(super) async fn refuse(mut io: impl AsyncRead + AsyncWrite + Unpin, text: &str) {
    // A peer that has gone, or that reads nothing, has no use for it.
    let _ = timeout(FAREWELL, farewell(&mut io, text)).await;
}

async fn farewell(io: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) -> io::Result<()> {
    io.write_all(&SETTINGS).await?;
    io.write_all(&go_away(text)).await?;
    io.shutdown().await?;
    // Closed with bytes of the peer's still unread, the connection would be reset, and the frame lost.
    let mut unread = [0; 1_024];
    while io.read(&mut unread).await? > 0 {}
    Ok(())
}

fn go_away(text: &str) -> Vec<u8> {
    let length = (8 + text.len()) as u32;
    let mut frame = Vec::with_capacity(9 + 8 + text.len());
    frame.extend_from_slice(&length.to_be_bytes()[1..]);
    frame.extend_from_slice(&[GOAWAY, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(&0u32.to_be_bytes());
    frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend_from_slice(text.as_bytes());
    frame
}
