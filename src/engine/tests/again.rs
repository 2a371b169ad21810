//! A client that asks again: while its wait is open, after its outcome, and after it was away.

use super::world::*;
use crate::engine::{
    Ask, Attempt, Disposition, Effect, FailurePolicy, KeyState::*, Kind, Limits, OpenError, Opened, Opening,
};
use crate::event::Position;

#[test]
fn opening_a_wait_whose_id_is_live_takes_it_over_whole_and_the_older_stream_is_told() {
    let mut world = World::new();
    let older = world.open(ask(&["a", "b"]));
    let newer = world.open(ask(&["b", "c"]));
    assert!(matches!(world.told(older).last(), Some(Effect::TakenOver { opening, .. }) if *opening == older));
    assert_eq!(world.engine.open_waits(), 1);
    assert_eq!(world.send(completed("a")), Disposition::Retained(Position(1)));
    assert_eq!(world.send(completed("b")), Disposition::Woke(1, Position(2)));
    world.send(completed("c"));
    assert_eq!((world.kind(older), world.kind(newer)), (None, Some(Kind::Completed)));
    world.engine.assert_empty();
}

#[test]
fn a_live_id_of_another_user_or_another_instance_is_taken() {
    let mut world = World::new();
    let wait = world.open(ask(&["a"]));
    let taken = Err(OpenError::IdTaken(wait_id(1)));
    assert_eq!(world.try_open(Ask { uid: OTHER_USER.uid, ..ask(&["a"]) }), taken);
    assert_eq!(world.try_open(Ask { instance: OTHER_VM, ..ask(&["a"]) }), taken);
    assert_eq!(world.try_open(Ask { uid: OTHER_USER.uid, ..world.again(wait) }), taken);
    world.send(completed("a"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
    assert!(world.try_open(Ask { uid: OTHER_USER.uid, ..ask(&["a"]) }).is_ok(), "it is not live any more");
}

#[test]
fn a_late_close_of_the_older_opening_does_not_end_the_newer() {
    let mut world = World::new();
    let older = world.open(ask(&["a"]));
    let newer = world.open(world.again(older));
    world.close(older);
    assert_eq!(world.engine.open_waits(), 1);
    world.send(completed("a"));
    assert_eq!(world.kind(newer), Some(Kind::Completed));
}

#[test]
fn a_take_over_in_full_house_needs_no_room() {
    let mut world = World::with(Limits { waits: 1, instance_waits: 1, ..LIMITS }, RETENTION);
    let older = world.open(ask(&["a"]));
    assert!(world.try_open(world.again(older)).is_ok());
}

#[test]
fn a_client_that_asks_again_from_any_message_has_missed_nothing() {
    let tell = |world: &mut World| {
        let wait = world.open(Ask { policy: FailurePolicy::Collect, ..ask(&["a", "b", "c", "d"]) });
        world.send_all(vec![completed("a"), completed("x")]);
        world.pass(secs(30));
        world.send_all(vec![failed("b"), held(secs(99), completed("c")), in_progress("c")]);
        wait
    };
    let mut world = World::new();
    let wait = tell(&mut world);
    let messages = world.told(wait).len();
    for read in 1..=messages {
        for away in [false, true] {
            let mut world = World::new();
            let older = tell(&mut world);
            let again = world.again_after(older, read);
            if away {
                world.close(older);
            }
            world.send(completed("c"));
            let newer = world.open(again);
            assert_eq!(world.states(newer), [Completed, Failed, Completed, Open]);
            assert_eq!(world.opened(newer), world.opened(older));
            world.send(completed("d"));
            assert_eq!(world.kind(newer), Some(Kind::Failed));
            let positions = world.outcome(newer).unwrap().answers.iter().map(|answer| answer.position.0);
            assert_eq!(positions.collect::<Vec<_>>(), [1, 3, 6, 7]);
        }
    }
}

#[test]
fn the_time_left_is_what_the_client_says() {
    let mut world = World::new();
    let older = world.open(ask(&["a"]));
    world.pass(secs(60));
    let newer = world.open(Ask { timeout: secs(40), ..world.again(older) });
    world.pass(secs(39));
    assert_eq!(world.kind(newer), None);
    world.pass(secs(1));
    assert_eq!(world.kind(newer), Some(Kind::TimedOut));
}

#[test]
fn asked_again_after_its_outcome_with_the_same_opened_a_wait_gets_that_outcome_again() {
    let mut world = World::new();
    let first = world.open(Ask { timeout: secs(10), ..ask(&["a", "b"]) });
    world.send(completed("b"));
    world.pass(secs(10));
    // What came since does not change it.
    world.send_all(vec![completed("a"), completed("x")]);
    for read in [1, 2, 2] {
        let counts = world.engine.counts();
        let again = world.open(world.again_after(first, read));
        assert_eq!(world.outcome(again), world.outcome(first));
        assert_eq!(world.kind(again), Some(Kind::TimedOut));
        assert_eq!(world.opened(again), world.opened(first));
        assert_eq!(world.engine.counts(), counts, "it is no other wait");
    }
    world.engine.assert_empty();
}

#[test]
fn an_outcome_given_again_names_no_cursor_past_its_own() {
    let mut world = World::new();
    let first = world.open(Ask { timeout: secs(10), ..ask(&["a"]) });
    world.pass(secs(10));
    world.send(completed("a"));
    let again = world.open(world.again(first));
    let Effect::Registered { at, answers, .. } = &world.told(again)[0] else { unreachable!() };
    assert_eq!((*at, answers[0].state), (Position(0), Open), "position 1 would have been completed");
}

#[test]
fn asked_again_with_another_opened_it_is_a_fresh_wait() {
    let mut world = World::new();
    let first = world.open(ask(&["a"]));
    world.send(completed("a"));
    let mut again = world.again_after(first, 1);
    again.start = crate::engine::Start::Head;
    if let Some(resume) = &mut again.resume {
        resume.opened = Opened { position: Position(1), ..resume.opened };
    }
    let second = world.open(again);
    assert_eq!(world.kind(second), None);
    let third = world.open(ask(&["a"]));
    assert_eq!(world.kind(third), None, "so is one that was never opened before");
    assert_eq!(world.engine.counts().opened, 3);
}

#[test]
fn an_outcome_is_given_again_only_to_the_same_user_for_the_same_instance_and_keys() {
    let mut world = World::new();
    let first = world.open(ask(&["a", "b"]));
    world.cancel(wait_id(1), USER, "no more").unwrap();
    let other_keys = |texts: &[&str]| Ask { keys: ask(texts).keys, ..world.again(first) };
    let others = [
        Ask { uid: OTHER_USER.uid, ..world.again(first) },
        Ask { instance: OTHER_VM, ..world.again(first) },
        other_keys(&["b", "a"]),
        other_keys(&["a", "c"]),
    ];
    for other in others {
        let wait = world.open(other);
        assert_eq!(world.kind(wait), None);
        world.close(wait);
    }
    let same = world.open(world.again(first));
    assert_eq!(world.kind(same), Some(Kind::Cancelled));
}

#[test]
fn an_outcome_is_given_again_also_when_the_log_no_longer_reaches_back_or_no_more_waits_may_open() {
    let limits = Limits { waits: 1, ..LIMITS };
    let mut world = World::with(limits, crate::journal::retention::Retention { age: secs(60), ..RETENTION });
    let first = world.open(ask(&["a"]));
    world.send(completed("a"));
    world.pass(secs(100));
    world.retain();
    world.open(Ask { id: wait_id(2), ..ask(&["a"]) });
    let again = world.open(world.again_after(first, 1));
    assert_eq!(world.kind(again), Some(Kind::Completed));
}

#[test]
fn an_outcome_that_is_forgotten_is_found_again_in_the_log() {
    let mut world = World::with(Limits { ended_age: secs(5), ..LIMITS }, RETENTION);
    let first = world.open(ask(&["a"]));
    world.send(failed("a"));
    world.pass(secs(6));
    world.tick();
    assert!(world.engine.history(VM).is_empty());
    // With the failed key in what it remembers, and without.
    for read in [1, 2] {
        let again = world.open(world.again_after(first, read));
        assert_eq!((world.kind(again), world.states(again)), (Some(Kind::Failed), vec![Failed]));
    }
}

#[test]
fn history_has_the_ended_waits_of_an_instance_in_the_order_of_their_end_then_the_open_ones() {
    let mut world = World::new();
    let [first, second, third] =
        [("a", 1), ("b", 2), ("a", 3)].map(|(key, id)| world.open(Ask { id: wait_id(id), ..ask(&[key]) }));
    world.open(Ask { id: wait_id(4), instance: OTHER_VM, ..ask(&["a"]) });
    world.send(completed("b"));
    world.cancel(wait_id(1), USER, "no more").unwrap();
    let openings =
        |world: &World| world.engine.history(VM).iter().map(|wait| wait.opening).collect::<Vec<Opening>>();
    assert_eq!(openings(&world), [second, first, third]);
}

#[test]
fn an_id_that_ended_twice_keeps_its_newer_outcome_when_the_older_is_forgotten() {
    let mut world = World::with(Limits { ended_waits: 2, ..LIMITS }, RETENTION);
    for id in [1, 1, 2] {
        world.open(Ask { id: wait_id(id), ..ask(&["a"]) });
        world.pass(secs(1));
        world.cancel(wait_id(id), USER, "no more").unwrap();
    }
    let again = world.open(world.again(Opening(2)));
    assert_eq!(world.kind(again), Some(Kind::Cancelled));
    let forgotten = world.open(world.again(Opening(1)));
    assert_eq!(world.kind(forgotten), None);
}

#[test]
fn an_ask_that_comes_after_a_newer_one_of_its_client_takes_nothing_over() {
    let mut world = World::new();
    let attempt = |client, number| Some(Attempt { client, number });
    let newer = world.open(Ask { attempt: attempt(7, 2), ..ask(&["vif"]) });
    let older = world.try_open(Ask { attempt: attempt(7, 1), ..ask(&["vif"]) });
    assert_eq!(older, Err(OpenError::Overtaken(wait_id(1))));
    assert_eq!(world.told(newer).len(), 1, "it knows nothing of it");
    // A client that is another one, or does not count, takes it over.
    let others = world.open(Ask { attempt: attempt(8, 1), ..ask(&["vif"]) });
    assert!(matches!(world.told(newer).last(), Some(Effect::TakenOver { .. })));
    let uncounted = world.open(ask(&["vif"]));
    assert!(matches!(world.told(others).last(), Some(Effect::TakenOver { .. })));
    world.send(completed("vif"));
    assert!(matches!(world.told(uncounted).last(), Some(Effect::Outcome { .. })));
}
