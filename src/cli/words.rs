//! What stands in the wire's messages, in the words that people read.

use crate::proto;
use crate::proto::event::Status;
use crate::proto::key_state::State;
use crate::proto::outcome::Kind;
use crate::proto::reason::Code as Reason;

/// `NAME:TAG`, or `NAME` alone.
pub fn key(name: &str, tag: &str) -> String {
    if tag.is_empty() { name.to_owned() } else { format!("{name}:{tag}") }
}

/// An event's status.
pub fn status(event: &proto::Event) -> &'static str {
    match event.status() {
        Status::Unspecified | Status::Completed => "completed",
        Status::Failed => "failed",
        Status::InProgress => "in-progress",
    }
}

/// How a wait ended.
pub fn outcome(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "without an outcome",
        Kind::Completed => "COMPLETED",
        Kind::Failed => "FAILED",
        Kind::TimedOut => "TIMED_OUT",
        Kind::Cancelled => "CANCELLED",
    }
}

/// What a key has come to, after its name: `a:b completed (position 7)`.
pub fn key_state(state: &proto::KeyState) -> String {
    let key = key(&state.name, &state.tag);
    match state.state() {
        State::Unspecified | State::Open => format!("{key} open"),
        State::Completed => format!("{key} completed (position {})", state.position),
        State::Failed => format!("{key} failed (position {})", state.position),
        State::Skipped => format!("{key} skipped"),
    }
}

/// Whether no event has answered the key yet.
pub fn is_open(state: &proto::KeyState) -> bool {
    matches!(state.state(), State::Unspecified | State::Open)
}

/// A reason's stable name; nothing if there is none.
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "",
        _ => reason.as_str_name(),
    }
}

/// A list for a person: the first few, and how many more there are.
pub fn some(items: &[String], shown: usize) -> String {
    let text = items.iter().take(shown).map(String::as_str).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(shown) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// `1 wait`, `2 waits`.
pub fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let items: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(some(&items, 4), "a, b, c, d");
        assert_eq!(some(&items, 2), "a, b and 2 more");
    }

    #[test]
    fn a_key_without_a_tag_is_its_name() {
        assert_eq!(key("power-update", ""), "power-update");
        assert_eq!(key("network-vif-plugged", "p:1"), "network-vif-plugged:p:1");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(count(1, "wait"), "1 wait");
        assert_eq!(count(0, "wait"), "0 waits");
    }
}
