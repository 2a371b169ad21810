use super::super::names::{NAMES, Purpose};
use super::*;
use crate::event::Status;

const MAX: u16 = 104;

#[tokio::test]
async fn each_name_is_taken_from_its_microversion_on_and_a_schema_error_before() {
    let minors = [1, 2, 50, 51, 52, 75, 76, 77, 81, 82, 83, 92, 93, 94, 103, MAX];
    for known in NAMES {
        for minor in minors {
            let fake = Fake::default();
            let door = fake.door(Auth::None, settings());
            let body = one_event(known.name, BOUND, Some("POWER_ON"));
            let got = post(&door, &format!("2.{minor}"), &body).await;
            if minor >= known.since {
                assert_eq!(got.status, StatusCode::OK, "{} at 2.{minor}", known.name);
                assert_eq!(got.body["events"][0]["code"], 200);
                assert_eq!(fake.taken()[0].purpose, known.purpose);
            } else {
                let message = got.fault(400, "badRequest");
                assert!(message.contains("events[0].name") && message.contains(known.name), "{message}");
                assert!(fake.taken().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn the_names_that_need_a_tag_are_refused_one_by_one_without_it_and_the_others_are_not() {
    let door = Fake::default().door(Auth::None, settings());
    let needing = ["volume-extended", "power-update", "accelerator-request-bound"];
    for known in NAMES {
        let got = post(&door, "latest", &one_event(known.name, BOUND, None)).await;
        let event = &got.body["events"][0];
        let (whole, code, status) = match needing.contains(&known.name) {
            true => (StatusCode::MULTI_STATUS, 400, "failed"),
            false => (StatusCode::OK, 200, "completed"),
        };
        assert_eq!((got.status, &event["code"], &event["status"]), (whole, &code.into(), &status.into()));
        assert!(event.get("tag").is_none());
    }
}

#[tokio::test]
async fn what_starts_work_is_told_from_what_ends_a_wait() {
    let starting: Vec<_> =
        NAMES.iter().filter(|known| known.purpose == Purpose::StartsWork).map(|known| known.name).collect();
    assert_eq!(starting, ["network-changed", "network-vif-deleted", "volume-extended", "power-update"]);
}

#[tokio::test]
async fn each_case_of_an_event_has_its_code_and_any_but_200_makes_the_whole_207() {
    let door = Fake::default().door(Auth::None, settings());
    for (server_uuid, tag, code, status) in [
        (BOUND, Some("v"), 200, "completed"),
        (HOSTLESS, Some("v"), 422, "failed"),
        (UNKNOWN, Some("v"), 404, "failed"),
        (BOUND, None, 400, "failed"),
        (HOSTLESS, None, 400, "failed"),
        (UNKNOWN, None, 404, "failed"),
    ] {
        let got = post(&door, "2.51", &one_event("volume-extended", server_uuid, tag)).await;
        assert_eq!(got.status.as_u16(), if code == 200 { 200 } else { 207 });
        let mut expected = json!({
            "name": "volume-extended", "server_uuid": server_uuid, "status": status, "code": code,
        });
        if let Some(tag) = tag {
            expected["tag"] = tag.into();
        }
        assert_eq!(got.body, json!({"events": [expected]}));
    }
    let mixed = json!({"events": [
        {"name": "network-changed", "server_uuid": UNKNOWN},
        {"name": "network-changed", "server_uuid": BOUND},
        {"name": "network-changed", "server_uuid": HOSTLESS},
    ]});
    let got = post(&door, "2.1", &mixed).await;
    assert_eq!(got.status, StatusCode::MULTI_STATUS);
    let codes: Vec<_> = got.body["events"].as_array().unwrap().iter().map(|event| &event["code"]).collect();
    assert_eq!(codes, [404, 200, 422]);
}

#[tokio::test]
async fn a_reply_has_the_deliverys_status_whatever_the_events_own_was() {
    for (given, meant) in [
        (None, Status::Completed),
        (Some("completed"), Status::Completed),
        (Some("failed"), Status::Failed),
        (Some("in-progress"), Status::InProgress),
    ] {
        let fake = Fake::default();
        let mut body = one_event("network-vif-plugged", BOUND, Some("port"));
        if let Some(status) = given {
            body["events"][0]["status"] = status.into();
        }
        let got = post(&fake.door(Auth::None, settings()), "2.1", &body).await;
        assert_eq!(got.body["events"][0]["status"], "completed");
        assert_eq!(fake.taken()[0].status, meant);
    }
}

#[tokio::test]
async fn a_uuid_in_another_spelling_names_the_same_instance_and_comes_back_as_it_was_sent() {
    let plain = BOUND.replace('-', "");
    for spelled in [
        BOUND.to_owned(),
        BOUND.to_uppercase(),
        plain.clone(),
        plain.to_uppercase(),
        format!("{{{BOUND}}}"),
        format!("urn:uuid:{BOUND}"),
        format!("{}-{}", &plain[..4], &plain[4..]),
    ] {
        let fake = Fake::default();
        let door = fake.door(Auth::None, settings());
        let got = post(&door, "2.1", &one_event("network-changed", &spelled, None)).await;
        assert_eq!(got.status, StatusCode::OK);
        assert_eq!(got.body["events"][0]["server_uuid"], spelled.as_str());
        assert_eq!(fake.taken()[0].instance.to_string(), BOUND);
    }
}

#[tokio::test]
async fn the_published_example_goes_through_word_for_word_with_its_name_admitted() {
    let example = r#"{
        "events": [
            {
                "name": "test-event",
                "tag": "foo",
                "status": "completed",
                "server_uuid": "3df201cf-2451-44f2-8d25-a4ca826fc1f3"
            }
        ]
    }"#;
    let path = "/v2.1/0123456789abcdef/os-server-external-events";
    let json = [("content-type", "application/json")];
    let fake = Fake::default();
    let refused = send(&fake.door(Auth::None, settings()), request("POST", path, &json, example)).await;
    refused.fault(400, "badRequest");

    let admitting = Settings { extra_event_names: vec!["test-event".to_owned()], ..settings() };
    let door = fake.door(Auth::None, admitting);
    for version in ["2.1", "2.93", "latest"] {
        let headers = [json[0], ("openstack-api-version", &format!("compute {version}"))];
        let got = send(&door, request("POST", path, &headers, example)).await;
        assert_eq!(got.status, StatusCode::OK);
        let expected = json!({"events": [{
            "name": "test-event", "tag": "foo", "status": "completed", "code": 200, "server_uuid": BOUND,
        }]});
        assert_eq!(got.body, expected);
    }
    assert_eq!(fake.taken()[0].purpose, Purpose::EndsWait);
}

#[tokio::test]
async fn an_empty_tag_is_a_tag() {
    let door = Fake::default().door(Auth::None, settings());
    let got = post(&door, "latest", &one_event("volume-extended", BOUND, Some(""))).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.body["events"][0]["tag"], "");
}

#[tokio::test]
async fn the_same_is_served_under_both_roots_with_a_project_and_without() {
    let door = Fake::default().door(Auth::None, settings());
    for path in [
        PATH,
        "/v2.1/p/os-server-external-events",
        "/v2/os-server-external-events",
        "/v2/p/os-server-external-events",
    ] {
        let body = one_event("network-changed", BOUND, None).to_string();
        let got = send(&door, request("POST", path, &[], body)).await;
        assert_eq!(got.status, StatusCode::OK, "{path}");
    }
}
