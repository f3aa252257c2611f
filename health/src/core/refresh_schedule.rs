//! Decides when to read which DaemonSets. They are not watched, because each change of a
//! DaemonSet's status would go to every node.
//!
//! A read of one DaemonSet costs a hundredth of a list. So the list is read at the start and then
//! rarely; in between, only DaemonSets are read that are waited for or whose pods appear without a
//! known owner. The file does not know requests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::daemonset::DaemonSetId;
use crate::core::verdict::DaemonSetStatus;

/// More DaemonSets than this are cheaper to read in one list.
const MOST_SINGLE: usize = 8;

/// The most owners that are remembered as absent.
const MOST_ABSENT: usize = 1000;

#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    ReadAll,
    ReadOne(Arc<DaemonSetId>),
    WaitUntil(Instant),
}

/// The pauses of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// `--failHc`
    pub fail: Duration,
    /// `--passHc`
    pub pass: Duration,
}

impl Periods {
    /// The pause before the first read of a DaemonSet that is waited for: most rollouts end before.
    fn first_read(&self, chance: f64) -> Duration {
        between(self.fail, 0.5, 1.0, chance)
    }

    /// The pause until the next read: 20 to 50 s by default, so that an annotation takes effect
    /// within a minute.
    fn next_read(&self, chance: f64) -> Duration {
        between(self.fail, 2.0, 5.0, chance)
    }

    /// The pause until the next list: 30 to 90 minutes by default.
    fn next_list(&self, chance: f64) -> Duration {
        between(self.pass, 30.0, 90.0, chance)
    }

    /// The pause after a number of failures in a row. Almost all of it is random: a failure of one
    /// node is a failure of all, and they must not retry together.
    pub fn after_failures(&self, count: u32, chance: f64) -> Duration {
        between(self.fail.saturating_mul(count.clamp(1, 3)), 0.1, 1.0, chance)
    }
}

/// The duration times a factor from `least` to `most`, saturating.
pub fn between(duration: Duration, least: f64, most: f64, chance: f64) -> Duration {
    let factor = least + (most - least) * chance;
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// The longest pause: an `Instant` cannot hold every sum.
const LONGEST_PAUSE: Duration = Duration::from_secs(366 * 24 * 3600);

fn after(now: Instant, pause: Duration) -> Instant {
    now + pause.min(LONGEST_PAUSE)
}

#[derive(Debug)]
pub struct RefreshSchedule {
    periods: Periods,
    /// No request before this moment.
    retry_at: Instant,
    failures: u32,
    next_list: Instant,
    last_list: Option<Instant>,
    /// The next read of the DaemonSets that are waited for.
    next_read: Option<Instant>,
    /// The last such read.
    last_read: Option<(Instant, Vec<Arc<DaemonSetId>>)>,
    /// The DaemonSets to read one by one.
    pending: BTreeSet<Arc<DaemonSetId>>,
    /// Owners of pods on this node that do not exist, have another UID, or were evicted.
    absent: BTreeSet<Arc<DaemonSetId>>,
}

impl RefreshSchedule {
    /// The first list is due now.
    pub fn new(periods: Periods, now: Instant) -> RefreshSchedule {
        RefreshSchedule {
            periods,
            retry_at: now,
            failures: 0,
            next_list: now,
            last_list: None,
            next_read: None,
            last_read: None,
            pending: BTreeSet::new(),
            absent: BTreeSet::new(),
        }
    }

    /// A pod on this node has an owner that is not known, or that did not want this node.
    pub fn add_unknown_owner(&mut self, owner: Arc<DaemonSetId>) {
        if !self.absent.contains(&owner) {
            self.pending.insert(owner);
        }
    }

    pub fn set_waiting(&mut self, waiting: &[DaemonSetStatus], now: Instant, chance: f64) {
        if waiting.is_empty() {
            self.next_read = None;
        } else if self.next_read.is_none() {
            // Otherwise a DaemonSet with flapping pods would be read for each flap, by all nodes.
            let last = self.last_read_of(waiting).max(self.last_list);
            let earliest = last.map(|last| after(last, self.periods.next_read(chance)));
            let first = after(now, self.periods.first_read(chance));
            self.next_read = Some(earliest.map_or(first, |earliest| earliest.max(first)));
        }
    }

    fn last_read_of(&self, waiting: &[DaemonSetStatus]) -> Option<Instant> {
        let (at, ids) = self.last_read.as_ref()?;
        waiting.iter().all(|status| ids.contains(&status.id)).then_some(*at)
    }

    /// The next task while these DaemonSets are waited for.
    pub fn poll(&mut self, waiting: &[DaemonSetStatus], now: Instant, chance: f64) -> Task {
        if now < self.retry_at {
            return Task::WaitUntil(self.retry_at);
        }
        let list_is_fresh =
            self.last_list.is_some_and(|at| now.saturating_duration_since(at) < self.periods.fail);
        if self.next_list <= now || (self.pending.len() > MOST_SINGLE && !list_is_fresh) {
            return Task::ReadAll;
        }
        if self.pending.is_empty() && self.next_read.is_some_and(|at| at <= now) {
            if waiting.len() > MOST_SINGLE {
                // The list stays due until it succeeds. Otherwise, once no DaemonSet is waited for,
                // no request would clear the error.
                self.next_list = now;
                return Task::ReadAll;
            }
            let ids: Vec<_> = waiting.iter().map(|status| Arc::clone(&status.id)).collect();
            self.pending.extend(ids.iter().cloned());
            self.last_read = Some((now, ids));
            self.next_read = Some(after(now, self.periods.next_read(chance)));
        }
        match (self.pending.first(), self.next_read) {
            (Some(id), _) => Task::ReadOne(Arc::clone(id)),
            (None, Some(at)) => Task::WaitUntil(at.min(self.next_list)),
            (None, None) => Task::WaitUntil(self.next_list),
        }
    }

    /// A list has succeeded, and these owners are still unknown.
    pub fn finish_list(&mut self, unknown: BTreeSet<Arc<DaemonSetId>>, now: Instant, chance: f64) {
        (self.failures, self.last_list) = (0, Some(now));
        self.next_list = after(now, self.periods.next_list(chance));
        if self.next_read.is_some() {
            self.next_read = Some(after(now, self.periods.next_read(chance)));
        }
        self.pending.clear();
        unknown.into_iter().for_each(|owner| self.add_unknown_owner(owner));
    }

    /// A read of one DaemonSet has succeeded. `is_known` is false if the DaemonSet does not exist
    /// or has another UID.
    pub fn finish_read(&mut self, id: &Arc<DaemonSetId>, is_known: bool) {
        self.failures = 0;
        self.pending.remove(id);
        if !is_known {
            if self.absent.len() >= MOST_ABSENT {
                self.absent.clear();
            }
            self.absent.insert(Arc::clone(id));
        }
    }

    /// A request has failed. `retry_after` is the least pause that the server asks for.
    pub fn fail(&mut self, retry_after: Duration, now: Instant, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.periods.after_failures(self.failures, chance);
        self.retry_at = after(now, pause.max(retry_after));
    }
}

#[cfg(test)]
mod tests;
