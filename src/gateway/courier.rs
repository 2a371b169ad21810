//! A courier a host: takes what waits for it to its agent, in order, and tries again while that is away.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep_until, timeout};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tracing::{debug, info};
use xxhash_rust::xxh3::xxh3_64;

use super::ends::How;
use super::outbox::Kept;
use super::post::Post;
use super::queues::{For, Queue, Route, Tried};
use crate::backoff::Backoff;
use crate::client::error::innermost;
use crate::clock::Time;
use crate::convert;
use crate::directory::Host;
use crate::event::Status as Is;
use crate::net::flag::Flag;
use crate::net::roads::Roads;
use crate::proto::dispatch_result::Disposition;
use crate::proto::event_receiver_client::EventReceiverClient;
use crate::proto::{self, DispatchRequest, DispatchResult};

/// Deliveries in one call, at most. An agent takes 1,000 by default; from one that takes less half as many are tried
/// each time that it says so.
const AT_ONCE: usize = 500;
/// Characters of what an agent says of a delivery that it did not take.
const MAX_WHY: usize = 1_024;
/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// An agent that has answered within this is taken to be there.
const FRESH: Duration = Duration::from_secs(1);
const RECEIVER: &str = "wakeful.v1.EventReceiver";
/// How long calls that are under way may take once all is to stop.
const LAST_CALLS: Duration = Duration::from_secs(1);
/// Pauses between tries of a host that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Starts couriers for queues as they come, until `stop` is raised; then lets each end what it is at.
pub(super) async fn couriers(
    post: Arc<Post>,
    roads: Arc<dyn Roads>,
    mut queues: tokio::sync::mpsc::UnboundedReceiver<(For, Arc<Queue>)>,
    stop: Flag,
) {
    let mut running = JoinSet::new();
    let mut stopped = pin!(stop.clone().raised());
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(_) = running.join_next() => {}
            queue = queues.recv() => {
                let Some((host, queue)) = queue else { break };
                let (post, roads, stop) = (Arc::clone(&post), Arc::clone(&roads), stop.clone());
                running.spawn(Courier::new(post, roads, host, queue).run(stop));
            }
        }
    }
    // What is cut off is sent again by the next process, and known to the agent by its id.
    let _ = timeout(LAST_CALLS, async { while running.join_next().await.is_some() {} }).await;
    running.shutdown().await;
}

struct Courier {
    post: Arc<Post>,
    roads: Arc<dyn Roads>,
    host: For,
    queue: Arc<Queue>,
    road: Option<(String, Channel)>,
    /// When its agent last answered.
    heard_at: Option<Time>,
    /// Deliveries in one call.
    at_once: usize,
    backoff: Backoff,
}

/// What to do next.
enum Next {
    /// There may be more.
    GoOn,
    /// Nothing can be done before that, unless there are news.
    Wait(Option<Time>),
}

impl Courier {
    fn new(post: Arc<Post>, roads: Arc<dyn Roads>, host: For, queue: Arc<Queue>) -> Self {
        let seed = xxh3_64(host.as_ref().map_or("", Host::as_str).as_bytes());
        let backoff = Backoff::new(post.clock().now(), seed, FIRST_PAUSE, LONGEST_PAUSE);
        Self { post, roads, host, queue, road: None, heard_at: None, at_once: AT_ONCE, backoff }
    }

    async fn run(mut self, stop: Flag) {
        let mut stopped = pin!(stop.clone().raised());
        while !stop.is_raised() {
            let wait = match self.turn().await {
                Next::GoOn => continue,
                Next::Wait(wait) => wait,
            };
            let wake = self.post.clock().instant(wait.unwrap_or_default());
            tokio::select! {
                biased;
                () = &mut stopped => return,
                // Who is told that it is kept goes first.
                () = self.queue.news.notified() => yield_now().await,
                () = sleep_until(wake), if wait.is_some() => {}
            }
        }
    }

    async fn turn(&mut self) -> Next {
        let now = self.post.clock().now();
        if let Some(wake) = self.rests(now) {
            return Next::Wait(Some(wake));
        }
        let front = self.queue.front(self.at_once);
        let fresh = |kept: &Kept| self.post.expires_at(&kept.delivery) > now;
        let (front, late): (Vec<_>, Vec<_>) = front.into_iter().partition(fresh);
        if !late.is_empty() {
            self.expire(&late).await;
            return Next::GoOn;
        }
        let oldest = front.iter().map(|kept| self.post.expires_at(&kept.delivery)).min();
        let (Some(host), Some(_)) = (self.host.clone(), oldest) else { return Next::Wait(oldest) };
        let kicks = self.queue.tried().kicks;
        match self.deliver(&host, front).await {
            Ok(()) => {
                *self.queue.tried() = Tried { kicks, ..Tried::default() };
                self.backoff.connected(self.post.clock().now());
                Next::GoOn
            }
            Err(error) => {
                let now = self.post.clock().now();
                let pause = self.backoff.lost(now);
                let mut tried = self.queue.tried();
                if tried.failures == 0 {
                    info!(%host, error, "events cannot be delivered for now");
                }
                tried.failures += 1;
                tried.error = Some(error);
                // Its agent may have come meanwhile.
                tried.next = (tried.kicks == kicks).then(|| now.plus(pause));
                Next::GoOn
            }
        }
    }

    /// Until when nothing is tried, if its host is away; and nothing runs out before.
    fn rests(&self, now: Time) -> Option<Time> {
        let next = self.queue.tried().next.filter(|next| *next > now)?;
        let oldest = self.queue.front(1).first().map(|kept| self.post.expires_at(&kept.delivery))?;
        (oldest > now).then(|| next.min(oldest))
    }

    /// Ends what was not to be delivered in time.
    async fn expire(&self, late: &[Kept]) {
        if self.host.is_some() {
            let error = self.queue.tried().error.clone();
            let why = error.unwrap_or_else(|| "its host's agent was not reachable in time".to_owned());
            late.iter().for_each(|kept| self.post.end(&self.queue, kept, How::Expired, why.clone()));
            return;
        }
        let instances: Vec<_> = late.iter().map(|kept| kept.delivery.instance).collect();
        // If it cannot be looked for, nothing is known of it.
        let known = self.post.directory.look(&instances).await.unwrap_or_default();
        for (at, kept) in late.iter().enumerate() {
            let how = match known.get(at).and_then(|known| known.unbound) {
                Some(_) => How::Moved,
                None => How::Expired,
            };
            self.post.end(&self.queue, kept, how, "no host had its instance in time".to_owned());
        }
    }

    /// Reads the bindings again, sends elsewhere what no longer belongs here, and the rest to the agent.
    async fn deliver(&mut self, host: &Host, front: Vec<Kept>) -> Result<(), String> {
        let instances: Vec<_> = front.iter().map(|kept| kept.delivery.instance).collect();
        let known = self.post.directory.look(&instances).await.map_err(|error| error.to_string())?;
        let (mut elsewhere, mut before) = (BTreeSet::new(), None);
        for (instance, known) in instances.into_iter().zip(&known) {
            let seen = before.replace(instance) == Some(instance);
            if !seen && !self.post.queues.is_routed(instance, &Route::of(known)) {
                elsewhere.insert(instance);
            }
        }
        let mut here = front;
        let mut settled = Ok(());
        if !elsewhere.is_empty() {
            settled = self.post.settle(&elsewhere).await.map_err(|error| error.to_string());
            // What could not be settled stays; it does not hold the others up.
            let stays = |kept: &Kept| settled.is_err() && elsewhere.contains(&kept.delivery.instance);
            here.retain(|kept| !stays(kept) && self.queue.has(kept.ticket));
        }
        if here.is_empty() {
            return settled;
        }
        let channel = self.channel(host).await?;
        let events = here.len();
        let results = match self.dispatch(channel, &here).await {
            Ok(results) => results,
            Err(Failed::TooMuch(_)) if events > 1 => {
                self.at_once = events / 2;
                return Ok(());
            }
            Err(Failed::TooMuch(why)) => {
                here.iter().for_each(|kept| self.post.end(&self.queue, kept, How::Rejected, why.clone()));
                return Ok(());
            }
            Err(Failed::Away(why)) => {
                (self.road, self.heard_at) = (None, None);
                return Err(why);
            }
        };
        if results.len() != events {
            return Err(format!("{events} events were sent, and {} answered", results.len()));
        }
        self.take_in(here, results)
    }

    async fn dispatch(&mut self, channel: Channel, here: &[Kept]) -> Result<Vec<DispatchResult>, Failed> {
        // How long an event was kept is told as it is sent. If its way were not open, it would lie there for longer
        // than it says, and could answer a wait that was opened meanwhile.
        let fresh = |heard: Time| self.post.clock().now().since(heard) < FRESH;
        if !self.heard_at.is_some_and(fresh) {
            let request = HealthCheckRequest { service: RECEIVER.to_owned() };
            let mut health = HealthClient::new(channel.clone());
            let health = in_time(health.check(request)).await.map_err(Failed::away)?;
            if health.status() != ServingStatus::Serving {
                return Err(Failed::Away(format!("its agent says {:?}", health.status())));
            }
        }
        let now = self.post.clock().now();
        let events = here.iter().map(|kept| event(kept, now)).collect();
        let mut agent = EventReceiverClient::new(channel);
        let answer = in_time(agent.dispatch(DispatchRequest { events })).await?;
        self.heard_at = Some(self.post.clock().now());
        Ok(answer.results)
    }

    fn take_in(&self, sent: Vec<Kept>, results: Vec<DispatchResult>) -> Result<(), String> {
        let mut delivered = Vec::with_capacity(sent.len());
        let mut settled = Ok(());
        for (kept, result) in sent.into_iter().zip(results) {
            match result.disposition() {
                Disposition::Woke | Disposition::Retained | Disposition::Duplicate => {
                    debug!(host = ?self.host, tag = &*kept.delivery.tag, event_id = %kept.delivery.id, position = result.position, ticket = kept.ticket.0, "delivered");
                    delivered.push(kept.ticket);
                }
                Disposition::Rejected => {
                    let why = bounded(format!("{:?}: {}", result.reason(), result.message));
                    self.post.end(&self.queue, &kept, How::Rejected, why);
                }
                // What became of it nobody knows: it is sent again.
                Disposition::Unspecified => {
                    settled = Err(format!("its agent answered disposition {}", result.disposition));
                }
            }
        }
        self.post.delivered(&self.queue, delivered);
        settled
    }

    async fn channel(&mut self, host: &Host) -> Result<Channel, String> {
        let address = self.post.directory.address(host).await.map_err(|error| error.to_string())?;
        let address = address.ok_or("its agent has never announced itself")?;
        if let Some((known, channel)) = &self.road
            && *known == address
        {
            return Ok(channel.clone());
        }
        let channel = self.roads.to(&address).ok_or_else(|| format!("{address} is no address"))?;
        // It may be another process, with other limits.
        self.at_once = AT_ONCE;
        self.road = Some((address, channel.clone()));
        Ok(channel)
    }
}

/// A call that came to nothing, and why.
enum Failed {
    /// Its agent takes no request like this.
    TooMuch(String),
    /// It may be tried again.
    Away(String),
}

impl Failed {
    /// Whatever it was, it may be tried again.
    fn away(self) -> Self {
        match self {
            Self::TooMuch(why) | Self::Away(why) => Self::Away(why),
        }
    }
}

/// What an agent says, cut where it is too long to be remembered.
fn bounded(why: String) -> String {
    why.chars().take(MAX_WHY).collect()
}

/// What an agent answers, if it does in time.
async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failed> {
    match timeout(PATIENCE, call).await {
        Err(_) => Err(Failed::Away(format!("no answer within {} s", PATIENCE.as_secs()))),
        Ok(Err(status)) => {
            let why = bounded(format!("{:?}: {}", status.code(), innermost(&status)));
            Err(match status.code() {
                Code::InvalidArgument | Code::OutOfRange => Failed::TooMuch(why),
                _ => Failed::Away(why),
            })
        }
        Ok(Ok(answer)) => Ok(answer.into_inner()),
    }
}

fn event(kept: &Kept, now: Time) -> proto::Event {
    let delivery = &kept.delivery;
    let status = match delivery.status {
        Is::Completed => proto::event::Status::Completed,
        Is::Failed => proto::event::Status::Failed,
        Is::InProgress => proto::event::Status::InProgress,
    };
    proto::Event {
        event_id: delivery.id.to_string(),
        instance_uuid: delivery.instance.to_string(),
        name: delivery.name.to_string(),
        tag: delivery.tag.to_string(),
        status: status.into(),
        held_for: Some(convert::duration(now.since(delivery.kept_at))),
        ..proto::Event::default()
    }
}
