//! Those who call the agent: senders, drivers, watchers, consumers and an operator.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic_types::StatusExt;
use wakeful::client::{Client, Error};
use wakeful::clock::Clock;
use wakeful::engine::FailurePolicy;
use wakeful::event::{Cursor, InstanceId, Key, WaitId};
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::event::Status as Is;
use wakeful::proto::reason::Code as Reason;
use wakeful::proto::{self, AckRequest, DispatchRequest, Event, EventFilter, WatchRequest};

use crate::chance::Chance;
use crate::history::{Acknowledged, Consumed, History, Stream, Waited, Watched, position};

const NAMES: [&str; 2] = ["plugged", "extended"];
const TAGS: [&str; 2] = ["", "port"];

/// How an agent is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Tcp,
    Unix,
}

/// A new connection to the agent, whichever there is.
pub(crate) type Connect = Arc<dyn Fn(Port, Chance) -> Client + Send + Sync>;

/// What all of them have.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) connect: Connect,
    pub(crate) clock: Clock,
    pub(crate) history: History,
    /// By how much pauses are shorter than in a world whose time costs nothing.
    pub(crate) haste: u32,
    pub(crate) instances: Vec<InstanceId>,
    /// Nothing new is begun once this is raised.
    pub(crate) over: tokio::sync::watch::Receiver<bool>,
}

impl World {
    fn client(&self, port: Port, chance: &mut Chance) -> Client {
        (self.connect)(port, chance.fork())
    }

    fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        self.history.tell(self.clock, what);
    }

    fn event(&self, chance: &mut Chance) -> Event {
        let status = match chance.below(10) {
            0 | 1 => Is::Failed,
            2 => Is::InProgress,
            _ => Is::Completed,
        };
        let held = chance.percent(20).then(|| chance.millis(0, 8_000));
        Event {
            event_id: chance.uuid().to_string(),
            instance_uuid: chance.of(&self.instances).to_string(),
            name: (*chance.of(&NAMES)).into(),
            tag: (*chance.of(&TAGS)).into(),
            status: status.into(),
            held_for: held.map(wakeful::convert::duration),
            ..Event::default()
        }
    }

    fn acknowledged(&self, who: usize, event: &Event, result: &proto::DispatchResult) {
        if result.disposition() == Disposition::Rejected {
            self.history.wrong(format!("a good event was rejected: {result:?}"));
            return;
        }
        self.tell(format_args!(
            "sender {who}: {} {}:{} {:?} at {}",
            result.disposition().as_str_name(),
            event.name,
            event.tag,
            event.status(),
            result.position
        ));
        let (id, position, at) = (event.event_id.clone(), result.position, self.clock.now());
        self.history.see().acknowledged.push(Acknowledged { id, position, at });
    }
}

/// Sends events, and each again until it is acknowledged.
pub(crate) async fn sender(world: World, who: usize, mut chance: Chance) {
    let channels = [world.client(Port::Tcp, &mut chance), world.client(Port::Tcp, &mut chance)];
    let piped = chance.percent(30);
    let longest_pause = if chance.percent(40) { 6_000 } else { 700 };
    while !world.is_over() {
        sleep(chance.millis(0, longest_pause) / world.haste).await;
        let batch: Vec<Event> = (0..1 + chance.below(4)).map(|_| world.event(&mut chance)).collect();
        let twice = chance.percent(25);
        let patience = chance.millis(300, 3_000);
        let send = async |client: &Client, mut pause: Chance| loop {
            let sent = timeout(patience, async {
                match piped {
                    false => send_once(client, &batch).await,
                    true => send_piped(client, &batch).await,
                }
            });
            match sent.await {
                Ok(Ok(results)) if results.len() == batch.len() => {
                    for (event, result) in batch.iter().zip(&results) {
                        world.acknowledged(who, event, result);
                    }
                    return;
                }
                Ok(Ok(results)) => {
                    world.history.wrong(format!("{} results, {} sent", results.len(), batch.len()))
                }
                // Nobody knows what became of them.
                Ok(Err(_)) | Err(_) => sleep(pause.millis(10, 500) / world.haste).await,
            }
        };
        let (one, other) = (chance.fork(), chance.fork());
        match twice {
            true => drop(tokio::join!(biased; send(&channels[0], one), send(&channels[1], other))),
            false => send(&channels[0], one).await,
        }
    }
}

async fn send_once(client: &Client, batch: &[Event]) -> Result<Vec<proto::DispatchResult>, Status> {
    let request = DispatchRequest { events: batch.to_vec() };
    Ok(client.event_receiver().dispatch(request).await?.into_inner().results)
}

/// Each event in a request of its own, without waiting for the answers in between.
async fn send_piped(client: &Client, batch: &[Event]) -> Result<Vec<proto::DispatchResult>, Status> {
    let requests: Vec<_> =
        batch.iter().map(|event| DispatchRequest { events: vec![event.clone()] }).collect();
    let mut answers =
        client.event_receiver().dispatch_stream(tokio_stream::iter(requests)).await?.into_inner();
    let mut results = Vec::new();
    while let Some(answer) = answers.message().await? {
        results.extend(answer.results);
    }
    Ok(results)
}

/// An event that completes each key of each instance, so that whatever still waits has its answer.
pub(crate) async fn send_the_last(world: World, mut chance: Chance) {
    let client = world.client(Port::Tcp, &mut chance);
    for instance in &world.instances {
        for (name, tag) in NAMES.into_iter().flat_map(|name| TAGS.map(|tag| (name, tag))) {
            let event = Event {
                event_id: chance.uuid().to_string(),
                instance_uuid: instance.to_string(),
                name: name.into(),
                tag: tag.into(),
                ..Event::default()
            };
            let one = [event];
            loop {
                match timeout(Duration::from_secs(3), send_once(&client, &one)).await {
                    Ok(Ok(results)) => break world.acknowledged(99, &one[0], &results[0]),
                    Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        }
    }
}

/// Opens waits one after the other, and waits for their outcomes.
pub(crate) async fn driver(world: World, who: usize, mut chance: Chance) {
    let client = world.client(Port::Unix, &mut chance);
    let mut last: Option<Cursor> = None;
    for number in 0.. {
        sleep(chance.millis(0, 500) / world.haste).await;
        if world.is_over() {
            return;
        }
        let name = format!("driver {who} wait {number}");
        let instance = *chance.of(&world.instances);
        let mut keys: Vec<(String, String)> = Vec::new();
        for _ in 0..1 + chance.below(3) {
            let key = ((*chance.of(&NAMES)).to_owned(), (*chance.of(&TAGS)).to_owned());
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let long = chance.percent(40);
        let span = if long { Duration::from_secs(3_000) } else { chance.millis(50, 9_000) };
        let policy = if chance.percent(50) { FailurePolicy::FailFast } else { FailurePolicy::Collect };
        let (in_progress_fails, on_arm) = (chance.percent(20), chance.percent(15));
        let mut builder = client
            .wait(instance)
            .id(WaitId(chance.uuid()))
            .timeout(span)
            .failure_policy(policy)
            .in_progress_fails(in_progress_fails)
            .start_on_arm(on_arm);
        for (name, tag) in &keys {
            builder = builder.key(name, tag);
        }
        let mut after = None;
        let start = chance.below(10);
        if start < 2 {
            builder = builder.lookback(chance.millis(0, 5_000));
        } else if start < 5
            && let Some(cursor) = last
        {
            after = Some(cursor.position.0);
            builder = builder.after(cursor);
        }
        let from = world.clock.now();
        let known = world.history.see().acknowledged.iter().map(|known| known.position).max();
        let wait = match builder.open().await {
            Ok(wait) => wait,
            Err(Error::Refused {
                reason: Some(Reason::Stopping | Reason::Exhausted | Reason::CallTimedOut),
                ..
            }) => continue,
            Err(Error::Refused { reason: Some(reason), .. }) => {
                world.history.wrong(format!("{name} was refused: {reason:?}"));
                continue;
            }
            Err(_) => continue,
        };
        let (Some(cursor), Some(opened)) = (wait.cursor(), wait.opened()) else {
            world.history.wrong(format!("{name} has no cursor"));
            continue;
        };
        if Some(cursor.position.0) < known {
            world
                .history
                .wrong(format!("{name} is open at {}, and {known:?} was acknowledged", cursor.position));
        }
        if start >= 5 || (start >= 2 && last.is_none()) {
            after = Some(cursor.position.0);
        }
        world.tell(format_args!("{name}: open at {} for {keys:?}", cursor.position));
        let mut waited = Waited {
            name,
            instance,
            keys,
            policy,
            in_progress_fails,
            after,
            opened,
            from,
            timeout: span,
            skipped: false,
            cancelled: false,
            outcome: None,
            dropped: false,
        };
        if on_arm {
            sleep(chance.millis(0, 2_000)).await;
            waited.from = world.clock.now();
            wait.arm();
        }
        match chance.below(20) {
            0 => {
                let _ = timeout(chance.millis(0, 3_000), wait.outcome()).await;
                waited.dropped = true;
                drop(wait);
                world.history.see().waits.push(waited);
                continue;
            }
            1 => {
                sleep(chance.millis(0, 2_000)).await;
                waited.cancelled = true;
                wait.cancel("no longer needed");
            }
            2 => {
                sleep(chance.millis(0, 2_000)).await;
                waited.skipped = true;
                let (name, tag) = waited.keys[0].clone();
                wait.skip(&[Key::new(name, tag, 255).expect("a key")]);
            }
            _ => {}
        }
        let pending = {
            let mut seen = world.history.see();
            seen.waits.push(waited);
            seen.waits.len() - 1
        };
        match wait.outcome().await {
            Ok(outcome) => {
                let now = world.clock.now();
                last = Some(outcome.cursor);
                world.tell(format_args!(
                    "driver {who} wait {number}: {:?} at {}, confirmed {} {:?} {}",
                    outcome.kind, outcome.cursor.position, outcome.confirmed, outcome.reason, outcome.why
                ));
                world.history.see().waits[pending].outcome = Some((outcome, now));
            }
            Err(error) => world.history.wrong(format!("driver {who} wait {number} ended with {error}")),
        }
    }
}

fn filter(names: &[String]) -> Option<EventFilter> {
    Some(EventFilter { names: names.to_vec(), ..EventFilter::default() })
}

fn some_names(chance: &mut Chance) -> Vec<String> {
    match chance.below(3) {
        0 => Vec::new(),
        n => vec![NAMES[n as usize - 1].to_owned()],
    }
}

/// Watches the log, and goes on from its last cursor whenever its stream ends.
pub(crate) async fn watcher(world: World, who: usize, mut chance: Chance) {
    let client = world.client(Port::Unix, &mut chance);
    let names = some_names(&mut chance);
    let mut cursor: Option<proto::Cursor> = None;
    world.history.see().watches.push(Watched { names: names.clone(), ..Watched::default() });
    let place = world.history.see().watches.len() - 1;
    loop {
        let request =
            WatchRequest { filter: filter(&names), after: cursor.clone(), ..WatchRequest::default() };
        if let Ok(Ok(stream)) = timeout(Duration::from_secs(5), client.event_log().watch(request)).await {
            let mut stream = stream.into_inner();
            // Now and then it goes away by itself.
            let leaves = chance.below(40);
            for _ in 0..if leaves == 0 { 3 } else { u64::MAX } {
                let Ok(Some(message)) = stream.message().await else { break };
                let at = position(message.cursor.as_ref()).0;
                let mut seen = world.history.see();
                let watched = &mut seen.watches[place];
                watched.after.get_or_insert(at);
                watched.at = at;
                watched.seen.extend(message.event.map(|event| event.position));
                cursor = message.cursor;
            }
            world.tell(format_args!("watcher {who}: stream ended at {}", position(cursor.as_ref())));
        }
        sleep(chance.millis(0, 500) / world.haste).await;
    }
}

/// Works off what it is sent, and acknowledges it, most of the time.
pub(crate) async fn consumer(world: World, name: String, mut chance: Chance) {
    let client = world.client(Port::Unix, &mut chance);
    let names = some_names(&mut chance);
    let first = Consumed { names: names.clone(), ..Consumed::default() };
    world.history.see().consumers.insert(name.clone(), first);
    let (mut acknowledged, mut tried) = (0, 0);
    loop {
        let request =
            WatchRequest { filter: filter(&names), consumer: name.clone(), ..WatchRequest::default() };
        let opened = timeout(Duration::from_secs(5), client.event_log().watch(request)).await;
        if let Ok(Ok(stream)) = opened {
            let mut stream = stream.into_inner();
            let mut begun = false;
            while let Ok(Some(message)) = stream.message().await {
                let at = position(message.cursor.as_ref()).0;
                {
                    let mut seen = world.history.see();
                    let consumed = seen.consumers.get_mut(&name).expect("it is there");
                    consumed.after.get_or_insert(at);
                    if !begun {
                        consumed.streams.push(Stream { acknowledged, tried, ..Stream::default() });
                        begun = true;
                    }
                }
                let Some(event) = message.event else { continue };
                world.tell(format_args!("consumer {name}: event {}", event.position));
                {
                    let mut seen = world.history.see();
                    let consumed = seen.consumers.get_mut(&name).expect("it is there");
                    consumed.streams.last_mut().expect("it has begun").seen.push(event.position);
                }
                if chance.percent(3) && !world.is_over() {
                    break;
                }
                if !world.is_over() {
                    sleep(chance.millis(0, 200) / world.haste).await;
                }
                if chance.percent(70) || world.is_over() {
                    let failed = chance.percent(10);
                    let request = AckRequest {
                        consumer: name.clone(),
                        cursor: message.cursor,
                        failed,
                        why: if failed { "it did not work".into() } else { String::new() },
                    };
                    tried = tried.max(event.position);
                    match timeout(Duration::from_secs(3), client.event_log().ack(request)).await {
                        Ok(Ok(_)) => {
                            acknowledged = acknowledged.max(event.position);
                            world.tell(format_args!("consumer {name}: acknowledged {}", event.position));
                        }
                        Ok(Err(_)) | Err(_) => break,
                    }
                }
            }
        } else if let Ok(Err(status)) = &opened
            && let Some(info) = status.get_details_error_info()
            && info.reason.starts_with("CURSOR")
        {
            world.history.wrong(format!("consumer {name}: {}", status.message()));
        }
        sleep(chance.millis(0, 500) / world.haste).await;
    }
}

/// Cancels an instance now and then.
pub(crate) async fn operator(world: World, mut chance: Chance) {
    let client = world.client(Port::Unix, &mut chance);
    while !world.is_over() {
        sleep(chance.millis(1_000, 15_000) / world.haste).await;
        let request = proto::CancelInstanceRequest {
            instance_uuid: chance.of(&world.instances).to_string(),
            why: "the instance goes away".into(),
        };
        let asked = timeout(Duration::from_secs(3), client.waits().cancel_instance(request)).await;
        if let Ok(Ok(reply)) = asked {
            let at = position(reply.into_inner().cursor.as_ref()).0;
            world.tell(format_args!("operator: cancelled an instance at {at}"));
            world.history.see().cancelled.push(at);
        }
    }
}
