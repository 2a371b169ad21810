//! What an event, a key, a position and a cursor are. Parsing makes them valid once; past it nothing
//! checks them again.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher13};
use thiserror::Error;
use uuid::Uuid;

use crate::clock::Time;

/// The longest name and tag, in characters. Nova's schema bounds both by 255.
pub const MAX_CHARS: usize = 255;
/// The longest `held_for`.
pub const MAX_HELD_FOR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Why a value is not what its field asks for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Invalid {
    /// Absent or empty, and needed.
    #[error("is required")]
    Missing,
    /// Not of the field's form, or outside its bounds; the text says both.
    #[error("{0}")]
    Malformed(String),
    /// More than a limit admits; the text names the limit.
    #[error("{text}")]
    OverLimit {
        /// The limit's option.
        limit: &'static str,
        /// The value and the bound, for people.
        text: String,
    },
}

impl Invalid {
    /// A value that is longer or more than the limit named `limit`.
    pub fn over(limit: &'static str, found: usize, bound: usize, unit: &str) -> Self {
        Self::OverLimit { limit, text: format!("has {found} {unit}, the limit {limit} is {bound}") }
    }
}

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new one, chosen at random.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                parse_uuid(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_newtype!(
    /// The sender's id of an event.
    EventId
);
uuid_newtype!(
    /// An instance.
    InstanceId
);
uuid_newtype!(
    /// A wait, as its client names it. The same id may be opened again.
    WaitId
);
uuid_newtype!(
    /// One particular log. A log made anew has another.
    LogId
);

fn parse_uuid(text: &str) -> Result<Uuid, Invalid> {
    if text.is_empty() {
        return Err(Invalid::Missing);
    }
    Uuid::try_parse(text).map_err(|_| Invalid::Malformed(format!("{} is not a UUID", Quoted(text))))
}

/// Text from outside, shown in an error: quoted, escaped, and cut where it is long.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        match self.0.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// A place in a log: 1 for the first event, rising with each event and each CancelInstance. 0 is before
/// the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before this one; 0 before 0.
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in one particular log, written `LOG_ID:POSITION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The log.
    pub log_id: LogId,
    /// The place: after the event at this position.
    pub position: Position,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.log_id, self.position)
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::Malformed(format!("{} is not a cursor, LOG_ID:POSITION", Quoted(text)));
        let (log_id, position) = text.rsplit_once(':').ok_or_else(malformed)?;
        Ok(Self {
            log_id: log_id.parse().map_err(|_| malformed())?,
            position: Position(position.parse().map_err(|_| malformed())?),
        })
    }
}

/// What a wait asks for on its instance, and what an event is about: a name and a tag, compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    name: String,
    tag: String,
}

/// A key whose texts lie elsewhere: in a request, or in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef<'a> {
    name: &'a str,
    tag: &'a str,
}

/// Which part of a key is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyField {
    /// Its name.
    Name,
    /// Its tag.
    Tag,
}

impl KeyField {
    /// As the field is called in proto and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Tag => "tag",
        }
    }
}

impl<'a> KeyRef<'a> {
    /// A key of a `name` of 1 to 255 printable characters and a `tag` of at most `max_tag` characters,
    /// none of them a control character.
    ///
    /// # Errors
    ///
    /// Which of the two is not valid, and why.
    pub fn new(name: &'a str, tag: &'a str, max_tag: usize) -> Result<Self, (KeyField, Invalid)> {
        check_name(name).map_err(|invalid| (KeyField::Name, invalid))?;
        check_text(tag, "max_tag", max_tag).map_err(|invalid| (KeyField::Tag, invalid))?;
        Ok(Self { name, tag })
    }

    /// A key that was checked before it was written to the log.
    pub(crate) fn from_log(name: &'a str, tag: &'a str) -> Self {
        Self { name, tag }
    }

    /// What is to happen.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// What it is to happen to; often a port's or a volume's id, or empty.
    pub fn tag(&self) -> &'a str {
        self.tag
    }
}

impl fmt::Display for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag)?;
        }
        Ok(())
    }
}

impl Key {
    /// As [`KeyRef::new`].
    ///
    /// # Errors
    ///
    /// Which of the two is not valid, and why.
    pub fn new(name: String, tag: String, max_tag: usize) -> Result<Self, (KeyField, Invalid)> {
        KeyRef::new(&name, &tag, max_tag)?;
        Ok(Self { name, tag })
    }

    /// The same key, where it lies.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { name: &self.name, tag: &self.tag }
    }

    /// What is to happen.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is to happen to; often a port's or a volume's id, or empty.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// Checks an event's name by itself, as a filter has it.
///
/// # Errors
///
/// If it is empty, longer than 255 characters, or not printable.
pub fn check_name(name: &str) -> Result<(), Invalid> {
    if name.is_empty() {
        return Err(Invalid::Missing);
    }
    check_text(name, "name", MAX_CHARS)
}

/// Checks that `text` has at most `bound` characters and no control character among them.
///
/// # Errors
///
/// If it has; `limit` is what the bound is called.
pub fn check_text(text: &str, limit: &'static str, bound: usize) -> Result<(), Invalid> {
    // Most names and tags are short and plain ASCII: one look at each byte settles those.
    if text.len() <= bound && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return Ok(());
    }
    let chars = text.chars().count();
    if chars > bound {
        return Err(Invalid::over(limit, chars, bound, "characters"));
    }
    match text.chars().find(|&c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        Some(c) => Err(Invalid::Malformed(format!(
            "{} has the control character U+{:04X}",
            Quoted(text),
            u32::from(c)
        ))),
        None => Ok(()),
    }
}

/// A key on an instance, hashed to 128 bits with a secret of this process, so that tables compare and move
/// 16 bytes instead of two strings. Nobody outside can find two keys with the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyHash([u64; 2]);

static HASH_SECRET: LazyLock<(u64, u64)> = LazyLock::new(|| Uuid::new_v4().as_u64_pair());

impl KeyHash {
    /// The hash of `key` on `instance`.
    pub fn of(instance: InstanceId, key: KeyRef<'_>) -> Self {
        let (a, b) = *HASH_SECRET;
        let mut hasher = SipHasher13::new_with_keys(a, b);
        hasher.write(instance.0.as_bytes());
        hasher.write(key.name.as_bytes());
        // No name has a control character, so no two keys run together.
        hasher.write_u8(0);
        hasher.write(key.tag.as_bytes());
        let hash = hasher.finish128();
        Self([hash.h1, hash.h2])
    }

    /// 64 well mixed bits of it.
    pub fn bits(self) -> u64 {
        self.0[0]
    }
}

/// What the sender says became of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// It is done.
    #[default]
    Completed,
    /// It has failed.
    Failed,
    /// It goes on.
    InProgress,
}

/// One external event, checked. Its texts and its data lie where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The sender's id, or the agent's.
    pub id: EventId,
    /// Whether the sender gave the id: only such an id is looked up for duplicates.
    pub id_given: bool,
    /// The instance that it is about.
    pub instance: InstanceId,
    /// What happened, and to what.
    pub key: KeyRef<'a>,
    /// What became of the work.
    pub status: Status,
    /// Free to the sender.
    pub data: &'a [u8],
    /// When it happened, by the sender's clock.
    pub occurred_at: Option<Time>,
    /// How long a gateway kept it; `None` if it came straight.
    pub held_for: Option<Duration>,
}

impl<'a> Event<'a> {
    /// A completed event as the simplest sender would send it: without id, data and times.
    pub fn new(instance: InstanceId, key: KeyRef<'a>) -> Self {
        Self {
            id: EventId::random(),
            id_given: false,
            instance,
            key,
            status: Status::default(),
            data: &[],
            occurred_at: None,
            held_for: None,
        }
    }
}

/// Who calls, as the kernel tells it of a Unix socket's peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user id.
    pub uid: u32,
    /// Root, or the agent's own user: may see and end every user's waits.
    pub operator: bool,
}

impl Caller {
    /// Whether this caller may act on what `uid` has opened.
    pub fn may_act_for(self, uid: u32) -> bool {
        self.operator || self.uid == uid
    }
}

/// The record that ends an instance's waits: those of its caller, or everyone's if that is an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelInstance {
    /// The instance.
    pub instance: InstanceId,
    /// Who called.
    pub caller: Caller,
    /// Told to whoever waits.
    pub why: String,
}
