//! Defaults, bounds, and which source wins.

use super::*;

#[test]
fn every_default_is_within_its_bounds() {
    let config = Options::default().resolve().map_err(|error| error.to_string());
    assert_eq!(config.map(|config| config.max_waits), Ok(100_000));
}

#[test]
fn an_unknown_key_in_the_file_is_an_error_that_names_it_and_its_line() {
    let error = toml::from_str::<Options>("max_waits = 5\nmax_wiats = 6\n").err().unwrap().to_string();
    assert!(error.contains("line 2") && error.contains("max_wiats"), "{error}");
}

#[test]
fn a_malformed_value_in_the_file_is_an_error_that_names_its_line() {
    let error = toml::from_str::<Options>("\nlog_age = \"soon\"\n").err().unwrap().to_string();
    assert!(error.contains("line 2") && error.contains("soon"), "{error}");
}

#[test]
fn a_value_outside_its_bounds_is_refused_with_both() {
    let options = Options { max_events: Some(0), ..Options::default() };
    let error = options.resolve().err().unwrap().to_string();
    assert_eq!(error, "max_events is 0; it must be from 1 to 100000");
}

#[test]
fn flags_win_over_the_file() {
    let flags = Options { max_waits: Some(1), ..Options::default() };
    let file = toml::from_str("max_waits = 2\nmax_keys = 3").unwrap();
    let config = flags.or(file).resolve().ok().unwrap();
    assert_eq!((config.max_waits, config.max_keys), (1, 3));
}

#[test]
fn without_tls_only_loopback_is_listened_on() {
    let options = Options { listen: Some("0.0.0.0:7420".parse().unwrap()), ..Options::default() };
    assert!(options.resolve().err().unwrap().to_string().contains("loopback alone"));
}

#[test]
fn the_default_timeout_is_at_most_the_longest() {
    let options = Options { max_timeout: Some("1m".parse().unwrap()), ..Options::default() };
    let error = options.resolve().err().unwrap().to_string();
    assert!(error.contains("default_timeout is 5m; max_timeout is 1m"), "{error}");
}
