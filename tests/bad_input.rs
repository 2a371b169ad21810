//! What is wrong is refused with its reason and its field, and what comes beside it and after it is served.

#![cfg(test)]

mod common;

use common::Agent;
use common::calls::{self, Said, assert_serves, cursor, dispatch, event, key, said, seconds, uuid, wait_for};
use prost_types::Timestamp;
use tonic::transport::Channel;
use tonic::{Code, Status};
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::event_log_client::EventLogClient;
use wakeful::proto::event_receiver_client::EventReceiverClient;
use wakeful::proto::inspector_client::InspectorClient;
use wakeful::proto::key_state::State;
use wakeful::proto::reason::Code as Reason;
use wakeful::proto::waits_client::WaitsClient;
use wakeful::proto::{
    ArmRequest, CancelInstanceRequest, CancelRequest, DispatchRequest, Event, EventFilter, ExplainRequest,
    KeyState, ListEventsRequest, ListWaitsRequest, Opened, SkipRequest, WaitRequest, WatchRequest,
};

/// Text that is as long as it may be, in characters, and four times that in bytes.
fn longest() -> String {
    "𝒆".repeat(255)
}

#[tokio::test]
async fn a_bad_event_is_rejected_with_its_field_while_its_neighbours_go_through() {
    let agent = Agent::start(&[]).await;
    let channel = agent.tcp();
    let instance = uuid();
    let good = || event(&instance, "test-event", "foo");
    let held = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
    let bad: Vec<(Event, &str, Reason)> = vec![
        (Event { event_id: "no-uuid".into(), ..good() }, "event_id", Reason::InvalidField),
        (Event { instance_uuid: String::new(), ..good() }, "instance_uuid", Reason::MissingField),
        (Event { instance_uuid: "3df201cf".into(), ..good() }, "instance_uuid", Reason::InvalidField),
        (Event { name: String::new(), ..good() }, "name", Reason::MissingField),
        (Event { name: longest() + "x", ..good() }, "name", Reason::OverLimit),
        (Event { name: "x".repeat(256), ..good() }, "name", Reason::OverLimit),
        (Event { name: "new\nline".into(), ..good() }, "name", Reason::InvalidField),
        (Event { name: "nul\0".into(), ..good() }, "name", Reason::InvalidField),
        (Event { tag: longest() + "x", ..good() }, "tag", Reason::OverLimit),
        (Event { tag: "x".repeat(256), ..good() }, "tag", Reason::OverLimit),
        (Event { tag: "bell\u{7}".into(), ..good() }, "tag", Reason::InvalidField),
        (Event { tag: "next\u{85}line".into(), ..good() }, "tag", Reason::InvalidField),
        (Event { tag: "line\u{2028}".into(), ..good() }, "tag", Reason::InvalidField),
        (Event { status: 4, ..good() }, "status", Reason::InvalidField),
        (Event { status: -1, ..good() }, "status", Reason::InvalidField),
        (Event { data: vec![0; 4_097], ..good() }, "data", Reason::OverLimit),
        (Event { held_for: held(-1, 0), ..good() }, "held_for", Reason::InvalidField),
        (Event { held_for: held(i64::MIN, 0), ..good() }, "held_for", Reason::InvalidField),
        (Event { held_for: held(0, -1), ..good() }, "held_for", Reason::InvalidField),
        (Event { held_for: held(i64::MAX, 0), ..good() }, "held_for", Reason::InvalidField),
        (Event { held_for: held(101 * 365 * 86_400, 0), ..good() }, "held_for", Reason::InvalidField),
        (Event { occurred_at: at(-1, 0), ..good() }, "occurred_at", Reason::InvalidField),
        (Event { occurred_at: at(0, -1), ..good() }, "occurred_at", Reason::InvalidField),
        (Event { occurred_at: at(0, 1_000_000_000), ..good() }, "occurred_at", Reason::InvalidField),
        (Event { occurred_at: at(i64::MAX, 0), ..good() }, "occurred_at", Reason::InvalidField),
    ];
    // Each between two good ones, and all in one request.
    let mut events = vec![good()];
    for (event, ..) in &bad {
        events.extend([event.clone(), good()]);
    }
    let results = dispatch(&channel, events).await;
    assert_eq!(results.len(), 2 * bad.len() + 1);
    let mut positions = Vec::new();
    for (n, result) in results.iter().enumerate() {
        if n % 2 == 0 {
            assert_eq!(result.disposition(), Disposition::Retained, "{result:?}");
            positions.push(result.position);
        } else {
            let (event, field, reason) = &bad[n / 2];
            assert_eq!(result.disposition(), Disposition::Rejected, "{event:?}");
            assert_eq!(
                (result.reason(), &result.field),
                (*reason, &format!("events[{n}].{field}")),
                "{event:?}"
            );
            assert!(result.message.starts_with(&result.field) && result.message.len() < 400, "{result:?}");
            assert_eq!((result.position, result.woke, result.event_id.as_str()), (0, 0, ""));
        }
    }
    assert_eq!(
        positions,
        (1..=positions.len() as u64).collect::<Vec<_>>(),
        "a rejected event takes no position"
    );
    let counts = agent.status().await.counts.unwrap();
    assert_eq!((counts.rejected, counts.retained), (bad.len() as u64, positions.len() as u64));
}

#[tokio::test]
async fn what_is_just_within_its_bounds_is_taken() {
    let agent = Agent::start(&[]).await;
    let instance = uuid();
    let good = || event(&instance, "test-event", "");
    let events = vec![
        Event { name: longest(), tag: longest(), ..good() },
        Event { name: " ".into(), ..good() },
        Event { data: vec![0xff; 4_096], ..good() },
        Event { held_for: Some(seconds(100 * 365 * 86_400)), ..good() },
        Event { occurred_at: Some(Timestamp { seconds: 0, nanos: 0 }), ..good() },
        Event { occurred_at: Some(Timestamp { seconds: 18_446_744_073, nanos: 0 }), ..good() },
        Event { instance_uuid: instance.to_uppercase(), ..good() },
        Event { status: 0, ..good() },
        // What the agent sets is not looked at.
        Event { position: 77, received_at: Some(Timestamp { seconds: -5, nanos: -5 }), ..good() },
    ];
    for (n, result) in dispatch(&agent.tcp(), events.clone()).await.iter().enumerate() {
        assert_eq!(result.disposition(), Disposition::Retained, "{:?}: {result:?}", events[n]);
        assert_eq!(result.position, n as u64 + 1);
    }
    assert_eq!(dispatch(&agent.tcp(), vec![good(); 1_000]).await.len(), 1_000);

    let keys = (0..256).map(|n| key("k", &n.to_string())).collect();
    let wait = calls::open(&agent.unix(), WaitRequest { keys, ..wait_for(&instance, &[]) }).await;
    assert_eq!(wait.registered.keys.len(), 256);
}

/// A request that is to be refused.
enum Bad {
    Dispatch(Vec<Event>),
    Wait(WaitRequest),
    Arm(&'static str),
    Skip(SkipRequest),
    Cancel(CancelRequest),
    CancelInstance(CancelInstanceRequest),
    Watch(WatchRequest),
    ListEvents(ListEventsRequest),
    ListWaits(ListWaitsRequest),
    Explain(ExplainRequest),
}

/// The refusal of a request, which has to come as one.
async fn refusal(channel: &Channel, bad: Bad) -> Status {
    let mut receiver = EventReceiverClient::new(channel.clone());
    let mut waits = WaitsClient::new(channel.clone());
    let mut event_log = EventLogClient::new(channel.clone());
    let mut inspector = InspectorClient::new(channel.clone());
    let answer = common::soon("the refusal", async {
        match bad {
            Bad::Dispatch(events) => receiver.dispatch(DispatchRequest { events }).await.map(drop),
            Bad::Wait(request) => waits.wait(request).await.map(drop),
            Bad::Arm(id) => waits.arm(ArmRequest { wait_id: id.into() }).await.map(drop),
            Bad::Skip(request) => waits.skip(request).await.map(drop),
            Bad::Cancel(request) => waits.cancel(request).await.map(drop),
            Bad::CancelInstance(request) => waits.cancel_instance(request).await.map(drop),
            Bad::Watch(request) => event_log.watch(request).await.map(drop),
            Bad::ListEvents(request) => event_log.list_events(request).await.map(drop),
            Bad::ListWaits(request) => inspector.list_waits(request).await.map(drop),
            Bad::Explain(request) => inspector.explain(request).await.map(drop),
        }
    });
    answer.await.expect_err("the request is refused")
}

/// Every one of these is INVALID_ARGUMENT but those that say otherwise.
fn bad_requests(log_id: &str) -> Vec<(Bad, Code, Reason, &'static str, &'static str)> {
    use Code::{FailedPrecondition, InvalidArgument, NotFound};
    use Reason::*;
    let instance = uuid();
    let good = || wait_for(&instance, &[("test-event", "foo")]);
    let keys = |n: usize| (0..n).map(|n| key("k", &n.to_string())).collect::<Vec<_>>();
    let here = || Some(cursor(log_id, 0));
    let opened = || Some(Opened { position: 0, counts_from: None });
    let state = |name: &str, state: i32| KeyState {
        name: name.into(),
        tag: "foo".into(),
        state,
        ..Default::default()
    };
    let names = |n: usize| EventFilter { names: vec!["n".into(); n], ..EventFilter::default() };
    let instances = |n: usize| EventFilter { instance_uuids: vec![uuid(); n], ..EventFilter::default() };
    let why = || "w".repeat(1_025);
    let list = ListEventsRequest::default;

    let wait = |request, reason, field, limit| (Bad::Wait(request), InvalidArgument, reason, field, limit);
    let bad = |bad, reason, field, limit| (bad, InvalidArgument, reason, field, limit);
    vec![
        bad(Bad::Dispatch(vec![]), MissingField, "events", ""),
        bad(Bad::Dispatch(vec![event(&instance, "a", ""); 1_001]), OverLimit, "events", "max_events"),
        wait(WaitRequest { wait_id: "w".into(), ..good() }, InvalidField, "wait_id", ""),
        wait(WaitRequest { instance_uuid: String::new(), ..good() }, MissingField, "instance_uuid", ""),
        wait(WaitRequest { instance_uuid: "i".into(), ..good() }, InvalidField, "instance_uuid", ""),
        wait(WaitRequest { keys: vec![], ..good() }, MissingField, "keys", ""),
        wait(WaitRequest { keys: keys(257), ..good() }, OverLimit, "keys", "max_keys"),
        wait(
            WaitRequest { keys: vec![key("a", ""), key("", "")], ..good() },
            MissingField,
            "keys[1].name",
            "",
        ),
        wait(WaitRequest { keys: vec![key("a", "\n")], ..good() }, InvalidField, "keys[0].tag", ""),
        wait(
            WaitRequest { keys: vec![key("a", &"t".repeat(256))], ..good() },
            OverLimit,
            "keys[0].tag",
            "max_tag",
        ),
        wait(WaitRequest { timeout: Some(seconds(-1)), ..good() }, InvalidField, "timeout", ""),
        wait(WaitRequest { timeout: Some(seconds(86_401)), ..good() }, OverLimit, "timeout", "max_timeout"),
        wait(WaitRequest { timeout: Some(seconds(i64::MAX)), ..good() }, OverLimit, "timeout", "max_timeout"),
        wait(WaitRequest { timeout: Some(seconds(i64::MIN)), ..good() }, InvalidField, "timeout", ""),
        wait(WaitRequest { timeout: Some(seconds(0)), ..good() }, NothingToLookAt, "timeout", ""),
        wait(WaitRequest { lookback: Some(seconds(-1)), ..good() }, InvalidField, "lookback", ""),
        wait(
            WaitRequest { after: here(), lookback: Some(seconds(1)), ..good() },
            ConflictingFields,
            "lookback",
            "",
        ),
        wait(WaitRequest { after: Some(cursor("l", 0)), ..good() }, InvalidField, "after.log_id", ""),
        wait(WaitRequest { after: Some(cursor("", 0)), ..good() }, MissingField, "after.log_id", ""),
        wait(WaitRequest { failure_policy: 3, ..good() }, InvalidField, "failure_policy", ""),
        wait(WaitRequest { opened: opened(), ..good() }, ConflictingFields, "opened", ""),
        wait(
            WaitRequest { key_states: vec![state("test-event", 1)], ..good() },
            ConflictingFields,
            "key_states",
            "",
        ),
        wait(
            WaitRequest { after: here(), opened: Some(Opened { position: 1, counts_from: None }), ..good() },
            InvalidField,
            "opened.position",
            "",
        ),
        wait(
            WaitRequest {
                after: here(),
                opened: Some(Opened { counts_from: Some(Timestamp { seconds: -1, nanos: 0 }), position: 0 }),
                ..good()
            },
            InvalidField,
            "opened.counts_from",
            "",
        ),
        wait(
            WaitRequest {
                after: here(),
                opened: opened(),
                key_states: vec![state("test-event", State::Open as i32), state("other", 1)],
                ..good()
            },
            InvalidField,
            "key_states[1]",
            "",
        ),
        wait(
            WaitRequest {
                after: here(),
                opened: opened(),
                key_states: vec![state("test-event", 9)],
                ..good()
            },
            InvalidField,
            "key_states[0].state",
            "",
        ),
        (
            Bad::Wait(WaitRequest { after: Some(cursor(&uuid(), 0)), ..good() }),
            FailedPrecondition,
            CursorOfAnotherLog,
            "",
            "",
        ),
        (
            Bad::Wait(WaitRequest { after: Some(cursor(log_id, 1 << 40)), ..good() }),
            FailedPrecondition,
            CursorOfAnotherLog,
            "",
            "",
        ),
        bad(Bad::Arm(""), MissingField, "wait_id", ""),
        (Bad::Arm("3df201cf-2451-44f2-8d25-a4ca826fc1f3"), NotFound, WaitNotFound, "", ""),
        bad(Bad::Skip(SkipRequest { wait_id: uuid(), keys: vec![] }), MissingField, "keys", ""),
        bad(Bad::Skip(SkipRequest { wait_id: uuid(), keys: keys(257) }), OverLimit, "keys", "max_keys"),
        (Bad::Skip(SkipRequest { wait_id: uuid(), keys: keys(1) }), NotFound, WaitNotFound, "", ""),
        bad(Bad::Cancel(CancelRequest { wait_id: uuid(), why: why() }), InvalidField, "why", ""),
        (Bad::Cancel(CancelRequest { wait_id: uuid(), why: String::new() }), NotFound, WaitNotFound, "", ""),
        bad(
            Bad::CancelInstance(CancelInstanceRequest { instance_uuid: uuid(), why: why() }),
            InvalidField,
            "why",
            "",
        ),
        bad(Bad::CancelInstance(CancelInstanceRequest::default()), MissingField, "instance_uuid", ""),
        bad(
            Bad::Watch(WatchRequest { filter: Some(names(1_001)), ..Default::default() }),
            OverLimit,
            "filter.names",
            "filter.names",
        ),
        bad(
            Bad::ListEvents(ListEventsRequest { filter: Some(instances(1_001)), ..list() }),
            OverLimit,
            "filter.instance_uuids",
            "filter.instance_uuids",
        ),
        bad(
            Bad::Watch(WatchRequest {
                filter: Some(EventFilter { instance_uuids: vec![uuid(), "x".into()], names: vec![] }),
                ..Default::default()
            }),
            InvalidField,
            "filter.instance_uuids[1]",
            "",
        ),
        bad(
            Bad::Watch(WatchRequest {
                filter: Some(EventFilter { instance_uuids: vec![], names: vec!["\t".into()] }),
                ..Default::default()
            }),
            InvalidField,
            "filter.names[0]",
            "",
        ),
        (
            Bad::Watch(WatchRequest { after: Some(cursor(&uuid(), 0)), ..Default::default() }),
            FailedPrecondition,
            CursorOfAnotherLog,
            "",
            "",
        ),
        (
            Bad::ListEvents(ListEventsRequest { after: Some(cursor(log_id, 1 << 40)), ..list() }),
            FailedPrecondition,
            CursorOfAnotherLog,
            "",
            "",
        ),
        bad(Bad::ListEvents(ListEventsRequest { page_size: 1_001, ..list() }), InvalidField, "page_size", ""),
        bad(
            Bad::ListEvents(ListEventsRequest { page_token: "x".into(), ..list() }),
            InvalidField,
            "page_token",
            "",
        ),
        bad(
            Bad::ListWaits(ListWaitsRequest { page_size: u32::MAX, ..Default::default() }),
            InvalidField,
            "page_size",
            "",
        ),
        bad(
            Bad::ListWaits(ListWaitsRequest { page_token: "x".into(), ..Default::default() }),
            InvalidField,
            "page_token",
            "",
        ),
        bad(
            Bad::ListWaits(ListWaitsRequest { instance_uuid: "x".into(), ..Default::default() }),
            InvalidField,
            "instance_uuid",
            "",
        ),
        bad(Bad::Explain(ExplainRequest::default()), MissingField, "instance_uuid", ""),
        bad(
            Bad::Explain(ExplainRequest { instance_uuid: uuid(), page_token: "1.9.1".into(), page_size: 0 }),
            InvalidField,
            "page_token",
            "",
        ),
        bad(
            Bad::Explain(ExplainRequest {
                instance_uuid: uuid(),
                page_token: String::new(),
                page_size: 1_001,
            }),
            InvalidField,
            "page_size",
            "",
        ),
    ]
}

#[tokio::test]
async fn a_bad_request_is_a_status_with_reason_and_field_and_the_next_one_is_served() {
    let agent = Agent::start(&[]).await;
    let channel = agent.unix();
    for (n, (bad, code, reason, field, limit)) in bad_requests(&agent.log_id).into_iter().enumerate() {
        let status = refusal(&channel, bad).await;
        let expected =
            Said { code, reason: reason.as_str_name().into(), field: field.into(), limit: limit.into() };
        assert_eq!(said(&status), expected, "row {n}: {status:?}");
        assert!(status.message().len() < 400, "row {n}: {status:?}");
        assert_serves(&channel).await;
    }
    let status = agent.status().await;
    assert_eq!((status.open_waits, status.counts.unwrap().waits_opened, status.readers), (0, 0, 0));
    assert_eq!(status.connections, 2, "no refusal has cost a connection");
}

#[tokio::test]
async fn a_bad_request_on_a_dispatch_stream_ends_it_after_the_answers_of_those_before() {
    let agent = Agent::start(&[]).await;
    let channel = agent.tcp();
    let good = || DispatchRequest { events: vec![event(&uuid(), "test-event", "")] };
    let requests = tokio_stream::iter([good(), good(), DispatchRequest::default(), good()]);
    let answers = EventReceiverClient::new(channel.clone()).dispatch_stream(requests).await;
    let mut answers = answers.expect("a stream").into_inner();
    for position in 1..=2 {
        let answer =
            common::soon("an answer", answers.message()).await.expect("an answer").expect("an answer");
        assert_eq!(answer.results[0].position, position);
    }
    let status = common::soon("the status", answers.message()).await.expect_err("no events");
    assert_eq!(calls::why(&status), (Code::InvalidArgument, "MISSING_FIELD".into()));
    assert_eq!(agent.status().await.log.unwrap().head, 2, "what comes after the status is not taken");
    assert_serves(&channel).await;
}
