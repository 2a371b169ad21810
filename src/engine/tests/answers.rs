//! What an event does to the keys that are waited for, and what its sender is told.

use super::world::*;
use crate::engine::{Ask, Disposition, Effect, FailurePolicy, KeyState::*, Kind};
use crate::event::{Event, Position};

fn collect(keys: &[&str]) -> Ask {
    Ask { policy: FailurePolicy::Collect, ..ask(keys) }
}

#[test]
fn a_completed_event_meets_its_key_and_when_all_are_met_the_outcome_is_completed() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b"]));
    assert_eq!(world.send(completed("b")), Disposition::Woke(1, Position(1)));
    assert_eq!((world.states(wait), world.kind(wait)), (vec![Open, Completed], None));
    assert_eq!(world.send(completed("a")), Disposition::Woke(1, Position(2)));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
    let outcome = world.outcome(wait).unwrap();
    assert_eq!(outcome.at, Position(2));
    assert_eq!(outcome.answers.iter().map(|answer| answer.position.0).collect::<Vec<_>>(), [2, 1]);
    world.engine.assert_empty();
}

#[test]
fn progress_says_which_event_came_on_which_key_and_what_has_changed() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b"]));
    world.pass(secs(3));
    let sent = with_id(1, Event { occurred_at: Some(at(1)), ..held(secs(2), completed("b")) });
    world.send(sent);
    let Some(Effect::Progress { at: told_at, event: Some((1, event)), change: Some((1, change)), .. }) =
        world.told(wait).last()
    else {
        panic!("{:?}", world.told(wait))
    };
    assert_eq!((*told_at, event.position, change.position), (Position(1), Position(1), Position(1)));
    assert_eq!((event.id, event.status, event.received_at), (sent.id, sent.status, at(3)));
    assert_eq!((event.occurred_at, event.held_for), (Some(at(1)), Some(secs(2))));
    assert_eq!((change.state, change.received_at), (Completed, at(3)));
}

#[test]
fn keys_are_compared_exactly_on_one_instance_and_an_absent_tag_is_the_empty_one() {
    let mut world = World::new();
    let wait = world.open(ask(&["vif:1"]));
    for other in ["vif", "vif:2", "vif:11", "Vif:1", "vif1"] {
        assert!(matches!(world.send(completed(other)), Disposition::Retained(_)), "{other}");
    }
    let elsewhere = Event::new(OTHER_VM, key_ref("vif:1"));
    assert!(matches!(world.send(elsewhere), Disposition::Retained(_)));
    assert_eq!(world.told(wait).len(), 1);
    assert!(matches!(world.send(completed("vif:1")), Disposition::Woke(1, _)));

    let untagged = world.open(ask(&["vif:"]));
    world.send(completed("vif"));
    assert_eq!(world.kind(untagged), Some(Kind::Completed));
}

#[test]
fn a_failed_event_ends_a_fail_fast_wait_now_whichever_key_it_is_and_whatever_order_keys_were_given_in() {
    for keys in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]] {
        for fails in keys {
            let mut world = World::new();
            let wait = world.open(ask(&keys));
            assert_eq!(world.send(failed(fails)), Disposition::Woke(1, Position(1)));
            assert_eq!(world.kind(wait), Some(Kind::Failed), "{fails} of {keys:?}");
            let expected: Vec<_> = keys.iter().map(|key| if *key == fails { Failed } else { Open }).collect();
            assert_eq!(world.states(wait), expected);
            world.engine.assert_empty();
        }
    }
}

#[test]
fn a_failed_event_ends_a_fail_fast_wait_also_when_other_keys_were_met() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b", "c"]));
    world.send_all(vec![completed("c"), failed("a"), completed("b")]);
    assert_eq!(world.kind(wait), Some(Kind::Failed));
    assert_eq!(world.states(wait), [Failed, Open, Completed]);
    assert_eq!(world.outcome(wait).unwrap().at, Position(2));
}

#[test]
fn with_collect_a_failed_key_is_marked_and_the_wait_ends_failed_when_every_key_has_been_answered() {
    let mut world = World::new();
    let wait = world.open(collect(&["a", "b", "c"]));
    assert_eq!(world.send(failed("a")), Disposition::Woke(1, Position(1)));
    world.send(completed("b"));
    assert_eq!((world.states(wait), world.kind(wait)), (vec![Failed, Completed, Open], None));
    world.send(completed("c"));
    assert_eq!(world.kind(wait), Some(Kind::Failed));
}

#[test]
fn with_collect_and_no_failed_key_the_outcome_is_completed() {
    let mut world = World::new();
    let wait = world.open(collect(&["a", "b"]));
    world.send_all(vec![completed("a"), completed("b")]);
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn an_event_in_progress_is_progress_only_and_the_key_stays_open() {
    let mut world = World::new();
    let wait = world.open(ask(&["a"]));
    assert_eq!(world.send(in_progress("a")), Disposition::Retained(Position(1)));
    assert_eq!((world.states(wait), world.marks(wait)), (vec![Open], vec![(false, false)]));
    world.send(completed("a"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn with_in_progress_fails_set_an_event_in_progress_counts_as_failed() {
    let mut world = World::new();
    let fast = world.open(Ask { in_progress_fails: true, ..ask(&["a", "b"]) });
    let patient = Ask { id: wait_id(2), in_progress_fails: true, ..collect(&["a", "b"]) };
    let patient = world.open(patient);
    assert_eq!(world.send(in_progress("b")), Disposition::Woke(2, Position(1)));
    assert_eq!((world.kind(fast), world.states(fast)), (Some(Kind::Failed), vec![Open, Failed]));
    assert_eq!((world.kind(patient), world.states(patient)), (None, vec![Open, Failed]));
}

#[test]
fn a_second_event_on_an_answered_key_is_superseded_and_the_outcome_does_not_change() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b"]));
    world.send(completed("a"));
    for second in [failed("a"), completed("a"), in_progress("a")] {
        assert!(matches!(world.send(second), Disposition::Retained(_)));
    }
    assert_eq!(world.marks(wait), [(false, false), (true, false), (true, false), (true, false)]);
    world.send(completed("b"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
    assert_eq!(world.outcome(wait).unwrap().answers[0].position, Position(1));

    let patient = world.open(collect(&["a", "b"]));
    world.send_all(vec![failed("a"), completed("a"), completed("b")]);
    assert_eq!((world.kind(patient), world.states(patient)), (Some(Kind::Failed), vec![Failed, Completed]));
}

#[test]
fn a_second_event_may_be_both_superseded_and_stale() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b"]));
    world.send_all(vec![completed("a"), held(secs(5), failed("a"))]);
    assert_eq!(world.marks(wait), [(false, false), (true, true)]);
}

#[test]
fn two_waits_on_the_same_key_are_both_woken() {
    let mut world = World::new();
    let first = world.open(ask(&["a"]));
    let second = world.open(Ask { id: wait_id(2), uid: OTHER_USER.uid, ..ask(&["b", "a"]) });
    assert_eq!(world.send(completed("a")), Disposition::Woke(2, Position(1)));
    assert_eq!((world.kind(first), world.kind(second)), (Some(Kind::Completed), None));
    assert_eq!(world.states(second), [Open, Completed]);
    // Only the one that is still open, and it not: its key has been answered.
    assert_eq!(world.send(completed("a")), Disposition::Retained(Position(2)));
}

#[test]
fn an_event_nobody_waits_for_is_retained_and_so_are_those_that_answer_no_key() {
    let mut world = World::new();
    assert_eq!(world.send(completed("a")), Disposition::Retained(Position(1)));
    world.open(ask(&["a", "b"]));
    assert_eq!(world.send(in_progress("a")), Disposition::Retained(Position(2)));
    assert_eq!(world.send(held(secs(1), completed("a"))), Disposition::Retained(Position(3)));
    assert_eq!(world.send(completed("a")), Disposition::Woke(1, Position(4)));
    assert_eq!(world.send(completed("a")), Disposition::Retained(Position(5)));
    let found = world.open(Ask {
        id: wait_id(2),
        start: crate::engine::Start::After(world.cursor(0)),
        ..ask(&["a"])
    });
    assert_eq!(world.kind(found), Some(Kind::Completed), "a later wait may ask for what was retained");
}

#[test]
fn a_duplicate_gets_the_first_ones_position_and_wakes_nobody_twice() {
    let mut world = World::new();
    let wait = world.open(ask(&["a", "b"]));
    assert_eq!(world.send(with_id(7, completed("a"))), Disposition::Woke(1, Position(1)));
    let told = world.told(wait).len();
    let later = Event { occurred_at: Some(at(9)), ..held(secs(9), completed("a")) };
    let again = vec![with_id(7, completed("a")), with_id(7, later)];
    assert_eq!(world.send_all(again), [Disposition::Duplicate(Position(1)); 2]);
    assert_eq!(world.told(wait).len(), told);
    // Nor one that was opened since: it has its own question.
    let since = world.open(Ask { id: wait_id(2), ..ask(&["a"]) });
    assert_eq!(world.send(with_id(7, completed("a"))), Disposition::Duplicate(Position(1)));
    assert_eq!(world.kind(since), None);
    assert_eq!(world.send(completed("b")), Disposition::Woke(1, Position(2)), "duplicates take no position");
}

#[test]
fn an_event_id_is_a_duplicate_also_within_one_batch() {
    let mut world = World::new();
    let batch = vec![with_id(7, completed("a")), completed("b"), with_id(7, completed("a"))];
    let expected = [
        Disposition::Retained(Position(1)),
        Disposition::Retained(Position(2)),
        Disposition::Duplicate(Position(1)),
    ];
    assert_eq!(world.send_all(batch), expected);
}

#[test]
fn an_event_id_with_other_content_is_reused_and_wakes_nobody() {
    let mut world = World::new();
    world.send(with_id(7, completed("b")));
    let wait = world.open(ask(&["a", "b"]));
    let data = Event { data: b"x", ..completed("b") };
    let elsewhere = Event::new(OTHER_VM, key_ref("b"));
    for other in [completed("a"), failed("b"), data, elsewhere] {
        assert_eq!(world.send(with_id(7, other)), Disposition::IdReused);
    }
    assert_eq!(world.told(wait).len(), 1);
}

#[test]
fn events_without_an_id_of_their_sender_are_never_duplicates() {
    let mut world = World::new();
    world.send(with_id(7, completed("a")));
    let drawn_by_the_agent = Event { id: event_id(7), ..failed("a") };
    assert_eq!(world.send(drawn_by_the_agent), Disposition::Retained(Position(2)));
    let twice = vec![completed("a"), completed("a")];
    assert_eq!(world.send_all(twice), [3, 4].map(|n| Disposition::Retained(Position(n))));
}
