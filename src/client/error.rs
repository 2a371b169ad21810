//! What can go wrong between a client and its agent.

use std::error::Error as _;

use thiserror::Error;
use tonic::{Code, Status};

use super::address::Address;
use crate::event::WaitId;
use crate::proto::reason::Code as Reason;
use crate::status;

/// Why a call, or a wait, came to no answer.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// The address cannot be made a channel.
    #[error("{address} cannot be called: {why}")]
    BadAddress {
        /// As given.
        address: Address,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing answered, or the connection was cut before the answer. The call may be made again.
    #[error("the agent at {address} is not reachable: {}", innermost(status))]
    Unreachable {
        /// Where it was looked for.
        address: Address,
        /// As tonic tells it; its sources have what the system said.
        status: Box<Status>,
    },
    /// The agent answered, and refused.
    #[error("the agent refused: {}", status.message())]
    Refused {
        /// The stable reason. `None` if whoever refused gives none.
        reason: Option<Reason>,
        /// The whole answer; its details name the field or the limit.
        status: Box<Status>,
    },
    /// Someone has opened a wait with the same id: that one goes on, this one has ended.
    #[error("wait {0} was taken over by a newer one with the same id")]
    TakenOver(WaitId),
    /// The agent's answer is not one that the protocol has.
    #[error("the agent's answer makes no sense: {0}")]
    Malformed(&'static str),
    /// The runtime in which the wait was opened has shut down.
    #[error("the runtime that the wait was opened in has shut down")]
    Stopped,
}

impl Error {
    pub(super) fn of(address: &Address, status: Status) -> Self {
        let reason = status::reason(&status);
        if reason.is_none() && is_lost(&status) {
            return Self::Unreachable { address: address.clone(), status: Box::new(status) };
        }
        Self::Refused { reason, status: Box::new(status) }
    }

    /// The stable reason that the agent gave, if it is the agent that refused.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { reason, .. } => *reason,
            Self::TakenOver(_) => Some(Reason::TakenOver),
            _ => None,
        }
    }
}

/// Whether a status tells of the connection or of the agent's state just now, so that the same question may
/// be answered a little later. A cut connection reads as UNKNOWN, "h2 protocol error".
pub(super) fn is_lost(status: &Status) -> bool {
    match status::reason(status) {
        Some(Reason::Stopping | Reason::Exhausted | Reason::CallTimedOut) => true,
        Some(_) => false,
        None => matches!(
            status.code(),
            Code::Unavailable
                | Code::Unknown
                | Code::Internal
                | Code::Aborted
                | Code::Cancelled
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
        ),
    }
}

/// What the socket said: tonic wraps it several times over ("transport error").
pub(crate) fn innermost(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}
