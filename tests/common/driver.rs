//! A driver in a process of its own: the test binary itself, started again, which does what it is told by
//! lines on its input. It can be frozen, killed, and run as another user.
//!
//! A test file that uses it has this test:
//!
//! ```ignore
//! #[tokio::test]
//! #[ignore = "the driver process of the other tests"]
//! async fn driver() {
//!     common::driver::serve().await;
//! }
//! ```

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use rustix::process::Signal;
use tonic::Status;
use tonic::transport::Channel;
use wakeful::client::address::Address;
use wakeful::proto::inspector_client::InspectorClient;
use wakeful::proto::waits_client::WaitsClient;
use wakeful::proto::{
    CancelInstanceRequest, CancelRequest, ExplainRequest, GetStatusRequest, ListWaitsRequest,
};

use super::Agent;
use super::calls::{said, try_open, wait_for};
use super::process::{Process, lines};

const SOCKET: &str = "WAKEFUL_TEST_DRIVER_SOCKET";
/// What libtest prints is on the same pipe; the driver's own lines start so.
const MARK: &str = "> ";
/// Waits are spread over so many connections, and over instances with so many each.
const CONNECTIONS: usize = 4;
const PER_INSTANCE: usize = 100;

/// The parent's end.
pub(crate) struct Driver {
    process: Process,
    stdin: ChildStdin,
}

impl Driver {
    pub(crate) fn start(agent: &Agent) -> Self {
        Self::start_program(&std::env::current_exe().expect("the test's own path"), agent, None)
    }

    /// A driver that another user runs, who has no way to where the tests are built. To be called by root.
    pub(crate) fn start_as(agent: &Agent, uid: u32) -> Self {
        let program = agent.folder.path().join(format!("driver-{uid}"));
        std::fs::copy(std::env::current_exe().expect("the test's own path"), &program).expect("a copy");
        Self::start_program(&program, agent, Some(uid))
    }

    fn start_program(program: &Path, agent: &Agent, uid: Option<u32>) -> Self {
        let mut command = Command::new(program);
        command.args(["--exact", "driver", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(SOCKET, &agent.socket).current_dir("/").stdin(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut process = Process::start(command);
        let stdin = process.stdin();
        Self { process, stdin }
    }

    /// Tells it to do something, and gives what it says to that.
    pub(crate) async fn ask(&mut self, what: &str) -> String {
        writeln!(self.stdin, "{what}").expect("the driver reads");
        loop {
            let line = self.process.line().await;
            if let Some(answer) = line.strip_prefix(MARK) {
                return answer.to_owned();
            }
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }
}

/// The child's end: serves until its input ends. Does nothing if nobody has started it as a driver.
pub(crate) async fn serve() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let connect = || Address::Unix(PathBuf::from(&socket)).channel().expect("a channel");
    let channels: Vec<_> = std::iter::repeat_with(connect).take(CONNECTIONS).collect();
    let mut asked = lines(std::io::stdin());
    let mut held = Vec::new();
    while let Some(line) = asked.recv().await {
        let words: Vec<_> = line.split(' ').collect();
        let answer = match words[..] {
            ["open", number] => {
                let number = number.parse().expect("a number");
                held.extend(open_many(&channels, number).await);
                format!("open {number}")
            }
            ["wait", id, instance] => {
                let request = wait_for(instance, &[("driver", "")]);
                let request = wakeful::proto::WaitRequest { wait_id: id.into(), ..request };
                match try_open(&channels[0], request).await {
                    Ok(wait) => {
                        held.push(wait);
                        "OK".to_owned()
                    }
                    Err(status) => refusal(&status),
                }
            }
            _ => match call(&channels[0], &words).await {
                Ok(answer) => answer,
                Err(status) => refusal(&status),
            },
        };
        // In one write, past whatever libtest has written on the line.
        print!("\n{MARK}{answer}\n");
        std::io::stdout().flush().expect("the parent reads");
    }
}

fn refusal(status: &Status) -> String {
    format!("{:?} {}", status.code(), said(status).reason)
}

async fn open_many(channels: &[Channel], number: usize) -> Vec<super::calls::Wait> {
    let mut opening = tokio::task::JoinSet::new();
    let mut instance = String::new();
    for n in 0..number {
        if n % PER_INSTANCE == 0 {
            instance = super::calls::uuid();
        }
        let channel = channels[n % channels.len()].clone();
        let request = wait_for(&instance, &[("driver", &n.to_string())]);
        opening.spawn(async move { super::calls::open(&channel, request).await });
    }
    opening.join_all().await
}

async fn call(channel: &Channel, words: &[&str]) -> Result<String, Status> {
    let mut waits = WaitsClient::new(channel.clone());
    let mut inspector = InspectorClient::new(channel.clone());
    match *words {
        ["cancel", id] => {
            waits.cancel(CancelRequest { wait_id: id.into(), why: "by the driver".into() }).await?;
        }
        ["cancel-instance", id] => {
            let request = CancelInstanceRequest { instance_uuid: id.into(), why: "by the driver".into() };
            let ended = waits.cancel_instance(request).await?.into_inner().waits;
            let ids: Vec<_> = ended.into_iter().map(|wait| wait.wait_id).collect();
            return Ok(format!("OK {}", ids.join(" ")));
        }
        ["status"] => {
            inspector.get_status(GetStatusRequest {}).await?;
        }
        ["list-waits"] => {
            inspector.list_waits(ListWaitsRequest::default()).await?;
        }
        ["explain", id] => {
            inspector.explain(ExplainRequest { instance_uuid: id.into(), ..Default::default() }).await?;
        }
        _ => panic!("not known: {words:?}"),
    }
    Ok("OK".to_owned())
}
