//! A hash table of numbers, made for ids that come once and go in the order in which they came.
//!
//! Each slot holds a number and 32 bits of its hash, so that growing never looks at what the numbers stand for,
//! and a slot that is passed over costs no cache miss. Linear probing. What goes is not taken out: a number
//! below the first that still counts is gone, its slot is passed over until something else is put there, and
//! those that are left go when the table is built anew, which is then one pass through memory.

const EMPTY: u64 = 0;
const LEAST: usize = 16;

/// Numbers, found by a tag.
#[derive(Default)]
pub(super) struct Table {
    /// A power of two of them, or none. The tag is in the upper half, the number in the lower.
    slots: Box<[u64]>,
    /// Slots that are not empty, also those whose number has gone.
    taken: usize,
}

/// The numbers that still count: from this one on. They wrap, and never span half of all that there are.
#[derive(Clone, Copy)]
pub(super) struct Since(pub(super) u32);

impl Since {
    fn has(self, slot: u64) -> bool {
        (slot as u32).wrapping_sub(self.0) < u32::MAX / 2
    }
}

/// 32 bits of a hash, never all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u32);

impl Tag {
    pub(super) fn new(hash: u64) -> Self {
        Self(hash as u32 | 1)
    }
}

impl Table {
    /// The number with this tag that is the one.
    pub(super) fn find(&self, tag: Tag, since: Since, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = self.home(tag);
        // A quarter of the slots is empty, so this ends.
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            if (slot >> 32) as u32 == tag.0 && since.has(slot) && is_it(slot as u32) {
                return Some(slot as u32);
            }
            at = (at + 1) & mask;
        }
    }

    /// Reads where the search for a tag will begin. Done for many tags in a row, the cache misses of the
    /// searches that follow are had at the same time instead of one after the other.
    pub(super) fn touch(&self, tag: Tag) -> u64 {
        self.slots.get(self.home(tag)).copied().unwrap_or_default()
    }

    /// Adds a number that is not in it.
    pub(super) fn insert(&mut self, tag: Tag, number: u32, since: Since) {
        if (self.taken + 1) * 4 > self.slots.len() * 3 {
            self.rebuild(since);
        }
        self.place(u64::from(tag.0) << 32 | u64::from(number), since);
    }

    /// Takes back a number that was added: its slot is as one whose number has gone.
    pub(super) fn take_back(&mut self, tag: Tag, number: u32, since: Since) {
        let (mask, mut at) = (self.slots.len() - 1, self.home(tag));
        let slot = u64::from(tag.0) << 32 | u64::from(number);
        while self.slots[at] != EMPTY {
            if self.slots[at] == slot {
                self.slots[at] = slot >> 32 << 32 | u64::from(since.0.wrapping_sub(1));
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// Where the search for a tag begins. Its lowest bit is always set, and says nothing.
    fn home(&self, tag: Tag) -> usize {
        (tag.0 >> 1) as usize & self.slots.len().wrapping_sub(1)
    }

    fn place(&mut self, slot: u64, since: Since) {
        let mask = self.slots.len() - 1;
        let mut at = self.home(Tag((slot >> 32) as u32));
        while self.slots[at] != EMPTY && since.has(self.slots[at]) {
            at = (at + 1) & mask;
        }
        self.taken += usize::from(self.slots[at] == EMPTY);
        self.slots[at] = slot;
    }

    /// Leaves out what has gone, in a table of which what is left fills half at the most.
    fn rebuild(&mut self, since: Since) {
        let left = self.slots.iter().filter(|&&slot| slot != EMPTY && since.has(slot)).count();
        let size = (left * 2).next_power_of_two().max(LEAST);
        self.taken = 0;
        for slot in std::mem::replace(&mut self.slots, vec![EMPTY; size].into_boxed_slice()) {
            if slot != EMPTY && since.has(slot) {
                self.place(slot, since);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few tags and many numbers, so that searches run into each other, also around the end; and numbers
        /// that wrap.
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((0..4u32, 0..9u32), 0..400)) {
            let tag = |number: u32| Tag::new(u64::from(number % 7).wrapping_mul(0x1_fff3));
            let (mut table, mut map) = (Table::default(), BTreeSet::new());
            let (mut first, mut next) = (u64::from(u32::MAX) - 100, u64::from(u32::MAX) - 100);
            for (go, come) in steps {
                first = next.min(first + u64::from(go));
                let since = Since(first as u32);
                map.retain(|number| *number >= first);
                for _ in 0..come {
                    table.insert(tag(next as u32), next as u32, since);
                    map.insert(next);
                    next += 1;
                }
                for number in first.saturating_sub(20)..next + 5 {
                    let found = table.find(tag(number as u32), since, |other| other == number as u32);
                    prop_assert_eq!(found.is_some(), map.contains(&number));
                }
                prop_assert!(table.slots.len() <= (map.len() * 4).next_power_of_two().max(2 * LEAST) * 2);
            }
        }
    }
}
