//! The only reader of clocks.
//!
//! Everywhere else now is an argument (`clippy.toml` enforces it), so that what the agent does at a moment
//! can be tried out at any moment.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment by the log's clock: nanoseconds since 1970, good until 2554.
///
/// The log's clock starts at wall time and is monotonic from then on, so that two of its readings can be
/// compared. Deadlines are counted by it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The moment `nanos` nanoseconds after the start of 1970.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start of 1970.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `span` later; the last one there is, if that lies past it.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// The moment `span` earlier; the start of 1970, if that lies before it.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = UNIX_EPOCH + Duration::from_nanos(self.0);
        humantime::format_rfc3339_millis(moment).fmt(f)
    }
}

impl FromStr for Time {
    type Err = humantime::TimestampError;

    /// A moment as RFC 3339 has it, in UTC.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment = humantime::parse_rfc3339_weak(text)?;
        Ok(Self(nanos(moment.duration_since(UNIX_EPOCH).unwrap_or_default())))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// What the wall clock says.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads clocks")]
pub fn wall() -> Time {
    Time(nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// The log's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Time,
    started: tokio::time::Instant,
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads clocks")]
impl Clock {
    /// Starts the clock at wall time, or at `newest` if that is later: a wall clock that was set back must
    /// not put new events before old ones.
    pub fn start(newest: Time) -> Self {
        Self::start_at(wall(), newest)
    }

    /// The same where the wall clock says this.
    pub fn start_at(wall: Time, newest: Time) -> Self {
        Self { start: wall.max(newest), started: tokio::time::Instant::now() }
    }

    /// The moment that it is.
    pub fn now(&self) -> Time {
        self.start.plus(self.started.elapsed())
    }

    /// The same moment for tokio's timers.
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        self.started + time.since(self.start)
    }
}
