//! Where events go: which hosts have the instance now, and what of its deliveries has to go elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::ends::{Ended, Ends, How};
use super::outbox::{Delivery, KeepError, Kept, Outbox, Ticket};
use super::queues::{Queue, Queues, Route};
use crate::clock::{Clock, Time};
use crate::directory::{Directory, DirectoryError, Host, Why};
use crate::event::{EventId, InstanceId};
use crate::net::flag::Flag;

/// How long it waits before it tries again to send deliveries elsewhere.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// How long deliveries are tried.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// How long an event is kept for its hosts.
    pub max: Duration,
    /// How long it is kept for an instance that nobody knows, or that has left its host and come to no other yet.
    pub parked: Duration,
}

/// What all that route and deliver share.
pub struct Post {
    pub(super) directory: Arc<dyn Directory>,
    pub(super) outbox: Outbox,
    pub(super) queues: Queues,
    pub(super) ends: Arc<Ends>,
    pub(super) ages: Ages,
    /// Held by whoever sends deliveries elsewhere, so that none is sent twice.
    settling: Mutex<()>,
}

/// Deliveries could not be sent elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// Nobody knows where they are to go.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// They could not be kept there.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl Post {
    pub(super) fn new(
        directory: Arc<dyn Directory>,
        outbox: Outbox,
        queues: Queues,
        ends: Arc<Ends>,
        ages: Ages,
    ) -> Self {
        Self { directory, outbox, queues, ends, ages, settling: Mutex::default() }
    }

    pub(super) fn clock(&self) -> Clock {
        self.outbox.clock()
    }

    /// Has what is kept of instances go where they are now: to hosts that it was not for as well, and no longer to
    /// those that they have left. Whatever comes for them from now on comes after that.
    pub(super) async fn settle(&self, instances: &BTreeSet<InstanceId>) -> Result<(), SettleError> {
        let instances: Vec<_> =
            instances.iter().copied().filter(|instance| self.queues.has(*instance)).collect();
        if instances.is_empty() {
            return Ok(());
        }
        let _settling = self.settling.lock().await;
        // Not before: by an older look what a newer one has done would be undone.
        let known = self.directory.look(&instances).await?;
        let routes: Vec<_> = instances.into_iter().zip(known.iter().map(Route::of)).collect();
        let (routing, queues) = self.queues.route(&routes);
        let (mut routed, now) = (Routed::default(), self.clock().now());
        for (((instance, route), queues), known) in routes.iter().zip(&queues).zip(&known) {
            // Where it goes to has yet to say so.
            let moving = !known.is_somewhere() && matches!(known.unbound, Some((Why::Moved, _)));
            let kept = queues
                .iter()
                .flat_map(|queue| queue.of(*instance).into_iter().map(move |kept| (queue, kept)));
            for (_, copies) in by_event(kept) {
                let young = |kept: &Kept| self.parked_until(&kept.delivery) > now;
                routed.route(&copies, route, moving && copies.iter().any(|(_, kept)| young(kept)));
            }
        }
        let gone: Vec<_> = routed.gone.iter().map(|(_, kept)| kept.ticket).collect();
        debug!(instances = routes.len(), anew = routed.anew.len(), gone = gone.len(), "routed anew");
        match routed.anew.is_empty() {
            true => self.outbox.end(gone),
            false => self.outbox.reroute(routed.anew, gone).await?,
        }
        for (queue, kept) in routed.gone {
            self.queues.remove(queue, &[kept.ticket]);
        }
        for (queue, kept) in routed.nowhere {
            self.end(queue, &kept, How::Moved, "no host has the instance any longer".to_owned());
        }
        routing.done();
        Ok(())
    }

    /// Settles what has come by a route that is no longer right, until `stop` is raised.
    pub(super) async fn settle_strays(self: Arc<Self>, stop: Flag) {
        let mut stopped = pin!(stop.raised());
        loop {
            let settled = async {
                let strays = self.queues.strays().await;
                if let Err(error) = self.settle(&strays).await {
                    warn!(%error, "what came for an instance that has moved stays for now");
                    sleep(SETTLE_AGAIN).await;
                }
            };
            tokio::select! {
                biased;
                () = &mut stopped => return,
                () = settled => {}
            }
        }
    }

    /// Ends a delivery that did not arrive.
    pub(super) fn end(&self, queue: &Queue, kept: &Kept, how: How, why: String) {
        if self.queues.remove(queue, &[kept.ticket]).is_empty() {
            return;
        }
        self.outbox.end(vec![kept.ticket]);
        let delivery = &kept.delivery;
        let host = delivery.host.as_ref().map(Host::as_str);
        match how {
            How::Moved => info!(
                event_id = %delivery.id, instance = %delivery.instance, name = &*delivery.name,
                tag = &*delivery.tag, host, "event ended MOVED"
            ),
            _ => warn!(
                event_id = %delivery.id, instance = %delivery.instance, name = &*delivery.name,
                tag = &*delivery.tag, host, ?how, why, "event did not arrive"
            ),
        }
        self.ends.ended(Ended {
            at: self.clock().now(),
            how,
            id: delivery.id,
            instance: delivery.instance,
            name: delivery.name.to_string(),
            tag: delivery.tag.to_string(),
            host: delivery.host.clone(),
            why,
        });
    }

    /// These have arrived.
    pub(super) fn delivered(&self, queue: &Queue, tickets: Vec<Ticket>) {
        let removed = self.queues.remove(queue, &tickets);
        self.ends.delivered(removed.len());
        self.outbox.end(tickets);
    }

    /// How long a delivery may yet be tried.
    pub(super) fn expires_at(&self, delivery: &Delivery) -> Time {
        match delivery.host {
            Some(_) => delivery.kept_at.plus(self.ages.max),
            None => self.parked_until(delivery),
        }
    }

    /// How long a delivery may wait for a host that has its instance.
    fn parked_until(&self, delivery: &Delivery) -> Time {
        delivery.kept_at.plus(self.ages.parked.min(self.ages.max))
    }
}

/// The deliveries of each event, in the order in which events came.
fn by_event<'a>(
    kept: impl Iterator<Item = (&'a Arc<Queue>, Kept)>,
) -> BTreeMap<Ticket, Vec<(&'a Queue, Kept)>> {
    let mut first: HashMap<EventId, Ticket> = HashMap::new();
    let kept: Vec<_> = kept.collect();
    for (_, kept) in &kept {
        let known = first.entry(kept.delivery.id).or_insert(kept.ticket);
        *known = kept.ticket.min(*known);
    }
    let mut events: BTreeMap<Ticket, Vec<_>> = BTreeMap::new();
    for (queue, kept) in kept {
        let at = first.get(&kept.delivery.id).copied().unwrap_or(kept.ticket);
        events.entry(at).or_default().push((&**queue, kept));
    }
    events
}

/// What becomes of deliveries whose instance has moved.
#[derive(Default)]
struct Routed<'a> {
    /// To be delivered as well, or instead.
    anew: Vec<Delivery>,
    /// To be delivered no longer, for another is made instead.
    gone: Vec<(&'a Queue, Kept)>,
    /// To be delivered no longer.
    nowhere: Vec<(&'a Queue, Kept)>,
}

impl<'a> Routed<'a> {
    /// Routes the deliveries of one event. A host that has had it already knows it by its id: what is sent once too
    /// often does no harm.
    ///
    /// `parks`: no host has the instance, and one may soon: the event waits for that.
    fn route(&mut self, copies: &[(&'a Queue, Kept)], route: &Route, parks: bool) {
        let Some((_, one)) = copies.first() else { return };
        let hosts = route.hosts(one.delivery.starts_work);
        let waits_for =
            |host: &Host| copies.iter().any(|(_, kept)| kept.delivery.host.as_ref() == Some(host));
        let missing = hosts.iter().copied().filter(|host| !waits_for(host));
        to_each(Delivery::clone(&one.delivery), missing, &mut self.anew);
        if parks && copies.iter().all(|(_, kept)| kept.delivery.host.is_some()) {
            self.anew.push(Delivery { host: None, ..Delivery::clone(&one.delivery) });
        }
        for (queue, kept) in copies {
            match &kept.delivery.host {
                Some(host) if hosts.contains(&host) => {}
                Some(_) if hosts.is_empty() && !parks => self.nowhere.push((queue, kept.clone())),
                None if hosts.is_empty() || parks => {}
                // Another is made instead.
                _ => self.gone.push((queue, kept.clone())),
            }
        }
    }
}

/// Adds the deliveries of an event, one for each host.
pub(super) fn to_each<'a>(
    event: Delivery,
    hosts: impl Iterator<Item = &'a Host>,
    deliveries: &mut Vec<Delivery>,
) {
    let mut hosts = hosts.peekable();
    let mut event = Some(event);
    while let Some(host) = hosts.next() {
        // Nearly always there is one.
        let copy = if hosts.peek().is_some() { event.clone() } else { event.take() };
        deliveries.extend(copy.map(|copy| Delivery { host: Some(host.clone()), ..copy }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::table::Binding;
    use crate::directory::{Known, Revision, Role};
    use crate::event::Status;

    /// What becomes of an event that waits for these hosts when its instance is on those.
    fn routed(waits_for: &[&str], now: &[&str], parks: bool) -> (Vec<String>, usize, usize) {
        let queue = Queue::default();
        let id = EventId::random();
        let instance = InstanceId::random();
        let copies: Vec<_> = waits_for
            .iter()
            .enumerate()
            .map(|(at, host)| {
                let delivery = Delivery {
                    id,
                    instance,
                    name: "n".into(),
                    tag: "".into(),
                    status: Status::Completed,
                    starts_work: false,
                    kept_at: Time::default(),
                    host: host.parse().ok(),
                };
                (&queue, Kept { ticket: Ticket(at as u64), delivery: Arc::new(delivery) })
            })
            .collect();
        let binding = |host: &&str| Binding {
            host: host.parse().expect("a host"),
            role: Some((Role::MigrationSource, Revision(1))),
            bound_at: None,
            waiting: false,
        };
        let known = Known { bindings: now.iter().map(binding).collect(), ..Known::default() };
        let mut routed = Routed::default();
        routed.route(&copies, &Route::of(&Arc::new(known)), parks);
        let hosts = routed.anew.iter().map(|to| to.host.as_ref().map_or("", Host::as_str).to_owned());
        (hosts.collect(), routed.gone.len(), routed.nowhere.len())
    }

    #[test]
    fn an_event_goes_to_whoever_has_its_instance_and_no_longer_where_it_has_left() {
        assert_eq!(routed(&["a"], &["a"], false), (vec![], 0, 0));
        assert_eq!(routed(&["a"], &["a", "b"], false), (vec!["b".to_owned()], 0, 0));
        assert_eq!(routed(&["a"], &["b", "c"], false), (vec!["b".to_owned(), "c".to_owned()], 1, 0));
        assert_eq!(routed(&["a", "b"], &["b"], false), (vec![], 1, 0));
        assert_eq!(routed(&["a", "b"], &[], false), (vec![], 0, 2));
    }

    #[test]
    fn an_event_for_an_instance_that_nobody_knows_stays_until_somebody_does() {
        assert_eq!(routed(&[""], &[], false), (vec![], 0, 0));
        assert_eq!(routed(&[""], &["b"], false), (vec!["b".to_owned()], 1, 0));
    }

    #[test]
    fn an_event_for_an_instance_on_its_way_waits_once_until_it_has_come() {
        assert_eq!(routed(&["a", "b"], &[], true), (vec![String::new()], 2, 0));
        assert_eq!(routed(&[""], &[], true), (vec![], 0, 0));
        // Where it is only waited for, it goes as well.
        assert_eq!(routed(&["a"], &["waits"], true), (vec!["waits".to_owned(), String::new()], 1, 0));
        assert_eq!(routed(&["waits", ""], &["waits"], true), (vec![], 0, 0));
    }
}
