//! The agent's options: each with its default, its unit and its bounds, in one table.
//!
//! A flag is stronger than the environment, and that is stronger than the file. All three set the same
//! options: `--max-waits 5000`, `WAKEFUL_MAX_WAITS=5000`, `max_waits = 5000`.

pub mod gateway;
mod options;
mod services;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::engine;
use crate::journal::consumers::Consumers;
use crate::journal::retention::Retention;

use self::options::options;
pub use self::services::{CaFile, OptionalUrl};
pub use self::values::{
    Addresses, Bytes, Durability, FilePath, LogFormat, LogLevel, Name, Names, OptionalAddress, Span, Switch,
};
pub(crate) use self::values::{choices, none_of};

/// A setting that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Outside its bounds.
    #[error("{option} is {value}; it must be from {low} to {high}")]
    OutOfBounds {
        /// The option.
        option: &'static str,
        /// What was set.
        value: String,
        /// The least that it may be.
        low: &'static str,
        /// The most that it may be.
        high: &'static str,
    },
    /// Not possible on this machine, or together with another setting.
    #[error("{option} is {value}; {text}")]
    NotPossible {
        /// The option.
        option: &'static str,
        /// What was set.
        value: String,
        /// Why not, and what is.
        text: String,
    },
    /// The file could not be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The file is not valid; the text has the line and the key.
    #[error("{path}: {error}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: toml::de::Error,
    },
}

options! {
    "WAKEFUL_";
    listen: SocketAddr = "127.0.0.1:7420"; "Where to take events in over gRPC; loopback only. Port 0: a free one"
    socket: FilePath = "agent.sock in the runtime folder"; "The Unix socket for the drivers and operators of this host"
    host: Name = "the machine's name"; "The name of this host"
    data_dir: FilePath = "wakeful in the state folder"; "The folder of the log"
    durability: Durability = "sync"; "What is on disk before an event is acknowledged. sync: the event; a crash, also of the machine, loses nothing. os: it is written, and a crash of the machine may lose the newest; if so the log gets a new id. none: nothing, the log is in memory and a crash or a stop loses it all"
    repair: Switch = "false"; "Start also from a log that is damaged, without what cannot be read; the log gets a new id. For one start"
    gateway: Addresses = ""; "Where gateways take announcements, HOST:PORT, with commas between them: what this host has is told to each"
    rest: OptionalAddress = "off"; "Where to take REST requests in as well, for this host alone: a gateway in the same process, whose folder is gateway in data_dir. off: nowhere. Port 0: a free one"
    extra_event_names: Names = ""; "With rest: names, with commas between them, that events may have besides those of the API"
    cancel_on_stop: Switch = "false"; "When told to stop, end open waits CANCELLED instead of having their clients ask again of the next process"
    log_level: LogLevel = "info"; "What to log: error, warn, info, debug or trace, or a filter such as wakeful=debug"
    log_format: LogFormat = "text"; "How log lines look: text or json"
    worker_threads: usize = "0", "0" to "1024"; "Threads that serve; 0: one a core"

    default_timeout: Span = "5m", "1ms" to "24h"; "How long a wait waits that does not say"
    max_timeout: Span = "24h", "1s" to "365d"; "The longest timeout of a wait"
    max_unarmed: Span = "1h", "1ms" to "365d"; "How long a wait that starts on Arm may go unarmed"
    bind_timeout: Span = "5s", "0s" to "10m"; "How long an opened wait, or a binding, waits until every gateway that can be reached knows of it"
    drain_timeout: Span = "5s", "0s" to "10m"; "How long, when told to stop, events are still taken in for the waits that are open"

    max_events: usize = "1000", "1" to "100000"; "Events in one request"
    max_message: Bytes = "8MiB", "64KiB" to "1GiB"; "Bytes in one message"
    max_keys: usize = "256", "1" to "10000"; "Keys of one wait"
    max_tag: usize = "255", "0" to "8192"; "Characters in a tag"
    max_data: Bytes = "4KiB", "0" to "1MiB"; "Bytes in an event's data"
    max_waits: usize = "100000", "0" to "10000000"; "Waits open at once"
    max_instance_waits: usize = "1024", "0" to "10000000"; "Waits of one instance open at once"
    max_ended_waits: usize = "100000", "0" to "10000000"; "Ended waits remembered, for explain and for clients that ask again"
    max_ended_bytes: Bytes = "64MiB", "0" to "64GiB"; "Bytes of ended waits remembered; it wins over max_ended_waits"
    max_bindings: usize = "100000", "0" to "10000000"; "Instances that a driver may say are on this host"
    max_consumers: usize = "256", "0" to "10000"; "Consumers that the agent keeps the cursors of"
    consumer_away: Span = "7days", "1s" to "365d"; "How long a consumer may be away before what it has not acknowledged is no longer kept for it"
    max_readers: usize = "256", "0" to "100000"; "Watches, lists and explains running at once"
    max_connections: usize = "4096", "1" to "1000000"; "Connections open at once, on the socket and on TCP each"
    max_streams: usize = "20000", "1" to "1000000"; "Calls open at once on one connection"
    max_handed_over: Bytes = "64MiB", "1MiB" to "64GiB"; "Bytes of events that are handed over and not yet in the log"

    log_age: Span = "1h", "1s" to "365d"; "How long events are kept"
    log_size: Bytes = "256MiB", "1MiB" to "1TiB"; "How many bytes of events are kept; it wins over log_age"
    log_held_size: Bytes = "1GiB", "1MiB" to "1TiB"; "How many bytes are kept at most for consumers, and for open waits that may yet ask from an older place"
    dedupe_window: Span = "2h", "1s" to "365d"; "How long an event_id is remembered"
    max_ids: usize = "4000000", "1024" to "1000000000"; "How many event ids are remembered; it wins over dedupe_window"

    keepalive_interval: Span = "20s", "100ms" to "1h"; "How often an idle peer is asked whether it is there"
    keepalive_timeout: Span = "10s", "100ms" to "1h"; "How long it may take to answer that"
    first_byte_timeout: Span = "10s", "100ms" to "1h"; "How long a new connection may stay silent"
}

impl Config {
    fn check(self) -> Result<Self, ConfigError> {
        if !self.listen.ip().is_loopback() {
            return Err(ConfigError::NotPossible {
                option: "listen",
                value: self.listen.to_string(),
                text: "without TLS the agent listens on loopback alone, 127.0.0.1:7420 say".into(),
            });
        }
        if self.default_timeout > self.max_timeout {
            return Err(ConfigError::NotPossible {
                option: "default_timeout",
                value: self.default_timeout.to_string(),
                text: format!("max_timeout is {}, and it must not be longer", self.max_timeout),
            });
        }
        Ok(self)
    }

    /// The engine's bounds.
    pub fn engine_limits(&self) -> engine::Limits {
        engine::Limits {
            waits: self.max_waits,
            instance_waits: self.max_instance_waits,
            ended_waits: self.max_ended_waits,
            ended_bytes: self.max_ended_bytes.0,
            ended_age: self.log_age.0,
            max_unarmed: self.max_unarmed.0,
        }
    }

    /// Consumers, none yet.
    pub fn consumers(&self) -> Consumers {
        Consumers::new(self.max_consumers, self.consumer_away.0)
    }

    /// How much of the log is kept.
    pub fn retention(&self) -> Retention {
        Retention {
            while_needed: false,
            age: self.log_age.0,
            bytes: self.log_size.0,
            held_bytes: self.log_held_size.0.max(self.log_size.0),
            id_window: self.dedupe_window.0,
            max_ids: self.max_ids,
        }
    }
}

#[cfg(test)]
mod tests;
