//! What a refusal looks like on the wire: one place that maps errors to statuses with their details.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::engine::{OpenError, WaitError};
use crate::event::{Cursor, Invalid};
use crate::journal::consumers::ConsumerError;
use crate::journal::store::WriteError;
use crate::proto::reason::Code as Reason;

/// Who the reasons are defined by, in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "wakeful";
/// When a caller may try again what a limit has refused.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request that cannot be taken: a status with a reason and, where one is at fault, the field's path.
#[derive(Clone, Debug)]
pub struct Refusal {
    code: Code,
    reason: Reason,
    message: String,
    field: Option<String>,
    metadata: HashMap<String, String>,
}

impl Refusal {
    /// A refusal with this code and reason.
    pub fn new(code: Code, reason: Reason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), field: None, metadata: HashMap::new() }
    }

    /// INVALID_ARGUMENT because of one field, named by its path in the request.
    pub fn field(path: impl Into<String>, reason: Reason, text: &str) -> Self {
        let path = path.into();
        let message = format!("{path} {text}");
        Self { field: Some(path), ..Self::new(Code::InvalidArgument, reason, message) }
    }

    /// INVALID_ARGUMENT because of what a field holds.
    pub fn invalid(path: impl Into<String>, invalid: &Invalid) -> Self {
        let refusal = Self::field(path, reason_of(invalid), &invalid.to_string());
        match invalid {
            Invalid::OverLimit { limit, .. } => refusal.with("limit", *limit),
            _ => refusal,
        }
    }

    /// RESOURCE_EXHAUSTED because a limit is used up for now.
    pub fn exhausted(limit: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, Reason::Exhausted, message).with("limit", limit)
    }

    /// Adds an entry to the error's metadata.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(name.to_owned(), value.into());
        self
    }
}

/// The reason that stands for what is wrong with a value.
pub fn reason_of(invalid: &Invalid) -> Reason {
    match invalid {
        Invalid::Missing => Reason::MissingField,
        Invalid::Malformed(_) => Reason::InvalidField,
        Invalid::OverLimit { .. } => Reason::OverLimit,
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(refusal.reason.as_str_name(), DOMAIN, refusal.metadata);
        if let Some(field) = refusal.field {
            details.add_bad_request_violation(field, refusal.message.clone());
        }
        if refusal.code == Code::ResourceExhausted {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Status::with_error_details(refusal.code, refusal.message, details)
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        match error {
            OpenError::Overtaken(_) => Self::new(Code::Aborted, Reason::TakenOver, message),
            OpenError::IdTaken(_) => Self::new(Code::AlreadyExists, Reason::WaitIdTaken, message),
            OpenError::AnotherLog { oldest, head, .. } => {
                Self::new(Code::FailedPrecondition, Reason::CursorOfAnotherLog, message)
                    .with("oldest_cursor", oldest.to_string())
                    .with("head_cursor", head.to_string())
            }
            OpenError::Expired { oldest, .. } => Self::new(Code::OutOfRange, Reason::CursorExpired, message)
                .with("oldest_cursor", oldest.to_string()),
            OpenError::TooMany { limit, .. } => Self::exhausted(limit, message),
        }
    }
}

impl From<WaitError> for Refusal {
    fn from(error: WaitError) -> Self {
        let message = error.to_string();
        match error {
            WaitError::NotFound(_) => Self::new(Code::NotFound, Reason::WaitNotFound, message),
            WaitError::NotPermitted(_) => Self::new(Code::PermissionDenied, Reason::NotPermitted, message),
        }
    }
}

/// What is refused to a consumer of the log whose oldest cursor this is.
pub fn consumer(error: ConsumerError, oldest: Cursor) -> Refusal {
    let message = error.to_string();
    match error {
        ConsumerError::Unknown(_) => Refusal::new(Code::NotFound, Reason::ConsumerNotFound, message),
        ConsumerError::TooMany(_) => Refusal::exhausted("max_consumers", message),
        ConsumerError::Expired { .. } => Refusal::new(Code::OutOfRange, Reason::CursorExpired, message)
            .with("oldest_cursor", oldest.to_string()),
        ConsumerError::NotWritten(error) => Refusal::from(&error),
        ConsumerError::PastHead { .. } => {
            Refusal::new(Code::FailedPrecondition, Reason::CursorOfAnotherLog, message)
        }
    }
}

impl From<&WriteError> for Refusal {
    fn from(error: &WriteError) -> Self {
        let reason = match error {
            WriteError::Full { .. } => Reason::DiskFull,
            WriteError::NotNow { .. } | WriteError::Failed { .. } => Reason::LogFailed,
        };
        Self::new(Code::Unavailable, reason, error.to_string())
    }
}

/// A message that is not a valid encoding of its type.
pub fn undecodable(error: &impl fmt::Display) -> Status {
    Refusal::new(Code::InvalidArgument, Reason::Undecodable, format!("the message is undecodable: {error}"))
        .into()
}

/// The stable reason in a status's details, if it has one of ours.
pub fn reason(status: &Status) -> Option<Reason> {
    let info = status.get_details_error_info()?;
    if info.domain == DOMAIN { Reason::from_str_name(&info.reason) } else { None }
}

/// Puts a reason into a refusal that comes from below us, where it has none and one is known.
///
/// A message over the limit is told by tonic as OUT_OF_RANGE with this text alone.
pub fn with_reason(status: Status) -> Status {
    let too_large =
        status.code() == Code::OutOfRange && status.message().contains("message length too large");
    if too_large && status.details().is_empty() {
        let message = format!("the message is over the limit max_message: {}", status.message());
        return Refusal::new(Code::InvalidArgument, Reason::OverLimit, message)
            .with("limit", "max_message")
            .into();
    }
    if status.code() == Code::Unimplemented && status.details().is_empty() {
        let message =
            "no such method is served here; Waits, EventLog and Inspector are on the agent's Unix socket";
        return Refusal::new(Code::Unimplemented, Reason::NotServedHere, message).into();
    }
    status
}
