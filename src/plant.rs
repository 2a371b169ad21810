//! Faults that tests plant to see whether they are found. They are there in debug builds only; nothing but a test
//! switches one on, and for its own thread alone.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A batch is synced only when the next one is written: its senders are answered before.
    AnswerBeforeSync,
    /// Nothing is ever synced.
    NoSync,
    /// The start syncs nothing before it serves.
    ServeBeforeSync,
    /// A duplicate of what is being synced is answered at once.
    DuplicateBeforeSync,
    /// Ids do not outlive the agent.
    IdsForgotten,
    /// A wait does not look into the log before it is registered.
    NoLook,
    /// No event is stale.
    NothingStale,
    /// The close of a stream that was taken over ends the newer one.
    LateClose,
    /// An Ack is answered before it is synced.
    AckBeforeSync,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AnswerBeforeSync,
        Self::NoSync,
        Self::ServeBeforeSync,
        Self::DuplicateBeforeSync,
        Self::IdsForgotten,
        Self::NoLook,
        Self::NothingStale,
        Self::LateClose,
        Self::AckBeforeSync,
    ];
}

#[cfg(debug_assertions)]
mod planted {
    use std::cell::Cell;

    use super::Plant;

    thread_local! {
        static PLANTED: Cell<Option<Plant>> = const { Cell::new(None) };
    }

    /// Plants a fault in what runs on this thread, or takes it out.
    pub fn set(plant: Option<Plant>) {
        PLANTED.set(plant);
    }

    /// Whether this fault is planted.
    pub fn is(plant: Plant) -> bool {
        PLANTED.get() == Some(plant)
    }
}

#[cfg(not(debug_assertions))]
mod planted {
    use super::Plant;

    /// No fault can be planted in a build that people run.
    pub const fn is(_: Plant) -> bool {
        false
    }
}

pub use planted::*;
