//! A world: a machine with an agent on it, those who call it, and what goes wrong.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tonic::Status;
use wakeful::agent::ground::{Ground, LogGround, WriterGround};
use wakeful::agent::{Agent, AgentError};
use wakeful::clock::{Clock, Time};
use wakeful::config::{Config, Options};
use wakeful::event::InstanceId;
use wakeful::journal::disk::faulty::{Faults, FaultyDisk};
use wakeful::net::roads::Roads;
use wakeful::plant::{self, Plant};
use wakeful::proto::reason::Code as Reason;
use wakeful::proto::{Event, GetStatusRequest};

use crate::actors::{self, Port, World};
use crate::chance::Chance;
use crate::check;
use crate::history::{History, Seen};
use crate::net::Net;

/// When the world begins, by its machine's wall clock: some time in 2026.
pub(crate) const EPOCH: u64 = 1_790_000_000 * 1_000_000_000;
/// How long it is disturbed.
const TROUBLE: Duration = Duration::from_secs(25);
/// Within this, once nothing goes wrong any more, all is as it should be.
const CALM: Duration = Duration::from_secs(60);

/// How much later than its deadline an outcome may be told: the client gives the agent's word 2 s, asks once more,
/// and gives that another 2 s; the rest is the network.
const LATE: Duration = Duration::from_secs(6);

/// The machine that the agent runs on.
pub(crate) struct Machine {
    pub(crate) disk: FaultyDisk,
    pub(crate) roads: Arc<dyn Roads>,
    pub(crate) net: Net,
    pub(crate) clock: Clock,
    pub(crate) history: History,
    pub(crate) chance: Chance,
    pub(crate) config: Config,
    /// How far its wall clock is ahead, in nanoseconds.
    pub(crate) ahead: u64,
    pub(crate) boot: u64,
    pub(crate) running: Option<Running>,
}

pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    agent: JoinHandle<Result<(), AgentError>>,
    journal: JoinHandle<()>,
}

impl Machine {
    fn faults(&self, faults: Faults) {
        let syncs_lie = faults.syncs_lie || plant::is(Plant::NoSync);
        self.disk.set_faults(Faults { syncs_lie, ..faults });
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        self.history.tell(self.clock, what);
    }

    /// Starts an agent; whenever the machine goes down meanwhile, once more.
    pub(crate) async fn start(&mut self) {
        loop {
            let dies = self.chance.percent(15).then(|| self.chance.below(8));
            let syncs_lie = plant::is(Plant::ServeBeforeSync);
            self.faults(Faults { dies_after_syncs: dies, syncs_lie, ..Faults::default() });
            let started = self.try_start().await;
            match (started, self.disk.is_down()) {
                (Ok(()), false) => return self.faults(Faults::default()),
                (Err(error), false) => {
                    return self.history.wrong(format!("the agent does not start: {error}"));
                }
                (ended, true) => {
                    self.tell(format_args!("the machine went down in the start: {ended:?}"));
                    self.power_cycle().await;
                }
            }
        }
    }

    async fn try_start(&mut self) -> Result<(), AgentError> {
        let journal = Arc::new(Mutex::new(None));
        let started = Arc::clone(&journal);
        let mut pauses = self.chance.fork();
        let (tcp, unix) = self.net.listen();
        let ground = Ground {
            tcp,
            address: self.config.listen,
            unix,
            socket: PathBuf::from("/sim/agent.sock"),
            log: Some(LogGround {
                disk: Arc::new(self.disk.clone()),
                boot_id: format!("boot {}", self.boot),
                writer: WriterGround::Task {
                    pause: Box::new(move || pauses.millis(0, 3)),
                    started: Box::new(move |task| *started.lock().expect("nobody else has it") = Some(task)),
                },
                lock: None,
            }),
            roads: Arc::clone(&self.roads),
            wall: self.clock.now().plus(Duration::from_nanos(EPOCH + self.ahead)),
        };
        let agent = Agent::start_on(ground, self.config.clone()).await?;
        self.history.is_of(&agent.log_id().to_string());
        self.tell(format_args!("the agent runs, its wall clock is {} s ahead", self.ahead / 1_000_000_000));
        let (stop, stopped) = oneshot::channel();
        let agent = tokio::spawn(agent.run(async {
            let _ = stopped.await;
        }));
        let journal = journal.lock().expect("nobody else has it").take().expect("it was started");
        self.running = Some(Running { stop, agent, journal });
        Ok(())
    }

    /// The agent is no more.
    fn cut(&mut self, reset: bool) {
        self.net.agent_is_gone(reset);
        if let Some(running) = self.running.take() {
            running.journal.abort();
            running.agent.abort();
        }
        self.history.see().crashes += 1;
    }

    pub(crate) async fn power_cycle(&mut self) {
        self.tell(format_args!("the machine is down"));
        self.cut(false);
        let mut coin = self.chance.fork();
        let bias = coin.below(101);
        self.disk.crash(|| coin.percent(bias));
        self.boot += 1;
        self.rest().await;
    }

    pub(crate) async fn kill(&mut self) {
        self.tell(format_args!("the agent is killed"));
        self.cut(true);
        self.disk.kill();
        self.rest().await;
    }

    pub(crate) async fn rest(&mut self) {
        if self.chance.percent(30) {
            self.ahead = self.chance.below(4 * 3_600) * 1_000_000_000;
        }
        sleep(self.chance.millis(5, 2_000)).await;
    }

    pub(crate) async fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.tell(format_args!("the agent is told to stop"));
        let _ = running.stop.send(());
        self.net.agent_stops();
        match timeout(Duration::from_secs(5), running.agent).await {
            Ok(Ok(Ok(()))) => {}
            Ok(ended) => self.history.wrong(format!("the agent stopped with {ended:?}")),
            Err(_) => self.history.wrong("the agent does not stop within its bound".to_owned()),
        }
        self.net.agent_is_gone(true);
        self.disk.kill();
    }

    /// What an operator does for an agent that says that its log is not written any longer until it is started anew.
    async fn see_to_the_agent(&mut self) {
        let client = self.net.client(Port::Tcp, self.chance.fork());
        let asked = timeout(Duration::from_secs(5), client.send([of_nobody()])).await;
        if let Ok(Err(error)) = asked
            && error.reason() == Some(Reason::LogFailed)
        {
            self.stop().await;
            self.start().await;
        }
    }

    /// Something goes wrong.
    async fn trouble(&mut self) {
        match self.chance.below(14) {
            0 | 1 => {
                self.power_cycle().await;
                self.start().await;
            }
            2 | 3 => {
                let syncs = self.chance.below(20);
                self.faults(Faults { dies_after_syncs: Some(syncs), ..Faults::default() });
                let down = async {
                    while !self.disk.is_down() {
                        sleep(Duration::from_millis(2)).await;
                    }
                };
                let _ = timeout(Duration::from_secs(3), down).await;
                self.power_cycle().await;
                self.start().await;
            }
            4 | 5 => {
                self.kill().await;
                self.start().await;
            }
            6 => {
                self.stop().await;
                self.rest().await;
                self.start().await;
            }
            7 => {
                self.tell(format_args!("a sync fails"));
                let syncs = self.chance.below(10);
                self.faults(Faults { sync_fails_after: Some(syncs), ..Faults::default() });
                sleep(self.chance.millis(100, 2_000)).await;
                match self.chance.percent(50) {
                    true => self.power_cycle().await,
                    false => self.kill().await,
                }
                self.start().await;
            }
            8 => {
                self.tell(format_args!("writes fail"));
                let bytes = self.chance.below(5_000);
                self.faults(Faults { write_fails_after: Some(bytes), ..Faults::default() });
                sleep(self.chance.millis(100, 2_000)).await;
                self.faults(Faults::default());
            }
            9 => {
                self.tell(format_args!("the disk is full"));
                let room = self.disk.used() + self.chance.below(20_000);
                self.faults(Faults { room: Some(room), ..Faults::default() });
                sleep(self.chance.millis(100, 3_000)).await;
                self.faults(Faults::default());
            }
            10..=12 => {
                self.tell(format_args!("connections are cut, or go silent"));
                self.net.disturb();
            }
            _ => {
                let most = *self.chance.of(&[0, 1, 5, 50, 400]);
                self.tell(format_args!("what is sent takes up to {most} ms"));
                self.net.set_delay(most);
            }
        }
    }
}

/// Lives through a world. Gives what was seen, with all that was wrong.
pub(crate) async fn live(seed: u64, clock: Clock) -> Seen {
    let mut chance = Chance::new(seed);
    let history = History::new();
    let net = Net::new(clock, chance.fork());
    let options = Options {
        keepalive_interval: Some("2s".parse().expect("a span")),
        keepalive_timeout: Some("1s".parse().expect("a span")),
        drain_timeout: Some("1s".parse().expect("a span")),
        log_size: Some("1MiB".parse().expect("a size")),
        max_timeout: Some("24h".parse().expect("a span")),
        ..Options::default()
    };
    let mut machine = Machine {
        disk: FaultyDisk::default(),
        roads: Arc::new(wakeful::net::roads::Tcp),
        net: net.clone(),
        clock,
        history: history.clone(),
        chance: chance.fork(),
        config: options.resolve().expect("good options"),
        ahead: 0,
        boot: 0,
        running: None,
    };
    machine.start().await;

    let (over, is_over) = tokio::sync::watch::channel(false);
    let calls = net.clone();
    let connect: actors::Connect = Arc::new(move |port, chance| calls.client(port, chance));
    let instances = (0..1 + chance.below(3)).map(|_| InstanceId(chance.uuid())).collect();
    let world = World { connect, clock, history: history.clone(), haste: 1, instances, over: is_over };
    let (mut senders, mut drivers, mut readers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for who in 0..1 + chance.below(3) as usize {
        senders.spawn(actors::sender(world.clone(), who, chance.fork()));
    }
    for who in 0..1 + chance.below(4) as usize {
        drivers.spawn(actors::driver(world.clone(), who, chance.fork()));
    }
    for who in 0..1 + chance.below(2) as usize {
        readers.spawn(actors::watcher(world.clone(), who, chance.fork()));
    }
    for name in ["power", "volumes"].into_iter().take(1 + chance.below(2) as usize) {
        readers.spawn(actors::consumer(world.clone(), name.to_owned(), chance.fork()));
    }
    senders.spawn(actors::operator(world.clone(), chance.fork()));

    let end = clock.now().plus(TROUBLE);
    while clock.now() < end {
        sleep(machine.chance.millis(20, 4_000)).await;
        machine.trouble().await;
    }
    machine.tell(format_args!("nothing goes wrong from now on"));
    net.set_delay(1);
    machine.see_to_the_agent().await;
    over.send_replace(true);
    let all_done = async |what: &str, tasks: &mut JoinSet<()>| {
        let ended = timeout(CALM, async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    history.wrong(format!("{what} panicked: {error}"));
                }
            }
        });
        if ended.await.is_err() {
            history.wrong(format!("{} of the {what}s came to no end", tasks.len()));
        }
    };
    all_done("sender", &mut senders).await;
    // Twice, for a wait that was just being opened.
    for _ in 0..2 {
        senders.spawn(actors::send_the_last(world.clone(), chance.fork()));
        all_done("sender", &mut senders).await;
        sleep(CALM / 4).await;
    }
    all_done("driver", &mut drivers).await;
    // As long as a silent connection of a reader may take to be found out, and to work off what is left.
    sleep(CALM).await;
    let client = net.client(Port::Unix, chance.fork());
    let mut inspector = client.inspector();
    let status = timeout(CALM, inspector.get_status(GetStatusRequest {}));
    match status.await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
        Ok(status) if status.get_ref().open_waits == 0 => {}
        Ok(status) => history.wrong(format!("{} waits are left open", status.get_ref().open_waits)),
        Err(status) => history.wrong(format!("no status: {status}")),
    }
    if readers.len() != readers_of(&history) {
        history.wrong("a reader has ended".to_owned());
    }
    machine.stop().await;
    readers.shutdown().await;

    let mut seen = std::mem::take(&mut *history.see());
    check::check(&machine.disk, LATE, &mut seen);
    seen
}

/// An event that nobody waits for.
fn of_nobody() -> Event {
    Event {
        instance_uuid: "00000000-0000-0000-0000-000000000001".into(),
        name: "is-it-well".into(),
        ..Event::default()
    }
}

fn readers_of(history: &History) -> usize {
    let seen = history.see();
    seen.watches.len() + seen.consumers.len()
}

/// The moment that worlds begin at.
pub(crate) fn beginning() -> Time {
    Time::default()
}
