//! Group commit: whoever owns a store takes all that is in flight, writes it as one batch, and answers; and while it
//! writes, what comes next gathers.
//!
//! What a turn of it does is the same wherever it runs: on a thread of its own, or, where a test has to have every
//! step in its hands, in a task of the test's runtime.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{Builder, yield_now};

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::clock::{Clock, Time};

/// Whoever owns a store, and takes orders of the type `O`.
pub trait Work<O>: Send + 'static {
    /// What one turn has to bring to the disk.
    type Turn: Send;

    /// The clock that its moments are of.
    fn clock(&self) -> Clock;

    /// When there is something to do though nothing comes in.
    fn next_wake(&self) -> Time;

    /// Takes an order in, and what else is at hand.
    fn gather(&mut self, order: Option<O>, inbox: &Receiver<O>) -> Self::Turn;

    /// Brings to the disk what was gathered. If it was the last turn, gives whom to tell of the end.
    fn finish(&mut self, turn: Self::Turn) -> Option<oneshot::Sender<()>>;

    /// Ends, and says so.
    fn close(self, done: oneshot::Sender<()>);
}

/// Where orders are handed in. If who takes them has ended, they are dropped.
#[derive(Debug)]
pub struct Orders<O> {
    sender: Sender<O>,
    /// Told of each order, where it is a task that takes them.
    news: Option<Arc<Notify>>,
}

impl<O> Clone for Orders<O> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), news: self.news.clone() }
    }
}

impl<O> Orders<O> {
    /// Hands an order in.
    pub fn send(&self, order: O) {
        let _ = self.sender.send(order);
        if let Some(news) = &self.news {
            news.notify_one();
        }
    }

    /// The same, with where its answer goes. Ready with the answer; `None` if who takes orders has ended.
    pub async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> O) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send(order(reply));
        answer.await.ok()
    }
}

/// Starts the work on a thread of this name.
///
/// # Errors
///
/// If the system has no thread to give.
pub fn start<O: Send + 'static>(name: &str, work: impl Work<O>) -> io::Result<Orders<O>> {
    let (sender, inbox) = channel();
    Builder::new().name(name.to_owned()).spawn(move || run(work, &inbox))?;
    Ok(Orders { sender, news: None })
}

/// Starts it in a task, which ends when it is aborted. Each batch lies gathered until `pause` is ready, and is then
/// written by whoever runs the task: for what need not wait for the disk.
pub fn start_task<O: Send + 'static, P: Future<Output = ()> + Send + 'static>(
    work: impl Work<O>,
    pause: impl FnMut() -> P + Send + 'static,
) -> (Orders<O>, JoinHandle<()>) {
    let (sender, inbox) = channel();
    let news = Arc::new(Notify::new());
    let task = tokio::spawn(run_in_task(work, inbox, Arc::clone(&news), pause));
    (Orders { sender, news: Some(news) }, task)
}

fn run<O>(mut work: impl Work<O>, inbox: &Receiver<O>) {
    loop {
        let wait = work.next_wake().since(work.clock().now());
        let order = match inbox.recv_timeout(wait) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Whoever hands something over often has more at hand: where it shares this core, it gets to say so.
        yield_now();
        let turn = work.gather(order, inbox);
        if let Some(done) = work.finish(turn) {
            return work.close(done);
        }
    }
}

async fn run_in_task<O, P: Future<Output = ()>>(
    mut work: impl Work<O>,
    inbox: Receiver<O>,
    news: Arc<Notify>,
    mut pause: impl FnMut() -> P,
) {
    loop {
        let wake = work.clock().instant(work.next_wake());
        let order = loop {
            match inbox.try_recv() {
                Ok(order) => break Some(order),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {}
            }
            tokio::select! {
                biased;
                () = news.notified() => {}
                () = sleep_until(wake) => break None,
            }
        };
        let turn = work.gather(order, &inbox);
        pause().await;
        if let Some(done) = work.finish(turn) {
            return work.close(done);
        }
    }
}
