//! The operations that wait for one instance's events, so that the events come here.

use std::collections::BTreeMap;

use crate::clock::Time;
use crate::event::WaitId;

/// How a wait's stream closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Closed {
    /// Without an outcome: it may be opened again.
    #[default]
    Lost,
    /// With its outcome.
    Ended,
    /// The wait was not opened by it.
    Refused,
}

/// Waits of one instance. `None` stands for those of an earlier process, whose ids nobody knows any longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting(BTreeMap<Option<WaitId>, Wait>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    /// Streams that are open: of two, one takes the other over.
    streams: usize,
    /// Until when it would wait, if its stream were lost without an outcome.
    until: Time,
    /// A stream of it was lost: it was open, and may be again.
    lost: bool,
    /// With its last stream it is over.
    over: bool,
}

impl Waiting {
    /// Those that an earlier process has left, until then at most. If that is past, they are over.
    pub(super) fn left(until: Time) -> Self {
        Self(BTreeMap::from([(None, Wait { streams: 0, until, lost: true, over: false })]))
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Until when the last of them waits.
    pub(super) fn until(&self) -> Option<Time> {
        self.0.values().map(|wait| wait.until).max()
    }

    /// A stream of one has opened.
    pub(super) fn open(&mut self, id: WaitId, until: Time) {
        let wait = self.0.entry(Some(id)).or_insert(Wait { streams: 0, until, lost: false, over: false });
        wait.streams += 1;
        wait.until = wait.until.max(until);
    }

    /// A stream of one has closed. One that was lost may come back before its time has run out.
    pub(super) fn close(&mut self, id: WaitId, closed: Closed) {
        if let Some(wait) = self.0.get_mut(&Some(id)) {
            wait.streams = wait.streams.saturating_sub(1);
            match closed {
                Closed::Lost => wait.lost = true,
                Closed::Ended => wait.over = true,
                // What other streams of this id have opened is not its own.
                Closed::Refused => wait.over |= wait.streams == 0 && !wait.lost,
            }
        }
    }

    /// Takes out those that have no stream and are over, or whose time has run out.
    pub(super) fn expire(&mut self, now: Time) {
        self.0.retain(|_, wait| wait.streams > 0 || (!wait.over && wait.until > now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn until(waiting: &mut Waiting, now: u64) -> Option<Time> {
        waiting.expire(at(now));
        waiting.until()
    }

    #[test]
    fn a_wait_is_over_with_its_outcome_or_its_time() {
        let (mut waiting, one, two) = (Waiting::default(), WaitId::random(), WaitId::random());
        waiting.open(one, at(20));
        waiting.open(two, at(30));
        waiting.close(two, Closed::Ended);
        assert_eq!(until(&mut waiting, 1), Some(at(20)));
        waiting.close(one, Closed::Lost);
        assert_eq!(until(&mut waiting, 19), Some(at(20)));
        assert_eq!(until(&mut waiting, 20), None);
        assert!(!waiting.any());
    }

    #[test]
    fn a_lost_stream_is_waited_for_though_another_wait_ends() {
        let (mut waiting, lost, other) = (Waiting::default(), WaitId::random(), WaitId::random());
        waiting.open(lost, at(20));
        waiting.close(lost, Closed::Lost);
        for closed in [Closed::Ended, Closed::Refused] {
            waiting.open(other, at(90));
            waiting.close(other, closed);
            assert_eq!(until(&mut waiting, 1), Some(at(20)));
        }
    }

    #[test]
    fn a_stream_that_is_refused_because_its_wait_is_open_takes_nothing_from_that() {
        let (mut waiting, id) = (Waiting::default(), WaitId::random());
        waiting.open(id, at(20));
        waiting.open(id, at(20));
        waiting.close(id, Closed::Refused);
        waiting.close(id, Closed::Lost);
        assert_eq!(until(&mut waiting, 1), Some(at(20)));
        // Nor does one that is refused because there is no room for it just then.
        waiting.open(id, at(20));
        waiting.close(id, Closed::Refused);
        assert_eq!(until(&mut waiting, 1), Some(at(20)));
    }

    #[test]
    fn a_wait_that_was_taken_over_is_over_with_its_outcome_whichever_stream_closes_last() {
        for [first, last] in [[Closed::Lost, Closed::Ended], [Closed::Ended, Closed::Lost]] {
            let (mut waiting, id) = (Waiting::default(), WaitId::random());
            waiting.open(id, at(20));
            waiting.open(id, at(20));
            waiting.close(id, first);
            assert_eq!(until(&mut waiting, 1), Some(at(20)));
            waiting.close(id, last);
            assert_eq!(until(&mut waiting, 1), None);
        }
    }

    #[test]
    fn what_an_earlier_process_has_left_runs_out() {
        let mut waiting = Waiting::left(at(20));
        assert_eq!(until(&mut waiting, 19), Some(at(20)));
        assert_eq!(until(&mut waiting, 20), None);
    }
}
