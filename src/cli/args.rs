//! Arguments that more than one command takes.

use std::time::Duration;

use crate::event::{InstanceId, Invalid, Key, MAX_CHARS, check_name};

/// Reads `NAME[:TAG]`, split at the first colon: a tag may have more of them.
///
/// # Errors
///
/// If name or tag cannot be an event's; the text says which.
pub fn key(text: &str) -> Result<Key, String> {
    let (name, tag) = text.split_once(':').unwrap_or((text, ""));
    Key::new(name.to_owned(), tag.to_owned(), MAX_CHARS)
        .map_err(|(field, invalid)| format!("the {} {invalid}", field.as_str()))
}

/// Reads an event's name.
///
/// # Errors
///
/// If it cannot be one.
pub fn name(text: &str) -> Result<String, String> {
    check_name(text).map_err(|invalid| format!("the name {invalid}"))?;
    Ok(text.to_owned())
}

/// Reads an instance's UUID.
///
/// # Errors
///
/// If it is none.
pub fn instance(text: &str) -> Result<InstanceId, Invalid> {
    text.parse()
}

/// Reads a span: `1500ms`, `30s`, `5m`, `1h`.
///
/// # Errors
///
/// If it is none.
pub fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a span is a number with its unit: 1500ms, 30s, 5m, 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_split_at_its_first_colon() {
        let read = |text| key(text).map(|key| (key.name().to_owned(), key.tag().to_owned())).unwrap();
        assert_eq!(read("network-vif-plugged:port:1"), ("network-vif-plugged".into(), "port:1".into()));
        assert_eq!(read("power-update:"), ("power-update".into(), String::new()));
        assert_eq!(read("power-update"), ("power-update".into(), String::new()));
    }

    #[test]
    fn a_key_that_cannot_be_one_is_refused_with_the_part_at_fault() {
        assert_eq!(key(":port").unwrap_err(), "the name is required");
        assert!(key("a:b\tc").unwrap_err().starts_with("the tag \"b\\tc\" has the control character"));
    }

    #[test]
    fn a_span_has_a_unit() {
        assert_eq!(span("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("5m"), Ok(Duration::from_secs(300)));
        assert!(span("30").unwrap_err().contains("1500ms, 30s, 5m, 1h"));
    }
}
