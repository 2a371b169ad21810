//! What a host's drivers have told to be on it, as the log keeps it: the newest note of each instance.

use std::collections::BTreeMap;

use super::note::{BindingNote, What};

/// The newest note of each instance that is bound.
#[derive(Clone, Debug, Default)]
pub struct KeptBindings {
    notes: BTreeMap<Vec<u8>, BindingNote>,
    whole: bool,
}

impl KeptBindings {
    /// Takes a note in. One without role and wait takes the instance out; one of something else is nothing to it.
    pub fn take(&mut self, what: &What) {
        match what {
            What::Binding(note) if note.role == 0 && note.waiting_until == 0 => {
                self.notes.remove(&note.instance);
            }
            What::Binding(note) => drop(self.notes.insert(note.instance.clone(), note.clone())),
            What::BindingsWhole(()) => self.whole = true,
            _ => {}
        }
    }

    /// Every instance's.
    pub fn iter(&self) -> impl Iterator<Item = &BindingNote> {
        self.notes.values()
    }

    /// Whether a driver has told all that the host has.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The same as notes, for a segment that begins.
    pub fn notes(&self) -> impl Iterator<Item = What> {
        let whole = self.whole.then_some(What::BindingsWhole(()));
        self.notes.values().cloned().map(What::Binding).chain(whole)
    }
}
