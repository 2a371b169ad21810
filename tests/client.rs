//! The client against a real agent, over a connection that is cut again and again.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{Agent, BOUND, soon, until};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use wakeful::client::address::Address;
use wakeful::client::{Client, KeyState, Kind};
use wakeful::event::{InstanceId, Key};
use wakeful::proto::Event;

/// Passes on what clients and an agent say to each other, and can be cut.
struct Line {
    path: PathBuf,
    cut: Arc<Notify>,
    _passing: JoinSet<()>,
    _dir: TempDir,
}

impl Line {
    fn to(agent: &Agent) -> Self {
        let dir = TempDir::with_prefix("wakeful-test-").expect("a folder");
        let path = dir.path().join("line.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let cut = Arc::new(Notify::new());
        let mut passing = JoinSet::new();
        passing.spawn(pass(listener, agent.socket.clone(), Arc::clone(&cut)));
        Self { path, cut, _passing: passing, _dir: dir }
    }

    fn cut(&self) {
        self.cut.notify_one();
    }
}

async fn pass(listener: UnixListener, agent: PathBuf, cut: Arc<Notify>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.expect("a connection");
                connections.spawn(connect(client, agent.clone()));
            }
            () = cut.notified() => connections.abort_all(),
        }
    }
}

async fn connect(mut client: UnixStream, agent: impl AsRef<Path>) {
    if let Ok(mut agent) = UnixStream::connect(agent).await {
        // However it ends, it ends.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut agent).await;
    }
}

fn client(path: &Path) -> Client {
    Client::new(&Address::Unix(path.into())).expect("a client")
}

fn event(instance: InstanceId, name: &str, tag: usize) -> Event {
    let (name, tag) = (name.to_owned(), tag.to_string());
    Event { instance_uuid: instance.to_string(), name, tag, ..Event::default() }
}

fn key(name: &str, tag: usize) -> Key {
    Key::new(name.into(), tag.to_string(), 255).expect("a key")
}

#[tokio::test]
async fn waits_whose_connection_is_cut_again_and_again_miss_nothing_and_end_once() {
    const WAITS: usize = 200;
    let agent = Agent::start(&[]).await;
    let line = Line::to(&agent);
    let (drivers, sender) = (client(&line.path), client(&agent.socket));
    let instance = InstanceId::random();

    let mut waits = JoinSet::new();
    for n in 0..WAITS {
        let keys = [key("first", n), key("second", n)];
        let wait = drivers.wait(instance).keys(&keys).timeout(BOUND);
        let wait = soon("a wait", wait.open()).await.expect("it opens");
        waits.spawn(async move { wait.outcome().await });
    }
    for name in ["first", "second"] {
        for n in 0..WAITS {
            if n % 20 == 0 {
                line.cut();
            }
            let results = sender.send([event(instance, name, n)]).await.expect("a result");
            assert!(results[0].position > 0, "{results:?}");
        }
    }
    let outcomes = soon("the outcomes", waits.join_all()).await;
    for outcome in outcomes {
        let outcome = outcome.expect("an outcome");
        assert!(outcome.is_completed() && outcome.confirmed, "{outcome:?}");
        assert!(outcome.keys.iter().all(|key| key.state == KeyState::Completed && key.position.is_some()));
    }
    agent.until_status("no wait is open", |status| status.open_waits == 0).await;
}

#[tokio::test]
async fn skips_arms_and_cancels_hold_whenever_the_connection_is_cut() {
    const WAITS: usize = 60;
    let agent = Agent::start(&[]).await;
    let line = Line::to(&agent);
    let (drivers, sender) = (client(&line.path), client(&agent.socket));
    let instance = InstanceId::random();

    let mut waits = Vec::new();
    for n in 0..WAITS {
        let keys = [key("first", n), key("second", n)];
        let wait = drivers.wait(instance).keys(&keys).timeout(BOUND).start_on_arm(true);
        waits.push(soon("a wait", wait.open()).await.expect("it opens"));
    }
    for (n, wait) in waits.iter().enumerate() {
        if n % 7 == 0 {
            line.cut();
        }
        wait.arm();
        match n % 3 {
            0 => wait.cancel("enough"),
            _ => wait.skip([&key("second", n)]),
        }
        if n % 5 == 0 {
            line.cut();
        }
        sender.send([event(instance, "first", n)]).await.expect("a result");
    }
    for (n, wait) in waits.iter().enumerate() {
        let outcome = soon("an outcome", wait.outcome()).await.expect("an outcome");
        if n % 3 == 0 {
            // The order of a cancel and an event that follows it on another connection is not given; but
            // nobody has told it of its second key.
            assert_eq!(outcome.kind, Kind::Cancelled, "{outcome:?}");
        } else {
            assert_eq!(outcome.kind, Kind::Completed, "{outcome:?}");
            let states: Vec<_> = outcome.keys.iter().map(|key| key.state).collect();
            assert_eq!(states, [KeyState::Completed, KeyState::Skipped]);
        }
    }
    drop(waits);
    agent.until_status("no wait is open", |status| status.open_waits == 0).await;
}

#[tokio::test]
async fn a_wait_whose_handle_is_dropped_while_its_connection_is_cut_is_not_left_open() {
    let agent = Agent::start(&[]).await;
    let line = Line::to(&agent);
    let drivers = client(&line.path);
    let waits = InstanceId::random();
    for n in 0..50 {
        let wait = drivers.wait(waits).key("a", n.to_string());
        let wait = soon("a wait", wait.open()).await.expect("it opens");
        line.cut();
        if n % 2 == 0 {
            until("the cut is noticed", async || wait.progress().away.then_some(())).await;
        }
        drop(wait);
    }
    agent.until_status("no wait is open", |status| status.open_waits == 0).await;
}

#[tokio::test]
async fn time_goes_on_while_the_connection_is_cut_and_the_outcome_is_never_early() {
    let agent = Agent::start(&[]).await;
    let line = Line::to(&agent);
    let drivers = client(&line.path);
    let timeout = Duration::from_millis(600);
    let clock = wakeful::clock::Clock::start(wakeful::clock::Time::default());
    let asked = clock.now();
    let wait = drivers.wait(InstanceId::random()).key("a", "").timeout(timeout);
    let wait = soon("a wait", wait.open()).await.expect("it opens");
    let mut updates = wait.updates();
    line.cut();
    assert!(soon("the cut", updates.next()).await.is_some_and(|progress| progress.away));
    let outcome = soon("the outcome", wait.outcome()).await.expect("an outcome");
    let took = clock.now().since(asked);
    assert_eq!((outcome.kind, outcome.confirmed), (Kind::TimedOut, true));
    assert!(took >= timeout, "{took:?}");
}
