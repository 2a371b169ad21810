//! A real Keystone on a loopback port, with users of one role each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::clients;
use super::folder;
use super::script::Script;

/// A Keystone, killed when this is dropped. Its users are `service`, `admin` and `reader`, with the role of that name
/// in one project, and `gateway`, the gateway's own.
pub(crate) struct Keystone {
    script: Script,
    python: PathBuf,
    expiration: u32,
}

/// A token as it was given out, and when it ends, by Keystone's word.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) expires: String,
}

impl Keystone {
    pub(crate) async fn start(python: &Path) -> Self {
        Self::start_with_expiration(python, 3_600).await
    }

    /// The same, with tokens that are good for so many seconds.
    pub(crate) async fn start_with_expiration(python: &Path, expiration: u32) -> Self {
        Self::start_at(python, folder(), 0, expiration).await
    }

    /// Starts it once more after it was killed: on the same address, with all that it knew.
    pub(crate) async fn again(&self) -> Self {
        let port = self.url().trim_end_matches("/v3").rsplit(':').next().and_then(|port| port.parse().ok());
        let folder = Arc::clone(&self.script.folder);
        Self::start_at(&self.python, folder, port.expect("a port"), self.expiration).await
    }

    async fn start_at(python: &Path, folder: Arc<TempDir>, port: u16, expiration: u32) -> Self {
        let template = clients::folder().join("keystone-fresh");
        let argument = json!({ "template": template, "port": port, "expiration": expiration });
        let script = Script::start(python, "keystone_service.py", folder, &argument).await;
        Self { script, python: python.to_owned(), expiration }
    }

    /// Where it is, with the version: `http://127.0.0.1:PORT/v3`.
    pub(crate) fn url(&self) -> &str {
        self.script.ready["url"].as_str().expect("an address")
    }

    /// The project that its users have their roles in.
    pub(crate) fn project_id(&self) -> &str {
        self.script.ready["project"]["id"].as_str().expect("an id")
    }

    pub(crate) fn project_name(&self) -> &str {
        self.script.ready["project"]["name"].as_str().expect("a name")
    }

    pub(crate) fn password(&self, user: &str) -> &str {
        self.script.ready["users"][user]["password"].as_str().expect("a user's password")
    }

    /// What a caller is told to come as this user; the catalog then tells it where to send.
    pub(crate) fn access(&self, user: &str) -> Value {
        let (password, project) = (self.password(user), self.project_name());
        json!({ "url": self.url(), "user": user, "password": password, "project": project })
    }

    /// The options of a gateway that asks this Keystone about its callers.
    pub(crate) fn gateway_options(&self) -> Vec<String> {
        let file = self.script.folder.path().join("gateway-password");
        fs::write(&file, self.password("gateway")).expect("a file for the password");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
            .expect("a file that others cannot read");
        let file = file.to_str().expect("a path");
        [
            ("--auth", "keystone"),
            ("--keystone-url", self.url()),
            ("--keystone-user", "gateway"),
            ("--keystone-password-file", file),
            ("--keystone-project", self.project_name()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value.to_owned()])
        .collect()
    }

    /// Puts the compute service's address into the catalog, or another in its place.
    pub(crate) async fn catalog(&mut self, compute: &str) {
        self.script.ask(json!({ "do": "compute", "url": compute })).await;
    }

    /// A new token by the user's password.
    pub(crate) async fn token(&mut self, user: &str) -> Token {
        let told = self.script.ask(json!({ "do": "token", "user": user })).await;
        let text = |name: &str| told[name].as_str().expect("a text").to_owned();
        Token { token: text("token"), expires: text("expires") }
    }

    pub(crate) async fn revoke(&mut self, token: &str) {
        self.script.ask(json!({ "do": "revoke", "token": token })).await;
    }

    /// Whether Keystone itself takes the token as good.
    pub(crate) async fn is_good(&mut self, token: &str) -> bool {
        self.script.ask(json!({ "do": "good", "token": token })).await == json!(true)
    }

    pub(crate) async fn kill(&mut self) {
        self.script.signal(rustix::process::Signal::KILL);
        self.script.ended().await;
    }
}
