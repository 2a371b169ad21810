//! Worlds with a gateway and two hosts: what callers were answered 200 for reaches its hosts, once and in order.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use wakeful::client::Client;
use wakeful::clock::Clock;
use wakeful::config::{Options, gateway};
use wakeful::directory::Directory;
use wakeful::directory::embedded::{Bounds, Embedded, Hands};
use wakeful::gateway::ground::{Ground, Log, Writer};
use wakeful::gateway::rest::auth::Auth;
use wakeful::gateway::{Gateway, GatewayError};
use wakeful::journal::disk::faulty::{Faults, FaultyDisk};
use wakeful::net::roads::Roads;
use wakeful::proto::bindings_client::BindingsClient;
use wakeful::proto::outbox_client::OutboxClient;
use wakeful::proto::role::Code as Role;
use wakeful::proto::unbound::Why;
use wakeful::proto::{BindRequest, Event, ListEventsRequest, ListOutboxRequest, UnbindRequest};

use crate::actors::Port;
use crate::chance::Chance;
use crate::history::{History, Seen};
use crate::net::Net;
use crate::world::{EPOCH, Machine};

/// How long a world is disturbed.
const TROUBLE: Duration = Duration::from_secs(20);
/// Within this, once nothing goes wrong any more, all has arrived.
const CALM: Duration = Duration::from_secs(120);
/// How long a caller waits for its reply.
const PATIENCE: Duration = Duration::from_secs(10);

const HOSTS: [(&str, &str); 2] = [("one", "127.0.0.1:7001"), ("other", "127.0.0.1:7002")];
const FRONT: &str = "127.0.0.1:7423";

/// The ways between the machines, by address.
struct Ways {
    nets: HashMap<&'static str, Net>,
    chance: Mutex<Chance>,
}

impl Roads for Ways {
    fn to(&self, address: &str) -> Option<Channel> {
        let chance = self.chance.lock().expect("no panic while it is held").fork();
        Some(self.nets.get(address)?.channel(Port::Tcp, chance))
    }
}

/// The machine that the gateway runs on. Its directory's file is taken to be sound: redb answers for that.
struct Front {
    disk: FaultyDisk,
    directory: Arc<dyn Directory>,
    net: Net,
    roads: Arc<Ways>,
    clock: Clock,
    history: History,
    chance: Chance,
    boot: u64,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    gateway: JoinHandle<Result<(), GatewayError>>,
    outbox: JoinHandle<()>,
}

impl Front {
    async fn start(&mut self) {
        while let Err(error) = self.try_start().await {
            match self.disk.is_down() {
                true => self.power_cycle().await,
                false => return self.history.wrong(format!("the gateway does not start: {error}")),
            }
        }
    }

    async fn try_start(&mut self) -> Result<(), GatewayError> {
        let outbox = Arc::new(Mutex::new(None));
        let started = Arc::clone(&outbox);
        let mut pauses = self.chance.fork();
        let (tcp, rest) = self.net.listen();
        let options = gateway::Options {
            keepalive_interval: Some("2s".parse().expect("a span")),
            keepalive_timeout: Some("1s".parse().expect("a span")),
            ..gateway::Options::default()
        };
        let config = options.resolve().expect("good options");
        let ground = Ground {
            rest,
            address: config.listen,
            tcp,
            directory_address: config.directory_listen,
            log: Log {
                disk: Arc::new(self.disk.clone()),
                boot_id: format!("boot {}", self.boot),
                writer: Writer::Task {
                    pause: Box::new(move || pauses.millis(0, 3)),
                    started: Box::new(move |task| *started.lock().expect("nobody else has it") = Some(task)),
                },
            },
            directory: Arc::clone(&self.directory),
            roads: Arc::clone(&self.roads) as Arc<dyn Roads>,
            auth: Auth::None,
            wall: self.clock.now().plus(Duration::from_nanos(EPOCH)),
            lock: None,
        };
        let gateway = Gateway::start_on(ground, config).await?;
        self.history.tell(self.clock, format_args!("the gateway runs"));
        let (stop, stopped) = oneshot::channel();
        let gateway = tokio::spawn(gateway.run(async {
            let _ = stopped.await;
        }));
        let outbox = outbox.lock().expect("nobody else has it").take().expect("it was started");
        self.running = Some(Running { stop, gateway, outbox });
        Ok(())
    }

    fn cut(&mut self, reset: bool) {
        self.net.agent_is_gone(reset);
        if let Some(running) = self.running.take() {
            running.outbox.abort();
            running.gateway.abort();
        }
        self.history.see().crashes += 1;
    }

    async fn power_cycle(&mut self) {
        self.history.tell(self.clock, format_args!("the gateway's machine is down"));
        self.cut(false);
        let mut coin = self.chance.fork();
        let bias = coin.below(101);
        self.disk.crash(|| coin.percent(bias));
        self.boot += 1;
        sleep(self.chance.millis(5, 2_000)).await;
    }

    async fn kill(&mut self) {
        self.history.tell(self.clock, format_args!("the gateway is killed"));
        self.cut(true);
        self.disk.kill();
        sleep(self.chance.millis(5, 2_000)).await;
    }

    async fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.history.tell(self.clock, format_args!("the gateway is told to stop"));
        let _ = running.stop.send(());
        self.net.agent_stops();
        match timeout(Duration::from_secs(10), running.gateway).await {
            Ok(Ok(Ok(()))) => {}
            Ok(ended) => self.history.wrong(format!("the gateway stopped with {ended:?}")),
            Err(_) => self.history.wrong("the gateway does not stop within its bound".to_owned()),
        }
        self.net.agent_is_gone(true);
        self.disk.kill();
    }

    async fn trouble(&mut self) {
        match self.chance.below(6) {
            0 => self.power_cycle().await,
            1 => self.kill().await,
            2 => self.stop().await,
            3 => {
                let syncs = self.chance.below(10);
                self.disk.set_faults(Faults { sync_fails_after: Some(syncs), ..Faults::default() });
                sleep(self.chance.millis(100, 2_000)).await;
                self.power_cycle().await;
            }
            4 => {
                let room = self.disk.used() + self.chance.below(5_000);
                self.disk.set_faults(Faults { room: Some(room), full_segments: true, ..Faults::default() });
                sleep(self.chance.millis(100, 2_000)).await;
                return self.disk.set_faults(Faults::default());
            }
            _ => {
                self.history
                    .tell(self.clock, format_args!("the gateway's connections are cut, or go silent"));
                return self.net.disturb();
            }
        }
        self.start().await;
    }
}

/// What all in a world have.
#[derive(Clone)]
struct World {
    front: Net,
    hosts: [Net; 2],
    clock: Clock,
    history: History,
    over: watch::Receiver<bool>,
    /// What was answered 200, by instance.
    accepted: Arc<Mutex<BTreeMap<String, Vec<u64>>>>,
}

impl World {
    /// Posts one event after the other for an instance, and does not repeat what had no answer.
    async fn caller(self, instance: String, mut chance: Chance) {
        for number in 0_u64.. {
            if *self.over.borrow() {
                return;
            }
            sleep(chance.millis(5, 400)).await;
            let events = json!([{ "name": "network-vif-plugged", "server_uuid": instance, "tag": number.to_string() }]);
            let posted = timeout(PATIENCE, self.clone().post(events, chance.fork())).await;
            let Ok(Some((status, reply))) = posted else { continue };
            self.history.tell(self.clock, format_args!("{instance} {number}: {status}"));
            match status {
                200 => {
                    let mut accepted = self.accepted.lock().expect("no panic while it is held");
                    accepted.entry(instance.clone()).or_default().push(number);
                }
                503 => {}
                _ => self.history.wrong(format!("{instance} {number} was answered {status}: {reply}")),
            }
        }
    }

    async fn post(self, events: Value, chance: Chance) -> Option<(u16, Value)> {
        let mut pipe = self.front.connect(Port::Unix, chance).await.ok()?;
        let body = json!({ "events": events }).to_string();
        let head = format!(
            "POST /v2.1/os-server-external-events HTTP/1.1\r\nHost: front\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        pipe.write_all((head + &body).as_bytes()).await.ok()?;
        let mut reply = Vec::new();
        pipe.read_to_end(&mut reply).await.ok()?;
        let reply = String::from_utf8(reply).ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
    }

    /// Binds, or with a reason unbinds, until it is done.
    async fn bind(&self, host: usize, instance: &str, role: Result<Role, Why>, chance: &mut Chance) {
        loop {
            let mut client = BindingsClient::new(self.hosts[host].channel(Port::Unix, chance.fork()));
            let instance_uuid = instance.to_owned();
            let done = async {
                match role {
                    Ok(role) => {
                        let request = BindRequest { instance_uuid, role: role.into() };
                        client.bind(request).await.map(|bound| bound.into_inner().routable)
                    }
                    Err(why) => {
                        let request = UnbindRequest { instance_uuid, why: why.into() };
                        client.unbind(request).await.map(|unbound| unbound.into_inner().routable)
                    }
                }
            };
            if let Ok(Ok(Some(true))) = timeout(PATIENCE, done).await {
                return self.history.tell(self.clock, format_args!("{} {instance}: {role:?}", HOSTS[host].0));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Moves an instance from host to host.
    async fn mover(self, instance: String, mut chance: Chance) {
        let mut at = 0;
        while !*self.over.borrow() {
            sleep(chance.millis(500, 6_000)).await;
            self.bind(1 - at, &instance, Ok(Role::Host), &mut chance).await;
            self.bind(at, &instance, Err(Why::Moved), &mut chance).await;
            at = 1 - at;
        }
    }

    /// Ready once nothing waits at the gateway any longer.
    async fn settled(&self, chance: &mut Chance) -> bool {
        let settled = timeout(CALM, async {
            loop {
                let mut outbox = OutboxClient::new(self.front.channel(Port::Tcp, chance.fork()));
                let asked = timeout(PATIENCE, outbox.list_outbox(ListOutboxRequest::default())).await;
                if let Ok(Ok(told)) = asked
                    && told.get_ref().hosts.iter().all(|host| host.depth == 0)
                {
                    return;
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
        settled.await.is_ok()
    }
}

struct Setting {
    front: Front,
    hosts: [Machine; 2],
    world: World,
    over: watch::Sender<bool>,
    chance: Chance,
}

async fn set_up(seed: u64, clock: Clock) -> Setting {
    let mut chance = Chance::new(seed);
    let history = History::new();
    let nets = [(); 3].map(|()| Net::new(clock, chance.fork()));
    let [one, other, front] = &nets;
    let by_address = [(HOSTS[0].1, one), (HOSTS[1].1, other), (FRONT, front)];
    let roads = Arc::new(Ways {
        nets: by_address.into_iter().map(|(address, net)| (address, net.clone())).collect(),
        chance: Mutex::new(chance.fork()),
    });
    let bounds = Bounds { keep_unbound: Duration::from_secs(3_600), max_unbound: 100 };
    let mut front = Front {
        disk: FaultyDisk::default(),
        directory: Arc::new(Embedded::open(None, bounds, Hands::Own).expect("a directory")),
        net: front.clone(),
        roads: Arc::clone(&roads),
        clock,
        history: history.clone(),
        chance: chance.fork(),
        boot: 0,
        running: None,
    };
    front.start().await;
    let mut machine = |(name, address): (&str, &str), net: &Net| Machine {
        disk: FaultyDisk::default(),
        roads: Arc::clone(&roads) as Arc<dyn Roads>,
        net: net.clone(),
        clock,
        // Each log has an id of its own.
        history: History::new(),
        chance: chance.fork(),
        config: Options {
            listen: Some(address.parse().expect("an address")),
            host: Some(name.parse().expect("a name")),
            gateway: Some(FRONT.parse().expect("an address")),
            keepalive_interval: Some("2s".parse().expect("a span")),
            keepalive_timeout: Some("1s".parse().expect("a span")),
            drain_timeout: Some("1s".parse().expect("a span")),
            log_size: Some("8MiB".parse().expect("a size")),
            ..Options::default()
        }
        .resolve()
        .expect("good options"),
        ahead: 0,
        boot: 0,
        running: None,
    };
    let mut hosts = [machine(HOSTS[0], one), machine(HOSTS[1], other)];
    for host in &mut hosts {
        host.start().await;
    }
    let (over, is_over) = watch::channel(false);
    let world = World {
        front: front.net.clone(),
        hosts: [one.clone(), other.clone()],
        clock,
        history,
        over: is_over,
        accepted: Arc::default(),
    };
    Setting { front, hosts, world, over, chance }
}

impl Setting {
    /// What each host has of the events, in order, by instance.
    async fn events(&mut self) -> [BTreeMap<String, Vec<u64>>; 2] {
        let mut all = [BTreeMap::new(), BTreeMap::new()];
        for (host, has) in self.world.hosts.iter().zip(&mut all) {
            let client = host.client(Port::Unix, self.chance.fork());
            for event in list(&client).await {
                let tags: &mut Vec<u64> = has.entry(event.instance_uuid).or_default();
                tags.push(event.tag.parse().unwrap_or(u64::MAX));
            }
        }
        all
    }

    async fn end(mut self) -> Seen {
        self.front.stop().await;
        for host in &mut self.hosts {
            host.stop().await;
            let wrong = std::mem::take(&mut host.history.see().wrong);
            self.world.history.see().wrong.extend(wrong);
            self.world.history.see().crashes += host.history.see().crashes;
        }
        std::mem::take(&mut *self.world.history.see())
    }
}

async fn list(client: &Client) -> Vec<Event> {
    let (mut events, mut request) =
        (Vec::new(), ListEventsRequest { page_size: 1_000, ..Default::default() });
    loop {
        let Ok(page) = client.event_log().list_events(request.clone()).await else { return events };
        let page = page.into_inner();
        events.extend(page.events);
        if page.next_page_token.is_empty() {
            return events;
        }
        request.page_token = page.next_page_token;
    }
}

/// Lives through a world.
pub(crate) async fn live(seed: u64, clock: Clock) -> Seen {
    let mut setting = set_up(seed, clock).await;
    let world = setting.world.clone();
    // One stays on a host, one is on both, and one moves.
    let [stays, both, moves] = [(); 3].map(|()| setting.chance.uuid().to_string());
    let chance = &mut setting.chance;
    world.bind(0, &stays, Ok(Role::Host), chance).await;
    world.bind(0, &both, Ok(Role::MigrationSource), chance).await;
    world.bind(1, &both, Ok(Role::MigrationDestination), chance).await;
    world.bind(0, &moves, Ok(Role::Host), chance).await;
    let mut tasks = JoinSet::new();
    for instance in [&stays, &both, &moves] {
        tasks.spawn(world.clone().caller(instance.clone(), chance.fork()));
    }
    tasks.spawn(world.clone().mover(moves.clone(), chance.fork()));

    let end = clock.now().plus(TROUBLE);
    while clock.now() < end {
        sleep(setting.chance.millis(20, 3_000)).await;
        match setting.chance.below(5) {
            0 | 1 => setting.front.trouble().await,
            2 => {
                let host = setting.chance.below(2) as usize;
                world.history.tell(clock, format_args!("{} goes down", HOSTS[host].0));
                match setting.chance.percent(50) {
                    true => setting.hosts[host].kill().await,
                    false => setting.hosts[host].power_cycle().await,
                }
                if setting.chance.percent(30) {
                    sleep(setting.chance.millis(0, 20_000)).await;
                }
                setting.hosts[host].start().await;
                world.history.tell(clock, format_args!("{} is there again", HOSTS[host].0));
            }
            3 => setting.hosts[setting.chance.below(2) as usize].net.disturb(),
            _ => {
                let most = *setting.chance.of(&[0, 1, 5, 50, 400]);
                for net in [&world.front, &world.hosts[0], &world.hosts[1]] {
                    net.set_delay(most);
                }
            }
        }
    }
    for net in [&world.front, &world.hosts[0], &world.hosts[1]] {
        net.set_delay(1);
    }
    world.history.tell(clock, format_args!("nothing goes wrong from now on"));
    setting.over.send_replace(true);
    let ended = timeout(CALM, async { while tasks.join_next().await.is_some() {} });
    if ended.await.is_err() {
        world.history.wrong(format!("{} callers came to no end", tasks.len()));
    }
    if !world.settled(&mut setting.chance).await {
        world.history.wrong("events wait, and nothing goes wrong any more".to_owned());
    }
    let has = setting.events().await;
    let accepted = world.accepted.lock().expect("no panic while it is held").clone();
    for (instance, on) in [(&stays, &[0][..]), (&both, &[0, 1]), (&moves, &[])] {
        let accepted = accepted.get(instance).cloned().unwrap_or_default();
        check(instance, &accepted, on, &has, &world.history);
    }
    setting.end().await
}

/// What was accepted is on each of these hosts, or, if none is named, on one of them; nowhere twice, and in order.
fn check(
    instance: &str,
    accepted: &[u64],
    on: &[usize],
    has: &[BTreeMap<String, Vec<u64>>; 2],
    history: &History,
) {
    let none = Vec::new();
    let of = |host: usize| has[host].get(instance).unwrap_or(&none);
    for (host, (name, _)) in HOSTS.iter().enumerate() {
        let tags = of(host);
        if let Some(pair) = tags.windows(2).find(|pair| pair[0] >= pair[1]) {
            history.wrong(format!("{instance} on {name}: {} came before {}: {tags:?}", pair[0], pair[1]));
        }
        let lost: Vec<_> = accepted.iter().filter(|tag| !tags.contains(tag)).collect();
        if on.contains(&host) && !lost.is_empty() {
            history.wrong(format!("{instance} on {name}: {lost:?} were answered 200 and did not arrive"));
        }
    }
    let nowhere: Vec<_> =
        accepted.iter().filter(|tag| !of(0).contains(tag) && !of(1).contains(tag)).collect();
    if !nowhere.is_empty() {
        history.wrong(format!("{instance}: {nowhere:?} were answered 200 and arrived nowhere"));
    }
    for tag in accepted {
        history.see().acknowledged.push(crate::history::Acknowledged {
            id: instance.to_owned(),
            position: *tag,
            at: Default::default(),
        });
    }
}

/// An agent is down for so long, while events come for it. Gives what was wrong.
pub(crate) async fn down_for(span: Duration, clock: Clock) -> Seen {
    let mut setting = set_up(1, clock).await;
    let world = setting.world.clone();
    let instance = setting.chance.uuid().to_string();
    world.bind(0, &instance, Ok(Role::Host), &mut setting.chance).await;
    setting.hosts[0].kill().await;
    let mut caller = JoinSet::new();
    caller.spawn(world.clone().caller(instance.clone(), setting.chance.fork()));
    sleep(Duration::from_secs(5)).await;
    setting.over.send_replace(true);
    while caller.join_next().await.is_some() {}
    sleep(span).await;
    setting.hosts[0].start().await;
    if !world.settled(&mut setting.chance).await {
        world.history.wrong("events wait, and nothing goes wrong any more".to_owned());
    }
    let has = setting.events().await;
    let accepted = world.accepted.lock().expect("no panic while it is held").clone();
    check(&instance, &accepted[&instance], &[0], &has, &world.history);
    setting.end().await
}
