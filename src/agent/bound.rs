//! What this host has: what its drivers told, and where operations wait. And what of it each gateway has yet to be told.
//!
//! Nothing here blocks or waits. The bindings of a host are few thousands, and a change of them is rare beside an event.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::clock::Time;
use crate::directory::{Revision, Role, Why};
use crate::event::InstanceId;
use crate::journal::bindings::KeptBindings;
use crate::journal::note::BindingNote;

/// Changes that a gateway which is away has yet to be told: past so many the oldest instances' reasons are forgotten,
/// and what is told whole makes up for the rest.
const MAX_UNTOLD: usize = 100_000;

/// What the host is to one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) role: Option<(Role, Option<Revision>)>,
    pub(super) waiting: Option<Waiting>,
}

/// Operations wait for the instance's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Streams that are open.
    open: usize,
    /// Until when they would wait, whose streams were lost without an outcome.
    until: Time,
}

/// What a gateway is to be told of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub(super) gateways: Vec<Gateway>,
}

struct Inner {
    held: BTreeMap<InstanceId, Held>,
    /// A driver has told all that there is, or an earlier process had been told.
    whole: bool,
    /// Rises with each change.
    version: u64,
    /// By gateway: what has changed since it was last told, and why instances have no role.
    untold: Vec<BTreeMap<InstanceId, Option<Why>>>,
}

/// What is to be kept of a change.
pub(super) struct Changed {
    pub(super) version: u64,
    pub(super) notes: Vec<BindingNote>,
}

impl Bound {
    pub(super) fn new(gateways: &[String], kept: &KeptBindings, now: Time) -> Self {
        let held: BTreeMap<_, _> = kept.iter().filter_map(|note| of_note(note, now)).collect();
        let standing = || watch::Sender::new(Standing { reachable: true, told: 0 });
        let gateway = |address: &String| Gateway {
            address: address.clone(),
            standing: standing(),
            news: Notify::new(),
        };
        let gateways: Vec<_> = gateways.iter().map(gateway).collect();
        let untold = vec![BTreeMap::new(); gateways.len()];
        let whole = held.values().any(|held| held.role.is_some());
        Self { inner: Mutex::new(Inner { held, whole, version: 1, untold }), gateways }
    }

    /// The host has this role.
    pub(super) fn bind(&self, instance: InstanceId, role: Role) -> Changed {
        self.change(|inner| {
            let held = inner.held.entry(instance).or_default();
            let same = held.role.is_some_and(|(has, _)| has == role);
            if !same {
                held.role = Some((role, None));
            }
            vec![(instance, None)]
        })
    }

    /// It has none any longer.
    pub(super) fn unbind(&self, instance: InstanceId, why: Why) -> Changed {
        self.change(|inner| {
            if let Some(held) = inner.held.get_mut(&instance) {
                held.role = None;
            }
            vec![(instance, Some(why))]
        })
    }

    /// These are all the roles that it has. Gives also how many are new, and how many went.
    pub(super) fn replace(&self, roles: &BTreeMap<InstanceId, Role>) -> (Changed, usize, usize) {
        let (mut bound, mut unbound) = (0, 0);
        let changed = self.change(|inner| {
            inner.whole = true;
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
                if held.role.is_none_or(|(has, _)| has != role) {
                    held.role = Some((role, None));
                    bound += 1;
                    changes.push((instance, None));
                }
            }
            changes
        });
        (changed, bound, unbound)
    }

    /// An operation waits for the instance's events, until then at most.
    pub(super) fn wait(&self, instance: InstanceId, until: Time) -> Changed {
        self.change(|inner| {
            let held = inner.held.entry(instance).or_default();
            let known = held.waiting.get_or_insert(Waiting { open: 0, until });
            known.open += 1;
            known.until = known.until.max(until);
            vec![(instance, None)]
        })
    }

    /// A stream of such an operation has closed. One that had no outcome may come back before its time has run out.
    pub(super) fn wait_closed(&self, now: Time, instance: InstanceId, had_outcome: bool) -> Changed {
        self.change(|inner| {
            let Some(held) = inner.held.get_mut(&instance) else { return Vec::new() };
            let Some(waiting) = &mut held.waiting else { return Vec::new() };
            waiting.open = waiting.open.saturating_sub(1);
            if waiting.open > 0 || (!had_outcome && waiting.until > now) {
                return Vec::new();
            }
            held.waiting = None;
            vec![(instance, None)]
        })
    }

    /// Whose operations' time has run out waits no longer.
    pub(super) fn expire(&self, now: Time) -> Changed {
        self.change(|inner| {
            let mut changes = Vec::new();
            for (instance, held) in &mut inner.held {
                if held.waiting.is_some_and(|waiting| waiting.open == 0 && waiting.until <= now) {
                    held.waiting = None;
                    changes.push((*instance, None));
                }
            }
            changes
        })
    }

    /// A directory has given a role this revision.
    pub(super) fn revised(&self, bound: &[(InstanceId, Role, Revision)]) -> Vec<BindingNote> {
        let mut inner = self.lock();
        let mut notes = Vec::new();
        for (instance, role, revision) in bound {
            if let Some(held) = inner.held.get_mut(instance)
                && let Some((has, known)) = &mut held.role
                && has == role
                && known.is_none_or(|known| known < *revision)
            {
                *known = Some(*revision);
                notes.push(to_note(*instance, *held));
            }
        }
        notes
    }

    /// All there is, for a gateway; whether that is all; and the version that it is of.
    pub(super) fn whole(&self) -> (Vec<(InstanceId, Held)>, bool, u64) {
        let inner = self.lock();
        let held = inner.held.iter().map(|(instance, held)| (*instance, *held)).collect();
        (held, inner.whole, inner.version)
    }

    /// What a gateway has yet to be told, `most` of it, and the version that it is then told of.
    pub(super) fn untold(&self, gateway: usize, most: usize) -> (Vec<Told>, u64) {
        let mut inner = self.lock();
        let mut told = Vec::new();
        while told.len() < most {
            let Some((instance, why)) = inner.untold[gateway].pop_first() else {
                return (told, inner.version);
            };
            let held = inner.held.get(&instance).copied().unwrap_or_default();
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
        inner.held.range((from, Unbounded)).take(most).map(|(instance, held)| (*instance, *held)).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Inner) -> Vec<(InstanceId, Option<Why>)>) -> Changed {
        let mut inner = self.lock();
        let changes = change(&mut inner);
        let mut notes = Vec::with_capacity(changes.len());
        if !changes.is_empty() {
            inner.version += 1;
        }
        for (instance, why) in changes {
            let held = inner.held.get(&instance).copied().unwrap_or_default();
            if held == Held::default() {
                inner.held.remove(&instance);
            }
            notes.push(to_note(instance, held));
            for untold in &mut inner.untold {
                let known = untold.entry(instance).or_default();
                *known = if held.role.is_some() { None } else { why.or(*known) };
                if untold.len() > MAX_UNTOLD {
                    untold.pop_first();
                }
            }
        }
        let version = inner.version;
        drop(inner);
        if !notes.is_empty() {
            self.gateways.iter().for_each(|gateway| gateway.news.notify_one());
        }
        Changed { version, notes }
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

fn to_note(instance: InstanceId, held: Held) -> BindingNote {
    let role = held.role.and_then(|(role, _)| ROLES.iter().position(|other| *other == role));
    BindingNote {
        instance: instance.0.as_bytes().to_vec(),
        role: role.map_or(0, |at| at as u32 + 1),
        revision: held.role.and_then(|(_, revision)| revision).map_or(0, |revision| revision.0),
        waiting_until: held.waiting.map_or(0, |waiting| waiting.until.as_nanos()),
    }
}

fn of_note(note: &BindingNote, now: Time) -> Option<(InstanceId, Held)> {
    let instance = InstanceId(Uuid::from_slice(&note.instance).ok()?);
    let role = (note.role as usize).checked_sub(1).and_then(|at| ROLES.get(at));
    let revision = Some(Revision(note.revision)).filter(|revision| revision.0 > 0);
    let until = Time::from_nanos(note.waiting_until);
    let held = Held {
        role: role.map(|role| (*role, revision)),
        waiting: (until > now).then_some(Waiting { open: 0, until }),
    };
    (held != Held::default()).then_some((instance, held))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn bound() -> Bound {
        Bound::new(&["127.0.0.1:1".to_owned()], &KeptBindings::default(), at(0))
    }

    fn kept(bound: &Bound, changes: Vec<Changed>) -> Bound {
        let mut kept = KeptBindings::default();
        changes.iter().flat_map(|changed| &changed.notes).for_each(|note| kept.take(note));
        Bound::new(&[bound.gateways[0].address.clone()], &kept, at(10))
    }

    #[test]
    fn what_was_told_is_there_after_a_restart() {
        let (one, two, three) = (InstanceId::random(), InstanceId::random(), InstanceId::random());
        let bound = bound();
        let changes = vec![
            bound.bind(one, Role::MigrationSource),
            bound.wait(two, at(20)),
            bound.wait(three, at(5)),
            bound.bind(two, Role::Host),
            bound.unbind(two, Why::Deleted),
        ];
        let again = kept(&bound, changes);
        let (held, whole, _) = again.whole();
        let held: BTreeMap<_, _> = held.into_iter().collect();
        assert!(whole);
        assert_eq!(held[&one], Held { role: Some((Role::MigrationSource, None)), waiting: None });
        assert_eq!(held[&two], Held { role: None, waiting: Some(Waiting { open: 0, until: at(20) }) });
        assert_eq!(held.len(), 2);
        again.expire(at(20));
        assert_eq!(again.whole().0.len(), 1);
    }

    #[test]
    fn a_gateway_is_told_what_has_changed_and_why() {
        let (one, two) = (InstanceId::random(), InstanceId::random());
        let bound = bound();
        bound.bind(one, Role::Host);
        let version = bound.unbind(one, Why::Deleted).version;
        let (told, of) = bound.untold(0, 10);
        assert_eq!(
            (told.as_slice(), of),
            (&[Told { instance: one, held: Held::default(), why: Some(Why::Deleted) }][..], version)
        );
        bound.put_back(0, told);
        bound.bind(two, Role::Host);
        assert_eq!(bound.untold(0, 1).1, 0);
        assert_eq!(bound.untold(0, 1).0.len(), 1);
        assert_eq!(bound.untold(0, 1).0, []);
    }

    #[test]
    fn replace_leaves_waits_alone_and_unbinds_what_it_omits() {
        let (one, two) = (InstanceId::random(), InstanceId::random());
        let bound = bound();
        bound.bind(one, Role::Host);
        bound.wait(one, at(20));
        let (_, new, gone) = bound.replace(&BTreeMap::from([(two, Role::Host)]));
        assert_eq!((new, gone), (1, 1));
        let held: BTreeMap<_, _> = bound.whole().0.into_iter().collect();
        assert!(held[&one].role.is_none() && held[&one].waiting.is_some());
        assert_eq!(bound.replace(&BTreeMap::from([(two, Role::Host)])).1, 0);
    }

    #[test]
    fn a_wait_is_over_with_its_outcome_or_its_time() {
        let one = InstanceId::random();
        let bound = bound();
        bound.wait(one, at(20));
        bound.wait(one, at(30));
        assert!(bound.wait_closed(at(1), one, true).notes.is_empty());
        assert!(bound.wait_closed(at(1), one, false).notes.is_empty());
        assert!(bound.expire(at(29)).notes.is_empty());
        assert_eq!(bound.expire(at(30)).notes.len(), 1);
        bound.wait(one, at(40));
        assert_eq!(bound.wait_closed(at(31), one, true).notes.len(), 1);
        assert!(bound.whole().0.is_empty());
    }
}
