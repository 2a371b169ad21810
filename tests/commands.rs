//! The operator's commands as a person and a script use them: real processes against a real agent.
#![allow(clippy::expect_used, reason = "a test that cannot go on says why, and fails")]

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;
use tonic::Streaming;
use wakeful::client::address::Address;
use wakeful::proto::event_receiver_client::EventReceiverClient;
use wakeful::proto::wait_response::Message;
use wakeful::proto::waits_client::WaitsClient;
use wakeful::proto::{DispatchRequest, Event, Key, WaitRequest, WaitResponse, outcome};

const INSTANCE: &str = "3f2a9c01-0000-4000-8000-000000000001";
const WAIT: &str = "77777777-0000-4000-8000-000000000001";
const ID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Agent {
    dir: TempDir,
    child: Child,
    tcp: String,
}

impl Agent {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder")).await
    }

    async fn start_in(dir: TempDir) -> Self {
        let mut child = wakeful()
            .args(["agent", "--listen", "127.0.0.1:0", "--socket"])
            .arg(dir.path().join("agent.sock"))
            .arg("--data-dir")
            .arg(dir.path().join("log"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the agent starts");
        let ready = next(&mut lines(child.stdout.take().expect("its stdout"))).await.expect("a line");
        let tcp = ready.split(' ').find(|word| word.starts_with("127.0.0.1:")).expect("its port").to_owned();
        Self { dir, child, tcp }
    }

    fn address(&self) -> Address {
        Address::Unix(self.dir.path().join("agent.sock"))
    }

    /// A command that asks this agent.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = wakeful();
        command.args(args).env("WAKEFUL_AGENT", self.address().to_string());
        command
    }

    async fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args)).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--output", "json"]].concat()).await;
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stderr, "", "{args:?}");
        serde_json::from_str(&ran.stdout).expect("one JSON document")
    }

    /// Opens a wait of these keys and gives its stream once it is registered.
    async fn wait(&self, keys: &[(&str, &str)]) -> Streaming<WaitResponse> {
        self.open(wait_for(keys)).await
    }

    async fn open(&self, request: WaitRequest) -> Streaming<WaitResponse> {
        let mut client = WaitsClient::new(self.address().channel().expect("a channel"));
        let mut stream = client.wait(request).await.expect("a wait").into_inner();
        let first = soon(stream.message()).await.expect("a stream").expect("a message");
        assert!(matches!(first.message, Some(Message::Registered(_))), "{first:?}");
        stream
    }

    async fn dispatch(&self, count: usize) {
        let event =
            Event { instance_uuid: INSTANCE.into(), name: "network-changed".into(), ..Default::default() };
        let mut client = EventReceiverClient::new(self.address().channel().expect("a channel"));
        let request = DispatchRequest { events: vec![event; count] };
        soon(client.dispatch(request)).await.expect("a reply");
    }

    async fn stop(mut self) -> TempDir {
        interrupt(&self.child).await;
        soon(self.child.wait()).await.expect("its end");
        self.dir
    }
}

fn wait_for(keys: &[(&str, &str)]) -> WaitRequest {
    let keys = keys.iter().map(|&(name, tag)| Key { name: name.into(), tag: tag.into() }).collect();
    WaitRequest { wait_id: WAIT.into(), instance_uuid: INSTANCE.into(), keys, ..Default::default() }
}

/// What an explanation's lines say, without their times.
fn told(explained: &str) -> Vec<&str> {
    explained
        .lines()
        .skip(1)
        .map(|line| line.rsplit_once(" ago  ").map_or(line, |(_, what)| what.trim_start()))
        .collect()
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn wakeful() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wakeful"));
    command.kill_on_drop(true).env_remove("WAKEFUL_OUTPUT").env_remove("WAKEFUL_AGENT").stdin(Stdio::null());
    command
}

async fn run(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = soon(command.output()).await.expect("it runs");
    Ran {
        code: status.code().expect("an exit code"),
        stdout: String::from_utf8(stdout).expect("text"),
        stderr: String::from_utf8(stderr).expect("text"),
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it does not hang")
}

fn lines<R: AsyncRead + Unpin>(stream: R) -> Lines<BufReader<R>> {
    BufReader::new(stream).lines()
}

async fn next<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>) -> Option<String> {
    soon(lines.next_line()).await.expect("it can be read")
}

async fn interrupt(child: &Child) {
    let pid = child.id().expect("it runs").to_string();
    let killed = soon(Command::new("kill").args(["-INT", &pid]).status()).await.expect("kill");
    assert!(killed.success());
}

async fn outcome(stream: &mut Streaming<WaitResponse>) -> outcome::Kind {
    loop {
        let message = soon(stream.message()).await.expect("a stream").expect("an outcome");
        if let Some(Message::Outcome(outcome)) = message.message {
            return outcome.kind();
        }
    }
}

struct Watch {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

/// A watch whose place in the log is taken, with its lines.
async fn watch(agent: &Agent, args: &[&str]) -> Watch {
    let mut child = agent
        .command(&[&["watch"], args].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stderr = lines(child.stderr.take().expect("its stderr"));
    let said = next(&mut stderr).await.expect("it says where it begins");
    assert!(said.starts_with("wakeful: watching what comes after "), "{said}");
    let stdout = lines(child.stdout.take().expect("its stdout"));
    Watch { child, stdout, stderr }
}

#[tokio::test]
async fn send_says_what_became_of_each_event() {
    let agent = Agent::start().await;
    let mut wait = agent.wait(&[("network-vif-plugged", "p:1")]).await;

    let sent = agent.run(&["send", INSTANCE, "network-vif-plugged:p:1", "network-changed"]).await;

    assert_eq!(
        sent.stdout,
        "EVENT                    DISPOSITION  POSITION\n\
         network-vif-plugged:p:1  WOKE 1       1\n\
         network-changed          RETAINED     2         it answered no open wait\n"
    );
    assert_eq!((sent.code, sent.stderr.as_str()), (0, ""));
    assert_eq!(outcome(&mut wait).await, outcome::Kind::Completed);
}

#[tokio::test]
async fn send_over_tcp_is_served_and_other_commands_name_the_socket() {
    let agent = Agent::start().await;
    let sent = agent.run(&["send", INSTANCE, "x", "--agent", &agent.tcp, "--output", "json"]).await;
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    assert!(sent.stdout.contains(r#""disposition":"RETAINED""#), "{}", sent.stdout);

    for command in ["status", "events", "waits", "watch"] {
        let ran = agent.run(&[command, "--agent", &agent.tcp]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{command}");
        assert!(ran.stderr.contains("over TCP an agent takes only `send`"), "{command}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn send_exits_1_if_an_event_was_rejected() {
    let agent = Agent::start().await;
    let send = |key: &'static str| {
        let agent = &agent;
        async move { agent.run(&["send", INSTANCE, key, "--event-id", ID, "--status", "failed"]).await }
    };
    assert_eq!(send("a").await.code, 0);
    let again = send("a").await;
    assert_eq!(again.code, 0);
    assert!(again.stdout.contains("DUPLICATE    1"), "{}", again.stdout);
    let other = send("b").await;
    assert_eq!(other.code, 1);
    assert!(other.stdout.contains("REJECTED     -         EVENT_ID_REUSED: "), "{}", other.stdout);
}

#[tokio::test]
async fn what_is_empty_is_a_sentence_for_people_and_a_whole_document_for_programs() {
    let agent = Agent::start().await;
    assert_eq!(agent.run(&["events"]).await.stdout, "the log has no events\n");
    assert_eq!(agent.run(&["events", "--name", "x"]).await.stdout, "no events in the log fit\n");
    assert_eq!(agent.run(&["waits"]).await.stdout, "no waits are open\n");
    assert!(agent.run(&["explain", INSTANCE]).await.stdout.starts_with("nothing is known of instance "));

    let events = agent.json(&["events"]).await;
    assert_eq!((&events["events"], &events["next_page_token"]), (&Value::Array(vec![]), &"".into()));
    assert_eq!(agent.json(&["waits"]).await["waits"], Value::Array(vec![]));
    assert_eq!(agent.json(&["explain", INSTANCE]).await["entries"], Value::Array(vec![]));
    let status = agent.json(&["status"]).await;
    assert_eq!((&status["open_waits"], &status["log"]["head"]), (&"0".into(), &"0".into()));
}

#[tokio::test]
async fn an_event_is_listed_with_all_that_was_sent() {
    let agent = Agent::start().await;
    let options = ["--event-id", ID, "--status", "in-progress", "--data", "hi", "--held-for", "1500ms"];
    let when = ["--occurred-at", "2026-01-01T12:00:00+02:00"];
    assert_eq!(agent.run(&[&["send", INSTANCE, "a:b:c"], &options[..], &when[..]].concat()).await.code, 0);

    let event = &agent.json(&["events"]).await["events"][0];
    assert_eq!(event["event_id"], ID);
    assert_eq!(event["instance_uuid"], INSTANCE);
    assert_eq!((&event["name"], &event["tag"]), (&"a".into(), &"b:c".into()));
    assert_eq!(event["status"], "IN_PROGRESS");
    assert_eq!(event["data"], "aGk=");
    assert_eq!(event["held_for"], "1.500s");
    assert_eq!(event["occurred_at"], "2026-01-01T10:00:00Z");
    assert_eq!(event["position"], "1");
}

#[tokio::test]
async fn a_list_of_many_pages_is_one_list() {
    let agent = Agent::start().await;
    for _ in 0..3 {
        agent.dispatch(1_000).await;
    }
    let positions = |document: &Value| -> Vec<String> {
        let events = document["events"].as_array().expect("a list");
        events.iter().map(|event| event["position"].as_str().expect("a position").to_owned()).collect()
    };
    let count = |from: u64, to: u64| (from..=to).map(|position| position.to_string()).collect::<Vec<_>>();

    let all = agent.json(&["events", "--all"]).await;
    assert_eq!(positions(&all), count(1, 3_000));
    assert_eq!(all["next_page_token"], "");
    assert_eq!(positions(&agent.json(&["events"]).await), count(1, 100));
    assert_eq!(positions(&agent.json(&["events", "--limit", "1001"]).await), count(1, 1_001));

    let log = all["log_id"].as_str().expect("a log");
    let rest = agent.json(&["events", "--all", "--after", &format!("{log}:2998")]).await;
    assert_eq!(positions(&rest), count(2_999, 3_000));

    let some = agent.run(&["events", "--limit", "2"]).await;
    assert_eq!(some.stdout.lines().count(), 3);
    assert_eq!(
        some.stderr,
        format!("wakeful: there are more: go on with --after {log}:2, or ask for --all\n")
    );
    let explained = agent.run(&["explain", INSTANCE]).await;
    assert_eq!(explained.stdout.lines().count(), 3_001);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command_quietly() {
    let agent = Agent::start().await;
    agent.dispatch(1_000).await;
    for format in ["table", "json"] {
        let mut child = agent
            .command(&["events", "--all", "--output", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        drop(child.stdout.take());
        let Output { status, stderr, .. } = soon(child.wait_with_output()).await.expect("its end");
        assert_eq!(status.code(), Some(141));
        assert_eq!(String::from_utf8_lossy(&stderr), "");
    }
}

#[tokio::test]
async fn an_open_wait_is_listed_explained_and_cancelled() {
    let agent = Agent::start().await;
    let mut wait = agent.wait(&[("network-vif-plugged", "p1"), ("network-vif-plugged", "p2")]).await;
    agent.run(&["send", INSTANCE, "network-vif-plugged:p1", "network-vif-plugged:p3"]).await;

    let listed = agent.run(&["waits"]).await.stdout;
    let line = listed.lines().nth(1).expect("a line");
    assert!(line.starts_with(&format!("{WAIT}  {INSTANCE}  ")), "{listed}");
    assert!(line.ends_with("  1 of 2  network-vif-plugged:p2"), "{listed}");
    assert_eq!(agent.json(&["waits", "--instance", INSTANCE]).await["waits"][0]["wait_id"], WAIT);
    assert_eq!(agent.json(&["waits", "--instance", WAIT]).await["waits"], Value::Array(vec![]));

    let cancelled = agent.run(&["cancel", WAIT, "--why", "the host is drained"]).await;
    assert_eq!((cancelled.code, cancelled.stdout), (0, format!("cancelled wait {WAIT}\n")));
    assert_eq!(outcome(&mut wait).await, outcome::Kind::Cancelled);
    let again = agent.run(&["cancel", WAIT]).await;
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("(WAIT_NOT_FOUND)\n`wakeful waits` lists"), "{}", again.stderr);

    let explained = agent.run(&["explain", INSTANCE]).await.stdout;
    let what = told(&explained);
    assert!(what[0].starts_with(&format!("wait {WAIT} opened by uid ")), "{explained}");
    assert_eq!(what[1], "event 1  network-vif-plugged:p1 completed: answered wait 77777777");
    assert_eq!(
        what[2],
        "event 2  network-vif-plugged:p3 completed: another tag than wait 77777777 asks for, \
         network-vif-plugged:p2"
    );
    assert!(what[3].starts_with(&format!("wait {WAIT} ended CANCELLED after ")), "{explained}");
    assert!(
        what[3].ends_with(
            "(CANCELLED) because: the host is drained; network-vif-plugged:p1 completed (position 1), \
             network-vif-plugged:p2 did not come"
        ),
        "{explained}"
    );
}

#[tokio::test]
async fn explain_names_what_a_wait_narrowly_missed() {
    let agent = Agent::start().await;
    agent.run(&["send", INSTANCE, "network-vif-plugged:p1"]).await;
    let timeout = Some(prost_types::Duration { seconds: 3, nanos: 0 });
    let request = WaitRequest { timeout, ..wait_for(&[("network-vif-plugged", "p1")]) };
    let mut wait = agent.open(request).await;
    agent.run(&["send", INSTANCE, "network-vif-plugged:p1", "--held-for", "1h"]).await;
    agent.run(&["send", INSTANCE, "network-vif-plugged:p1", "--status", "in-progress"]).await;
    agent.run(&["send", INSTANCE, "network-vif-unplugged:p1"]).await;
    assert_eq!(outcome(&mut wait).await, outcome::Kind::TimedOut);
    agent.run(&["send", INSTANCE, "network-vif-plugged:p1"]).await;

    let explained = agent.run(&["explain", INSTANCE]).await.stdout;
    let what = told(&explained);
    assert_eq!(what[0], "event 1  network-vif-plugged:p1 completed: no open wait asked for it");
    assert!(what[1].contains("; network-vif-plugged:p1 had come "), "{explained}");
    assert!(what[1].ends_with(" before (position 1), too early to count"), "{explained}");
    assert_eq!(
        what[2],
        "event 2  network-vif-plugged:p1 completed, held for 1h: stale for wait 77777777: sent 1h before, \
         when the wait was not yet open"
    );
    assert_eq!(what[3], "event 3  network-vif-plugged:p1 in-progress: wait 77777777 goes on");
    assert_eq!(
        what[4],
        "event 4  network-vif-unplugged:p1 completed: another name than wait 77777777 asks for, \
         network-vif-plugged:p1"
    );
    assert_eq!(what[5], format!("wait {WAIT} ended TIMED_OUT after 3s; network-vif-plugged:p1 did not come"));
    assert!(what[6].ends_with(" after wait 77777777 had ended TIMED_OUT"), "{explained}");
}

#[tokio::test]
async fn cancelling_an_instance_ends_its_waits_and_names_them() {
    let agent = Agent::start().await;
    let mut wait = agent.wait(&[("a", "b")]).await;
    let cancelled = agent.run(&["cancel", "--instance", INSTANCE]).await;
    assert_eq!(
        cancelled.stdout,
        format!(
            "cancelled 1 wait of instance {INSTANCE}, at position 1\n\
             WAIT                                  STILL WAITED FOR\n\
             {WAIT}  a:b\n"
        )
    );
    assert_eq!(outcome(&mut wait).await, outcome::Kind::Cancelled);
    let document = agent.json(&["cancel", "--instance", INSTANCE]).await;
    assert_eq!((&document["cursor"]["position"], &document["waits"]), (&"2".into(), &Value::Array(vec![])));
}

#[tokio::test]
async fn watch_prints_a_line_for_each_event_that_fits_until_ctrl_c() {
    let agent = Agent::start().await;
    agent.run(&["send", INSTANCE, "before"]).await;
    let mut watch = watch(&agent, &["--name", "a"]).await;
    agent.run(&["send", INSTANCE, "a:1", "b", "a:2"]).await;

    let first = next(&mut watch.stdout).await.expect("a line");
    assert!(first.ends_with(&format!("Z  completed    {INSTANCE}       2  a:1")), "{first}");
    let second = next(&mut watch.stdout).await.expect("a line");
    assert!(second.ends_with("       4  a:2"), "{second}");

    interrupt(&watch.child).await;
    assert_eq!(soon(watch.child.wait()).await.expect("its end").code(), Some(130));
    let said = next(&mut watch.stderr).await.expect("a line");
    assert!(said.starts_with("wakeful: watched up to ") && said.ends_with(":4"), "{said}");
    assert_eq!(next(&mut watch.stdout).await, None);
}

#[tokio::test]
async fn watch_from_a_cursor_has_what_came_after_it_as_json_lines() {
    let agent = Agent::start().await;
    agent.run(&["send", INSTANCE, "a", "b"]).await;
    let log = agent.json(&["status"]).await["log"]["log_id"].as_str().expect("a log").to_owned();
    let after = format!("{log}:1");
    let mut watch = watch(&agent, &["--output", "json", "--after", &after]).await;
    agent.run(&["send", INSTANCE, "c"]).await;
    for (name, position) in [("b", "2"), ("c", "3")] {
        let line: Value =
            serde_json::from_str(&next(&mut watch.stdout).await.expect("a line")).expect("JSON");
        assert_eq!(line["event"]["name"], name);
        assert_eq!(line["cursor"]["position"], position);
        assert_eq!(line["cursor"]["log_id"], log.as_str());
    }
}

#[tokio::test]
async fn watch_waits_for_an_agent_that_is_away_and_says_when_its_log_is_another() {
    let agent = Agent::start().await;
    let mut watch = watch(&agent, &[]).await;
    let dir = agent.stop().await;
    let said = next(&mut watch.stderr).await.expect("a line");
    assert!(said.contains(" is away; watching goes on after "), "{said}");

    let agent = Agent::start_in(dir).await;
    let sent = run(&mut agent.command(&["send", INSTANCE, "volume-extended"])).await;
    assert_eq!(sent.code, 0, "{}", sent.stderr);
    let seen = next(&mut watch.stdout).await.expect("a line");
    assert!(seen.contains("volume-extended"), "{seen}");
    let dir = agent.stop().await;
    assert!(next(&mut watch.stderr).await.expect("a line").contains(" is away; "));

    std::fs::remove_dir_all(dir.path().join("log")).expect("the log taken away");
    let _agent = Agent::start_in(dir).await;
    let said = next(&mut watch.stderr).await.expect("a line");
    assert!(said.contains("(CURSOR_OF_ANOTHER_LOG)"), "{said}");
    assert_eq!(soon(watch.child.wait()).await.expect("its end").code(), Some(1));
    assert_eq!(next(&mut watch.stdout).await, None);
}

#[tokio::test]
async fn without_an_agent_a_command_says_how_to_get_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let nowhere: PathBuf = dir.path().join("agent.sock");
    for args in [&["status"][..], &["send", INSTANCE, "a"], &["watch"], &["explain", INSTANCE]] {
        let ran = run(wakeful().args(args).env("WAKEFUL_AGENT", format!("unix:{}", nowhere.display()))).await;
        assert_eq!(ran.code, 1);
        assert_eq!(
            ran.stderr,
            format!(
                "wakeful: no agent is running at unix:{}: start it with `wakeful agent`, or name another \
                 with --agent\n",
                nowhere.display()
            )
        );
    }
}

#[tokio::test]
async fn a_wrong_command_line_exits_2_and_says_what_is_wrong() {
    for (args, wrong) in [
        (&["send", "x", "a"][..], "\"x\" is not a UUID"),
        (&["send", INSTANCE], "<NAME[:TAG]>..."),
        (&["send", INSTANCE, ":tag"], "the name is required"),
        (&["send", INSTANCE, "a", "--held-for", "30"], "1500ms, 30s, 5m, 1h"),
        (&["send", INSTANCE, "a", "b", "--event-id", ID], "send them one by one"),
        (&["events", "--after", "7"], "LOG_ID:POSITION"),
        (&["events", "--limit", "0"], "0 is not in 1.."),
        (&["events", "--limit", "5", "--all"], "cannot be used with"),
        (&["cancel"], "WAIT_ID"),
        (&["cancel", WAIT, "--instance", INSTANCE], "cannot be used with"),
        (&["status", "--agent", "nowhere"], "HOST:PORT, or unix:PATH"),
    ] {
        let ran = run(wakeful().args(args)).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(wrong), "{args:?}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(wakeful().args(["completions", shell])).await;
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("explain"), "{shell}");
    }
}
