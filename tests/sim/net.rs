//! A network in memory: connections with delays, that are cut, or go silent and stay half open.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Sleep, sleep, sleep_until};
use tonic::transport::{Channel, Endpoint};
use wakeful::client::Client;
use wakeful::clock::{Clock, Time};
use wakeful::event::Caller;
use wakeful::net::listen::{Listener, Peer};

use crate::actors::Port;
use crate::chance::Chance;

/// Bytes that a direction holds before its writer has to wait.
const WINDOW: usize = 64 * 1024;

/// The network. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Net(Arc<Mutex<State>>);

struct State {
    clock: Clock,
    chance: Chance,
    /// The longest delay of what is sent, in milliseconds.
    delay: u64,
    agent: Option<Ports>,
    links: Vec<Link>,
}

struct Ports {
    tcp: UnboundedSender<(Pipe, Peer)>,
    unix: UnboundedSender<(Pipe, Peer)>,
}

/// Both directions of a connection.
struct Link {
    to_agent: Arc<Half>,
    to_client: Arc<Half>,
}

/// One direction.
struct Half {
    clock: Clock,
    state: Mutex<Way>,
}

struct Way {
    chance: Chance,
    delay: u64,
    queue: VecDeque<(Time, Vec<u8>)>,
    bytes: usize,
    newest: Time,
    ended: bool,
    reset: bool,
    /// What is written from now on goes nowhere.
    silent: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Net {
    pub(crate) fn new(clock: Clock, chance: Chance) -> Self {
        Self(Arc::new(Mutex::new(State { clock, chance, delay: 1, agent: None, links: Vec::new() })))
    }

    /// An agent listens from now on.
    pub(crate) fn listen(&self) -> (Ear, Ear) {
        let ((tcp, tcp_ear), (unix, unix_ear)) = (unbounded_channel(), unbounded_channel());
        self.lock().agent = Some(Ports { tcp, unix });
        (Ear(tokio::sync::Mutex::new(tcp_ear)), Ear(tokio::sync::Mutex::new(unix_ear)))
    }

    /// The agent is gone, without a word; or, if its machine is still there, with every connection reset.
    pub(crate) fn agent_is_gone(&self, reset: bool) {
        let mut state = self.lock();
        state.agent = None;
        for link in state.links.drain(..) {
            // What it wrote before is on its way still.
            let mut way = link.to_client.lock();
            way.silent = true;
            way.reset = reset;
            way.wake();
            drop(way);
            let mut way = link.to_agent.lock();
            (way.silent, way.reset) = (true, true);
            way.wake();
        }
    }

    /// The agent takes no more connections, and goes on with those that there are.
    pub(crate) fn agent_stops(&self) {
        self.lock().agent = None;
    }

    pub(crate) fn set_delay(&self, most: u64) {
        let mut state = self.lock();
        state.delay = most;
        for link in &state.links {
            link.to_agent.lock().delay = most;
            link.to_client.lock().delay = most;
        }
    }

    /// Cuts some connections, or has a direction of them go silent.
    pub(crate) fn disturb(&self) {
        let mut state = self.lock();
        let mut chance = state.chance.fork();
        state.links.retain(|link| {
            if !chance.percent(40) {
                return true;
            }
            // Those that go silent end with the agent, as all do.
            match chance.below(4) {
                0 => {
                    for half in [&link.to_agent, &link.to_client] {
                        let mut way = half.lock();
                        way.reset = true;
                        way.wake();
                    }
                    return false;
                }
                1 => link.to_agent.lock().silent = true,
                2 => {
                    // The client knows it at once, the agent only by its silence.
                    link.to_agent.lock().silent = true;
                    let mut way = link.to_client.lock();
                    (way.silent, way.reset) = (true, true);
                    way.queue.clear();
                    way.wake();
                }
                _ => link.to_client.lock().silent = true,
            }
            true
        });
    }

    /// A new connection.
    pub(crate) async fn connect(self, port: Port, mut chance: Chance) -> io::Result<Pipe> {
        let most = self.lock().delay;
        sleep(chance.millis(0, most)).await;
        let mut state = self.lock();
        let halves = (state.half(chance.fork()), state.half(chance.fork()));
        let (to_agent, to_client) = (Arc::new(halves.0), Arc::new(halves.1));
        let here = Pipe::new(Arc::clone(&to_client), Arc::clone(&to_agent));
        let there = Pipe::new(Arc::clone(&to_agent), Arc::clone(&to_client));
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let ports = state.agent.as_ref().ok_or_else(refused)?;
        let taken = match port {
            Port::Tcp => ports.tcp.send((there, Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], 1))))),
            Port::Unix => ports.unix.send((there, Peer::Unix(Caller { uid: 0, operator: true }))),
        };
        taken.map_err(|_| refused())?;
        state.links.push(Link { to_agent, to_client });
        Ok(here)
    }

    /// A client of the agent, whichever there is, that finds out within seconds that it has gone silent.
    pub(crate) fn client(&self, port: Port, chance: Chance) -> Client {
        Client::over(self.channel(port, chance), "127.0.0.1:1".parse().expect("an address"))
    }

    pub(crate) fn channel(&self, port: Port, chance: Chance) -> Channel {
        let (net, chance) = (self.clone(), Arc::new(Mutex::new(chance)));
        let connect = move |_| {
            let (net, chance) = (net.clone(), chance.lock().expect("no panic while it is held").fork());
            async move { net.connect(port, chance).await.map(TokioIo::new) }
        };
        Endpoint::from_static("http://agent")
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(1))
            .connect_timeout(Duration::from_secs(2))
            .connect_with_connector_lazy(tower::service_fn(connect))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while it is held")
    }
}

impl State {
    fn half(&self, chance: Chance) -> Half {
        let way = Way {
            chance,
            delay: self.delay,
            queue: VecDeque::new(),
            bytes: 0,
            newest: Time::default(),
            ended: false,
            reset: false,
            silent: false,
            reader: None,
            writer: None,
        };
        Half { clock: self.clock, state: Mutex::new(way) }
    }
}

impl Half {
    fn lock(&self) -> MutexGuard<'_, Way> {
        self.state.lock().expect("no panic while it is held")
    }
}

impl Way {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// An agent's listener.
pub(crate) struct Ear(tokio::sync::Mutex<UnboundedReceiver<(Pipe, Peer)>>);

impl Listener for Ear {
    type Io = Pipe;

    async fn accept(&self) -> io::Result<(Pipe, Peer)> {
        match self.0.lock().await.recv().await {
            Some(connection) => Ok(connection),
            None => std::future::pending().await,
        }
    }
}

/// One end of a connection.
pub(crate) struct Pipe {
    read: Arc<Half>,
    write: Arc<Half>,
    timer: Option<(Time, Pin<Box<Sleep>>)>,
}

impl Pipe {
    fn new(read: Arc<Half>, write: Arc<Half>) -> Self {
        Self { read, write, timer: None }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &mut *self;
        let mut way = pipe.read.lock();
        let now = pipe.read.clock.now();
        if let Some((at, bytes)) = way.queue.front_mut() {
            if *at <= now {
                let taken = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes[..taken]);
                bytes.drain(..taken);
                if bytes.is_empty() {
                    way.queue.pop_front();
                }
                way.bytes -= taken;
                if let Some(writer) = way.writer.take() {
                    writer.wake();
                }
                return Poll::Ready(Ok(()));
            }
            let at = *at;
            way.reader = Some(cx.waker().clone());
            if pipe.timer.as_ref().is_none_or(|(set, _)| *set != at) {
                pipe.timer = Some((at, Box::pin(sleep_until(pipe.read.clock.instant(at)))));
            }
            let due = pipe.timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready());
            if due {
                pipe.timer = None;
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        if way.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if way.ended {
            return Poll::Ready(Ok(()));
        }
        way.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut way = self.write.lock();
        if way.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = WINDOW - way.bytes.min(WINDOW);
        if room == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = buf.len().min(room);
        if way.silent {
            // Never to be read: once the window is full, the writer waits.
            way.bytes += taken;
            return Poll::Ready(Ok(taken));
        }
        let most = way.delay;
        let delay = Duration::from_millis(way.chance.below(most + 1));
        let at = self.write.clock.now().plus(delay).max(way.newest);
        way.newest = at;
        way.bytes += taken;
        way.queue.push_back((at, buf[..taken].to_vec()));
        if let Some(reader) = way.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = self.write.lock();
        way.ended |= !way.silent;
        way.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut way = self.write.lock();
        way.ended |= !way.silent;
        way.wake();
        drop(way);
        let mut way = self.read.lock();
        way.reset |= !way.silent;
        way.wake();
    }
}
