//! What Keystone answers.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::{Caller, Roles};
use crate::clock::Time;

/// Where tokens are given out and validated; without the list of all services.
pub(super) const TOKENS: &str = "/v3/auth/tokens?nocatalog";

/// Keystone has not said whether a token is valid.
pub(super) struct Refusal {
    pub(super) why: String,
    /// Somebody has to mend what the gateway is set to.
    pub(super) is_final: bool,
}

impl Refusal {
    pub(super) fn unusable(why: String) -> Self {
        Self { why, is_final: false }
    }

    pub(super) fn credentials(why: impl fmt::Display) -> Self {
        Self { why: format!("the gateway's own credentials: {why}"), is_final: true }
    }
}

/// What Keystone says of a token.
pub(super) struct Given {
    token: GivenToken,
    issued_at: Time,
    expires_at: Time,
}

#[derive(Deserialize)]
struct Body {
    token: GivenToken,
}

#[derive(Deserialize)]
struct GivenToken {
    issued_at: String,
    expires_at: String,
    #[serde(default)]
    roles: Vec<Role>,
    project: Option<Project>,
    user: User,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[derive(Deserialize)]
struct Project {
    id: String,
}

#[derive(Deserialize)]
struct User {
    name: String,
}

impl Given {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        // An error of its own would show what stands there.
        let unreadable = |what: &str| Refusal::unusable(format!("its answer has no {what} that can be read"));
        let Body { token } = serde_json::from_slice(body).map_err(|_| unreadable("token"))?;
        let issued_at = token.issued_at.parse().map_err(|_| unreadable("issued_at"))?;
        let expires_at = token.expires_at.parse().map_err(|_| unreadable("expires_at"))?;
        Ok(Self { token, issued_at, expires_at })
    }

    /// From the moment that it was given, by Keystone's own clock.
    pub(super) fn life(&self) -> Duration {
        self.expires_at.since(self.issued_at)
    }

    /// Whose it is, and until when.
    pub(super) fn caller(self, roles: &Roles) -> (Caller, Time) {
        let may_send = roles.has_one_of(self.token.roles.iter().map(|role| role.name.as_str()));
        // A token that is for no project is for none that a path may name.
        let project_id = Some(self.token.project.map(|project| project.id).unwrap_or_default());
        (Caller { name: self.token.user.name, may_send, project_id }, self.expires_at)
    }
}
