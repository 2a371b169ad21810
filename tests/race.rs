//! Who comes first, an event or a wait, and what is then told: to waits, and to those that ask again.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::Agent;
use common::calls::{
    Wait, cursor, dispatch, event, open, said, seconds, send, try_open, uuid, wait_for, why,
};
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt;
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::event::Status as Is;
use wakeful::proto::key_state::State;
use wakeful::proto::outcome::Kind;
use wakeful::proto::reason::Code as Reason;
use wakeful::proto::wait_response::Message;
use wakeful::proto::waits_client::WaitsClient;
use wakeful::proto::{CancelInstanceRequest, Cursor, Event, SkipRequest, WaitRequest};

/// The same question, asked again from where the wait last was.
fn asked_again(wait: &Wait, first: &WaitRequest, after: Cursor) -> WaitRequest {
    WaitRequest {
        wait_id: wait.id().into(),
        after: Some(after),
        opened: wait.registered.opened,
        key_states: wait.registered.keys.clone(),
        ..first.clone()
    }
}

#[tokio::test]
async fn an_event_that_came_first_wakes_a_wait_that_names_an_earlier_place() {
    let agent = Agent::start(&[]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let before = cursor(&agent.log_id, 0);
    assert_eq!(send(&agent.tcp(), event(&instance, "a", "t")).await, (Disposition::Retained, 0, 1));

    let asked = WaitRequest { after: Some(before), ..wait_for(&instance, &[("a", "t")]) };
    let mut wait = open(&unix, asked.clone()).await;
    assert_eq!((wait.cursor().position, wait.registered.keys[0].state()), (1, State::Completed));
    let progress = wait.progress().await;
    assert_eq!(progress.event.unwrap().position, 1);
    let outcome = wait.outcome().await;
    assert_eq!((outcome.kind(), outcome.keys[0].position), (Kind::Completed, 1));

    // It looks once and answers at once, too.
    let mut looks = open(&unix, WaitRequest { timeout: Some(seconds(0)), ..asked }).await;
    assert_eq!(looks.outcome_at_last().await.kind(), Kind::Completed);
    let lookback = WaitRequest { lookback: Some(seconds(600)), ..wait_for(&instance, &[("a", "t")]) };
    assert_eq!(open(&unix, lookback).await.outcome_at_last().await.kind(), Kind::Completed);
    assert_eq!(agent.status().await.open_waits, 0);
}

#[tokio::test]
async fn an_event_that_came_first_wakes_no_wait_from_the_head_nor_one_of_another_key() {
    let agent = Agent::start(&[]).await;
    let (unix, instance) = (agent.unix(), uuid());
    send(&agent.tcp(), event(&instance, "a", "t")).await;
    let _head = open(&unix, wait_for(&instance, &[("a", "t")])).await;
    let from_the_start = |instance: &str, keys: &[(&str, &str)]| WaitRequest {
        after: Some(cursor(&agent.log_id, 0)),
        timeout: Some(seconds(0)),
        ..wait_for(instance, keys)
    };
    for (instance, keys) in [
        (&instance, [("a", "")]),
        (&instance, [("a", "T")]),
        (&instance, [("at", "")]),
        (&uuid(), [("a", "t")]),
    ] {
        let outcome = open(&unix, from_the_start(instance, &keys)).await.outcome().await;
        assert_eq!((outcome.kind(), outcome.keys[0].state()), (Kind::TimedOut, State::Open), "{keys:?}");
    }
    assert_eq!(agent.status().await.open_waits, 1);
}

#[tokio::test]
async fn an_event_sent_before_the_wait_opened_is_told_as_stale_and_wakes_nobody() {
    let agent = Agent::start(&[]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let late = || Event { held_for: Some(seconds(3_600)), ..event(&instance, "a", "") };
    let mut wait = open(&unix, wait_for(&instance, &[("a", "")])).await;
    assert_eq!(send(&agent.tcp(), late()).await, (Disposition::Retained, 0, 1));
    let progress = wait.progress().await;
    assert!(progress.stale && !progress.superseded);
    assert_eq!((progress.event.unwrap().position, progress.keys[0].state()), (1, State::Open));

    assert_eq!(send(&agent.tcp(), event(&instance, "a", "")).await, (Disposition::Woke, 1, 2));
    assert_eq!(wait.outcome_at_last().await.keys[0].position, 2);

    // From a place whose moment came after the event was sent, it is stale in the log as well.
    let request = wait_for(&instance, &[("a", "")]);
    send(&agent.tcp(), late()).await;
    let after = WaitRequest { after: Some(cursor(&agent.log_id, 2)), ..request.clone() };
    let mut wait = open(&unix, after).await;
    assert!(wait.progress().await.stale);
    // A span that goes back far enough takes it in.
    let lookback = WaitRequest { lookback: Some(seconds(7_200)), ..request };
    assert_eq!(open(&unix, lookback).await.outcome_at_last().await.kind(), Kind::Completed);
}

#[tokio::test]
async fn two_waits_for_the_same_key_are_both_woken() {
    let agent = Agent::start(&[]).await;
    let instance = uuid();
    let request = wait_for(&instance, &[("a", "t")]);
    let (mut first, mut second) =
        (open(&agent.unix(), request.clone()).await, open(&agent.unix(), request).await);
    assert_eq!(send(&agent.tcp(), event(&instance, "a", "t")).await, (Disposition::Woke, 2, 1));
    for wait in [&mut first, &mut second] {
        assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
    }
    assert_eq!(send(&agent.tcp(), event(&instance, "a", "t")).await, (Disposition::Retained, 0, 2));
}

#[tokio::test]
async fn a_known_event_id_is_a_duplicate_and_wakes_nobody_twice() {
    let agent = Agent::start(&[]).await;
    let (tcp, instance) = (agent.tcp(), uuid());
    let first = Event { event_id: uuid(), ..event(&instance, "a", "") };
    let mut wait = open(&agent.unix(), wait_for(&instance, &[("a", ""), ("b", "")])).await;
    let again = Event { held_for: Some(seconds(5)), ..first.clone() };
    let other = Event { data: vec![1], ..first.clone() };
    let results = dispatch(&tcp, vec![first.clone(), again.clone(), other]).await;
    let of = |n: usize| (results[n].disposition(), results[n].woke, results[n].position, results[n].reason());
    assert_eq!(of(0), (Disposition::Woke, 1, 1, Reason::Unspecified));
    assert_eq!(of(1), (Disposition::Duplicate, 0, 1, Reason::Unspecified));
    assert_eq!(of(2), (Disposition::Rejected, 0, 0, Reason::EventIdReused));
    assert_eq!(results[2].field, "events[2].event_id");
    assert_eq!(send(&tcp, again).await, (Disposition::Duplicate, 0, 1));
    assert_eq!(send(&tcp, event(&instance, "b", "")).await, (Disposition::Woke, 1, 2));
    let told = [wait.progress().await, wait.progress().await];
    assert_eq!(told.map(|progress| progress.event.unwrap().position), [1, 2]);
    assert_eq!(wait.outcome().await.kind(), Kind::Completed);
}

#[tokio::test]
async fn a_wait_opened_again_over_another_connection_is_taken_over_and_lives_on_there() {
    let agent = Agent::start(&[]).await;
    let instance = uuid();
    let request = wait_for(&instance, &[("a", ""), ("b", "")]);
    let mut older = open(&agent.unix(), request.clone()).await;
    send(&agent.tcp(), event(&instance, "a", "")).await;
    let seen = older.progress().await;

    let again = WaitRequest {
        key_states: seen.keys.clone(),
        ..asked_again(&older, &request, seen.cursor.clone().unwrap())
    };
    let mut newer = open(&agent.unix(), again).await;
    assert_eq!(newer.registered.keys, seen.keys);
    assert_eq!(newer.registered.opened, older.registered.opened);
    assert_eq!(why(&older.refused().await), (Code::Aborted, "TAKEN_OVER".into()));
    // The older stream's late close does not end the newer one.
    drop(older);
    agent
        .until_status("the older one is counted as closed", |status| {
            status.open_waits == 1 && status.counts.as_ref().is_some_and(|counts| counts.waits_closed == 1)
        })
        .await;

    let other = WaitRequest { wait_id: newer.id().into(), ..wait_for(&uuid(), &[("a", "")]) };
    let refused = try_open(&agent.unix(), other).await.err().expect("another instance's");
    assert_eq!(why(&refused), (Code::AlreadyExists, "WAIT_ID_TAKEN".into()));

    assert_eq!(send(&agent.tcp(), event(&instance, "b", "")).await, (Disposition::Woke, 1, 2));
    let outcome = newer.outcome_at_last().await;
    assert_eq!(outcome.keys.iter().map(|key| key.position).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn asked_again_after_its_outcome_a_wait_gets_the_same_outcome() {
    let agent = Agent::start(&[]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let request = wait_for(&instance, &[("a", "")]);
    let mut wait = open(&unix, request.clone()).await;
    let after = wait.cursor();
    let failed = Event { status: Is::Failed.into(), ..event(&instance, "a", "") };
    assert_eq!(send(&agent.tcp(), failed).await, (Disposition::Woke, 1, 1));
    let outcome = wait.outcome_at_last().await;
    assert_eq!(outcome.kind(), Kind::Failed);
    // What came since then does not change it.
    send(&agent.tcp(), event(&instance, "a", "")).await;
    for _ in 0..2 {
        let mut again = open(&agent.unix(), asked_again(&wait, &request, after.clone())).await;
        assert_eq!(again.registered.opened, wait.registered.opened);
        assert_eq!(again.outcome().await, outcome);
    }
    assert_eq!(agent.status().await.counts.unwrap().waits_failed, 1);
}

#[tokio::test]
async fn what_a_client_missed_while_it_was_away_it_gets_when_it_asks_again() {
    let agent = Agent::start(&[]).await;
    let instance = uuid();
    let request = wait_for(&instance, &[("a", ""), ("b", "")]);
    let first = open(&agent.unix(), request.clone()).await;
    let again = asked_again(&first, &request, first.cursor());
    drop(first);
    agent.until_status("its wait is gone", |status| status.open_waits == 0).await;
    let results = dispatch(&agent.tcp(), vec![event(&instance, "b", ""), event(&instance, "a", "")]).await;
    assert!(results.iter().all(|result| result.disposition() == Disposition::Retained));
    let mut wait = open(&agent.unix(), again.clone()).await;
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);

    // So it does if what it missed is a CancelInstance.
    let first = open(&agent.unix(), request.clone()).await;
    let again = asked_again(&first, &request, first.cursor());
    drop(first);
    agent.until_status("its wait is gone", |status| status.open_waits == 0).await;
    let cancel = CancelInstanceRequest { instance_uuid: instance.clone(), why: "deleted".into() };
    let cancelled = WaitsClient::new(agent.unix()).cancel_instance(cancel).await.unwrap().into_inner();
    assert_eq!((cancelled.waits.len(), cancelled.cursor.unwrap().position), (0, 3));
    let outcome = open(&agent.unix(), again).await.outcome_at_last().await;
    assert_eq!((outcome.reason(), outcome.why.as_str()), (Reason::InstanceCancelled, "deleted"));
}

#[tokio::test]
async fn a_deadline_that_the_caller_set_ends_the_stream_and_the_wait() {
    let agent = Agent::start(&[]).await;
    let mut request = Request::new(wait_for(&uuid(), &[("a", "")]));
    request.set_timeout(Duration::from_millis(300));
    let mut wait = open(&agent.unix(), request).await;
    assert_eq!(why(&wait.refused().await), (Code::DeadlineExceeded, "CALL_TIMED_OUT".into()));
    agent.until_status("the wait is gone", |status| status.open_waits == 0).await;
    assert_eq!(agent.status().await.counts.unwrap().waits_closed, 1);
}

#[tokio::test]
async fn a_deadline_of_the_wait_and_an_event_have_no_third_case() {
    let agent = Agent::start(&[]).await;
    let (unix, tcp) = (agent.unix(), agent.tcp());
    for n in 0..100 {
        let (instance, timeout) =
            (uuid(), prost_types::Duration { seconds: 0, nanos: 200_000 * (n % 10 + 1) });
        let request = WaitRequest { timeout: Some(timeout), ..wait_for(&instance, &[("a", "")]) };
        let mut wait = open(&unix, request).await;
        let (disposition, woke, position) = send(&tcp, event(&instance, "a", "")).await;
        let outcome = wait.outcome_at_last().await;
        match disposition {
            Disposition::Woke => {
                assert_eq!((woke, outcome.kind(), outcome.keys[0].position), (1, Kind::Completed, position));
            }
            _ => assert_eq!((woke, outcome.kind(), outcome.keys[0].position), (0, Kind::TimedOut, 0)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_and_a_wait_that_race_always_meet() {
    let agent = Agent::start(&[]).await;
    let (unix, tcp) = (agent.unix(), agent.tcp());
    for _ in 0..200 {
        let (instance, before) = (uuid(), agent_head(&unix, &agent.log_id).await);
        let request = WaitRequest { after: Some(before), ..wait_for(&instance, &[("a", "")]) };
        let waiting = async { open(&unix, request).await.outcome_at_last().await };
        let (outcome, (disposition, woke, position)) =
            tokio::join!(waiting, send(&tcp, event(&instance, "a", "")));
        assert_eq!((outcome.kind(), outcome.keys[0].position), (Kind::Completed, position));
        assert_eq!(woke > 0, disposition == Disposition::Woke);
    }
}

async fn agent_head(unix: &Channel, log_id: &str) -> Cursor {
    cursor(log_id, common::status(unix).await.log.unwrap().head)
}

#[tokio::test]
async fn a_wait_that_is_never_armed_ends_so_and_is_told_what_arm_counts_by() {
    let agent = Agent::start(&["--max-unarmed", "200ms", "--default-timeout", "77s"]).await;
    let request = WaitRequest { start_on_arm: true, ..wait_for(&uuid(), &[("a", "")]) };
    let mut wait = open(&agent.unix(), request).await;
    assert_eq!(wait.registered.timeout, Some(seconds(77)));
    let outcome = wait.outcome_at_last().await;
    assert_eq!((outcome.kind(), outcome.reason()), (Kind::TimedOut, Reason::NeverArmed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cursors_of_a_stream_never_go_back() {
    const KEYS: u64 = 200;
    let agent = Agent::start(&[]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let tags: Vec<_> = (0..KEYS).map(|n| n.to_string()).collect();
    let keys: Vec<_> = tags.iter().map(|tag| ("a", tag.as_str())).collect();
    // Half of what it asks for is in the log when it opens.
    let events = |from: usize| keys[from..].iter().map(|(name, tag)| event(&instance, name, tag));
    dispatch(&agent.tcp(), events(0).take(100).collect()).await;
    let request = WaitRequest { after: Some(cursor(&agent.log_id, 0)), ..wait_for(&instance, &keys) };
    let mut wait = open(&unix, request).await;
    let id = wait.id().to_owned();
    let sending = async {
        for event in events(100).take(90) {
            // Others go in between.
            dispatch(&agent.tcp(), vec![common::calls::event(&uuid(), "a", ""), event]).await;
        }
        let keys = keys[190..].iter().map(|(name, tag)| common::calls::key(name, tag)).collect();
        let skipped = WaitsClient::new(unix.clone()).skip(SkipRequest { wait_id: id, keys }).await;
        assert_eq!(skipped.expect("skipped").into_inner().skipped, 10);
    };
    let reading = async {
        let mut at = wait.cursor().position;
        loop {
            let (next, keys, event) = match wait.next().await.expect("a message") {
                Some(Message::Progress(progress)) => (progress.cursor, progress.keys, progress.event),
                Some(Message::Outcome(outcome)) => {
                    assert_eq!(outcome.kind(), Kind::Completed);
                    (outcome.cursor, outcome.keys, None)
                }
                None => return at,
                other => panic!("{other:?}"),
            };
            let next = next.expect("a cursor").position;
            assert!(next >= at, "{next} after {at}");
            at = next;
            assert!(event.is_none_or(|event| event.position <= at), "no event is past its cursor");
            assert!(keys.iter().all(|key| key.position <= at), "no answer is past its cursor");
        }
    };
    let (at, ()) = tokio::join!(reading, sending);
    assert_eq!(at, 100 + 2 * 90);
}

#[tokio::test]
async fn waits_more_than_there_may_be_are_told_when_to_try_again() {
    let agent = Agent::start(&["--max-waits", "3", "--max-instance-waits", "2"]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let request = wait_for(&instance, &[("a", "")]);
    let _first = open(&unix, request.clone()).await;
    let second = open(&unix, request.clone()).await;
    let refused = try_open(&unix, request.clone()).await.err().expect("a third of the instance");
    assert_eq!(
        (said(&refused).code, said(&refused).limit),
        (Code::ResourceExhausted, "max_instance_waits".into())
    );
    assert!(refused.get_details_retry_info().is_some());
    let _other = open(&unix, wait_for(&uuid(), &[("a", "")])).await;
    let refused = try_open(&unix, wait_for(&uuid(), &[("a", "")])).await.err().expect("a fourth");
    assert_eq!((said(&refused).code, said(&refused).limit), (Code::ResourceExhausted, "max_waits".into()));
    // A wait that is taken over takes no further place.
    let _taken_over = open(&unix, WaitRequest { wait_id: second.id().into(), ..request }).await;
    assert_eq!(agent.status().await.open_waits, 3);
}
