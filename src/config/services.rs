//! What options say of services elsewhere.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::net::outbound::BaseUrl;

/// Where a service is, or `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionalUrl(pub Option<BaseUrl>);

impl FromStr for OptionalUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            _ => text.parse().map(|url| Self(Some(url))),
        }
    }
}

impl fmt::Display for OptionalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(url) => url.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// Whose certificates are trusted: those of the authorities in a file of PEM, or `system`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFile(pub Option<PathBuf>);

impl FromStr for CaFile {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self((text != "system").then(|| text.into())))
    }
}

impl fmt::Display for CaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => path.display().fmt(f),
            None => f.write_str("system"),
        }
    }
}
