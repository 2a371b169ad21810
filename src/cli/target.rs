//! Which agent a command asks, and what to do when it cannot be asked.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::client::address::Address;
use crate::client::error::innermost;
use crate::paths;
use crate::proto::reason::Code as Reason;
use crate::status;

/// How long an answer may take before the command gives up. An agent answers in milliseconds, or says
/// itself that it is too busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// The agent that a command asks.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// The agent to ask: HOST:PORT, or unix:PATH. Over TCP an agent takes only what `send` sends
    #[arg(long, display_order = 900, value_name = "ADDR|unix:PATH", env = "WAKEFUL_AGENT", default_value_t = default())]
    agent: Address,
}

fn default() -> Address {
    Address::Unix(paths::socket())
}

impl Target {
    /// The agent at `address`.
    pub fn new(address: Address) -> Self {
        Self { agent: address }
    }

    /// Where the agent is.
    pub fn address(&self) -> &Address {
        &self.agent
    }

    /// A channel to the agent. It connects with the first call.
    ///
    /// # Errors
    ///
    /// If the address cannot be connected to by its form alone.
    pub fn channel(&self) -> anyhow::Result<Channel> {
        self.agent.channel().with_context(|| format!("{} cannot be an agent's address", self.agent))
    }

    /// The answer to a call, waited for 30 s at most.
    ///
    /// # Errors
    ///
    /// What went wrong, and what to do next.
    pub async fn ask<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> anyhow::Result<T> {
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(answer) => answer.map(Response::into_inner).map_err(|status| self.failure(&status)),
            Err(_) => Err(anyhow!(
                "no answer from {} within {} s: the agent may be overloaded or stuck; try again, and look at \
                 its log",
                self.agent,
                PATIENCE.as_secs()
            )),
        }
    }

    /// What a failed call means, and what to do next.
    pub fn failure(&self, status: &Status) -> anyhow::Error {
        anyhow!(match unreached(status) {
            Some(kind) => self.not_connected(kind, status),
            None => self.refused(status),
        })
    }

    fn not_connected(&self, kind: Option<ErrorKind>, status: &Status) -> String {
        let agent = &self.agent;
        match (kind, agent) {
            (Some(ErrorKind::PermissionDenied), Address::Unix(path)) => format!(
                "not permitted to use the socket {}: be root, the agent's own user, or in the socket's group",
                path.display()
            ),
            (Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused), _) => format!(
                "no agent is running at {agent}: start it with `wakeful agent`, or name another with --agent"
            ),
            _ => format!(
                "cannot reach an agent at {agent}: {}; is it an agent's address? Name another with --agent",
                innermost(status)
            ),
        }
    }

    fn refused(&self, status: &Status) -> String {
        let agent = &self.agent;
        match (status.code(), agent) {
            (Code::Unimplemented, Address::Tcp(_)) => {
                return format!(
                    "{agent} does not serve this: over TCP an agent takes only `send`; ask on its host, over \
                     its socket: --agent unix:PATH"
                );
            }
            (Code::Unimplemented, Address::Unix(_)) => {
                return format!(
                    "the agent at {agent} does not know this call: it is older than this command"
                );
            }
            _ => {}
        }
        refusal("agent", status)
    }
}

/// Who refuses, with what reason, and what to do about it.
fn refusal(who: &str, status: &Status) -> String {
    let reason = status::reason(status);
    let named = match reason {
        Some(reason) => reason.as_str_name().to_owned(),
        None => format!("{:?}", status.code()),
    };
    let message = if status.message().is_empty() { "no message" } else { status.message() };
    let mut text = format!("the {who} refuses: {message} ({named})");
    if let Some(advice) = reason.and_then(|reason| advice(reason, status)) {
        text.push('\n');
        text.push_str(&advice);
    }
    text
}

/// What to do about a refusal, where its message alone does not say.
fn advice(reason: Reason, status: &Status) -> Option<String> {
    let metadata = |name: &str| status.get_details_error_info()?.metadata.get(name).cloned();
    match reason {
        Reason::CursorExpired => Some(format!(
            "what lies before has been dropped; start from --after {}",
            metadata("oldest_cursor")?
        )),
        Reason::CursorOfAnotherLog => Some(format!(
            "its log was made anew since that cursor was given, or the cursor is past its head; its oldest \
             place is --after {}",
            metadata("oldest_cursor")?
        )),
        Reason::Stopping => Some("try again when the agent has been started anew".to_owned()),
        Reason::Exhausted => Some(match status.get_details_retry_info().and_then(|info| info.retry_delay) {
            Some(delay) => format!("try again in {} s", delay.as_secs().max(1)),
            None => "try again later".to_owned(),
        }),
        Reason::WaitNotFound => Some("`wakeful waits` lists the open ones".to_owned()),
        Reason::NotPermitted => Some("be root, the agent's own user, or the user who opened it".to_owned()),
        _ => None,
    }
}

/// Whether the call failed on the way rather than in the agent, and how, if the system told it.
fn unreached(status: &Status) -> Option<Option<ErrorKind>> {
    let mut next = status.source();
    next?;
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(Some(io.kind()));
        }
        next = error.source();
    }
    Some(None)
}

/// The gateway that a command asks.
#[derive(Clone, Debug, clap::Args)]
pub struct GatewayTarget {
    /// The gateway to ask, where agents announce themselves to it: HOST:PORT
    #[arg(
        long,
        display_order = 900,
        value_name = "ADDR",
        env = "WAKEFUL_DIRECTORY",
        default_value = "127.0.0.1:7423"
    )]
    gateway: Address,
}

impl GatewayTarget {
    /// A channel to the gateway. It connects with the first call.
    ///
    /// # Errors
    ///
    /// If the address cannot be connected to by its form alone.
    pub fn channel(&self) -> anyhow::Result<Channel> {
        self.gateway.channel().with_context(|| format!("{} cannot be a gateway's address", self.gateway))
    }

    /// The answer to a call, waited for 30 s at most.
    ///
    /// # Errors
    ///
    /// What went wrong, and what to do next.
    pub async fn ask<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> anyhow::Result<T> {
        let gateway = &self.gateway;
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if unreached(&status).is_some() => Err(anyhow!(
                "no gateway is running at {gateway} ({}): start it with `wakeful gateway`, or name another with \
                 --gateway",
                innermost(&status)
            )),
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                Err(anyhow!("{gateway} is no gateway's directory; name another with --gateway"))
            }
            Ok(Err(status)) => Err(anyhow!(refusal("gateway", &status))),
            Err(_) => Err(anyhow!("no answer from {gateway} within {} s", PATIENCE.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Refusal;

    fn target(address: &str) -> Target {
        Target::new(address.parse().unwrap())
    }

    fn broken(kind: ErrorKind) -> Status {
        Status::from_error(Box::new(std::io::Error::from(kind)))
    }

    #[test]
    fn an_agent_that_is_not_there_is_to_be_started_or_another_one_named() {
        for kind in [ErrorKind::NotFound, ErrorKind::ConnectionRefused] {
            let text = target("unix:/run/a.sock").not_connected(Some(kind), &broken(kind));
            assert_eq!(
                text,
                "no agent is running at unix:/run/a.sock: start it with `wakeful agent`, or name another \
                 with --agent"
            );
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_reason_and_what_to_do() {
        let refusal =
            Refusal::new(Code::OutOfRange, Reason::CursorExpired, "too old").with("oldest_cursor", "LOG:7");
        assert_eq!(
            target("unix:/a").failure(&refusal.into()).to_string(),
            "the agent refuses: too old (CURSOR_EXPIRED)\n\
             what lies before has been dropped; start from --after LOG:7"
        );
    }

    #[test]
    fn what_tcp_does_not_serve_is_to_be_asked_over_the_socket() {
        let text = target("[::1]:7420").failure(&Status::unimplemented("")).to_string();
        assert!(text.contains("over TCP an agent takes only `send`"), "{text}");
        assert!(text.contains("--agent unix:PATH"), "{text}");
    }

    #[test]
    fn a_status_from_elsewhere_is_told_by_its_code() {
        let text = target("unix:/a").failure(&Status::internal("odd")).to_string();
        assert_eq!(text, "the agent refuses: odd (Internal)");
    }
}
