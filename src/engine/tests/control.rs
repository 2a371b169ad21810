//! Skip, Cancel, CancelInstance, close and stop.

use super::world::*;
use crate::engine::{Ask, Effect, FailurePolicy, KeyState::*, Kind, Limits, Start, WaitError, Why};
use crate::event::{Caller, Event, Position};

const FIRST: u128 = 1;

fn why(world: &World, wait: crate::engine::Opening) -> Option<Why> {
    world.outcome(wait).map(|outcome| outcome.why.clone())
}

#[test]
fn skipped_keys_no_longer_count_and_events_on_them_are_not_told() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b"]));
    assert_eq!(world.skip(wait_id(FIRST), USER, &[key("a")]), Ok(1));
    assert_eq!((world.states(wait), world.kind(wait)), (vec![Skipped, Open], None));
    let told = world.told(wait).len();
    world.send_all(vec![failed("a"), completed("a")]);
    assert_eq!(world.told(wait).len(), told);
    world.send(completed("b"));
    assert_eq!((world.kind(wait), world.states(wait)), (Some(Kind::Completed), vec![Skipped, Completed]));
}

#[test]
fn skip_on_a_key_already_answered_or_unknown_has_no_effect() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b", "c"]));
    world.send(completed("a"));
    assert_eq!(world.skip(wait_id(FIRST), USER, &[key("c")]), Ok(1));
    let told = world.told(wait).len();
    for no_effect in ["a", "c", "unknown", "b:1"] {
        assert_eq!(world.skip(wait_id(FIRST), USER, &[key(no_effect)]), Ok(0), "{no_effect}");
    }
    assert_eq!(world.told(wait).len(), told);
    assert_eq!(world.states(wait), [Completed, Open, Skipped]);
    assert_eq!(world.skip(wait_id(FIRST), USER, &[]), Ok(0));
    assert_eq!(world.kind(wait), None);
}

#[test]
fn if_skip_leaves_no_key_open_the_wait_ends_by_what_it_has() {
    let mut world = World::new();
    let collect = |id| Ask { id: wait_id(id), policy: FailurePolicy::Collect, ..ask(&["a", "b"]) };
    let [has_failed, has_completed] = [1, 2].map(|id| world.open(collect(id)));
    world.skip(wait_id(2), USER, &[key("a")]).unwrap();
    world.send_all(vec![failed("a"), completed("other")]);
    world.skip(wait_id(1), USER, &[key("b")]).unwrap();
    assert_eq!(
        (world.kind(has_failed), world.states(has_failed)),
        (Some(Kind::Failed), vec![Failed, Skipped])
    );
    assert_eq!(world.outcome(has_failed).unwrap().at, Position(2));
    world.send(completed("b"));
    assert_eq!(world.kind(has_completed), Some(Kind::Completed));
}

#[test]
fn if_all_keys_are_skipped_the_outcome_is_completed() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b"]));
    assert_eq!(world.skip(wait_id(FIRST), USER, &[key("b"), key("a"), key("b")]), Ok(2));
    assert_eq!((world.kind(wait), world.states(wait)), (Some(Kind::Completed), vec![Skipped, Skipped]));
    world.engine.assert_empty();
}

fn arm_skip_cancel(world: &mut World, id: u128, caller: Caller) -> [Option<WaitError>; 3] {
    let id = wait_id(id);
    [
        world.arm(id, caller).err(),
        world.skip(id, caller, &[key("a")]).err(),
        world.cancel(id, caller, "no more").err(),
    ]
}

#[test]
fn arm_skip_and_cancel_on_no_open_wait_are_not_found() {
    let mut world = World::new();
    let not_found = [1; 3].map(|id| Some(WaitError::NotFound(wait_id(id))));
    assert_eq!(arm_skip_cancel(&mut world, 1, USER), not_found, "never opened");
    world.open(ask(&["a"]));
    world.send(completed("a"));
    assert_eq!(arm_skip_cancel(&mut world, 1, USER), not_found, "has ended");
    let wait = world.open(ask(&["a"]));
    world.close(wait);
    assert_eq!(arm_skip_cancel(&mut world, 1, OPERATOR), not_found, "its stream has closed");
}

#[test]
fn arm_skip_and_cancel_on_another_users_wait_are_not_permitted_unless_to_an_operator() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b"]));
    let not_permitted = [1; 3].map(|id| Some(WaitError::NotPermitted(wait_id(id))));
    assert_eq!(arm_skip_cancel(&mut world, 1, OTHER_USER), not_permitted);
    assert_eq!(world.told(wait).len(), 1);
    assert_eq!(arm_skip_cancel(&mut world, 1, OPERATOR), [None, None, None]);
    assert_eq!(world.kind(wait), Some(Kind::Cancelled));
}

#[test]
fn cancel_ends_the_wait_cancelled_with_the_reason_given() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b"]));
    let other = world.open(Ask { id: wait_id(2), ..ask(&["a", "b"]) });
    world.send(completed("a"));
    world.cancel(wait_id(FIRST), USER, "the port is gone").unwrap();
    assert_eq!(world.kind(wait), Some(Kind::Cancelled));
    assert_eq!(why(&world, wait), Some(Why::Cancelled("the port is gone".to_owned())));
    assert_eq!(world.states(wait), [Completed, Open]);
    assert_eq!(world.kind(other), None);
}

#[test]
fn cancel_instance_ends_every_wait_of_that_instance_and_that_caller() {
    let mut world = World::new();
    let mut open = |id, ask: Ask| world.open(Ask { id: wait_id(id), ..ask });
    let first = open(1, ask(&["a", "b"]));
    let second = open(2, ask(&["c"]));
    let other_users = open(3, Ask { uid: OTHER_USER.uid, ..ask(&["a"]) });
    let other_vms = open(4, Ask { instance: OTHER_VM, ..ask(&["a"]) });
    world.send_all(vec![completed("a"), completed("x")]);
    let ended = world.cancel_instance(VM, USER);
    assert_eq!(ended, [(wait_id(1), vec![key("b")]), (wait_id(2), vec![key("c")])]);
    for wait in [first, second] {
        assert_eq!(world.kind(wait), Some(Kind::Cancelled));
        assert_eq!(why(&world, wait), Some(Why::InstanceCancelled("deleted".to_owned())));
        assert_eq!(world.outcome(wait).unwrap().at, Position(3), "it is a record in the log");
    }
    assert_eq!((world.kind(other_users), world.kind(other_vms)), (Some(Kind::Completed), None));
}

#[test]
fn an_operators_cancel_instance_ends_every_users_waits() {
    let mut world = World::new();
    let users = world.open(ask(&["a"]));
    let others = world.open(Ask { id: wait_id(2), uid: OTHER_USER.uid, ..ask(&["a"]) });
    assert_eq!(world.cancel_instance(VM, OTHER_USER).len(), 1);
    assert_eq!((world.kind(users), world.kind(others)), (None, Some(Kind::Cancelled)));
    assert_eq!(world.cancel_instance(VM, OPERATOR).len(), 1);
    assert_eq!(world.kind(users), Some(Kind::Cancelled));
    world.engine.assert_empty();
}

#[test]
fn cancel_instance_ends_also_a_wait_whose_client_is_just_then_away_when_it_asks_again() {
    for (caller, ends) in [(USER, true), (OPERATOR, true), (OTHER_USER, false)] {
        let mut world = World::new();
        let first = world.open(ask(&["a", "b"]));
        let again = world.again(first);
        world.close(first);
        world.send(completed("a"));
        assert_eq!(world.cancel_instance(VM, caller), []);
        world.send(completed("b"));
        let second = world.open(again);
        if ends {
            assert_eq!(why(&world, second), Some(Why::InstanceCancelled("deleted".to_owned())));
            assert_eq!(world.states(second), [Completed, Open], "what came after it does not count");
        } else {
            assert_eq!(world.kind(second), Some(Kind::Completed));
        }
        world.engine.assert_empty();
    }
}

#[test]
fn an_event_before_a_cancel_instance_that_answers_a_wait_whose_client_is_away_wins() {
    let mut world = World::new();
    let first = world.open(ask(&["a"]));
    let again = world.again(first);
    world.close(first);
    world.send(completed("a"));
    world.cancel_instance(VM, USER);
    let second = world.open(again);
    assert_eq!(world.kind(second), Some(Kind::Completed));
}

#[test]
fn a_new_wait_with_after_older_than_a_cancel_instance_is_not_ended_by_it() {
    let mut world = World::new();
    world.send(completed("a"));
    world.cancel_instance(VM, OPERATOR);
    for start in [Start::After(world.cursor(0)), Start::Lookback(secs(9)), Start::Head] {
        let wait = world.open(Ask { start, ..ask(&["a", "b"]) });
        assert_eq!(world.kind(wait), None);
        let again = world.open(world.again(wait));
        assert_eq!(world.kind(again), None, "nor when it asks again");
    }
}

#[test]
fn cancel_instance_takes_a_position_and_is_no_event() {
    let mut world = World::new();
    assert_eq!(world.cancel_instance(VM, USER), []);
    world.send(completed("a"));
    let wait = world.open(Ask { start: Start::After(world.cursor(0)), ..ask(&["a", "b"]) });
    assert_eq!(remembered(world.told(wait)).1[0].position, Position(2));
    assert_eq!(world.told(wait).len(), 2);
}

#[test]
fn closing_a_stream_ends_its_wait_and_leaves_every_table_empty() {
    let mut world = World::new();
    let mut waits = Vec::new();
    for id in 0..20 {
        let instance = if id % 2 == 0 { VM } else { OTHER_VM };
        waits.push(world.open(Ask { id: wait_id(id), instance, ..ask(&["a", "b", "c"]) }));
    }
    world.send(completed("a"));
    world.skip(wait_id(4), USER, &[key("b")]).unwrap();
    world.arm(wait_id(5), USER).unwrap();
    world.pass(secs(30));
    for wait in waits {
        world.close(wait);
        world.engine.assert_whole();
    }
    world.engine.assert_empty();
    assert_eq!(world.engine.counts().closed, 20);
    assert_eq!(world.send(completed("b")), crate::engine::Disposition::Retained(Position(2)));
}

#[test]
fn a_close_after_the_outcome_changes_nothing() {
    let mut world = World::new();
    let wait = world.open(ask(&["a"]));
    world.send(completed("a"));
    world.close(wait);
    world.close(wait);
    let counts = world.engine.counts();
    assert_eq!((counts.opened, counts.completed, counts.closed), (1, 1, 0));
}

#[test]
fn stop_ends_every_wait_cancelled_because_the_log_is_gone() {
    let mut world = World::with(Limits { ended_waits: 0, ..LIMITS }, RETENTION);
    let waits = [1, 2, 3].map(|id| world.open(Ask { id: wait_id(id), ..ask(&["a", "b"]) }));
    world.send_all(vec![completed("a"), Event::new(OTHER_VM, key_ref("x"))]);
    world.stop();
    for wait in waits {
        let outcome = world.outcome(wait).unwrap();
        assert_eq!((outcome.kind, &outcome.why, outcome.at), (Kind::Cancelled, &Why::LogGone, Position(2)));
        assert!(matches!(world.told(wait).last(), Some(Effect::Outcome { .. })));
    }
    assert_eq!(world.engine.counts().cancelled, 3);
    world.engine.assert_empty();
}
