//! What is refused, forgotten and listed within bounds.

use super::world::*;
use crate::engine::{Ask, Kind, Limits, OpenError, Opening, WaitCounts};

fn numbered(id: u128) -> Ask {
    Ask { id: wait_id(id), ..ask(&["a"]) }
}

#[test]
fn no_more_waits_open_than_the_limit_which_the_refusal_names() {
    let mut world = World::with(Limits { waits: 2, ..LIMITS }, RETENTION);
    let first = world.open(numbered(1));
    world.open(Ask { instance: OTHER_VM, ..numbered(2) });
    assert_eq!(world.try_open(numbered(3)), Err(OpenError::TooMany { limit: "max_waits", bound: 2 }));
    world.close(first);
    assert!(world.try_open(numbered(3)).is_ok());
}

#[test]
fn no_more_waits_of_one_instance_open_than_the_limit_which_the_refusal_names() {
    let mut world = World::with(Limits { instance_waits: 2, ..LIMITS }, RETENTION);
    world.open(numbered(1));
    world.open(numbered(2));
    let too_many = OpenError::TooMany { limit: "max_instance_waits", bound: 2 };
    assert_eq!(world.try_open(numbered(3)), Err(too_many));
    assert!(world.try_open(Ask { instance: OTHER_VM, ..numbered(3) }).is_ok());
    world.send(completed("a"));
    assert!(world.try_open(numbered(4)).is_ok(), "ended waits do not count");
}

#[test]
fn ended_waits_are_remembered_up_to_a_number_and_an_age() {
    let mut world = World::with(Limits { ended_waits: 2, ended_age: secs(10), ..LIMITS }, RETENTION);
    let remembered = |world: &World| world.engine.history(VM).len();
    for id in 1..=3 {
        world.open(numbered(id));
        world.cancel(wait_id(id), USER, "no more").unwrap();
        world.pass(secs(5));
    }
    assert_eq!(remembered(&world), 2);
    world.tick();
    assert_eq!(remembered(&world), 2, "they ended 10 s ago and 5 s ago");
    world.pass(secs(1));
    world.tick();
    assert_eq!(remembered(&world), 1);
    world.pass(secs(5));
    world.tick();
    assert_eq!(remembered(&world), 0);
}

#[test]
fn ended_waits_are_remembered_up_to_a_number_of_bytes_the_oldest_forgotten_first() {
    let remembered = |ended_bytes, keys: &[crate::event::Key]| {
        let mut world = World::with(Limits { ended_bytes, ..LIMITS }, RETENTION);
        for id in 1..=20 {
            world.open(Ask { id: wait_id(id), keys: keys.into(), ..ask(&[]) });
            world.cancel(wait_id(id), USER, &"w".repeat(1000)).unwrap();
        }
        world.engine.history(VM).iter().map(|wait| wait.id).collect::<Vec<_>>()
    };
    let small = [key("a")];
    let large: Vec<_> =
        (0..40).map(|n| crate::event::Key::new("a".into(), format!("{n:0255}"), 255).unwrap()).collect();
    assert_eq!(remembered(1 << 20, &large).len(), 20);
    // Each is more than its texts: 1,000 for why, and 40 times 256 for the keys.
    assert_eq!(remembered(60_000, &small).len(), 20);
    let newest = remembered(60_000, &large);
    assert!((2..=5).contains(&newest.len()), "{newest:?}");
    assert_eq!(newest.last(), Some(&wait_id(20)));
    assert_eq!(remembered(10_000, &large), [], "not even one has room");
}

#[test]
fn waits_are_listed_a_page_at_a_time_oldest_first_of_all_or_of_one_instance() {
    let mut world = World::new();
    let waits: Vec<_> = (0..6)
        .map(|id| {
            let instance = if id % 2 == 0 { VM } else { OTHER_VM };
            world.open(Ask { instance, ..numbered(id) })
        })
        .collect();
    let list = |instance, after, most| {
        world.engine.list(instance, after, most).iter().map(|wait| wait.opening).collect::<Vec<_>>()
    };
    assert_eq!(list(None, Opening(0), 4), waits[..4]);
    assert_eq!(list(None, waits[3], 4), waits[4..]);
    assert_eq!(list(Some(VM), Opening(0), 2), [waits[0], waits[2]]);
    assert_eq!(list(Some(VM), waits[2], 2), [waits[4]]);
    assert_eq!(list(Some(VM), waits[4], 2), []);
}

#[test]
fn every_wait_that_was_opened_is_counted_once_where_it_ended() {
    let mut world = World::new();
    let open = |world: &mut World, id| world.open(Ask { timeout: secs(id as u64), ..numbered(id) });
    for id in 10..15 {
        open(&mut world, id);
    }
    world.cancel(wait_id(10), USER, "no more").unwrap();
    let taken_over = open(&mut world, 11);
    world.close(taken_over);
    world.pass(secs(12));
    world.send(failed("a"));
    let last = open(&mut world, 20);
    world.send(completed("a"));
    assert_eq!(world.kind(last), Some(Kind::Completed));
    let expected = WaitCounts { opened: 7, completed: 1, failed: 2, timed_out: 1, cancelled: 1, closed: 2 };
    assert_eq!(world.engine.counts(), expected);
}
