//! How options are read: from flags, the environment and a file, by one table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::ConfigError;
use crate::paths;

/// From a table of options, the struct that is read from flags, environment and file, and the one that a daemon runs
/// by, whose own `check` says what else has to hold. `$env` is what a variable's name begins with.
macro_rules! options {
    ($env:literal; $($name:ident: $type:ty = $default:literal $(, $low:literal to $high:literal)?; $help:literal)*) => {
        /// The options as they were given: what is `None` was not.
        #[derive(Clone, Default, clap::Args, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Options {
            $(
                #[doc = $help]
                #[arg(
                    long,
                    value_name = $crate::config::options::value_name(stringify!($type)),
                    num_args = if stringify!($type) == "Switch" { 0..=1 } else { 1..=1 },
                    default_missing_value = "true",
                    env = $crate::config::options::env_name($env, stringify!($name)),
                    help = concat!($help, " [default: ", $default, $("; from ", $low, " to ", $high,)? "]"),
                )]
                #[serde(default, deserialize_with = "crate::config::options::from_text")]
                pub $name: Option<$type>,
            )*
        }

        /// The options as they are in force.
        #[derive(Clone)]
        pub struct Config {
            $(#[doc = $help] pub $name: $type,)*
        }

        impl Options {
            /// These options, and where they say nothing, the weaker ones.
            #[must_use]
            pub fn or(self, weaker: Self) -> Self {
                Self { $($name: self.$name.or(weaker.$name),)* }
            }

/// Reads the options that a TOML file sets.
            ///
            /// # Errors
            ///
            /// If it cannot be read, or has an unknown key or a malformed value; the error has the line.
            pub fn from_file(path: &std::path::Path) -> Result<Self, $crate::config::ConfigError> {
                let text =
                    std::fs::read_to_string(path).map_err(|error| $crate::config::ConfigError::Unreadable { path: path.into(), error })?;
                toml::from_str(&text).map_err(|error| $crate::config::ConfigError::Malformed { path: path.into(), error })
            }

            /// Fills in the defaults and checks the bounds.
            ///
            /// # Errors
            ///
            /// If an option is outside its bounds, or not possible.
            pub fn resolve(self) -> Result<Config, $crate::config::ConfigError> {
                let config = Config {
                    $($name: match self.$name {
                        Some(value) => value,
                        None => $crate::config::options::default_of(stringify!($name), $default)?,
                    },)*
                };
                $($(
                    let parse = $crate::config::options::default_of;
                    let bounds = (parse(stringify!($name), $low)?, parse(stringify!($name), $high)?);
                    if config.$name < bounds.0 || config.$name > bounds.1 {
                        return Err($crate::config::ConfigError::OutOfBounds {
                            option: stringify!($name),
                            value: config.$name.to_string(),
                            low: $low,
                            high: $high,
                        });
                    }
                )?)*
                config.check()
            }
        }

        impl Config {
            /// Every option that is a limit, by its name, as it is set.
            pub fn limits(&self) -> impl Iterator<Item = (&'static str, String)> {
                [$((stringify!($name), self.$name.to_string(), ![$($low,)? ""][0].is_empty()),)*]
                    .into_iter()
                    .filter(|(_, _, bounded)| *bounded)
                    .map(|(name, value, _)| (name, value))
            }
        }
    };
}

pub(super) use options;

/// The value that a table entry's text stands for. Three of them say in words what is only known on the
/// machine.
pub(super) fn default_of<T: FromStr<Err: fmt::Display>>(
    option: &'static str,
    text: &'static str,
) -> Result<T, ConfigError> {
    let text = match option {
        "socket" => paths::socket().display().to_string(),
        "data_dir" if text.contains("gateway") => paths::data_dir().join("gateway").display().to_string(),
        "data_dir" => paths::data_dir().display().to_string(),
        "host" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        _ => text.to_owned(),
    };
    text.parse().map_err(|error: T::Err| ConfigError::NotPossible {
        option,
        text: error.to_string(),
        value: text,
    })
}

/// A value in the file: a string as a flag would have it, or a number.
pub(super) fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a string, a number, or true or false")]
    enum Value {
        Text(String),
        Number(u64),
        Switch(bool),
    }
    let text = match Value::deserialize(from)? {
        Value::Text(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Switch(on) => on.to_string(),
    };
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

pub(super) fn value_name(of: &str) -> &'static str {
    match of {
        "SocketAddr" | "OptionalAddress" => "ADDR",
        "FilePath" | "CaFile" => "PATH",
        "OptionalUrl" => "URL",
        "Switch" => "BOOL",
        "Name" => "NAME",
        "Durability" | "LogFormat" | "AuthKind" | "Unknown" => "KIND",
        "Names" => "NAMES",
        "Addresses" => "ADDRS",
        "LogLevel" => "LEVEL",
        "Span" => "SPAN",
        "Bytes" => "BYTES",
        _ => "N",
    }
}

pub(super) fn env_name(prefix: &str, option: &str) -> String {
    format!("{prefix}{}", option.to_uppercase())
}
