//! How long to stay away from a peer that is away.

use std::time::Duration;

use crate::clock::Time;

/// Pauses that double from try to try, each cut by chance to between half and the whole of itself, so that
/// those of a peer that has restarted do not all ask at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    pause: Duration,
    /// Since when the stream has stood.
    since: Option<Time>,
    chance: Chance,
}

impl Backoff {
    /// Pauses from `first` to `longest`. `seed` is any number that differs from one to the next.
    pub(crate) fn new(now: Time, seed: u64, first: Duration, longest: Duration) -> Self {
        Self { first, longest, pause: first, since: Some(now), chance: Chance(seed) }
    }

    /// The peer is there.
    pub(crate) fn connected(&mut self, now: Time) {
        self.since = Some(now);
    }

    /// Whether the peer was there since the last time that it was lost.
    pub(crate) fn was_connected(&self) -> bool {
        self.since.is_some()
    }

    /// It is lost, or a try has failed. Gives the pause before the next one.
    pub(crate) fn lost(&mut self, now: Time) -> Duration {
        // A peer that goes as soon as it is there is no reason to ask faster.
        if self.since.take().is_some_and(|since| now.since(since) > self.longest) {
            self.pause = self.first;
        }
        let half = self.pause / 2;
        let part = half.mul_f64(self.chance.next());
        self.pause = (self.pause * 2).min(self.longest);
        half + part
    }
}

/// A row of numbers from 0 to 1 that a seed begins (splitmix64).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        mixed as f64 / u64::MAX as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(2);

    #[test]
    fn pauses_double_from_50_ms_to_2_s_cut_by_chance_and_begin_anew_after_a_stream_that_stood() {
        let start = Time::from_nanos(0);
        let new = |seed| Backoff::new(start, seed, Duration::from_millis(50), LONGEST);
        let (mut one, mut other) = (new(1), new(2));
        let mut differ = false;
        for whole in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let (pause, others) = (one.lost(start).as_millis(), other.lost(start).as_millis());
            assert!((whole / 2..=whole).contains(&pause), "{pause} of {whole}");
            differ |= pause != others;
        }
        assert!(differ);

        one.connected(start);
        assert!(one.lost(start.plus(LONGEST)).as_millis() >= 1000);
        one.connected(start);
        assert!(one.lost(start.plus(LONGEST * 2)).as_millis() <= 50);
    }
}
