//! What a host's drivers have told to be on it, as the log keeps it: the newest note of each instance.

use std::collections::BTreeMap;

use super::note::{BindingNote, What};

/// The newest note of each instance that is bound.
#[derive(Clone, Debug, Default)]
pub struct KeptBindings(BTreeMap<Vec<u8>, BindingNote>);

impl KeptBindings {
    /// Takes a note in. One without role and wait takes the instance out.
    pub fn take(&mut self, note: &BindingNote) {
        match note.role == 0 && note.waiting_until == 0 {
            true => drop(self.0.remove(&note.instance)),
            false => drop(self.0.insert(note.instance.clone(), note.clone())),
        }
    }

    /// Every instance's.
    pub fn iter(&self) -> impl Iterator<Item = &BindingNote> {
        self.0.values()
    }

    /// The same as notes, for a segment that begins.
    pub fn notes(&self) -> impl Iterator<Item = What> {
        self.0.values().cloned().map(What::Binding)
    }
}
