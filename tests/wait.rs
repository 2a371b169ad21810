//! `wakeful wait` as a script uses it: every exit code, what is printed, and what is left behind.

#![cfg(test)]

mod common;

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use common::calls::uuid;
use common::process::Process;
use common::{Agent, BOUND, soon, until, wakeful};
use rustix::process::Signal;
use serde_json::Value;
use wakeful::clock::{Clock, Time};
use wakeful::proto::ListWaitsRequest;
use wakeful::proto::inspector_client::InspectorClient;

const WAKEFUL: &str = env!("CARGO_BIN_EXE_wakeful");

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A script's view of one agent and one instance.
struct Script {
    agent: Agent,
    address: String,
    instance: String,
}

impl Script {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With an agent with these options.
    async fn with(options: &[&str]) -> Self {
        let agent = Agent::start(options).await;
        let address = format!("unix:{}", agent.socket.display());
        Self { agent, address, instance: uuid() }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["wait", "--agent", &self.address, &self.instance], args].concat()
    }

    /// Runs `wakeful wait` to its end.
    async fn wait(&self, args: &[&str]) -> Ended {
        let mut command = tokio::process::Command::from(wakeful(&self.args(args)));
        let output = soon("the wait's end", command.kill_on_drop(true).output()).await.expect("its output");
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Starts `wakeful wait`, and waits until it is registered.
    async fn start(&self, args: &[&str]) -> Process {
        let process = Process::start(wakeful(&self.args(args)));
        self.agent.until_status("a wait is open", |status| status.open_waits == 1).await;
        process
    }

    /// A command line that sends events of this instance.
    fn send<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&[WAKEFUL, "send", "--agent", &self.address, &self.instance], args].concat()
    }

    async fn sent(&self, args: &[&str]) {
        let args = self.send(args);
        let sent = common::run(&args[1..]).await;
        assert!(sent.status.success(), "{sent:?}");
    }

    /// Nothing is left of it with the agent.
    async fn nothing_is_left(&self) {
        self.agent.until_status("no wait is open", |status| status.open_waits == 0).await;
    }
}

#[tokio::test]
async fn an_event_that_the_command_itself_sends_completes_the_wait() {
    let script = Script::new().await;
    let send = script.send(&["a:1", "b"]);
    let ended = script.wait(&[&["a:1", "b", "--"], &send[..]].concat()).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let last = ended.out.lines().last().expect("a line");
    assert!(last.starts_with("completed: a:1, b came after "), "{}", ended.out);
    assert_eq!(script.agent.status().await.counts.expect("counts").woke, 2);
}

#[tokio::test]
async fn the_command_is_started_only_once_the_wait_is_registered() {
    let script = Script::new().await;
    let id = uuid();
    let list = ["a", "--id", &id, "--timeout", "10ms", "--", WAKEFUL, "waits", "--agent", &script.address];
    let ended = script.wait(&list).await;
    assert_eq!(ended.code, Some(124));
    assert!(ended.out.contains(&id), "{}", ended.out);
}

#[tokio::test]
async fn without_a_command_it_waits_at_once_and_names_on_time_out_what_came_and_what_did_not() {
    let script = Script::new().await;
    script.sent(&["a:1"]).await;
    let ended = script.wait(&["a:1", "b:2", "--lookback", "1h", "--timeout", "100ms"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(124), ""));
    assert!(ended.out.starts_with("timed out after 1"), "{}", ended.out);
    assert!(ended.out.ends_with("; did not come: b:2; came: a:1\n"), "{}", ended.out);
}

#[tokio::test]
async fn the_timeout_is_counted_from_the_commands_end_and_is_never_early() {
    let script = Script::new().await;
    let timeout = Duration::from_millis(400);
    let go = script.agent.folder.path().join("go");
    let until_go = "until [ -e \"$0\" ]; do sleep 0.01; done";
    let command = ["sh", "-c", until_go, go.to_str().expect("text")];
    let mut wait = script.start(&[&["a", "--timeout", "400ms", "--"], &command[..]].concat()).await;

    // Were it counted from the registration, it would run out meanwhile.
    tokio::time::sleep(timeout * 2).await;
    let request = ListWaitsRequest::default();
    let waits = InspectorClient::new(script.agent.unix()).list_waits(request).await.expect("the waits");
    assert!(waits.into_inner().waits.iter().all(|wait| wait.unarmed));

    let clock = Clock::start(Time::default());
    let released = clock.now();
    File::create(&go).expect("a file");
    assert_eq!(wait.ended(BOUND).await.code(), Some(124));
    let took = clock.now().since(released);
    assert!(took >= timeout, "{took:?}");
}

#[tokio::test]
async fn a_failed_event_exits_1() {
    let script = Script::new().await;
    let send = script.send(&["a", "--status", "failed"]);
    let ended = script.wait(&[&["a", "b", "--"], &send[..]].concat()).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains("\nfailed: a failed after "), "{}", ended.out);
    assert!(ended.out.ends_with("; did not come: b\n"), "{}", ended.out);
}

#[tokio::test]
async fn collect_waits_for_every_key_and_in_progress_may_be_a_failure() {
    let script = Script::new().await;
    script.sent(&["a", "--status", "failed"]).await;
    script.sent(&["c", "--status", "in-progress"]).await;
    let look = ["--lookback", "1h", "--timeout", "0s"];
    let ended = script.wait(&[&["a", "b", "--policy", "collect"], &look[..]].concat()).await;
    assert_eq!(ended.code, Some(124), "{}", ended.out);
    script.sent(&["b"]).await;
    let ended = script.wait(&[&["a", "b", "--policy", "collect"], &look[..]].concat()).await;
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    assert_eq!(script.wait(&[&["c"], &look[..]].concat()).await.code, Some(124));
    assert_eq!(script.wait(&[&["c", "--in-progress-fails"], &look[..]].concat()).await.code, Some(1));
}

#[tokio::test]
async fn a_cancelled_wait_exits_125_and_says_why() {
    let script = Script::new().await;
    let cancel = [WAKEFUL, "cancel", "--agent", &script.address, "--instance", &script.instance];
    let ended = script.wait(&[&["a", "--"], &cancel[..], &["--why", "evacuated"]].concat()).await;
    assert_eq!(ended.code, Some(125));
    assert!(ended.out.contains("(INSTANCE_CANCELLED): evacuated; did not come: a\n"), "{}", ended.out);
}

#[tokio::test]
async fn a_wait_that_is_taken_over_exits_125_and_says_so() {
    let script = Script::new().await;
    let id = uuid();
    let mut first = script.start(&["a", "--id", &id]).await;
    let second = script.wait(&["a", "--id", &id, "--timeout", "10ms"]).await;
    assert_eq!(second.code, Some(124));
    assert_eq!(first.ended(BOUND).await.code(), Some(125));
}

#[tokio::test]
async fn a_wait_that_cannot_be_opened_exits_126_and_does_not_start_the_command() {
    let script = Script::new().await;
    let ended = script.wait(&["a", "--timeout", "25h", "--", "echo", "started"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(126), ""));
    assert!(ended.err.starts_with("wakeful: the agent refuses: timeout is "), "{}", ended.err);

    let nowhere = format!("{}-nowhere", script.address);
    let args = ["wait", "--agent", &nowhere, &script.instance, "a", "--", "echo", "started"];
    let output = common::run(&args).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(126), 0));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.starts_with("wakeful: no agent is running at unix:"), "{err}");
    assert!(err.contains("start it with `wakeful agent`"), "{err}");
}

#[tokio::test]
async fn a_command_that_fails_exits_123_and_the_wait_is_cancelled() {
    let script = Script::new().await;
    let ended = script.wait(&["a", "--", "sh", "-c", "exit 7"]).await;
    assert_eq!(ended.code, Some(123));
    assert_eq!(ended.err, "wakeful: sh exited with 7; the wait is cancelled\n");
    assert!(ended.out.contains("(CANCELLED): sh exited with 7; did not come: a\n"), "{}", ended.out);
    let ended = script.wait(&["a", "--", "sh", "-c", "kill -9 $$"]).await;
    assert_eq!(ended.code, Some(123));
    assert_eq!(ended.err, "wakeful: sh was ended by signal 9; the wait is cancelled\n");
    assert_eq!(script.agent.status().await.counts.expect("counts").waits_cancelled, 2);
}

#[tokio::test]
async fn a_command_that_cannot_be_started_exits_127() {
    let script = Script::new().await;
    let ended = script.wait(&["a", "--", "/there/is/none"]).await;
    assert_eq!(ended.code, Some(127));
    let text = "wakeful: /there/is/none could not be started: No such file or directory";
    assert!(ended.err.starts_with(text), "{}", ended.err);
    script.nothing_is_left().await;
}

#[tokio::test]
async fn arguments_that_make_no_sense_exit_2() {
    let script = Script::new().await;
    let id = format!("{}:0", uuid());
    let cases: [&[&str]; 5] = [
        &[],
        &[":tag"],
        &["a", "--timeout", "30"],
        &["a", "--after", &id, "--lookback", "1s"],
        &["a", "--id", "x"],
    ];
    for args in cases {
        let ended = script.wait(args).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{args:?}");
    }
}

#[tokio::test]
async fn json_is_the_outcome_with_the_protos_field_names() {
    let script = Script::new().await;
    script.sent(&["a:1"]).await;
    let ended = script.wait(&["a:1", "b", "--lookback", "1h", "--timeout", "0s", "--output", "json"]).await;
    assert_eq!(ended.code, Some(124));
    let outcome: Value = serde_json::from_str(&ended.out).expect("one document");
    assert_eq!(outcome["kind"], "TIMED_OUT");
    assert_eq!(outcome["cursor"]["log_id"], script.agent.log_id.as_str());
    assert_eq!(outcome["keys"][0]["state"], "COMPLETED");
    assert_eq!(outcome["keys"][0]["position"], "1");
    assert_eq!(outcome["keys"][1]["state"], "OPEN");
}

#[tokio::test]
async fn after_an_outcome_the_command_runs_on_and_the_exit_is_the_outcomes() {
    let script = Script::new().await;
    let go = script.agent.folder.path().join("go");
    let until_go = "\"$@\" || exit; until [ -e \"$0\" ]; do sleep 0.01; done; echo done; exit 9";
    let command = ["sh", "-c", until_go, go.to_str().expect("text")];
    let send = script.send(&["a"]);
    let command = [&["a", "--"], &command[..], &send[..]].concat();
    let mut started = wakeful(&script.args(&command));
    started.stderr(Stdio::null());
    let mut wait = Process::start(started);
    let completed = |status: &wakeful::proto::GetStatusResponse| {
        status.counts.is_some_and(|counts| counts.waits_completed == 1)
    };
    script.agent.until_status("the wait has completed", completed).await;

    File::create(&go).expect("a file");
    let mut lines = Vec::new();
    while let Some(line) = wait.line_or_end().await {
        lines.push(line);
    }
    assert_eq!(wait.ended(BOUND).await.code(), Some(0));
    assert_eq!(lines[lines.len() - 2], "done", "{lines:?}");
    assert!(lines[lines.len() - 1].starts_with("completed: a came after "), "{lines:?}");
}

#[tokio::test]
async fn ctrl_c_ends_the_command_with_sigterm_then_the_wait_and_exits_130() {
    let script = Script::new().await;
    let command = "trap 'echo told; exit 0' TERM; echo started; while :; do sleep 0.01; done";
    let mut wait = script.start(&["a", "--", "sh", "-c", command]).await;
    assert_eq!(wait.line().await, "started");
    wait.signal(Signal::INT);
    assert_eq!(wait.line().await, "told");
    assert_eq!(wait.ended(BOUND).await.code(), Some(130));
    script.nothing_is_left().await;
}

#[tokio::test]
async fn sigterm_without_a_command_exits_143() {
    let script = Script::new().await;
    let mut wait = script.start(&["a"]).await;
    wait.signal(Signal::TERM);
    assert_eq!(wait.ended(BOUND).await.code(), Some(143));
    assert_eq!(wait.line_or_end().await, None);
    script.nothing_is_left().await;
}

#[tokio::test]
async fn a_second_signal_kills_a_command_that_does_not_heed_the_first() {
    let script = Script::new().await;
    let mut wait = script.start(&["a", "--", "sh", "-c", "trap '' TERM; echo started; exec sleep 600"]).await;
    assert_eq!(wait.line().await, "started");
    wait.signal(Signal::INT);
    wait.signal(Signal::TERM);
    // Both may have come before either was looked at.
    let code = wait.ended(BOUND).await.code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
}

#[tokio::test]
async fn a_killed_wait_leaves_nothing_behind() {
    let script = Script::new().await;
    let mut wait = script.start(&["a"]).await;
    wait.signal(Signal::KILL);
    script.nothing_is_left().await;
    assert_eq!(script.agent.status().await.counts.expect("counts").waits_closed, 1);
}

#[tokio::test]
async fn an_agent_killed_and_started_anew_without_its_log_ends_the_wait_125_log_gone() {
    let mut script = Script::with(&["--durability", "none"]).await;
    let mut wait = script.start(&["a"]).await;
    script.agent.process.signal(Signal::KILL);
    script.agent.process.ended(BOUND).await;
    let folder = script.agent.folder.clone();
    script.agent = Agent::start_in(folder, &["--durability", "none"]).await;
    let line = wait.line().await;
    assert!(line.contains("not confirmed by the agent (LOG_GONE); did not come: a"), "{line}");
    assert_eq!(wait.ended(BOUND).await.code(), Some(125));
}

#[tokio::test]
async fn time_that_runs_out_while_the_agent_is_away_exits_124_unconfirmed() {
    let mut script = Script::new().await;
    let mut wait = script.start(&["a", "--timeout", "500ms"]).await;
    script.agent.process.signal(Signal::KILL);
    script.agent.process.ended(BOUND).await;
    let line = wait.line().await;
    assert!(line.starts_with("timed out after "), "{line}");
    assert!(line.ends_with(", not confirmed by the agent; did not come: a"), "{line}");
    assert_eq!(wait.ended(BOUND).await.code(), Some(124));
}

#[tokio::test]
async fn what_nobody_reads_does_not_change_the_exit_code() {
    let script = Script::new().await;
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let args = script.args(&["a", "--timeout", "10ms"]);
    let mut command = wakeful(&args);
    command.stdout(full).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let ended = until("its end", async || child.try_wait().expect("its state")).await;
    assert_eq!(ended.code(), Some(124));
}
