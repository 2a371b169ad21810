//! The directory's state and its rules, without disk, clock and tasks.
//!
//! A host has at most one role for an instance, the newest that its driver told; and beside it, it may be *waiting*:
//! an operation on it waits for the instance's events. Each new role gets a revision, higher than all before. An
//! agent that announces a role with its revision keeps it. Of the hosts that say HOST the one with the highest
//! revision is right, and the others are stale: also once that one has said that the instance is no more, or is on no
//! host, for they know of nothing newer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{Bound, Claim, Host, Revision, Role, Why};
use crate::clock::Time;
use crate::event::InstanceId;

/// What a host is to one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The host.
    pub host: Host,
    /// Its role, if its driver told one.
    pub role: Option<(Role, Revision)>,
    /// When that became so; see [`Claim`].
    pub bound_at: Option<Time>,
    /// An operation on it waits for the instance's events.
    pub waiting: bool,
}

/// What is known of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Where it is.
    pub bindings: Vec<Binding>,
    /// Why it was last taken from a host, and when; kept while no host has a role for it that is not stale.
    pub unbound: Option<(Why, Time)>,
    /// What hosts said up to this revision is over: a newer one has said that it is no more, or on no host.
    pub over: Revision,
}

impl Known {
    /// The host that has it.
    pub fn host(&self) -> Option<&Host> {
        let hosts = self.bindings.iter().filter_map(|binding| match binding.role {
            Some((Role::Host, revision)) if revision > self.over => Some((revision, &binding.host)),
            _ => None,
        });
        hosts.max_by_key(|(revision, _)| *revision).map(|(_, host)| host)
    }

    /// Whether a host says that it has it, and another does with a higher revision, or has said that it is over.
    pub fn is_stale(&self, binding: &Binding) -> bool {
        matches!(binding.role, Some((Role::Host, _))) && self.host() != Some(&binding.host)
    }

    /// Whether it is on its way from one host to another.
    pub fn is_migrating(&self) -> bool {
        let migrating = |role| matches!(role, Role::MigrationSource | Role::MigrationDestination);
        self.bindings.iter().any(|binding| binding.role.is_some_and(|(role, _)| migrating(role)))
    }

    /// The hosts that an event goes to. One that starts work goes only where the instance is; one that ends a wait
    /// goes also where it was thought to be, unless it is known to be nowhere, and where it is waited for.
    pub fn hosts_for(&self, starts_work: bool) -> impl Iterator<Item = &Host> {
        let takes = move |binding: &&Binding| match starts_work {
            true => self.is_at(binding),
            false => binding.waiting || self.unbound.is_none() || self.is_at(binding),
        };
        self.bindings.iter().filter(takes).map(|binding| &binding.host)
    }

    fn is_bound(&self) -> bool {
        !self.bindings.is_empty()
    }

    /// Whether some host has it, or is a part of its migration.
    pub fn is_somewhere(&self) -> bool {
        self.bindings.iter().any(|binding| self.is_at(binding))
    }

    fn is_at(&self, binding: &Binding) -> bool {
        binding.role.is_some() && !self.is_stale(binding)
    }

    fn on(&mut self, host: &Host) -> Option<&mut Binding> {
        self.bindings.iter_mut().find(|binding| binding.host == *host)
    }

    fn on_or_new(&mut self, host: &Host) -> &mut Binding {
        let at = self.bindings.iter().position(|binding| binding.host == *host).unwrap_or_else(|| {
            self.bindings.push(Binding { host: host.clone(), role: None, bound_at: None, waiting: false });
            self.bindings.len() - 1
        });
        &mut self.bindings[at]
    }

    fn tidy(&mut self) {
        self.bindings.retain(|binding| binding.role.is_some() || binding.waiting);
        if self.bindings.is_empty() && self.unbound.is_none() {
            self.over = Revision::default();
        }
    }
}

/// What an agent tells of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The host has this role.
    Bind(Claim),
    /// It has none any longer.
    Unbind(Why),
    /// An operation there waits for its events.
    Wait,
    /// None does any longer.
    WaitEnded,
}

/// What an agent tells.
#[derive(Clone, Debug)]
pub struct Announced {
    /// Its host.
    pub host: Host,
    /// Where it takes events in, with the first that it tells on a stream.
    pub address: Option<String>,
    /// These are all the roles that the host has. Where it waits, the first on a stream always tells whole.
    pub whole: bool,
    /// Instance by instance, in order.
    pub changes: Vec<(InstanceId, Change)>,
}

/// All bindings.
#[derive(Debug)]
pub struct Table {
    instances: BTreeMap<InstanceId, Arc<Known>>,
    by_host: HashMap<Host, BTreeSet<InstanceId>>,
    addresses: BTreeMap<Host, String>,
    /// Instances that are on no host, by when they were unbound.
    unbound: BTreeSet<(Time, InstanceId)>,
    newest: Revision,
    keep: Duration,
    max_unbound: usize,
}

/// What has changed, to be kept.
#[derive(Debug, Default)]
pub struct Touched {
    /// These instances.
    pub instances: BTreeSet<InstanceId>,
    /// These hosts.
    pub hosts: BTreeSet<Host>,
}

impl Table {
    /// An empty one. Why an instance is on no host is kept for `keep`, and of at most `max_unbound` instances.
    pub fn new(keep: Duration, max_unbound: usize) -> Self {
        Self {
            instances: BTreeMap::new(),
            by_host: HashMap::new(),
            addresses: BTreeMap::new(),
            unbound: BTreeSet::new(),
            newest: Revision(0),
            keep,
            max_unbound,
        }
    }

    /// What is known of an instance.
    pub fn get(&self, instance: InstanceId) -> Option<&Arc<Known>> {
        self.instances.get(&instance)
    }

    /// Bound instances after `after`, in order.
    pub fn bound_after(&self, after: Option<InstanceId>) -> impl Iterator<Item = (InstanceId, &Arc<Known>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let bound = self.instances.range((from, Unbounded)).filter(|(_, known)| known.is_bound());
        bound.map(|(instance, known)| (*instance, known))
    }

    /// The instances that a host has something to do with.
    pub fn instances_of(&self, host: &Host) -> impl Iterator<Item = InstanceId> {
        self.by_host.get(host).into_iter().flatten().copied()
    }

    /// Where a host's agent takes events in.
    pub fn address(&self, host: &Host) -> Option<&str> {
        self.addresses.get(host).map(String::as_str)
    }

    /// All hosts, with where their agents take events in.
    pub fn hosts(&self) -> impl Iterator<Item = (&Host, &str)> {
        self.addresses.iter().map(|(host, address)| (host, address.as_str()))
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, instance: InstanceId, known: Known) {
        for binding in &known.bindings {
            if let Some((_, revision)) = binding.role {
                self.newest = self.newest.max(revision);
            }
        }
        self.put(instance, known);
    }

    /// Puts a host back that was kept.
    pub fn restore_host(&mut self, host: Host, address: String) {
        self.addresses.insert(host, address);
    }

    /// No revision up to this one is given again.
    pub fn restore_newest(&mut self, newest: Revision) {
        self.newest = self.newest.max(newest);
    }

    /// The newest revision given.
    pub fn newest(&self) -> Revision {
        self.newest
    }

    /// Takes in what an agent tells. Gives the revisions of its roles that are other than what it told.
    pub fn announce(&mut self, at: Time, announced: &Announced, touched: &mut Touched) -> Vec<Bound> {
        let Announced { host, address, whole, changes } = announced;
        if let Some(address) = address
            && self.addresses.get(host) != Some(address)
        {
            self.addresses.insert(host.clone(), address.clone());
            touched.hosts.insert(host.clone());
        }
        // An agent knows its waits by itself, and its bindings once a driver has told them all.
        if address.is_some() {
            self.unbind_others(at, host, *whole, changes, touched);
        }
        let mut bound = Vec::new();
        for (instance, change) in changes {
            bound.extend(self.change(at, host, *instance, *change, touched));
        }
        self.expire(at, touched);
        bound
    }

    /// Forgets a host. Gives how many bindings it had.
    pub fn forget(&mut self, at: Time, host: &Host, touched: &mut Touched) -> usize {
        let had: Vec<_> = self.by_host.get(host).into_iter().flatten().copied().collect();
        for instance in &had {
            self.change(at, host, *instance, Change::Unbind(Why::Moved), touched);
            self.change(at, host, *instance, Change::WaitEnded, touched);
        }
        if self.addresses.remove(host).is_some() {
            touched.hosts.insert(host.clone());
        }
        had.len()
    }

    fn unbind_others(
        &mut self,
        at: Time,
        host: &Host,
        roles_too: bool,
        changes: &[(InstanceId, Change)],
        touched: &mut Touched,
    ) {
        let told = |wanted: fn(&Change) -> bool| {
            let told = changes.iter().filter(move |(_, change)| wanted(change));
            told.map(|(instance, _)| *instance).collect::<BTreeSet<_>>()
        };
        let roles = told(|change| matches!(change, Change::Bind(..)));
        let waits = told(|change| matches!(change, Change::Wait));
        let had: Vec<_> = self.by_host.get(host).into_iter().flatten().copied().collect();
        for instance in had {
            if roles_too && !roles.contains(&instance) {
                self.change(at, host, instance, Change::Unbind(Why::Moved), touched);
            }
            if !waits.contains(&instance) {
                self.change(at, host, instance, Change::WaitEnded, touched);
            }
        }
    }

    fn change(
        &mut self,
        at: Time,
        host: &Host,
        instance: InstanceId,
        change: Change,
        touched: &mut Touched,
    ) -> Option<Bound> {
        let before = self.instances.get(&instance).cloned().unwrap_or_default();
        let mut known = Known::clone(&before);
        let mut bound = None;
        match change {
            Change::Bind(Claim { role, revision: told, bound_at }) => {
                let binding = known.on_or_new(host);
                let same = |has: Role| has == role && (bound_at.is_none() || bound_at == binding.bound_at);
                let has = binding.role.filter(|(has, _)| same(*has)).map(|(_, revision)| revision);
                // What an agent was given and what is kept here differ only if one of them has lost its disk.
                let revision = match told.max(has) {
                    Some(revision) => revision,
                    // By the clock, so that also a directory that has lost its disk gives higher ones than it gave.
                    None => Revision((at.as_nanos() / 1_000).max(self.newest.0.saturating_add(1))),
                };
                self.newest = self.newest.max(revision);
                binding.role = Some((role, revision));
                binding.bound_at = bound_at.or(has.and(binding.bound_at));
                if known.is_somewhere() {
                    known.unbound = None;
                }
                bound = (told != Some(revision)).then_some(Bound { instance, role, bound_at, revision });
            }
            Change::Unbind(why) => {
                let had = known.bindings.iter().any(|binding| binding.host == *host && known.is_at(binding));
                if why != Why::Moved && (had || why == Why::Deleted) {
                    let said = known.bindings.iter().filter_map(|binding| match binding.role {
                        Some((Role::Host, revision)) => Some(revision),
                        _ => None,
                    });
                    known.over = said.max().unwrap_or_default().max(known.over);
                }
                if let Some(binding) = known.on(host) {
                    (binding.role, binding.bound_at) = (None, None);
                }
                // A host that no longer has the instance does not know what became of it elsewhere.
                if !known.is_somewhere() && (had || why == Why::Deleted || known.unbound.is_none()) {
                    known.unbound = Some((why, at));
                }
            }
            Change::Wait => known.on_or_new(host).waiting = true,
            Change::WaitEnded => {
                if let Some(binding) = known.on(host) {
                    binding.waiting = false;
                }
            }
        }
        known.tidy();
        if known != *before {
            touched.instances.insert(instance);
            self.put(instance, known);
        }
        bound
    }

    /// Forgets why instances are on no host, where that is long ago, or where there are too many of them.
    fn expire(&mut self, now: Time, touched: &mut Touched) {
        let horizon = now.minus(self.keep);
        while let Some((at, instance)) = self.unbound.first().copied()
            && (at < horizon || self.unbound.len() > self.max_unbound)
        {
            let mut known = self.get(instance).map(|known| Known::clone(known)).unwrap_or_default();
            known.unbound = None;
            known.tidy();
            self.put(instance, known);
            touched.instances.insert(instance);
        }
    }

    fn put(&mut self, instance: InstanceId, known: Known) {
        let before = self.instances.remove(&instance).unwrap_or_default();
        if let Some((_, at)) = before.unbound {
            self.unbound.remove(&(at, instance));
        }
        for binding in &before.bindings {
            if let Some(instances) = self.by_host.get_mut(&binding.host) {
                instances.remove(&instance);
                if instances.is_empty() {
                    self.by_host.remove(&binding.host);
                }
            }
        }
        for binding in &known.bindings {
            self.by_host.entry(binding.host.clone()).or_default().insert(instance);
        }
        if let Some((_, at)) = known.unbound {
            self.unbound.insert((at, instance));
        }
        if known != Known::default() {
            self.instances.insert(instance, Arc::new(known));
        }
    }
}

#[cfg(test)]
mod tests;
