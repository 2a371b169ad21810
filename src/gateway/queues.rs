//! What waits for each host, in order, and where the deliveries of each instance wait.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
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
pub struct Queues {
    inner: Arc<Mutex<Inner>>,
    /// There are strays.
    stray: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    queues: HashMap<For, Arc<Queue>>,
    /// Where the deliveries of an instance wait.
    places: HashMap<InstanceId, Places>,
    /// Instances whose deliveries have come by another route than others of theirs.
    strays: BTreeSet<InstanceId>,
}

/// Where the deliveries of an instance wait.
#[derive(Debug, Default)]
struct Places {
    /// How many in each queue.
    counts: Vec<(For, usize)>,
    /// Where the instance was when they were last routed. `None`: they have to be routed anew.
    routed: Option<Route>,
    /// Requests whose deliveries are yet to come.
    in_flight: usize,
}

/// Where an instance's events go, by what is known of it. Two are the same that lead to the same hosts, both those that
/// end waits and those that start work.
#[derive(Clone, Debug)]
pub struct Route(Arc<Known>);

impl Route {
    /// By this.
    pub fn of(known: &Arc<Known>) -> Self {
        Self(Arc::clone(known))
    }

    /// The hosts that an event goes to, in order.
    pub fn hosts(&self, starts_work: bool) -> Vec<&Host> {
        let mut hosts: Vec<_> = self.0.hosts_for(starts_work).collect();
        hosts.sort_unstable();
        hosts
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        // Nearly always nothing has changed since.
        Arc::ptr_eq(&self.0, &other.0)
            || [false, true].iter().all(|&work| self.hosts(work) == other.hosts(work))
    }
}

impl Eq for Route {}

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
    /// How often it was told that the host may be reachable again.
    pub kicks: u64,
}

impl Queues {
    /// Adds what is kept, each to its host's queue. Gives the queues that are new.
    pub fn add(&self, kept: Vec<Kept>) -> Vec<(For, Arc<Queue>)> {
        let mut inner = self.lock();
        let mut new = Vec::new();
        for kept in kept {
            let host = kept.delivery.host.clone();
            inner.one_more(kept.delivery.instance, &host);
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

    /// A request for these instances has come.
    pub fn in_flight(&self, instances: impl Iterator<Item = InstanceId>) -> InFlight {
        let mut inner = self.lock();
        let instances = instances.map(|instance| {
            inner.places.entry(instance).or_default().in_flight += 1;
            (instance, None)
        });
        InFlight { instances: instances.collect(), queues: self.clone() }
    }

    /// Whether there is something of an instance, here or in flight.
    pub fn has(&self, instance: InstanceId) -> bool {
        self.lock().places.contains_key(&instance)
    }

    /// Whether the deliveries of an instance were routed by this.
    pub fn is_routed(&self, instance: InstanceId, route: &Route) -> bool {
        self.lock().places.get(&instance).is_none_or(|places| places.routed.as_ref() == Some(route))
    }

    /// From now on the instances' deliveries are routed by these. Gives the queues that have such as were not.
    pub fn route(&self, routes: &[(InstanceId, Route)]) -> (Routing, Vec<Vec<Arc<Queue>>>) {
        let mut inner = self.lock();
        let mut routing = Routing { queues: self.clone(), instances: Vec::new() };
        let mut found = Vec::with_capacity(routes.len());
        for (instance, route) in routes {
            let mut queues = Vec::new();
            let Inner { queues: all, places, strays } = &mut *inner;
            strays.remove(instance);
            if let Some(places) = places.get_mut(instance)
                && places.routed.as_ref() != Some(route)
            {
                places.routed = Some(route.clone());
                queues.extend(places.counts.iter().filter_map(|(host, _)| all.get(host).cloned()));
                routing.instances.push(*instance);
            }
            found.push(queues);
        }
        drop(inner);
        (routing, found)
    }

    /// Ready with the strays once there are any. They are strays until they are routed, or nothing of them is left.
    pub async fn strays(&self) -> BTreeSet<InstanceId> {
        loop {
            let strays = self.lock().strays.clone();
            if !strays.is_empty() {
                return strays;
            }
            self.stray.notified().await;
        }
    }

    /// A host may be reachable again.
    pub fn kick(&self, host: &Host) {
        if let Some(queue) = self.lock().queues.get(&Some(host.clone())) {
            let mut tried = queue.tried();
            tried.next = None;
            tried.kicks += 1;
            drop(tried);
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
                inner.one_fewer(kept.delivery.instance, &kept.delivery.host);
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

    /// What there is of an instance has to be routed anew.
    fn astray(&self, inner: &mut Inner, instance: InstanceId) {
        if let Some(places) = inner.places.get_mut(&instance) {
            places.routed = None;
            inner.strays.insert(instance);
            self.stray.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// One more waits for this host.
    fn one_more(&mut self, instance: InstanceId, host: &For) {
        let counts = &mut self.places.entry(instance).or_default().counts;
        match counts.iter_mut().find(|(other, _)| other == host) {
            Some((_, count)) => *count += 1,
            None => counts.push((host.clone(), 1)),
        }
    }

    /// One fewer does.
    fn one_fewer(&mut self, instance: InstanceId, host: &For) {
        self.change(instance, |places| {
            if let Some(at) = places.counts.iter().position(|(other, _)| other == host) {
                places.counts[at].1 -= 1;
                if places.counts[at].1 == 0 {
                    places.counts.swap_remove(at);
                }
            }
        });
    }

    /// Changes where an instance's deliveries wait, and forgets it if there are none.
    fn change(&mut self, instance: InstanceId, change: impl FnOnce(&mut Places)) {
        let Entry::Occupied(mut entry) = self.places.entry(instance) else { return };
        change(entry.get_mut());
        let Places { counts, in_flight, .. } = entry.get();
        if counts.is_empty() && *in_flight == 0 {
            entry.remove();
            self.strays.remove(&instance);
        }
    }
}

/// The instances of a request, from before it looks where they are until what it keeps has come to the queues. If one
/// was routed otherwise meanwhile, what has come is a stray, and is routed anew.
#[derive(Debug)]
pub struct InFlight {
    queues: Queues,
    instances: Vec<(InstanceId, Option<Route>)>,
}

impl InFlight {
    /// Those of the instances whose deliveries go by another route than what is known of them says, in the order in
    /// which they came. What comes of the others goes by that.
    pub fn routed_otherwise(&mut self, routes: impl Iterator<Item = Route>) -> BTreeSet<InstanceId> {
        let mut inner = self.queues.lock();
        let mut otherwise = BTreeSet::new();
        for ((instance, by), route) in self.instances.iter_mut().zip(routes) {
            let Some(places) = inner.places.get_mut(instance) else { continue };
            if places.routed.is_none() && places.counts.is_empty() {
                places.routed = Some(route.clone());
            }
            if places.routed.as_ref() != Some(&route) {
                otherwise.insert(*instance);
            }
            *by = Some(route);
        }
        otherwise
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut inner = self.queues.lock();
        for (instance, by) in self.instances.drain(..) {
            let mut astray = false;
            inner.change(instance, |places| {
                places.in_flight -= 1;
                astray = by.is_some() && places.routed != by && !places.counts.is_empty();
            });
            if astray {
                self.queues.astray(&mut inner, instance);
            }
        }
    }
}

/// Instances that are being routed anew. If it comes to nothing, they are strays.
#[derive(Debug)]
pub struct Routing {
    queues: Queues,
    instances: Vec<InstanceId>,
}

impl Routing {
    /// They are routed.
    pub fn done(mut self) {
        self.instances.clear();
    }
}

impl Drop for Routing {
    fn drop(&mut self) {
        let mut inner = self.queues.lock();
        for instance in self.instances.drain(..) {
            self.queues.astray(&mut inner, instance);
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
