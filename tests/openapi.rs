//! The OpenAPI document and the gateway, held against each other by a client that others wrote: schemathesis.
//!
//! It makes requests that the document allows and requests that it does not, and says where an answer is not as
//! documented: codes, envelopes, headers, media types, methods, tokens.

#![cfg(test)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use common::clients::{or_skip, venv};
use common::folder;
use common::gateway::{Gateway, get};

const PACKAGES: &str = include_str!("clients/schemathesis/requirements.txt");
const ANY_VERSION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/schemathesis/any-version.toml");
const LATEST: [&str; 2] = ["--header", "OpenStack-API-Version: compute latest"];
const OPERATIONS: usize = 11;
/// Requests that are made up for an operation, besides those that cover each rule of its schemas.
const EXAMPLES: &str = "25";
/// Within this one run ends, on a machine that is busy with other things too.
const BOUND: Duration = Duration::from_secs(120);

fn client() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| venv("schemathesis", PACKAGES));
    or_skip("schemathesis", found.as_ref().map(PathBuf::as_path))
}

/// A gateway, and its document in a file.
struct Documented {
    gateway: Gateway,
    folder: Arc<TempDir>,
    document: Value,
}

impl Documented {
    async fn start(args: &[&str]) -> Self {
        let gateway = Gateway::start(&[args, &["--log-level", "debug"]].concat()).await;
        let (status, document) = get(gateway.rest, "/openapi.json").await;
        assert_eq!(status, 200);
        assert_eq!(document["paths"].as_object().map(|paths| paths.len()), Some(OPERATIONS));
        Self { gateway, folder: folder(), document }
    }

    fn file(&self) -> PathBuf {
        let file = self.folder.path().join("openapi.json");
        std::fs::write(&file, self.document.to_string()).expect("the document written");
        file
    }

    /// Runs a command to its end. Gives whether it was content, and what it printed.
    async fn run(&self, program: PathBuf, args: &[&str]) -> (bool, String) {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(BOUND, command.output()).await.expect("its end in time").expect("its output");
        let printed = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
    }

    async fn schemathesis(&self, bin: &Path, first: &[&str], more: &[&str]) -> (bool, String) {
        let (file, url) = (self.file().display().to_string(), format!("http://{}", self.gateway.rest));
        let run = ["run", &file, "--url", &url, "--seed", "1", "--generation-database", "none", "--no-color"];
        self.run(bin.join("schemathesis"), &[first, &run, more].concat()).await
    }

    /// Checks that a run found nothing, and did look.
    #[track_caller]
    fn check(&self, (content, printed): (bool, String), answers: &[&str]) {
        assert!(content && printed.contains("No issues found"), "{printed}");
        assert!(printed.contains(&format!("Tested: {OPERATIONS}")), "{printed}");
        let log = self.gateway.log();
        for answer in answers {
            assert!(log.lines().any(|line| answer.split(' ').all(|part| line.contains(part))), "no {answer}");
        }
    }
}

#[tokio::test]
async fn the_document_is_one_of_openapi() {
    let Some(bin) = client() else { return };
    let documented = Documented::start(&[]).await;
    assert_eq!(documented.document["openapi"], "3.1.0");
    let file = documented.file().display().to_string();
    let (valid, printed) = documented.run(bin.join("openapi-spec-validator"), &[&file]).await;
    assert!(valid && printed.contains("OK"), "{printed}");
}

#[tokio::test]
async fn nothing_is_answered_otherwise_than_documented() {
    let Some(bin) = client() else { return };
    let documented = Documented::start(&["--unknown", "park"]).await;
    let run = documented.schemathesis(bin, &[], &[&LATEST[..], &["--max-examples", EXAMPLES]].concat()).await;
    documented.check(run, &["method=POST status=200", "method=POST status=400", "method=DELETE status=405"]);
}

#[tokio::test]
async fn nothing_is_answered_otherwise_than_documented_where_callers_have_tokens_and_ask_for_any_version() {
    let Some(bin) = client() else { return };
    let folder = folder();
    let tokens = folder.path().join("tokens.toml");
    let hash: String = Sha256::digest("secret").iter().map(|byte| format!("{byte:02x}")).collect();
    let entry = format!("[[token]]\nname = \"neutron\"\nroles = [\"service\"]\nsha256 = \"{hash}\"\n");
    std::fs::write(&tokens, entry).expect("the tokens written");
    let tokens = tokens.display().to_string();
    let documented = Documented::start(&["--auth", "tokens", "--tokens-file", &tokens]).await;
    let more = ["--header", "X-Auth-Token: secret", "--max-examples", EXAMPLES];
    let run = documented.schemathesis(bin, &["--config-file", ANY_VERSION], &more).await;
    documented.check(run, &["method=POST status=207", "method=POST status=401", "method=GET status=400"]);
}

#[tokio::test]
async fn a_document_that_is_not_right_is_found_out() {
    let Some(bin) = client() else { return };
    let mut documented = Documented::start(&[]).await;
    let coverage = [&LATEST[..], &["--phases", "coverage"]].concat();
    let operation = &mut documented.document["paths"]["/v2.1/os-server-external-events"]["post"];
    operation["responses"].as_object_mut().expect("responses").remove("207").expect("a 207");
    let (content, printed) = documented.schemathesis(bin, &[], &coverage).await;
    assert!(!content && printed.contains("Received: 207"), "{printed}");
}
