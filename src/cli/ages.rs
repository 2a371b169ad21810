//! Times as people read them: how long ago, and in how long.

use std::time::Duration;

use crate::clock::{Clock, Time};

/// What stands for a time that is not there.
pub const NONE: &str = "-";

/// The moment that ages are counted from, for a reply that does not give the agent's own.
pub fn local_now() -> Time {
    Clock::start(Time::default()).now()
}

/// A moment as the wire has it. `None` if it lies before 1970 or past 2554.
pub fn time(wire: &prost_types::Timestamp) -> Option<Time> {
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u64::try_from(wire.nanos).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos).map(Time::from_nanos)
}

/// A span as the wire has it. `None` if it is negative.
pub fn span(wire: &prost_types::Duration) -> Option<Duration> {
    Duration::try_from(*wire).ok()
}

/// How long ago `at` was, or in how long it will be: `3s ago`, `in 4m 10s`, `now`.
pub fn age(now: Time, at: Option<&prost_types::Timestamp>) -> String {
    match at.and_then(time) {
        None => NONE.to_owned(),
        Some(at) if at > now => format!("in {}", rough(at.since(now))),
        Some(at) if at == now => "now".to_owned(),
        Some(at) => format!("{} ago", rough(now.since(at))),
    }
}

/// A span in its two largest units, cut: `120ms`, `3s`, `4m 10s`, `2d 3h`.
pub fn rough(span: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    match span.as_secs() {
        0 => match span.as_millis() {
            0 if span.is_zero() => "0s".to_owned(),
            0 => "<1ms".to_owned(),
            millis => format!("{millis}ms"),
        },
        secs @ ..MINUTE => format!("{secs}s"),
        secs @ ..HOUR => two(secs / MINUTE, "m", secs % MINUTE, "s"),
        secs @ ..DAY => two(secs / HOUR, "h", secs % HOUR / MINUTE, "m"),
        secs => two(secs / DAY, "d", secs % DAY / HOUR, "h"),
    }
}

/// A span that someone has set, whole: `1s 500ms`.
pub fn exact(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    fn ago(span: Duration) -> String {
        let now = Time::from_nanos(1_800_000_000_000_000_000);
        let nanos = now.minus(span).as_nanos();
        let at = Timestamp {
            seconds: (nanos / 1_000_000_000).try_into().unwrap(),
            nanos: (nanos % 1_000_000_000).try_into().unwrap(),
        };
        age(now, Some(&at))
    }

    #[test]
    fn an_age_has_its_two_largest_units() {
        let secs = Duration::from_secs;
        assert_eq!(ago(Duration::from_millis(120)), "120ms ago");
        assert_eq!(ago(Duration::from_millis(3_900)), "3s ago");
        assert_eq!(ago(secs(250)), "4m 10s ago");
        assert_eq!(ago(secs(240)), "4m ago");
        assert_eq!(ago(secs(3 * 3_600 + 125)), "3h 2m ago");
        assert_eq!(ago(secs(51 * 3_600)), "2d 3h ago");
    }

    #[test]
    fn a_time_to_come_is_in_so_long() {
        let now = Time::from_nanos(5_000_000_000);
        assert_eq!(age(now, Some(&Timestamp { seconds: 255, nanos: 0 })), "in 4m 10s");
        assert_eq!(age(now, Some(&Timestamp { seconds: 5, nanos: 0 })), "now");
    }

    #[test]
    fn a_time_that_is_not_there_is_a_dash() {
        assert_eq!(age(Time::default(), None), "-");
        assert_eq!(age(Time::default(), Some(&Timestamp { seconds: -1, nanos: 0 })), "-");
    }

    #[test]
    fn a_span_below_a_millisecond_is_not_called_nothing() {
        assert_eq!(rough(Duration::from_micros(20)), "<1ms");
        assert_eq!(rough(Duration::ZERO), "0s");
    }
}
