//! A request's body: read within its bounds, or passed over.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use http::StatusCode;
use http_body::Body as _;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::envelope::Fault;

/// How long, and up to how many times `max_body`, what a refused caller still sends is read and dropped. Closed
/// with bytes unread, its connection would be reset, and it might never see why.
const PASS_OVER: Duration = Duration::from_secs(1);
const PASS_OVER_TIMES: usize = 8;

/// A body that may not have been read to its end.
pub(super) struct Unread {
    stream: BodyDataStream,
    least: u64,
    max: usize,
    /// The caller sends nothing before it is asked to.
    waits: bool,
}

impl Unread {
    /// This body, of which up to `max` bytes are taken. A caller that `waits` is one that expects 100 Continue.
    pub(super) fn new(body: Body, max: usize, waits: bool) -> Self {
        let least = body.size_hint().lower();
        Self { stream: body.into_data_stream(), least, max, waits }
    }

    /// All of it.
    ///
    /// # Errors
    ///
    /// 413 if it is over the bound, 408 if it takes longer than `within`, 400 if it breaks off.
    pub(super) async fn read(&mut self, within: Duration) -> Result<Vec<u8>, Fault> {
        timeout(within, self.collect()).await.unwrap_or_else(|_| {
            let text = format!("the body has not come within body_timeout, {within:?}");
            // Nothing more is expected of it.
            self.waits = true;
            Err(Fault::new(StatusCode::REQUEST_TIMEOUT, text).and_close())
        })
    }

    async fn collect(&mut self) -> Result<Vec<u8>, Fault> {
        let max = self.max;
        let over = || {
            let text = format!("the body is larger than max_body, {max} bytes");
            Fault::new(StatusCode::PAYLOAD_TOO_LARGE, text)
        };
        if usize::try_from(self.least).map_or(true, |least| least > max) {
            return Err(over());
        }
        let mut read = Vec::new();
        while let Some(part) = self.stream.next().await {
            let part = part.map_err(|_| {
                self.waits = true;
                Fault::new(StatusCode::BAD_REQUEST, "the body broke off").and_close()
            })?;
            self.waits = false;
            if read.len() + part.len() > max {
                return Err(over());
            }
            read.extend_from_slice(&part);
        }
        Ok(read)
    }

    /// Reads what is left of it, within bounds, and drops it.
    pub(super) async fn pass_over(mut self) {
        if self.waits {
            return;
        }
        let mut left = self.max.saturating_mul(PASS_OVER_TIMES);
        let pass = async {
            while let Some(Ok(part)) = self.stream.next().await {
                match left.checked_sub(part.len()) {
                    Some(less) => left = less,
                    None => break,
                }
            }
        };
        let _ = timeout(PASS_OVER, pass).await;
    }
}
