//! What this host has: what its drivers told, and where operations wait. And what of it each gateway has yet to be told.
//!
//! Nothing here blocks or waits. The bindings of a host are few thousands, and a change of them is rare beside an event.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::waiting::{Closed, Waiting};
use crate::clock::Time;
use crate::directory::{Claim, Revision, Role, Why};
use crate::event::{InstanceId, WaitId};
use crate::journal::bindings::KeptBindings;
use crate::journal::note::{BindingNote, What};

/// Changes that a gateway which is away has yet to be told: past so many the oldest instances' reasons are forgotten,
/// and what is told whole makes up for the rest.
const MAX_UNTOLD: usize = 100_000;

/// What the host is to one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) role: Option<Claim>,
    pub(super) waiting: Waiting,
}

/// What a gateway is to be told of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) instance: InstanceId,
    pub(super) held: Held,
    /// Why it has no role, if it had one.
    pub(super) why: Option<Why>,
}

/// How it stands with one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// It is there, or it is not yet known that it is not.
    pub(super) reachable: bool,
    /// It has taken in all up to this version.
    pub(super) told: u64,
}

/// One gateway, as its announcer and those who wait for it have it.
pub(super) struct Gateway {
    pub(super) address: String,
    pub(super) standing: watch::Sender<Standing>,
    /// There is something to tell.
    pub(super) news: Notify,
}

pub(super) struct Bound {
    inner: Mutex<Inner>,
    /// Called while `inner` is locked, so that no older note comes after a newer one.
    keep: Keep,
    pub(super) gateways: Vec<Gateway>,
}

struct Inner {
    held: BTreeMap<InstanceId, Held>,
    /// How many of them have a role.
    roles: usize,
    /// A driver has told all that there is, this process or an earlier one.
    whole: bool,
    /// Rises with each change.
    version: u64,
    /// By gateway: what has changed since it was last told, and why instances have no role.
    untold: Vec<BTreeMap<InstanceId, Option<Why>>>,
}

/// A change, and whether it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) version: u64,
    pub(super) something: bool,
}

/// Where notes go: to the log, in the order in which what they tell came to be.
pub(super) type Keep = Box<dyn Fn(What) + Send + Sync>;

/// All there is, for a gateway.
pub(super) struct Whole {
    pub(super) held: Vec<(InstanceId, Held)>,
    /// Whether these are all the roles that the host has.
    pub(super) whole: bool,
    pub(super) version: u64,
}

impl Held {
    /// Whether the last operation that waited does so no longer.
    fn expire(&mut self, now: Time) -> bool {
        let before = self.waiting.any();
        self.waiting.expire(now);
        before && !self.waiting.any()
    }
}

impl Bound {
    pub(super) fn new(gateways: &[String], kept: &KeptBindings, keep: Keep) -> Self {
        let held: BTreeMap<_, _> = kept.iter().filter_map(of_note).collect();
        let standing = || watch::Sender::new(Standing { reachable: true, told: 0 });
        let gateway = |address: &String| Gateway {
            address: address.clone(),
            standing: standing(),
            news: Notify::new(),
        };
        let gateways: Vec<_> = gateways.iter().map(gateway).collect();
        let untold = vec![BTreeMap::new(); gateways.len()];
        let roles = held.values().filter(|held| held.role.is_some()).count();
        let inner = Inner { held, roles, whole: kept.is_whole(), version: 1, untold };
        Self { inner: Mutex::new(inner), gateways, keep }
    }

    /// The host has this role from now on. `None`: it would be more than `most` roles.
    pub(super) fn bind(&self, now: Time, instance: InstanceId, role: Role, most: usize) -> Option<Changed> {
        let mut within = true;
        let changed = self.change(|inner| {
            let has = inner.held.get(&instance).is_some_and(|held| held.role.is_some());
            within = has || inner.roles < most;
            if !within {
                return Vec::new();
            }
            inner.roles += usize::from(!has);
            let claim = Claim { role, revision: None, bound_at: Some(now) };
            inner.held.entry(instance).or_default().role = Some(claim);
            vec![(instance, None)]
        });
        within.then_some(changed)
    }

    /// It has none any longer.
    pub(super) fn unbind(&self, instance: InstanceId, why: Why) -> Changed {
        self.change(|inner| {
            let had = inner.held.get_mut(&instance).and_then(|held| held.role.take());
            inner.roles -= usize::from(had.is_some());
            vec![(instance, Some(why))]
        })
    }

    /// These are all the roles that it has. Gives also how many are new, and how many went. Once all was told, what is
    /// new since then is bound at that moment; before that, nobody knows since when it is so.
    pub(super) fn replace(&self, now: Time, roles: &BTreeMap<InstanceId, Role>) -> (Changed, usize, usize) {
        let (mut bound, mut unbound) = (0, 0);
        let changed = self.change(|inner| {
            let first = !std::mem::replace(&mut inner.whole, true);
            if first {
                // There is this to tell, whatever else there is.
                (self.keep)(What::BindingsWhole(()));
                inner.version += 1;
            }
            let mut changes = Vec::new();
            for (instance, held) in &mut inner.held {
                if held.role.is_some() && !roles.contains_key(instance) {
                    held.role = None;
                    unbound += 1;
                    changes.push((*instance, Some(Why::Moved)));
                }
            }
            for (&instance, &role) in roles {
                let held = inner.held.entry(instance).or_default();
                if held.role.is_none_or(|claim| claim.role != role) {
                    let bound_at = (!first).then_some(now);
                    held.role = Some(Claim { role, revision: None, bound_at });
                    bound += 1;
                    changes.push((instance, None));
                }
            }
            inner.roles = roles.len();
            changes
        });
        (changed, bound, unbound)
    }

    /// An operation waits for the instance's events, until then at most.
    pub(super) fn wait(&self, instance: InstanceId, id: WaitId, until: Time) -> Changed {
        self.change(|inner| {
            inner.held.entry(instance).or_default().waiting.open(id, until);
            vec![(instance, None)]
        })
    }

    /// A stream of such an operation has closed.
    pub(super) fn wait_closed(&self, now: Time, instance: InstanceId, id: WaitId, closed: Closed) -> Changed {
        self.change(|inner| {
            let Some(held) = inner.held.get_mut(&instance) else { return Vec::new() };
            held.waiting.close(id, closed);
            match held.expire(now) {
                true => vec![(instance, None)],
                false => Vec::new(),
            }
        })
    }

    /// Whose operations' time has run out waits no longer.
    pub(super) fn expire(&self, now: Time) -> Changed {
        self.change(|inner| {
            let mut changes = Vec::new();
            for (instance, held) in &mut inner.held {
                if held.expire(now) {
                    changes.push((*instance, None));
                }
            }
            changes
        })
    }

    /// A directory has given a role this revision. One that was told again since then is another binding.
    pub(super) fn revised(&self, bound: &[(InstanceId, Claim)]) {
        let mut inner = self.lock();
        for (instance, given) in bound {
            if let Some(held) = inner.held.get_mut(instance)
                && let Some(claim) = &mut held.role
                && (claim.role, claim.bound_at) == (given.role, given.bound_at)
                && claim.revision < given.revision
            {
                claim.revision = given.revision;
                (self.keep)(What::Binding(to_note(*instance, held)));
            }
        }
    }

    /// All there is.
    pub(super) fn whole(&self) -> Whole {
        let inner = self.lock();
        let held = inner.held.iter().map(|(instance, held)| (*instance, held.clone())).collect();
        Whole { held, whole: inner.whole, version: inner.version }
    }

    /// Whether a driver has told all the roles that the host has.
    pub(super) fn is_whole(&self) -> bool {
        self.lock().whole
    }

    /// Whether an operation waits for some instance's events.
    pub(super) fn is_waiting(&self) -> bool {
        self.lock().held.values().any(|held| held.waiting.any())
    }

    /// What a gateway has yet to be told, `most` of it, and the version that it is then told of.
    pub(super) fn untold(&self, gateway: usize, most: usize) -> (Vec<Told>, u64) {
        let mut inner = self.lock();
        let mut told = Vec::new();
        while told.len() < most {
            let Some((instance, why)) = inner.untold[gateway].pop_first() else {
                return (told, inner.version);
            };
            let held = inner.held.get(&instance).cloned().unwrap_or_default();
            told.push(Told { instance, held, why });
        }
        let version = inner.version;
        // Something may be left of that version.
        (told, if inner.untold[gateway].is_empty() { version } else { 0 })
    }

    /// A gateway was not told this after all.
    pub(super) fn put_back(&self, gateway: usize, told: Vec<Told>) {
        let mut inner = self.lock();
        for Told { instance, why, .. } in told {
            inner.untold[gateway].entry(instance).or_insert(why);
        }
    }

    /// What drivers have told, after an instance.
    pub(super) fn list(&self, after: Option<InstanceId>, most: usize) -> Vec<(InstanceId, Held)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let inner = self.lock();
        let from = after.map_or(Unbounded, Excluded);
        inner
            .held
            .range((from, Unbounded))
            .take(most)
            .map(|(instance, held)| (*instance, held.clone()))
            .collect()
    }

    fn change(&self, change: impl FnOnce(&mut Inner) -> Vec<(InstanceId, Option<Why>)>) -> Changed {
        let mut inner = self.lock();
        let before = inner.version;
        let changes = change(&mut inner);
        if !changes.is_empty() {
            inner.version += 1;
        }
        for (instance, why) in changes {
            let held = inner.held.get(&instance).cloned().unwrap_or_default();
            if held == Held::default() {
                inner.held.remove(&instance);
            }
            (self.keep)(What::Binding(to_note(instance, &held)));
            for untold in &mut inner.untold {
                let known = untold.entry(instance).or_default();
                *known = if held.role.is_some() { None } else { why.or(*known) };
                if untold.len() > MAX_UNTOLD {
                    untold.pop_first();
                }
            }
        }
        let changed = Changed { version: inner.version, something: inner.version > before };
        drop(inner);
        if changed.something {
            self.gateways.iter().for_each(|gateway| gateway.news.notify_one());
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whatever panicked while it was held, each change to it is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ready once every gateway that is reachable has taken in this version: whether one has.
pub(super) async fn routable(bound: &Bound, version: u64) -> bool {
    let mut one = false;
    for gateway in &bound.gateways {
        let mut standing = gateway.standing.subscribe();
        let settled = standing.wait_for(|standing| !standing.reachable || standing.told >= version).await;
        one |= settled.is_ok_and(|standing| standing.told >= version);
    }
    one
}

const ROLES: [Role; 3] = [Role::Host, Role::MigrationSource, Role::MigrationDestination];

fn to_note(instance: InstanceId, held: &Held) -> BindingNote {
    let role = held.role.and_then(|claim| ROLES.iter().position(|other| *other == claim.role));
    BindingNote {
        instance: instance.0.as_bytes().to_vec(),
        role: role.map_or(0, |at| at as u32 + 1),
        revision: held.role.and_then(|claim| claim.revision).map_or(0, |revision| revision.0),
        waiting_until: held.waiting.until().map_or(0, Time::as_nanos),
        bound_at: held.role.and_then(|claim| claim.bound_at).map(Time::as_nanos),
    }
}

fn of_note(note: &BindingNote) -> Option<(InstanceId, Held)> {
    let instance = InstanceId(Uuid::from_slice(&note.instance).ok()?);
    let role = (note.role as usize).checked_sub(1).and_then(|at| ROLES.get(at));
    let claim = |role: &Role| Claim {
        role: *role,
        revision: Some(Revision(note.revision)).filter(|revision| revision.0 > 0),
        bound_at: note.bound_at.map(Time::from_nanos),
    };
    let waiting = match note.waiting_until {
        0 => Waiting::default(),
        until => Waiting::left(Time::from_nanos(until)),
    };
    Some((instance, Held { role: role.map(claim), waiting }))
}

#[cfg(test)]
mod tests;
