//! Events that nobody waits for, told at most once a minute.
//!
//! Early events are normal here, so one line an event would say nothing. That there are many of a name may
//! say something.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::warn;

use crate::clock::Time;

const AT_MOST_EVERY: Duration = Duration::from_secs(60);
/// Names come from outside; past so many the rest are counted together.
const MAX_NAMES: usize = 64;
const OTHERS: &str = "(others)";

#[derive(Default)]
pub(super) struct Unmatched {
    by_name: BTreeMap<String, u64>,
    /// The name counted last, not yet in the table: events of one name come in a row.
    run: (String, u64),
    not_before: Time,
}

impl Unmatched {
    pub(super) fn count(&mut self, now: Time, name: &str) {
        if self.run.0 == name {
            self.run.1 += 1;
            return;
        }
        if self.next_report().is_none() {
            self.not_before = self.not_before.max(now);
        }
        self.end_run();
        self.run = (name.to_owned(), 1);
    }

    /// When there is something to report.
    pub(super) fn next_report(&self) -> Option<Time> {
        (self.run.1 > 0 || !self.by_name.is_empty()).then_some(self.not_before)
    }

    pub(super) fn report_if_due(&mut self, now: Time) {
        if self.next_report().is_none_or(|due| now < due) {
            return;
        }
        self.end_run();
        let counts: Vec<_> = self.by_name.iter().map(|(name, count)| format!("{name}={count}")).collect();
        warn!(events = counts.join(" "), "events came that nobody waits for; they stay in the log");
        self.by_name.clear();
        self.not_before = now.plus(AT_MOST_EVERY);
    }

    fn end_run(&mut self) {
        let (name, count) = std::mem::take(&mut self.run);
        if count == 0 {
            return;
        }
        let known = self.by_name.len() < MAX_NAMES || self.by_name.contains_key(&name);
        *self.by_name.entry(if known { name } else { OTHERS.to_owned() }).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_a_minute_later() {
        let start = Time::from_nanos(1);
        let mut unmatched = Unmatched::default();
        assert_eq!(unmatched.next_report(), None);
        unmatched.count(start, "a");
        assert_eq!(unmatched.next_report(), Some(start));
        unmatched.report_if_due(start);
        assert_eq!(unmatched.next_report(), None);

        unmatched.count(start, "a");
        assert_eq!(unmatched.next_report(), Some(start.plus(AT_MOST_EVERY)));
        unmatched.report_if_due(start);
        assert!(unmatched.next_report().is_some());
        unmatched.report_if_due(start.plus(AT_MOST_EVERY));
        assert_eq!(unmatched.next_report(), None);
    }

    #[test]
    fn names_are_counted_in_bounds() {
        let mut unmatched = Unmatched::default();
        for n in 0..1_000 {
            unmatched.count(Time::default(), &format!("name-{n}"));
        }
        assert!(unmatched.by_name.len() <= MAX_NAMES + 1);
        assert_eq!(unmatched.by_name.values().sum::<u64>() + unmatched.run.1, 1_000);
    }
}
