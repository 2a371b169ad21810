//! The waits that have ended, for as long as they may be asked about again.

use super::Limits;
use super::wait::{Answer, Ask, Moment, Opened, WaitView, Why};
use crate::clock::Time;
use crate::event::{InstanceId, Key, WaitId};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

pub(super) struct Ended {
    limits: Limits,
    /// In the order of their end. The first one's number is `first`.
    waits: VecDeque<WaitView>,
    first: u64,
    /// What they come to.
    bytes: u64,
    /// The newest of each id.
    by_id: HashMap<WaitId, u64>,
    /// Each twice: when it was opened, and when it ended.
    by_instance: HashMap<InstanceId, BTreeMap<Moment, u64>>,
}

impl Ended {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            waits: VecDeque::new(),
            first: 0,
            bytes: 0,
            by_id: HashMap::new(),
            by_instance: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, wait: WaitView) {
        let number = self.first + self.waits.len() as u64;
        self.by_id.insert(wait.id, number);
        let of_instance = self.by_instance.entry(wait.instance).or_default();
        of_instance.extend(Moment::of(&wait).map(|moment| (moment, number)));
        self.bytes += size(&wait);
        self.waits.push_back(wait);
        while self.waits.len() > self.limits.ended_waits || self.bytes > self.limits.ended_bytes {
            self.forget_oldest();
        }
    }

    /// All of them, in the order of their end.
    #[cfg(test)]
    pub(super) fn in_order(&self) -> impl Iterator<Item = &WaitView> {
        self.waits.iter()
    }

    pub(super) fn expire(&mut self, now: Time) {
        let horizon = now.minus(self.limits.ended_age);
        let old = |wait: &WaitView| wait.ended.as_ref().is_some_and(|(_, at)| *at < horizon);
        while self.waits.front().is_some_and(old) {
            self.forget_oldest();
        }
    }

    /// The same wait, if it has already ended.
    pub(super) fn same(&self, ask: &Ask, opened: &Opened) -> Option<&WaitView> {
        let wait = self.at(*self.by_id.get(&ask.id)?)?;
        let asked_by = wait.instance == ask.instance && wait.uid == ask.uid;
        // The outcome says what each key came to by the keys' order, so they must be the same too.
        (asked_by && wait.opened == *opened && wait.keys == ask.keys).then_some(wait)
    }

    /// When the instance's opened and ended, after a moment and in the order of time.
    pub(super) fn moments(
        &self,
        instance: InstanceId,
        after: Moment,
    ) -> impl Iterator<Item = (Moment, &WaitView)> {
        let of_instance = self.by_instance.get(&instance);
        let later = of_instance.into_iter().flat_map(move |all| all.range((Excluded(after), Unbounded)));
        later.filter_map(|(moment, &number)| Some((*moment, self.at(number)?)))
    }

    /// The instance's, in the order of their end.
    #[cfg(test)]
    pub(super) fn of_instance(&self, instance: InstanceId) -> impl Iterator<Item = &WaitView> {
        self.waits.iter().filter(move |wait| wait.instance == instance)
    }

    fn at(&self, number: u64) -> Option<&WaitView> {
        self.waits.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn forget_oldest(&mut self) {
        let Some(wait) = self.waits.pop_front() else { return };
        let number = self.first;
        self.first += 1;
        self.bytes -= size(&wait);
        if self.by_id.get(&wait.id) == Some(&number) {
            self.by_id.remove(&wait.id);
        }
        if let Some(moments) = self.by_instance.get_mut(&wait.instance) {
            for moment in Moment::of(&wait) {
                moments.remove(&moment);
            }
            if moments.is_empty() {
                self.by_instance.remove(&wait.instance);
            }
        }
    }
}

/// The bytes that a wait takes up: itself, its places in the tables, its keys, answers and texts.
fn size(wait: &WaitView) -> u64 {
    let keys = wait.keys.iter().map(|key| size_of::<Key>() + key.name().len() + key.tag().len());
    let why = wait.ended.as_ref().map_or(0, |(outcome, _)| match &outcome.why {
        Why::Cancelled(text) | Why::InstanceCancelled(text) => text.len(),
        Why::Itself | Why::NeverArmed | Why::LogGone => 0,
    });
    let of_instance = size_of::<(InstanceId, BTreeMap<Moment, u64>)>() + 2 * size_of::<(Moment, u64)>();
    let places = size_of::<(WaitId, u64)>() + of_instance;
    let own = size_of::<WaitView>() + places + why;
    (own + keys.sum::<usize>() + size_of_val::<[Answer]>(&wait.answers)) as u64
}
