//! A folder with damage: the start goes on from what was written, or refuses, and never panics, nor shows a batch
//! that was not written.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use wakeful::clock::Time;
use wakeful::event::Position;
use wakeful::journal::disk::Disk;
use wakeful::journal::disk::faulty::FaultyDisk;
use wakeful::journal::ids_file::Id;
use wakeful::journal::record::Damaged;
use wakeful::journal::recovery::{Hands, Restore, Start};
use wakeful::journal::retention::Retention;
use wakeful::journal::store::Store;

#[derive(Arbitrary, Debug)]
struct Damage {
    batches: Vec<u8>,
    changes: Vec<Change>,
    repair: bool,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Byte { file: u8, at: u16, to: u8 },
    Cut { file: u8, to: u16 },
    Zeros { file: u8, from: u16, bytes: u16 },
    Copy { file: u8, from: u16, to: u16, bytes: u16 },
    Remove { file: u8 },
}

#[derive(Default)]
struct Seen(Vec<(u64, u32, Vec<u8>)>);

impl Restore for Seen {
    fn ids(&mut self, _: &[Id]) {}

    fn batch(&mut self, first: Position, count: u32, _: Time, body: &[u8]) -> Result<(), Damaged> {
        self.0.push((first.0, count, body.to_vec()));
        Ok(())
    }
}

fn start(repair: bool) -> Start<'static> {
    let retention = Retention {
        age: Duration::from_secs(1_000),
        bytes: 32 * 1_024,
        held_bytes: 64 * 1_024,
        id_window: Duration::from_secs(2_000),
        max_ids: 1 << 10,
    };
    Start { sync: true, retention, repair, boot_id: "one", hands: Hands::Own }
}

fuzz_target!(|damage: Damage| {
    let disk = FaultyDisk::default();
    let started = Store::start(Arc::new(disk.clone()), &start(false), &mut Seen::default());
    let mut store = started.expect("an empty folder").store;
    let mut written = Vec::new();
    for (number, length) in damage.batches.iter().take(40).enumerate() {
        let body = vec![number as u8; 64 + usize::from(*length) * 4];
        let first = store.next().0;
        store.body().extend_from_slice(&body);
        store.append(1, Time::from_nanos(number as u64)).expect("written");
        written.push((first, 1, body));
    }
    drop(store);
    for change in damage.changes.iter().take(8) {
        let names = disk.list().expect("a folder");
        let name = |file: u8| names.get(usize::from(file) % names.len().max(1)).cloned().unwrap_or_default();
        match *change {
            Change::Byte { file, at, to } => disk.change(&name(file), |bytes| {
                if let Some(byte) = bytes.get_mut(usize::from(at)) {
                    *byte = to;
                }
            }),
            Change::Cut { file, to } => disk.change(&name(file), |bytes| bytes.truncate(usize::from(to))),
            Change::Zeros { file, from, bytes: length } => disk.change(&name(file), |bytes| {
                let (from, to) = (usize::from(from), usize::from(from) + usize::from(length));
                let end = bytes.len();
                bytes[from.min(end)..to.min(end)].fill(0);
            }),
            Change::Copy { file, from, to, bytes: length } => disk.change(&name(file), |bytes| {
                let (from, to, length) = (usize::from(from), usize::from(to), usize::from(length));
                if from.max(to) + length <= bytes.len() {
                    bytes.copy_within(from..from + length, to);
                }
            }),
            Change::Remove { file } => drop(disk.remove(&name(file))),
        }
    }
    let mut seen = Seen::default();
    if Store::start(Arc::new(disk.clone()), &start(damage.repair), &mut seen).is_ok() {
        // What is shown was written, in order and once.
        let mut expected = written.iter();
        for shown in &seen.0 {
            assert!(expected.any(|batch| batch == shown), "{shown:?} was not written, or not there");
        }
        // And the start after it finds the same.
        let mut again = Seen::default();
        Store::start(Arc::new(disk), &start(false), &mut again).expect("a log that was just started from");
        assert_eq!(seen.0, again.0);
    }
});
