//! What waits for each host, in order, and where the deliveries of each instance wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::outbox::{Kept, Ticket};
use crate::clock::Time;
use crate::directory::Host;
use crate::event::InstanceId;

/// Whom a queue is for. `None`: nobody knows yet.
pub type For = Option<Host>;

/// Every queue. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Queues(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    queues: HashMap<For, Arc<Queue>>,
    /// Where the deliveries of an instance wait, and how many in each place.
    places: HashMap<InstanceId, Vec<(For, usize)>>,
}

/// One host's queue.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<VecDeque<Kept>>,
    /// Something is new: a delivery, or that it may be tried again.
    pub news: Notify,
    tried: Mutex<Tried>,
}

/// How it went with a host.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Attempts that failed since the last that did not.
    pub failures: u32,
    /// Why the last one did.
    pub error: Option<String>,
    /// When it is tried again.
    pub next: Option<Time>,
}

impl Queues {
    /// Adds what is kept, each to its host's queue. Gives the queues that are new.
    pub fn add(&self, kept: Vec<Kept>) -> Vec<(For, Arc<Queue>)> {
        let mut inner = self.lock();
        let mut new = Vec::new();
        for kept in kept {
            let host = kept.delivery.host.clone();
            inner.count(kept.delivery.instance, &host, 1);
            let queue = inner.queues.entry(host.clone()).or_insert_with(|| {
                let queue = Arc::<Queue>::default();
                new.push((host, Arc::clone(&queue)));
                queue
            });
            queue.lock().push_back(kept);
            queue.news.notify_one();
        }
        new
    }

    /// The queues that have deliveries of an instance for hosts other than these.
    pub fn elsewhere(&self, instance: InstanceId, hosts: &[&Host]) -> Vec<Arc<Queue>> {
        let inner = self.lock();
        let Some(places) = inner.places.get(&instance) else { return Vec::new() };
        let other = |host: &For| host.as_ref().is_none_or(|host| !hosts.contains(&host));
        let others = places.iter().filter(|(host, _)| other(host));
        others.filter_map(|(host, _)| inner.queues.get(host).cloned()).collect()
    }

    /// Something has changed for these instances: whoever waits with deliveries of them is to look again.
    pub fn changed(&self, instances: impl IntoIterator<Item = InstanceId>) {
        let inner = self.lock();
        for instance in instances {
            for (host, _) in inner.places.get(&instance).into_iter().flatten() {
                if let Some(queue) = inner.queues.get(host) {
                    queue.news.notify_one();
                }
            }
        }
    }

    /// A host may be reachable again.
    pub fn kick(&self, host: &Host) {
        if let Some(queue) = self.lock().queues.get(&Some(host.clone())) {
            queue.tried().next = None;
            queue.news.notify_one();
        }
    }

    /// Takes out of a queue what has ended. Gives the tickets of those that were still in it.
    pub fn remove(&self, queue: &Queue, tickets: &[Ticket]) -> Vec<Ticket> {
        let mut inner = self.lock();
        let mut waiting = queue.lock();
        let mut removed = Vec::with_capacity(tickets.len());
        // What ends is nearly always what is at the front.
        for &ticket in tickets {
            let kept = match waiting.front() {
                Some(front) if front.ticket == ticket => waiting.pop_front(),
                _ => match waiting.binary_search_by_key(&ticket, |kept| kept.ticket) {
                    Ok(at) => waiting.remove(at),
                    Err(_) => None,
                },
            };
            if let Some(kept) = kept {
                inner.count(kept.delivery.instance, &kept.delivery.host, -1);
                removed.push(ticket);
            }
        }
        removed
    }

    /// How many deliveries wait.
    pub fn len(&self) -> usize {
        self.lock().queues.values().map(|queue| queue.lock().len()).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every queue that has something, or whose host could not be reached.
    pub fn all(&self) -> BTreeMap<For, Arc<Queue>> {
        self.lock().queues.iter().map(|(host, queue)| (host.clone(), Arc::clone(queue))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn count(&mut self, instance: InstanceId, host: &For, by: isize) {
        let places = self.places.entry(instance).or_default();
        match places.iter().position(|(other, _)| other == host) {
            Some(at) => {
                places[at].1 = places[at].1.saturating_add_signed(by);
                if places[at].1 == 0 {
                    places.swap_remove(at);
                }
            }
            None if by > 0 => places.push((host.clone(), by.unsigned_abs())),
            None => {}
        }
        if places.is_empty() {
            self.places.remove(&instance);
        }
    }
}

impl Queue {
    /// The first of those that wait, `most` of them.
    pub fn front(&self, most: usize) -> Vec<Kept> {
        self.lock().iter().take(most).cloned().collect()
    }

    /// Those of an instance.
    pub fn of(&self, instance: InstanceId) -> Vec<Kept> {
        self.lock().iter().filter(|kept| kept.delivery.instance == instance).cloned().collect()
    }

    /// Whether one still waits.
    pub fn has(&self, ticket: Ticket) -> bool {
        self.lock().binary_search_by_key(&ticket, |kept| kept.ticket).is_ok()
    }

    /// How many wait, and since when the oldest was kept.
    pub fn depth(&self) -> (usize, Option<Time>) {
        let waiting = self.lock();
        (waiting.len(), waiting.front().map(|kept| kept.delivery.kept_at))
    }

    /// How it went with the host.
    pub fn tried(&self) -> MutexGuard<'_, Tried> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
