//! What waits for each host, in order, and where the deliveries of each instance wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::outbox::{Kept, Ticket};
use crate::clock::Time;
use crate::directory::{Host, Known};
use crate::event::InstanceId;

/// Whom a queue is for. `None`: nobody knows yet.
pub type For = Option<Host>;

/// Every queue. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Queues(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    queues: HashMap<For, Arc<Queue>>,
    /// Where the deliveries of an instance wait.
    places: HashMap<InstanceId, Places>,
}

/// Where the deliveries of an instance wait.
#[derive(Debug, Default)]
struct Places {
    /// How many in each queue.
    counts: Vec<(For, usize)>,
    /// Where the instance was when they were last routed. `None`: an earlier process did that.
    routed: Option<Route>,
}

/// Where an instance's events go: those that end waits, and those that start work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route([Vec<Host>; 2]);

impl Route {
    /// Where they go by what is known of the instance.
    pub fn of(known: &Known) -> Self {
        Self([false, true].map(|starts_work| {
            let mut hosts: Vec<_> = known.hosts_for(starts_work).cloned().collect();
            hosts.sort_unstable();
            hosts
        }))
    }

    /// The hosts that an event goes to.
    pub fn hosts(&self, starts_work: bool) -> &[Host] {
        &self.0[usize::from(starts_work)]
    }
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

    /// The queues that have deliveries of an instance, unless those were routed by this.
    pub fn to_route(&self, instance: InstanceId, route: &Route) -> Vec<Arc<Queue>> {
        let inner = self.lock();
        match inner.places.get(&instance) {
            Some(places) if places.routed.as_ref() != Some(route) => {
                places.counts.iter().filter_map(|(host, _)| inner.queues.get(host).cloned()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Deliveries of an instance will come that are routed by this.
    pub fn expect(&self, instance: InstanceId, route: Route) {
        self.lock().places.entry(instance).or_default().routed = Some(route);
    }

    /// None came, perhaps.
    pub fn expect_no_longer(&self, instance: InstanceId) {
        let mut inner = self.lock();
        if inner.places.get(&instance).is_some_and(|places| places.counts.is_empty()) {
            inner.places.remove(&instance);
        }
    }

    /// The deliveries of an instance are routed by this.
    pub fn routed(&self, instance: InstanceId, route: Route) {
        if let Some(places) = self.lock().places.get_mut(&instance) {
            places.routed = Some(route);
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
        let Places { counts, .. } = self.places.entry(instance).or_default();
        match counts.iter().position(|(other, _)| other == host) {
            Some(at) => {
                counts[at].1 = counts[at].1.saturating_add_signed(by);
                if counts[at].1 == 0 {
                    counts.swap_remove(at);
                }
            }
            None if by > 0 => counts.push((host.clone(), by.unsigned_abs())),
            None => {}
        }
        if counts.is_empty() {
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
