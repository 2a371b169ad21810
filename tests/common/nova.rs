//! Nova's own API on a loopback port, with the rows of its database told by the test.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::folder;
use super::keystone::Keystone;
use super::script::Script;

/// A Nova, killed when this is dropped.
pub(crate) struct Nova {
    script: Script,
}

/// What has come to a Nova, and what it has sent on, since it was last asked.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Each with `method`, `path`, `status`, and `headers` by their names in lower case.
    pub(crate) requests: Vec<Value>,
    /// What a host would have got: `host`, `request_id`, and `events` with `instance`, `name`, `tag`, `status`.
    pub(crate) delivered: Vec<Value>,
    /// The instance actions that were begun: `instance`, `action`, `request_id`.
    pub(crate) actions: Vec<Value>,
}

impl Nova {
    /// Starts one that lets everyone in.
    pub(crate) async fn start(python: &Path) -> Self {
        Self::start_with(python, json!({ "port": 0 })).await
    }

    /// Starts one whose token middleware asks this Keystone.
    pub(crate) async fn start_with_keystone(python: &Path, keystone: &Keystone) -> Self {
        Self::start_with(python, json!({ "port": 0, "keystone": keystone.access("gateway") })).await
    }

    async fn start_with(python: &Path, argument: Value) -> Self {
        Self { script: Script::start(python, "nova_api.py", folder(), &argument).await }
    }

    /// Where it is, with the version: `http://127.0.0.1:PORT/v2.1`.
    pub(crate) fn url(&self) -> &str {
        self.script.ready["url"].as_str().expect("an address")
    }

    /// Where it is, without the version.
    pub(crate) fn root(&self) -> &str {
        self.url().trim_end_matches("/v2.1")
    }

    /// Tells it of an instance on this host, or on none.
    pub(crate) async fn instance(&mut self, instance: &str, host: Option<&str>) {
        self.script.ask(json!({ "do": "instance", "uuid": instance, "host": host })).await;
    }

    /// Tells it of an instance that moves from a host, where it still is, to another.
    pub(crate) async fn migrating(&mut self, instance: &str, from: &str, to: &str) {
        let migration = [from, to];
        let task = json!({ "do": "instance", "uuid": instance, "host": from, "migration": migration });
        self.script.ask(task).await;
    }

    pub(crate) async fn seen(&mut self) -> Seen {
        let mut seen = self.script.ask(json!({ "do": "seen" })).await;
        let mut list = |name: &str| seen[name].as_array_mut().map(std::mem::take).expect("a list");
        Seen { requests: list("requests"), delivered: list("delivered"), actions: list("actions") }
    }

    pub(crate) async fn kill(&mut self) {
        self.script.signal(Signal::KILL);
        self.script.ended().await;
    }
}
