use prost_types::Timestamp;
use tonic::Code;

use super::*;
use crate::event::{LogId, Position};
use crate::proto::outcome::Kind as ProtoKind;
use crate::proto::{self, GoingAway, Progress, Registered};
use crate::status::Refusal;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A wait for the keys `a` and `b`, with one moment that its test moves on.
struct Wait {
    memory: Memory,
    log: LogId,
    now: Time,
}

impl Wait {
    fn new(start_on_arm: bool) -> Self {
        let question = Question {
            id: WaitId::random(),
            instance: InstanceId::random(),
            start: Start::Head,
            timeout: TIMEOUT,
            start_on_arm,
            policy: FailurePolicy::Collect,
            in_progress_fails: true,
        };
        let now = Time::from_nanos(1 << 60);
        let keys = keys(State::Unspecified, State::Unspecified);
        Self { memory: Memory::new(now, question, keys), log: LogId::random(), now }
    }

    /// One that has been opened, at position 7.
    fn open(start_on_arm: bool) -> Self {
        let mut wait = Self::new(start_on_arm);
        wait.ask();
        wait.registered(7);
        wait
    }

    fn ask(&mut self) -> WaitRequest {
        self.memory.ask(self.now)
    }

    fn pass(&mut self, secs: u64) {
        self.now = self.now.plus(Duration::from_secs(secs));
    }

    fn cursor(&self, position: u64) -> proto::Cursor {
        proto::Cursor { log_id: self.log.to_string(), position }
    }

    fn registered(&mut self, position: u64) -> Next {
        self.hear(Message::Registered(Registered {
            wait_id: self.memory.id().to_string(),
            cursor: Some(self.cursor(position)),
            opened: Some(opened(position)),
            keys: keys(State::Open, State::Open),
            ..Registered::default()
        }))
    }

    fn progress(&mut self, position: u64, a: State, b: State) -> Next {
        let cursor = Some(self.cursor(position));
        self.hear(Message::Progress(Progress { cursor, keys: keys(a, b), ..Progress::default() }))
    }

    fn hear(&mut self, message: Message) -> Next {
        self.memory.hear(self.now, WaitResponse { message: Some(message) })
    }

    fn status(&mut self, code: Code, reason: Option<Reason>) -> Next {
        let status = match reason {
            Some(reason) => Refusal::new(code, reason, "because").into(),
            None => Status::new(code, "h2 protocol error"),
        };
        self.memory.hear_status(self.now, status)
    }

    fn lose(&mut self) -> Next {
        self.memory.lose(self.now)
    }

    fn outcome(&self) -> &Outcome {
        self.memory.end().expect("it has ended").as_ref().expect("with an outcome")
    }
}

fn opened(position: u64) -> Opened {
    Opened { position, counts_from: Some(Timestamp { seconds: 1_000 + position as i64, nanos: 7 }) }
}

fn keys(a: State, b: State) -> Vec<KeyState> {
    [("a", a), ("b", b)]
        .into_iter()
        .map(|(name, state)| KeyState { name: name.into(), state: state.into(), ..KeyState::default() })
        .collect()
}

fn span(secs: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: secs, nanos: 0 })
}

#[test]
fn a_first_ask_has_what_was_asked_for_and_nothing_remembered() {
    let mut wait = Wait::new(true);
    let ask = wait.ask();
    assert_eq!(ask.keys.len(), 2);
    assert_eq!((ask.after, ask.opened, ask.key_states), (None, None, Vec::new()));
    assert_eq!((ask.timeout, ask.start_on_arm, ask.in_progress_fails), (span(30), true, true));
    assert_eq!(ask.failure_policy, i32::from(ProtoPolicy::Collect));
}

#[test]
fn asking_again_has_the_newest_cursor_its_key_states_the_first_opened_and_the_time_left() {
    let mut wait = Wait::open(false);
    wait.pass(10);
    wait.progress(9, State::Completed, State::Open);
    assert_eq!(wait.lose(), Next::AskAgain);
    let ask = wait.ask();
    assert_eq!(ask.wait_id, wait.memory.id().to_string());
    assert_eq!(ask.after, Some(wait.cursor(9)));
    assert_eq!(ask.key_states, keys(State::Completed, State::Open));
    assert_eq!(ask.opened, Some(opened(7)));
    assert_eq!(ask.timeout, span(20));

    wait.registered(12);
    wait.pass(5);
    wait.lose();
    let ask = wait.ask();
    assert_eq!((ask.opened, ask.after, ask.timeout), (Some(opened(7)), Some(wait.cursor(12)), span(15)));
}

#[test]
fn going_away_is_a_place_to_ask_again_from() {
    let mut wait = Wait::open(false);
    let going = GoingAway { cursor: Some(wait.cursor(8)), keys: keys(State::Open, State::Failed) };
    assert_eq!(wait.hear(Message::GoingAway(going)), Next::AskAgain);
    let ask = wait.ask();
    assert_eq!((ask.after, ask.key_states), (Some(wait.cursor(8)), keys(State::Open, State::Failed)));
}

#[test]
fn what_tells_of_the_connection_or_of_the_agents_state_is_asked_again() {
    use Code::*;
    for (code, reason) in [
        (Unknown, None),
        (Unavailable, None),
        (Unavailable, Some(Reason::Stopping)),
        (Aborted, None),
        (Cancelled, None),
        (Internal, None),
        (ResourceExhausted, Some(Reason::Exhausted)),
    ] {
        assert_eq!(Wait::open(false).status(code, reason), Next::AskAgain, "{code:?} {reason:?}");
    }
}

#[test]
fn what_asking_again_cannot_mend_ends_the_wait_with_an_error() {
    let mut wait = Wait::open(false);
    assert_eq!(wait.status(Code::Aborted, Some(Reason::TakenOver)), Next::Ended);
    assert!(matches!(wait.memory.end(), Some(Err(Error::TakenOver(_)))));

    for (code, reason) in [
        (Code::AlreadyExists, Some(Reason::WaitIdTaken)),
        (Code::PermissionDenied, None),
        (Code::Unimplemented, None),
        (Code::InvalidArgument, Some(Reason::OverLimit)),
    ] {
        let mut wait = Wait::open(false);
        assert_eq!(wait.status(code, reason), Next::Ended, "{code:?}");
        let error = wait.memory.end().unwrap().as_ref().unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert_eq!(error.reason(), reason);
    }
}

#[test]
fn a_log_made_anew_or_dropped_ends_the_wait_cancelled_and_unconfirmed() {
    for (code, reason, told) in [
        (Code::FailedPrecondition, Reason::CursorOfAnotherLog, Reason::LogGone),
        (Code::OutOfRange, Reason::CursorExpired, Reason::CursorExpired),
    ] {
        let mut wait = Wait::open(false);
        wait.progress(8, State::Completed, State::Open);
        assert_eq!(wait.status(code, Some(reason)), Next::Ended);
        let outcome = wait.outcome();
        assert_eq!((outcome.kind, outcome.reason), (Kind::Cancelled, Some(told)));
        assert!(!outcome.confirmed);
        assert_eq!(outcome.cursor.position, Position(8));
        assert_eq!(outcome.key("a", "").unwrap().state, crate::engine::KeyState::Completed);
    }
}

#[test]
fn out_of_time_while_away_it_looks_once_more_with_timeout_0() {
    let mut wait = Wait::open(false);
    wait.lose();
    wait.pass(30);
    let ask = wait.ask();
    assert_eq!((ask.timeout, ask.after), (span(0), Some(wait.cursor(7))));
    wait.registered(9);
    let outcome = proto::Outcome {
        kind: ProtoKind::Completed.into(),
        cursor: Some(wait.cursor(9)),
        keys: keys(State::Completed, State::Completed),
        ..proto::Outcome::default()
    };
    assert_eq!(wait.hear(Message::Outcome(outcome)), Next::Ended);
    assert!(wait.outcome().is_completed() && wait.outcome().confirmed);
}

#[test]
fn out_of_time_and_nobody_answers_it_ends_timed_out_and_unconfirmed_within_2_s() {
    let mut wait = Wait::open(false);
    wait.pass(29);
    wait.lose();
    let pause = Duration::from_secs(2);
    assert_eq!(wait.memory.ask_at(wait.now, pause).since(wait.now), Duration::from_secs(1));
    wait.pass(1);
    wait.ask();
    assert_eq!(wait.lose(), Next::AskAgain);
    wait.pass(1);
    assert_eq!(wait.lose(), Next::AskAgain);
    assert_eq!(wait.ask().timeout, span(0));
    wait.pass(1);
    assert_eq!(wait.memory.ask_at(wait.now, pause), wait.now);
    assert_eq!(wait.lose(), Next::Ended);
    let outcome = wait.outcome();
    assert_eq!((outcome.kind, outcome.reason, outcome.confirmed), (Kind::TimedOut, None, false));
}

#[test]
fn a_stream_that_stays_silent_past_the_deadline_is_taken_as_lost() {
    let wait = Wait::open(false);
    assert_eq!(wait.memory.listen_until(), Some(wait.now.plus(TIMEOUT + GRACE)));
    // When an unarmed wait ends is for the agent to say.
    assert_eq!(Wait::open(true).memory.listen_until(), None);
}

#[test]
fn the_time_of_a_wait_that_starts_on_arm_counts_from_arm() {
    let mut wait = Wait::open(true);
    assert_eq!(wait.memory.time_left(wait.now), None);
    wait.pass(100);
    wait.lose();
    let ask = wait.ask();
    assert_eq!((ask.timeout, ask.start_on_arm), (span(30), true));
    wait.registered(7);

    wait.memory.arm(wait.now);
    assert_eq!(wait.memory.next_order(), Some(Order::Arm));
    assert_eq!(wait.memory.next_order(), None);
    wait.pass(12);
    wait.lose();
    let ask = wait.ask();
    assert_eq!((ask.timeout, ask.start_on_arm), (span(18), false));
}

#[test]
fn an_arm_while_an_ask_is_under_way_is_told_afterwards() {
    let mut wait = Wait::open(true);
    wait.lose();
    assert!(wait.ask().start_on_arm);
    wait.memory.arm(wait.now);
    wait.registered(7);
    assert_eq!(wait.memory.next_order(), Some(Order::Arm));
}

#[test]
fn an_arm_while_away_is_told_by_asking_again() {
    let mut wait = Wait::open(true);
    wait.lose();
    wait.memory.arm(wait.now);
    wait.pass(3);
    let ask = wait.ask();
    assert_eq!((ask.timeout, ask.start_on_arm), (span(27), false));
    wait.registered(7);
    assert_eq!(wait.memory.next_order(), None);
}

#[test]
fn arming_anew_after_a_lost_stream_gives_the_whole_timeout_not_what_was_left() {
    let mut wait = Wait::open(false);
    wait.pass(20);
    wait.lose();
    assert_eq!(wait.ask().timeout, span(10));
    wait.registered(7);
    wait.memory.arm(wait.now);
    assert_eq!(wait.memory.next_order(), Some(Order::AskAgain));
    wait.lose();
    assert_eq!(wait.ask().timeout, span(30));
}

#[test]
fn a_wait_never_armed_whose_agent_stays_away_ends_after_an_hour() {
    let mut wait = Wait::open(true);
    wait.lose();
    wait.pass(MAX_UNARMED.as_secs());
    let ask = wait.ask();
    assert_eq!((ask.timeout, ask.start_on_arm), (span(0), false));
    wait.pass(2);
    wait.lose();
    let outcome = wait.outcome();
    assert_eq!((outcome.kind, outcome.reason), (Kind::TimedOut, Some(Reason::NeverArmed)));
}

#[test]
fn skipped_keys_stay_skipped_whatever_older_messages_say() {
    let mut wait = Wait::open(false);
    let skip = |name: &str| (name.to_owned(), String::new());
    wait.memory.skip([skip("a"), skip("not of this wait")]);
    let a = proto::Key { name: "a".into(), tag: String::new() };
    assert_eq!(wait.memory.next_order(), Some(Order::Skip(vec![a])));
    wait.progress(8, State::Open, State::Open);
    assert_eq!(wait.memory.keys(), keys(State::Skipped, State::Open));

    wait.lose();
    wait.memory.skip([skip("b")]);
    assert_eq!(wait.ask().key_states, keys(State::Skipped, State::Skipped));
    wait.progress(9, State::Open, State::Failed);
    assert_eq!(wait.memory.keys(), keys(State::Skipped, State::Failed));
    assert_eq!(wait.memory.next_order(), None);
}

#[test]
fn a_cancel_is_told_once_and_holds_even_if_the_agent_goes_away() {
    let mut wait = Wait::open(false);
    wait.memory.cancel("no more need".into());
    wait.memory.cancel("again".into());
    assert_eq!(wait.memory.next_order(), Some(Order::Cancel("no more need".into())));
    assert_eq!(wait.memory.next_order(), None);
    assert_eq!(wait.lose(), Next::Ended);
    let outcome = wait.outcome();
    assert_eq!((outcome.kind, outcome.reason), (Kind::Cancelled, Some(Reason::Cancelled)));
    assert_eq!((outcome.why.as_str(), outcome.confirmed), ("no more need", false));

    let mut wait = Wait::open(false);
    wait.lose();
    wait.memory.cancel("while away".into());
    assert_eq!(wait.outcome().why, "while away");
}

#[test]
fn a_registered_or_an_outcome_without_its_place_is_an_error_not_a_guess() {
    let mut wait = Wait::new(false);
    assert_eq!(wait.hear(Message::Registered(Registered::default())), Next::Ended);
    assert!(matches!(wait.memory.end(), Some(Err(Error::Malformed(_)))));
    let mut wait = Wait::open(false);
    assert_eq!(wait.hear(Message::Outcome(proto::Outcome::default())), Next::Ended);
    assert!(matches!(wait.memory.end(), Some(Err(Error::Malformed(_)))));
}
