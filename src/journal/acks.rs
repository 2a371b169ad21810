//! What consumers have acknowledged, and how it went, for those who ask what became of an event.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::Time;
use crate::event::Position;

/// So many acknowledgements are known of each consumer, the newest ones.
const MAX_EACH: usize = 1_024;

/// Characters that are kept of why something could not be done.
const MAX_WHY: usize = 256;

/// What a consumer said of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckView {
    /// Who.
    pub consumer: String,
    /// When.
    pub at: Time,
    /// The position that it named: it stood for the event, and for all since its last one.
    pub named: Position,
    /// Why this event could not be done. Only of the one that was named.
    pub failure: Option<String>,
}

/// One acknowledgement: of what lies past `after`, up to `named`.
#[derive(Clone, Debug)]
struct Ack {
    after: Position,
    named: Position,
    at: Time,
    failure: Option<String>,
}

/// The newest acknowledgements of every consumer.
#[derive(Debug, Default)]
pub(super) struct Acks(BTreeMap<String, VecDeque<Ack>>);

impl Acks {
    /// A consumer that was at `cursor` has acknowledged `named`.
    pub(super) fn push(
        &mut self,
        consumer: &str,
        cursor: Position,
        named: Position,
        at: Time,
        failure: Option<String>,
    ) {
        let acks = match self.0.get_mut(consumer) {
            Some(acks) => acks,
            None => self.0.entry(consumer.to_owned()).or_default(),
        };
        if named < cursor {
            // It comes late: what it stood for has been acknowledged with a newer one.
            if let Some(known) = acks.iter_mut().find(|known| known.named == named) {
                (known.at, known.failure) = (at, failure);
            }
            return;
        }
        // Named once more, it can have become a failure.
        let after = cursor.min(named.before());
        // A consumer that was opened further back goes over the same ground again: what it says now counts.
        while let Some(newest) = acks.back_mut().filter(|newest| newest.named > after) {
            if newest.after < after {
                newest.named = after;
                newest.failure = None;
                break;
            }
            acks.pop_back();
        }
        let failure = failure.map(|why| why.chars().take(MAX_WHY).collect());
        if acks.len() == MAX_EACH {
            acks.pop_front();
        }
        acks.push_back(Ack { after, named, at, failure });
    }

    /// A consumer's newest could not be written, after which it is at `cursor`.
    pub(super) fn take_back(&mut self, consumer: &str, cursor: Position) {
        if let Some(acks) = self.0.get_mut(consumer) {
            acks.retain(|ack| ack.named <= cursor);
        }
    }

    /// There is no such consumer any longer.
    pub(super) fn remove(&mut self, consumer: &str) {
        self.0.remove(consumer);
    }

    /// What each consumer said of an event.
    pub(super) fn of(&self, position: Position) -> Vec<AckView> {
        let of_each = self.0.iter().filter_map(|(consumer, acks)| {
            let ack = acks.get(acks.partition_point(|ack| ack.named < position))?;
            (ack.after < position).then(|| AckView {
                consumer: consumer.clone(),
                at: ack.at,
                named: ack.named,
                failure: ack.failure.clone().filter(|_| ack.named == position),
            })
        });
        of_each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(acks: &mut Acks, cursor: u64, named: u64, failure: Option<&str>) {
        let at = Time::from_nanos(named);
        acks.push("power", Position(cursor), Position(named), at, failure.map(str::to_owned));
    }

    /// What was named, and the failure, of the positions.
    fn told(acks: &Acks, positions: impl IntoIterator<Item = u64>) -> Vec<Option<(u64, Option<String>)>> {
        let of = |position| acks.of(Position(position)).pop().map(|ack| (ack.named.0, ack.failure));
        positions.into_iter().map(of).collect()
    }

    #[test]
    fn an_acknowledgement_stands_for_all_since_the_last_and_a_failure_for_the_named_one_alone() {
        let mut acks = Acks::default();
        ack(&mut acks, 2, 4, None);
        ack(&mut acks, 4, 6, Some("no such disk"));
        let failed = Some((6, Some("no such disk".to_owned())));
        let expected = [None, Some((4, None)), Some((4, None)), Some((6, None)), failed, None];
        assert_eq!(told(&acks, 2..=7), expected);
    }

    #[test]
    fn named_once_more_the_newer_word_counts() {
        let mut acks = Acks::default();
        ack(&mut acks, 0, 3, None);
        ack(&mut acks, 3, 3, Some("in the end it failed"));
        let failed = Some((3, Some("in the end it failed".to_owned())));
        assert_eq!(told(&acks, 1..=3), [Some((2, None)), Some((2, None)), failed]);
        // Opened further back, it goes over the same ground again.
        ack(&mut acks, 1, 2, None);
        assert_eq!(told(&acks, 1..=3), [Some((1, None)), Some((2, None)), None]);
    }

    #[test]
    fn the_newest_are_kept_and_one_that_was_not_written_or_whose_consumer_is_gone_is_not() {
        let mut acks = Acks::default();
        for n in 1..=2_000 {
            ack(&mut acks, n - 1, n, None);
        }
        let oldest = 2_000 - MAX_EACH as u64 + 1;
        assert_eq!(
            told(&acks, [oldest - 1, oldest, 2_000]),
            [None, Some((oldest, None)), Some((2_000, None))]
        );
        acks.take_back("power", Position(1_999));
        assert_eq!(told(&acks, [1_999, 2_000]), [Some((1_999, None)), None]);
        acks.remove("power");
        assert_eq!(told(&acks, [1_999]), [None]);
    }

    #[test]
    fn one_that_comes_late_takes_nothing_from_newer_ones() {
        let mut acks = Acks::default();
        ack(&mut acks, 0, 3, None);
        ack(&mut acks, 3, 6, None);
        ack(&mut acks, 6, 2, Some("late"));
        assert_eq!(acks.of(Position(5))[0].named, Position(6));
        ack(&mut acks, 6, 3, Some("no"));
        assert_eq!(acks.of(Position(3))[0].failure.as_deref(), Some("no"));
        acks.take_back("power", Position(3));
        assert_eq!(acks.of(Position(5)), []);
    }
}
