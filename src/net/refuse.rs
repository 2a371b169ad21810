//! A connection more than there may be: told so in its protocol's own words, and closed.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a peer that is refused has to take that in.
const FAREWELL: Duration = Duration::from_secs(1);

/// Ends a connection with these last words.
pub(super) async fn refuse(mut io: impl AsyncRead + AsyncWrite + Unpin, words: &[u8]) {
    // A peer that has gone, or that reads nothing, has no use for it.
    let _ = timeout(FAREWELL, farewell(&mut io, words)).await;
}

async fn farewell(io: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &[u8]) -> io::Result<()> {
    io.write_all(words).await?;
    io.shutdown().await?;
    // Closed with bytes of the peer's still unread, the connection would be reset, and the words lost.
    let mut unread = [0; 1_024];
    while io.read(&mut unread).await? > 0 {}
    Ok(())
}
