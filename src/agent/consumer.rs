//! A consumer's open stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::{Shared, stopping};
use crate::event::Position;
use crate::journal::consumers::{Attachment, Change, ConsumerError};
use crate::readers::watch::Named;
use crate::status::{self, Refusal};

impl Shared {
    /// Asks something of the consumers.
    pub(super) async fn change<T>(
        &self,
        change: impl FnOnce(oneshot::Sender<T>) -> Change,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.consumer(change(reply));
        answer.await.map_err(|_| stopping())
    }

    pub(super) fn refuse_consumer(&self, error: ConsumerError) -> Refusal {
        status::consumer(error, self.log.cursor(self.log.oldest().before()))
    }
}

/// A consumer's open stream. Dropped, it is closed.
pub(super) struct Consumer {
    shared: Arc<Shared>,
    name: String,
    attachment: Attachment,
    /// How far it has said that it looked.
    told: Position,
}

impl Consumer {
    /// Opens it; one of the same name ends. From its first answer on its cursor is on disk.
    pub(super) async fn attach(
        shared: &Arc<Shared>,
        name: String,
        after: Option<Position>,
    ) -> Result<Self, Refusal> {
        let asked = name.clone();
        let attached = shared.change(|reply| Change::Attach { name: asked, after, reply }).await?;
        let attachment = attached.map_err(|error| shared.refuse_consumer(error))?;
        let told = attachment.from;
        Ok(Self { shared: Arc::clone(shared), name, attachment, told })
    }

    pub(super) fn from(&self) -> Position {
        self.attachment.from
    }
}

impl Named for Consumer {
    fn looked(&mut self, sent: Position, at: Position) {
        let acknowledged = Position(self.attachment.acknowledged.load(Ordering::Relaxed));
        if sent <= acknowledged.max(self.attachment.from) && at > self.told {
            self.told = at;
            let (name, number) = (self.name.clone(), self.attachment.number);
            self.shared.consumer(Change::Looked { name, number, position: at });
        }
    }

    async fn ended(&mut self) {
        // It ends by being dropped.
        let _ = (&mut self.attachment.ended).await;
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        self.shared.consumer(Change::Detach { name, number: self.attachment.number });
    }
}
