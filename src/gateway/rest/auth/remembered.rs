//! What is known of tokens for a while: so many at most, each by its hash.

use std::collections::{BTreeSet, HashMap};

use crate::clock::Time;

/// SHA-256 of a token: what is kept is nothing that anyone could use.
pub(super) type Hash = [u8; 32];

/// Values by hashes, each until a moment.
#[derive(Debug)]
pub(super) struct Remembered<T> {
    by_hash: HashMap<Hash, (Time, T)>,
    by_end: BTreeSet<(Time, Hash)>,
    most: usize,
}

impl<T> Remembered<T> {
    /// Nothing yet, and never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { by_hash: HashMap::new(), by_end: BTreeSet::new(), most }
    }

    /// The value of a hash, if its time is not over.
    pub(super) fn get(&self, hash: &Hash, now: Time) -> Option<&T> {
        self.by_hash.get(hash).filter(|(until, _)| now < *until).map(|(_, value)| value)
    }

    /// Keeps a value until a moment. What has ended goes, and if there are too many, what would end first.
    pub(super) fn put(&mut self, hash: Hash, value: T, until: Time, now: Time) {
        self.remove(&hash);
        while let Some((end, first)) = self.by_end.first().copied()
            && (end <= now || self.by_hash.len() >= self.most)
        {
            self.remove(&first);
        }
        if now < until && self.by_hash.len() < self.most {
            self.by_hash.insert(hash, (until, value));
            self.by_end.insert((until, hash));
        }
    }

    /// Forgets a hash.
    pub(super) fn remove(&mut self, hash: &Hash) {
        if let Some((until, _)) = self.by_hash.remove(hash) {
            self.by_end.remove(&(until, *hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_value_is_known_until_its_moment_and_no_longer() {
        let mut known = Remembered::new(10);
        known.put([1; 32], "one", at(5), at(0));
        assert_eq!((known.get(&[1; 32], at(4)), known.get(&[1; 32], at(5))), (Some(&"one"), None));
        known.put([2; 32], "over", at(5), at(5));
        assert_eq!((known.by_hash.len(), known.by_end.len()), (0, 0));
    }

    #[test]
    fn of_too_many_those_that_end_first_go() {
        let mut known = Remembered::new(2);
        for (hash, until) in [(1, 5), (2, 9), (3, 7), (3, 8)] {
            known.put([hash; 32], hash, at(until), at(0));
        }
        let left = [1, 2, 3].map(|hash| known.get(&[hash; 32], at(0)).is_some());
        assert_eq!((left, known.by_hash.len(), known.by_end.len()), ([false, true, true], 2, 2));
    }
}
