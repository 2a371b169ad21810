//! The gateway's own token, and what is never shown.

use super::*;

#[tokio::test]
async fn the_gateways_own_token_is_renewed_before_it_expires_and_once_it_is_refused() {
    let fake = Fake::start(START).await;
    fake.give("good", token(&["service"], None, at(100_000)));
    let auth = fake.auth(START);
    // It lives for an hour, and is renewed a minute before.
    for (seconds, asked) in [(0, (1, 1)), (3_539, (2, 1)), (3_540, (2, 1)), (3_600, (3, 2)), (3_700, (4, 2))]
    {
        assert!(may_send(&auth, "good", seconds).await, "{seconds}");
        assert_eq!(fake.asked(), asked, "{seconds}");
    }
    fake.revoke_own();
    assert!(may_send(&auth, "good", 4_000).await);
    assert_eq!(fake.asked(), (6, 3), "it is asked about again with the new token");
}

#[tokio::test]
async fn a_token_of_a_short_life_is_renewed_when_a_tenth_of_it_is_left() {
    let fake = Fake::start(START).await;
    // By a clock that is an hour behind: only how long it lives counts.
    *fake.state.own_life.lock().unwrap() =
        (START.minus(Duration::from_secs(3_600)), START.minus(Duration::from_secs(3_500)));
    let auth = open(Settings { cache_time: Duration::ZERO, ..fake.settings() }, START);
    for (seconds, authentications) in [(0, 1), (89, 1), (90, 2)] {
        assert_eq!(who(&auth, "bad", seconds).await, Ok(None));
        assert_eq!(fake.asked().1, authentications, "{seconds}");
    }
}

#[tokio::test]
async fn a_password_that_is_refused_is_not_tried_at_once_again_and_is_read_anew_then() {
    let fake = Fake::start(START).await;
    fake.give("good", token(&["service"], None, at(3_600)));
    *fake.state.password.lock().unwrap() = "changed".to_owned();
    let auth = fake.auth(START);
    for _ in 0..3 {
        assert!(who(&auth, "good", 0).await.is_err());
    }
    assert_eq!(fake.asked(), (0, 1));
    fake.write_password("changed");
    // The first pause is at most two seconds.
    assert!(may_send(&auth, "good", 2).await);
    assert_eq!(fake.asked(), (1, 2));
}

#[tokio::test]
async fn a_gateway_that_may_not_validate_lets_nobody_in() {
    for status in [401, 403] {
        let fake = Fake::start(START).await;
        fake.give("good", token(&["service"], None, at(3_600)));
        let auth = fake.auth(START);
        assert!(may_send(&auth, "good", 0).await);
        fake.answer_all(status, "");
        assert!(who(&auth, "other", 0).await.is_err());
    }
}

#[tokio::test]
async fn what_is_said_of_a_failure_shows_no_secret() {
    let fake = Fake::start(START).await;
    let auth = fake.auth(START);
    assert_eq!(who(&auth, "s3cret-bad", 0).await, Ok(None));
    for (status, body) in [(200, "{\"token\": {\"user\": \"s3cret\"}}"), (403, "s3cret"), (500, "s3cret")] {
        fake.answer_all(status, body);
        let error = who(&auth, "s3cret-other", 0).await.unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
    let shown = format!("{auth:?}");
    assert!(shown.contains("http://") && !shown.contains("s3cret"), "{shown}");
}
