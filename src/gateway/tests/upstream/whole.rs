//! Answers of the upstream to a request as a whole, and none at all.

use super::*;
use crate::net::testing::{listener, nowhere};

/// An instance whose events are kept here and go on, and one that only the upstream may know.
async fn two(post: &Post) -> (InstanceId, InstanceId) {
    (instance(post, &[bind(Role::MigrationSource)]).await, InstanceId::random())
}

/// Checks that a request is 503 though what is here of it is kept.
async fn assert_unavailable(post: &Post, front: &Door<Keeper>, row: &str) {
    let (both, theirs) = two(post).await;
    let (before, refused) = (kept(post), post.ends.counts().refused);
    let events = json!([event(both, PLUGGED), event(theirs, PLUGGED)]);
    let response = send(front, &[], PATH, &events).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"1".parse().unwrap()),
        "{row}"
    );
    let told = body(response).await;
    assert!(
        told["serviceUnavailable"]["message"].as_str().is_some_and(|told| told.contains("upstream")),
        "{row}: {told}"
    );
    assert_eq!((kept(post), post.ends.counts().refused), (before + 1, refused + 1), "{row}");
    assert_eq!(post.ends.newest_refused(1)[0].code, 503, "{row}");
}

#[tokio::test]
async fn while_the_upstream_is_away_what_is_here_is_kept_and_the_request_is_503() {
    let (post, nova) = (post(), Nova::start().await);
    let front = front(&post, nova.asked());
    let answers = |events: Value| json!({ "events": events }).to_string();
    let other = json!({"name": PLUGGED, "server_uuid": InstanceId::random().to_string(), "code": 200});
    let rows = [
        (500, String::new()),
        (503, String::new()),
        (502, "<html>".to_owned()),
        (302, String::new()),
        (201, answers(json!([]))),
        (405, String::new()),
        (404, "Not Found".to_owned()),
        (
            404,
            json!({"itemNotFound": {"code": 404, "message": "The resource could not be found."}}).to_string(),
        ),
        (200, String::new()),
        (200, "{}".to_owned()),
        (207, answers(json!([]))),
        (207, answers(json!([other]))),
        (207, answers(json!([other, other]))),
        (207, answers(json!([other, {"name": PLUGGED}]))),
        (200, "x".repeat(5 << 20)),
    ];
    for (status, body) in rows {
        nova.answers_all(Some((status, &body)));
        assert_unavailable(&post, &front, &format!("{status} {:.60}", body)).await;
    }
    // It is back.
    nova.answers_all(None);
    let (both, theirs) = two(&post).await;
    nova.answers(theirs, 200);
    let events = json!([event(theirs, PLUGGED), event(both, PLUGGED)]);
    assert_eq!(ask(&front, events).await, (200, vec![told(200), told(200)]));
}

#[tokio::test]
async fn answers_in_another_order_are_none() {
    let (post, nova) = (post(), Nova::start().await);
    let front = front(&post, nova.asked());
    let [one, other] = [(); 2].map(|()| event(InstanceId::random(), PLUGGED));
    let answered = |event: &Value, code: u16| {
        let mut event = event.clone();
        event["code"] = code.into();
        event
    };
    for (events, status) in [
        (json!([answered(&one, 200), answered(&other, 422)]), 207),
        (json!([answered(&other, 422), answered(&one, 200)]), 503),
        (json!([answered(&one, 200), answered(&other, 0)]), 503),
    ] {
        nova.answers_all(Some((207, &json!({ "events": events }).to_string())));
        assert_eq!(ask(&front, json!([one, other])).await.0, status);
    }
}

#[tokio::test]
async fn the_same_where_nobody_listens_and_where_nothing_comes_in_time() {
    let (post, nova) = (post(), Nova::start().await);
    let gone: BaseUrl = nowhere().await;
    let front_to_nobody = front(&post, Asked { url: gone, ..nova.asked() });
    assert_unavailable(&post, &front_to_nobody, "nobody listens").await;

    nova.inside.go_on.forget_permits(1_000);
    let short = Asked { timeout: Duration::from_millis(100), ..nova.asked() };
    assert_unavailable(&post, &front(&post, short), "no answer").await;
}

#[tokio::test]
async fn what_the_caller_has_to_mend_comes_back_as_the_upstream_says_it() {
    let (post, nova) = (post(), Nova::start().await);
    let front = front(&post, nova.asked());
    for status in [400, 401, 403, 406, 413, 429] {
        let whole = json!({"error": {"code": status, "message": "not so"}});
        nova.answers_all(Some((status, &whole.to_string())));
        let (both, theirs) = two(&post).await;
        let before = kept(&post);
        let response = send(&front, &[], PATH, &json!([event(theirs, PLUGGED), event(both, PLUGGED)])).await;
        assert_eq!(response.status().as_u16(), status);
        let headers = response.headers();
        assert_eq!(headers["www-authenticate"], "Keystone uri=\"http://k\"");
        assert!(headers["retry-after"] == "7" && !headers.contains_key("x-secret"));
        assert_eq!(headers["openstack-api-version"], "compute 2.104");
        assert_eq!(body(response).await, whole);
        assert_eq!((kept(&post), post.ends.newest_refused(1)[0].code), (before + 1, status));
    }
}

#[tokio::test]
async fn an_older_nova_that_found_none_of_the_instances_is_404_for_each() {
    let (post, nova) = (post(), Nova::start().await);
    let front = front(&post, nova.asked());
    let none = json!({"itemNotFound": {"code": 404, "message": "No instances found for any event"}});
    nova.answers_all(Some((404, &none.to_string())));
    let (both, theirs) = two(&post).await;
    let answered = ask(&front, json!([event(theirs, PLUGGED), event(both, PLUGGED)])).await;
    assert_eq!(answered, (207, vec![told(404), told(200)]));
}

#[tokio::test]
async fn a_slow_upstream_leaves_room_for_what_is_here() {
    let (post, nova) = (post(), Nova::start().await);
    let front = front(&post, Asked { max_requests: 1, ..nova.asked() });
    let here = instance(&post, &[HOST]).await;
    nova.inside.go_on.forget_permits(1_000);
    let theirs = InstanceId::random();
    nova.answers(theirs, 200);
    let slow = tokio::spawn({
        let front = front.clone();
        async move { ask(&front, json!([event(theirs, PLUGGED)])).await }
    });
    nova.inside.come.acquire().await.unwrap().forget();
    assert_unavailable(&post, &front, "another waits already").await;
    assert_eq!(ask(&front, json!([event(here, PLUGGED)])).await, (200, vec![told(200)]));
    nova.inside.go_on.add_permits(1);
    assert_eq!(slow.await.unwrap(), (200, vec![told(200)]));
}

#[tokio::test]
async fn two_gateways_that_are_each_others_upstream_end_it() {
    let (one, other) = (post(), post());
    let (listener, address) = listener().await;
    let asked = |url: BaseUrl| Asked {
        url,
        ca_file: None,
        timeout: Duration::from_secs(20),
        max_requests: 10,
        max_body: 1 << 20,
    };
    let first = front(&one, asked(format!("http://{address}").parse().unwrap()));
    let server = Server::start(first.clone()).await;
    let _second = Server::on(listener, address, front(&other, asked(server.url())));
    // What the second has is well, and what neither has comes to an end.
    let theirs = instance(&other, &[HOST]).await;
    assert_eq!(ask(&first, json!([event(theirs, PLUGGED)])).await, (200, vec![told(200)]));
    assert_eq!((kept(&one), kept(&other)), (0, 1));
    assert_unavailable(&one, &first, "a loop").await;
    assert_eq!(other.ends.newest_refused(1)[0].code, 503);
    assert!(other.ends.newest_refused(1)[0].why.contains("another gateway"));
}
