//! The gateway is killed again and again under load: what it answered 200 for reaches its hosts, once and in order.
//!
//! `WAKEFUL_KILLS` sets how often.

#![cfg(test)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::json;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use wakeful::proto::Event;
use wakeful::proto::role::Code as Role;

use common::calls::uuid;
use common::gateway::{Gateway, sent};
use common::{folder, soon, until};

/// How often the gateway is killed in a normal run.
const KILLS: u64 = 30;
/// Callers at once, each with an instance of its own and its events one after the other.
const CALLERS: u64 = 8;
/// Requests between two kills, more or less.
const BETWEEN: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_answered_200_arrives_once_and_in_order_however_often_the_gateway_is_killed() {
    let kills = std::env::var("WAKEFUL_KILLS").map_or(KILLS, |text| text.parse().expect("a number"));
    let gateway = Gateway::start(&[]).await;
    let (one, other) = (gateway.agent(&folder(), "one").await, gateway.agent(&folder(), "other").await);
    let instances: Vec<_> = (0..CALLERS).map(|_| uuid()).collect();
    for instance in &instances {
        one.bind(instance, Role::MigrationSource).await;
        other.bind(instance, Role::MigrationDestination).await;
    }
    let gateway = Arc::new(Mutex::new(gateway));
    let (over, _) = watch::channel(false);
    let posted = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for instance in instances.clone() {
        let (over, posted) = (over.subscribe(), Arc::clone(&posted));
        let at = Arc::clone(&gateway);
        callers.spawn(async move {
            let (mut accepted, mut number) = (Vec::new(), 0);
            let rest = at.lock().await.rest;
            while !*over.borrow() {
                let tag = format!("{number}");
                number += 1;
                let reply =
                    common::gateway::post(rest, &json!([sent(&instance, "network-vif-plugged", &tag)])).await;
                posted.fetch_add(1, Ordering::Relaxed);
                if reply.is_some_and(|(status, _)| status == 200) {
                    accepted.push(tag);
                }
            }
            (instance, accepted)
        });
    }
    for _ in 0..kills {
        let before = posted.load(Ordering::Relaxed);
        until("some requests", async || (posted.load(Ordering::Relaxed) > before + BETWEEN).then_some(()))
            .await;
        let mut held = gateway.lock().await;
        held.process.signal(Signal::KILL);
        held.process.ended(common::BOUND).await;
        let again = held.again(&[]).await;
        *held = again;
    }
    over.send_replace(true);
    let accepted = soon("the callers' end", callers.join_all()).await;
    let held = gateway.lock().await;
    until("nothing waits", async || {
        held.outbox().await.hosts.iter().all(|host| host.depth == 0).then_some(())
    })
    .await;

    let total: usize = accepted.iter().map(|(_, tags)| tags.len()).sum();
    println!("{kills} kills, {} requests, {total} answered 200", posted.load(Ordering::Relaxed));
    assert!(total as u64 > kills);
    for agent in [&one, &other] {
        let events = agent.events().await;
        for (instance, accepted) in &accepted {
            check(&events, instance, accepted);
        }
    }
}

/// Each accepted event is there, none is there twice, and they are in the order in which they were sent.
fn check(events: &[Event], instance: &str, accepted: &[String]) {
    let of = events.iter().filter(|event| event.instance_uuid == *instance);
    let tags: Vec<u64> = of.map(|event| event.tag.parse().expect("a number")).collect();
    let mut times: HashMap<u64, usize> = HashMap::new();
    tags.iter().for_each(|tag| *times.entry(*tag).or_default() += 1);
    let lost: Vec<_> =
        accepted.iter().filter(|tag| !times.contains_key(&tag.parse().expect("a number"))).collect();
    assert!(lost.is_empty(), "{instance}: {lost:?} were answered 200 and did not arrive");
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{instance}: {twice:?} arrived more than once");
    assert!(tags.is_sorted(), "{instance}: not in order: {tags:?}");
}
