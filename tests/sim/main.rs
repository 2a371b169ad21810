//! Worlds that try hard to lose an event: the agent itself, on a network, a disk and a clock that are simulated, and
//! fail. Each world follows from its seed alone.
//!
//! `WAKEFUL_SEED=7 cargo test --test sim` lives through world 7 alone and tells what happens in it, with the
//! simulated time. `WAKEFUL_SEEDS=10000` sets how many there are in a run.

#![cfg(test)]

mod actors;
mod chance;
mod check;
mod front;
mod history;
mod net;
mod world;

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;

use tokio::time::timeout;
use wakeful::clock::{Clock, Time};
#[cfg(debug_assertions)]
use wakeful::plant::{self, Plant};

use crate::history::Seen;

/// Worlds in a normal run.
const SEEDS: u64 = 500;
/// By the world's own clock, which jumps to whatever comes next.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

thread_local! {
    /// What has panicked on this thread, where the world that it happened in may not see it.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes every panic, beside what is done about it anyhow.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // It fails only where the thread ends.
            let _ = PANICS.try_with(|panics| panics.borrow_mut().push(info.to_string()));
            before(info);
        }));
    });
}

/// Lives through the world of a seed.
fn live(seed: u64) -> Seen {
    note_panics();
    let mut seen = live_in(seed);
    seen.wrong.extend(PANICS.take());
    seen
}

fn live_in(seed: u64) -> Seen {
    in_its_time(|clock| world::live(seed, clock))
}

/// Has what the agents and the gateway log shown, as `RUST_LOG` says.
fn tell_all() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time().try_init();
}

/// Lives through a world with a gateway.
fn live_with_gateway(seed: u64) -> Seen {
    note_panics();
    let mut seen = in_its_time(|clock| front::live(seed, clock));
    seen.wrong.extend(PANICS.take());
    seen
}

/// Lives through a world whose time is its own.
fn in_its_time<F: Future<Output = Seen>>(life: impl FnOnce(Clock) -> F) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let life = async {
        let clock = Clock::start_at(world::beginning(), Time::default());
        timeout(LONGEST, life(clock)).await
    };
    let wrong = |what: &str| Seen { wrong: vec![what.to_owned()], ..Seen::default() };
    match panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(life))) {
        Ok(Ok(seen)) => seen,
        Ok(Err(_)) => wrong("it came to no end"),
        Err(_) => wrong("it panicked"),
    }
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

/// Worlds with a gateway in a normal run.
const GATEWAY_SEEDS: u64 = 200;

#[test]
fn no_world_with_a_gateway_loses_what_it_answered_200_for() {
    if let Some(seed) = number("WAKEFUL_SEED") {
        tell_all();
        let seen = live_with_gateway(seed);
        println!("{}", report(seed, &seen));
        assert!(seen.wrong.is_empty());
        return;
    }
    let bad = Mutex::new(Vec::new());
    let (events, crashes) = (AtomicU64::new(0), AtomicU64::new(0));
    each_below(number("WAKEFUL_SEEDS").unwrap_or(GATEWAY_SEEDS), |seed| {
        let seen = live_with_gateway(seed);
        events.fetch_add(seen.acknowledged.len() as u64, Ordering::Relaxed);
        crashes.fetch_add(u64::from(seen.crashes), Ordering::Relaxed);
        if !seen.wrong.is_empty() {
            bad.lock().expect("no panic while it is held").push((seed, seen));
        }
        true
    });
    println!("with a gateway: {events:?} events answered 200, {crashes:?} crashes");
    let bad = bad.into_inner().expect("no panic while it is held");
    if let Some((seed, seen)) = bad.iter().min_by_key(|(seed, _)| seed) {
        let seeds: Vec<_> = bad.iter().map(|(seed, seen)| format!("{seed}: {}", seen.wrong[0])).collect();
        panic!("{}\n{} worlds are bad:\n{}", report(*seed, seen), bad.len(), seeds.join("\n"));
    }
}

#[test]
fn an_agent_that_is_down_for_50_minutes_loses_nothing() {
    let seen = in_its_time(|clock| front::down_for(Duration::from_secs(50 * 60), clock));
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    assert!(!seen.acknowledged.is_empty());
}

#[test]
fn an_event_is_kept_for_an_hour_and_no_longer() {
    let seen = in_its_time(|clock| front::down_for(Duration::from_secs(61 * 60), clock));
    let lost = seen.wrong.iter().any(|wrong| wrong.contains("did not arrive"));
    assert!(lost, "what is older than max_age is given up: {:?}", seen.wrong);
}

#[test]
fn the_same_seed_is_the_same_world() {
    is_the_same_twice(50, live);
}

#[test]
fn the_same_seed_is_the_same_world_with_a_gateway() {
    is_the_same_twice(20, live_with_gateway);
}

/// Lives through the worlds below this one twice each, and looks for the first line in which they differ.
fn is_the_same_twice(seeds: u64, live: fn(u64) -> Seen) {
    let bad = Mutex::new(Vec::new());
    each_below(seeds, |seed| {
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
