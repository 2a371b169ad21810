//! The directory: which instance is on which host, and as what.
//!
//! What an instance's hosts are decides where its events go. [`table`] is the state and its rules; [`embedded`]
//! keeps it on this machine's disk. Whoever routes knows the [`Directory`] alone, for another may be kept elsewhere.

pub mod embedded;
pub mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::clock::Time;
use crate::event::{InstanceId, Invalid, check_name};

pub use self::table::{Announced, Change, Known};

/// A host's name, as its agent announces it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

impl Host {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = Invalid;

    /// A name of 1 to 255 printable characters.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_name(text).map(|()| Self(text.into()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a driver says that its host is to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The instance is here. Of several hosts that say so, the one with the highest revision is right.
    Host,
    /// It is being moved away from here.
    MigrationSource,
    /// It is being moved here.
    MigrationDestination,
}

/// Why an instance is no longer on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is no more.
    Deleted,
    /// Another host has it, or will have it.
    Moved,
    /// It is on no host for now.
    Offloaded,
}

/// Rises with each new binding. It tells which of two hosts was bound later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// What an agent says that its host is to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its role.
    pub role: Role,
    /// The revision that it was given; `None`: none yet.
    pub revision: Option<Revision>,
    /// When that became so, by the agent's clock: another moment is another binding. `None`: the driver has told it among
    /// all that there is, for the first time, and it may have been so before.
    pub bound_at: Option<Time>,
}

/// A host, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// Its name.
    pub host: Host,
    /// Where its agent takes events in: HOST:PORT.
    pub address: String,
}

/// The directory cannot answer, or could not keep what it was told.
#[derive(Clone, Debug, Error)]
pub enum DirectoryError {
    /// What keeps it.
    #[error("the directory cannot be used: {0}")]
    Unusable(String),
}

/// An instance with what is known of it.
pub type Entry = (InstanceId, Arc<Known>);

/// Which instance is on which host. What it is told is durable once it has answered.
#[tonic::async_trait]
pub trait Directory: Send + Sync + 'static {
    /// What is known of instances, in the order asked.
    async fn look(&self, instances: &[InstanceId]) -> Result<Vec<Arc<Known>>, DirectoryError>;

    /// A host's agent tells what it has, with the moment that it is. Gives the revisions that its bindings have,
    /// where those are other than what was announced.
    async fn announce(&self, at: Time, announced: Announced) -> Result<Vec<Bound>, DirectoryError>;

    /// Instances with what is known of them, in the order of their ids, those after `after`: bound ones only.
    async fn list(&self, after: Option<InstanceId>, most: usize) -> Result<Vec<Entry>, DirectoryError>;

    /// The instances that a host has something to do with.
    async fn instances_of(&self, host: &Host) -> Result<BTreeSet<InstanceId>, DirectoryError>;

    /// Where a host's agent takes events in.
    async fn address(&self, host: &Host) -> Result<Option<String>, DirectoryError>;

    /// Every host that was ever announced and not forgotten.
    async fn hosts(&self) -> Result<Vec<HostInfo>, DirectoryError>;

    /// Forgets a host; what it had is unbound as MOVED. Gives how many bindings that were.
    async fn forget(&self, at: Time, host: Host) -> Result<usize, DirectoryError>;
}

/// The revision of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The instance.
    pub instance: InstanceId,
    /// What the host is to it.
    pub role: Role,
    /// When its driver bound it; see [`Claim`].
    pub bound_at: Option<Time>,
    /// The binding's revision.
    pub revision: Revision,
}
