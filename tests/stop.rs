//! How an agent starts beside another, and how it stops: in order, within its bound, whatever a peer does.

#![cfg(test)]

mod common;

use std::fs;
use std::time::Duration;

use common::calls::{self, assert_serves, event, open, send, try_open, uuid, wait_for, why};
use common::driver::Driver;
use common::{Agent, folder, health, peers, run, soon, until};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::event_log_client::EventLogClient;
use wakeful::proto::event_receiver_client::EventReceiverClient;
use wakeful::proto::outcome::Kind;
use wakeful::proto::reason::Code as Reason;
use wakeful::proto::{DispatchRequest, WatchRequest};

/// Far less than the drain time-outs that these tests set, and enough for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

fn stopping() -> (Code, String) {
    (Code::Unavailable, "STOPPING".into())
}

/// A connection over which a call has already gone.
async fn connected(channel: Channel) -> Channel {
    assert_eq!(health(&channel, "").await, ServingStatus::Serving);
    channel
}

/// Waits until the agent has taken in that it is to stop.
async fn until_draining(channel: &Channel) {
    until("Waits is not serving", async || {
        (health(channel, "wakeful.v1.Waits").await == ServingStatus::NotServing).then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_no_wait_open_it_ends_at_once_and_its_socket_is_gone() {
    let mut agent = Agent::start(&["--drain-timeout", "60s"]).await;
    let _idle = (connected(agent.tcp()).await, connected(agent.unix()).await);
    agent.terminate();
    assert!(agent.process.ended(AT_ONCE).await.success());
    assert!(!agent.socket.exists());
}

#[tokio::test]
async fn a_connection_however_young_is_told_that_it_ends() {
    let mut agent = Agent::start(&[]).await;
    let mut peer = TcpStream::connect(agent.address).await.expect("a connection");
    let mut said = peers::speak(&mut peer).await;
    agent.terminate();
    said.extend(peers::until_closed(&mut peer).await);
    let types: Vec<_> = peers::frames(&said).iter().map(|frame| frame.kind).collect();
    assert!(types.contains(&peers::GOAWAY), "{types:?}");
    assert!(agent.process.ended(AT_ONCE).await.success());
}

#[tokio::test]
async fn it_stops_on_an_interrupt_too() {
    let mut agent = Agent::start(&["--drain-timeout", "60s"]).await;
    agent.process.signal(Signal::INT);
    assert!(agent.process.ended(AT_ONCE).await.success());
}

#[tokio::test]
async fn while_it_drains_new_waits_are_refused_and_open_ones_are_woken() {
    let mut agent = Agent::start(&["--drain-timeout", "60s"]).await;
    let (tcp, unix) = (connected(agent.tcp()).await, connected(agent.unix()).await);
    let instance = uuid();
    let mut first = open(&unix, wait_for(&instance, &[("a", "")])).await;
    let mut second = open(&unix, wait_for(&instance, &[("b", "")])).await;
    agent.terminate();
    until_draining(&tcp).await;
    for service in ["", "wakeful.v1.EventReceiver", "wakeful.v1.EventLog", "wakeful.v1.Inspector"] {
        assert_eq!(health(&tcp, service).await, ServingStatus::Serving, "{service:?}");
    }
    for channel in [&unix, &agent.unix()] {
        let refused = try_open(channel, wait_for(&instance, &[("c", "")])).await.err().expect("refused");
        assert_eq!(why(&refused), stopping());
    }
    let status = common::status(&unix).await;
    assert!(status.stopping && status.open_waits == 2);

    assert_eq!(send(&tcp, event(&instance, "a", "")).await, (Disposition::Woke, 1, 1));
    assert_eq!(first.outcome_at_last().await.kind(), Kind::Completed);
    assert_eq!(send(&agent.tcp(), event(&uuid(), "a", "")).await, (Disposition::Retained, 0, 2));
    assert_eq!(send(&tcp, event(&instance, "b", "")).await, (Disposition::Woke, 1, 3));
    assert_eq!(second.outcome_at_last().await.kind(), Kind::Completed);
    // Nothing is waited for any longer.
    assert!(agent.process.ended(AT_ONCE).await.success());
    assert!(!agent.socket.exists());
}

#[tokio::test]
async fn waits_that_outlast_the_drain_end_cancelled_because_the_log_goes_with_the_agent() {
    let mut agent = Agent::start(&["--drain-timeout", "300ms", "--durability", "none"]).await;
    let unix = agent.unix();
    let mut waits = Vec::new();
    for n in 0..100 {
        waits.push(open(&unix, wait_for(&uuid(), &[("never", &n.to_string())])).await);
    }
    agent.terminate();
    for wait in &mut waits {
        let outcome = wait.outcome_at_last().await;
        assert_eq!((outcome.kind(), outcome.reason()), (Kind::Cancelled, Reason::LogGone));
    }
    assert!(agent.process.ended(AT_ONCE).await.success());
}

#[tokio::test]
async fn a_watch_and_a_dispatch_stream_end_unavailable() {
    let mut agent = Agent::start(&[]).await;
    let unix = agent.unix();
    let mut watch =
        EventLogClient::new(unix.clone()).watch(WatchRequest::default()).await.expect("a watch").into_inner();
    assert!(soon("the first message", watch.message()).await.expect("a message").is_some());

    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut receiver = EventReceiverClient::new(agent.tcp());
    let events = || DispatchRequest { events: vec![event(&uuid(), "a", "")] };
    sender.send(events()).await.expect("the stream takes it");
    let mut answers = receiver.dispatch_stream(requests).await.expect("a stream").into_inner();
    assert!(soon("an answer", answers.message()).await.expect("an answer").is_some());
    assert!(soon("the event", watch.message()).await.expect("a message").is_some());

    agent.terminate();
    let ended = soon("the watch's end", watch.message()).await.expect_err("a status");
    assert_eq!(why(&ended), stopping());
    let ended = soon("the stream's end", answers.message()).await.expect_err("a status");
    assert_eq!(why(&ended), stopping());
    assert!(agent.process.ended(AT_ONCE).await.success());
}

/// What ends a call that the stop cuts: a refusal that says so, or a connection that has gone.
fn is_of_the_stop(status: &Status) -> bool {
    why(status) == stopping() || std::error::Error::source(status).is_some()
}

#[tokio::test]
async fn what_comes_during_the_stop_is_taken_whole_or_refused_as_stopping() {
    let mut agent = Agent::start(&["--drain-timeout", "300ms"]).await;
    let instance = uuid();
    // Keeps the drain from ending at once.
    let _kept = open(&agent.unix(), wait_for(&instance, &[("never", "")])).await;
    let mut senders = JoinSet::new();
    for sender in 0..4 {
        let (channel, instance) = (connected(agent.tcp()).await, instance.clone());
        senders.spawn(async move {
            let mut acknowledged = 0u64;
            loop {
                let event = event(&instance, &format!("sent-by-{sender}"), "");
                match calls::try_dispatch(&channel, vec![event]).await {
                    Ok(results) => acknowledged = acknowledged.max(results[0].position),
                    Err(status) => return (acknowledged, status),
                }
            }
        });
    }
    let mut drivers = JoinSet::new();
    for _ in 0..2 {
        let (channel, instance) = (connected(agent.unix()).await, instance.clone());
        drivers.spawn(async move {
            loop {
                if let Err(status) = try_open(&channel, wait_for(&instance, &[("never", "")])).await {
                    return status;
                }
            }
        });
    }
    agent.until_status("events come", |status| status.log.as_ref().is_some_and(|log| log.head > 100)).await;
    agent.terminate();
    let mut acknowledged = 0;
    for (last, status) in soon("the senders' end", senders.join_all()).await {
        assert!(is_of_the_stop(&status), "{status:?}");
        acknowledged = acknowledged.max(last);
    }
    for status in soon("the drivers' end", drivers.join_all()).await {
        assert!(is_of_the_stop(&status), "{status:?}");
    }
    assert!(agent.process.ended(AT_ONCE).await.success());
    let next = Agent::start_in(agent.folder.clone(), &[]).await;
    let head = next.status().await.log.expect("its log").head;
    assert!(acknowledged > 100 && head >= acknowledged, "{acknowledged} acknowledged, the head is {head}");
}

#[tokio::test]
async fn it_ends_within_its_bound_whatever_a_peer_does() {
    let mut agent = Agent::start(&["--drain-timeout", "300ms"]).await;
    // One that never speaks, and one that stops in the middle of the preface.
    let _silent = TcpStream::connect(agent.address).await.expect("a connection");
    let mut half = TcpStream::connect(agent.address).await.expect("a connection");
    half.write_all(b"PRI * HTTP/2.0\r\n").await.expect("a write");
    // One that is frozen with waits open.
    let mut frozen = Driver::start(&agent);
    assert_eq!(frozen.ask("open 100").await, "open 100");
    frozen.signal(Signal::STOP);
    // One that never reads a stream that is full, and one that never reads a watch.
    let unix = agent.unix();
    let instance = uuid();
    let _unread = open(&unix, wait_for(&instance, &[("a", ""), ("never", "")])).await;
    let _unread_watch =
        EventLogClient::new(agent.unix()).watch(WatchRequest::default()).await.expect("a watch");
    let mut in_progress = event(&instance, "a", "");
    in_progress.status = wakeful::proto::event::Status::InProgress.into();
    for _ in 0..5 {
        calls::dispatch(&agent.tcp(), vec![in_progress.clone(); 1_000]).await;
    }
    // One that sends a stream of events and never ends it.
    let (_sender, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let _endless = EventReceiverClient::new(agent.tcp()).dispatch_stream(requests).await.expect("a stream");

    agent.terminate();
    assert!(agent.process.ended(AT_ONCE).await.success());
    assert!(!agent.socket.exists());
    // It can run only now to its own end.
    frozen.signal(Signal::CONT);
}

#[tokio::test]
async fn a_second_agent_on_the_same_socket_is_refused_and_the_first_one_goes_on() {
    let agent = Agent::start(&[]).await;
    let socket = agent.socket.to_str().unwrap();
    let second = run(&["agent", "--durability", "none", "--listen", "127.0.0.1:0", "--socket", socket]).await;
    assert!(!second.status.success() && second.stdout.is_empty());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(socket) && said.contains("another process"), "{said}");
    assert_serves(&agent.unix()).await;
}

#[tokio::test]
async fn a_second_agent_on_the_same_port_is_refused_and_leaves_no_socket() {
    let agent = Agent::start(&[]).await;
    let other = folder();
    let socket = other.path().join("agent.sock");
    let address = agent.address.to_string();
    let second =
        run(&["agent", "--durability", "none", "--listen", &address, "--socket", socket.to_str().unwrap()])
            .await;
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&address), "{said}");
    assert!(!socket.exists());
    assert_serves(&agent.tcp()).await;
}

#[tokio::test]
async fn the_socket_of_an_agent_that_was_killed_is_taken_over() {
    let mut first = Agent::start(&[]).await;
    first.process.signal(Signal::KILL);
    assert!(!first.process.ended(AT_ONCE).await.success());
    assert!(first.socket.exists(), "it was killed before it could remove it");
    let second = Agent::start_in(first.folder.clone(), &[]).await;
    assert_eq!(second.log_id, first.log_id);
    assert_serves(&second.unix()).await;
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("agent.sock");
    fs::write(&path, "someone's file").unwrap();
    let refused = run(&[
        "agent",
        "--durability",
        "none",
        "--listen",
        "127.0.0.1:0",
        "--socket",
        path.to_str().unwrap(),
    ])
    .await;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains(path.to_str().unwrap()) && said.contains("not a socket"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "someone's file");
}

#[tokio::test]
async fn a_setting_that_cannot_be_used_is_refused_by_name() {
    let folder = folder();
    let socket = folder.path().join("agent.sock");
    let file = folder.path().join("agent.toml");
    fs::write(&file, "max_waits = 5\n\nmax_wiats = 6\n").unwrap();
    let data = folder.path().join("log");
    let (socket, file, data) = (socket.to_str().unwrap(), file.to_str().unwrap(), data.to_str().unwrap());
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--listen", "0.0.0.0:0"], &["listen", "0.0.0.0:0", "loopback"]),
        (&["--listen", "127.0.0.1:0", "--durability", "disk"], &["durability", "disk", "sync, os or none"]),
        (&["--listen", "127.0.0.1:0", "--config", file], &[file, "max_wiats", "line 3"]),
        (&["--listen", "127.0.0.1:0", "--config", "/none.toml"], &["/none.toml"]),
        (&["--listen", "127.0.0.1:0", "--max-events", "0"], &["max_events", "1 to 100000"]),
        (&["--listen", "127.0.0.1:0", "--max-wiats", "6"], &["--max-wiats"]),
    ];
    for (args, named) in cases {
        let refused = run(&[&["agent", "--socket", socket, "--data-dir", data], args].concat()).await;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{args:?}: {said}");
        for name in named {
            assert!(said.contains(name), "{args:?} does not name {name}: {said:?}");
        }
        assert!(!fs::exists(socket).unwrap());
    }
}

#[tokio::test]
#[ignore = "the driver process of the other tests"]
async fn driver() {
    common::driver::serve().await;
}
