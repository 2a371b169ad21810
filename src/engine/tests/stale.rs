//! Events that were sent before the wait was first opened.

use super::world::*;
use crate::engine::{Ask, Disposition, KeyState::*, Kind, Limits, Opened, Resume, Start};
use crate::event::Position;
use crate::journal::retention::Retention;

#[test]
fn an_event_sent_before_the_wait_first_opened_is_stale_and_the_key_stays_open() {
    let mut world = World::new();
    world.pass(secs(10));
    let wait = world.open(ask(&["a"]));
    world.pass(secs(5));
    assert_eq!(world.send(held(secs(6), completed("a"))), Disposition::Retained(Position(1)));
    assert_eq!(world.send(held(secs(6), failed("a"))), Disposition::Retained(Position(2)));
    assert_eq!((world.marks(wait), world.states(wait)), (vec![(false, true); 2], vec![Open]));
    assert_eq!(world.send(held(secs(4), completed("a"))), Disposition::Woke(1, Position(3)));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn an_event_sent_at_the_moment_of_opening_counts() {
    let mut world = World::new();
    let wait = world.open(ask(&["a"]));
    world.pass(secs(5));
    world.send(held(secs(5), completed("a")));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn lookback_moves_the_moment_from_which_events_count_back_by_its_span() {
    let mut world = World::new();
    world.pass(secs(100));
    let wait = world.open(Ask { start: Start::Lookback(secs(30)), ..ask(&["a", "b"]) });
    assert_eq!(world.opened(wait).counts_from, Some(at(70)));
    world.send_all(vec![held(secs(31), completed("a")), held(secs(30), completed("b"))]);
    assert_eq!(
        (world.marks(wait), world.states(wait)),
        (vec![(false, true), (false, false)], vec![Open, Completed])
    );
}

#[test]
fn after_moves_the_moment_to_when_that_position_was_received() {
    let mut world = World::new();
    world.pass(secs(10));
    world.send(completed("other"));
    world.pass(secs(10));
    // In the log when the wait opens: sent before position 1 was received, and after.
    world.send_all(vec![held(secs(11), completed("a")), held(secs(10), completed("b"))]);
    let wait = world.open(Ask { start: Start::After(world.cursor(1)), ..ask(&["a", "b"]) });
    assert_eq!(world.opened(wait), Opened { position: Position(3), counts_from: Some(at(10)) });
    assert_eq!(
        (world.marks(wait), world.states(wait)),
        (vec![(false, true), (false, false)], vec![Open, Completed])
    );
    // And live.
    world.send_all(vec![held(secs(11), completed("a")), held(secs(10), completed("a"))]);
    assert_eq!(world.kind(wait), Some(Kind::Completed));
    assert_eq!(world.outcome(wait).unwrap().answers[0].position, Position(5));
}

#[test]
fn after_position_0_means_that_nothing_is_stale() {
    let mut world = World::new();
    world.send(held(secs(500), completed("a")));
    let wait = world.open(Ask { start: Start::After(world.cursor(0)), ..ask(&["a", "b"]) });
    assert_eq!(world.opened(wait).counts_from, None);
    world.send(held(secs(500), completed("b")));
    assert_eq!(world.marks(wait), [(false, false); 2]);
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn the_log_keeps_when_the_position_before_its_oldest_was_received() {
    let mut world = World::with(LIMITS, Retention { age: secs(60), ..RETENTION });
    world.pass(secs(10));
    world.send_all(vec![completed("x"), completed("y")]);
    world.pass(secs(30));
    world.send(held(secs(31), completed("a")));
    world.pass(secs(31));
    assert_eq!(world.retain(), Position(3));
    let wait = world.open(Ask { start: Start::After(world.cursor(2)), ..ask(&["a"]) });
    assert_eq!(world.opened(wait).counts_from, Some(at(10)));
    assert_eq!((world.marks(wait), world.kind(wait)), (vec![(false, true)], None));
    world.close(wait);

    world.pass(secs(100));
    assert_eq!(world.retain(), Position(4), "the log is empty");
    let wait = world.open(Ask { start: Start::After(world.cursor(3)), ..ask(&["a"]) });
    assert_eq!(world.opened(wait).counts_from, Some(at(40)));
}

#[test]
fn an_event_past_opened_that_came_straight_is_never_stale_also_if_the_clock_went_back() {
    let mut world = World::new();
    world.pass(secs(10));
    let wait = world.open(ask(&["a"]));
    world.now = at(4);
    assert_eq!(world.send(completed("a")), Disposition::Woke(1, Position(1)));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn an_event_received_while_the_wait_opened_and_handed_over_after_counts() {
    let mut world = World::new();
    world.accept(vec![completed("a")]);
    world.pass(secs(1));
    let wait = world.open(ask(&["a"]));
    world.hand_over();
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn asked_again_what_is_stale_is_judged_by_when_the_wait_was_first_opened() {
    let mut world = World::new();
    world.pass(secs(10));
    let first = world.open(ask(&["a", "b"]));
    world.pass(secs(20));
    let again = world.again(first);
    world.close(first);
    // Sent after the first opening, before the second.
    world.send(held(secs(15), completed("a")));
    let second = world.open(again);
    assert_eq!(world.opened(second), world.opened(first));
    world.send(held(secs(15), completed("b")));
    assert_eq!(world.marks(second), [(false, false); 2]);
    assert_eq!(world.kind(second), Some(Kind::Completed));
}

#[test]
fn asked_again_of_a_new_process_what_came_straight_but_before_opened_is_stale() {
    let mut world = World::with(Limits { ended_waits: 0, ..LIMITS }, RETENTION);
    world.pass(secs(10));
    world.send(completed("a"));
    let opened = Opened { position: Position(1), counts_from: Some(at(20)) };
    let answers = vec![Default::default()].into();
    let resume = Some(Resume { opened, answers });
    let wait = world.open(Ask { resume, start: Start::After(world.cursor(0)), ..ask(&["a"]) });
    assert_eq!((world.marks(wait), world.kind(wait)), (vec![(false, true)], None));
}
