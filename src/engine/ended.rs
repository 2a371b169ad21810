//! The waits that have ended, for as long as they may be asked about again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::wait::{Ask, Opened, WaitView};
use crate::clock::Time;
use crate::event::{InstanceId, WaitId};

pub(super) struct Ended {
    max: usize,
    age: Duration,
    /// In the order of their end. The first one's number is `first`.
    waits: VecDeque<WaitView>,
    first: u64,
    /// The newest of each id.
    by_id: HashMap<WaitId, u64>,
    by_instance: HashMap<InstanceId, VecDeque<u64>>,
}

impl Ended {
    pub(super) fn new(max: usize, age: Duration) -> Self {
        Self {
            max,
            age,
            waits: VecDeque::new(),
            first: 0,
            by_id: HashMap::new(),
            by_instance: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, wait: WaitView) {
        if self.max == 0 {
            return;
        }
        if self.waits.len() == self.max {
            self.forget_oldest();
        }
        let number = self.first + self.waits.len() as u64;
        self.by_id.insert(wait.id, number);
        self.by_instance.entry(wait.instance).or_default().push_back(number);
        self.waits.push_back(wait);
    }

    pub(super) fn expire(&mut self, now: Time) {
        let horizon = now.minus(self.age);
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
