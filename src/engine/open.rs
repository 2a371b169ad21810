//! Opening a wait: from where it looks, what it finds there, and whether there is room for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::wait::Wait;
use super::{
    Ask, Beat, Effect, Engine, HEARTBEAT, Kind, Opened, Opening, Start, UNREAD, WaitView, Why, index,
};
use crate::clock::Time;
use crate::event::{Cursor, Position, WaitId};
use crate::plant::{self, Plant};

/// Why a wait could not be opened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// Another caller's, or another instance's, wait has this id.
    #[error("wait {0} is open for another caller or another instance")]
    IdTaken(WaitId),
    /// The wait's client has asked again since.
    #[error("wait {0} was opened by a newer ask of its client, and goes on there")]
    Overtaken(WaitId),
    /// The cursor is not of this log.
    #[error("cursor {asked} is not one of this log, which reaches from {oldest} to {head}")]
    AnotherLog {
        /// What was asked.
        asked: Cursor,
        /// The oldest cursor that there is.
        oldest: Cursor,
        /// The newest one.
        head: Cursor,
    },
    /// The log no longer reaches back that far.
    #[error("the log reaches back to {oldest} only, {asked} is older")]
    Expired {
        /// What was asked.
        asked: String,
        /// The oldest cursor that there is.
        oldest: Cursor,
    },
    /// Too many waits are open.
    #[error("{limit} is {bound}, and so many waits are open")]
    TooMany {
        /// The limit's option.
        limit: &'static str,
        /// Its value.
        bound: usize,
    },
}

impl Engine {
    /// Opens a wait: looks into the log, and registers it unless that has already ended it.
    ///
    /// # Errors
    ///
    /// As [`OpenError`] has them. Nothing has changed then; a wait that was open under the id still is.
    pub fn open(&mut self, now: Time, ask: Ask, out: &mut Vec<Effect>) -> Result<(), OpenError> {
        let older = self.older_opening(&ask)?;
        if older.is_none()
            && let Some(resume) = &ask.resume
            && let Some(ended) = self.ended.same(&ask, &resume.opened)
            && let Some((outcome, _)) = &ended.ended
        {
            // Its keys are as they were at its end: events that came since are not in them.
            out.push(registered(ended, ask.opening, ask.timeout, outcome.at));
            out.push(Effect::Outcome { id: ask.id, opening: ask.opening, outcome: outcome.clone() });
            return Ok(());
        }
        self.check_room(&ask, older)?;
        let (after, opened) = self.resolve_start(now, &ask)?;
        if let Some(older) = older {
            self.remove(older);
            self.counts.closed += 1;
            out.push(Effect::TakenOver { id: ask.id, opening: older });
        }
        self.counts.opened += 1;

        let timeout = ask.timeout;
        let mut wait = Box::new(Wait::new(now, ask, opened, self.limits.max_unarmed));
        let opening = wait.opening;
        let head = self.index.head();
        let mut progress = Vec::new();
        let mut end = self.look(&mut wait, after, &mut progress);
        if end.is_none() && timeout.is_zero() {
            end = Some((Kind::TimedOut, Why::Itself));
        }
        out.push(registered(&wait.view(), opening, timeout, head));
        out.append(&mut progress);
        match end {
            Some((kind, why)) => self.conclude(now, *wait, kind, why, head, out),
            None => {
                self.register(wait);
                self.beats.push_back(Beat { due: now.plus(HEARTBEAT), opening, told: head });
            }
        }
        Ok(())
    }

    /// The open wait that an ask takes over.
    fn older_opening(&self, ask: &Ask) -> Result<Option<Opening>, OpenError> {
        let Some(&opening) = self.by_id.get(&ask.id) else { return Ok(None) };
        match self.waits.get(&opening) {
            Some(wait) if wait.instance != ask.instance || wait.uid != ask.uid => {
                Err(OpenError::IdTaken(ask.id))
            }
            Some(wait) if wait.has_overtaken(ask) => Err(OpenError::Overtaken(ask.id)),
            Some(_) => Ok(Some(opening)),
            None => Ok(None),
        }
    }

    fn check_room(&self, ask: &Ask, older: Option<Opening>) -> Result<(), OpenError> {
        if older.is_some() {
            return Ok(());
        }
        let of_instance = self.by_instance.get(&ask.instance).map_or(0, BTreeSet::len);
        for (limit, bound, open) in [
            ("max_waits", self.limits.waits, self.waits.len()),
            ("max_instance_waits", self.limits.instance_waits, of_instance),
        ] {
            if open >= bound {
                return Err(OpenError::TooMany { limit, bound });
            }
        }
        Ok(())
    }

    /// From which place on the wait looks, and what it counts as its opening.
    fn resolve_start(&self, now: Time, ask: &Ask) -> Result<(Position, Opened), OpenError> {
        let head = self.index.head();
        let cursor = |position| Cursor { log_id: self.log_id, position };
        let oldest = cursor(self.index.oldest().before());
        let (after, counts_from) = match ask.start {
            Start::Head => (head, Some(now)),
            Start::After(asked) => {
                if asked.log_id != self.log_id || asked.position > head {
                    return Err(OpenError::AnotherLog { asked, oldest, head: cursor(head) });
                }
                if asked.position < oldest.position {
                    return Err(OpenError::Expired { asked: asked.to_string(), oldest });
                }
                (asked.position, self.index.received_at(asked.position))
            }
            Start::Lookback(span) => {
                let moment = now.minus(span);
                let after = self.index.place_before(moment).ok_or_else(|| OpenError::Expired {
                    asked: format!("{} ago", humantime::format_duration(span)),
                    oldest,
                })?;
                (after, Some(moment))
            }
        };
        let opened = match &ask.resume {
            Some(resume) => resume.opened,
            None => Opened { position: head, counts_from },
        };
        Ok((after, opened))
    }

    /// Lets a wait see what is in the log after a place, as if it had just come. Says how that ended it, and
    /// gives the newest Progress of it.
    fn look(&self, wait: &mut Wait, after: Position, progress: &mut Vec<Effect>) -> Option<(Kind, Why)> {
        let mut left_out = 0;
        let end = self.look_at_each(wait, after, |told| {
            progress.push(told);
            // A batch at a time, so that it costs little.
            if progress.len() == 2 * UNREAD {
                left_out += UNREAD;
                progress.drain(..UNREAD);
            }
        });
        let too_many = progress.len().saturating_sub(UNREAD);
        progress.drain(..too_many);
        if let Some(Effect::Progress { dropped, .. }) = progress.first_mut() {
            *dropped = u32::try_from(left_out + too_many).unwrap_or(u32::MAX);
        }
        end
    }

    fn look_at_each(
        &self,
        wait: &mut Wait,
        after: Position,
        mut tell: impl FnMut(Effect),
    ) -> Option<(Kind, Why)> {
        if let Some(kind) = wait.end_if_answered() {
            return Some((kind, Why::Itself));
        }
        let head = self.index.head();
        let may_end = |cancelled: &index::Cancelled| cancelled.caller.may_act_for(wait.uid);
        let cancel = self.index.cancel_after(wait.opened.position, wait.instance, may_end);
        if after < head && !plant::is(Plant::NoLook) {
            let hashes = wait.hashes.clone();
            for (key, event) in self.index.after(after, &hashes) {
                if cancel.as_ref().is_some_and(|(position, _)| *position < event.position) {
                    break;
                }
                if let Some(kind) = wait.see(key, event, head, &mut tell).end {
                    return Some((kind, Why::Itself));
                }
            }
        }
        cancel.map(|(_, cancelled)| (Kind::Cancelled, Why::InstanceCancelled(cancelled.why.clone())))
    }
}

fn registered(wait: &WaitView, opening: Opening, timeout: Duration, at: Position) -> Effect {
    Effect::Registered {
        id: wait.id,
        opening,
        at,
        deadline: wait.deadline,
        timeout,
        opened: wait.opened,
        answers: Arc::clone(&wait.answers),
    }
}
