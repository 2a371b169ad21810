use std::time::Duration;

use super::super::disk::faulty::{Faults, FaultyDisk};
use super::super::events::Events;
use super::super::ids_file::Id;
use super::super::log::ReadError;
use super::super::record::Damaged;
use super::super::recovery::{Hands, Restore, Start};
use super::super::scan::StartError;
use super::*;
use crate::event::{Event, EventId, InstanceId, KeyRef};

const RETENTION: Retention = Retention {
    while_needed: false,
    age: Duration::from_secs(1_000),
    bytes: 32 * 1_024,
    held_bytes: 64 * 1_024,
    id_window: Duration::from_secs(2_000),
    max_ids: 1 << 20,
};

/// What a start has shown: each batch's first position, count and body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    batches: Vec<(u64, u32, Vec<u8>)>,
    ids: Vec<Id>,
}

impl Restore for Seen {
    fn ids(&mut self, ids: &[Id]) {
        self.ids.extend_from_slice(ids);
    }

    fn batch(&mut self, first: Position, count: u32, _: Time, body: &[u8]) -> Result<(), Damaged> {
        self.batches.push((first.0, count, body.to_vec()));
        Ok(())
    }
}

fn at(seconds: u64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

fn start_with(disk: &FaultyDisk, start: &Start<'_>) -> Result<(Store, Seen, bool), StartError> {
    let mut seen = Seen::default();
    let started = Store::start(Arc::new(disk.clone()), start, &mut seen)?;
    Ok((started.store, seen, started.renewed))
}

const SYNC: Start<'static> =
    Start { sync: true, retention: RETENTION, repair: false, boot_id: "one", hands: Hands::Thread };

fn start(disk: &FaultyDisk) -> (Store, Seen) {
    let (store, seen, renewed) = start_with(disk, &SYNC).expect("a log to start from");
    assert!(!renewed);
    (store, seen)
}

/// Appends a batch of so many records, with a body of its own.
fn append(
    store: &mut Store,
    number: u64,
    count: u32,
    length: usize,
) -> Result<(u64, u32, Vec<u8>), WriteError> {
    let first = store.next().0;
    // Runs of ones and of zeros, as records have them, and of all else.
    let byte = |n: usize| match n % 96 {
        0..32 => 255,
        32..48 => 0,
        _ => (number as usize * 31 + n) as u8,
    };
    let body: Vec<u8> = (0..length).map(byte).collect();
    store.body().extend_from_slice(&body);
    store.append(count, at(number))?;
    Ok((first, count, body))
}

/// A log of some batches, stopped without a word.
fn log(batches: u64) -> (FaultyDisk, Vec<(u64, u32, Vec<u8>)>) {
    let disk = FaultyDisk::default();
    let (mut store, _) = start(&disk);
    let all = (1..=batches).map(|n| append(&mut store, n, 3, 100 + n as usize).expect("written")).collect();
    (disk, all)
}

fn segments(disk: &FaultyDisk) -> Vec<String> {
    let mut names = disk.list().expect("a folder");
    names.retain(|name| name.ends_with(".segment"));
    names
}

/// Dice that fall the same for the same seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

#[test]
fn what_was_appended_is_there_after_a_start_in_order_and_once() {
    let (disk, mut all) = log(5);
    for round in 0..5 {
        let (mut store, seen) = start(&disk);
        assert_eq!(seen.batches, all);
        assert_eq!(store.next(), Position(1 + 3 * all.len() as u64));
        all.push(append(&mut store, 10 + round, 3, 50).expect("written"));
    }
}

#[test]
fn starts_without_anything_new_leave_nothing_behind() {
    let (disk, all) = log(3);
    for _ in 0..20 {
        assert_eq!(start(&disk).1.batches, all);
        assert!(disk.list().expect("a folder").len() < 8, "{:?}", disk.list());
    }
}

#[test]
fn a_last_batch_torn_at_any_length_is_cut_off_and_the_rest_is_there() {
    let (disk, all) = log(4);
    let name = segments(&disk).remove(0);
    let ends: Vec<u64> = all.iter().map(|(.., body)| span(BATCH_HEADER + body.len())).collect();
    let last_at = SEGMENT_HEADER as u64 + ends[..3].iter().sum::<u64>();
    let length = BATCH_HEADER + all[3].2.len();
    for torn in 0..=length {
        let disk = disk.fork();
        disk.change(&name, |bytes| bytes[last_at as usize + torn..].fill(0));
        let kept = if torn == length { 4 } else { 3 };
        let (mut store, seen) = start(&disk);
        assert_eq!(seen.batches, all[..kept], "torn at {torn}");
        // What comes next takes its place, and its number.
        let next = append(&mut store, 9, 2, 80).expect("written");
        drop(store);
        let mut then = all[..kept].to_vec();
        then.push(next);
        assert_eq!(start(&disk).1.batches, then, "torn at {torn}");
    }
}

#[test]
fn a_flipped_bit_at_any_byte_is_recovered_from_or_refused_and_never_accepted_wrong() {
    let (disk, mut all) = log(4);
    let (mut store, _) = start(&disk);
    all.extend((5..8).map(|n| append(&mut store, n, 3, 60).expect("written")));
    drop(store);
    let mut refused = 0;
    for name in disk.list().expect("a folder") {
        let length = disk.open(&name).and_then(|file| file.length()).expect("a file") as usize;
        for byte in 0..length {
            let disk = disk.fork();
            disk.change(&name, |bytes| bytes[byte] ^= 1 << (byte % 8));
            match start_with(&disk, &SYNC) {
                Ok((_, seen, _)) => {
                    let whole = seen.batches == all || seen.batches == all[..all.len() - 1];
                    assert!(whole, "{name} at {byte}: {seen:?}");
                }
                Err(StartError::Damaged { file, .. }) => {
                    refused += 1;
                    assert!(file.starts_with("/faulty"), "{file:?}");
                }
                Err(StartError::Newer { .. } | StartError::Io { .. }) => panic!("{name} at {byte}"),
            }
        }
    }
    assert!(refused > 400, "most of what is not the last batch is refused, {refused} were");
}

#[test]
fn damage_names_its_file_its_place_and_what_to_do() {
    let (disk, all) = log(4);
    let name = segments(&disk).remove(0);
    let second = SEGMENT_HEADER as u64 + span(BATCH_HEADER + all[0].2.len());
    disk.change(&name, |bytes| bytes[second as usize + 50] ^= 1);
    let error = start_with(&disk, &SYNC).err().expect("damage").to_string();
    assert!(error.contains(&format!("/faulty/{name}: damaged at byte {second}")), "{error}");
    assert!(error.contains("wakeful journal check /faulty") && error.contains("--repair"), "{error}");
}

#[test]
fn repair_goes_on_without_what_is_damaged_in_a_log_of_a_new_id() {
    let (disk, all) = log(4);
    let before = start(&disk).0.log_id();
    let name = segments(&disk).remove(0);
    disk.change(&name, |bytes| bytes[SEGMENT_HEADER + 200] ^= 1);
    assert!(matches!(start_with(&disk, &SYNC), Err(StartError::Damaged { .. })));
    let repair = Start { repair: true, ..SYNC };
    let (store, seen, renewed) = start_with(&disk, &repair).expect("repaired");
    let left = [&all[..1], &all[2..]].concat();
    assert_eq!((renewed, &seen.batches), (true, &left));
    assert!(
        store.log_id() != before && store.next() > Position(13),
        "positions go on above all there can have been"
    );
    let read: Vec<_> = read_all(&store, 0).iter().map(|(first, _)| *first).collect();
    assert_eq!(read, [1, 7, 10]);
    let log_id = store.log_id();
    drop(store);
    let (store, seen) = start(&disk);
    assert_eq!((store.log_id(), seen.batches), (log_id, left), "it is whole now");
}

#[test]
fn a_segment_that_is_missing_or_has_another_ones_place_is_damage() {
    let (disk, all) = log(60);
    let names = segments(&disk);
    assert!(names.len() > 4);
    let missing = disk.fork();
    missing.remove(&names[1]).expect("removed");
    let swapped = disk.fork();
    swapped.rename(&names[2], &names[1]).expect("renamed");
    for disk in [missing, swapped] {
        assert!(matches!(start_with(&disk, &SYNC), Err(StartError::Damaged { .. })));
        let (_, seen, renewed) = start_with(&disk, &Start { repair: true, ..SYNC }).expect("repaired");
        assert!(renewed && seen.batches.len() < all.len());
        assert!(seen.batches.iter().all(|batch| all.contains(batch)));
        assert!(start(&disk).1.batches == seen.batches);
    }
}

#[test]
fn a_newer_format_is_refused_with_its_file_and_both_versions() {
    let (disk, _) = log(1);
    let name = segments(&disk).remove(0);
    disk.change(&name, |bytes| {
        bytes[8] = 2;
        let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..SEGMENT_HEADER - 8]);
        bytes[SEGMENT_HEADER - 8..SEGMENT_HEADER].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = start_with(&disk, &SYNC).err().expect("a newer format").to_string();
    assert!(error.contains(&name) && error.contains("format 2") && error.contains("up to 1"), "{error}");
}

#[test]
fn nothing_that_was_synced_is_lost_in_any_crash_and_nothing_comes_twice() {
    for seed in 0..400 {
        let mut chance = Chance::new(seed);
        let disk = FaultyDisk::default();
        let mut all: Vec<(u64, u32, Vec<u8>)> = Vec::new();
        for life in 0..4 {
            let Ok((mut store, seen, _)) = start_with(&disk, &SYNC) else {
                panic!("seed {seed}, life {life}: {:?}", start_with(&disk, &SYNC).err())
            };
            // At most the one that was under way is there as well.
            assert!(seen.batches.starts_with(&all), "seed {seed}, life {life}");
            assert!(seen.batches.len() <= all.len() + 1, "seed {seed}, life {life}");
            all = seen.batches;
            let faults = match chance.below(3) {
                0 => Faults { write_fails_after: Some(chance.below(20_000)), ..Faults::default() },
                1 => Faults { sync_fails_after: Some(chance.below(40)), ..Faults::default() },
                _ => Faults::default(),
            };
            disk.set_faults(faults);
            for _ in 0..chance.below(40) {
                let (count, length) = (chance.below(4) as u32, chance.below(700) as usize);
                let number = all.len() as u64;
                match append(&mut store, number, count, length) {
                    Ok(batch) => all.push(batch),
                    Err(_) => break,
                }
            }
            disk.crash(|| chance.below(2) == 0);
            drop(store);
        }
    }
}

#[test]
fn a_crash_in_the_start_itself_loses_nothing() {
    for seed in 0..200 {
        let mut chance = Chance::new(seed);
        let (disk, all) = log(6);
        for _ in 0..3 {
            let after = chance.below(12);
            disk.set_faults(Faults { sync_fails_after: Some(after), ..Faults::default() });
            let started = start_with(&disk, &SYNC);
            disk.crash(|| chance.below(2) == 0);
            drop(started);
        }
        assert_eq!(start(&disk).1.batches, all, "seed {seed}");
    }
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_takes_more_once_there_is_room() {
    let disk = FaultyDisk::default();
    let (mut store, _) = start(&disk);
    disk.set_faults(Faults { room: Some(8 * 1_024), ..Faults::default() });
    let mut all = Vec::new();
    let refused = loop {
        match append(&mut store, all.len() as u64 + 1, 2, 300) {
            Ok(batch) => all.push(batch),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WriteError::Full { .. }), "{refused}");
    assert!(append(&mut store, 99, 2, 300).is_err());
    disk.set_faults(Faults::default());
    for _ in 0..10 {
        all.push(append(&mut store, all.len() as u64 + 1, 2, 300).expect("there is room"));
    }
    drop(store);
    assert_eq!(start(&disk).1.batches, all);
}

#[test]
fn a_segment_whose_first_batch_found_no_room_still_wants_what_only_notes_tell() {
    let disk = FaultyDisk::default();
    let (mut store, _) = start(&disk);
    let _ = store.begun();
    let mut number = 0;
    while !store.begins_segment(at(number + 1)) {
        number += 1;
        append(&mut store, number, 1, 100).expect("written");
    }
    disk.set_faults(Faults { full_segments: true, ..Faults::default() });
    let refused = append(&mut store, number + 1, 1, 100).expect_err("there is no room");
    assert!(matches!(refused, WriteError::Full { .. }), "{refused}");
    disk.set_faults(Faults::default());
    assert_eq!(store.begun(), Some(at(number)));
}

#[test]
fn segments_that_could_not_be_taken_out_leave_no_gap() {
    let disk = FaultyDisk::default();
    let (mut store, _, _) = start_with(&disk, &Start { hands: Hands::Own, ..SYNC }).expect("a log");
    let ids = Ids::new(RETENTION.id_window, 1 << 20);
    for n in 1..600 {
        append(&mut store, n, 1, 200).expect("written");
        let renames_fail = n % 40 == 0;
        disk.set_faults(Faults { no_retiring: renames_fail, ..Faults::default() });
        store.retain(at(n), None, &ids);
        disk.set_faults(Faults::default());
    }
    let kept = read_all(&store, store.segments().oldest().0 - 1).len();
    drop(store);
    let (_, seen) = start(&disk);
    assert!(seen.batches.len() >= kept, "{} of {kept}", seen.batches.len());
}

#[test]
fn a_segment_that_cannot_be_made_is_tried_again() {
    let disk = FaultyDisk::default();
    let (mut store, _, _) = start_with(&disk, &Start { hands: Hands::Own, ..SYNC }).expect("a log");
    let mut all = Vec::new();
    let mut refused = 0;
    for n in 1..200 {
        let fails = n % 3 > 0;
        disk.set_faults(Faults { renames_fail: fails, ..Faults::default() });
        match append(&mut store, n, 1, 200) {
            Ok(batch) => all.push(batch),
            Err(error) => {
                assert!(matches!(error, WriteError::NotNow { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    drop(store);
    disk.crash(|| false);
    assert_eq!(start(&disk).1.batches, all);
}

#[test]
fn after_a_failed_sync_nothing_is_accepted_until_a_start() {
    let (disk, mut all) = log(2);
    let (mut store, _) = start(&disk);
    disk.set_faults(Faults { sync_fails_after: Some(0), ..Faults::default() });
    let refused = append(&mut store, 3, 1, 10).expect_err("a failed sync");
    assert!(matches!(refused, WriteError::Failed { .. }), "{refused}");
    disk.set_faults(Faults::default());
    assert_eq!(append(&mut store, 4, 1, 10), Err(refused));
    drop(store);
    // It may be there: whoever sent it was told neither.
    let (mut store, seen) = start(&disk);
    assert!(seen.batches.starts_with(&all) && seen.batches.len() <= 3);
    all = seen.batches;
    all.push(append(&mut store, 5, 1, 10).expect("written"));
    drop(store);
    disk.crash(|| false);
    assert_eq!(start(&disk).1.batches, all);
}

#[test]
fn a_machine_that_went_down_under_os_gives_the_log_a_new_id_and_a_clean_stop_does_not() {
    let disk = FaultyDisk::default();
    let os = Start { sync: false, ..SYNC };
    let rebooted = Start { boot_id: "two", ..os };
    let (mut store, ..) = start_with(&disk, &os).expect("started");
    let log_id = store.log_id();
    let all = vec![append(&mut store, 1, 3, 100).expect("written")];
    store.close().expect("closed");
    let (store, seen, renewed) = start_with(&disk, &rebooted).expect("started");
    assert_eq!((store.log_id(), seen.batches, renewed), (log_id, all, false));
    let next = store.next();
    drop(store);
    let (store, _, renewed) = start_with(&disk, &os).expect("started");
    assert!(renewed && store.log_id() != log_id && store.next() > next);
}

#[test]
fn many_times_its_size_passes_through_and_it_stays_within_its_size() {
    let disk = FaultyDisk::default();
    let (mut store, _) = start(&disk);
    let ids = Ids::new(RETENTION.id_window, 1 << 20);
    let mut all = Vec::new();
    for n in 1..2_000 {
        all.push(append(&mut store, n, 1, 200).expect("written"));
        store.retain(at(n), None, &ids);
        assert!(store.bytes() <= RETENTION.bytes + 300);
    }
    assert!(disk.list().expect("a folder").len() < 50);
    let oldest = store.segments().oldest();
    assert_eq!(oldest.0 - 1, store.dropped_early());
    assert!(matches!(store.segments().read(Position(5)), Err(ReadError::Expired { .. })));
    let kept = &all[oldest.0 as usize - 1..];
    let read = read_all(&store, oldest.0 - 1);
    assert_eq!(read, kept.iter().map(|(first, _, body)| (*first, body.clone())).collect::<Vec<_>>());
    drop(store);
    assert_eq!(start(&disk).1.batches, kept);
}

#[test]
fn a_reader_keeps_what_it_reads_though_it_was_dropped() {
    let disk = FaultyDisk::default();
    let (mut store, _) = start(&disk);
    let ids = Ids::new(RETENTION.id_window, 1 << 20);
    let first = append(&mut store, 1, 1, 200).expect("written");
    let reader = store.segments().with(|segments| Arc::clone(&segments[0]));
    for n in 2..500 {
        append(&mut store, n, 1, 200).expect("written");
        store.retain(at(n), None, &ids);
    }
    let blocks = reader.read(Position(0)).expect("still there");
    assert_eq!(blocks[0].bytes, first.2);
}

#[test]
fn a_log_past_its_age_is_dropped_and_one_found_at_a_start_counts_as_new() {
    let (disk, _) = log(5);
    let (mut store, _) = start(&disk);
    let ids = Ids::new(RETENTION.id_window, 1 << 20);
    store.set_found(at(5_000));
    assert_eq!(store.retain(at(5_999), None, &ids), None);
    assert_eq!(store.retain(at(6_001), Some(Position(3)), &ids), None, "a wait may yet ask for it");
    // The last batch stands in a segment of its own since the start. Before that goes another is begun.
    assert_eq!(store.retain(at(6_001), None, &ids), Some(Position(13)));
    assert_eq!(store.begun(), Some(at(5)));
    assert_eq!(store.retain(at(6_001), None, &ids), Some(Position(16)));
    assert_eq!((store.dropped_early(), store.next()), (0, Position(16)));
    let next = append(&mut store, 7_000, 1, 10).expect("written");
    drop(store);
    assert_eq!(start(&disk).1.batches, [next]);
}

#[test]
fn a_batch_larger_than_a_segment_has_one_of_its_own_size() {
    let disk = FaultyDisk::default();
    let (mut store, _) = start(&disk);
    let all: Vec<_> = [10, 5_000, 20, 40_000, 30]
        .into_iter()
        .zip(1..)
        .map(|(length, n)| append(&mut store, n, 1, length).expect("written"))
        .collect();
    assert_eq!(read_all(&store, 0).len(), 5);
    drop(store);
    assert_eq!(start(&disk).1.batches, all);
}

#[test]
fn ids_outlive_their_events_and_go_when_nobody_asks_for_them() {
    let disk = FaultyDisk::default();
    let (mut store, _) = start(&disk);
    let mut ids = Ids::new(Duration::from_secs(500), 1 << 20);
    let id = |n: u64| EventId(uuid::Uuid::from_u128(u128::from(n)));
    for n in 1..=1_500 {
        let event =
            Event { id: id(n), id_given: true, ..Event::new(VM, KeyRef::new("a", "", 255).expect("a key")) };
        let events: Events = [event].into_iter().collect();
        let entry = events.iter().next().expect("one event");
        ids.decide(at(n), entry, store.next());
        append(&mut store, n, 1, 200).expect("written");
        store.retain(at(n), None, &ids);
    }
    let oldest = store.segments().oldest();
    drop(store);
    let (mut store, seen) = start(&disk);
    assert_eq!(seen.ids.first().map(|id| id.2), Some(Position(1)));
    assert_eq!(seen.ids.last().map(|id| id.2.next()), Some(oldest));
    assert!(seen.ids.iter().all(|(known, _, position)| *known == id(position.0)));
    ids.expire(at(1_900));
    store.retain(at(1_900), None, &ids);
    drop(store);
    let (_, seen) = start(&disk);
    assert!(
        seen.ids.first().is_none_or(|(.., position)| *position > Position(300)),
        "{:?}",
        seen.ids.first()
    );
}

const VM: InstanceId = InstanceId(uuid::Uuid::nil());

fn read_all(store: &Store, after: u64) -> Vec<(u64, Vec<u8>)> {
    let mut at = Position(after);
    let mut all = Vec::new();
    loop {
        let blocks = store.segments().read(at).expect("readable");
        let Some(last) = blocks.back() else { return all };
        at = last.last();
        all.extend(blocks.iter().map(|block| (block.first.0, block.bytes.to_vec())));
    }
}
