//! Who calls: nobody in particular, or who has a token of a file or of Keystone.

mod given;
pub mod keystone;
mod password;
mod remembered;
mod session;
pub mod tokens;

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use thiserror::Error;

pub use self::keystone::{Keystone, KeystoneError};
pub use self::tokens::{Tokens, TokensError};
use crate::clock::Time;

/// The header of a token.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// How callers are told apart.
#[derive(Clone, Debug)]
pub enum Auth {
    /// They are not: everyone may send.
    None,
    /// By the tokens of a file.
    Tokens(Arc<Tokens>),
    /// By the tokens that Keystone has given out.
    Keystone(Keystone),
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What the token's owner is called; for log lines.
    pub name: String,
    /// Whether it may send events.
    pub may_send: bool,
    /// The project that it acts for; `None` if for any, empty if for none.
    pub project_id: Option<String>,
}

/// It cannot be said just now who calls.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the token cannot be validated just now: {0}")]
pub struct Unsure(pub &'static str);

/// The roles of which a caller needs one to send events.
#[derive(Clone, Debug)]
pub struct Roles(pub Vec<String>);

impl Roles {
    /// Whether one of these is among them. As in Keystone, case does not count.
    pub fn has_one_of<'a>(&self, mut roles: impl Iterator<Item = &'a str>) -> bool {
        roles.any(|role| self.0.iter().any(|known| known.eq_ignore_ascii_case(role)))
    }
}

impl Auth {
    /// Who calls with these headers; `None` if that is nobody known.
    ///
    /// # Errors
    ///
    /// If whoever knows cannot be asked. Then nobody is to be let in.
    pub async fn caller(&self, headers: &HeaderMap, now: Time) -> Result<Option<Caller>, Unsure> {
        let token = || headers.get(TOKEN).filter(|token| !token.is_empty());
        match self {
            Self::None => Ok(Some(Caller { name: "anyone".to_owned(), may_send: true, project_id: None })),
            Self::Tokens(tokens) => Ok(token().and_then(|token| tokens.caller(token.as_bytes(), now))),
            Self::Keystone(keystone) => match token() {
                None => Ok(None),
                // Apart, so that who asks nobody has no room for it in its own state.
                Some(token) => Box::pin(keystone.caller(token, now)).await,
            },
        }
    }

    /// Whether callers are told apart at all.
    pub fn is_needed(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Where tokens are to be had; `None` where nobody has said.
    pub fn uri(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Tokens(tokens) => tokens.uri(),
            Self::Keystone(keystone) => Some(keystone.uri()),
        }
    }
}
