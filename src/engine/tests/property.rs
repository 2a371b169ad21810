//! Random lists of operations, crashes and starts among them, on the engine with its log in memory and on the model: both must say the same
//! of everything.
//!
//! `PROPTEST_CASES` sets how many lists. The seed of one that fails is kept under `proptest-regressions/`,
//! and is tried first from then on.

use proptest::prelude::*;

use super::model::Model;
use super::story::{End, Story};
use super::world::{
    OPERATOR, OTHER_USER, OTHER_VM, RETENTION, USER, VM, World, event_id, key, key_ref, secs, wait_id,
};
use crate::clock::Time;
use crate::engine::{Ask, Effect, FailurePolicy, KeyState, Limits, Moment, Opening, Start};
use crate::event::{Caller, CancelInstance, Event, InstanceId, Key, Position, Status};
use crate::journal::Verdict;
use crate::journal::retention::Retention;

const KEYS: [&str; 3] = ["vif", "vif:1", "vol"];

/// Numbers choose from what there is then, so that a list stays whole when it is made shorter.
#[derive(Clone, Debug)]
enum Op {
    Open {
        id: u128,
        vm: InstanceId,
        uid: u32,
        keys: Vec<usize>,
        from: From,
        terms: Terms,
    },
    /// The client of a stream asks again that has read so many of its messages.
    AskAgain {
        stream: usize,
        read: usize,
        terms: Option<Terms>,
    },
    /// The same is asked by whoever, of whichever instance.
    AskAsAnother {
        stream: usize,
        read: usize,
        vm: InstanceId,
        uid: u32,
    },
    Arm {
        id: u128,
        caller: Caller,
    },
    /// The key past the last is in no wait.
    Skip {
        id: u128,
        caller: Caller,
        keys: Vec<usize>,
    },
    Cancel {
        id: u128,
        caller: Caller,
    },
    /// The journal commits; the engine may do something else before it is handed that.
    CancelInstance {
        vm: InstanceId,
        caller: Caller,
        later: bool,
    },
    Dispatch {
        events: Vec<Sent>,
        later: bool,
    },
    Pass {
        seconds: u64,
    },
    Oversleep {
        seconds: u64,
    },
    Tick,
    Close {
        stream: usize,
    },
    Retain,
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum From {
    Head,
    /// So many positions before the head; below zero, past it.
    After(i64),
    AnotherLog,
    Lookback(u64),
}

#[derive(Clone, Copy, Debug)]
struct Terms {
    timeout: u64,
    start_on_arm: bool,
    collect: bool,
    in_progress_fails: bool,
}

#[derive(Clone, Debug)]
struct Sent {
    vm: InstanceId,
    key: usize,
    status: Status,
    held: Option<u64>,
    id: Option<u128>,
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    limits: Limits,
    retention: Retention,
}

fn setup() -> impl Strategy<Value = Setup> {
    let limits = (1..6usize, 1..4usize, 0..4usize);
    let sizes = (prop_oneof![Just(300u64), Just(1 << 20)], prop_oneof![Just(0u64), Just(700), Just(1 << 20)]);
    (limits, sizes).prop_map(|((waits, instance_waits, ended_waits), (bytes, held_bytes))| Setup {
        limits: Limits {
            waits,
            instance_waits,
            ended_waits,
            ended_age: secs(60),
            max_unarmed: secs(50),
            ended_bytes: u64::MAX,
        },
        retention: Retention { age: secs(60), bytes, held_bytes, ..RETENTION },
    })
}

fn op() -> impl Strategy<Value = Op> {
    let vm = || prop_oneof![4 => Just(VM), 1 => Just(OTHER_VM)];
    let id = || prop_oneof![4 => Just(0u128), 2 => Just(1), 1 => Just(2), 1 => Just(3)];
    let caller = || prop_oneof![4 => Just(USER), 1 => Just(OTHER_USER), 1 => Just(OPERATOR)];
    let uid = || prop_oneof![4 => Just(USER.uid), 1 => Just(OTHER_USER.uid)];
    let some_keys =
        |all: usize| prop::sample::subsequence((0..all).collect::<Vec<_>>(), 1..=all).prop_shuffle();
    let from = prop_oneof![
        4 => Just(From::Head),
        4 => (0..8i64).prop_map(From::After),
        1 => (-2..20i64).prop_map(From::After),
        1 => Just(From::AnotherLog),
        3 => (0..90u64).prop_map(From::Lookback),
    ];
    let seconds = || prop_oneof![3 => 0..4u64, 2 => 4..20u64, 1 => 20..70u64];
    let open = (id(), vm(), uid(), some_keys(3), from, terms())
        .prop_map(|(id, vm, uid, keys, from, terms)| Op::Open { id, vm, uid, keys, from, terms });
    prop_oneof![
        6 => open,
        5 => (0..64usize, 0..64usize, prop::option::weighted(0.3, terms()))
            .prop_map(|(stream, read, terms)| Op::AskAgain { stream, read, terms }),
        1 => (0..64usize, 0..64usize, vm(), uid())
            .prop_map(|(stream, read, vm, uid)| Op::AskAsAnother { stream, read, vm, uid }),
        1 => (id(), caller()).prop_map(|(id, caller)| Op::Arm { id, caller }),
        2 => (id(), caller(), some_keys(4)).prop_map(|(id, caller, keys)| Op::Skip { id, caller, keys }),
        1 => (id(), caller()).prop_map(|(id, caller)| Op::Cancel { id, caller }),
        1 => (vm(), caller(), prop::bool::weighted(0.3))
            .prop_map(|(vm, caller, later)| Op::CancelInstance { vm, caller, later }),
        9 => (prop::collection::vec(sent(), 1..4), prop::bool::weighted(0.2))
            .prop_map(|(events, later)| Op::Dispatch { events, later }),
        3 => seconds().prop_map(|seconds| Op::Pass { seconds }),
        2 => seconds().prop_map(|seconds| Op::Oversleep { seconds }),
        1 => Just(Op::Tick),
        1 => (0..64usize).prop_map(|stream| Op::Close { stream }),
        1 => Just(Op::Retain),
        1 => Just(Op::Crash),
    ]
}

fn terms() -> impl Strategy<Value = Terms> {
    let timeout = prop_oneof![1 => Just(0u64), 2 => 1..10u64, 3 => 10..100u64];
    let rarely = || prop::bool::weighted(0.3);
    (timeout, rarely(), any::<bool>(), rarely()).prop_map(
        |(timeout, start_on_arm, collect, in_progress_fails)| Terms {
            timeout,
            start_on_arm,
            collect,
            in_progress_fails,
        },
    )
}

fn sent() -> impl Strategy<Value = Sent> {
    let vm = prop_oneof![4 => Just(VM), 1 => Just(OTHER_VM)];
    let status =
        prop_oneof![3 => Just(Status::Completed), 1 => Just(Status::Failed), 1 => Just(Status::InProgress)];
    let held = prop::option::weighted(0.4, prop_oneof![0..3u64, 0..60u64]);
    (vm, 0..3usize, status, held, prop::option::weighted(0.4, 0..6u128))
        .prop_map(|(vm, key, status, held, id)| Sent { vm, key, status, held, id })
}

fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { 20_000 };
    ProptestConfig { cases, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_engine_and_the_model_say_the_same(
        setup in setup(),
        ops in prop::collection::vec(op(), 1..48),
        stop in any::<bool>(),
    ) {
        let mut both = Both::new(setup);
        for op in ops {
            both.apply(op)?;
            both.compare()?;
        }
        both.end(stop)?;
    }
}

/// The engine in its world, and the model.
struct Both {
    setup: Setup,
    world: World,
    model: Model,
    /// What the model has accepted and not yet taken in.
    queue: Vec<Handed>,
}

enum Handed {
    Events(Vec<Verdict>),
    Cancel(Position),
}

impl Both {
    fn new(setup: Setup) -> Self {
        let world = World::with(setup.limits, setup.retention);
        let model = Model::new(world.journal.log().id(), setup.limits);
        Self { setup, world, model, queue: Vec::new() }
    }

    fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Open { id, vm, uid, keys, from, terms } => {
                let head = self.world.engine.index.head().0;
                let ask = Ask {
                    id: wait_id(id),
                    opening: Opening(0),
                    instance: vm,
                    uid,
                    keys: chosen(&keys).into(),
                    start: match from {
                        From::Head => Start::Head,
                        From::After(back) => {
                            Start::After(self.world.cursor(head.saturating_add_signed(-back)))
                        }
                        From::AnotherLog => Start::After(World::new().cursor(0)),
                        From::Lookback(span) => Start::Lookback(secs(span)),
                    },
                    timeout: secs(0),
                    start_on_arm: false,
                    policy: FailurePolicy::FailFast,
                    in_progress_fails: false,
                    resume: None,
                    attempt: None,
                };
                self.open(terms.of(ask))?;
            }
            Op::AskAgain { stream, read, terms } => {
                let Some((opening, ask)) = self.again(stream, read) else { return Ok(()) };
                match terms {
                    Some(terms) => self.open(terms.of(ask))?,
                    None => self.open_again(opening, ask)?,
                }
            }
            Op::AskAsAnother { stream, read, vm, uid } => {
                let Some((_, ask)) = self.again(stream, read) else { return Ok(()) };
                self.open(Ask { instance: vm, uid, ..ask })?;
            }
            Op::Arm { id, caller } => {
                let armed = self.world.arm(wait_id(id), caller);
                prop_assert_eq!(armed, self.model.arm(self.world.now, wait_id(id), caller));
            }
            Op::Skip { id, caller, keys } => {
                let skipped = self.world.skip(wait_id(id), caller, &chosen(&keys));
                prop_assert_eq!(
                    skipped,
                    self.model.skip(self.world.now, wait_id(id), caller, &chosen(&keys))
                );
            }
            Op::Cancel { id, caller } => {
                let cancelled = self.world.cancel(wait_id(id), caller, "changed my mind");
                let by_model = self.model.cancel(self.world.now, wait_id(id), caller, "changed my mind");
                prop_assert_eq!(cancelled, by_model);
            }
            Op::CancelInstance { vm, caller, later } => {
                let cancel = CancelInstance { instance: vm, caller, why: "deleted".to_owned() };
                self.world.accept_cancel(cancel.clone());
                self.queue.push(Handed::Cancel(self.model.accept_cancel(self.world.now, cancel)));
                if !later {
                    self.hand_over()?;
                }
            }
            Op::Dispatch { events, later } => {
                let events: Vec<_> = events.iter().map(Sent::event).collect();
                let verdicts = self.model.accept(self.world.now, &events);
                prop_assert_eq!(&self.world.accept(events), &verdicts);
                self.queue.push(Handed::Events(verdicts));
                if !later {
                    self.hand_over()?;
                }
            }
            Op::Pass { seconds } => {
                for now in self.world.pass(secs(seconds)) {
                    self.model.tick(now);
                }
            }
            Op::Oversleep { seconds } => self.world.oversleep(secs(seconds)),
            Op::Tick => {
                self.world.tick();
                self.model.tick(self.world.now);
            }
            Op::Close { stream } => {
                if let Some(opening) = self.stream(stream) {
                    self.close(opening);
                }
            }
            Op::Retain => self.retain()?,
            Op::Crash => self.crash(),
        }
        Ok(())
    }

    /// What the client of a stream asks that has read so many of its messages. Who has read the last one has
    /// no need to.
    fn again(&self, stream: usize, read: usize) -> Option<(Opening, Ask)> {
        let opening = self.stream(stream)?;
        let told = self.world.told(opening);
        let ended = matches!(told.last(), Some(Effect::Outcome { .. } | Effect::TakenOver { .. }));
        let read = 1 + read % (told.len() - usize::from(ended));
        Some((opening, self.world.again_after(opening, read)))
    }

    fn open(&mut self, ask: Ask) -> Result<(), TestCaseError> {
        let ask = self.world.numbered(ask);
        let opened = self.world.try_open(ask.clone()).map(|_| ());
        prop_assert_eq!(opened, self.model.open(self.world.now, ask));
        Ok(())
    }

    /// With the same terms as before: nothing may be lost by it.
    fn open_again(&mut self, older: Opening, ask: Ask) -> Result<(), TestCaseError> {
        let live = self.world.engine.waits.get(&older).map(|wait| wait.answers.clone());
        let skipped =
            live.iter().flat_map(|live| live.iter()).any(|answer| answer.state == KeyState::Skipped);
        let opening = self.world.numbered(ask.clone()).opening;
        self.open(ask)?;
        if let Some(live) = live
            && !skipped
            && let Some(Effect::Registered { answers, .. }) = self.world.told(opening).first()
        {
            prop_assert_eq!(answers, &live);
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), TestCaseError> {
        let said = self.world.hand_over();
        let by_model = self.queue.drain(..).map(|handed| match handed {
            Handed::Events(verdicts) => self.model.hand_over(&verdicts),
            Handed::Cancel(position) => self.model.hand_over_cancel(position),
        });
        prop_assert_eq!(said, by_model.collect::<Vec<_>>());
        Ok(())
    }

    fn close(&mut self, opening: Opening) {
        self.world.close(opening);
        self.model.close(self.world.now, opening);
    }

    fn crash(&mut self) {
        for story in self.model.open_waits() {
            self.model.close(self.world.now, story.opening);
        }
        for handed in self.queue.drain(..) {
            match handed {
                Handed::Events(verdicts) => drop(self.model.hand_over(&verdicts)),
                Handed::Cancel(position) => drop(self.model.hand_over_cancel(position)),
            }
        }
        self.world.crash();
    }

    fn retain(&mut self) -> Result<(), TestCaseError> {
        self.hand_over()?;
        let pinned = self.world.engine.pinned();
        prop_assert_eq!(pinned, self.model.pinned());
        let (before, bytes) = (self.world.journal.log().oldest(), self.world.journal.bytes());
        let oldest = self.world.retain();
        if oldest > before && pinned.is_some_and(|pinned| pinned.next() < oldest) {
            prop_assert!(bytes > self.setup.retention.held_bytes, "dropped what an open wait may ask for");
        }
        self.model.drop_before(oldest);
        Ok(())
    }

    /// The streams that there have been, chosen from by a number: newer ones by smaller numbers.
    fn stream(&self, number: usize) -> Option<Opening> {
        let streams: Vec<_> = self.world.streams().map(|(opening, _)| opening).collect();
        streams.iter().rev().nth(number.checked_rem(streams.len())?).copied()
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let (counts, engine, model) = (self.world.counts(), &mut self.world.engine, &self.model);
        engine.assert_whole();
        prop_assert_eq!(counts, model.counts());
        prop_assert_eq!(engine.pinned(), model.pinned());
        let (wake, due) = (engine.next_wake(), model.next_due());
        prop_assert!(
            due.is_none_or(|due| wake.is_some_and(|wake| wake <= due)),
            "wakes {wake:?}, due {due:?}"
        );

        let (open, expected) = (engine.list(None, Opening(0), usize::MAX), model.open_waits());
        prop_assert_eq!(engine.open_waits(), expected.len());
        prop_assert_eq!(open.len(), expected.len());
        for (view, story) in open.iter().zip(&expected) {
            let state = (view.id, view.opening, &*view.answers, view.deadline, view.unarmed);
            prop_assert_eq!(state, (story.id, story.opening, &*story.answers, story.deadline, story.unarmed));
        }

        let remembered = model.remembered();
        for vm in [VM, OTHER_VM] {
            let of_vm = |story: &&Story| story.instance == vm;
            let ended = remembered.iter().filter(of_vm).map(|story| (story.opening, story.outcome()));
            let open = expected.iter().filter(of_vm).map(|story| (story.opening, None));
            let history = self.world.engine.history(vm);
            let history = history.iter().map(|view| (view.opening, view.ended.as_ref().map(|(end, _)| end)));
            prop_assert_eq!(history.collect::<Vec<_>>(), ended.chain(open).collect::<Vec<_>>());

            let mut moments: Vec<_> = self.world.engine.history(vm).iter().flat_map(Moment::of).collect();
            moments.sort();
            let mut after = Moment { at: Time::default(), ended: false, opening: Opening(0) };
            for page in moments.chunks(3) {
                let told = self.world.engine.moments(vm, after, 3).waits;
                prop_assert_eq!(told.iter().map(|(moment, _)| *moment).collect::<Vec<_>>(), page);
                after = page[page.len() - 1];
            }
            prop_assert!(self.world.engine.moments(vm, after, 3).waits.is_empty());
        }

        let stories = model.stories();
        prop_assert_eq!(self.world.streams().count(), stories.len());
        for ((opening, told), story) in self.world.streams().zip(&stories) {
            prop_assert_eq!(opening, story.opening);
            prop_assert_eq!(told, &story.told[..]);
        }
        Ok(())
    }

    fn end(mut self, stop: bool) -> Result<(), TestCaseError> {
        if stop {
            self.world.stop();
            self.model.stop(self.world.now);
        } else {
            for story in self.model.open_waits() {
                self.close(story.opening);
            }
        }
        self.compare()?;
        self.world.engine.assert_empty();
        Ok(())
    }
}

impl Terms {
    fn of(self, ask: Ask) -> Ask {
        Ask {
            timeout: secs(self.timeout),
            start_on_arm: self.start_on_arm,
            policy: if self.collect { FailurePolicy::Collect } else { FailurePolicy::FailFast },
            in_progress_fails: self.in_progress_fails,
            ..ask
        }
    }
}

impl Sent {
    fn event(&self) -> Event<'static> {
        let event = Event::new(self.vm, key_ref(KEYS[self.key]));
        Event {
            id: self.id.map_or(event.id, event_id),
            id_given: self.id.is_some(),
            status: self.status,
            held_for: self.held.map(secs),
            ..event
        }
    }
}

impl Story {
    fn outcome(&self) -> Option<&crate::engine::Outcome> {
        match &self.end {
            Some(End::Outcome(outcome, _)) => Some(outcome),
            _ => None,
        }
    }
}

fn chosen(numbers: &[usize]) -> Vec<Key> {
    numbers.iter().map(|number| key(KEYS.get(*number).unwrap_or(&"none"))).collect()
}
