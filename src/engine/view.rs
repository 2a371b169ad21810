//! What the engine shows of its waits.

use std::ops::Bound;

use super::{Engine, Moment, Opening, WaitCounts, WaitView};
use crate::event::{InstanceId, Position};

/// Part of an instance's time line.
#[derive(Debug)]
pub struct Moments {
    /// The last position that the engine had been handed.
    pub head: Position,
    /// The moments, each with its wait as it is now.
    pub waits: Vec<(Moment, WaitView)>,
}

impl Engine {
    /// The newest position that it has been shown.
    pub fn head(&self) -> Position {
        self.index.head()
    }

    /// How many waits are open.
    pub fn open_waits(&self) -> usize {
        self.waits.len()
    }

    /// How many waits have ended how.
    pub fn counts(&self) -> WaitCounts {
        self.counts
    }

    /// At most `most` open waits, oldest first, from those opened after `after` on.
    pub fn list(&self, instance: Option<InstanceId>, after: Opening, most: usize) -> Vec<WaitView> {
        let after = (Bound::Excluded(after), Bound::Unbounded);
        match instance {
            None => self.waits.range(after).take(most).map(|(_, wait)| wait.view()).collect(),
            Some(instance) => {
                let openings = self.by_instance.get(&instance).into_iter().flat_map(|all| all.range(after));
                let waits = openings.filter_map(|opening| self.waits.get(opening));
                waits.take(most).map(|wait| wait.view()).collect()
            }
        }
    }

    /// How far the engine has looked, and when waits of an instance were opened and ended by then: at most
    /// `most` after a moment, in the order of time, of those that are open or still remembered.
    pub fn moments(&self, instance: InstanceId, after: Moment, most: usize) -> Moments {
        let openings = self.by_instance.get(&instance).into_iter().flatten();
        let waits = openings.filter_map(|opening| self.waits.get(opening));
        let mut open: Vec<_> = waits
            .map(|wait| (Moment { at: wait.opened_at, ended: false, opening: wait.opening }, wait))
            .filter(|(moment, _)| *moment > after)
            .collect();
        open.sort_unstable_by_key(|(moment, _)| *moment);
        let open = open.into_iter().take(most).map(|(moment, wait)| (moment, wait.view()));
        let ended = self.ended.moments(instance, after).take(most);
        let mut waits: Vec<_> = ended.map(|(moment, wait)| (moment, wait.clone())).chain(open).collect();
        waits.sort_unstable_by_key(|(moment, _)| *moment);
        waits.truncate(most);
        Moments { head: self.index.head(), waits }
    }

    /// The waits of an instance that are open or have ended and are still remembered.
    #[cfg(test)]
    pub(super) fn history(&self, instance: InstanceId) -> Vec<WaitView> {
        let mut waits: Vec<_> = self.ended.of_instance(instance).cloned().collect();
        waits.extend(self.list(Some(instance), Opening(0), usize::MAX));
        waits
    }
}
