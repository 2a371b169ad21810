//! A flag that is raised once, for all who wait for it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A flag. Clones are the same one. Who waits for it goes on in the order in which they began to wait.
#[derive(Clone, Debug, Default)]
pub struct Flag(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    raised: AtomicBool,
    news: Notify,
}

impl Flag {
    /// Raises it, for good.
    pub fn raise(&self) {
        self.0.raised.store(true, Ordering::Release);
        self.0.news.notify_waiters();
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Acquire)
    }

    /// Ready once it is raised.
    pub async fn raised(self) {
        let mut news = pin!(self.0.news.notified());
        // Before the flag is looked at, so that it cannot be raised unseen in between.
        news.as_mut().enable();
        if !self.is_raised() {
            news.await;
        }
    }
}
