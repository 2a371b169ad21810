//! Peers that speak badly, too much, or not at all: each is bounded or found out, and the next good request is
//! served at once.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::calls::{assert_serves, dispatch, event, open, send, try_dispatch, try_open, uuid, wait_for};
use common::driver::Driver;
use common::{Agent, health, peers, soon, until};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tonic_health::pb::health_check_response::ServingStatus;
use wakeful::proto::Event;
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::event::Status as Is;
use wakeful::proto::event_receiver_client::EventReceiverClient;
use wakeful::proto::outcome::Kind;
use wakeful::proto::wait_response::Message;

/// A good request on a new connection, which has to be answered while nothing else has to end first.
async fn assert_serves_at_once(agent: &Agent) {
    for channel in [agent.tcp(), agent.unix()] {
        timeout(Duration::from_secs(5), assert_serves(&channel)).await.expect("served at once");
    }
}

/// Waits until no connection is open but the one that asks.
async fn until_alone(agent: &Agent) {
    agent.until_status("the other connections are closed", |status| status.connections == 1).await;
}

/// Bytes that look random and are the same in each run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // Xorshift, by Marsaglia.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

#[tokio::test]
async fn random_bytes_end_their_connection_and_no_other() {
    let agent = Agent::start(&[]).await;
    for seed in 0..20 {
        // Where a peer says nothing true, and where it has said hello first.
        for hello in [&b""[..], peers::PREFACE] {
            let mut peer = TcpStream::connect(agent.address).await.expect("a connection");
            // The agent may have closed it before all is written.
            let _ = peer.write_all(&[hello, &noise(seed, 4_096)].concat()).await;
            let _ = peer.shutdown().await;
            peers::until_closed(&mut peer).await;
        }
        let mut peer = UnixStream::connect(&agent.socket).await.expect("a connection");
        let _ = peer.write_all(&noise(seed, 4_096)).await;
        peers::until_closed(&mut peer).await;
    }
    assert_serves_at_once(&agent).await;
    until_alone(&agent).await;
}

#[tokio::test]
async fn garbage_in_a_stream_of_a_good_connection_ends_it() {
    let agent = Agent::start(&[]).await;
    for seed in 0..20 {
        let mut peer = TcpStream::connect(agent.address).await.expect("a connection");
        peers::speak(&mut peer).await;
        // A HEADERS frame that ends its headers and is no HPACK.
        let mut frame = vec![0, 1, 0, peers::HEADERS, 4, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(0xff, 256));
        frame.extend(noise(seed, 1_000));
        let _ = peer.write_all(&frame).await;
        let _ = peer.shutdown().await;
        peers::until_closed(&mut peer).await;
    }
    assert_serves_at_once(&agent).await;
    until_alone(&agent).await;
}

#[tokio::test]
async fn a_client_of_http_1_is_sent_away() {
    let agent = Agent::start(&[]).await;
    for request in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST /v2.1 HTTP/1.0\r\n\r\n", "QUIT\r\n"] {
        let mut peer = TcpStream::connect(agent.address).await.expect("a connection");
        peer.write_all(request.as_bytes()).await.expect("a write");
        peer.shutdown().await.expect("its end");
        peers::until_closed(&mut peer).await;
    }
    assert_serves_at_once(&agent).await;
    until_alone(&agent).await;
}

#[tokio::test]
async fn a_connection_that_never_speaks_or_stops_in_the_preface_is_closed() {
    let agent = Agent::start(&["--first-byte-timeout", "300ms"]).await;
    let good = agent.tcp();
    assert_serves(&good).await;
    let mut silent = TcpStream::connect(agent.address).await.expect("a connection");
    let mut silent_on_the_socket = UnixStream::connect(&agent.socket).await.expect("a connection");
    let mut halves = Vec::new();
    for length in [1, 3, 16, peers::PREFACE.len() - 1] {
        let mut half = TcpStream::connect(agent.address).await.expect("a connection");
        half.write_all(&peers::PREFACE[..length]).await.expect("a write");
        halves.push(half);
    }
    assert_serves_at_once(&agent).await;
    peers::until_closed(&mut silent).await;
    peers::until_closed(&mut silent_on_the_socket).await;
    for half in &mut halves {
        peers::until_closed(half).await;
    }
    // One that has spoken may be silent for as long as it answers pings.
    assert_serves(&good).await;
    agent.until_status("only it is left", |status| status.connections == 2).await;
}

#[tokio::test]
async fn a_peer_that_says_hello_and_answers_no_ping_is_closed() {
    let agent = Agent::start(&["--keepalive-interval", "100ms", "--keepalive-timeout", "200ms"]).await;
    let mut peer = TcpStream::connect(agent.address).await.expect("a connection");
    peers::speak(&mut peer).await;
    peers::until_closed(&mut peer).await;
    assert_serves_at_once(&agent).await;
}

#[tokio::test]
async fn a_stream_that_is_never_read_holds_64_progress_counts_the_rest_and_has_its_outcome() {
    const FLOOD: usize = 10_000;
    // Fewer than a stream holds: one that is read in time loses none.
    const BATCH: usize = 50;
    let agent = Agent::start(&[]).await;
    let (unix, instance) = (agent.unix_with_window(64 * 1024), uuid());
    let mut wait = open(&unix, wait_for(&instance, &[("a", ""), ("b", "")])).await;
    let mut other = open(&agent.unix(), wait_for(&instance, &[("b", "")])).await;
    let in_progress = Event { status: Is::InProgress.into(), ..event(&instance, "a", "") };
    let tcp = agent.tcp();
    for _ in 0..FLOOD / BATCH {
        dispatch(&tcp, vec![in_progress.clone(); BATCH]).await;
    }
    let last = dispatch(&tcp, vec![event(&instance, "a", ""), event(&instance, "b", "")]).await;
    assert_eq!(last.iter().map(|result| result.woke).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(other.outcome_at_last().await.kind(), Kind::Completed, "nobody else waits for it");
    assert_serves_at_once(&agent).await;

    let (mut told, mut dropped, mut since) = (0, 0, 0);
    let outcome = loop {
        match wait.next().await.expect("a message") {
            Some(Message::Progress(progress)) => {
                told += usize::from(progress.event.is_some());
                dropped += progress.dropped as usize;
                since = if progress.dropped > 0 { 1 } else { since + 1 };
            }
            Some(Message::Outcome(outcome)) => break outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told + dropped, FLOOD + 2, "what is not told is counted");
    assert!(dropped > FLOOD / 2, "{dropped} were dropped, the others were held for it");
    assert_eq!(since, 64, "as many lay unread, from the one that counts those before it");
    assert_eq!(outcome.kind(), Kind::Completed);
    let positions: Vec<_> = outcome.keys.iter().map(|key| key.position).collect();
    assert_eq!(positions, [FLOOD as u64 + 1, FLOOD as u64 + 2]);
    assert!(wait.next().await.expect("the end").is_none());
}

#[tokio::test]
async fn a_frozen_client_is_found_by_keepalive_and_its_waits_end() {
    let agent = Agent::start(&["--keepalive-interval", "200ms", "--keepalive-timeout", "500ms"]).await;
    let mut good = open(&agent.unix(), wait_for(&uuid(), &[("a", "")])).await;
    let mut frozen = Driver::start(&agent);
    assert_eq!(frozen.ask("open 200").await, "open 200");
    assert_eq!(agent.status().await.open_waits, 201);
    frozen.signal(Signal::STOP);
    assert_serves_at_once(&agent).await;
    agent
        .until_status("the frozen client's waits are gone", |status| {
            status.open_waits == 1 && status.connections == 2
        })
        .await;
    // Neither a wait that is well nor its idle connection was taken for one.
    let id = good.id().to_owned();
    let mut waits = wakeful::proto::waits_client::WaitsClient::new(agent.unix());
    waits.cancel(wakeful::proto::CancelRequest { wait_id: id, why: String::new() }).await.expect("open");
    assert_eq!(good.outcome().await.kind(), Kind::Cancelled);
}

#[tokio::test]
async fn a_connection_more_than_there_may_be_is_refused_and_served_when_another_has_closed() {
    let agent = Agent::start(&["--max-connections", "2"]).await;
    let (first, second) = (agent.tcp(), agent.tcp());
    for channel in [&first, &second] {
        assert_serves(channel).await;
    }
    let third = agent.tcp();
    // What code a client makes of it is its own: it has no call's answer.
    try_dispatch(&third, vec![event(&uuid(), "a", "")]).await.expect_err("a third");
    let mut peer = TcpStream::connect(agent.address).await.expect("a connection");
    let said = peers::until_closed(&mut peer).await;
    let frames = peers::frames(&said);
    let farewell = frames.iter().find(|frame| frame.kind == peers::GOAWAY).expect("a GOAWAY");
    let text = String::from_utf8_lossy(&farewell.payload[8..]);
    assert!(text.contains("max_connections is 2"), "{text}");
    // Those that are open, and the socket, with a bound of its own, are not touched.
    assert_serves(&first).await;
    assert_serves(&agent.unix()).await;

    drop(first);
    until("the third is served", async || try_dispatch(&third, vec![event(&uuid(), "a", "")]).await.ok())
        .await;
    assert_serves(&second).await;
}

#[tokio::test]
async fn the_sockets_connections_have_a_bound_too() {
    let agent = Agent::start(&["--max-connections", "2"]).await;
    let (first, second) = (agent.unix(), agent.unix());
    for channel in [&first, &second] {
        assert_serves(channel).await;
    }
    let mut third = UnixStream::connect(&agent.socket).await.expect("a connection");
    let said = peers::until_closed(&mut third).await;
    let frames = peers::frames(&said);
    let farewell = frames.iter().find(|frame| frame.kind == peers::GOAWAY).expect("a GOAWAY");
    let text = String::from_utf8_lossy(&farewell.payload[8..]);
    assert!(text.contains("max_connections is 2"), "{text}");
    for channel in [&first, &second, &agent.tcp()] {
        assert_serves(channel).await;
    }
}

#[tokio::test]
async fn a_stream_more_than_a_connection_may_have_waits_until_another_ends() {
    let agent = Agent::start(&["--max-streams", "4"]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let mut waits = Vec::new();
    for tag in ["0", "1", "2", "3"] {
        waits.push(open(&unix, wait_for(&instance, &[("a", tag)])).await);
    }
    let fifth = open(&unix, wait_for(&instance, &[("a", "4")]));
    let mut fifth = std::pin::pin!(fifth);
    assert!(timeout(Duration::from_millis(200), &mut fifth).await.is_err(), "it has no place yet");
    assert_eq!(agent.status().await.open_waits, 4);
    // Another connection has streams of its own.
    assert_serves_at_once(&agent).await;
    assert_eq!(send(&agent.tcp(), event(&instance, "a", "2")).await, (Disposition::Woke, 1, 3));
    assert_eq!(waits[2].outcome_at_last().await.kind(), Kind::Completed);
    let mut fifth = soon("the fifth wait", fifth).await;
    assert_eq!(send(&agent.tcp(), event(&instance, "a", "4")).await, (Disposition::Woke, 1, 4));
    assert_eq!(fifth.outcome_at_last().await.kind(), Kind::Completed);
}

#[tokio::test]
async fn a_driver_that_drops_many_waits_at_once_keeps_the_rest() {
    let agent = Agent::start(&[]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let mut waits = Vec::new();
    for n in 0..1_000 {
        waits.push(open(&unix, wait_for(&instance, &[("a", &n.to_string())])).await);
    }
    let mut kept = waits.split_off(999);
    drop(waits);
    agent.until_status("the dropped ones are gone", |status| status.open_waits == 1).await;
    // So does one that gives up on them before they are open.
    for _ in 0..100 {
        let opening = try_open(&unix, wait_for(&instance, &[("b", "")]));
        let _ = timeout(Duration::ZERO, opening).await;
    }
    agent.until_status("these are gone, too", |status| status.open_waits == 1).await;
    assert_eq!(send(&agent.tcp(), event(&instance, "a", "999")).await.0, Disposition::Woke);
    assert_eq!(kept[0].outcome_at_last().await.kind(), Kind::Completed);
}

#[tokio::test]
async fn a_stream_of_events_whose_answers_are_never_read_is_not_read_on_without_bound() {
    let agent = Agent::start(&[]).await;
    let instance = uuid();
    let batch = wakeful::proto::DispatchRequest {
        events: vec![Event { data: vec![0; 4_096], ..event(&instance, "a", "") }; 100],
    };
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut receiver = EventReceiverClient::new(agent.tcp());
    let mut answers = receiver.dispatch_stream(requests).await.expect("a stream").into_inner();
    // It takes them for as long as its answers find room, and then stops to read.
    let mut sent = 0u64;
    while sent < 10_000 && timeout(Duration::from_secs(1), sender.send(batch.clone())).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 10_000, "{sent} requests of 400 KB were taken and no answer read");
    assert_serves_at_once(&agent).await;
    // What was taken is answered, in order.
    drop(sender);
    let mut answered = 0u64;
    while let Some(answer) = soon("an answer", answers.message()).await.expect("an answer") {
        assert_eq!(answer.results.len(), 100);
        answered += 1;
    }
    assert_eq!(answered, sent);
    assert_eq!(health(&agent.tcp(), "").await, ServingStatus::Serving);
}

#[tokio::test]
#[ignore = "the driver process of the other tests"]
async fn driver() {
    common::driver::serve().await;
}
