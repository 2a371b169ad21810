//! The waits that have ended, for as long as they may be asked about again.

use super::Limits;
use super::wait::{Answer, Ask, Opened, WaitView, Why};
use crate::clock::Time;
use crate::event::{InstanceId, Key, WaitId};
use std::collections::{HashMap, VecDeque};

pub(super) struct Ended {
    limits: Limits,
    /// In the order of their end. The first one's number is `first`.
    waits: VecDeque<WaitView>,
    first: u64,
    /// What they come to.
    bytes: u64,
    /// The newest of each id.
    by_id: HashMap<WaitId, u64>,
    by_instance: HashMap<InstanceId, VecDeque<u64>>,
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
        self.by_instance.entry(wait.instance).or_default().push_back(number);
        self.bytes += size(&wait);
        self.waits.push_back(wait);
        while self.waits.len() > self.limits.ended_waits || self.bytes > self.limits.ended_bytes {
            self.forget_oldest();
        }
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

    /// The instance's, in the order of their end.
    pub(super) fn of_instance(&self, instance: InstanceId) -> impl Iterator<Item = &WaitView> {
        let numbers = self.by_instance.get(&instance).into_iter().flatten();
        numbers.filter_map(|&number| self.at(number))
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
        if let Some(numbers) = self.by_instance.get_mut(&wait.instance) {
            numbers.pop_front();
            if numbers.is_empty() {
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
    let places = size_of::<(WaitId, u64)>() + size_of::<(InstanceId, VecDeque<u64>)>() + size_of::<u64>();
    let own = size_of::<WaitView>() + places + why;
    (own + keys.sum::<usize>() + size_of_val::<[Answer]>(&wait.answers)) as u64
}
