//! The client against an agent whose every answer the test gives by hand. The clock is paused: it moves on
//! by itself to the next timer whenever nothing else is left to do.

mod fake;

use std::time::Duration;

use tonic::{Code, Status};

use self::fake::{Call, Fake, Stream};
use super::*;
use crate::event::{Key, Position};
use crate::proto::outcome::Kind as ProtoKind;
use crate::proto::reason::Code as Reason;
use crate::proto::wait_response::Message;
use crate::proto::{GoingAway, WaitRequest};
use crate::status::Refusal;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A wait for `a` and `b` that has been registered at position 5, and the agent's side of it.
async fn open(fake: &mut Fake) -> (Wait, Stream, WaitRequest) {
    open_with(fake, |wait| wait).await
}

async fn open_with(
    fake: &mut Fake,
    options: impl FnOnce(WaitBuilder) -> WaitBuilder,
) -> (Wait, Stream, WaitRequest) {
    let agent = fake.client();
    let wait = options(agent.wait(InstanceId::random()).key("a", "").key("b", "").timeout(TIMEOUT));
    let opening = tokio::spawn(wait.open());
    let asked = fake.asked().await;
    let request = asked.request.clone();
    let stream = asked.register(5);
    (opening.await.unwrap().unwrap(), stream, request)
}

fn refusal(code: Code, reason: Reason) -> Status {
    Refusal::new(code, reason, "because").into()
}

fn key(name: &str) -> Key {
    Key::new(name.into(), String::new(), 0).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_what_the_agent_says() {
    let mut fake = Fake::start();
    let (wait, stream, request) = open(&mut fake).await;
    assert_eq!(request.wait_id, wait.id().to_string());
    assert_eq!(wait.cursor().unwrap().position, Position(5));

    let mut updates = wait.updates();
    stream.progress(6, stream.keys(&request, &["a"]));
    let progress = updates.next().await.unwrap();
    assert_eq!(progress.cursor.unwrap().position, Position(6));
    assert_eq!(progress.keys[0].state, KeyState::Completed);

    stream.outcome(7, ProtoKind::Completed, stream.keys(&request, &["a", "b"]));
    let outcome = wait.outcome().await.unwrap();
    assert!(outcome.is_completed() && outcome.confirmed);
    assert_eq!(outcome.key("b", "").unwrap().state, KeyState::Completed);
    assert_eq!(updates.next().await, None);
    assert_eq!(wait.outcome().await.unwrap(), outcome, "it may be asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_agent_refuses_is_not_open() {
    let mut fake = Fake::start();
    let opening = tokio::spawn(fake.client().wait(InstanceId::random()).open());
    fake.asked().await.refuse(refusal(Code::InvalidArgument, Reason::MissingField));
    let error = opening.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::MissingField));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_not_there_is_named_in_the_error() {
    let mut fake = Fake::start();
    let agent = fake.client();
    fake.go_away().await;
    let error = agent.wait(InstanceId::random()).key("a", "").open().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("agent.sock") && text.contains("No such file"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_given_up() {
    let mut fake = Fake::start();
    let opening = tokio::spawn(fake.client().wait(InstanceId::random()).key("a", "").open());
    let _unanswered = fake.asked().await;
    assert!(matches!(opening.await.unwrap().unwrap_err(), Error::Unreachable { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_mid_wait_is_asked_again_from_the_newest_place() {
    let mut fake = Fake::start();
    let (wait, stream, first) = open(&mut fake).await;
    let mut updates = wait.updates();
    let keys = stream.keys(&first, &["a"]);
    stream.progress(8, keys.clone());
    updates.next().await.unwrap();

    fake.go_away().await;
    assert!(updates.next().await.unwrap().away);
    tokio::time::advance(Duration::from_secs(10)).await;
    fake.come_back();
    let asked = fake.asked().await;
    let again = asked.request.clone();
    assert_eq!(again.wait_id, first.wait_id);
    assert_eq!(again.instance_uuid, first.instance_uuid);
    assert_eq!(again.after, Some(stream.cursor(8)));
    assert_eq!(again.key_states, keys);
    assert_eq!(again.opened.unwrap().position, 5);
    let left = Duration::try_from(again.timeout.unwrap()).unwrap();
    assert!(left <= TIMEOUT - Duration::from_secs(10), "{left:?}");
    assert!(left >= TIMEOUT - Duration::from_secs(13), "it asks every 2 s at least: {left:?}");

    let stream = asked.register(9);
    stream.outcome(9, ProtoKind::Completed, stream.keys(&first, &["a", "b"]));
    assert!(wait.outcome().await.unwrap().is_completed());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_an_outcome_is_asked_again() {
    let mut fake = Fake::start();
    let (wait, stream, request) = open(&mut fake).await;
    drop(stream);
    let stream = fake.asked().await.register(6);
    // Nor is a status that is about the agent's state the wait's end.
    stream.end(refusal(Code::Unavailable, Reason::Stopping));
    let stream = fake.asked().await.register(6);
    stream.end(Status::aborted("not said why"));
    let stream = fake.asked().await.register(6);
    stream.outcome(7, ProtoKind::Failed, stream.keys(&request, &[]));
    assert_eq!(wait.outcome().await.unwrap().kind, Kind::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stops_is_asked_again_once_it_is_back() {
    let mut fake = Fake::start();
    let (wait, stream, request) = open(&mut fake).await;
    let keys = stream.keys(&request, &["b"]);
    stream.say(Message::GoingAway(GoingAway { cursor: Some(stream.cursor(11)), keys: keys.clone() }));
    for _ in 0..5 {
        let asked = fake.asked().await;
        assert_eq!(asked.request.after, Some(stream.cursor(11)));
        assert_eq!(asked.request.key_states, keys);
        asked.refuse(refusal(Code::Unavailable, Reason::Stopping));
    }
    let stream = fake.asked().await.register(11);
    stream.outcome(12, ProtoKind::Completed, stream.keys(&request, &["a", "b"]));
    assert!(wait.outcome().await.unwrap().is_completed());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_with_another_log_ends_the_wait_cancelled_log_gone() {
    let mut fake = Fake::start();
    let (wait, _stream, _) = open(&mut fake).await;
    fake.go_away().await;
    fake.come_back();
    fake.asked().await.refuse(refusal(Code::FailedPrecondition, Reason::CursorOfAnotherLog));
    let outcome = wait.outcome().await.unwrap();
    assert_eq!((outcome.kind, outcome.reason), (Kind::Cancelled, Some(Reason::LogGone)));
    assert!(!outcome.confirmed);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_no_longer_reaches_back_ends_the_wait_cancelled_cursor_expired() {
    let mut fake = Fake::start();
    let (wait, stream, _) = open(&mut fake).await;
    drop(stream);
    fake.asked().await.refuse(refusal(Code::OutOfRange, Reason::CursorExpired));
    let outcome = wait.outcome().await.unwrap();
    assert_eq!((outcome.kind, outcome.reason), (Kind::Cancelled, Some(Reason::CursorExpired)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_taken_over_ends_with_an_error_and_does_not_fight_for_its_id() {
    let mut fake = Fake::start();
    let (wait, stream, _) = open(&mut fake).await;
    stream.end(refusal(Code::Aborted, Reason::TakenOver));
    assert!(matches!(wait.outcome().await, Err(Error::TakenOver(id)) if id == wait.id()));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(!fake.has_call());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_refuses_to_go_on_ends_the_wait_with_an_error() {
    let mut fake = Fake::start();
    let (wait, stream, _) = open(&mut fake).await;
    drop(stream);
    fake.asked().await.refuse(refusal(Code::AlreadyExists, Reason::WaitIdTaken));
    assert_eq!(wait.outcome().await.unwrap_err().reason(), Some(Reason::WaitIdTaken));
}

#[tokio::test(start_paused = true)]
async fn time_that_runs_out_while_the_agent_is_away_ends_timed_out_unconfirmed() {
    let mut fake = Fake::start();
    let agent = fake.client();
    let (wait, _stream, _) = open(&mut fake).await;
    let opened = agent.clock.now();
    fake.go_away().await;
    let outcome = wait.outcome().await.unwrap();
    let took = agent.clock.now().since(opened);
    assert_eq!((outcome.kind, outcome.confirmed), (Kind::TimedOut, false));
    assert!(took >= TIMEOUT && took <= TIMEOUT + Duration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_back_when_the_time_has_run_out_is_asked_to_look_once() {
    let mut fake = Fake::start();
    let (wait, stream, request) = open(&mut fake).await;
    drop(stream);
    let zero = prost_types::Duration::default();
    let asked = loop {
        let asked = fake.asked().await;
        if asked.request.timeout == Some(zero) {
            break asked;
        }
        asked.refuse(Status::unavailable("not yet"));
    };
    assert!(asked.request.after.is_some());
    let stream = asked.register(6);
    stream.outcome(6, ProtoKind::Completed, stream.keys(&request, &["a", "b"]));
    let outcome = wait.outcome().await.unwrap();
    assert!(outcome.is_completed() && outcome.confirmed);
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_not_waited_for_past_the_deadline() {
    let mut fake = Fake::start();
    let agent = fake.client();
    let (wait, _stream, _) = open(&mut fake).await;
    let opened = agent.clock.now();
    let _unanswered = fake.asked().await;
    let outcome = wait.outcome().await.unwrap();
    let took = agent.clock.now().since(opened);
    assert_eq!((outcome.kind, outcome.confirmed), (Kind::TimedOut, false));
    assert!(took >= TIMEOUT && took <= TIMEOUT + Duration::from_secs(8), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_closes_the_stream() {
    let mut fake = Fake::start();
    let (wait, stream, _) = open(&mut fake).await;
    drop(wait);
    stream.closed().await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_while_the_agent_is_away_asks_no_more() {
    let mut fake = Fake::start();
    let (wait, _stream, _) = open(&mut fake).await;
    let mut updates = wait.updates();
    fake.go_away().await;
    assert!(updates.next().await.unwrap().away);
    drop(wait);
    fake.come_back();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!fake.has_call());
}

#[tokio::test(start_paused = true)]
async fn arm_skip_and_cancel_reach_the_agent() {
    let mut fake = Fake::start();
    let (wait, stream, first) = open_with(&mut fake, |wait| wait.start_on_arm(true)).await;
    assert!(first.start_on_arm);
    assert_eq!(wait.time_left(), None);

    wait.arm();
    assert_eq!(wait.time_left(), Some(TIMEOUT));
    let Call::Arm(arm, answer) = fake.call().await else { panic!("not an Arm") };
    assert_eq!(arm.wait_id, wait.id().to_string());
    answer.send(Ok(())).unwrap();

    wait.skip([&key("a")]);
    let Call::Skip(skip, answer) = fake.call().await else { panic!("not a Skip") };
    assert_eq!(skip.keys[0].name, "a");
    answer.send(Ok(())).unwrap();

    wait.cancel("enough");
    let Call::Cancel(cancel, answer) = fake.call().await else { panic!("not a Cancel") };
    assert_eq!(cancel.why, "enough");
    // It has ended meanwhile: the outcome is the stream's.
    answer.send(Err(refusal(Code::NotFound, Reason::WaitNotFound))).unwrap();
    stream.outcome(9, ProtoKind::Completed, stream.keys(&first, &["a", "b"]));
    assert!(wait.outcome().await.unwrap().is_completed());
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_lost_is_told_by_asking_again() {
    let mut fake = Fake::start();
    let (wait, stream, _) = open_with(&mut fake, |wait| wait.start_on_arm(true)).await;
    wait.arm();
    let Call::Arm(_, answer) = fake.call().await else { panic!("not an Arm") };
    answer.send(Err(Status::unavailable("cut"))).unwrap();
    let asked = fake.asked().await;
    assert!(!asked.request.start_on_arm);
    stream.closed().await;
    let _stream = asked.register(5);
    assert!(!wait.progress().away || wait.updates().next().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_wait_cancelled_while_the_agent_is_away_ends_at_once() {
    let mut fake = Fake::start();
    let (wait, _stream, _) = open(&mut fake).await;
    let mut updates = wait.updates();
    fake.go_away().await;
    assert!(updates.next().await.unwrap().away);
    wait.cancel("enough");
    let outcome = wait.outcome().await.unwrap();
    assert_eq!((outcome.kind, outcome.why.as_str()), (Kind::Cancelled, "enough"));
}

#[test]
fn a_wait_whose_runtime_has_shut_down_ends_with_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (wait, _fake) = runtime.block_on(async {
        let mut fake = Fake::start();
        let (wait, _stream, _) = open(&mut fake).await;
        (wait, fake)
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(other.block_on(wait.outcome()), Err(Error::Stopped)));
}
