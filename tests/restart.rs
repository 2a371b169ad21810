//! What outlives the agent: events, waits, ended waits, ids; and starts that are refused.

#![cfg(test)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::calls::{
    cursor, dispatch, event, open, seconds, send, try_dispatch, try_open, uuid, wait_for, why,
};
use common::process::Process;
use common::{Agent, folder, health, run, until, wakeful};
use rustix::process::Signal;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use wakeful::client::address::Address;
use wakeful::clock::{Clock, Time};
use wakeful::proto::dispatch_result::Disposition;
use wakeful::proto::inspector_client::InspectorClient;
use wakeful::proto::outcome::Kind;
use wakeful::proto::wait_response::Message;
use wakeful::proto::{Event, ExplainRequest, WaitRequest, explain_entry::What};

const BOUND: Duration = Duration::from_secs(20);

/// Kills the agent and waits until it is gone.
async fn kill(agent: &mut Agent) {
    agent.process.signal(Signal::KILL);
    agent.process.ended(BOUND).await;
}

/// `wakeful wait` for this key of this instance, once it is registered.
async fn start_wait(agent: &Agent, instance: &str, key: &str) -> Process {
    let address = format!("unix:{}", agent.socket.display());
    let args = ["wait", "--agent", &address, instance, key, "--timeout", "60s", "--", "echo", "registered"];
    let mut wait = Process::start(wakeful(&args));
    assert_eq!(wait.line().await, "registered");
    wait
}

#[tokio::test]
async fn a_wait_outlives_the_kill_of_the_agent() {
    let mut agent = Agent::start(&[]).await;
    let (tcp, instance) = (agent.tcp(), uuid());
    let mut wait = start_wait(&agent, &instance, "test-event:foo").await;
    kill(&mut agent).await;
    let refused =
        try_dispatch(&tcp, vec![event(&instance, "test-event", "foo")]).await.expect_err("nobody is there");
    assert_eq!(refused.code(), Code::Unavailable);

    let again = Agent::start_in(agent.folder.clone(), &[]).await;
    assert_eq!(again.log_id, agent.log_id);
    assert_eq!(send(&again.tcp(), event(&instance, "test-event", "foo")).await.2, 1);
    assert!(wait.line().await.starts_with("completed: test-event:foo"));
    assert!(wait.ended(BOUND).await.success());
}

#[tokio::test]
async fn an_event_acknowledged_just_before_the_kill_wakes_a_wait_that_had_not_read_it() {
    let mut agent = Agent::start(&[]).await;
    let instance = uuid();
    let mut wait = start_wait(&agent, &instance, "test-event:foo").await;
    wait.signal(Signal::STOP);
    assert_eq!(send(&agent.tcp(), event(&instance, "test-event", "foo")).await.0, Disposition::Woke);
    kill(&mut agent).await;
    let _again = Agent::start_in(agent.folder.clone(), &[]).await;
    wait.signal(Signal::CONT);
    assert!(wait.line().await.starts_with("completed: test-event:foo"));
    assert!(wait.ended(BOUND).await.success());
}

#[tokio::test]
async fn a_wait_open_for_longer_than_the_log_is_kept_outlives_a_restart() {
    let options = ["--log-age", "1s", "--drain-timeout", "0s"];
    let mut agent = Agent::start(&options).await;
    let (instance, other) = (uuid(), uuid());
    let mut wait = start_wait(&agent, &instance, "test-event:foo").await;
    send(&agent.tcp(), event(&other, "x", "")).await;
    let oldest = async |agent: &Agent| agent.status().await.log.expect("a log").oldest;
    agent.terminate();
    assert!(agent.process.ended(BOUND).await.success());
    let again = Agent::start_in(agent.folder.clone(), &options).await;
    until("the log to go", async || (oldest(&again).await > 1).then_some(())).await;
    send(&again.tcp(), event(&instance, "test-event", "foo")).await;
    assert!(wait.line().await.starts_with("completed: test-event:foo"));
    assert!(wait.ended(BOUND).await.success());
}

#[tokio::test]
async fn a_client_that_was_away_past_its_time_learns_of_an_event_acknowledged_before() {
    let mut agent = Agent::start(&[]).await;
    let instance = uuid();
    let address = format!("unix:{}", agent.socket.display());
    let args = ["wait", "--agent", &address, &instance, "a", "--timeout", "2s", "--", "echo", "registered"];
    let mut wait = Process::start(wakeful(&args));
    assert_eq!(wait.line().await, "registered");
    wait.signal(Signal::STOP);
    let clock = Clock::start(Time::default());
    let asked = clock.now();
    assert_eq!(send(&agent.tcp(), event(&instance, "a", "")).await.0, Disposition::Woke);
    kill(&mut agent).await;
    until("its time to pass", async || (clock.now().since(asked) > Duration::from_secs(3)).then_some(()))
        .await;
    let _again = Agent::start_in(agent.folder.clone(), &[]).await;
    wait.signal(Signal::CONT);
    let line = wait.line().await;
    assert!(line.starts_with("completed: a"), "{line}");
    assert!(wait.ended(BOUND).await.success());
}

#[tokio::test]
async fn a_stop_tells_open_waits_to_ask_again_and_ended_ones_are_known_after_it() {
    let mut agent = Agent::start(&["--drain-timeout", "0s"]).await;
    let (unix, instance) = (agent.unix(), uuid());
    let asked = wait_for(&instance, &[("a", ""), ("b", "")]);
    let mut stays = open(&unix, asked.clone()).await;
    let mut ends = open(&unix, wait_for(&instance, &[("a", "")])).await;
    send(&agent.tcp(), event(&instance, "a", "")).await;
    assert_eq!(ends.outcome_at_last().await.kind(), Kind::Completed);
    stays.progress().await;
    agent.terminate();
    let Ok(Some(Message::GoingAway(going))) = stays.next().await else { panic!("it is told to ask again") };
    assert_eq!(going.cursor, Some(cursor(&agent.log_id, 1)));
    assert_eq!(why(&stays.refused().await), (Code::Unavailable, "STOPPING".into()));
    assert!(agent.process.ended(BOUND).await.success());

    let again = Agent::start_in(agent.folder.clone(), &[]).await;
    let explained = InspectorClient::new(again.unix())
        .explain(ExplainRequest { instance_uuid: instance.clone(), ..Default::default() })
        .await
        .expect("explained")
        .into_inner();
    let ended =
        explained.entries.iter().filter(|entry| matches!(entry.what, Some(What::WaitEnded(_)))).count();
    assert_eq!(ended, 1, "{explained:?}");
    let resumed = WaitRequest {
        wait_id: stays.id().into(),
        after: going.cursor,
        opened: stays.registered.opened,
        key_states: going.keys,
        ..asked
    };
    let mut resumed = open(&again.unix(), resumed).await;
    send(&again.tcp(), event(&instance, "b", "")).await;
    assert_eq!(resumed.outcome_at_last().await.kind(), Kind::Completed);
    // The one that had ended gives its outcome again.
    let registered = ends.registered.clone();
    let once_more = WaitRequest {
        wait_id: ends.id().into(),
        after: registered.cursor,
        opened: registered.opened,
        key_states: registered.keys,
        ..wait_for(&instance, &[("a", "")])
    };
    assert_eq!(open(&again.unix(), once_more).await.outcome_at_last().await.keys[0].position, 1);
}

#[tokio::test]
async fn with_cancel_on_stop_open_waits_end_cancelled() {
    let mut agent = Agent::start(&["--drain-timeout", "0s", "--cancel-on-stop"]).await;
    let mut wait = open(&agent.unix(), wait_for(&uuid(), &[("a", "")])).await;
    agent.terminate();
    let outcome = wait.outcome_at_last().await;
    assert_eq!((outcome.kind(), outcome.why.as_str()), (Kind::Cancelled, "the agent stops"));
    assert!(agent.process.ended(BOUND).await.success());
}

#[tokio::test]
async fn an_id_is_known_after_a_restart_and_its_event_keeps_its_position() {
    let mut agent = Agent::start(&[]).await;
    let (instance, id) = (uuid(), uuid());
    let once = Event { event_id: id.clone(), ..event(&instance, "a", "t") };
    assert_eq!(send(&agent.tcp(), once.clone()).await, (Disposition::Retained, 0, 1));
    kill(&mut agent).await;
    let again = Agent::start_in(agent.folder.clone(), &[]).await;
    assert_eq!(send(&again.tcp(), once).await, (Disposition::Duplicate, 0, 1));
    let other = Event { event_id: id, ..event(&instance, "a", "other") };
    assert_eq!(send(&again.tcp(), other).await.0, Disposition::Rejected);
    assert_eq!(send(&again.tcp(), event(&instance, "a", "t")).await, (Disposition::Retained, 0, 2));
}

#[tokio::test]
async fn with_os_and_a_kill_of_the_agent_alone_nothing_is_lost() {
    let mut agent = Agent::start(&["--durability", "os"]).await;
    let instance = uuid();
    dispatch(&agent.tcp(), (0..100).map(|n| event(&instance, "a", &n.to_string())).collect()).await;
    kill(&mut agent).await;
    let again = Agent::start_in(agent.folder.clone(), &["--durability", "os"]).await;
    assert_eq!((again.log_id.as_str(), again.status().await.log.expect("a log").head), (&*agent.log_id, 100));
}

#[tokio::test]
async fn a_cursor_of_a_log_made_anew_is_refused() {
    let mut agent = Agent::start(&[]).await;
    let instance = uuid();
    send(&agent.tcp(), event(&instance, "a", "")).await;
    kill(&mut agent).await;
    fs::remove_dir_all(agent.folder.path().join("log")).expect("the log taken away");
    let again = Agent::start_in(agent.folder.clone(), &[]).await;
    let asked = WaitRequest {
        after: Some(cursor(&agent.log_id, 1)),
        timeout: Some(seconds(1)),
        ..wait_for(&instance, &[("a", "")])
    };
    let refused = try_open(&again.unix(), asked).await.err().expect("refused");
    assert_eq!(why(&refused), (Code::FailedPrecondition, "CURSOR_OF_ANOTHER_LOG".into()));
}

/// Runs an agent that is refused, on this folder, and gives what it says.
async fn refused_on(data: &std::path::Path) -> String {
    let folder = folder();
    let socket = folder.path().join("agent.sock");
    let args =
        ["agent", "--listen", "127.0.0.1:0", "--socket", socket.to_str().expect("a path"), "--data-dir"];
    let ran = run(&[&args[..], &[data.to_str().expect("a path")]].concat()).await;
    assert!(!ran.status.success() && ran.stdout.is_empty() && !socket.exists());
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

#[tokio::test]
async fn a_second_agent_on_the_same_folder_is_refused_with_the_first_ones_process_id() {
    let agent = Agent::start(&[]).await;
    let said = refused_on(&agent.folder.path().join("log")).await;
    assert!(
        said.contains(&format!("process {}", agent.process.id())) && said.contains("--data-dir"),
        "{said}"
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused_with_its_path() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").expect("a file");
    let said = refused_on(&file.join("log")).await;
    assert!(said.contains(file.to_str().expect("a path")) && said.contains("--data-dir"), "{said}");
    if !rustix::process::geteuid().is_root() {
        let closed = folder.path().join("closed");
        fs::create_dir(&closed).expect("a folder");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).expect("its mode");
        let said = refused_on(&closed).await;
        assert!(said.contains(closed.to_str().expect("a path")), "{said}");
    }
}

/// An agent whose log is on a small disk of its own, in a mount namespace of its own; `None` where the system does
/// not let us have one.
async fn agent_on_a_small_disk(folder: &std::path::Path) -> Option<Process> {
    let disk = folder.join("disk");
    fs::create_dir(&disk).expect("a folder");
    let script = "mount -t tmpfs -o size=2m tmpfs \"$1\" && head -c 1048576 /dev/zero > \"$1/filler\" && shift && exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&disk);
    command.args([
        env!("CARGO_BIN_EXE_wakeful"),
        "agent",
        "--listen",
        "127.0.0.1:0",
        "--log-size",
        "8MiB",
        "--socket",
    ]);
    command.arg(folder.join("agent.sock")).arg("--data-dir").arg(disk.join("log"));
    let mut process = Process::start(command);
    process.line_or_end().await.map(|_| process)
}

#[tokio::test]
async fn a_full_disk_refuses_with_a_reason_turns_health_and_takes_more_once_there_is_room() {
    let folder = folder();
    let Some(agent) = agent_on_a_small_disk(folder.path()).await else {
        println!("SKIPPED: no mount namespace can be had here");
        assert!(std::env::var_os("WAKEFUL_REQUIRE_CLIENTS").is_none(), "one is required");
        return;
    };
    let unix = Address::Unix(folder.path().join("agent.sock")).channel().expect("a channel");
    let instance = uuid();
    let mut wait = open(&unix, wait_for(&instance, &[("last", "")])).await;
    let filling =
        || (0..50).map(|_| Event { data: vec![7; 4096], ..event(&instance, "a", "") }).collect::<Vec<_>>();
    let mut kept = 0;
    let refused = loop {
        match try_dispatch(&unix, filling()).await {
            Ok(results) => kept += results.len() as u64,
            Err(refused) => break refused,
        }
    };
    assert_eq!(why(&refused), (Code::Unavailable, "DISK_FULL".into()));
    assert!(refused.message().contains("full"), "{refused:?}");
    let serving = async |service| health(&unix, service).await == ServingStatus::Serving;
    until("health to turn", async || (!serving("wakeful.v1.EventReceiver").await).then_some(())).await;
    assert!(serving("wakeful.v1.Waits").await, "waits go on");
    let mut looks = open(&unix, wait_for(&instance, &[("never", "")])).await;

    let filler = format!("/proc/{}/root{}/disk/filler", agent.id(), folder.path().display());
    fs::remove_file(filler).expect("room made");
    until("health to turn back", async || serving("wakeful.v1.EventReceiver").await.then_some(())).await;
    assert_eq!(send(&unix, event(&instance, "last", "")).await, (Disposition::Woke, 1, kept + 1));
    assert_eq!(wait.outcome_at_last().await.kind(), Kind::Completed);
    assert_eq!(common::status(&unix).await.log.expect("a log").head, kept + 1);
    send(&unix, event(&instance, "never", "")).await;
    assert_eq!(looks.outcome_at_last().await.kind(), Kind::Completed);
}
