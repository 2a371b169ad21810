//! The whole path on real processes: a REST request, the gateway's outbox, the agents of the instance's hosts.

#![cfg(test)]

mod common;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::ReceiverStream;
use wakeful::proto::directory_client::DirectoryClient;
use wakeful::proto::ended_delivery::How;
use wakeful::proto::outcome::Kind;
use wakeful::proto::role::Code as Role;
use wakeful::proto::unbound::Why;
use wakeful::proto::{AnnounceRequest, Binding, Hello, ListOutboxResponse, WaitRequest};

use common::calls::{open, seconds, uuid, wait_for};
use common::gateway::{Gateway, codes, sent};
use common::{Agent, folder, run, soon, until, wakeful};

const PLUGGED: &str = "network-vif-plugged";
const UNPLUGGED: &str = "network-vif-unplugged";
const CHANGED: &str = "network-changed";

#[tokio::test]
async fn the_published_example_wakes_a_wait_on_an_agent_in_another_process() {
    let gateway = Gateway::start(&["--extra-event-names", "test-event"]).await;
    let agent = gateway.agent(&folder(), "alpha").await;
    let instance = "3df201cf-2451-44f2-8d25-a4ca826fc1f3";
    let socket = format!("unix:{}", agent.socket.display());
    let wait = wakeful(&["wait", instance, "test-event:foo", "--timeout", "20s", "--agent", &socket]);
    let wait = tokio::spawn(tokio::process::Command::from(wait).kill_on_drop(true).output());
    agent.until_status("the wait is open", |status| status.open_waits == 1).await;
    let published =
        json!([{ "name": "test-event", "tag": "foo", "status": "completed", "server_uuid": instance }]);
    let (status, reply) = until("the instance is known", async || {
        let (status, reply) = gateway.post(published.clone()).await;
        (status == 200).then_some((status, reply))
    })
    .await;
    assert_eq!(status, 200);
    let event = json!({ "name": "test-event", "tag": "foo", "status": "completed", "server_uuid": instance, "code": 200 });
    assert_eq!(reply, json!({ "events": [event] }));
    let wait = soon("the wait's end", wait).await.expect("no panic").expect("its output");
    assert!(wait.status.success(), "{wait:?}");
}

#[tokio::test]
async fn an_agent_takes_rest_requests_by_itself_for_its_own_host() {
    let mut agent = Agent::start_with_rest(&["--extra-event-names", "test-event"]).await;
    let rest = agent.rest.expect("its REST front");
    let instance = uuid();
    let mut wait = open(&agent.unix(), wait_for(&instance, &[("test-event", "foo")])).await;
    assert_eq!(wait.registered.routable, Some(true));
    let reply = common::gateway::post(rest, &json!([sent(&instance, "test-event", "foo")])).await;
    assert_eq!(reply.expect("a reply").0, 200);
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
    agent.terminate();
    assert!(agent.process.ended(common::BOUND).await.success());
}

#[tokio::test]
async fn each_event_is_answered_its_own_code() {
    let gateway = Gateway::start(&[]).await;
    let agent = gateway.agent(&folder(), "alpha").await;
    let [bound, deleted, moved, offloaded, unknown] = [(); 5].map(|()| uuid());
    agent.bind(&bound, Role::Host).await;
    for (instance, why) in [(&deleted, Why::Deleted), (&moved, Why::Moved), (&offloaded, Why::Offloaded)] {
        agent.bind(instance, Role::Host).await;
        agent.unbind(instance, why).await;
    }
    let extended = "volume-extended";
    let all = [&bound, &deleted, &moved, &offloaded, &unknown];
    let mut events: Vec<_> = all.iter().map(|instance| sent(instance, PLUGGED, "port")).collect();
    // What is not there is said before a missing tag, and that before that it is nowhere.
    events.extend(all.map(|instance| json!({ "name": extended, "server_uuid": instance })));
    let (status, reply) = gateway.post(json!(events)).await;
    assert_eq!(status, 207);
    assert_eq!(codes(&reply), [200, 404, 422, 422, 404, 400, 404, 400, 400, 404]);
    agent.until_tags(&["port"]).await;
    let counts = gateway.outbox().await.counts.expect("counts");
    assert_eq!((counts.delivered, counts.refused), (1, 9));
}

#[tokio::test]
async fn a_live_migration_as_it_goes_and_its_roll_back() {
    let gateway = Gateway::start(&[]).await;
    let (source, destination) =
        (gateway.agent(&folder(), "source").await, gateway.agent(&folder(), "destination").await);
    let instance = uuid();
    source.bind(&instance, Role::Host).await;

    // The wait is on the source, the wiring on the destination's side.
    let mut wait = open(&source.unix(), wait_for(&instance, &[(PLUGGED, "p1"), (PLUGGED, "p2")])).await;
    assert_eq!(wait.registered.routable, Some(true));
    source.bind(&instance, Role::MigrationSource).await;
    destination.bind(&instance, Role::MigrationDestination).await;
    assert_eq!(gateway.post(json!([sent(&instance, PLUGGED, "p1")])).await.0, 200);
    // The host moves while the wait is open.
    destination.bind(&instance, Role::Host).await;
    source.unbind(&instance, Why::Moved).await;
    assert_eq!(gateway.post(json!([sent(&instance, PLUGGED, "p2")])).await.0, 200);
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
    destination.until_tags(&["p1", "p2"]).await;
    source.until_tags(&["p1", "p2"]).await;
    // The source's own unplugged comes late, and nobody waits for it.
    until("the wait's binding has ended", async || {
        let known = gateway.lookup(&instance).await.bindings;
        known.iter().all(|binding| binding.host == "destination").then_some(())
    })
    .await;
    let late = json!([sent(&instance, UNPLUGGED, "p1"), sent(&instance, CHANGED, "")]);
    assert_eq!(codes(&gateway.post(late).await.1), [200, 200]);
    destination.until_tags(&["p1", "p2", "p1", ""]).await;

    // Back again, and it is rolled back: it stays where it was.
    destination.bind(&instance, Role::MigrationSource).await;
    source.bind(&instance, Role::MigrationDestination).await;
    assert_eq!(gateway.post(json!([sent(&instance, PLUGGED, "back")])).await.0, 200);
    source.until_tags(&["p1", "p2", "back"]).await;
    source.unbind(&instance, Why::Moved).await;
    destination.bind(&instance, Role::Host).await;
    assert_eq!(gateway.post(json!([sent(&instance, PLUGGED, "stays")])).await.0, 200);
    destination.until_tags(&["p1", "p2", "p1", "", "back", "stays"]).await;
    source.until_tags(&["p1", "p2", "back"]).await;
}

#[tokio::test]
async fn a_resize_is_reverted_with_the_event_before_the_wait() {
    let gateway = Gateway::start(&[]).await;
    let agent = gateway.agent(&folder(), "alpha").await;
    let instance = uuid();
    agent.bind(&instance, Role::Host).await;
    assert_eq!(gateway.post(json!([sent(&instance, PLUGGED, "port")])).await.0, 200);
    agent.until_tags(&["port"]).await;
    let asked = WaitRequest { lookback: Some(seconds(60)), ..wait_for(&instance, &[(PLUGGED, "port")]) };
    let mut wait = open(&agent.unix(), asked).await;
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
}

#[tokio::test]
async fn a_dead_host_gets_its_own_in_order_and_once_when_it_is_back_and_delays_no_other() {
    let gateway = Gateway::start(&[]).await;
    let (home, mut dead) = (folder(), gateway.agent(&folder(), "dead").await);
    let alive = gateway.agent(&home, "alive").await;
    let instance = uuid();
    dead.bind(&instance, Role::MigrationSource).await;
    alive.bind(&instance, Role::MigrationDestination).await;
    assert_eq!(gateway.post(json!([sent(&instance, PLUGGED, "both")])).await.0, 200);
    dead.until_tags(&["both"]).await;
    dead.process.signal(rustix::process::Signal::KILL);
    dead.process.ended(common::BOUND).await;
    let tags: Vec<_> = (0..200).map(|n| format!("{n}")).collect();
    for tag in &tags {
        assert_eq!(gateway.post(json!([sent(&instance, PLUGGED, tag)])).await.0, 200);
    }
    let expected: Vec<_> = ["both"].into_iter().chain(tags.iter().map(String::as_str)).collect();
    alive.until_tags(&expected).await;
    let depth = |outbox: &ListOutboxResponse| outbox.hosts.iter().map(|host| host.depth).sum::<u64>();
    until("only the dead host's wait", async || (depth(&gateway.outbox().await) == 200).then_some(())).await;
    // The gateway too is killed, and answers from what it has on disk.
    let mut gateway = gateway;
    gateway.kill();
    gateway.process.ended(common::BOUND).await;
    let gateway = gateway.again(&[]).await;
    // What it had not yet noted as delivered goes once more to the one that is there.
    until("only the dead host's wait", async || (depth(&gateway.outbox().await) == 200).then_some(())).await;
    let back = gateway.agent(&dead.folder, "dead").await;
    back.until_tags(&expected).await;
    until("nothing waits", async || (depth(&gateway.outbox().await) == 0).then_some(())).await;
    assert_eq!(back.tags().await.len(), expected.len());
}

#[tokio::test]
async fn a_backlog_goes_to_an_agent_that_takes_fewer_events_at_once() {
    let gateway = Gateway::start(&[]).await;
    let mut agent = gateway.agent(&folder(), "small").await;
    let instance = uuid();
    agent.bind(&instance, Role::Host).await;
    agent.process.signal(rustix::process::Signal::KILL);
    agent.process.ended(common::BOUND).await;
    let tags: Vec<_> = (0..50).map(|n| format!("{n}")).collect();
    let events: Vec<_> = tags.iter().map(|tag| sent(&instance, PLUGGED, tag)).collect();
    assert_eq!(gateway.post(events.into()).await.0, 200);
    let back = gateway.agent_with(&agent.folder, "small", &["--max-events", "3"]).await;
    let expected: Vec<_> = tags.iter().map(String::as_str).collect();
    back.until_tags(&expected).await;
}

#[tokio::test]
async fn a_stale_host_that_comes_back_gets_no_event_that_starts_work() {
    let gateway = Gateway::start(&[]).await;
    let old_home = folder();
    let mut old = gateway.agent(&old_home, "old").await;
    let instance = uuid();
    old.bind(&instance, Role::Host).await;
    old.process.signal(rustix::process::Signal::KILL);
    old.process.ended(common::BOUND).await;
    // Both are kept for the old host, which is away.
    let both = json!([sent(&instance, CHANGED, "work"), sent(&instance, PLUGGED, "wait")]);
    assert_eq!(gateway.post(both).await.0, 200);
    // It was evacuated: another host has it now, and gets both.
    let new = gateway.agent(&folder(), "new").await;
    new.bind(&instance, Role::Host).await;
    new.until_tags(&["work", "wait"]).await;
    let old = gateway.agent(&old_home, "old").await;
    old.until_tags(&["wait"]).await;
    let more = json!([sent(&instance, CHANGED, "more work"), sent(&instance, PLUGGED, "more")]);
    assert_eq!(gateway.post(more).await.0, 200);
    new.until_tags(&["work", "wait", "more work", "more"]).await;
    old.until_tags(&["wait", "more"]).await;
    let roles: Vec<_> =
        gateway.lookup(&instance).await.bindings.iter().map(|binding| binding.role()).collect();
    assert_eq!(roles, [Role::Stale, Role::Host]);
}

#[tokio::test]
async fn an_event_held_through_a_partition_neither_satisfies_nor_fails_an_operation_begun_after_it() {
    let gateway = Gateway::start(&[]).await;
    // The agent does not announce itself: the test does, with the address of a door that it holds shut.
    let agent = Agent::start(&[]).await;
    let door = Door::to(agent.address).await;
    let instance = uuid();
    let (announcing, requests) = tokio::sync::mpsc::channel(1);
    let hello = Hello {
        host: "behind-the-door".into(),
        address: door.address.to_string(),
        whole: true,
        bindings: vec![Binding {
            instance_uuid: instance.clone(),
            role: Role::Host.into(),
            ..Binding::default()
        }],
    };
    let hello = AnnounceRequest { sequence: 1, hello: Some(hello), changes: vec![] };
    announcing.send(hello).await.expect("a stream");
    let mut directory = DirectoryClient::new(gateway.channel());
    let answers =
        soon("a stream", directory.announce(ReceiverStream::new(requests))).await.expect("a stream");
    let mut answers = answers.into_inner();
    soon("the answer", answers.message()).await.expect("an answer");

    let failed = json!({ "name": PLUGGED, "tag": "other", "status": "failed", "server_uuid": instance });
    assert_eq!(gateway.post(json!([sent(&instance, PLUGGED, "port"), failed])).await.0, 200);
    // How long an event was held is told but for the time that it is on its way: it is to be much longer than that.
    until("the event has been held for a second", async || {
        let outbox = gateway.outbox().await;
        let age = outbox.hosts.first().and_then(|host| host.oldest_age);
        age.is_some_and(|age| age.seconds >= 1).then_some(())
    })
    .await;
    let keys = [(PLUGGED, "port"), (PLUGGED, "other")];
    let mut wait = open(&agent.unix(), wait_for(&instance, &keys)).await;
    door.open();
    for _ in keys {
        let progress = wait.progress().await;
        assert!(progress.stale, "{progress:?}");
        let held = progress.event.expect("an event").held_for.expect("it was held");
        assert!((held.seconds, held.nanos) > (0, 0));
    }
    let done = json!([sent(&instance, PLUGGED, "port"), sent(&instance, PLUGGED, "other")]);
    assert_eq!(gateway.post(done).await.0, 200);
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
}

/// A way to an agent that is shut until it is opened.
struct Door {
    address: std::net::SocketAddr,
    open: tokio::sync::watch::Sender<bool>,
}

impl Door {
    async fn to(agent: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (open, opened) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let mut opened = opened.clone();
                tokio::spawn(async move {
                    opened.wait_for(|open| *open).await.expect("it is held");
                    let mut there = TcpStream::connect(agent).await.expect("the agent");
                    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                });
            }
        });
        Self { address, open }
    }

    fn open(&self) {
        self.open.send_replace(true);
    }
}

#[tokio::test]
async fn bindings_outlive_the_agent_and_are_announced_again_with_their_revisions() {
    let gateway = Gateway::start(&[]).await;
    let home = folder();
    let mut agent = gateway.agent(&home, "alpha").await;
    let instance = uuid();
    agent.bind(&instance, Role::Host).await;
    let before = gateway.lookup(&instance).await;
    assert_eq!(before.bindings.len(), 1);
    // Killed, it might not have kept the revision yet, and would get a new one.
    agent.process.signal(rustix::process::Signal::TERM);
    agent.process.ended(common::BOUND).await;
    // A gateway that has lost its folder learns it all from the agents.
    let other = Gateway::start(&[]).await;
    let _agent = other.agent(&home, "alpha").await;
    let after = until("it is known", async || {
        let known = other.lookup(&instance).await;
        (!known.bindings.is_empty()).then_some(known)
    })
    .await;
    assert_eq!(after.bindings, before.bindings);
}

#[tokio::test]
async fn a_second_gateway_on_the_same_folder_is_refused_with_the_first_ones_process_id() {
    let gateway = Gateway::start(&[]).await;
    let folder = gateway.folder.path().join("gateway");
    let folder = folder.to_str().expect("a path");
    let output = run(&[
        "gateway",
        "--listen",
        "127.0.0.1:0",
        "--directory-listen",
        "127.0.0.1:0",
        "--data-dir",
        folder,
    ])
    .await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains(&format!("process {}", gateway.process.id())),
        "{said}"
    );
}

#[tokio::test]
async fn an_agent_that_has_lost_its_disk_unbinds_nothing_until_its_driver_has_told_it_all() {
    let gateway = Gateway::start(&[]).await;
    let mut agent = gateway.agent(&folder(), "alpha").await;
    let [old, new] = [(); 2].map(|()| uuid());
    agent.bind(&old, Role::Host).await;
    agent.process.signal(rustix::process::Signal::KILL);
    agent.process.ended(common::BOUND).await;
    let agent = gateway.agent(&folder(), "alpha").await;
    agent.bind(&new, Role::Host).await;
    let bound = async |instance: &str| gateway.lookup(instance).await.bindings.len();
    assert_eq!((bound(&old).await, bound(&new).await), (1, 1));
    let answer = agent.replace(&[&new]).await;
    assert_eq!((answer.bound, answer.unbound, answer.routable), (0, 0, Some(true)));
    assert_eq!((bound(&old).await, bound(&new).await), (0, 1));
    assert_eq!(gateway.lookup(&old).await.why(), Why::Moved);
}

#[tokio::test]
async fn an_event_for_a_host_that_is_gone_waits_for_the_next_one_and_ends_moved_if_there_is_none() {
    let gateway = Gateway::start(&["--park-age", "2s"]).await;
    let mut gone = gateway.agent(&folder(), "gone").await;
    let [moves, stays] = [(); 2].map(|()| uuid());
    gone.bind(&moves, Role::Host).await;
    gone.bind(&stays, Role::Host).await;
    gone.process.signal(rustix::process::Signal::KILL);
    gone.process.ended(common::BOUND).await;
    let next = gateway.agent(&folder(), "next").await;
    let both = json!([sent(&moves, CHANGED, "moves"), sent(&stays, CHANGED, "stays")]);
    assert_eq!(gateway.post(both).await.0, 200);
    gateway.forget("gone").await;
    next.bind(&moves, Role::Host).await;
    next.until_tags(&["moves"]).await;
    let ended = until("the other ends", async || gateway.outbox().await.ended.pop()).await;
    let tag = ended.event.as_ref().map_or("", |event| event.tag.as_str());
    assert_eq!((ended.how(), tag), (How::Moved, "stays"));
}
