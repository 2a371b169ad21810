//! What options are set to: each with the form in which it is written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Has a plain enum read and written by the names of its values.
macro_rules! choices {
    ($type:ty { $($value:ident = $name:literal),+ }) => {
        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$value),)+
                    _ => Err($crate::config::none_of(text, &[$($name),+])),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$value => $name,)+
                })
            }
        }
    };
}

pub(crate) use choices;

/// What is said of a text that is none of these names.
pub(crate) fn none_of(text: &str, names: &[&str]) -> String {
    let (last, others) = names.split_last().unwrap_or((&"", &[]));
    format!("{text:?} is not one of {} or {last}", others.join(", "))
}

/// A span of time, written `1500ms`, `30s`, `5m`, `1h`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = |_| format!("{text:?} is not a span of time, such as 1500ms, 30s, 5m or 1h");
        humantime::parse_duration(text).map(Self).map_err(malformed)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A number of bytes, written `4096`, `64KiB`, `256MiB`, `1GiB`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Bytes(pub u64);

const BYTE_UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = BYTE_UNITS.iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, *bits)));
        let (number, bits) = unit.unwrap_or((text, 0));
        let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << bits));
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a number of bytes, such as 4096, 64KiB, 256MiB or 1GiB"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = BYTE_UNITS.iter().find(|(_, bits)| self.0 > 0 && self.0.trailing_zeros() >= *bits);
        match whole {
            Some((unit, bits)) => write!(f, "{}{unit}", self.0 >> bits),
            None => self.0.fmt(f),
        }
    }
}

/// What is on disk before an event is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is on disk.
    Sync,
    /// It is written, and the operating system brings it to the disk when it likes.
    Os,
    /// Nothing: the log is in memory, and is gone when the agent stops.
    None,
}

choices!(Durability { Sync = "sync", Os = "os", None = "none" });

/// Yes or no, written `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch(pub bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("{text:?} is neither true nor false"))
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

choices!(LogFormat { Text = "text", Json = "json" });

/// A file or a folder.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePath(pub PathBuf);

impl FromStr for FilePath {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A name: a host's, say, or a user's.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(pub String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        crate::event::check_name(text).map_err(|invalid| invalid.to_string())?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names of events, with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let check = |name: &str| match crate::event::check_name(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(invalid) => Err(format!("{name:?} {invalid}")),
        };
        names.map(check).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.join(",").fmt(f)
    }
}

/// Where to listen, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalAddress(pub Option<SocketAddr>);

impl FromStr for OptionalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            _ => match text.parse() {
                Ok(address) => Ok(Self(Some(address))),
                Err(_) => Err(format!("{text:?} is neither an address, IP:PORT, nor off")),
            },
        }
    }
}

impl fmt::Display for OptionalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// Where peers are, HOST:PORT, with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(pub Vec<String>);

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
        let check = |address: &str| match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(address.to_owned()),
            _ => Err(format!("{address:?} is not an address, HOST:PORT")),
        };
        addresses.map(check).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.join(",").fmt(f)
    }
}

/// A filter for log lines.
#[derive(Clone, PartialEq, Eq)]
pub struct LogLevel(pub String);

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        tracing_subscriber::EnvFilter::try_new(text).map_err(|error| format!("{text:?}: {error}"))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_written() {
        for text in ["0", "4097", "64KiB", "256MiB", "1GiB"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        assert!("-1".parse::<Bytes>().is_err());
        assert!("99999999999GiB".parse::<Bytes>().is_err());
    }
}
