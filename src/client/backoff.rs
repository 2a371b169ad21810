//! How long to stay away from an agent that is away.

use std::time::Duration;

use uuid::Uuid;

use crate::clock::Time;

/// The first pause, at most.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double from try to try, each cut by chance to between half and the whole of itself, so that
/// the clients of an agent that has restarted do not all ask at once.
#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
    /// Since when the stream has stood.
    since: Option<Time>,
}

impl Backoff {
    pub(super) fn new(now: Time) -> Self {
        Self { pause: FIRST, since: Some(now) }
    }

    /// A stream stands.
    pub(super) fn connected(&mut self, now: Time) {
        self.since = Some(now);
    }

    /// A stream or a try has failed. Gives the pause before the next one; `chance` is any number.
    pub(super) fn lost(&mut self, now: Time, chance: u32) -> Duration {
        // A stream that falls as soon as it stands is no reason to ask faster.
        if self.since.take().is_some_and(|since| now.since(since) > LONGEST) {
            self.pause = FIRST;
        }
        let half = self.pause / 2;
        let part = half.mul_f64(f64::from(chance) / f64::from(u32::MAX));
        self.pause = (self.pause * 2).min(LONGEST);
        half + part
    }
}

/// A random number.
pub(super) fn chance() -> u32 {
    // The low bits of a version 4 UUID are random, all of them.
    Uuid::new_v4().as_u128() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_50_ms_to_2_s_and_begin_anew_after_a_stream_that_stood() {
        let start = Time::from_nanos(0);
        let mut backoff = Backoff::new(start);
        let pauses: Vec<_> = (0..8).map(|_| backoff.lost(start, u32::MAX).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff.lost(start, 0).as_millis(), 1000);

        backoff.connected(start);
        assert_eq!(backoff.lost(start.plus(LONGEST), u32::MAX).as_millis(), 2000);
        backoff.connected(start);
        assert_eq!(backoff.lost(start.plus(LONGEST * 2), u32::MAX).as_millis(), 50);
    }
}
