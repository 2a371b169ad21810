//! The gateway's options, in a table like the agent's.
//!
//! `--max-outbox 2GiB`, `WAKEFUL_GATEWAY_MAX_OUTBOX=2GiB`, `max_outbox = "2GiB"`.

use std::net::SocketAddr;

use super::options::options;
use super::{
    Bytes, CaFile, ConfigError, Durability, FilePath, LogFormat, LogLevel, Name, Names, OptionalUrl, Span,
    Switch,
};
use crate::gateway::front::Unknown;
use crate::gateway::outbox;
use crate::gateway::post::Ages;
use crate::gateway::rest;
use crate::gateway::rest::auth::{Roles, keystone};
use crate::gateway::upstream;
use crate::net::http2;

/// How callers are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthKind {
    /// They are not.
    None,
    /// By the tokens of a file.
    Tokens,
    /// By the tokens of Keystone.
    Keystone,
}

super::choices!(AuthKind { None = "none", Tokens = "tokens", Keystone = "keystone" });

options! {
    "WAKEFUL_GATEWAY_";
    listen: SocketAddr = "127.0.0.1:8774"; "Where to take requests in over HTTP. Port 0: a free one"
    directory_listen: SocketAddr = "127.0.0.1:7423"; "Where agents announce themselves, and operators look, over gRPC; loopback only. Port 0: a free one"
    insecure_listen: Switch = "false"; "Listen also where others than this machine can reach it, without telling callers apart"
    data_dir: FilePath = "wakeful/gateway in the state folder"; "The folder of the outbox and the directory"
    durability: Durability = "sync"; "What is on disk before a request is answered 200. sync: its events; a crash, also of the machine, loses none. os: they are written, and a crash of the machine may lose the newest. none: nothing, a crash or a stop loses them all"
    repair: Switch = "false"; "Start also from an outbox that is damaged, without what cannot be read. For one start"
    auth: AuthKind = "none"; "How callers are told apart: none (everyone may send), tokens (by those of tokens_file), or keystone (by Keystone's)"
    tokens_file: FilePath = "/etc/wakeful/tokens.toml"; "The file of tokens, as auth = tokens has it; it is read again when it changes"
    roles: Names = "service,admin"; "With auth = tokens or keystone: the roles, with commas between them, of which a caller needs one"
    keystone_url: OptionalUrl = "off"; "Where Keystone is, as auth = keystone has it: http://HOST:5000 say, with or without /v3. Callers without a valid token are told it"
    keystone_ca_file: CaFile = "system"; "The file of PEM with the authorities of Keystone's certificate. system: those that the system trusts"
    keystone_user: Name = "wakeful"; "The user that the gateway is to Keystone, which has to be one that may validate tokens"
    keystone_user_domain: Name = "Default"; "The name of that user's domain"
    keystone_password_file: FilePath = "/etc/wakeful/keystone-password"; "The file of that user's password, which others must not be able to read; it is read whenever the gateway needs a new token"
    keystone_project: Name = "service"; "The project that the gateway acts for"
    keystone_project_domain: Name = "Default"; "The name of that project's domain"
    keystone_timeout: Span = "10s", "100ms" to "5m"; "How long a token may wait to be validated, and how long Keystone may take then"
    keystone_cache_time: Span = "1m", "0s" to "1h"; "How long a valid token is taken for valid without being validated again: so long a revoked one may yet send, and so long Keystone may be away"
    keystone_max_cached: usize = "10000", "1" to "1000000"; "How many tokens are remembered: so many valid ones, and so many others"
    keystone_max_validations: usize = "16", "1" to "1000"; "How many tokens Keystone is asked about at once; 64 times as many may wait for that"
    upstream: OptionalUrl = "off"; "An existing Nova, http://HOST:8774 say, whatever comes before /v2.1 there: events of instances that have no host here go on to it, those of migrating ones as well. off: there is none"
    upstream_ca_file: CaFile = "system"; "The file of PEM with the authorities of the upstream's certificate. system: those that the system trusts"
    upstream_timeout: Span = "30s", "100ms" to "10m"; "How long the upstream may take to answer"
    unknown: Unknown = "404"; "Without an upstream, what events of an instance that nobody has ever spoken of are answered: 404, 422, or park (200, and they are kept for a host that has it)"
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
                text: "with auth = none everyone could send: listen on loopback, or set auth, or insecure_listen"
                    .into(),
            });
        }
        if self.auth != AuthKind::None && self.roles.0.is_empty() {
            return Err(ConfigError::NotPossible {
                option: "roles",
                value: String::new(),
                text: "without a role nobody could send".into(),
            });
        }
        if let Some(url) = &self.upstream.0
            && url.path().split('/').any(|part| part == "v2" || part == "v2.1")
        {
            return Err(ConfigError::NotPossible {
                option: "upstream",
                value: url.to_string(),
                text: "it ends before /v2.1, for a request's own path comes after it".into(),
            });
        }
        if let (Some(url), AuthKind::Tokens) = (&self.upstream.0, self.auth) {
            return Err(ConfigError::NotPossible {
                option: "upstream",
                value: url.to_string(),
                text: "with auth = tokens the upstream would be shown the tokens of tokens_file, and knows none of \
                       them: set auth = keystone"
                    .into(),
            });
        }
        if self.auth == AuthKind::Keystone {
            self.keystone()?;
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

    /// Who may send.
    pub fn roles(&self) -> Roles {
        Roles(self.roles.0.clone())
    }

    /// How Keystone is asked.
    ///
    /// # Errors
    ///
    /// If it is not said where it is.
    pub fn keystone(&self) -> Result<keystone::Settings, ConfigError> {
        let url = self.keystone_url.0.clone().ok_or_else(|| ConfigError::NotPossible {
            option: "keystone_url",
            value: "off".into(),
            text: "auth = keystone needs to know where Keystone is".into(),
        })?;
        Ok(keystone::Settings {
            url,
            ca_file: self.keystone_ca_file.0.clone(),
            credentials: keystone::Credentials {
                user: self.keystone_user.0.clone(),
                user_domain: self.keystone_user_domain.0.clone(),
                password_file: self.keystone_password_file.0.clone(),
                project: self.keystone_project.0.clone(),
                project_domain: self.keystone_project_domain.0.clone(),
            },
            roles: self.roles(),
            cache_time: self.keystone_cache_time.0,
            max_cached: self.keystone_max_cached,
            max_validations: self.keystone_max_validations,
            timeout: self.keystone_timeout.0,
        })
    }

    /// How events are passed on, if they are.
    pub fn upstream(&self) -> Option<upstream::Settings> {
        Some(upstream::Settings {
            url: self.upstream.0.clone()?,
            ca_file: self.upstream_ca_file.0.clone(),
            timeout: self.upstream_timeout.0,
            // A slow one must leave room for requests whose instances are all here.
            max_requests: self.max_requests.div_ceil(2),
            max_body: usize::try_from(self.max_body.0).unwrap_or(usize::MAX),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let options: Options = toml::from_str(text).unwrap();
        options.resolve().err().unwrap().to_string()
    }

    #[test]
    fn keystone_has_to_be_somewhere_and_somebody_has_to_be_let_in() {
        assert!(refused("auth = 'keystone'").contains("keystone_url is off"));
        assert!(refused("auth = 'tokens'\nroles = ''").contains("roles is"));
        let options: Options =
            toml::from_str("auth = 'keystone'\nkeystone_url = 'http://k:5000/v3/'").unwrap();
        let keystone = options.resolve().ok().unwrap().keystone().unwrap();
        assert_eq!((keystone.url.as_str(), keystone.roles.0.len()), ("http://k:5000/v3", 2));
        assert!(keystone.ca_file.is_none());
    }

    #[test]
    fn an_upstream_ends_before_the_version_and_knows_no_tokens_of_a_file() {
        assert!(
            refused("upstream = 'http://nova/compute/v2.1'").contains("upstream is http://nova/compute/v2.1")
        );
        let tokens = refused("upstream = 'http://nova'\nauth = 'tokens'");
        assert!(tokens.contains("set auth = keystone"), "{tokens}");
        let options: Options = toml::from_str("upstream = 'http://nova/compute/'\nmax_requests = 3").unwrap();
        let upstream = options.resolve().ok().unwrap().upstream().unwrap();
        assert_eq!((upstream.url.as_str(), upstream.max_requests), ("http://nova/compute", 2));
        assert!(Options::default().resolve().ok().unwrap().upstream().is_none());
    }

    #[test]
    fn what_is_said_of_a_bad_url_does_not_repeat_it() {
        let error = toml::from_str::<Options>("keystone_url = 'http://u:s3cret@k'").err().unwrap();
        assert!(error.message().contains("no place in it") && !error.message().contains("s3cret"), "{error}");
    }
}
