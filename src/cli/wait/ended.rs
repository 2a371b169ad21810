//! What a person is told of a wait's end: one line, which names every key.

use std::fmt;
use std::time::Duration;

use crate::cli::ages::rough;
use crate::client::{KeyState, Kind, Outcome};

/// How a wait ended, and how long after it was registered.
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) after: Duration,
}

impl Ended {
    fn keys(&self, state: KeyState) -> Option<String> {
        let keys = self.outcome.keys.iter().filter(|key| key.state == state);
        let keys: Vec<String> = keys.map(ToString::to_string).collect();
        (!keys.is_empty()).then(|| keys.join(", "))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outcome, after } = self;
        let after = seconds(*after);
        let [came, failed, skipped, open] =
            [KeyState::Completed, KeyState::Failed, KeyState::Skipped, KeyState::Open]
                .map(|state| self.keys(state));
        let told = match (outcome.kind, &came, &failed) {
            (Kind::Completed, Some(came), _) => {
                write!(f, "completed: {came} came after {after}")?;
                Some(KeyState::Completed)
            }
            (Kind::Failed, _, Some(failed)) => {
                write!(f, "failed: {failed} failed after {after}")?;
                Some(KeyState::Failed)
            }
            (kind, _, _) => {
                write!(f, "{} after {after}", word(kind))?;
                None
            }
        };
        if !outcome.confirmed {
            f.write_str(", not confirmed by the agent")?;
        }
        if let Some(reason) = outcome.reason {
            write!(f, " ({})", reason.as_str_name())?;
        }
        if outcome.confirmed && !outcome.why.is_empty() {
            write!(f, ": {}", outcome.why)?;
        }
        for (state, text, keys) in [
            (KeyState::Open, "did not come", open),
            (KeyState::Failed, "failed", failed),
            (KeyState::Completed, "came", came),
            (KeyState::Skipped, "skipped", skipped),
        ] {
            if let Some(keys) = keys
                && told != Some(state)
            {
                write!(f, "; {text}: {keys}")?;
            }
        }
        Ok(())
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Completed => "completed",
        Kind::Failed => "failed",
        Kind::TimedOut => "timed out",
        Kind::Cancelled => "cancelled",
    }
}

/// Between a second and a minute with tenths, as short waits are compared.
fn seconds(span: Duration) -> String {
    if (1..60).contains(&span.as_secs()) { format!("{:.1}s", span.as_secs_f64()) } else { rough(span) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::KeyAnswer;
    use crate::event::{Cursor, LogId, Position};
    use crate::proto::reason::Code as Reason;

    fn line(kind: Kind, keys: &[(&str, KeyState)], change: impl FnOnce(&mut Outcome)) -> String {
        let keys = keys.iter().map(|&(tag, state)| KeyAnswer {
            name: "n".into(),
            tag: tag.into(),
            state,
            position: None,
            received_at: None,
        });
        let mut outcome = Outcome {
            kind,
            reason: None,
            why: String::new(),
            keys: keys.collect(),
            cursor: Cursor { log_id: LogId::random(), position: Position(1) },
            confirmed: true,
        };
        change(&mut outcome);
        Ended { outcome, after: Duration::from_millis(1234) }.to_string()
    }

    #[test]
    fn each_end_is_a_line_that_names_every_key() {
        use KeyState::*;
        assert_eq!(
            line(Kind::Completed, &[("a", Completed), ("", Completed), ("c", Skipped)], |_| ()),
            "completed: n:a, n came after 1.2s; skipped: n:c"
        );
        assert_eq!(
            line(Kind::Failed, &[("a", Failed), ("b", Open), ("c", Completed)], |_| ()),
            "failed: n:a failed after 1.2s; did not come: n:b; came: n:c"
        );
        assert_eq!(
            line(Kind::TimedOut, &[("a", Completed), ("b", Open), ("c", Failed)], |_| ()),
            "timed out after 1.2s; did not come: n:b; failed: n:c; came: n:a"
        );
        assert_eq!(line(Kind::Completed, &[("a", Skipped)], |_| ()), "completed after 1.2s; skipped: n:a");
    }

    #[test]
    fn what_ended_it_from_outside_and_what_nobody_confirmed_is_said() {
        let cancelled = |outcome: &mut Outcome| {
            outcome.reason = Some(Reason::Cancelled);
            outcome.why = "evacuated".into();
        };
        assert_eq!(
            line(Kind::Cancelled, &[("a", KeyState::Open)], cancelled),
            "cancelled after 1.2s (CANCELLED): evacuated; did not come: n:a"
        );
        assert_eq!(
            line(Kind::TimedOut, &[("a", KeyState::Open)], |outcome| outcome.confirmed = false),
            "timed out after 1.2s, not confirmed by the agent; did not come: n:a"
        );
    }
}
