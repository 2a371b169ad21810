//! Those that read the log, by pages or as it grows: in order, without a gap, and within their bounds.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::calls::{
    Wait, cursor, dispatch, event, open, said, seconds, send, try_open, uuid, wait_for, why,
};
use common::{Agent, soon, until};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::event_log_client::EventLogClient;
use wakeful::proto::inspector_client::InspectorClient;
use wakeful::proto::outcome::Kind;
use wakeful::proto::waits_client::WaitsClient;
use wakeful::proto::{
    CancelInstanceRequest, Event, EventFilter, ExplainRequest, ListConsumersRequest, ListEventsRequest,
    ListEventsResponse, ListWaitsRequest, WaitRequest, WatchRequest, WatchResponse,
};

async fn list(channel: &Channel, request: ListEventsRequest) -> Result<ListEventsResponse, Status> {
    let mut event_log = EventLogClient::new(channel.clone());
    soon("a page", event_log.list_events(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_list_is_paged_oldest_first_without_a_gap() {
    let agent = Agent::start(&[]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let events = (0..250).map(|n| event(&instance, if n % 2 == 0 { "even" } else { "odd" }, &n.to_string()));
    dispatch(&agent.tcp(), events.collect()).await;
    let filter = EventFilter { names: vec!["odd".into()], instance_uuids: vec![instance] };
    for (filter, size, expected) in [
        (None, 100, (1..=250).collect::<Vec<u64>>()),
        (None, 1_000, (1..=250).collect()),
        (Some(filter), 25, (1..=125).map(|n| 2 * n).collect()),
    ] {
        let mut request = ListEventsRequest { filter, page_size: size, ..Default::default() };
        let mut positions = Vec::new();
        loop {
            let page = list(&unix, request.clone()).await.expect("a page");
            assert_eq!(page.log_id, agent.log_id);
            assert!(page.events.len() <= size as usize);
            positions.extend(page.events.iter().map(|event| event.position));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(positions, expected);
    }
    let after = ListEventsRequest { after: Some(cursor(&agent.log_id, 249)), ..Default::default() };
    let page = list(&unix, after).await.expect("a page");
    assert_eq!(page.events.iter().map(|event| event.tag.as_str()).collect::<Vec<_>>(), ["249"]);
}

/// Every page of a list, each given the token of the one before.
async fn pages<T>(mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Status>) -> Vec<T> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (entries, next) = page(token).await.expect("a page that a usual client takes");
        assert!(!entries.is_empty());
        all.extend(entries);
        if next.is_empty() {
            return all;
        }
        token = next;
    }
}

#[tokio::test]
async fn the_largest_entries_come_in_pages_that_a_usual_client_takes() {
    let agent = Agent::start(&[]).await;
    let (unix, instance, longest) = (agent.unix(), uuid(), "𝒆".repeat(255));
    let large = Event { data: vec![7; 4_096], ..event(&instance, &longest, &longest) };
    for _ in 0..2 {
        dispatch(&agent.tcp(), vec![large.clone(); 1_000]).await;
    }
    let listed = pages(async |page_token| {
        let page =
            list(&unix, ListEventsRequest { page_size: 1_000, page_token, ..Default::default() }).await?;
        Ok((page.events, page.next_page_token))
    });
    let positions: Vec<_> = listed.await.iter().map(|event| event.position).collect();
    assert_eq!(positions, (1..=2_000).collect::<Vec<_>>());

    let other = uuid();
    let tags: Vec<_> = (0..256).map(|n| format!("{n:03}{}", "𝒆".repeat(252))).collect();
    let keys: Vec<_> = tags.iter().map(|tag| (longest.as_str(), tag.as_str())).collect();
    let mut waits = Vec::new();
    for _ in 0..20 {
        waits.push(open(&unix, wait_for(&other, &keys)).await);
    }
    let mut inspector = InspectorClient::new(unix);
    let listed = pages(async |page_token| {
        let request = ListWaitsRequest { page_size: 1_000, page_token, ..Default::default() };
        let page = inspector.list_waits(request).await?.into_inner();
        Ok((page.waits, page.next_page_token))
    });
    let listed: Vec<_> = listed.await.into_iter().map(|wait| wait.wait_id).collect();
    assert_eq!(listed, waits.iter().map(Wait::id).collect::<Vec<_>>());
    for instance in [instance, other.clone()] {
        let entries = pages(async |page_token| {
            let instance_uuid = instance.clone();
            let request = ExplainRequest { instance_uuid, page_size: 1_000, page_token };
            let page = inspector.explain(request).await?.into_inner();
            Ok((page.entries, page.next_page_token))
        });
        assert!([20, 2_000].contains(&entries.await.len()));
    }
    let cancel = CancelInstanceRequest { instance_uuid: other, ..Default::default() };
    let reply = WaitsClient::new(agent.unix()).cancel_instance(cancel).await.expect("a reply that it takes");
    let (named, left_out) = (reply.get_ref().waits.len(), reply.get_ref().waits_left_out);
    assert!(named > 0 && named + left_out as usize == waits.len(), "{named} and {left_out}");
}

async fn watch(channel: &Channel, request: WatchRequest) -> Result<Streaming<WatchResponse>, Status> {
    let mut event_log = EventLogClient::new(channel.clone());
    soon("a watch", event_log.watch(request)).await.map(tonic::Response::into_inner)
}

async fn next(watch: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Status> {
    let message = soon("a watch's message", watch.message()).await?;
    Ok(message.expect("a watch does not end without a status"))
}

#[tokio::test]
async fn a_watch_gets_what_fits_its_filter_from_its_cursor_on() {
    let agent = Agent::start(&[]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let three = || vec![event(&instance, "a", ""), event(&instance, "b", ""), event(&uuid(), "a", "")];
    dispatch(&agent.tcp(), three()).await;
    dispatch(&agent.tcp(), three()).await;
    let filter = EventFilter { instance_uuids: vec![instance.clone()], names: vec!["a".into()] };
    let after = Some(cursor(&agent.log_id, 1));
    let mut from_the_first =
        watch(&unix, WatchRequest { filter: Some(filter), after: after.clone(), ..Default::default() })
            .await
            .unwrap();
    let mut from_the_head = watch(&unix, WatchRequest::default()).await.unwrap();
    assert_eq!(next(&mut from_the_first).await.unwrap(), WatchResponse { cursor: after, event: None });
    let head = Some(cursor(&agent.log_id, 6));
    assert_eq!(next(&mut from_the_head).await.unwrap(), WatchResponse { cursor: head, event: None });
    dispatch(&agent.tcp(), three()).await;
    for position in [4, 7] {
        let message = next(&mut from_the_first).await.unwrap();
        assert_eq!(message.cursor, Some(cursor(&agent.log_id, position)));
        assert_eq!(message.event.unwrap().position, position);
    }
    for position in 7..=9 {
        assert_eq!(next(&mut from_the_head).await.unwrap().event.unwrap().position, position);
    }
}

/// Sends more than a log of 1 MiB holds.
async fn flood(channel: &Channel, instance: &str) {
    let large = Event { data: vec![0; 4_096], ..event(instance, "flood", "") };
    for _ in 0..8 {
        dispatch(channel, vec![large.clone(); 100]).await;
    }
}

#[tokio::test]
async fn a_cursor_that_the_log_has_passed_is_refused_with_the_oldest_there_is() {
    let agent = Agent::start(&["--log-size", "1MiB"]).await;
    let (unix, instance) = (agent.unix(), uuid());
    flood(&agent.tcp(), &instance).await;
    let start = || Some(cursor(&agent.log_id, 0));
    let request = wait_for(&instance, &[("a", "")]);
    // What goes early goes after the senders are answered. Whoever writes the log answers this one after that.
    let mut event_log = EventLogClient::new(unix.clone());
    let consumers = event_log.list_consumers(ListConsumersRequest::default());
    soon("the consumers", consumers).await.expect("a list");
    let log = agent.status().await.log.unwrap();
    assert!(log.bytes <= 1 << 20, "{log:?}");
    assert!(log.oldest > 500 && log.dropped_early == log.oldest - 1, "{log:?}");

    let refusals = [
        try_open(&unix, WaitRequest { after: start(), ..request.clone() }).await.err(),
        try_open(&unix, WaitRequest { lookback: Some(seconds(3_600)), ..request.clone() }).await.err(),
        watch(&unix, WatchRequest { after: start(), ..Default::default() }).await.err(),
        list(&unix, ListEventsRequest { after: start(), ..Default::default() }).await.err(),
    ];
    for refusal in refusals {
        let refusal = refusal.expect("a refusal");
        assert_eq!(why(&refusal), (Code::OutOfRange, "CURSOR_EXPIRED".into()));
        let info = refusal.get_details_error_info().unwrap();
        assert_eq!(info.metadata["oldest_cursor"], format!("{}:{}", agent.log_id, log.oldest - 1));
    }
    // From that cursor on all of them go.
    let oldest = || Some(cursor(&agent.log_id, log.oldest - 1));
    open(&unix, WaitRequest { after: oldest(), ..request }).await;
    let page = list(&unix, ListEventsRequest { after: oldest(), ..Default::default() }).await.unwrap();
    assert_eq!(page.events[0].position, log.oldest);
    let mut from_oldest = watch(&unix, WatchRequest { after: oldest(), ..Default::default() }).await.unwrap();
    next(&mut from_oldest).await.unwrap();
    assert_eq!(next(&mut from_oldest).await.unwrap().event.unwrap().position, log.oldest);
}

#[tokio::test]
async fn a_watch_that_the_log_overtakes_is_told_so_and_never_skips() {
    let agent = Agent::start(&["--log-size", "1MiB"]).await;
    let mut slow = watch(&agent.unix(), WatchRequest::default()).await.unwrap();
    for _ in 0..4 {
        flood(&agent.tcp(), &uuid()).await;
    }
    let mut at = next(&mut slow).await.unwrap().cursor.unwrap().position;
    let ended = loop {
        match next(&mut slow).await {
            Ok(message) => {
                let cursor = message.cursor.unwrap().position;
                assert_eq!(message.event.expect("an event").position, cursor);
                assert_eq!(cursor, at + 1, "no gap");
                at = cursor;
            }
            Err(status) => break status,
        }
    };
    assert_eq!(why(&ended), (Code::OutOfRange, "CURSOR_EXPIRED".into()));
}

#[tokio::test]
async fn a_reader_more_than_there_may_be_is_told_when_to_try_again() {
    let agent = Agent::start(&["--max-readers", "1"]).await;
    let unix = agent.unix();
    let only = watch(&unix, WatchRequest::default()).await.expect("the only one");
    for refused in [
        watch(&unix, WatchRequest::default()).await.err(),
        list(&unix, ListEventsRequest::default()).await.err(),
    ] {
        let refused = refused.expect("one more");
        let said = said(&refused);
        assert_eq!((said.code, said.reason.as_str()), (Code::ResourceExhausted, "EXHAUSTED"));
        assert_eq!(said.limit, "max_readers");
        assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    }
    // Neither waits nor events need a reader's place.
    let instance = uuid();
    let mut wait = open(&unix, wait_for(&instance, &[("a", "")])).await;
    assert_eq!(send(&agent.tcp(), event(&instance, "a", "")).await, (Disposition::Woke, 1, 1));
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
    drop(only);
    until("the place is free", async || watch(&unix, WatchRequest::default()).await.ok()).await;
}

#[tokio::test]
async fn explain_tells_the_same_in_the_same_order_in_pages_of_any_size() {
    let agent = Agent::start(&[]).await;
    let (unix, tcp, instance) = (agent.unix(), agent.tcp(), uuid());
    let mut open_waits = Vec::new();
    for round in 0..6 {
        let key = format!("e{round}");
        dispatch(&tcp, vec![event(&instance, "before", ""), event(&uuid(), "other", "")]).await;
        let mut ends = open(&unix, wait_for(&instance, &[(&key, "")])).await;
        open_waits.push(open(&unix, wait_for(&instance, &[("never", "")])).await);
        dispatch(&tcp, vec![event(&instance, "among", ""); 3]).await;
        dispatch(&tcp, vec![event(&instance, &key, "")]).await;
        ends.outcome_at_last().await;
    }
    // What is of others takes up the log's end.
    dispatch(&tcp, vec![event(&uuid(), "other", ""); 100]).await;
    let mut inspector = InspectorClient::new(unix);
    let mut told = Vec::new();
    for page_size in [1_000, 1, 2, 3, 7, 47, 48] {
        let entries = pages(async |page_token| {
            let request = ExplainRequest { instance_uuid: instance.clone(), page_size, page_token };
            let page = inspector.explain(request).await?.into_inner();
            assert!(page.entries.len() <= page_size as usize);
            Ok((page.entries, page.next_page_token))
        });
        told.push((page_size, entries.await));
    }
    let (_, whole) = &told[0];
    assert_eq!(whole.len(), 6 * 8, "five events a round, two waits opened and one ended");
    let times: Vec<_> = whole.iter().map(|entry| entry.at.map(|at| (at.seconds, at.nanos))).collect();
    assert!(times.is_sorted(), "{times:?}");
    for (page_size, entries) in &told {
        assert_eq!(entries, whole, "in pages of {page_size}");
    }
}
