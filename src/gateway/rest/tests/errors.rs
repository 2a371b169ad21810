use super::*;

#[tokio::test]
async fn every_reply_has_a_request_id_of_its_own() {
    let door = Fake::default().door(Auth::None, settings());
    let mut seen = std::collections::HashSet::new();
    for (method, path) in [("POST", PATH), ("GET", PATH), ("GET", "/"), ("GET", "/v9"), ("POST", "/v2/no")] {
        let callers = "req-3df201cf-2451-44f2-8d25-a4ca826fc1f3";
        let got = send(&door, request(method, path, &[("x-openstack-request-id", callers)], "")).await;
        let id = got.header("x-compute-request-id").unwrap();
        assert_eq!(got.header("x-openstack-request-id"), Some(id));
        assert!(uuid::Uuid::parse_str(id.strip_prefix("req-").unwrap()).is_ok());
        assert!(id != callers && seen.insert(id.to_owned()));
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_with_the_right_one() {
    let door = Fake::default().door(Auth::None, settings());
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        for path in [PATH, "/v2.1/p/os-server-external-events", "/v2/os-server-external-events"] {
            let got = send(&door, request(method, path, &[], "")).await;
            got.fault(405, "badMethod");
            assert_eq!(got.header("allow"), Some("POST"));
        }
    }
}

#[tokio::test]
async fn a_path_below_or_with_a_slash_at_its_end_is_404() {
    let door = Fake::default().door(Auth::None, settings());
    for path in [
        "/v2.1/os-server-external-events/",
        "/v2.1/os-server-external-events/3df201cf",
        "/v2.1/p/os-server-external-events/",
        "/v2.1/p/q/os-server-external-events",
        "/v2.1//os-server-external-events",
        "/v2.1/servers",
        "/v2.1/%ff",
        "/v2/os-server-external-events/",
    ] {
        for method in ["POST", "GET"] {
            let body = one_event("network-changed", BOUND, None).to_string();
            let got = send(&door, request(method, path, &[], body)).await;
            assert_eq!(got.status, StatusCode::NOT_FOUND, "{path}");
            got.fault(404, "itemNotFound");
        }
    }
}

#[tokio::test]
async fn what_could_not_be_kept_is_503_and_may_be_tried_again() {
    let unavailable = Unavailable { message: "the disk is full".to_owned() };
    let fake = Fake { unavailable: Some(unavailable), ..Fake::default() };
    let door = fake.door(Auth::None, settings());
    let got = post(&door, "2.1", &one_event("network-changed", BOUND, None)).await;
    assert_eq!(got.fault(503, "serviceUnavailable"), "the disk is full");
    assert_eq!(got.header("retry-after"), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn past_the_requests_in_flight_one_waits_for_a_slot_and_is_then_refused() {
    let fake = Fake { go_on: Arc::new(Semaphore::new(0)), ..Fake::default() };
    let door = fake.door(Auth::None, Settings { max_requests: 1, ..settings() });
    let body = one_event("network-changed", BOUND, None);
    let first = tokio::spawn({
        let (door, body) = (door.clone(), body.clone());
        async move { post(&door, "2.1", &body).await }
    });
    fake.come.acquire().await.unwrap().forget();
    // Time stands still until nothing else can happen, so this one waits its five seconds.
    let refused = post(&door, "2.1", &body).await;
    assert!(refused.fault(503, "serviceUnavailable").contains("max_requests is 1"));
    assert_eq!(refused.header("retry-after"), Some("1"));

    let third = async {
        fake.go_on.add_permits(2);
        post(&door, "2.1", &body).await
    };
    assert_eq!(third.await.status, StatusCode::OK);
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_408_and_the_connection_closes() {
    let door = Fake::default().door(Auth::None, settings());
    let body = Body::from_stream(tokio_stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let got = send(&door, request("POST", PATH, &[], body)).await;
    assert!(got.fault(408, "computeFault").contains("body_timeout"));
    assert_eq!(got.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_front_that_forgets_an_event_is_500() {
    #[derive(Clone)]
    struct Forgetful;
    impl Front for Forgetful {
        async fn take(&self, _: Vec<Arrived>) -> Result<Vec<u16>, Unavailable> {
            Ok(Vec::new())
        }

        fn health(&self) -> Result<(), Unavailable> {
            Ok(())
        }

        fn refused(&self, _: u16, _: &str) {}
    }
    let door = door(Forgetful, Auth::None, settings(), Flag::default());
    post(&door, "2.1", &one_event("network-changed", BOUND, None)).await.fault(500, "computeFault");
}

#[tokio::test]
async fn what_is_refused_as_a_whole_is_told_to_those_who_look() {
    let fake = Fake::default();
    let door = fake.door(Auth::None, settings());
    send(&door, request("POST", PATH, &[], "{")).await.fault(400, "badRequest");
    let unavailable = Some(Unavailable { message: "no room".to_owned() });
    let full = Fake { unavailable, ..fake.clone() };
    let door = full.door(Auth::None, settings());
    post(&door, "2.1", &one_event("network-changed", BOUND, None)).await.fault(503, "serviceUnavailable");
    let refusals = fake.refusals.lock().unwrap().clone();
    assert_eq!(refusals.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [400, 503]);
    assert_eq!(refusals[1].1, "no room");
}
