//! The log of a stopped agent: looked into, damaged, refused, repaired.

#![cfg(test)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::calls::{dispatch, event, uuid};
use common::{Agent, run};

const BOUND: Duration = Duration::from_secs(20);

/// Runs `wakeful journal` on an agent's folder. Gives its exit code, and what it said on both.
async fn journal(what: &str, agent: &Agent, more: &[&str]) -> (Option<i32>, String, String) {
    let log = agent.folder.path().join("log");
    let ran = run(&[&["journal", what, log.to_str().expect("a path")], more].concat()).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

/// An agent with some events in its log, stopped.
async fn stopped() -> Agent {
    let mut agent = Agent::start(&[]).await;
    let tcp = agent.tcp();
    for n in 0..10 {
        dispatch(&tcp, vec![event(&uuid(), "test-event", &n.to_string())]).await;
    }
    agent.terminate();
    assert!(agent.process.ended(BOUND).await.success());
    agent
}

/// The segment with the most in it.
fn segment(log: &Path) -> PathBuf {
    let files = fs::read_dir(log).expect("a folder").map(|entry| entry.expect("an entry").path());
    let used = |path: &PathBuf| fs::read(path).expect("a file").iter().filter(|byte| **byte != 0).count();
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "segment"))
        .max_by_key(used)
        .expect("one")
}

#[tokio::test]
async fn a_whole_log_is_said_to_be_and_every_record_is_dumped() {
    let agent = stopped().await;
    let (code, said, _) = journal("check", &agent, &[]).await;
    assert_eq!(code, Some(0));
    assert!(
        said.contains(&agent.log_id) && said.contains("stopped     cleanly") && said.ends_with("whole\n"),
        "{said}"
    );
    let (code, said, _) = journal("dump", &agent, &[]).await;
    assert_eq!(code, Some(0));
    let records: Vec<_> = said.lines().filter(|line| line.contains("test-event:")).collect();
    assert_eq!(records.len(), 10);
    assert!(records[9].starts_with("10  ") && records[9].contains("test-event:9"), "{said}");
    let (_, said, _) = journal("dump", &agent, &["--output", "json"]).await;
    let first: serde_json::Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    assert!(first.is_object(), "{first}");
}

#[tokio::test]
async fn damage_is_named_with_file_and_byte_and_a_start_is_refused_until_it_repairs() {
    let agent = stopped().await;
    let file = segment(&agent.folder.path().join("log"));
    let mut bytes = fs::read(&file).expect("a file");
    bytes[400] ^= 1;
    fs::write(&file, &bytes).expect("written");
    let place = format!("{}: damaged at byte ", file.display());

    let (code, said, error) = journal("check", &agent, &[]).await;
    assert_eq!(code, Some(1), "{error}");
    let damage = said.lines().find(|line| line.starts_with(&place)).unwrap_or_else(|| panic!("{said}"));
    assert!(damage.contains("--repair") && said.ends_with("damaged\n"), "{said}");

    let log = agent.folder.path().join("log");
    let (socket, log) = (agent.socket.to_str().expect("a path"), log.to_str().expect("a path"));
    let start = ["agent", "--listen", "127.0.0.1:0", "--socket", socket, "--data-dir", log];
    let refused = run(&start).await;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains(damage), "{said}");

    let repaired = Agent::start_in(agent.folder.clone(), &["--repair"]).await;
    assert_ne!(repaired.log_id, agent.log_id);
    assert!(repaired.log().contains("lost") && repaired.log().contains("another log"), "{}", repaired.log());
    let head = repaired.status().await.log.expect("a log").head;
    assert!(head > 10, "positions go on above all that there can have been");
}

#[tokio::test]
async fn the_log_of_an_agent_that_runs_and_a_folder_that_is_not_there_are_refused() {
    let agent = Agent::start(&[]).await;
    let (code, _, said) = journal("check", &agent, &[]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("process {}", agent.process.id())), "{said}");
    let nowhere = run(&["journal", "check", "/nowhere/at/all"]).await;
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/nowhere/at/all is not a folder"));
}

#[tokio::test]
async fn a_log_of_a_newer_format_is_refused_with_its_file() {
    let agent = stopped().await;
    let file = agent.folder.path().join("log/log.json");
    let text = fs::read_to_string(&file).expect("a file");
    let line = text.lines().next().expect("a line").replace("\"format\":1", "\"format\":2");
    let checksum = xxhash_rust::xxh3::xxh3_64(line.as_bytes());
    fs::write(&file, format!("{line}\n{checksum:016x}\n")).expect("written");
    let (_, _, said) = journal("check", &agent, &[]).await;
    assert!(said.contains("log.json: written in format 2") && said.contains("up to 1"), "{said}");
}
