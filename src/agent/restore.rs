//! The start of a log on disk: what it has is shown to the engine and to the ids.

use std::sync::Arc;

use thiserror::Error;

use crate::clock::Time;
use crate::config::{Config, Durability};
use crate::convert;
use crate::engine::{Engine, Opening};
use crate::event::{CancelInstance, LogId, Position};
use crate::journal::bindings::KeptBindings;
use crate::journal::consumers::Consumers;
use crate::journal::disk::Disk;
use crate::journal::events::Entry;
use crate::journal::folder::FolderError;
use crate::journal::ids::Ids;
use crate::journal::ids_file::Id;
use crate::journal::note::{Note, What};
use crate::journal::record::{Damaged, Raw, Record};
use crate::journal::recovery::{Hands, Restore, Start};
use crate::journal::scan::StartError;
use crate::journal::store::Store;
use crate::plant::{self, Plant};

/// A log on disk that cannot be used.
#[derive(Debug, Error)]
pub enum LogError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is in it.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A log on disk, with what is in memory of it.
pub(super) struct Restored {
    pub(super) store: Store,
    pub(super) ids: Ids,
    pub(super) consumers: Consumers,
    pub(super) bindings: KeptBindings,
    pub(super) engine: Engine,
    /// When the newest record that the log has dropped was received.
    pub(super) before: Option<Time>,
    /// The number of the next opening.
    pub(super) next_opening: u64,
}

struct Restoring {
    engine: Engine,
    ids: Ids,
    consumers: Consumers,
    bindings: KeptBindings,
    /// As the oldest segment has it, which comes first.
    before: Option<Time>,
    next_opening: u64,
}

/// Starts from the log on a disk. It reads all of it, and blocks meanwhile.
pub(super) fn restore(
    config: &Config,
    disk: Arc<dyn Disk>,
    boot_id: &str,
    hands: Hands,
) -> Result<Restored, StartError> {
    let start = Start {
        sync: config.durability == Durability::Sync,
        retention: config.retention(),
        repair: config.repair.0,
        boot_id,
        hands,
    };
    let mut restoring = Restoring {
        engine: Engine::new(LogId::random(), config.engine_limits()),
        ids: Ids::new(config.dedupe_window.0, config.max_ids),
        consumers: config.consumers(),
        bindings: KeptBindings::default(),
        before: None,
        next_opening: 1,
    };
    let started = Store::start(disk, &start, &mut restoring)?;
    let (store, Restoring { mut engine, ids, mut consumers, bindings, before, next_opening }) =
        (started.store, restoring);
    if started.renewed {
        consumers.mark_repaired();
    }
    let before = before.filter(|before| *before > Time::default());
    engine.restored(store.log_id(), store.segments().oldest(), store.next().before(), before);
    Ok(Restored { store, ids, consumers, bindings, engine, before, next_opening })
}

impl Restore for Restoring {
    fn ids(&mut self, ids: &[Id]) {
        for (id, digest, position) in ids.iter().filter(|_| !plant::is(Plant::IdsForgotten)) {
            self.ids.restore(*id, *digest, *position);
        }
    }

    fn batch(&mut self, first: Position, count: u32, received_at: Time, body: &[u8]) -> Result<(), Damaged> {
        let mut rest = body;
        for position in (first.0..).map(Position).take(count as usize) {
            let raw = Raw::cut(&mut rest, received_at)?;
            match raw.decode()? {
                Record::Event(record) => {
                    let entry = Entry::of(&record.event, raw.digest());
                    if let Some(digest) = entry.digest.filter(|_| !plant::is(Plant::IdsForgotten)) {
                        self.ids.restore(entry.id, digest, position);
                    }
                    self.engine.restore_event(position, &entry, received_at);
                }
                Record::CancelInstance(record) => {
                    let why = record.why.to_owned();
                    let cancel = CancelInstance { instance: record.instance, caller: record.caller, why };
                    self.engine.restore_cancel(position, &cancel, received_at);
                }
            }
        }
        while let Some(note) = Note::take(&mut rest)? {
            match note.what {
                Some(What::EndedWait(note)) => {
                    let wait = convert::ended::from_note(note)?;
                    let Opening(number) = wait.opening;
                    self.next_opening = self.next_opening.max(number + 1);
                    self.engine.restore_ended(wait);
                }
                Some(What::Before(nanos)) => {
                    self.before.get_or_insert(Time::from_nanos(nanos));
                }
                Some(What::Consumer(note)) => self.consumers.restore(note),
                Some(What::ConsumerRemoved(name)) => self.consumers.restore_removed(&name),
                Some(What::Acknowledged(note)) => self.consumers.restore_acknowledged(note),
                Some(what @ (What::Binding(_) | What::BindingsWhole(()))) => self.bindings.take(&what),
                None => {}
            }
        }
        Ok(())
    }
}
