//! Where a wait looks from.

use super::world::*;
use crate::engine::{Ask, Effect, FailurePolicy, KeyState::*, Kind, OpenError, Opening, Start, UNREAD};
use crate::event::{Cursor, KeyHash, LogId, Position};
use crate::journal::retention::Retention;

fn after(world: &World, position: u64, keys: &[&str]) -> Ask {
    Ask { start: Start::After(world.cursor(position)), ..ask(keys) }
}

fn lookback(seconds: u64, keys: &[&str]) -> Ask {
    Ask { start: Start::Lookback(secs(seconds)), ..ask(keys) }
}

/// A world whose log has an event every 10 s, on the keys e1, e2, …, and has dropped the first two of five.
fn dropped_two() -> World {
    let mut world = World::with(LIMITS, Retention { age: secs(30), ..RETENTION });
    for event in ["e1", "e2", "e3", "e4", "e5"] {
        world.pass(secs(10));
        world.send(completed(event));
    }
    world.pass(secs(1));
    assert_eq!(world.retain(), Position(3));
    world
}

fn expired(world: &mut World, ask: Ask) -> u64 {
    match world.try_open(ask) {
        Err(OpenError::Expired { oldest, .. }) => {
            assert_eq!(oldest.log_id, world.journal.log().id());
            oldest.position.0
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wait_sees_nothing_that_came_before_it_unless_it_asks_to() {
    let mut world = World::new();
    world.send(completed("a"));
    let wait = world.open(ask(&["a"]));
    assert_eq!((world.told(wait).len(), world.states(wait)), (1, vec![Open]));
}

#[test]
fn after_given_what_is_past_that_cursor_counts_at_once_in_order_as_if_it_had_just_come() {
    let mut world = World::new();
    world.send_all(vec![
        failed("a"),
        completed("b"),
        completed("x"),
        completed("a"),
        failed("b"),
        completed("c"),
    ]);
    let wait = world.open(after(&world, 1, &["a", "b", "c", "d"]));
    assert_eq!(world.states(wait), [Completed, Completed, Completed, Open]);
    let shown = world.told(wait)[1..].iter().map(|effect| match effect {
        Effect::Progress { event: Some((key, event)), mark, .. } => (event.position.0, *key, mark.superseded),
        other => panic!("{other:?}"),
    });
    assert_eq!(shown.collect::<Vec<_>>(), [(2, 1, false), (4, 0, false), (5, 1, true), (6, 2, false)]);
    world.send(completed("d"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn registered_comes_first_also_if_the_look_ends_the_wait_and_has_what_it_found() {
    let mut world = World::new();
    world.send_all(vec![completed("a"), failed("b"), completed("x")]);
    let wait = world.open(after(&world, 0, &["a", "b", "c"]));
    let told = world.told(wait);
    assert!(matches!(
        (&told[0], told.last()),
        (Effect::Registered { at: Position(3), .. }, Some(Effect::Outcome { .. }))
    ));
    let Effect::Registered { answers, .. } = &told[0] else { unreachable!() };
    assert_eq!(answers.iter().map(|answer| answer.state).collect::<Vec<_>>(), [Completed, Failed, Open]);
    assert_eq!(world.kind(wait), Some(Kind::Failed));
    world.engine.assert_empty();
}

#[test]
fn after_the_head_is_as_from_the_head() {
    let mut world = World::new();
    world.send(completed("a"));
    let wait = world.open(after(&world, 1, &["a"]));
    assert_eq!(world.kind(wait), None);
    world.send(completed("a"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn lookback_counts_from_the_first_event_received_within_its_span() {
    let mut world = World::new();
    for event in ["a", "b", "c"] {
        world.pass(secs(10));
        world.send(completed(event));
    }
    let mut states = |seconds| {
        let wait = world.open(lookback(seconds, &["a", "b", "c", "d"]));
        world.states(wait)
    };
    assert_eq!(states(0), [Open, Open, Completed, Open], "received at this very moment");
    assert_eq!(states(9), [Open, Open, Completed, Open]);
    assert_eq!(states(10), [Open, Completed, Completed, Open], "exactly its span ago");
    assert_eq!(states(20), [Completed, Completed, Completed, Open]);
    assert_eq!(states(1_000_000), [Completed, Completed, Completed, Open], "longer than time itself");
}

#[test]
fn a_lookback_past_the_newest_event_finds_none() {
    let mut world = World::new();
    world.send(completed("a"));
    world.pass(secs(10));
    let wait = world.open(lookback(9, &["a"]));
    assert_eq!(world.states(wait), [Open]);
}

#[test]
fn after_older_than_the_log_reaches_is_cursor_expired_with_the_oldest_cursor_there_is() {
    let mut world = dropped_two();
    for position in [0, 1] {
        let ask = after(&world, position, &["e3"]);
        assert_eq!(expired(&mut world, ask), 2);
    }
    let wait = world.open(after(&world, 2, &["e3"]));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn lookback_older_than_the_log_reaches_is_cursor_expired_with_the_oldest_cursor_there_is() {
    let mut world = dropped_two();
    // It is second 51, e2 came at 20 and e3 at 30.
    for seconds in [31, 40, 1_000_000] {
        assert_eq!(expired(&mut world, lookback(seconds, &["e3"])), 2);
    }
    let wait = world.open(lookback(30, &["e3"]));
    assert_eq!(world.kind(wait), Some(Kind::Completed), "nothing came between e2 and e3");
}

#[test]
fn a_log_that_has_dropped_nothing_reaches_back_without_end() {
    let mut world = World::new();
    let wait = world.open(lookback(u64::from(u32::MAX), &["a"]));
    assert_eq!(world.kind(wait), None);
    let wait = world.open(after(&world, 0, &["a"]));
    assert_eq!(world.kind(wait), None);
    world.send(completed("a"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn a_log_that_has_dropped_all_it_had_still_knows_from_where_on_nothing_is_missing() {
    let mut world = dropped_two();
    world.pass(secs(1_000));
    assert_eq!(world.retain(), Position(6));
    let ask = after(&world, 4, &["a"]);
    assert_eq!(expired(&mut world, ask), 5);
    assert_eq!(expired(&mut world, lookback(1_001, &["a"])), 5);
    let wait = world.open(lookback(999, &["a"]));
    assert_eq!(world.opened(wait).position, Position(5));
    let wait = world.open(after(&world, 5, &["a"]));
    world.send(completed("a"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn an_open_wait_needs_no_log() {
    let mut world = World::with(LIMITS, Retention { age: secs(30), held_bytes: 0, ..RETENTION });
    let wait = world.open(ask(&["a", "b"]));
    world.send(completed("a"));
    world.pass(secs(60));
    assert_eq!(world.retain(), Position(2));
    world.send(completed("b"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn after_of_another_log_or_past_its_head_is_a_cursor_of_another_log() {
    let mut world = World::new();
    world.send(completed("a"));
    let foreign = Cursor { log_id: LogId(uuid::Uuid::from_u128(9)), position: Position(1) };
    for asked in [foreign, world.cursor(2), world.cursor(u64::MAX)] {
        let refused = world.try_open(Ask { start: Start::After(asked), ..ask(&["a"]) });
        let expected = OpenError::AnotherLog { asked, oldest: world.cursor(0), head: world.cursor(1) };
        assert_eq!(refused, Err(expected));
    }
}

#[test]
fn a_refused_wait_changes_nothing_also_not_the_one_that_it_would_take_over() {
    let mut world = World::new();
    let wait = world.open(ask(&["a"]));
    assert!(world.try_open(after(&world, 1, &["b"])).is_err());
    assert_eq!(world.engine.list(None, Opening(0), 9).len(), 1);
    world.send(completed("a"));
    assert_eq!(world.kind(wait), Some(Kind::Completed));
}

#[test]
fn a_look_finds_what_lies_in_several_tables_in_order() {
    let mut world = World::new();
    for n in 0..100 {
        world.send_all(vec![
            in_progress("a"),
            completed("x"),
            in_progress(if n % 2 == 0 { "b" } else { "c" }),
        ]);
    }
    let hashes = ["a", "b", "c"].map(|name| KeyHash::of(VM, key(name).as_ref()));
    let found = world.engine.index.after(Position(50), &hashes).map(|(_, event)| event.position.0);
    let expected: Vec<_> = (51..=300).filter(|position| position % 3 != 2).collect();
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn a_look_tells_of_the_newest_events_only_counts_the_others_and_loses_no_answer() {
    let mut world = World::new();
    world.send(failed("b"));
    world.send_all((0..300).map(|_| completed("a")).collect());
    let wait = world.open(Ask { policy: FailurePolicy::Collect, ..after(&world, 0, &["a", "b", "c"]) });
    let told = world.told(wait);
    let Effect::Registered { answers, at: Position(301), .. } = &told[0] else { panic!("{told:?}") };
    assert_eq!(answers.iter().map(|answer| answer.state).collect::<Vec<_>>(), [Completed, Failed, Open]);
    let shown = told[1..].iter().map(|effect| match effect {
        Effect::Progress { event: Some((0, event)), dropped, mark, .. } if mark.superseded => {
            (event.position.0, *dropped)
        }
        other => panic!("{other:?}"),
    });
    let newest = (302 - UNREAD as u64..=301).enumerate();
    let expected = newest.map(|(n, at)| (at, if n == 0 { 301 - UNREAD as u32 } else { 0 }));
    assert_eq!(shown.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}
