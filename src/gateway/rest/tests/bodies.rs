use super::*;

/// The message of the 400 that this body gets.
async fn refused(body: impl Into<Body>) -> String {
    let fake = Fake::default();
    let got = send(&fake.door(Auth::None, settings()), request("POST", PATH, &[], body)).await;
    assert!(fake.taken().is_empty());
    got.fault(400, "badRequest")
}

fn with(field: &str, value: Value) -> Value {
    let mut body = one_event("network-changed", BOUND, None);
    body["events"][0][field] = value;
    body
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    for body in ["", " ", "{", "[1,", "nonsense", "{} {}", "\u{feff}{}", "{'events': []}"] {
        refused(body).await;
    }
    refused(b"{\"events\": [{\"name\": \"\xff\xfe\"}]}".to_vec()).await;
    refused(b"\xc3\x28".to_vec()).await;
}

#[tokio::test]
async fn deep_nesting_is_an_error_and_not_the_end_of_the_stack() {
    for deep in ["[".repeat(500_000), "{\"events\":".repeat(100_000)] {
        assert!(refused(deep).await.contains("JSON"));
    }
    let fake = Fake::default();
    let unknown = format!("{{\"x\": {}, \"events\": []}}", "[".repeat(500_000));
    let request = request("POST", "/v2/os-server-external-events", &[], unknown);
    send(&fake.door(Auth::None, settings()), request).await.fault(400, "badRequest");
}

#[tokio::test]
async fn a_message_names_the_field_and_what_was_wrong_with_it() {
    for (body, field, wrong) in [
        (json!([]), "the body", "a list"),
        (json!(null), "the body", "null"),
        (json!({}), "events", "is required"),
        (json!({"events": []}), "events", "at least one"),
        (json!({"events": null}), "events", "null"),
        (json!({"events": {}}), "events", "an object"),
        (json!({"events": [1]}), "events[0]", "a number"),
        (json!({"events": [{"server_uuid": BOUND}]}), "events[0].name", "is required"),
        (json!({"events": [{"name": "network-changed"}]}), "events[0].server_uuid", "is required"),
        (with("name", json!(7)), "events[0].name", "a number"),
        (with("name", json!("no-such")), "events[0].name", "\"no-such\""),
        (with("name", json!("Network-Changed")), "events[0].name", "\"Network-Changed\""),
        (with("server_uuid", json!("nope")), "events[0].server_uuid", "\"nope\""),
        (with("server_uuid", json!(null)), "events[0].server_uuid", "null"),
        (with("server_uuid", json!("3df201cf-2451-44f2-8d25-a4ca826fc1f")), "events[0].server_uuid", "UUID"),
        (with("tag", json!(null)), "events[0].tag", "null"),
        (with("tag", json!(true)), "events[0].tag", "a boolean"),
        (with("tag", json!("a\u{0}b")), "events[0].tag", "control character"),
        (with("tag", json!("x".repeat(256))), "events[0].tag", "255"),
        (with("status", json!("done")), "events[0].status", "\"done\""),
        (with("status", json!(null)), "events[0].status", "null"),
        (with("code", json!(200)), "events[0]", "\"code\""),
        (with("data", json!({})), "events[0]", "\"data\""),
        (json!({"events": [1], "event": 1}), "the body", "\"event\""),
    ] {
        let message = refused(body.to_string()).await;
        assert!(message.contains(field) && message.contains(wrong), "{body}: {message}");
    }
    let mut second = one_event("network-changed", BOUND, None);
    second["events"].as_array_mut().unwrap().push(json!({"name": "network-changed", "server_uuid": 1}));
    assert!(refused(second.to_string()).await.contains("events[1].server_uuid"));
}

#[tokio::test]
async fn a_tag_has_255_characters_at_most_whatever_their_bytes() {
    let fake = Fake::default();
    let tag = "é".repeat(255);
    let got = post(&fake.door(Auth::None, settings()), "2.1", &with("tag", json!(tag))).await;
    assert_eq!(got.body["events"][0]["tag"], tag);
    assert_eq!(fake.taken()[0].tag.as_deref(), Some(&*tag));
    assert!(refused(with("tag", json!("é".repeat(256))).to_string()).await.contains("256"));
}

#[tokio::test]
async fn of_a_key_that_is_there_twice_the_last_counts() {
    let fake = Fake::default();
    let body = format!(
        r#"{{"events": 1, "events": [
            {{"name": "no-such", "name": "network-vif-plugged", "server_uuid": "{BOUND}", "tag": "a", "tag": "b"}}
        ]}}"#
    );
    let got = send(&fake.door(Auth::None, settings()), request("POST", PATH, &[], body)).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.body["events"][0]["tag"], "b");
    assert_eq!(&*fake.taken()[0].name, "network-vif-plugged");
}

#[tokio::test]
async fn under_v2_unknown_fields_are_let_through_and_do_not_come_back() {
    let door = Fake::default().door(Auth::None, settings());
    let mut body = with("colour", json!("red"));
    body["more"] = json!({"a": [1]});
    let path = "/v2/os-server-external-events";
    let got = send(&door, request("POST", path, &[], body.to_string())).await;
    assert_eq!(got.status, StatusCode::OK);
    let expected =
        json!({"name": "network-changed", "server_uuid": BOUND, "status": "completed", "code": 200});
    assert_eq!(got.body, json!({"events": [expected]}));
    // All else is as at 2.1.
    for body in [with("tag", json!(null)), one_event("volume-extended", BOUND, Some("v"))] {
        send(&door, request("POST", path, &[], body.to_string())).await.fault(400, "badRequest");
    }
}

#[tokio::test]
async fn a_body_over_the_bound_is_413_whether_it_says_its_length_or_not() {
    let small = Settings { max_body: 200, ..settings() };
    let door = Fake::default().door(Auth::None, small);
    let body = one_event("network-vif-plugged", BOUND, Some(""));
    let room = 200 - body.to_string().len();
    let fits = one_event("network-vif-plugged", BOUND, Some(&"x".repeat(room)));
    assert_eq!(post(&door, "2.1", &fits).await.status, StatusCode::OK);
    let over = one_event("network-vif-plugged", BOUND, Some(&"x".repeat(room + 1)));
    assert!(post(&door, "2.1", &over).await.fault(413, "overLimit").contains("max_body"));
    let parts = over
        .to_string()
        .into_bytes()
        .chunks(50)
        .map(|part| Ok::<_, std::io::Error>(part.to_vec()))
        .collect::<Vec<_>>();
    let unsaid = Body::from_stream(tokio_stream::iter(parts));
    send(&door, request("POST", PATH, &[], unsaid)).await.fault(413, "overLimit");
}

#[tokio::test]
async fn the_known_media_types_are_read_as_json_and_others_are_415() {
    let door = Fake::default().door(Auth::None, settings());
    let body = one_event("network-changed", BOUND, None).to_string();
    for taken in [
        "",
        "text/plain",
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/vnd.openstack.compute+json",
        "application/vnd.openstack.compute+json;version=2.1",
    ] {
        let got = send(&door, request("POST", PATH, &[("content-type", taken)], body.clone())).await;
        assert_eq!(got.status, StatusCode::OK, "{taken}");
    }
    for other in ["application/xml", "application/x-www-form-urlencoded", "json", "text/plain2"] {
        let got = send(&door, request("POST", PATH, &[("content-type", other)], body.clone())).await;
        got.fault(415, "badMediaType");
    }
}
