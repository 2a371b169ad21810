//! Where events go: which hosts have the instance now, and what of its deliveries has to go elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::{info, warn};

use super::ends::{Ended, Ends, How};
use super::outbox::{Delivery, KeepError, Kept, Outbox, Ticket};
use super::queues::{Queue, Queues};
use crate::clock::{Clock, Time};
use crate::directory::{Directory, DirectoryError, Host, Known};
use crate::event::InstanceId;

/// How long deliveries are tried.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// How long an event is kept for its hosts.
    pub max: Duration,
    /// How long it is kept for an instance that nobody knows.
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

    /// Sends what is kept of an instance for hosts that no longer have it to those that do. Whatever comes for it from
    /// now on comes after that.
    pub(super) async fn settle(&self, instance: InstanceId, known: &Known) -> Result<(), SettleError> {
        let hosts: Vec<_> = known.hosts_for(false).collect();
        if self.queues.elsewhere(instance, &hosts).is_empty() {
            return Ok(());
        }
        let _settling = self.settling.lock().await;
        for queue in self.queues.elsewhere(instance, &hosts) {
            let kept = queue.of(instance);
            self.send_elsewhere(&queue, kept, known).await?;
        }
        Ok(())
    }

    /// Looks again where instances are, and settles what has to go elsewhere.
    pub(super) async fn settle_changed(&self, instances: BTreeSet<InstanceId>) -> Result<(), SettleError> {
        let instances: Vec<_> = instances.into_iter().collect();
        let known = self.directory.look(&instances).await?;
        for (instance, known) in instances.iter().zip(&known) {
            self.settle(*instance, known).await?;
        }
        Ok(())
    }

    /// The same for one delivery that was about to be made.
    pub(super) async fn send_on(&self, queue: &Queue, kept: Kept, known: &Known) -> Result<(), SettleError> {
        let _settling = self.settling.lock().await;
        match queue.has(kept.ticket) {
            true => self.send_elsewhere(queue, vec![kept], known).await,
            false => Ok(()),
        }
    }

    async fn send_elsewhere(&self, queue: &Queue, kept: Vec<Kept>, known: &Known) -> Result<(), SettleError> {
        let (mut anew, mut moved) = (Vec::new(), Vec::new());
        for kept in kept {
            let hosts: Vec<_> = known.hosts_for(kept.delivery.starts_work).collect();
            match where_to(&kept.delivery, &hosts) {
                Where::Here => {}
                Where::Elsewhere(deliveries) => anew.push((kept, deliveries)),
                Where::Nowhere => moved.push(kept),
            }
        }
        if !anew.is_empty() {
            let tickets: Vec<_> = anew.iter().map(|(kept, _)| kept.ticket).collect();
            let deliveries = anew.into_iter().flat_map(|(_, deliveries)| deliveries).collect();
            self.outbox.keep(deliveries, tickets.clone()).await?;
            self.queues.remove(queue, &tickets);
        }
        for kept in moved {
            let why =
                "the instance is no longer on this host, and whoever has it has the event, or nobody has it";
            self.end(queue, &kept, How::Moved, why.to_owned());
        }
        Ok(())
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
                event_id = %delivery.id, instance = %delivery.instance, name = delivery.name,
                tag = delivery.tag, host, "event ended MOVED"
            ),
            _ => warn!(
                event_id = %delivery.id, instance = %delivery.instance, name = delivery.name,
                tag = delivery.tag, host, ?how, why, "event did not arrive"
            ),
        }
        self.ends.ended(Ended {
            at: self.clock().now(),
            how,
            id: delivery.id,
            instance: delivery.instance,
            name: delivery.name.clone(),
            tag: delivery.tag.clone(),
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
        let age = if delivery.host.is_some() { self.ages.max } else { self.ages.parked.min(self.ages.max) };
        delivery.kept_at.plus(age)
    }
}

/// Where a delivery belongs.
#[derive(Debug, PartialEq, Eq)]
enum Where {
    /// Where it is kept for.
    Here,
    /// To these instead.
    Elsewhere(Vec<Delivery>),
    /// All who have its instance have it already, or nobody has it.
    Nowhere,
}

fn where_to(delivery: &Delivery, hosts: &[&Host]) -> Where {
    let for_nobody = delivery.host.is_none();
    if delivery.host.as_ref().is_some_and(|host| hosts.contains(&host)) || (for_nobody && hosts.is_empty()) {
        return Where::Here;
    }
    let had = || delivery.host.iter().chain(&delivery.also);
    let missing: Vec<_> = hosts.iter().filter(|host| !had().any(|had| had == **host)).collect();
    if missing.is_empty() {
        return Where::Nowhere;
    }
    let to = |host: &Host| Delivery {
        host: Some(host.clone()),
        also: had()
            .chain(missing.iter().map(|missing| **missing))
            .filter(|had| *had != host)
            .cloned()
            .collect(),
        ..delivery.clone()
    };
    Where::Elsewhere(missing.iter().map(|host| to(host)).collect())
}

/// The deliveries of an event, one for each host.
pub(super) fn to_each(event: &Delivery, hosts: &[&Host]) -> Vec<Delivery> {
    match where_to(event, hosts) {
        Where::Elsewhere(deliveries) => deliveries,
        Where::Here | Where::Nowhere => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, Status};

    fn hosts(names: &[&str]) -> Vec<Host> {
        names.iter().map(|name| name.parse().expect("a host")).collect()
    }

    fn delivery(host: &str, also: &[&str]) -> Delivery {
        Delivery {
            id: EventId::random(),
            instance: InstanceId::random(),
            name: "n".to_owned(),
            tag: String::new(),
            status: Status::Completed,
            starts_work: false,
            kept_at: Time::default(),
            host: host.parse().ok(),
            also: hosts(also),
        }
    }

    fn told(of: &Delivery, now: &[&str]) -> Result<Vec<(String, Vec<String>)>, &'static str> {
        let now = hosts(now);
        let names = |hosts: &[Host]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
        match where_to(of, &now.iter().collect::<Vec<_>>()) {
            Where::Here => Err("here"),
            Where::Nowhere => Err("nowhere"),
            Where::Elsewhere(all) => Ok(all
                .iter()
                .map(|to| (to.host.as_ref().expect("a host").to_string(), names(&to.also)))
                .collect()),
        }
    }

    #[test]
    fn a_delivery_stays_while_its_host_has_the_instance_and_goes_where_it_has_not_been() {
        assert_eq!(told(&delivery("a", &[]), &["a", "b"]), Err("here"));
        assert_eq!(told(&delivery("a", &[]), &[]), Err("nowhere"));
        assert_eq!(told(&delivery("a", &["b"]), &["b"]), Err("nowhere"));
        assert_eq!(told(&delivery("a", &[]), &["b"]), Ok(vec![("b".into(), vec!["a".into()])]));
        let two =
            vec![("b".into(), vec!["a".into(), "c".into()]), ("c".into(), vec!["a".into(), "b".into()])];
        assert_eq!(told(&delivery("a", &[]), &["b", "c"]), Ok(two));
    }

    #[test]
    fn an_event_for_an_instance_that_nobody_knows_stays_until_somebody_does() {
        assert_eq!(told(&delivery("", &[]), &[]), Err("here"));
        assert_eq!(told(&delivery("", &[]), &["b"]), Ok(vec![("b".into(), vec![])]));
    }
}
