//! Which agents are reachable: those whose announcing stream is open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::clock::Time;
use crate::directory::Host;

/// Every lease. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    by_host: HashMap<Host, Lease>,
    next: u64,
}

#[derive(Debug)]
struct Lease {
    number: u64,
    seen_at: Time,
    /// Dropped, the stream ends. `None`: it has ended.
    open: Option<oneshot::Sender<()>>,
}

impl Leases {
    /// A host's stream has opened. Gives its number, and what is ready once a newer one has.
    pub(super) fn open(&self, host: &Host, now: Time) -> (u64, oneshot::Receiver<()>) {
        let mut inner = self.lock();
        inner.next += 1;
        let number = inner.next;
        let (open, ended) = oneshot::channel();
        inner.by_host.insert(host.clone(), Lease { number, seen_at: now, open: Some(open) });
        (number, ended)
    }

    /// The stream of this number has closed.
    pub(super) fn close(&self, host: &Host, number: u64, now: Time) {
        if let Some(lease) = self.lock().by_host.get_mut(host)
            && lease.number == number
        {
            (lease.open, lease.seen_at) = (None, now);
        }
    }

    /// Whether a host is reachable, and when that last changed.
    pub(super) fn of(&self, host: &Host) -> (bool, Option<Time>) {
        let inner = self.lock();
        let lease = inner.by_host.get(host);
        (lease.is_some_and(|lease| lease.open.is_some()), lease.map(|lease| lease.seen_at))
    }

    /// Ends a host's stream and forgets it.
    pub(super) fn forget(&self, host: &Host) {
        self.lock().by_host.remove(host);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
