//! A cloud of two hosts with an agent each, and a gateway before them.

use std::path::Path;

use serde_json::{Value, json};
use wakeful::proto::role::Code as Role;

use crate::common::calls::{self, Wait, open, uuid};
use crate::common::clients::callers;
use crate::common::gateway::Gateway;
use crate::common::keystone::Keystone;
use crate::common::script::Script;
use crate::common::{Agent, folder};

pub(crate) struct Cloud {
    python: &'static Path,
    pub(crate) gateway: Gateway,
    /// The host of the instances that the tests speak of.
    pub(crate) right: Agent,
    pub(crate) other: Agent,
    /// Where callers are told to send, and who they are.
    access: Value,
}

impl Cloud {
    /// A cloud that asks nobody who they are; `None` if there are no callers to be had, and the test is skipped.
    pub(crate) async fn without_keystone() -> Option<Self> {
        Self::without_keystone_with(&[]).await
    }

    /// The same with more options of the gateway.
    pub(crate) async fn without_keystone_with(options: &[&str]) -> Option<Self> {
        let python = callers()?;
        let gateway = Gateway::start(options).await;
        let access = json!({ "endpoint": format!("http://{}/v2.1", gateway.rest) });
        Some(Self::around(python, gateway, access).await)
    }

    /// A cloud whose callers come as this user of Keystone, and find the gateway in its catalog.
    pub(crate) async fn with_catalog(keystone: &mut Keystone, user: &str, gateway: &[&str]) -> Option<Self> {
        let python = callers()?;
        let gateway = Gateway::start(gateway).await;
        keystone.catalog(&format!("http://{}/v2.1", gateway.rest)).await;
        let access = json!({ "keystone": keystone.access(user) });
        Some(Self::around(python, gateway, access).await)
    }

    async fn around(python: &'static Path, gateway: Gateway, access: Value) -> Self {
        let right = gateway.agent(&folder(), "right").await;
        let other = gateway.agent(&folder(), "other").await;
        Self { python, gateway, right, other, access }
    }

    /// An instance on the right host.
    pub(crate) async fn instance(&self) -> String {
        let instance = uuid();
        self.right.bind(&instance, Role::Host).await;
        instance
    }

    /// A wait on the right host for these keys, each a name and a tag.
    pub(crate) async fn wait(&self, instance: &str, keys: &[(&str, &str)]) -> Wait {
        open(&self.right.unix(), calls::wait_for(instance, keys)).await
    }

    /// A caller's program, told how to reach this cloud.
    pub(crate) async fn caller(&self, name: &str) -> Script {
        Script::start(self.python, name, folder(), &self.access).await
    }
}
