//! Which microversion a request asks for.

use std::fmt;

use http::{HeaderMap, HeaderName};

/// The lowest minor number, which is in force where none is asked for.
pub const LOWEST: u16 = 1;
/// The header that names the service as well, and wins.
pub const STANDARD: HeaderName = HeaderName::from_static("openstack-api-version");
/// The older header.
pub const LEGACY: HeaderName = HeaderName::from_static("x-openstack-nova-api-version");

const SERVICE: &str = "compute";

/// What a request's headers ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// 2.`minor`, which is then in force.
    InForce(u16),
    /// A version that is not had here, as it was asked for.
    Outside(String),
    /// No version at all, as it was asked for.
    Malformed(String),
}

impl Asked {
    /// The version for a reply's headers; none where the request's was malformed.
    pub fn shown(&self) -> Option<String> {
        match self {
            Self::InForce(minor) => Some(format!("2.{minor}")),
            Self::Outside(version) => Some(version.clone()),
            Self::Malformed(_) => None,
        }
    }
}

/// Reads the microversion out of both headers. Where a header lists several, as proxies join them, the last one
/// for us counts.
pub fn asked(headers: &HeaderMap, max: u16) -> Asked {
    let Some(version) = standard(headers).or_else(|| legacy(headers)) else {
        return Asked::InForce(LOWEST);
    };
    if version == "latest" {
        return Asked::InForce(max);
    }
    let Some((major, minor)) =
        version.split_once('.').filter(|(major, minor)| number(major) && *major != "0" && number(minor))
    else {
        return Asked::Malformed(version);
    };
    match minor.parse() {
        Ok(minor) if major == "2" && (LOWEST..=max).contains(&minor) => Asked::InForce(minor),
        _ => Asked::Outside(version),
    }
}

fn standard(headers: &HeaderMap) -> Option<String> {
    values(headers, &STANDARD).into_iter().rev().find_map(|value| {
        let (service, version) = value.split_once(char::is_whitespace)?;
        service.eq_ignore_ascii_case(SERVICE).then(|| version.trim().to_owned())
    })
}

fn legacy(headers: &HeaderMap) -> Option<String> {
    values(headers, &LEGACY).pop()
}

/// The members of a header's lists, in order.
fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let mut values = Vec::new();
    for line in headers.get_all(name) {
        let line = String::from_utf8_lossy(line.as_bytes());
        values.extend(line.split(',').map(|value| value.trim().to_owned()));
    }
    values
}

/// Digits, without a zero before others.
fn number(text: &str) -> bool {
    let leading_zero = text.len() > 1 && text.starts_with('0');
    !text.is_empty() && !leading_zero && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The bounds, for people.
pub struct Supported(pub u16);

impl fmt::Display for Supported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the lowest is 2.{LOWEST} and the highest 2.{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u16 = 104;

    fn read(lines: &[(&HeaderName, &'static str)]) -> Asked {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        asked(&headers, MAX)
    }

    fn outside(version: &str) -> Asked {
        Asked::Outside(version.to_owned())
    }

    fn malformed(version: &str) -> Asked {
        Asked::Malformed(version.to_owned())
    }

    #[test]
    fn from_the_lowest_to_the_highest_is_in_force_and_nothing_beyond() {
        for (version, expected) in [
            ("1.9", outside("1.9")),
            ("2.0", outside("2.0")),
            ("2.1", Asked::InForce(1)),
            ("2.2", Asked::InForce(2)),
            ("2.103", Asked::InForce(103)),
            ("2.104", Asked::InForce(104)),
            ("2.105", outside("2.105")),
            ("2.65536", outside("2.65536")),
            ("2.99999999999999999999", outside("2.99999999999999999999")),
            ("3.1", outside("3.1")),
            ("22.1", outside("22.1")),
            ("latest", Asked::InForce(104)),
        ] {
            assert_eq!(read(&[(&LEGACY, version)]), expected, "{version}");
        }
    }

    #[test]
    fn what_is_no_version_is_malformed() {
        for version in [
            "", "2", "2.", ".1", "2.01", "02.1", "0.1", "2.1.1", "v2.1", "2.x", "+2.1", "2.-1", "Latest",
            "2.1 2.2", "é",
        ] {
            assert_eq!(read(&[(&LEGACY, version)]), malformed(version), "{version:?}");
        }
        assert_eq!(read(&[(&STANDARD, "compute 2")]), malformed("2"));
        assert_eq!(read(&[(&STANDARD, "compute 2.1 2.2")]), malformed("2.1 2.2"));
    }

    #[test]
    fn the_first_header_wins_over_the_older_unless_it_is_anothers() {
        assert_eq!(read(&[(&STANDARD, "compute 2.51"), (&LEGACY, "2.90")]), Asked::InForce(51));
        assert_eq!(read(&[(&LEGACY, "2.90"), (&STANDARD, "CoMpUtE   2.51")]), Asked::InForce(51));
        assert_eq!(read(&[(&STANDARD, "volume 3.60"), (&LEGACY, "2.90")]), Asked::InForce(90));
        assert_eq!(read(&[(&STANDARD, "volume 3.60")]), Asked::InForce(1));
        assert_eq!(read(&[(&STANDARD, "compute")]), Asked::InForce(1));
        assert_eq!(read(&[]), Asked::InForce(1));
    }

    #[test]
    fn of_several_the_last_one_for_us_counts() {
        assert_eq!(read(&[(&STANDARD, "compute 2.7, volume 3.1")]), Asked::InForce(7));
        assert_eq!(read(&[(&STANDARD, "compute 2.7"), (&STANDARD, "compute latest")]), Asked::InForce(104));
        assert_eq!(read(&[(&LEGACY, "2.7, 2.9")]), Asked::InForce(9));
    }

    #[test]
    fn only_a_malformed_version_is_not_shown() {
        assert_eq!(Asked::InForce(51).shown().as_deref(), Some("2.51"));
        assert_eq!(outside("3.1").shown().as_deref(), Some("3.1"));
        assert_eq!(malformed("x").shown(), None);
    }
}
