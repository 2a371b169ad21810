//! Watches with a name: each event at least once, in order, across restarts of both sides.

#![cfg(test)]

mod common;

use common::calls::{cursor, dispatch, event, send, uuid, why};
use common::{Agent, run, soon, until};
use rustix::process::Signal;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use wakeful::proto::event_log_client::EventLogClient;
use wakeful::proto::{
    AckRequest, Consumer, Event, EventFilter, ListConsumersRequest, RemoveConsumerRequest, WatchRequest,
    WatchResponse,
};

async fn watch(channel: &Channel, request: WatchRequest) -> Result<Streaming<WatchResponse>, Status> {
    soon("a watch", EventLogClient::new(channel.clone()).watch(request)).await.map(|reply| reply.into_inner())
}

fn named(name: &str) -> WatchRequest {
    WatchRequest { consumer: name.into(), ..Default::default() }
}

/// The next event that a watch tells of.
async fn next(watch: &mut Streaming<WatchResponse>) -> Event {
    loop {
        let message = soon("a message", watch.message()).await.expect("a message").expect("a message");
        if let Some(event) = message.event {
            return event;
        }
    }
}

async fn ack(agent: &Agent, name: &str, position: u64) -> Result<u64, Status> {
    let request = AckRequest {
        consumer: name.into(),
        cursor: Some(cursor(&agent.log_id, position)),
        ..Default::default()
    };
    let reply = EventLogClient::new(agent.unix()).ack(request).await?.into_inner();
    Ok(reply.cursor.expect("a cursor").position)
}

async fn consumers(agent: &Agent) -> Vec<Consumer> {
    let listed = EventLogClient::new(agent.unix()).list_consumers(ListConsumersRequest::default()).await;
    listed.expect("a list").into_inner().consumers
}

#[tokio::test]
async fn a_consumer_restarted_with_its_agent_ten_times_gets_every_event_at_least_once_in_order() {
    let mut agent = Agent::start(&[]).await;
    let instance = uuid();
    drop(watch(&agent.unix(), named("power")).await.expect("a watch"));
    let mut seen = Vec::new();
    let mut sent = 0;
    for life in 0..10 {
        for _ in 0..10 {
            sent += 1;
            send(&agent.tcp(), event(&instance, "power-update", &sent.to_string())).await;
        }
        let mut watch = watch(&agent.unix(), named("power")).await.expect("a watch");
        // It dies after some of them, with the last one not acknowledged.
        for n in 0..7 {
            let event = next(&mut watch).await;
            if n < 6 {
                assert_eq!(ack(&agent, "power", event.position).await.expect("acknowledged"), event.position);
            }
            seen.push(event.position);
        }
        drop(watch);
        if life % 2 == 0 {
            agent.process.signal(Signal::KILL);
            agent.process.ended(std::time::Duration::from_secs(20)).await;
            agent = Agent::start_in(agent.folder.clone(), &[]).await;
        }
    }
    let mut last = watch(&agent.unix(), named("power")).await.expect("a watch");
    while seen.last() < Some(&sent) {
        seen.push(next(&mut last).await.position);
    }
    // Each begins where the one before had acknowledged: one event again, and none left out.
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1), "{seen:?}");
    assert_eq!((seen.first(), seen.last()), (Some(&1), Some(&sent)));
}

#[tokio::test]
async fn a_new_name_starts_at_the_head_unless_given_a_cursor_and_its_place_is_kept_at_once() {
    let mut agent = Agent::start(&[]).await;
    let instance = uuid();
    dispatch(&agent.tcp(), (0..5).map(|_| event(&instance, "a", "")).collect()).await;
    let head = watch(&agent.unix(), named("head")).await.expect("a watch");
    let after = Some(cursor(&agent.log_id, 2));
    let early = watch(&agent.unix(), WatchRequest { after, ..named("early") }).await.expect("a watch");
    agent.process.signal(Signal::KILL);
    agent.process.ended(std::time::Duration::from_secs(20)).await;
    drop((head, early));
    let agent = Agent::start_in(agent.folder.clone(), &[]).await;
    let places: Vec<_> =
        consumers(&agent).await.into_iter().map(|c| (c.name, c.cursor.expect("a cursor").position)).collect();
    assert_eq!(places, [("early".to_owned(), 2), ("head".to_owned(), 5)]);
    let mut early = watch(&agent.unix(), named("early")).await.expect("a watch");
    assert_eq!(next(&mut early).await.position, 3);
}

#[tokio::test]
async fn a_second_stream_takes_over_and_a_removed_consumers_stream_ends() {
    let agent = Agent::start(&[]).await;
    let unix = agent.unix();
    let ended = async |stream: &mut Streaming<WatchResponse>| loop {
        match soon("its end", stream.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a status"),
            Err(status) => return why(&status),
        }
    };
    let mut first = watch(&unix, named("a")).await.expect("a watch");
    let mut second = watch(&unix, named("a")).await.expect("a watch");
    assert_eq!(ended(&mut first).await, (Code::Aborted, "TAKEN_OVER".into()));
    let request = || RemoveConsumerRequest { consumer: "a".into() };
    EventLogClient::new(unix.clone()).remove_consumer(request()).await.expect("removed");
    assert_eq!(ended(&mut second).await, (Code::Aborted, "TAKEN_OVER".into()));
    assert!(consumers(&agent).await.is_empty());
    let again = EventLogClient::new(unix.clone()).remove_consumer(request()).await.expect_err("gone");
    assert_eq!(why(&again), (Code::NotFound, "CONSUMER_NOT_FOUND".into()));
    let unknown = ack(&agent, "a", 0).await.expect_err("gone");
    assert_eq!(why(&unknown), (Code::NotFound, "CONSUMER_NOT_FOUND".into()));
}

#[tokio::test]
async fn a_filter_that_never_matches_holds_nothing_back() {
    let agent = Agent::start(&[]).await;
    let filter = Some(EventFilter { instance_uuids: vec![], names: vec!["never".into()] });
    let _watch = watch(&agent.unix(), WatchRequest { filter, ..named("a") }).await.expect("a watch");
    dispatch(&agent.tcp(), (0..5).map(|_| event(&uuid(), "a", "")).collect()).await;
    until("its cursor to move", async || {
        let at = consumers(&agent).await[0].cursor.clone().expect("a cursor").position;
        (at == 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_sent_and_not_acknowledged_is_kept_and_sent_again() {
    let agent = Agent::start(&[]).await;
    let mut watch_a = watch(&agent.unix(), named("a")).await.expect("a watch");
    send(&agent.tcp(), event(&uuid(), "a", "")).await;
    assert_eq!(next(&mut watch_a).await.position, 1);
    drop(watch_a);
    until("its stream to close", async || (!consumers(&agent).await[0].attached).then_some(())).await;
    assert_eq!(consumers(&agent).await[0].behind, 1);
    let mut again = watch(&agent.unix(), named("a")).await.expect("a watch");
    assert_eq!(next(&mut again).await.position, 1);
    let failed = AckRequest {
        consumer: "a".into(),
        cursor: Some(cursor(&agent.log_id, 1)),
        failed: true,
        why: "no such domain".into(),
    };
    EventLogClient::new(agent.unix()).ack(failed).await.expect("acknowledged");
    let told = consumers(&agent).await.remove(0);
    assert_eq!((told.behind, told.failed_position, told.failed_why.as_str()), (0, 1, "no such domain"));
}

#[tokio::test]
async fn one_that_the_log_has_overtaken_or_that_was_away_too_long_is_told_and_reopened_with_a_cursor() {
    let options =
        ["--log-size", "1MiB", "--log-held-size", "1MiB", "--consumer-away", "1s", "--log-age", "1s"];
    let agent = Agent::start(&options).await;
    drop(watch(&agent.unix(), named("a")).await.expect("a watch"));
    let filling =
        || (0..100).map(|_| Event { data: vec![7; 4096], ..event(&uuid(), "a", "") }).collect::<Vec<_>>();
    for _ in 0..8 {
        dispatch(&agent.tcp(), filling()).await;
    }
    until("it to be told", async || consumers(&agent).await[0].expired.then_some(())).await;
    let refused = watch(&agent.unix(), named("a")).await.expect_err("refused");
    assert_eq!(why(&refused), (Code::OutOfRange, "CURSOR_EXPIRED".into()));
    let after = Some(cursor(&agent.log_id, agent.status().await.log.expect("a log").head));
    let _reopened = watch(&agent.unix(), WatchRequest { after, ..named("a") }).await.expect("reopened");
    assert!(!consumers(&agent).await[0].expired);
}

#[tokio::test]
async fn explain_shows_what_consumers_have_acknowledged_also_after_a_kill() {
    let mut agent = Agent::start(&[]).await;
    let instance = uuid();
    let mut watch = watch(&agent.unix(), named("power")).await.expect("a watch");
    for name in ["power-update", "volume-extended", "network-changed"] {
        send(&agent.tcp(), event(&instance, name, "")).await;
        next(&mut watch).await;
    }
    ack(&agent, "power", 1).await.expect("acknowledged");
    let failed = AckRequest {
        consumer: "power".into(),
        cursor: Some(cursor(&agent.log_id, 2)),
        failed: true,
        why: "no such volume".into(),
    };
    EventLogClient::new(agent.unix()).ack(failed).await.expect("acknowledged");
    let explained = async |agent: &Agent| {
        let at = format!("unix:{}", agent.socket.display());
        let told = run(&["explain", &instance, "--agent", &at]).await;
        String::from_utf8(told.stdout).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let is_told = |lines: &[String]| {
        assert!(lines[1].ends_with("; consumer power has acknowledged it"), "{lines:?}");
        assert!(lines[2].ends_with("; consumer power could not do it: no such volume"), "{lines:?}");
        assert!(lines[3].ends_with(": no open wait asked for it"), "{lines:?}");
    };
    is_told(&explained(&agent).await);
    agent.process.signal(Signal::KILL);
    agent.process.ended(std::time::Duration::from_secs(20)).await;
    let agent = Agent::start_in(agent.folder.clone(), &[]).await;
    is_told(&explained(&agent).await);
}
