//! Tokens of Keystone: what is asked, what is remembered, and what happens while it is away.

mod fake;
mod front;
mod own;

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use self::fake::{Fake, open, token};
use super::super::auth::keystone::Settings;
use super::super::auth::{Auth, Caller, Roles, Unsure};
use crate::clock::Time;
use crate::net::testing::nowhere;

/// When the tests begin.
const START: Time = Time::from_nanos(1_700_000_000_000_000_000);

fn at(seconds: u64) -> Time {
    START.plus(Duration::from_secs(seconds))
}

/// Who has this token, so many seconds after the start.
async fn who(auth: &Auth, token: &str, seconds: u64) -> Result<Option<Caller>, Unsure> {
    let mut headers = HeaderMap::new();
    headers.insert("x-auth-token", HeaderValue::from_str(token).unwrap());
    auth.caller(&headers, at(seconds)).await
}

async fn may_send(auth: &Auth, token: &str, seconds: u64) -> bool {
    who(auth, token, seconds).await.unwrap().is_some_and(|caller| caller.may_send)
}

#[tokio::test]
async fn a_valid_token_is_asked_about_once_within_its_time_and_then_again() {
    let fake = Fake::start(START).await;
    fake.give("good", token(&["member", "Service"], Some("p1"), at(3_600)));
    let auth = fake.auth(START);
    let caller = who(&auth, "good", 0).await.unwrap().unwrap();
    assert_eq!((caller.name.as_str(), caller.project_id.as_deref()), ("neutron", Some("p1")));
    assert!(may_send(&auth, "good", 0).await && may_send(&auth, "good", 59).await);
    assert_eq!(fake.asked(), (1, 1));
    assert!(may_send(&auth, "good", 60).await);
    assert_eq!(fake.asked(), (2, 1));
}

#[tokio::test]
async fn a_revoked_token_is_noticed_within_that_time() {
    let fake = Fake::start(START).await;
    fake.give("good", token(&["service"], None, at(3_600)));
    let auth = fake.auth(START);
    assert!(may_send(&auth, "good", 0).await);
    fake.revoke("good");
    assert!(may_send(&auth, "good", 59).await);
    assert_eq!(who(&auth, "good", 60).await, Ok(None));
}

#[tokio::test]
async fn no_token_is_remembered_past_its_own_end() {
    let fake = Fake::start(START).await;
    fake.give("short", token(&["service"], None, at(10)));
    let auth = fake.auth(START);
    assert!(may_send(&auth, "short", 0).await);
    fake.revoke("short");
    assert!(may_send(&auth, "short", 9).await);
    assert_eq!(who(&auth, "short", 10).await, Ok(None));
}

#[tokio::test]
async fn nobodys_token_is_remembered_for_ten_seconds() {
    let fake = Fake::start(START).await;
    let auth = fake.auth(START);
    for (seconds, asked) in [(0, 1), (9, 1), (10, 2)] {
        assert_eq!(who(&auth, "bad", seconds).await, Ok(None));
        assert_eq!(fake.asked().0, asked);
    }
    assert_eq!(who(&auth, "", 0).await, Ok(None));
    assert_eq!(auth.caller(&HeaderMap::new(), START).await, Ok(None));
    assert_eq!(fake.asked().0, 2, "no token is nothing to ask about");
}

#[tokio::test]
async fn a_cache_time_of_0_remembers_nothing() {
    let fake = Fake::start(START).await;
    fake.give("good", token(&["service"], None, at(3_600)));
    let auth = open(Settings { cache_time: Duration::ZERO, ..fake.settings() }, START);
    for asked in [2, 4] {
        assert!(may_send(&auth, "good", 0).await);
        assert_eq!(who(&auth, "bad", 0).await, Ok(None));
        assert_eq!(fake.asked().0, asked);
    }
}

#[tokio::test]
async fn of_more_tokens_than_are_remembered_the_first_to_end_is_asked_about_again() {
    let fake = Fake::start(START).await;
    for id in ["1", "2", "3"] {
        fake.give(id, token(&["service"], None, at(3_600)));
    }
    let auth = open(Settings { max_cached: 2, ..fake.settings() }, START);
    for (id, seconds, asked) in [("1", 0, 1), ("2", 1, 2), ("3", 2, 3), ("2", 3, 3), ("3", 3, 3), ("1", 3, 4)]
    {
        assert!(may_send(&auth, id, seconds).await);
        assert_eq!(fake.asked().0, asked, "{id} {seconds}");
    }
}

#[tokio::test]
async fn requests_with_the_same_token_ask_once_also_if_the_first_goes_away() {
    let fake = Fake::start(START).await;
    fake.give("good", token(&["service"], None, at(3_600)));
    fake.state.go_on.forget_permits(1_000);
    let auth = fake.auth(START);
    let spawn = || {
        tokio::spawn({
            let auth = auth.clone();
            async move { may_send(&auth, "good", 0).await }
        })
    };
    let first = spawn();
    fake.state.come.acquire().await.unwrap().forget();
    let others: Vec<_> = (0..50).map(|_| spawn()).collect();
    // All of them have come to where they wait.
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    fake.state.go_on.add_permits(1);
    for other in others {
        assert!(other.await.unwrap());
    }
    assert_eq!(fake.asked(), (1, 1));
}

#[tokio::test]
async fn a_flood_of_bad_tokens_asks_about_a_few_at_once_and_not_about_all() {
    let fake = Fake::start(START).await;
    fake.give("good", token(&["service"], None, at(3_600)));
    let auth = open(Settings { max_validations: 2, ..fake.settings() }, START);
    assert!(may_send(&auth, "good", 0).await);
    fake.state.come.acquire().await.unwrap().forget();
    fake.state.go_on.forget_permits(999);
    let flood: Vec<_> = (0..200)
        .map(|n| {
            let auth = auth.clone();
            tokio::spawn(async move { who(&auth, &format!("bad-{n}"), 0).await })
        })
        .collect();
    fake.state.come.acquire_many(2).await.unwrap().forget();
    // Who is known already is let in all the while.
    assert!(may_send(&auth, "good", 1).await);
    fake.state.go_on.add_permits(1_000);
    let (mut nobodys, mut refused) = (0, 0);
    for one in flood {
        match one.await.unwrap() {
            Ok(None) => nobodys += 1,
            Err(Unsure(why)) if why.contains("at once") => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((nobodys, refused), (128, 72), "64 may wait for each that is asked about at once");
    assert_eq!(fake.asked().0, 129);
    assert_eq!(fake.state.seen.lock().unwrap().most, 2);
}

#[tokio::test]
async fn who_waits_too_long_for_its_turn_is_not_let_in() {
    let fake = Fake::start(START).await;
    fake.give("slow", token(&["service"], None, at(3_600)));
    fake.state.go_on.forget_permits(1_000);
    let short = Duration::from_millis(50);
    let auth = open(Settings { max_validations: 1, timeout: short, ..fake.settings() }, START);
    let slow = tokio::spawn({
        let auth = auth.clone();
        async move { who(&auth, "slow", 0).await }
    });
    fake.state.come.acquire().await.unwrap().forget();
    assert!(who(&auth, "other", 0).await.is_err());
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test]
async fn while_keystone_is_away_a_known_token_is_good_to_its_bound_and_no_other_is() {
    for (status, body) in
        [(500, ""), (503, ""), (502, "<html>"), (429, ""), (200, "{}"), (200, "no JSON"), (302, "")]
    {
        let fake = Fake::start(START).await;
        fake.give("good", token(&["service"], None, at(3_600)));
        fake.give("new", token(&["service"], None, at(3_600)));
        let auth = fake.auth(START);
        assert!(may_send(&auth, "good", 0).await);
        fake.answer_all(status, body);
        assert!(may_send(&auth, "good", 59).await, "{status}");
        assert!(who(&auth, "new", 59).await.is_err(), "{status}");
        assert!(who(&auth, "good", 60).await.is_err(), "{status}");
        fake.answer_as_usual();
        assert!(may_send(&auth, "new", 60).await && may_send(&auth, "good", 60).await, "{status}");
    }
}

#[tokio::test]
async fn the_same_where_it_does_not_answer_and_where_nobody_listens() {
    let fake = Fake::start(START).await;
    fake.give("good", token(&["service"], None, at(3_600)));
    let mut settings = fake.settings();
    settings.timeout = Duration::from_millis(500);
    let auth = open(settings.clone(), START);
    assert!(may_send(&auth, "good", 0).await);
    fake.state.go_on.forget_permits(999);
    assert!(who(&auth, "new", 59).await.is_err());
    assert!(may_send(&auth, "good", 59).await);
    assert!(who(&auth, "good", 60).await.is_err());

    settings.url = nowhere().await;
    assert!(who(&open(settings, START), "good", 0).await.is_err());
}

#[tokio::test]
async fn the_roles_that_may_send_are_an_option() {
    let fake = Fake::start(START).await;
    fake.give("reader", token(&["reader"], Some("p1"), at(3_600)));
    fake.give("none", token(&[], Some("p1"), at(3_600)));
    assert!(!may_send(&fake.auth(START), "reader", 0).await);
    assert!(!may_send(&fake.auth(START), "none", 0).await);
    let roles = Roles(vec!["READER".to_owned()]);
    assert!(may_send(&open(Settings { roles, ..fake.settings() }, START), "reader", 0).await);
}
