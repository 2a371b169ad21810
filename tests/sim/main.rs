//! Worlds that try hard to lose an event: the agent itself, on a network, a disk and a clock that are simulated, and
//! fail. Each world follows from its seed alone.
//!
//! `WAKEFUL_SEED=7 cargo test --test sim` lives through world 7 alone and tells what happens in it, with the
//! simulated time. `WAKEFUL_SEEDS=10000` sets how many there are in a run.

#![cfg(test)]

mod actors;
mod chance;
mod check;
mod history;
mod net;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use wakeful::clock::{Clock, Time};
#[cfg(debug_assertions)]
use wakeful::plant::{self, Plant};

use crate::history::Seen;

/// Worlds in a normal run.
const SEEDS: u64 = 500;

/// Lives through the world of a seed.
fn live(seed: u64) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { world::live(seed, Clock::start_at(world::beginning(), Time::default())).await })
}

/// What the environment says, a number.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, no u64")))
}

/// What was wrong in a world, with what happened in it.
fn report(seed: u64, seen: &Seen) -> String {
    format!(
        "world {seed}:\n{}\n--- wrong in world {seed}:\n{}\n",
        seen.lines.join("\n"),
        seen.wrong.join("\n")
    )
}

/// Takes numbers up to `end` on a thread a core, until `take` says that it is enough.
fn each_below(end: u64, take: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end || !take(number) {
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn no_world_loses_an_event_or_wakes_a_wait_wrongly() {
    if let Some(seed) = number("WAKEFUL_SEED") {
        let seen = live(seed);
        println!("{}", report(seed, &seen));
        assert!(seen.wrong.is_empty());
        return;
    }
    let bad = Mutex::new(Vec::new());
    let (events, waits, crashes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    each_below(number("WAKEFUL_SEEDS").unwrap_or(SEEDS), |seed| {
        let seen = live(seed);
        events.fetch_add(seen.acknowledged.len() as u64, Ordering::Relaxed);
        waits.fetch_add(seen.waits.len() as u64, Ordering::Relaxed);
        crashes.fetch_add(u64::from(seen.crashes), Ordering::Relaxed);
        if !seen.wrong.is_empty() {
            bad.lock().expect("no panic while it is held").push((seed, seen));
        }
        true
    });
    println!("{events:?} events acknowledged, {waits:?} waits, {crashes:?} crashes");
    let bad = bad.into_inner().expect("no panic while it is held");
    if let Some((seed, seen)) = bad.iter().min_by_key(|(seed, _)| seed) {
        let seeds: Vec<_> = bad.iter().map(|(seed, seen)| format!("{seed}: {}", seen.wrong[0])).collect();
        panic!("{}\n{} worlds are bad:\n{}", report(*seed, seen), bad.len(), seeds.join("\n"));
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    let bad = Mutex::new(Vec::new());
    each_below(50, |seed| {
        let (one, other) = (live(seed).lines, live(seed).lines);
        if let Some(line) = (0..one.len().max(other.len())).find(|&line| one.get(line) != other.get(line)) {
            let around =
                |lines: &[String]| lines[line.saturating_sub(3)..lines.len().min(line + 3)].join("\n");
            let text = format!("world {seed}:\n{}\n--- the other time:\n{}", around(&one), around(&other));
            bad.lock().expect("no panic while it is held").push(text);
        }
        true
    });
    let bad = bad.into_inner().expect("no panic while it is held");
    assert!(bad.is_empty(), "{} worlds differ\n{}", bad.len(), bad.join("\n"));
}

// Faults can be planted in debug builds only.
#[cfg(debug_assertions)]
#[test]
fn every_planted_fault_is_found() {
    // A world that is to be lived through alone is lived through without plants.
    if number("WAKEFUL_SEED").is_some() {
        return;
    }
    let mut missed = Vec::new();
    for planted in Plant::ALL {
        let found = Mutex::new(None);
        each_below(SEEDS, |seed| {
            plant::set(Some(planted));
            let seen = live(seed);
            plant::set(None);
            if let Some(wrong) = seen.wrong.first() {
                found.lock().expect("no panic while it is held").get_or_insert((seed, wrong.clone()));
            }
            found.lock().expect("no panic while it is held").is_none()
        });
        match found.into_inner().expect("no panic while it is held") {
            Some((seed, wrong)) => println!("{planted:?}: found in world {seed}: {wrong}"),
            None => missed.push(planted),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS} worlds: {missed:?}");
}
