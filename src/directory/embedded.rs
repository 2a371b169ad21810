//! The directory on this machine's disk: the table in memory, and each change of it in a redb file before it is
//! answered.
//!
//! A thread takes what is told, and writes all that has come since it last wrote in one transaction.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::Builder;
use std::time::Duration;

use prost::Message;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;
use tracing::error;
use uuid::Uuid;

use super::table::{Binding, Table, Touched};
use super::{Announced, Bound, Directory, DirectoryError, Entry, Host, HostInfo, Known, Revision, Role, Why};
use crate::clock::Time;
use crate::event::InstanceId;

/// Instances by id; [`KeptInstance`].
const INSTANCES: TableDefinition<u128, &[u8]> = TableDefinition::new("instances");
/// Hosts by name; where their agents take events in.
const HOSTS: TableDefinition<&str, &str> = TableDefinition::new("hosts");
/// By name. `newest`: the newest revision given.
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
const NEWEST: &str = "newest";

/// How much is kept of instances that are on no host.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long it is kept why they are on none.
    pub keep_unbound: Duration,
    /// Of how many of them.
    pub max_unbound: usize,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hands {
    /// A thread.
    Thread,
    /// Whoever tells something, meanwhile: for a simulated world, where time must stand still.
    Own,
}

/// The directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file, or what is in it.
    #[error(
        "cannot use the directory's file {path}: {text}; see to its owner and mode, or move it away: the agents \
         announce what they have, and why instances are nowhere is lost with it"
    )]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        text: String,
    },
    /// The system has no thread for it.
    #[error("cannot start the directory's thread: {0}")]
    Thread(std::io::Error),
}

/// The directory on this machine's disk.
pub struct Embedded {
    state: Arc<State>,
    jobs: Option<Sender<Job>>,
}

struct State {
    table: RwLock<Table>,
    disk: Mutex<Disk>,
}

struct Disk {
    database: Database,
    /// What has changed since it was last written.
    touched: Touched,
}

enum Job {
    Announce(Time, Announced, oneshot::Sender<Result<Vec<Bound>, DirectoryError>>),
    Forget(Time, Host, oneshot::Sender<Result<usize, DirectoryError>>),
}

enum Done {
    Announced(oneshot::Sender<Result<Vec<Bound>, DirectoryError>>, Vec<Bound>),
    Forgot(oneshot::Sender<Result<usize, DirectoryError>>, usize),
}

impl Embedded {
    /// Opens the directory in a file, or, if none is given, in memory.
    ///
    /// # Errors
    ///
    /// If the file cannot be used.
    pub fn open(path: Option<&Path>, bounds: Bounds, hands: Hands) -> Result<Self, OpenError> {
        let unusable = |error: redb::Error| OpenError::File {
            path: path.unwrap_or(Path::new("(in memory)")).to_owned(),
            text: error.to_string(),
        };
        let builder = Database::builder();
        let opened = match path {
            Some(path) => builder.create(path),
            None => builder.create_with_backend(InMemoryBackend::new()),
        };
        let database = opened.map_err(|error| unusable(error.into()))?;
        let mut table = Table::new(bounds.keep_unbound, bounds.max_unbound);
        load(&database, &mut table).map_err(unusable)?;
        let disk = Mutex::new(Disk { database, touched: Touched::default() });
        let state = Arc::new(State { table: RwLock::new(table), disk });
        let jobs = match hands {
            Hands::Own => None,
            Hands::Thread => {
                let (jobs, inbox) = channel();
                let state = Arc::clone(&state);
                let thread = Builder::new().name("directory".to_owned());
                thread.spawn(move || state.run(&inbox)).map_err(OpenError::Thread)?;
                Some(jobs)
            }
        };
        Ok(Self { state, jobs })
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, DirectoryError>>) -> Job,
    ) -> Result<T, DirectoryError> {
        let (reply, answer) = oneshot::channel();
        let job = job(reply);
        match &self.jobs {
            // If the thread has ended, the answer never comes.
            Some(jobs) => drop(jobs.send(job)),
            None => self.state.take(vec![job]),
        }
        answer.await.unwrap_or_else(|_| Err(DirectoryError::Unusable("its thread has ended".to_owned())))
    }

    fn with<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.state.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[tonic::async_trait]
impl Directory for Embedded {
    async fn look(&self, instances: &[InstanceId]) -> Result<Vec<Arc<Known>>, DirectoryError> {
        let known = |table: &Table| {
            let known = instances.iter().map(|instance| table.get(*instance).cloned().unwrap_or_default());
            known.collect()
        };
        Ok(self.with(known))
    }

    async fn announce(&self, at: Time, announced: Announced) -> Result<Vec<Bound>, DirectoryError> {
        self.ask(|reply| Job::Announce(at, announced, reply)).await
    }

    async fn list(&self, after: Option<InstanceId>, most: usize) -> Result<Vec<Entry>, DirectoryError> {
        let entries = |table: &Table| {
            let bound = table.bound_after(after).take(most);
            bound.map(|(instance, known)| (instance, Arc::clone(known))).collect()
        };
        Ok(self.with(entries))
    }

    async fn instances_of(&self, host: &Host) -> Result<BTreeSet<InstanceId>, DirectoryError> {
        Ok(self.with(|table| table.instances_of(host).collect()))
    }

    async fn address(&self, host: &Host) -> Result<Option<String>, DirectoryError> {
        Ok(self.with(|table| table.address(host).map(str::to_owned)))
    }

    async fn hosts(&self) -> Result<Vec<HostInfo>, DirectoryError> {
        let hosts = |table: &Table| {
            let hosts = table.hosts();
            hosts
                .map(|(host, address)| HostInfo { host: host.clone(), address: address.to_owned() })
                .collect()
        };
        Ok(self.with(hosts))
    }

    async fn forget(&self, at: Time, host: Host) -> Result<usize, DirectoryError> {
        self.ask(|reply| Job::Forget(at, host, reply)).await
    }
}

impl State {
    fn run(&self, inbox: &Receiver<Job>) {
        while let Ok(job) = inbox.recv() {
            self.take(std::iter::once(job).chain(inbox.try_iter()).collect());
        }
    }

    /// Does what is asked, brings it to the disk, and answers.
    fn take(&self, jobs: Vec<Job>) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let touched = &mut disk.touched;
        let done: Vec<_> = jobs
            .into_iter()
            .map(|job| match job {
                Job::Announce(at, announced, reply) => {
                    Done::Announced(reply, table.announce(at, &announced, touched))
                }
                Job::Forget(at, host, reply) => Done::Forgot(reply, table.forget(at, &host, touched)),
            })
            .collect();
        // Events may be routed by it at once: what it says is so, whether this disk has it yet or not.
        let kept = kept(&table, touched);
        drop(table);
        let written = match kept.is_empty() {
            true => Ok(()),
            false => kept.write(&disk.database),
        };
        if written.is_ok() {
            disk.touched = Touched::default();
        }
        let written = written.map_err(|error| {
            error!(%error, "the directory cannot be written");
            DirectoryError::Unusable(error.to_string())
        });
        for done in done {
            // A caller that has gone needs no answer.
            match done {
                Done::Announced(reply, bound) => drop(reply.send(written.clone().map(|()| bound))),
                Done::Forgot(reply, count) => drop(reply.send(written.clone().map(|()| count))),
            }
        }
    }
}

/// What is to be written of a table.
struct Kept {
    instances: Vec<(InstanceId, Option<Vec<u8>>)>,
    hosts: Vec<(Host, Option<String>)>,
    newest: Revision,
}

fn kept(table: &Table, touched: &Touched) -> Kept {
    let instances = touched.instances.iter().map(|instance| {
        let known = table.get(*instance).map(|known| KeptInstance::of(known).encode_to_vec());
        (*instance, known)
    });
    let hosts = touched.hosts.iter().map(|host| (host.clone(), table.address(host).map(str::to_owned)));
    Kept { instances: instances.collect(), hosts: hosts.collect(), newest: table.newest() }
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.hosts.is_empty()
    }

    fn write(&self, database: &Database) -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        {
            let mut instances = write.open_table(INSTANCES)?;
            for (instance, known) in &self.instances {
                match known {
                    Some(known) => drop(instances.insert(instance.0.as_u128(), known.as_slice())?),
                    None => drop(instances.remove(instance.0.as_u128())?),
                }
            }
            let mut hosts = write.open_table(HOSTS)?;
            for (host, address) in &self.hosts {
                match address {
                    Some(address) => drop(hosts.insert(host.as_str(), address.as_str())?),
                    None => drop(hosts.remove(host.as_str())?),
                }
            }
            write.open_table(NUMBERS)?.insert(NEWEST, self.newest.0)?;
        }
        write.commit()?;
        Ok(())
    }
}

fn load(database: &Database, table: &mut Table) -> Result<(), redb::Error> {
    // So that they are there to be read.
    let write = database.begin_write()?;
    write.open_table(INSTANCES)?;
    write.open_table(HOSTS)?;
    write.open_table(NUMBERS)?;
    write.commit()?;
    let read = database.begin_read()?;
    for entry in read.open_table(INSTANCES)?.iter()? {
        let (instance, known) = entry?;
        let instance = InstanceId(Uuid::from_u128(instance.value()));
        let known = KeptInstance::decode(known.value()).ok().and_then(KeptInstance::known);
        let known = known.ok_or_else(|| redb::Error::Corrupted(format!("instance {instance}")))?;
        table.restore(instance, known);
    }
    for entry in read.open_table(HOSTS)?.iter()? {
        let (host, address) = entry?;
        if let Ok(host) = host.value().parse() {
            table.restore_host(host, address.value().to_owned());
        }
    }
    if let Some(newest) = read.open_table(NUMBERS)?.get(NEWEST)? {
        table.restore_newest(Revision(newest.value()));
    }
    Ok(())
}

/// [`Known`], as it is kept.
#[derive(Clone, PartialEq, Message)]
struct KeptInstance {
    #[prost(message, repeated, tag = "1")]
    bindings: Vec<KeptBinding>,
    /// 0: it is on a host, or nobody knows.
    #[prost(uint32, tag = "2")]
    why: u32,
    #[prost(uint64, tag = "3")]
    unbound_at: u64,
    #[prost(uint64, tag = "4")]
    over: u64,
}

/// [`Binding`], as it is kept.
#[derive(Clone, PartialEq, Message)]
struct KeptBinding {
    #[prost(string, tag = "1")]
    host: String,
    /// 0: none.
    #[prost(uint32, tag = "2")]
    role: u32,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(bool, tag = "4")]
    waiting: bool,
    #[prost(uint64, optional, tag = "5")]
    bound_at: Option<u64>,
}

const ROLES: [Role; 3] = [Role::Host, Role::MigrationSource, Role::MigrationDestination];
const WHYS: [Why; 3] = [Why::Deleted, Why::Moved, Why::Offloaded];

fn number_of<T: PartialEq>(values: &[T], value: &T) -> u32 {
    values.iter().position(|other| other == value).map_or(0, |at| at as u32 + 1)
}

fn of_number<T: Copy>(values: &[T], number: u32) -> Option<T> {
    values.get((number as usize).checked_sub(1)?).copied()
}

impl KeptInstance {
    fn of(known: &Known) -> Self {
        let bindings = known.bindings.iter().map(|binding| KeptBinding {
            host: binding.host.to_string(),
            role: binding.role.map_or(0, |(role, _)| number_of(&ROLES, &role)),
            revision: binding.role.map_or(0, |(_, revision)| revision.0),
            waiting: binding.waiting,
            bound_at: binding.bound_at.map(Time::as_nanos),
        });
        Self {
            bindings: bindings.collect(),
            why: known.unbound.map_or(0, |(why, _)| number_of(&WHYS, &why)),
            unbound_at: known.unbound.map_or(0, |(_, at)| at.as_nanos()),
            over: known.over.0,
        }
    }

    fn known(self) -> Option<Known> {
        let bindings = self.bindings.into_iter().map(|kept| {
            let role = of_number(&ROLES, kept.role).map(|role| (role, Revision(kept.revision)));
            let bound_at = kept.bound_at.map(Time::from_nanos);
            Some(Binding { host: kept.host.parse().ok()?, role, bound_at, waiting: kept.waiting })
        });
        let unbound = of_number(&WHYS, self.why).map(|why| (why, Time::from_nanos(self.unbound_at)));
        let over = Revision(self.over);
        Some(Known { bindings: bindings.collect::<Option<_>>()?, unbound, over })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Claim};
    use super::*;

    const HOST: Change = Change::Bind(Claim { role: Role::Host, revision: None, bound_at: None });
    const BOUNDS: Bounds = Bounds { keep_unbound: Duration::from_secs(60), max_unbound: 10 };

    fn announced(changes: Vec<(InstanceId, Change)>) -> Announced {
        let host = "a".parse().expect("a host");
        Announced { host, address: Some("127.0.0.1:7420".to_owned()), whole: false, changes }
    }

    #[tokio::test]
    async fn what_was_told_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("directory.redb");
        let ids: Vec<_> = (0..3).map(|_| InstanceId::random()).collect();
        for hands in [Hands::Thread, Hands::Own] {
            let directory = Embedded::open(Some(&path), BOUNDS, hands).expect("a directory");
            let changes =
                vec![(ids[0], HOST), (ids[1], Change::Unbind(Why::Deleted)), (ids[2], Change::Wait)];
            let bound = directory.announce(Time::from_nanos(7), announced(changes)).await.expect("kept");
            assert_eq!(
                bound,
                [Bound { instance: ids[0], role: Role::Host, bound_at: None, revision: Revision(1) }]
            );
            let before = directory.look(&ids).await.expect("known");
            assert!(before[0].host().is_some() && before[2].bindings[0].waiting);
            assert_eq!(before[1].unbound, Some((Why::Deleted, Time::from_nanos(7))));
            let hosts = directory.hosts().await.expect("hosts");

            drop(directory);
            let again = loop {
                // The thread lets go of the file as it ends.
                match Embedded::open(Some(&path), BOUNDS, Hands::Own) {
                    Ok(again) => break again,
                    Err(OpenError::File { text, .. }) if text.contains("already open") => {
                        std::thread::yield_now();
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            assert_eq!(again.look(&ids).await.expect("known"), before);
            assert_eq!(again.hosts().await.expect("hosts"), hosts);
            let more = again.announce(Time::from_nanos(8), announced(vec![(ids[1], HOST)]));
            assert_eq!(more.await.expect("kept")[0].revision, Revision(2));
            again.forget(Time::from_nanos(9), "a".parse().expect("a host")).await.expect("kept");
            drop(again);
            std::fs::remove_file(&path).expect("there");
        }
    }

    #[test]
    fn a_file_that_is_no_directory_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("directory.redb");
        std::fs::write(&path, "something else").expect("written");
        let Err(error) = Embedded::open(Some(&path), BOUNDS, Hands::Own) else { panic!("it was opened") };
        assert!(error.to_string().contains("directory.redb"), "{error}");
    }
}
