//! Notes: what the log keeps that takes no position, so that no watch shows it.
//!
//! They stand behind the records of a batch, each with its length before it. They are encoded as protocol
//! buffers, so that a newer agent's may have more in them: what is not known is passed over.

use bytes::Buf;
use prost::{Message, Oneof};

use super::record::Damaged;

/// One note.
#[derive(Clone, PartialEq, Message)]
pub struct Note {
    /// What it tells. `None`: something that a newer agent wrote.
    #[prost(oneof = "What", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub what: Option<What>,
}

/// What a note tells.
#[derive(Clone, PartialEq, Oneof)]
pub enum What {
    /// How a consumer stands. The newest of a name counts.
    #[prost(message, tag = "1")]
    Consumer(ConsumerNote),
    /// A consumer of this name is no more.
    #[prost(string, tag = "2")]
    ConsumerRemoved(String),
    /// A consumer has acknowledged an event.
    #[prost(message, tag = "3")]
    Acknowledged(AcknowledgedNote),
    /// A wait has ended.
    #[prost(message, tag = "4")]
    EndedWait(EndedWaitNote),
    /// The newest record of the segments before this one was received at this moment, in nanoseconds since
    /// 1970; 0 if there is none.
    #[prost(uint64, tag = "5")]
    Before(u64),
    /// What this host is to an instance. The newest of an instance counts.
    #[prost(message, tag = "6")]
    Binding(BindingNote),
    /// A driver has told all that this host has.
    #[prost(message, tag = "7")]
    BindingsWhole(()),
}

/// What this host is to an instance.
#[derive(Clone, PartialEq, Message)]
pub struct BindingNote {
    /// The instance.
    #[prost(bytes = "vec", tag = "1")]
    pub instance: Vec<u8>,
    /// 0: nothing; 1: its host; 2: where it is moved away from; 3: where it is moved to.
    #[prost(uint32, tag = "2")]
    pub role: u32,
    /// The role's revision; 0: it has none yet.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// Until when an operation waits for its events; 0: none does.
    #[prost(uint64, tag = "4")]
    pub waiting_until: u64,
    /// When its driver bound it; `None`: it told it among all that there is.
    #[prost(uint64, optional, tag = "5")]
    pub bound_at: Option<u64>,
}

/// How a consumer stands.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "the fields are Consumer's")]
pub struct ConsumerNote {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub cursor: u64,
    #[prost(uint64, tag = "3")]
    pub seen_at: u64,
    #[prost(bool, tag = "4")]
    pub dropped: bool,
    #[prost(bool, tag = "5")]
    pub repaired: bool,
    #[prost(uint64, tag = "6")]
    pub failed_at: u64,
    #[prost(string, optional, tag = "7")]
    pub failure: Option<String>,
}

/// That a consumer has acknowledged an event.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "the fields are Acknowledgement's")]
pub struct AcknowledgedNote {
    #[prost(string, tag = "1")]
    pub consumer: String,
    #[prost(uint64, tag = "2")]
    pub position: u64,
    #[prost(uint64, tag = "3")]
    pub at: u64,
    #[prost(string, optional, tag = "4")]
    pub failure: Option<String>,
}

/// A wait that has ended.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "the fields are WaitView's and Outcome's")]
pub struct EndedWaitNote {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub opening: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub instance: Vec<u8>,
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    #[prost(message, repeated, tag = "5")]
    pub keys: Vec<KeyNote>,
    #[prost(bool, tag = "6")]
    pub collect: bool,
    #[prost(uint64, tag = "7")]
    pub opened_position: u64,
    #[prost(uint64, optional, tag = "8")]
    pub counts_from: Option<u64>,
    #[prost(uint64, tag = "9")]
    pub opened_at: u64,
    #[prost(uint64, tag = "10")]
    pub timeout: u64,
    #[prost(uint64, tag = "11")]
    pub deadline: u64,
    #[prost(bool, tag = "12")]
    pub unarmed: bool,
    #[prost(uint32, tag = "13")]
    pub kind: u32,
    #[prost(uint32, tag = "14")]
    pub why: u32,
    #[prost(string, tag = "15")]
    pub why_text: String,
    #[prost(uint64, tag = "16")]
    pub at: u64,
    #[prost(uint64, tag = "17")]
    pub ended_at: u64,
}

/// What a key of an ended wait came to.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "the fields are Key's and Answer's")]
pub struct KeyNote {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub tag: String,
    #[prost(uint32, tag = "3")]
    pub state: u32,
    #[prost(uint64, tag = "4")]
    pub position: u64,
    #[prost(uint64, tag = "5")]
    pub received_at: u64,
}

impl Note {
    /// Appends it, with its length before it.
    pub fn put(what: What, buf: &mut Vec<u8>) {
        let note = Self { what: Some(what) };
        buf.reserve(note.encoded_len() + 10);
        // It fails only where there is no room, and a Vec makes room.
        let _ = note.encode_length_delimited(buf);
    }

    /// Takes the next one off; `None` at the end.
    ///
    /// # Errors
    ///
    /// If it is not whole.
    pub fn take(bytes: &mut &[u8]) -> Result<Option<Self>, Damaged> {
        match bytes.has_remaining() {
            true => Self::decode_length_delimited(bytes).map(Some).map_err(|_| Damaged),
            false => Ok(None),
        }
    }
}
