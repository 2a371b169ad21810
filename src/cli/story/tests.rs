use prost_types::Timestamp;

use super::*;
use crate::proto::Outcome;

const WAIT: &str = "3f2a9c01-0000-4000-8000-000000000000";

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn event(seconds: i64, position: u64, name: &str, tag: &str) -> ExplainEntry {
    let event = Event { position, name: name.into(), tag: tag.into(), ..Default::default() };
    ExplainEntry { at: at(seconds), what: Some(What::Event(event)), ..Default::default() }
}

fn key(name: &str, tag: &str, state: State, position: u64) -> KeyState {
    KeyState { name: name.into(), tag: tag.into(), state: state.into(), position, received_at: None }
}

fn wait(opened: i64, keys: Vec<KeyState>) -> WaitInfo {
    WaitInfo {
        wait_id: WAIT.into(),
        keys,
        opened_at: at(opened),
        timeout: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
        uid: 7,
        ..Default::default()
    }
}

fn opened(seconds: i64, wait: &WaitInfo) -> ExplainEntry {
    ExplainEntry { at: at(seconds), what: Some(What::WaitOpened(wait.clone())), ..Default::default() }
}

fn ended(seconds: i64, wait: &WaitInfo, kind: Kind) -> ExplainEntry {
    let outcome = Some(Outcome { kind: kind.into(), ..Default::default() });
    let wait = WaitInfo { outcome, ended_at: at(seconds), ..wait.clone() };
    ExplainEntry { at: at(seconds), what: Some(What::WaitEnded(wait)), ..Default::default() }
}

fn told(entries: &[ExplainEntry]) -> Vec<String> {
    let mut story = Story::new(Time::from_nanos(1_000_000_000_000));
    entries.iter().map(|entry| story.line(entry)[2].clone()).collect()
}

#[test]
fn a_line_has_the_moment_and_its_age() {
    let mut story = Story::new(Time::from_nanos(1_000_000_000_000));
    let [moment, age, text] = story.line(&event(750, 4, "n", "t"));
    assert_eq!(moment, "1970-01-01T00:12:30.000Z");
    assert_eq!(age, "4m 10s ago");
    assert_eq!(text, "event 4  n:t completed: no open wait asked for it");
}

#[test]
fn a_wait_that_was_answered_is_told_with_its_events() {
    let wait = wait(10, vec![key("n", "1", State::Completed, 4), key("n", "2", State::Failed, 5)]);
    assert_eq!(
        told(&[
            opened(10, &wait),
            event(11, 4, "n", "1"),
            event(12, 5, "n", "2"),
            ended(12, &wait, Kind::Failed)
        ]),
        [
            format!("wait {WAIT} opened by uid 7 for n:1, n:2; timeout 5m"),
            "event 4  n:1 completed: answered wait 3f2a9c01".to_owned(),
            "event 5  n:2 completed: answered wait 3f2a9c01".to_owned(),
            format!("wait {WAIT} ended FAILED after 2s; n:1 completed (position 4), n:2 failed (position 5)"),
        ]
    );
}

#[test]
fn an_event_with_another_tag_or_name_is_a_near_miss() {
    let wait = wait(10, vec![key("n", "1", State::Open, 0)]);
    let lines = told(&[opened(10, &wait), event(11, 4, "n", "2"), event(12, 5, "m", "1")]);
    assert_eq!(lines[1], "event 4  n:2 completed: another tag than wait 3f2a9c01 asks for, n:1");
    assert_eq!(lines[2], "event 5  m:1 completed: another name than wait 3f2a9c01 asks for, n:1");
}

#[test]
fn an_event_before_the_wait_or_after_it_timed_out_is_a_near_miss() {
    let wait = wait(10, vec![key("n", "1", State::Open, 0)]);
    let lines = told(&[
        event(7, 4, "n", "1"),
        opened(10, &wait),
        ended(310, &wait, Kind::TimedOut),
        event(314, 5, "n", "1"),
        event(400, 6, "n", "1"),
    ]);
    assert_eq!(
        lines[1],
        format!(
            "wait {WAIT} opened by uid 7 for n:1; timeout 5m; n:1 had come 3s before (position 4), too \
             early to count"
        )
    );
    assert_eq!(lines[2], format!("wait {WAIT} ended TIMED_OUT after 5m; n:1 did not come"));
    assert_eq!(lines[3], "event 5  n:1 completed: 4s after wait 3f2a9c01 had ended TIMED_OUT");
    assert_eq!(lines[4], "event 6  n:1 completed: no open wait asked for it");
}

#[test]
fn an_event_that_a_wait_looked_back_to_is_said_to_count() {
    let wait = wait(10, vec![key("n", "1", State::Completed, 4)]);
    let lines = told(&[event(7, 4, "n", "1"), opened(10, &wait)]);
    assert!(lines[1].ends_with("; n:1 had come 3s before (position 4), and counted"), "{}", lines[1]);
}

#[test]
fn a_stale_and_a_superseded_event_are_told_as_such() {
    let stale = Event {
        position: 3,
        name: "n".into(),
        tag: "1".into(),
        held_for: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
        ..Default::default()
    };
    let wait = wait(10, vec![key("n", "1", State::Completed, 4), key("n", "2", State::Open, 0)]);
    let lines = told(&[
        opened(10, &wait),
        ExplainEntry { at: at(11), what: Some(What::Event(stale)), ..Default::default() },
        event(12, 4, "n", "1"),
        event(13, 5, "n", "1"),
    ]);
    assert!(
        lines[1].ends_with("stale for wait 3f2a9c01: sent 1m 30s before, when the wait was not yet open")
    );
    assert!(lines[3].ends_with(": superseded: wait 3f2a9c01 already had its answer"), "{}", lines[3]);
}

#[test]
fn a_wait_whose_stream_was_closed_says_so() {
    let wait = wait(10, vec![key("n", "1", State::Open, 0)]);
    let closed = ExplainEntry { at: at(15), what: Some(What::WaitEnded(wait.clone())), ..Default::default() };
    assert_eq!(
        told(&[opened(10, &wait), closed])[1],
        format!("wait {WAIT} was closed by its client after 5s")
    );
}
