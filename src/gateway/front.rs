//! What stands behind the REST front: says of each event what becomes of it, and keeps those that go somewhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use super::ends::Refused;
use super::outbox::{Delivery, KeepError};
use super::post::{Post, to_each};
use super::queues::{InFlight, Route};
use super::rest::onward::Onward;
use super::rest::{Arrived, Front, NotTaken, Purpose, Unavailable};
use super::upstream::Upstream;
use crate::clock::Time;
use crate::config::choices;
use crate::directory::{Known, Why};
use crate::event::EventId;

/// How often a request that waits for room looks for it.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(20);

/// What becomes of events of an instance that nobody has ever spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// There is no such instance.
    NotFound,
    /// It is on no host.
    Unprocessable,
    /// They are kept for a while, and go where it is bound meanwhile.
    Park,
}

choices!(Unknown { NotFound = "404", Unprocessable = "422", Park = "park" });

/// The code of an event that only the upstream has one for, until it has.
const NOT_YET: u16 = 503;

/// How often it is looked where instances are that move meanwhile. After that they are settled later.
const LOOKS: usize = 3;

/// Keeps what goes somewhere.
#[derive(Clone)]
pub struct Keeper {
    post: Arc<Post>,
    unknown: Unknown,
    /// How long a request may wait for room in the outbox.
    patience: Duration,
    /// Who has what has no host here, if anybody.
    upstream: Option<Arc<Upstream>>,
}

/// What became of a request's events here.
struct Routed {
    codes: Vec<u16>,
    /// Those that go on, in order.
    onward: Vec<Going>,
}

/// An event that goes on.
struct Going {
    /// Its place in the request.
    place: usize,
    /// The event, if it is not kept here as well; then it has no code yet.
    alone: Option<Arrived>,
}

/// Where an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Somewhere,
    Parked,
    NoInstance,
    NoHost,
}

impl Keeper {
    pub(super) fn new(post: Arc<Post>, unknown: Unknown, patience: Duration) -> Self {
        Self { post, unknown, patience, upstream: None }
    }

    /// What has no host here goes on to this upstream, and what is migrating goes there as well.
    pub(super) fn with_upstream(self, upstream: Upstream) -> Self {
        Self { upstream: Some(Arc::new(upstream)), ..self }
    }

    fn place(&self, known: &Known, starts_work: bool) -> Place {
        if known.hosts_for(starts_work).next().is_some() {
            return Place::Somewhere;
        }
        // Whether it is waited for says nothing of where it is.
        match known.unbound {
            Some((Why::Deleted, _)) => Place::NoInstance,
            Some(_) => Place::NoHost,
            None => match self.unknown {
                Unknown::NotFound => Place::NoInstance,
                Unknown::Unprocessable => Place::NoHost,
                Unknown::Park => Place::Parked,
            },
        }
    }

    async fn keep(&self, deliveries: Vec<Delivery>, in_flight: InFlight) -> Result<(), KeepError> {
        let clock = self.post.clock();
        let until = clock.now().plus(self.patience);
        while self.post.outbox.is_full() && clock.now() < until {
            sleep(LOOK_FOR_ROOM).await;
        }
        self.post.outbox.keep(deliveries, in_flight).await
    }

    fn refuse(&self, at: Time, event: &Arrived, code: u16) {
        let why = match code {
            404 => "there is no such instance",
            400 => "it needs a tag",
            422 => "the instance is on no host",
            _ => "the upstream did not take it",
        };
        debug!(instance = %event.instance, name = &*event.name, tag = event.tag.as_deref(), code, "refused");
        self.post.ends.refused(Refused {
            at,
            code,
            instance: Some(event.instance),
            name: event.name.to_string(),
            tag: event.tag.as_deref().unwrap_or_default().to_owned(),
            why: why.to_owned(),
        });
    }

    /// Keeps what goes somewhere here. With an upstream, what has no host here is left to it.
    async fn keep_here(&self, events: Vec<Arrived>) -> Result<Routed, Unavailable> {
        let unavailable = |error: &dyn std::fmt::Display| Unavailable { message: error.to_string() };
        let instances: Vec<_> = events.iter().map(|event| event.instance).collect();
        let mut in_flight = self.post.queues.in_flight(instances.iter().copied());
        let mut known = self.post.directory.look(&instances).await.map_err(|error| unavailable(&error))?;
        for _ in 0..LOOKS {
            let otherwise = in_flight.routed_otherwise(known.iter().map(Route::of));
            if otherwise.is_empty() {
                break;
            }
            // What waits for them elsewhere comes before this.
            self.post.settle(&otherwise).await.map_err(|error| unavailable(&error))?;
            known = self.post.directory.look(&instances).await.map_err(|error| unavailable(&error))?;
        }
        let now = self.post.clock().now();
        let mut codes = Vec::with_capacity(events.len());
        let mut deliveries = Vec::with_capacity(events.len());
        let mut onward = Vec::new();
        for (event, known) in events.into_iter().zip(&known) {
            let starts_work = event.purpose == Purpose::StartsWork;
            let place = self.place(known, starts_work);
            let goes_on = self.upstream.is_some() && (known.host().is_none() || known.is_migrating());
            if goes_on && place != Place::Somewhere {
                onward.push(Going { place: codes.len(), alone: Some(event) });
                codes.push(NOT_YET);
                continue;
            }
            let code = match place {
                Place::NoInstance => 404,
                _ if event.lacks_tag => 400,
                Place::NoHost => 422,
                Place::Somewhere | Place::Parked => 200,
            };
            if goes_on && code == 200 {
                onward.push(Going { place: codes.len(), alone: None });
            }
            codes.push(code);
            if code != 200 {
                self.refuse(now, &event, code);
                continue;
            }
            let event = Delivery {
                id: EventId::random(),
                instance: event.instance,
                name: event.name,
                tag: event.tag.unwrap_or_default(),
                status: event.status,
                starts_work,
                kept_at: now,
                host: None,
            };
            match place {
                Place::Parked => deliveries.push(event),
                _ => to_each(event, known.hosts_for(starts_work), &mut deliveries),
            }
        }
        if !deliveries.is_empty() {
            self.keep(deliveries, in_flight).await.map_err(|error| unavailable(&error))?;
        }
        Ok(Routed { codes, onward })
    }
}

impl Front for Keeper {
    async fn take(&self, events: Vec<Arrived>) -> Result<Vec<u16>, Unavailable> {
        Ok(self.keep_here(events).await?.codes)
    }

    fn passes_on(&self) -> bool {
        self.upstream.is_some()
    }

    /// What is kept here is 200 whatever the upstream says of it alone: a host here gets it.
    async fn take_or_pass_on(&self, events: Vec<Arrived>, request: Onward) -> Result<Vec<u16>, NotTaken> {
        let Routed { mut codes, onward } = self.keep_here(events).await?;
        let Some(upstream) = self.upstream.as_ref().filter(|_| !onward.is_empty()) else {
            return Ok(codes);
        };
        let places: Vec<_> = onward.iter().map(|going| going.place).collect();
        let theirs = upstream.pass_on(&request, &places).await?;
        let now = self.post.clock().now();
        for (Going { place, alone }, code) in onward.into_iter().zip(theirs) {
            let Some(event) = alone else { continue };
            if code != 200 {
                self.refuse(now, &event, code);
            }
            codes[place] = code;
        }
        Ok(codes)
    }

    fn health(&self) -> Result<(), Unavailable> {
        self.post.outbox.check().map_err(|error| Unavailable { message: error.to_string() })
    }

    fn refused(&self, code: u16, why: &str) {
        self.post.ends.refused(Refused {
            at: self.post.clock().now(),
            code,
            instance: None,
            name: String::new(),
            tag: String::new(),
            why: why.to_owned(),
        });
    }
}
