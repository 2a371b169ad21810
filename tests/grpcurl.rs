//! A client that others wrote needs no files of ours: it finds the services by reflection, reads the comments,
//! calls them over TCP and the Unix socket, and shows why something was refused.

#![cfg(test)]

mod common;

use common::Agent;
use common::calls::uuid;
use common::clients::{Over, curl, curl_on, grpcurl};

/// The published example.
const INSTANCE: &str = "3df201cf-2451-44f2-8d25-a4ca826fc1f3";
const EXAMPLE: &str = r#"{"events":[{"name":"test-event","tag":"foo","instance_uuid":"3df201cf-2451-44f2-8d25-a4ca826fc1f3"}]}"#;
const DISPATCH: &str = "wakeful.v1.EventReceiver/Dispatch";
const CHECK: &str = "grpc.health.v1.Health/Check";

const ON_TCP: [&str; 4] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "wakeful.v1.EventReceiver",
];
const ON_UNIX: [&str; 8] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "wakeful.v1.Bindings",
    "wakeful.v1.EventLog",
    "wakeful.v1.EventReceiver",
    "wakeful.v1.Inspector",
    "wakeful.v1.Waits",
];

#[tokio::test]
async fn list_names_the_services_that_are_served_and_describe_shows_their_comments() {
    let Some(grpcurl) = grpcurl() else { return };
    let agent = Agent::start(&[]).await;
    for (over, services) in [(Over::Tcp, &ON_TCP[..]), (Over::Unix, &ON_UNIX[..])] {
        let listed = curl(grpcurl, &agent, over, &[], &["list"]).await;
        assert_eq!(listed.out.lines().collect::<Vec<_>>(), services, "{listed:?}");
        for (symbol, comment) in [
            ("wakeful.v1.EventReceiver", "// Hands events to the log."),
            ("wakeful.v1.EventReceiver.Dispatch", "// Hands events to the log."),
            ("wakeful.v1.Event", "// The instance that the event is about, a UUID. Required."),
            ("wakeful.v1.DispatchResult.Disposition", "// It met or failed a key of `woke` open waits"),
            ("wakeful.v1.Reason.Code", "// A required field is absent or empty."),
        ] {
            let described = curl(grpcurl, &agent, over, &[], &["describe", symbol]).await;
            assert!(described.out.contains(comment), "{symbol} over {over:?}: {described:?}");
        }
    }
    let described = curl(grpcurl, &agent, Over::Unix, &[], &["describe", "wakeful.v1.WaitRequest"]).await;
    assert!(
        described.out.contains("// Look from the first event received within this span"),
        "{described:?}"
    );
}

#[tokio::test]
async fn each_service_has_its_health_by_name_and_the_whole_by_the_empty_one() {
    let Some(grpcurl) = grpcurl() else { return };
    let agent = Agent::start(&[]).await;
    let services = ["", "EventReceiver", "Waits", "EventLog", "Inspector"];
    for over in [Over::Tcp, Over::Unix] {
        for service in services {
            let name = if service.is_empty() { String::new() } else { format!("wakeful.v1.{service}") };
            let flags = ["-d", &format!(r#"{{"service":"{name}"}}"#)];
            let checked = curl(grpcurl, &agent, over, &flags, &[CHECK]).await;
            assert!(checked.out.contains(r#""status": "SERVING""#), "{name:?} over {over:?}: {checked:?}");
        }
        let unknown = curl(grpcurl, &agent, over, &["-d", r#"{"service":"nobody"}"#], &[CHECK]).await;
        assert!(!unknown.ok && unknown.err.contains("NotFound"), "{unknown:?}");
    }
}

#[tokio::test]
async fn the_published_example_is_retained_without_a_wait_and_wakes_one_that_is_open() {
    let Some(grpcurl) = grpcurl() else { return };
    let agent = Agent::start(&[]).await;
    for over in [Over::Tcp, Over::Unix] {
        let sent = curl(grpcurl, &agent, over, &["-d", EXAMPLE], &[DISPATCH]).await;
        assert!(sent.out.contains(r#""disposition": "RETAINED""#) && sent.ok, "{over:?}: {sent:?}");

        let keys = r#"[{"name":"test-event","tag":"foo"}]"#;
        let request = format!(r#"{{"instance_uuid":"{INSTANCE}","keys":{keys},"timeout":"60s"}}"#);
        let mut wait = curl_on(grpcurl, &agent, Over::Unix, &request, "wakeful.v1.Waits/Wait");
        let mut printed = String::new();
        // All of Registered is printed once its object is closed.
        while !printed.ends_with("\n}\n") {
            printed += &wait.line().await;
            printed.push('\n');
        }
        assert!(printed.contains(r#""registered": {"#), "{printed}");
        assert!(printed.contains(r#""state": "OPEN""#), "{printed}");

        let sent = curl(grpcurl, &agent, over, &["-d", EXAMPLE], &[DISPATCH]).await;
        assert!(sent.out.contains(r#""disposition": "WOKE""#), "{over:?}: {sent:?}");
        assert!(sent.out.contains(r#""woke": 1"#), "{over:?}: {sent:?}");

        printed.clear();
        while let Some(line) = wait.line_or_end().await {
            printed += &line;
            printed.push('\n');
        }
        let places = [r#""progress": {"#, r#""outcome": {"#].map(|what| printed.find(what));
        assert!(places[0].is_some() && places[0] < places[1], "{printed}");
        assert!(printed.contains(r#""kind": "COMPLETED""#), "{printed}");
        assert!(wait.ended(common::BOUND).await.success());
    }
}

#[tokio::test]
async fn a_wait_is_cancelled_and_seen_with_grpcurl_alone() {
    let Some(grpcurl) = grpcurl() else { return };
    let agent = Agent::start(&[]).await;
    let id = uuid();
    let request = format!(r#"{{"wait_id":"{id}","instance_uuid":"{INSTANCE}","keys":[{{"name":"a"}}]}}"#);
    let mut wait = curl_on(grpcurl, &agent, Over::Unix, &request, "wakeful.v1.Waits/Wait");
    agent.until_status("the wait is open", |status| status.open_waits == 1).await;

    let listed = curl(grpcurl, &agent, Over::Unix, &[], &["wakeful.v1.Inspector/ListWaits"]).await;
    assert!(listed.out.contains(&format!(r#""waitId": "{id}""#)), "{listed:?}");
    let flags = ["-d", &format!(r#"{{"wait_id":"{id}","why":"no more"}}"#)];
    let cancelled = curl(grpcurl, &agent, Over::Unix, &flags, &["wakeful.v1.Waits/Cancel"]).await;
    assert!(cancelled.ok, "{cancelled:?}");

    let mut printed = String::new();
    while let Some(line) = wait.line_or_end().await {
        printed += &line;
    }
    for what in [r#""kind": "CANCELLED""#, r#""reason": "CANCELLED""#, r#""why": "no more""#] {
        assert!(printed.contains(what), "{what}: {printed}");
    }
    let status = curl(grpcurl, &agent, Over::Unix, &[], &["wakeful.v1.Inspector/GetStatus"]).await;
    assert!(
        status.out.contains(r#""waitsCancelled": "1""#) && status.out.contains(r#""max_waits": "100000""#)
    );
    let flags = ["-d", &format!(r#"{{"instance_uuid":"{INSTANCE}"}}"#)];
    let explained = curl(grpcurl, &agent, Over::Unix, &flags, &["wakeful.v1.Inspector/Explain"]).await;
    assert!(explained.out.contains(r#""waitOpened": {"#) && explained.out.contains(r#""waitEnded": {"#));
}

#[tokio::test]
async fn a_bad_event_is_shown_as_rejected_with_its_field() {
    let Some(grpcurl) = grpcurl() else { return };
    let agent = Agent::start(&[]).await;
    let request = format!(r#"{{"events":[{{"name":"a","instance_uuid":"{INSTANCE}"}},{{"name":"a"}}]}}"#);
    let sent = curl(grpcurl, &agent, Over::Tcp, &["-d", &request], &[DISPATCH]).await;
    for what in ["RETAINED", "REJECTED", "MISSING_FIELD", "events[1].instance_uuid"] {
        assert!(sent.out.contains(what), "{what}: {sent:?}");
    }
}

/// What is called with what, and the code, reason and field that it is refused with.
fn bad_requests(log_id: &str) -> Vec<(&'static str, String, &'static str, &'static str, &'static str)> {
    let instance = format!(r#""instance_uuid":"{INSTANCE}""#);
    let key = r#""keys":[{"name":"test-event"}]"#;
    let here = format!(r#""after":{{"log_id":"{log_id}"}}"#);
    let wait = |rest: &str| format!("{{{instance},{key},{rest}}}");
    let events = vec![format!(r#"{{"name":"a",{instance}}}"#); 1_001].join(",");
    let keys = vec![r#"{"name":"a"}"#; 257].join(",");
    let why = "w".repeat(1_025);
    let names = vec![r#""a""#; 1_001].join(",");
    let (bad, other_log) = ("InvalidArgument", "CURSOR_OF_ANOTHER_LOG");
    let waits = "wakeful.v1.Waits/Wait";
    let (watch, list) = ("wakeful.v1.EventLog/Watch", "wakeful.v1.EventLog/ListEvents");
    let (list_waits, explain) = ("wakeful.v1.Inspector/ListWaits", "wakeful.v1.Inspector/Explain");
    vec![
        (DISPATCH, "{}".into(), bad, "MISSING_FIELD", "events"),
        (DISPATCH, format!(r#"{{"events":[{events}]}}"#), bad, "OVER_LIMIT", "events"),
        (waits, wait(r#""wait_id":"w""#), bad, "INVALID_FIELD", "wait_id"),
        (waits, format!("{{{key}}}"), bad, "MISSING_FIELD", "instance_uuid"),
        (waits, format!(r#"{{"instance_uuid":"i",{key}}}"#), bad, "INVALID_FIELD", "instance_uuid"),
        (waits, format!("{{{instance}}}"), bad, "MISSING_FIELD", "keys"),
        (waits, format!(r#"{{{instance},"keys":[{keys}]}}"#), bad, "OVER_LIMIT", "keys"),
        (waits, format!(r#"{{{instance},"keys":[{{"tag":"t"}}]}}"#), bad, "MISSING_FIELD", "keys[0].name"),
        (waits, wait(r#""timeout":"-1s""#), bad, "INVALID_FIELD", "timeout"),
        (waits, wait(r#""timeout":"86401s""#), bad, "OVER_LIMIT", "timeout"),
        (waits, wait(r#""timeout":"0s""#), bad, "NOTHING_TO_LOOK_AT", "timeout"),
        (waits, wait(&format!(r#"{here},"lookback":"1s""#)), bad, "CONFLICTING_FIELDS", "lookback"),
        (waits, wait(r#""lookback":"-1s""#), bad, "INVALID_FIELD", "lookback"),
        (waits, wait(r#""after":{"log_id":"l"}"#), bad, "INVALID_FIELD", "after.log_id"),
        (waits, wait(&format!(r#""after":{{"log_id":"{INSTANCE}"}}"#)), "FailedPrecondition", other_log, ""),
        (
            waits,
            wait(&format!(r#""after":{{"log_id":"{log_id}","position":"99"}}"#)),
            "FailedPrecondition",
            other_log,
            "",
        ),
        (waits, wait(r#""failure_policy":77"#), bad, "INVALID_FIELD", "failure_policy"),
        (waits, wait(r#""opened":{}"#), bad, "CONFLICTING_FIELDS", "opened"),
        (
            waits,
            wait(&format!(r#"{here},"opened":{{"position":"1"}}"#)),
            bad,
            "INVALID_FIELD",
            "opened.position",
        ),
        (waits, wait(r#""key_states":[{"name":"test-event"}]"#), bad, "CONFLICTING_FIELDS", "key_states"),
        (
            waits,
            wait(&format!(r#"{here},"opened":{{}},"key_states":[{{"name":"b","state":"OPEN"}}]"#)),
            bad,
            "INVALID_FIELD",
            "key_states[0]",
        ),
        ("wakeful.v1.Waits/Arm", format!(r#"{{"wait_id":"{INSTANCE}"}}"#), "NotFound", "WAIT_NOT_FOUND", ""),
        ("wakeful.v1.Waits/Arm", "{}".into(), bad, "MISSING_FIELD", "wait_id"),
        ("wakeful.v1.Waits/Skip", format!(r#"{{"wait_id":"{INSTANCE}"}}"#), bad, "MISSING_FIELD", "keys"),
        (
            "wakeful.v1.Waits/Cancel",
            format!(r#"{{"wait_id":"{INSTANCE}","why":"{why}"}}"#),
            bad,
            "INVALID_FIELD",
            "why",
        ),
        ("wakeful.v1.Waits/CancelInstance", "{}".into(), bad, "MISSING_FIELD", "instance_uuid"),
        (watch, format!(r#"{{"filter":{{"names":[{names}]}}}}"#), bad, "OVER_LIMIT", "filter.names"),
        (watch, r#"{"filter":{"names":["a",""]}}"#.into(), bad, "MISSING_FIELD", "filter.names[1]"),
        (watch, format!(r#"{{"after":{{"log_id":"{INSTANCE}"}}}}"#), "FailedPrecondition", other_log, ""),
        (list, r#"{"page_size":1001}"#.into(), bad, "INVALID_FIELD", "page_size"),
        (list, r#"{"page_token":"t"}"#.into(), bad, "INVALID_FIELD", "page_token"),
        (list_waits, r#"{"page_size":1001}"#.into(), bad, "INVALID_FIELD", "page_size"),
        (list_waits, r#"{"page_token":"t"}"#.into(), bad, "INVALID_FIELD", "page_token"),
        (explain, "{}".into(), bad, "MISSING_FIELD", "instance_uuid"),
        (explain, format!(r#"{{{instance},"page_token":"t"}}"#), bad, "INVALID_FIELD", "page_token"),
    ]
}

#[tokio::test]
async fn every_refusal_is_shown_with_its_reason_and_field() {
    let Some(grpcurl) = grpcurl() else { return };
    let agent = Agent::start(&[]).await;
    for (method, data, code, reason, field) in bad_requests(&agent.log_id) {
        let refused = curl(grpcurl, &agent, Over::Unix, &["-d", &data], &[method]).await;
        let shown: String = data.chars().take(200).collect();
        let what = format!("{method} {shown}: {refused:?}");
        assert!(!refused.ok, "{what}");
        assert!(refused.err.contains(&format!("Code: {code}\n")), "{what}");
        assert!(refused.err.contains(&format!(r#""reason":"{reason}""#)), "{what}");
        assert!(refused.err.contains(r#""domain":"wakeful""#), "{what}");
        let violation = format!(r#""field":"{field}""#);
        assert!(field.is_empty() != refused.err.contains(&violation), "{what}");
    }
    // The same over TCP, for what is served there.
    let refused = curl(grpcurl, &agent, Over::Tcp, &["-d", "{}"], &[DISPATCH]).await;
    assert!(refused.err.contains(r#""reason":"MISSING_FIELD""#), "{refused:?}");
    assert!(refused.err.contains(r#""field":"events""#), "{refused:?}");
    let sent = curl(grpcurl, &agent, Over::Tcp, &["-d", EXAMPLE], &[DISPATCH]).await;
    assert!(sent.ok, "{sent:?}");
}

#[tokio::test]
async fn the_time_that_grpcurl_gives_a_call_is_kept() {
    let Some(grpcurl) = grpcurl() else { return };
    let agent = Agent::start(&[]).await;
    let request = format!(r#"{{"instance_uuid":"{INSTANCE}","keys":[{{"name":"a"}}]}}"#);
    let flags = ["-max-time", "0.5", "-d", &request];
    let waited = curl(grpcurl, &agent, Over::Unix, &flags, &["wakeful.v1.Waits/Wait"]).await;
    assert!(!waited.ok && waited.err.contains("Code: DeadlineExceeded"), "{waited:?}");
    agent.until_status("the wait is gone", |status| status.open_waits == 0).await;
}
