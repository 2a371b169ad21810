//! Deadlines, Arm and heartbeats.

use super::world::*;
use crate::engine::{Ask, Effect, HEARTBEAT, KeyState::*, Kind, Limits, Start, WaitError, Why};
use crate::event::Position;

fn on_arm(keys: &[&str]) -> Ask {
    Ask { start_on_arm: true, ..ask(keys) }
}

#[test]
fn when_the_deadline_passes_the_outcome_is_timed_out_and_names_the_keys_that_came_and_those_that_did_not() {
    let mut world = World::new();
    let wait = world.open(Ask { timeout: secs(10), ..ask(&["a", "b", "c"]) });
    world.send_all(vec![completed("b"), completed("other"), in_progress("c")]);
    world.pass(secs(10));
    assert_eq!(world.states(wait), [Open, Completed, Open]);
    let outcome = world.outcome(wait).unwrap();
    assert_eq!((outcome.kind, &outcome.why, outcome.at), (Kind::TimedOut, &Why::Itself, Position(3)));
    world.engine.assert_empty();
}

#[test]
fn a_deadline_is_never_early_and_next_wake_says_when_it_is() {
    let mut world = World::new();
    let wait = world.open(Ask { timeout: secs(10), ..ask(&["a"]) });
    assert_eq!(world.engine.next_wake(), Some(at(10)));
    world.now = crate::clock::Time::from_nanos(at(10).as_nanos() - 1);
    world.tick();
    assert_eq!(world.kind(wait), None);
    world.now = at(10);
    world.tick();
    assert_eq!(world.kind(wait), Some(Kind::TimedOut));
}

#[test]
fn an_event_handed_over_before_the_tick_wins_over_a_deadline_that_is_past() {
    let mut world = World::new();
    let wait = world.open(Ask { timeout: secs(10), ..ask(&["a"]) });
    world.oversleep(secs(15));
    world.send(completed("a"));
    world.tick();
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn a_tick_wins_over_an_event_that_is_handed_over_after_it() {
    let mut world = World::new();
    let wait = world.open(Ask { timeout: secs(10), ..ask(&["a"]) });
    world.accept(vec![completed("a")]);
    world.pass(secs(10));
    world.hand_over();
    assert_eq!((world.kind(wait), world.states(wait)), (Some(Kind::TimedOut), vec![Open]));
}

#[test]
fn waits_that_are_due_together_all_time_out() {
    let mut world = World::new();
    let waits = [5, 3, 4, 3].map(|timeout| {
        let id = wait_id(u128::from(timeout) * 10 + world.engine.open_waits() as u128);
        world.open(Ask { id, timeout: secs(timeout), ..ask(&["a"]) })
    });
    world.oversleep(secs(4));
    world.tick();
    assert_eq!(waits.map(|wait| world.kind(wait).is_some()), [false, true, true, true]);
}

#[test]
fn the_timeout_starts_at_registration() {
    let mut world = World::new();
    world.pass(secs(7));
    let wait = world.open(ask(&["a"]));
    assert!(matches!(world.told(wait), [Effect::Registered { deadline, .. }] if *deadline == at(107)));
}

#[test]
fn with_start_on_arm_the_timeout_starts_when_arm_is_called() {
    let mut world = World::new();
    let wait = world.open(on_arm(&["a"]));
    world.pass(secs(1_000));
    assert_eq!(world.kind(wait), None);
    assert_eq!(world.arm(wait_id(1), USER), Ok(at(1_100)));
    world.pass(secs(99));
    assert_eq!(world.kind(wait), None);
    world.pass(secs(1));
    assert_eq!(world.outcome(wait).map(|outcome| &outcome.why), Some(&Why::Itself));
}

#[test]
fn arm_on_a_running_wait_sets_its_deadline_to_now_and_its_timeout() {
    let mut world = World::new();
    let wait = world.open(ask(&["a"]));
    world.pass(secs(60));
    assert_eq!(world.arm(wait_id(1), USER), Ok(at(160)));
    world.pass(secs(99));
    assert_eq!(world.kind(wait), None);
    world.pass(secs(1));
    assert_eq!(world.kind(wait), Some(Kind::TimedOut));
    world.engine.assert_empty();
}

#[test]
fn a_wait_that_is_never_armed_times_out_so_after_max_unarmed() {
    let mut world = World::with(Limits { max_unarmed: secs(50), ..LIMITS }, RETENTION);
    let wait = world.open(on_arm(&["a"]));
    world.pass(secs(49));
    assert_eq!(world.kind(wait), None);
    world.pass(secs(1));
    let outcome = world.outcome(wait).unwrap();
    assert_eq!((outcome.kind, &outcome.why), (Kind::TimedOut, &Why::NeverArmed));
}

#[test]
fn an_outcome_may_come_before_arm_which_then_finds_no_wait() {
    let mut world = World::new();
    let wait = world.open(on_arm(&["a"]));
    world.send(completed("a"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
    assert_eq!(world.arm(wait_id(1), USER), Err(WaitError::NotFound(wait_id(1))));
}

#[test]
fn timeout_zero_looks_once_and_answers_at_once() {
    let mut world = World::new();
    world.send(completed("a"));
    let look = |keys: &[&str], start| Ask { timeout: secs(0), start, ..ask(keys) };
    let start = Start::After(world.cursor(0));
    let found = world.open(look(&["a"], start));
    assert_eq!(world.kind(found), Some(Kind::Completed));
    let missed = world.open(look(&["a", "b"], start));
    assert_eq!((world.kind(missed), world.states(missed)), (Some(Kind::TimedOut), vec![Completed, Open]));
    let back = world.open(look(&["b"], Start::Lookback(secs(5))));
    assert_eq!(world.kind(back), Some(Kind::TimedOut));
    world.engine.assert_empty();
}

#[test]
fn every_30_s_a_stream_is_told_how_far_its_wait_has_looked() {
    let mut world = World::new();
    let wait = world.open(Ask { timeout: secs(75), ..ask(&["a"]) });
    world.pass(secs(10));
    world.send(completed("other"));
    assert_eq!(world.pass(secs(65)), [at(30), at(60), at(75)]);
    let beats = world.told(wait)[1..].iter().map(|effect| match effect {
        Effect::Progress { at, event: None, change: None, .. } => at.0,
        Effect::Outcome { outcome, .. } => outcome.at.0,
        other => panic!("{other:?}"),
    });
    assert_eq!(beats.collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(HEARTBEAT, secs(30));
}

#[test]
fn waits_that_hold_a_log_over_its_size_are_told_before_their_time_how_far_they_have_looked() {
    let mut world = World::new();
    let early = world.open(ask(&["a"]));
    world.send_all(vec![completed("other"), completed("other"), completed("other")]);
    let late = world.open(Ask { id: wait_id(2), ..ask(&["a"]) });
    let mut out = Vec::new();
    world.pass(secs(1));
    assert_eq!(world.engine.pinned(), Some(Position(0)));
    world.engine.release(world.now, Position(1), &mut out);
    assert_eq!(out, [], "nothing that is to go is held");
    world.engine.release(world.now, Position(3), &mut out);
    assert_eq!(out, [Effect::looked(wait_id(1), early, Position(3))]);
    assert_eq!(world.engine.pinned(), Some(Position(3)));
    assert_eq!(world.engine.next_wake(), Some(at(30)), "the other's heartbeat");
    assert_eq!(world.pass(secs(30)), [at(30), at(31)]);
    assert_eq!((world.told(early).len(), world.told(late).len()), (2, 2));
}

#[test]
fn a_late_heartbeat_is_told_once_and_the_next_is_30_s_after_it() {
    let mut world = World::new();
    let wait = world.open(ask(&["a"]));
    world.oversleep(secs(95));
    world.tick();
    assert_eq!(world.told(wait).len(), 2);
    assert_eq!(world.engine.next_wake(), Some(at(100)), "its deadline");
    world.arm(wait_id(1), USER).unwrap();
    assert_eq!(world.engine.next_wake(), Some(at(125)));
}

#[test]
fn cursors_told_to_one_stream_never_go_back() {
    // World::tell holds every stream of every test to it; here with all that moves a cursor.
    let mut world = World::new();
    world.send_all(vec![in_progress("a"), in_progress("b"), completed("other")]);
    let wait = world.open(Ask { start: Start::After(world.cursor(0)), ..ask(&["a", "b", "c", "d"]) });
    world.send_all(vec![completed("a"), completed("other")]);
    world.pass(secs(30));
    world.send(completed("other"));
    world.skip(wait_id(1), USER, &[key("c")]).unwrap();
    world.send(completed("b"));
    world.cancel(wait_id(1), USER, "enough").unwrap();
    let told: Vec<_> = (1..=world.told(wait).len()).map(|n| remembered(&world.told(wait)[..n]).0.0).collect();
    assert_eq!(told, [3, 3, 3, 4, 5, 6, 7, 7]);
}

#[test]
fn an_open_wait_pins_the_log_from_the_cursor_of_its_last_heartbeat_on() {
    let mut world = World::new();
    assert_eq!(world.engine.pinned(), None);
    world.send(completed("x"));
    let first = world.open(ask(&["a"]));
    world.send(completed("x"));
    let second = world.open(Ask { id: wait_id(2), ..ask(&["a"]) });
    world.send(completed("x"));
    assert_eq!(world.engine.pinned(), Some(Position(1)));
    world.close(first);
    assert_eq!(world.engine.pinned(), Some(Position(2)));
    world.pass(secs(30));
    assert_eq!(world.engine.pinned(), Some(Position(3)));
    world.close(second);
    assert_eq!(world.engine.pinned(), None);
}
