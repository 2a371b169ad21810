//! Events of instances that move while they come; and what goes on to an upstream.

mod upstream;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::ends::Ends;
use super::front::{Keeper, Unknown};
use super::outbox::{Kept, Limits, Opened, Sink};
use super::post::{Ages, Post};
use super::queues::Queues;
use super::rest::{Arrived, Front, Purpose};
use crate::clock::{Clock, Time};
use crate::directory::embedded::{Bounds, Embedded, Hands as DirectoryHands};
use crate::directory::{Announced, Change, Claim, Host, Role, Why};
use crate::event::{InstanceId, Status};
use crate::journal::disk::faulty::FaultyDisk;
use crate::journal::recovery::Hands;
use crate::net::flag::Flag;

const HOST: Change = bind(Role::Host);

const fn bind(role: Role) -> Change {
    Change::Bind(Claim { role, revision: None, bound_at: None })
}

struct ToQueues(Queues);

impl Sink for ToQueues {
    fn kept(&mut self, kept: Vec<Kept>) {
        let _ = self.0.add(kept);
    }
}

/// A post whose outbox takes 50 ms to sync, and that settles strays.
fn post() -> Arc<Post> {
    let limits = Limits { bytes: 1 << 20, segment_bytes: 1 << 20, segment_span: Duration::from_secs(60) };
    let disk = Arc::new(FaultyDisk::default());
    let opened = Opened::open(disk, true, false, "boot", limits, Hands::Own).expect("opened");
    let queues = Queues::default();
    let clock = Clock::start_at(Time::from_nanos(1_000_000_000_000), opened.newest());
    let (outbox, _) =
        opened.start_task(clock, ToQueues(queues.clone()), || tokio::time::sleep(Duration::from_millis(50)));
    let bounds = Bounds { keep_unbound: Duration::from_secs(600), max_unbound: 10 };
    let directory = Arc::new(Embedded::open(None, bounds, DirectoryHands::Own).expect("a directory"));
    let ages = Ages { max: Duration::from_secs(3600), parked: Duration::from_secs(60) };
    let post = Arc::new(Post::new(directory, outbox, queues, Arc::new(Ends::default()), ages));
    tokio::spawn(Arc::clone(&post).settle_strays(Flag::default()));
    post
}

async fn tell(post: &Post, host: &str, instance: InstanceId, change: Change) {
    let host: Host = host.parse().expect("a host");
    let announced = Announced { host, address: None, whole: false, changes: vec![(instance, change)] };
    post.directory.announce(post.clock().now(), announced).await.expect("told");
    post.settle(&BTreeSet::from([instance])).await.expect("settled");
}

fn starts_work(instance: InstanceId) -> Vec<Arrived> {
    vec![Arrived {
        instance,
        name: "network-changed".into(),
        purpose: Purpose::StartsWork,
        tag: None,
        status: Status::Completed,
        lacks_tag: false,
    }]
}

/// The hosts that deliveries wait for, each as often as one does; none where nobody is known yet.
fn waiting(post: &Post) -> Vec<String> {
    let all = post.queues.all().into_iter();
    let of = |host: Option<Host>| host.map(|host| host.to_string()).unwrap_or_default();
    all.flat_map(|(host, queue)| vec![of(host); queue.depth().0]).collect()
}

/// Sends an event, and while it is being kept does something else.
async fn meanwhile(keeper: &Keeper, instance: InstanceId, other: impl Future<Output = ()>) {
    let taking = keeper.take(starts_work(instance));
    let (codes, ()) = tokio::join!(biased; taking, other);
    assert_eq!(codes.expect("kept"), [200]);
}

/// Waits until all has been settled that is to be.
async fn settled(post: &Post, wanted: &[&str]) {
    let all = async {
        while waiting(post) != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(5), all).await;
    assert!(in_time.is_ok(), "{:?} waits, wanted {wanted:?}", waiting(post));
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_where_its_instance_moves_while_it_is_being_kept() {
    for earlier in [0, 1] {
        let (post, instance) = (post(), InstanceId::random());
        tell(&post, "a", instance, HOST).await;
        let keeper = Keeper::new(Arc::clone(&post), Unknown::NotFound, Duration::from_secs(5));
        for _ in 0..earlier {
            assert_eq!(keeper.take(starts_work(instance)).await.expect("kept"), [200]);
        }
        meanwhile(&keeper, instance, tell(&post, "b", instance, HOST)).await;
        settled(&post, &vec!["b"; 1 + earlier]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_where_a_later_request_found_its_instance() {
    let (post, instance) = (post(), InstanceId::random());
    tell(&post, "a", instance, HOST).await;
    let keeper = Keeper::new(Arc::clone(&post), Unknown::NotFound, Duration::from_secs(5));
    let later = async {
        tell(&post, "b", instance, HOST).await;
        assert_eq!(keeper.take(starts_work(instance)).await.expect("kept"), [200]);
    };
    meanwhile(&keeper, instance, later).await;
    settled(&post, &["b", "b"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_goes_where_its_instance_is_bound_while_it_is_being_kept() {
    let (post, instance) = (post(), InstanceId::random());
    let keeper = Keeper::new(Arc::clone(&post), Unknown::Park, Duration::from_secs(5));
    meanwhile(&keeper, instance, tell(&post, "b", instance, HOST)).await;
    settled(&post, &["b"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_instance_has_left_its_host_waits_for_the_next_one() {
    let (post, instance) = (post(), InstanceId::random());
    let keeper = Keeper::new(Arc::clone(&post), Unknown::NotFound, Duration::from_secs(5));
    tell(&post, "a", instance, HOST).await;
    assert_eq!(keeper.take(starts_work(instance)).await.expect("kept"), [200]);
    tell(&post, "a", instance, Change::Unbind(Why::Moved)).await;
    settled(&post, &[""]).await;
    tell(&post, "b", instance, HOST).await;
    settled(&post, &["b"]).await;
    // It is on no host, and nobody knows whether it will be.
    tell(&post, "b", instance, Change::Unbind(Why::Offloaded)).await;
    settled(&post, &[]).await;
    assert_eq!(post.ends.counts().moved, 1);
}

#[tokio::test(start_paused = true)]
async fn an_older_event_whose_instance_has_left_its_host_ends() {
    let (post, instance) = (post(), InstanceId::random());
    let keeper = Keeper::new(Arc::clone(&post), Unknown::NotFound, Duration::from_secs(5));
    tell(&post, "a", instance, HOST).await;
    assert_eq!(keeper.take(starts_work(instance)).await.expect("kept"), [200]);
    tokio::time::advance(post.ages.parked).await;
    tell(&post, "a", instance, Change::Unbind(Why::Moved)).await;
    settled(&post, &[]).await;
    assert_eq!(post.ends.counts().moved, 1);
}

#[tokio::test(start_paused = true)]
async fn where_an_instance_is_only_waited_for_says_nothing_of_where_it_is() {
    for (unknown, code) in [(Unknown::NotFound, 404), (Unknown::Unprocessable, 422), (Unknown::Park, 200)] {
        let (post, instance) = (post(), InstanceId::random());
        let keeper = Keeper::new(Arc::clone(&post), unknown, Duration::from_secs(5));
        tell(&post, "a", instance, Change::Wait).await;
        assert_eq!(keeper.take(starts_work(instance)).await.expect("answered"), [code]);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_request_whose_caller_has_gone() {
    let (post, instance) = (post(), InstanceId::random());
    let keeper = Keeper::new(Arc::clone(&post), Unknown::NotFound, Duration::from_secs(5));
    assert_eq!(keeper.take(starts_work(instance)).await.expect("answered"), [404]);
    assert!(!post.queues.has(instance));
    tell(&post, "a", instance, HOST).await;
    let gone = tokio::time::timeout(Duration::from_millis(1), keeper.take(starts_work(instance))).await;
    assert!(gone.is_err(), "it takes 50 ms");
    settled(&post, &["a"]).await;
    let queues = post.queues.all();
    let queue = queues.values().next().expect("a queue");
    let tickets = queue.front(1).iter().map(|kept| kept.ticket).collect();
    post.delivered(queue, tickets);
    assert!(!post.queues.has(instance));
}
