use super::auth::tokens;
use super::*;

async fn health(door: &Door<Fake>) -> Got {
    send(door, request("GET", "/healthz", &[], "")).await
}

#[tokio::test]
async fn a_gateway_that_can_keep_events_is_healthy_and_one_that_cannot_says_why() {
    let healthy = health(&Fake::default().door(Auth::None, settings())).await;
    assert_eq!((healthy.status, &healthy.body), (StatusCode::OK, &json!({"status": "ok"})));
    let unavailable = Some(Unavailable { message: "the disk is full".to_owned() });
    let fake = Fake { unavailable, ..Fake::default() };
    let sick = health(&fake.door(Auth::None, settings())).await;
    assert_eq!(sick.fault(503, "serviceUnavailable"), "the disk is full");
    assert_eq!(sick.header("retry-after"), Some("1"));
    assert!(fake.refusals.lock().unwrap().is_empty(), "it is no request that was refused");
}

#[tokio::test]
async fn a_gateway_that_stops_is_not_healthy() {
    let stop = Flag::default();
    let door = door(Fake::default(), Auth::None, settings(), stop.clone());
    assert_eq!(health(&door).await.status, StatusCode::OK);
    stop.raise();
    assert_eq!(health(&door).await.fault(503, "serviceUnavailable"), "the gateway is stopping");
}

#[tokio::test]
async fn health_and_the_document_need_neither_a_token_nor_a_slot() {
    let (_folder, auth) = tokens();
    let door = Fake::default().door(auth, Settings { max_requests: 0, ..settings() });
    for path in ["/healthz", "/openapi.json"] {
        let got = send(&door, request("GET", path, &[], "")).await;
        assert_eq!(got.status, StatusCode::OK, "{path}");
        assert!(got.header("x-compute-request-id").is_some());
        let got = send(&door, request("HEAD", path, &[], "")).await;
        assert_eq!((got.status, got.body), (StatusCode::OK, Value::Null));
        let got = send(&door, request("POST", path, &[], "")).await;
        got.fault(405, "badMethod");
        assert_eq!(got.header("allow"), Some("GET, HEAD"));
    }
}
