//! A hash table of numbers, made for ids that come once and go in the order in which they came.
//!
//! Each slot holds a number and 32 bits of its hash, so that growing and removing never look at what the
//! numbers stand for: a slot that is passed over costs no cache miss. Linear probing, and removal that closes
//! the gap, so that a table from which as much is removed as is added never has to be built anew.

const EMPTY: u64 = 0;
const LEAST: usize = 16;

/// Numbers, found by a tag.
#[derive(Default)]
pub(super) struct Table {
    /// A power of two of them, or none. The tag is in the upper half, the number in the lower.
    slots: Box<[u64]>,
    len: usize,
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
    pub(super) fn find(&self, tag: Tag, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.probe(tag, is_it).map(|at| self.slots[at] as u32)
    }

    /// Reads where the search for a tag will begin. Done for many tags in a row, the cache misses of the
    /// searches that follow are had at the same time instead of one after the other.
    pub(super) fn touch(&self, tag: Tag) -> u64 {
        self.slots.get(self.home(tag)).copied().unwrap_or_default()
    }

    /// Adds a number that is not in it.
    pub(super) fn insert(&mut self, tag: Tag, number: u32) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.place(u64::from(tag.0) << 32 | u64::from(number));
        self.len += 1;
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, tag: Tag, number: u32) {
        let Some(mut gap) = self.probe(tag, |other| other == number) else { return };
        let mask = self.slots.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot == EMPTY {
                break;
            }
            // It may move back into the gap unless its search begins after the gap.
            let home = self.home(Tag((slot >> 32) as u32));
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.slots[gap] = slot;
                gap = at;
            }
        }
        self.slots[gap] = EMPTY;
        self.len -= 1;
    }

    fn probe(&self, tag: Tag, is_it: impl Fn(u32) -> bool) -> Option<usize> {
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
            if (slot >> 32) as u32 == tag.0 && is_it(slot as u32) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    /// Where the search for a tag begins. Its lowest bit is always set, and says nothing.
    fn home(&self, tag: Tag) -> usize {
        (tag.0 >> 1) as usize & self.slots.len().wrapping_sub(1)
    }

    fn place(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = self.home(Tag((slot >> 32) as u32));
        while self.slots[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let larger = vec![EMPTY; (self.slots.len() * 2).max(LEAST)].into_boxed_slice();
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot != EMPTY {
                self.place(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few tags and many numbers, so that searches run into each other, also around the end.
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((any::<bool>(), 0u32..40), 0..400)) {
            let tag = |number: u32| Tag::new(u64::from(number % 7).wrapping_mul(0x1_fff3));
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (add, number) in steps {
                if !add {
                    table.remove(tag(number), number);
                    map.remove(&number);
                } else if map.insert(number, ()).is_none() {
                    table.insert(tag(number), number);
                }
                prop_assert_eq!(table.len, map.len());
                for number in 0..40 {
                    let found = table.find(tag(number), |other| other == number);
                    prop_assert_eq!(found.is_some(), map.contains_key(&number));
                }
            }
        }
    }
}
