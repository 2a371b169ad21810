use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::directory::Host;
use crate::event::{EventId, InstanceId, Status};
use crate::journal::disk::faulty::{Faults, FaultyDisk};

const LIMITS: Limits =
    Limits { bytes: 64 * 1024, segment_bytes: 4 * 1024, segment_span: Duration::from_secs(60) };

#[derive(Clone, Default)]
struct Told(Arc<Mutex<VecDeque<Kept>>>);

impl Sink for Told {
    fn kept(&mut self, kept: Vec<Kept>) {
        self.0.lock().expect("nobody panics").extend(kept);
    }
}

impl Told {
    fn take(&self) -> Option<Kept> {
        self.0.lock().expect("nobody panics").pop_front()
    }
}

fn open(disk: &FaultyDisk) -> (Outbox, Vec<Kept>, Told) {
    let opened =
        Opened::open(Arc::new(disk.clone()), true, false, "boot", LIMITS, Hands::Own).expect("it opens");
    let (there, told) = (opened.to_deliver(), Told::default());
    let clock = Clock::start(opened.newest());
    (opened.start(clock, told.clone()).expect("a thread"), there, told)
}

fn to(host: &str, n: u128) -> Delivery {
    Delivery {
        id: EventId(uuid::Uuid::from_u128(n)),
        instance: InstanceId::random(),
        name: "network-vif-plugged".into(),
        tag: format!("port {n}").into(),
        status: Status::Failed,
        starts_work: false,
        kept_at: Time::from_nanos(7),
        host: Some(host.parse::<Host>().expect("a host")),
    }
}

fn numbers(kept: &[Kept]) -> Vec<u128> {
    kept.iter().map(|kept| kept.delivery.id.0.as_u128()).collect()
}

#[tokio::test]
async fn what_is_kept_and_has_not_ended_is_there_after_a_crash_in_order() {
    let disk = FaultyDisk::default();
    let (outbox, there, told) = open(&disk);
    assert!(there.is_empty());
    outbox.keep((1..=5).map(|n| to("a", n)).collect(), ()).await.expect("kept");
    let tickets: Vec<_> = std::iter::from_fn(|| told.take()).collect();
    assert_eq!(numbers(&tickets), [1, 2, 3, 4, 5]);
    outbox.end(vec![tickets[0].ticket, tickets[2].ticket]);
    outbox.flush().await;
    disk.crash(|| false);
    let (_outbox, there, _) = open(&disk);
    assert_eq!(numbers(&there), [2, 4, 5]);
    assert_eq!(there[0].delivery, tickets[1].delivery);
}

#[tokio::test]
async fn sending_elsewhere_is_one_stroke() {
    let disk = FaultyDisk::default();
    let (outbox, _, told) = open(&disk);
    outbox.keep(vec![to("a", 1), to("a", 2)], ()).await.expect("kept");
    let first = told.take().expect("told");
    outbox.reroute(vec![to("b", 1)], vec![first.ticket]).await.expect("kept");
    disk.crash(|| false);
    let (_outbox, there, _) = open(&disk);
    assert_eq!(numbers(&there), [2, 1]);
    assert_eq!(there[1].delivery.host.as_ref().map(Host::as_str), Some("b"));
}

#[tokio::test]
async fn a_dead_hosts_deliveries_are_copied_forward_and_hold_no_room_of_others() {
    let disk = FaultyDisk::default();
    let (outbox, _, told) = open(&disk);
    outbox.keep(vec![to("dead", 1), to("dead", 2)], ()).await.expect("kept");
    let dead = [told.take(), told.take()].map(|kept| kept.expect("told").ticket);
    for n in 3..2_000 {
        outbox.keep(vec![to("a", n)], ()).await.expect("kept");
        outbox.end(vec![told.take().expect("told").ticket]);
        assert!(disk.used() < 64 * 1024, "{} bytes", disk.used());
    }
    outbox.flush().await;
    disk.crash(|| false);
    let (_outbox, there, _) = open(&disk);
    assert_eq!(numbers(&there), [1, 2]);
    assert_eq!(there.iter().map(|kept| kept.ticket).collect::<Vec<_>>(), dead);
}

#[tokio::test]
async fn past_its_limit_it_refuses_until_something_has_ended() {
    let disk = FaultyDisk::default();
    let (outbox, _, told) = open(&disk);
    let error = loop {
        match outbox.keep(vec![to("a", 1)], ()).await {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, KeepError::TooMuch { bound: 65_536, .. }), "{error}");
    outbox.flush().await;
    assert!(matches!(outbox.check(), Err(KeepError::TooMuch { bound: 65_536, .. })));
    let tickets = std::iter::from_fn(|| told.take()).map(|kept| kept.ticket).collect();
    outbox.end(tickets);
    outbox.keep(vec![to("a", 2)], ()).await.expect("there is room");
    outbox.flush().await;
    assert_eq!(outbox.check(), Ok(()));
}

#[tokio::test]
async fn what_has_to_go_elsewhere_goes_also_where_there_is_no_room() {
    let disk = FaultyDisk::default();
    let (outbox, _, told) = open(&disk);
    while outbox.keep(vec![to("a", 1)], ()).await.is_ok() {}
    let first = told.take().expect("told").ticket;
    outbox.reroute(vec![to("b", 2)], vec![first]).await.expect("kept");
    let newest = std::iter::from_fn(|| told.take()).last().expect("told");
    assert_eq!(newest.delivery.host.as_ref().map(Host::as_str), Some("b"));
}

#[tokio::test]
async fn how_much_there_is_is_known_from_the_start() {
    let disk = FaultyDisk::default();
    let (outbox, ..) = open(&disk);
    outbox.keep(vec![to("a", 1), to("a", 2)], ()).await.expect("kept");
    let read = |outbox: &Outbox| {
        let Gauges { bytes, deliveries, log_bytes } = outbox.gauges();
        [bytes, deliveries, log_bytes].map(|gauge| gauge.load(Ordering::Relaxed))
    };
    outbox.flush().await;
    let [bytes, deliveries, _] = read(&outbox);
    disk.crash(|| false);
    let (outbox, ..) = open(&disk);
    let [again, still, log_bytes] = read(&outbox);
    assert_eq!((again, still), (bytes, deliveries));
    assert!(deliveries == 2 && log_bytes >= bytes, "{deliveries} deliveries, {log_bytes} bytes of log");
}

#[tokio::test]
async fn what_could_not_be_written_was_not_kept_and_ends_nothing() {
    let disk = FaultyDisk::default();
    let (outbox, _, told) = open(&disk);
    outbox.keep(vec![to("a", 1)], ()).await.expect("kept");
    let first = told.take().expect("told");
    disk.set_faults(Faults { full_segments: true, ..Faults::default() });
    let error = outbox.reroute(vec![to("b", 1)], vec![first.ticket]).await.expect_err("no room");
    assert!(matches!(error, KeepError::NotWritten(WriteError::Full { .. })), "{error}");
    outbox.flush().await;
    assert!(matches!(outbox.check(), Err(KeepError::NotWritten(WriteError::Full { .. }))));
    disk.set_faults(Faults::default());
    outbox.keep(vec![to("a", 2)], ()).await.expect("there is room again");
    outbox.flush().await;
    assert_eq!(outbox.check(), Ok(()));
    outbox.close().await;
    let mut state = outbox.state();
    while state.changed().await.is_ok() {}
    assert_eq!(outbox.check(), Err(KeepError::Stopping));
    disk.crash(|| false);
    assert_eq!(numbers(&open(&disk).1), [1, 2]);
}
