//! Lists of operations on the engine: it never panics, says no outcome twice, and nothing after it.

#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;
use wakeful::clock::Time;
use wakeful::engine::{Ask, Effect, Engine, FailurePolicy, Limits, Opening, Resume, Start};
use wakeful::event::{Caller, CancelInstance, Cursor, Event, InstanceId, Key, KeyRef, Position, Status, WaitId};
use wakeful::journal::memory::MemoryJournal;
use wakeful::journal::retention::Retention;

#[derive(Arbitrary, Debug)]
enum Op {
    Open { id: u8, vm: u8, keys: u8, from: u8, timeout: u8, on_arm: bool, collect: bool, progress_fails: bool },
    Again { stream: u8, timeout: u8 },
    Arm { id: u8 },
    Skip { id: u8, keys: u8 },
    Cancel { id: u8 },
    CancelInstance { vm: u8 },
    Send { vm: u8, key: u8, status: u8, held: u8, id: u8 },
    Pass { millis: u16 },
    Close { stream: u8 },
    Retain,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn vm(number: u8) -> InstanceId {
    InstanceId(Uuid::from_u128(u128::from(number % 2) + 1))
}

fn keys(bits: u8) -> Vec<Key> {
    let named = NAMES.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
    named.map(|(_, name)| Key::new((*name).to_owned(), String::new(), 255).expect("a key")).collect()
}

fn wait_id(number: u8) -> WaitId {
    WaitId(Uuid::from_u128(u128::from(number % 4) + 1))
}

fuzz_target!(|ops: Vec<Op>| {
    let mut journal = MemoryJournal::new(Retention {
        age: Duration::from_secs(20),
        bytes: 2_000,
        held_bytes: 4_000,
        id_window: Duration::from_secs(40),
        max_ids: 1_024,
    });
    let limits = Limits {
        waits: 6,
        instance_waits: 4,
        ended_waits: 4,
        ended_bytes: 1 << 20,
        ended_age: Duration::from_secs(30),
        max_unarmed: Duration::from_secs(30),
    };
    let log_id = journal.log().id();
    let mut engine = Engine::new(log_id, limits);
    let mut now = Time::from_nanos(1_000_000_000_000);
    let caller = Caller { uid: 7, operator: true };
    let (mut asks, mut told): (Vec<Ask>, BTreeMap<Opening, (usize, bool)>) = Default::default();
    for op in ops.into_iter().take(200) {
        let mut out = Vec::new();
        match op {
            Op::Open { id, vm: instance, keys: bits, from, timeout, on_arm, collect, progress_fails } => {
                let keys = keys(bits);
                let start = match from % 4 {
                    0 | 1 => Start::Head,
                    2 => {
                        let position = Position(engine.head().0.saturating_sub(u64::from(from >> 4)));
                        Start::After(Cursor { log_id, position })
                    }
                    _ => Start::Lookback(Duration::from_secs(u64::from(from >> 3))),
                };
                if keys.is_empty() || (timeout == 0 && start == Start::Head) {
                    continue;
                }
                let ask = Ask {
                    id: wait_id(id),
                    opening: Opening(asks.len() as u64 + 1),
                    instance: vm(instance),
                    uid: 7,
                    keys: keys.into(),
                    start,
                    timeout: Duration::from_millis(u64::from(timeout) * 100),
                    start_on_arm: on_arm,
                    policy: if collect { FailurePolicy::Collect } else { FailurePolicy::FailFast },
                    in_progress_fails: progress_fails,
                    resume: None,
                    attempt: None,
                };
                asks.push(ask.clone());
                let _ = engine.open(now, ask, &mut out);
            }
            Op::Again { stream, timeout } => {
                let Some(ask) = asks.get(usize::from(stream) % asks.len().max(1)).cloned() else { continue };
                let list = engine.list(None, Opening(0), 100);
                let Some(view) = list.iter().find(|view| view.id == ask.id) else { continue };
                let ask = Ask {
                    opening: Opening(asks.len() as u64 + 1),
                    instance: view.instance,
                    keys: view.keys.clone(),
                    start: Start::After(Cursor { log_id, position: engine.head() }),
                    timeout: Duration::from_millis(u64::from(timeout) * 100),
                    resume: Some(Resume { opened: view.opened, answers: view.answers.to_vec().into() }),
                    ..ask
                };
                asks.push(ask.clone());
                let _ = engine.open(now, ask, &mut out);
            }
            Op::Arm { id } => drop(engine.arm(now, wait_id(id), caller)),
            Op::Skip { id, keys: bits } => drop(engine.skip(now, wait_id(id), caller, &keys(bits), &mut out)),
            Op::Cancel { id } => drop(engine.cancel(now, wait_id(id), caller, "why".into(), &mut out)),
            Op::CancelInstance { vm: instance } => {
                let cancel = CancelInstance { instance: vm(instance), caller, why: String::new() };
                let committed = journal.commit_cancel(now, cancel);
                engine.cancel_instance(&committed, &mut out);
            }
            Op::Send { vm: instance, key, status, held, id } => {
                let key = KeyRef::new(NAMES[usize::from(key) % 3], "", 255).expect("a key");
                let event = Event::new(vm(instance), key);
                let event = Event {
                    id: if id < 8 { wakeful::event::EventId(Uuid::from_u128(u128::from(id))) } else { event.id },
                    id_given: id < 8,
                    status: [Status::Completed, Status::Failed, Status::InProgress][usize::from(status) % 3],
                    held_for: (held > 0).then(|| Duration::from_millis(u64::from(held) * 50)),
                    ..event
                };
                let committed = journal.commit(now, [event].into_iter().collect());
                engine.commit(&committed, &mut out);
            }
            Op::Pass { millis } => {
                now = now.plus(Duration::from_millis(u64::from(millis)));
                engine.tick(now, &mut out);
                assert!(engine.next_wake().is_none_or(|wake| wake > now));
            }
            Op::Close { stream } => engine.close(Opening(u64::from(stream))),
            Op::Retain => {
                if let Some(oldest) = journal.oldest_by_size() {
                    engine.release(now, oldest, &mut out);
                }
                let oldest = journal.retain(now, engine.pinned());
                engine.drop_before(oldest);
            }
        }
        for effect in out {
            let (_, opening) = effect.stream();
            let (messages, ended) = told.entry(opening).or_default();
            assert!(!*ended, "told something after the last: {effect:?}");
            assert_eq!(*messages == 0, matches!(effect, Effect::Registered { .. }), "{effect:?}");
            *messages += 1;
            *ended = matches!(effect, Effect::Outcome { .. } | Effect::TakenOver { .. } | Effect::GoingAway { .. });
        }
    }
});
