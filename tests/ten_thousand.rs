//! Ten thousand waits open at once on one agent: all are woken, none twice, and none outlives its driver.

#![cfg(test)]

mod common;

use common::calls::{self, Wait, event, open, uuid, wait_for};
use common::driver::Driver;
use common::{Agent, soon};
use rustix::process::Signal;
use tokio::task::JoinSet;
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::event_receiver_client::EventReceiverClient;
use wakeful::proto::inspector_client::InspectorClient;
use wakeful::proto::outcome::Kind;
use wakeful::proto::wait_response::Message;
use wakeful::proto::{DispatchRequest, ListWaitsRequest};

const WAITS: usize = 10_000;
const CONNECTIONS: usize = 4;
const INSTANCES: usize = 20;
const BATCH: usize = 1_000;

/// Reads a wait's stream to its end. Gives the position of the one event that woke it.
async fn woken_once(mut wait: Wait) -> u64 {
    let mut woken_by = Vec::new();
    loop {
        match wait.next().await.expect("a message") {
            Some(Message::Progress(progress)) => woken_by.extend(progress.event.map(|event| event.position)),
            Some(Message::Outcome(outcome)) => {
                assert_eq!(outcome.kind(), Kind::Completed, "{outcome:?}");
                assert_eq!(woken_by.len(), 1, "an event a wait");
                assert_eq!(woken_by[0], outcome.keys[0].position);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(wait.next().await.expect("the stream's end").is_none(), "nothing follows the outcome");
    woken_by[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_waits_are_woken_by_one_stream_of_events_none_lost_and_none_twice() {
    let agent = Agent::start(&[]).await;
    let channels: Vec<_> = std::iter::repeat_with(|| agent.unix()).take(CONNECTIONS).collect();
    let instances: Vec<_> = std::iter::repeat_with(uuid).take(INSTANCES).collect();

    let mut opening = JoinSet::new();
    for n in 0..WAITS {
        let channel = channels[n % CONNECTIONS].clone();
        let request = wait_for(&instances[n % INSTANCES], &[("network-vif-plugged", &n.to_string())]);
        opening.spawn(async move { (n, open(&channel, request).await) });
    }
    let waits = opening.join_all().await;
    let status = agent.status().await;
    assert_eq!((status.open_waits, status.connections), (WAITS as u64, CONNECTIONS as u64 + 1));

    let mut reading = JoinSet::new();
    for (n, wait) in waits {
        reading.spawn(async move { (n, woken_once(wait).await) });
    }
    let events: Vec<_> =
        (0..WAITS).map(|n| event(&instances[n % INSTANCES], "network-vif-plugged", &n.to_string())).collect();
    let requests: Vec<_> =
        events.chunks(BATCH).map(|events| DispatchRequest { events: events.to_vec() }).collect();
    let mut receiver = EventReceiverClient::new(agent.tcp());
    let answers = soon("the stream", receiver.dispatch_stream(tokio_stream::iter(requests))).await;
    let mut answers = answers.expect("the stream").into_inner();
    let mut positions = Vec::new();
    while let Some(answer) = soon("an answer", answers.message()).await.expect("an answer") {
        for result in answer.results {
            assert_eq!((result.disposition(), result.woke), (Disposition::Woke, 1), "{result:?}");
            positions.push(result.position);
        }
    }
    assert_eq!(positions, (1..=WAITS as u64).collect::<Vec<_>>());

    let woken = reading.join_all().await;
    assert_eq!(woken.len(), WAITS);
    for (n, position) in woken {
        assert_eq!(position, positions[n], "wait {n} was woken by its own event");
    }
    let status = agent.status().await;
    let counts = status.counts.unwrap();
    assert_eq!(status.open_waits, 0);
    assert_eq!((counts.woke, counts.waits_completed), (WAITS as u64, WAITS as u64));
    assert_eq!((counts.waits_closed, counts.retained), (0, 0));
}

#[tokio::test]
async fn ten_thousand_waits_whose_driver_is_killed_leave_nothing_behind() {
    let agent = Agent::start(&[]).await;
    let mut driver = Driver::start(&agent);
    assert_eq!(driver.ask(&format!("open {WAITS}")).await, format!("open {WAITS}"));
    let channel = agent.unix();
    let status = common::status(&channel).await;
    assert_eq!((status.open_waits, status.connections), (WAITS as u64, CONNECTIONS as u64 + 1));

    driver.signal(Signal::KILL);
    agent
        .until_status("the waits and their connections are gone", |status| {
            // Ours, and the one that asks.
            status.open_waits == 0 && status.connections == 2
        })
        .await;
    let status = common::status(&channel).await;
    let counts = status.counts.unwrap();
    assert_eq!((counts.waits_opened, counts.waits_closed), (WAITS as u64, WAITS as u64));
    assert_eq!((counts.waits_cancelled, counts.waits_timed_out, status.readers), (0, 0, 0));
    let listed = InspectorClient::new(channel.clone()).list_waits(ListWaitsRequest::default()).await;
    assert_eq!(listed.expect("a list").into_inner().waits, []);
    calls::assert_serves(&channel).await;
}

#[tokio::test]
#[ignore = "the driver process of the other tests"]
async fn driver() {
    common::driver::serve().await;
}
