//! The gateway's options, in a table like the agent's.
//!
//! `--max-outbox 2GiB`, `WAKEFUL_GATEWAY_MAX_OUTBOX=2GiB`, `max_outbox = "2GiB"`.

use std::net::SocketAddr;

use super::options::options;
use super::{Bytes, ConfigError, Durability, FilePath, LogFormat, LogLevel, Names, Span, Switch};
use crate::gateway::front::Unknown;
use crate::gateway::outbox;
use crate::gateway::post::Ages;
use crate::gateway::rest;
use crate::net::http2;

/// How callers are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthKind {
    /// They are not.
    None,
    /// By the tokens of a file.
    Tokens,
}

super::choices!(AuthKind { None = "none", Tokens = "tokens" });

options! {
    "WAKEFUL_GATEWAY_";
    listen: SocketAddr = "127.0.0.1:8774"; "Where to take requests in over HTTP. Port 0: a free one"
    directory_listen: SocketAddr = "127.0.0.1:7423"; "Where agents announce themselves, and operators look, over gRPC; loopback only. Port 0: a free one"
    insecure_listen: Switch = "false"; "Listen also where others than this machine can reach it, without telling callers apart"
    data_dir: FilePath = "wakeful/gateway in the state folder"; "The folder of the outbox and the directory"
    durability: Durability = "sync"; "What is on disk before a request is answered 200. sync: its events; a crash, also of the machine, loses none. os: they are written, and a crash of the machine may lose the newest. none: nothing, a crash or a stop loses them all"
    repair: Switch = "false"; "Start also from an outbox that is damaged, without what cannot be read. For one start"
    auth: AuthKind = "none"; "How callers are told apart: none (everyone may send), or tokens (by those of tokens_file)"
    tokens_file: FilePath = "/etc/wakeful/tokens.toml"; "The file of tokens, as auth = tokens has it; it is read again when it changes"
    unknown: Unknown = "404"; "What events of an instance that nobody has ever spoken of are answered: 404, 422, or park (200, and they are kept for a host that has it)"
    extra_event_names: Names = ""; "Names, with commas between them, that events may have besides those of the API"
    max_microversion: u16 = "104", "1" to "999"; "The highest microversion there is, after its 2."
    log_level: LogLevel = "info"; "What to log: error, warn, info, debug or trace, or a filter such as wakeful=debug"
    log_format: LogFormat = "text"; "How log lines look: text or json"
    worker_threads: usize = "0", "0" to "1024"; "Threads that serve; 0: one a core"

    max_outbox: Bytes = "1GiB", "64KiB" to "1TiB"; "Bytes of events that are kept and not yet delivered"
    max_age: Span = "1h", "1s" to "365d"; "How long an event is kept for a host that cannot be reached; less than the agents' dedupe_window"
    park_age: Span = "1m", "1s" to "365d"; "How long an event is kept for an instance that nobody knows, with unknown = park"
    unbound_age: Span = "7days", "1s" to "365d"; "How long it is remembered why an instance is on no host"
    max_unbound: usize = "1000000", "0" to "100000000"; "Of how many instances that is remembered"
    max_body: Bytes = "1MiB", "1KiB" to "64MiB"; "Bytes in the body of a request"
    max_requests: usize = "1024", "1" to "1000000"; "Requests in flight at once"
    slot_timeout: Span = "5s", "0s" to "10m"; "How long a request may wait for a slot, and for room in the outbox"
    header_timeout: Span = "1m", "100ms" to "1h"; "How long the head of a request may take to come, and how long a connection may be idle"
    body_timeout: Span = "30s", "100ms" to "1h"; "How long the body of a request may take to come"
    max_connections: usize = "4096", "1" to "1000000"; "Connections open at once, for requests and for agents each"
    max_streams: usize = "1000", "1" to "1000000"; "Calls open at once on one connection of an agent's or operator's"
    max_message: Bytes = "8MiB", "64KiB" to "1GiB"; "Bytes in one message of an agent's or operator's"
    keepalive_interval: Span = "20s", "100ms" to "1h"; "How often an idle agent is asked whether it is there"
    keepalive_timeout: Span = "10s", "100ms" to "1h"; "How long it may take to answer that"
    first_byte_timeout: Span = "10s", "100ms" to "1h"; "How long a new connection of an agent's may stay silent"
}

/// Bytes of an outbox's segment.
const SEGMENT: u64 = 8 << 20;
/// How long one is written before another is begun.
const SEGMENT_SPAN: std::time::Duration = std::time::Duration::from_secs(60);

impl Config {
    /// A gateway in the process of this agent, for its host alone.
    ///
    /// # Errors
    ///
    /// If that is not possible as the agent's options are.
    pub fn within(agent: &super::Config, listen: SocketAddr) -> Result<Self, ConfigError> {
        let options = Options {
            listen: Some(listen),
            directory_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            data_dir: Some(FilePath(agent.data_dir.0.join("gateway"))),
            durability: Some(agent.durability),
            extra_event_names: Some(agent.extra_event_names.clone()),
            ..Options::default()
        };
        options.resolve()
    }

    fn check(self) -> Result<Self, ConfigError> {
        if !self.directory_listen.ip().is_loopback() {
            return Err(ConfigError::NotPossible {
                option: "directory_listen",
                value: self.directory_listen.to_string(),
                text: "without TLS agents are served on loopback alone, 127.0.0.1:7423 say".into(),
            });
        }
        if !self.listen.ip().is_loopback() && self.auth == AuthKind::None && !self.insecure_listen.0 {
            return Err(ConfigError::NotPossible {
                option: "listen",
                value: self.listen.to_string(),
                text: "with auth = none everyone could send: listen on loopback, or set auth = tokens, or \
                       insecure_listen"
                    .into(),
            });
        }
        Ok(self)
    }

    /// What the REST front admits.
    pub fn rest(&self) -> rest::Settings {
        let size = |bytes: Bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX);
        rest::Settings {
            max_microversion: self.max_microversion,
            extra_event_names: self.extra_event_names.0.clone(),
            max_body: size(self.max_body),
            max_requests: self.max_requests,
            slot_timeout: self.slot_timeout.0,
            header_timeout: self.header_timeout.0,
            body_timeout: self.body_timeout.0,
            max_connections: self.max_connections,
        }
    }

    /// How long deliveries are tried.
    pub fn ages(&self) -> Ages {
        Ages { max: self.max_age.0, parked: self.park_age.0 }
    }

    /// How much the outbox may hold.
    pub fn outbox(&self) -> outbox::Limits {
        outbox::Limits { bytes: self.max_outbox.0, segment_bytes: SEGMENT, segment_span: SEGMENT_SPAN }
    }

    /// The bounds of connections to the directory.
    pub fn http2(&self) -> http2::Bounds {
        http2::Bounds {
            streams: u32::try_from(self.max_streams).unwrap_or(u32::MAX),
            keepalive_interval: self.keepalive_interval.0,
            keepalive_timeout: self.keepalive_timeout.0,
            first_byte_timeout: self.first_byte_timeout.0,
        }
    }
}
