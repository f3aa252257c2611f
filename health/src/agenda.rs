//! When to ask for DaemonSets, and for which: they are not watched, because each change of a
//! DaemonSet's status would go to every node.
//!
//! Asking for one costs a hundredth of asking for all, so all are asked for at the start and then
//! rarely; in between only those whose pods appear unknown, and those that are waited for. Pure:
//! time and chance are arguments. Does not know how one asks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::verdict::{Identity, Judged};

/// More than this many are cheaper in one list.
const MOST_SINGLE: usize = 8;

/// How many owners that there are no more are remembered.
const MOST_ABSENT: usize = 1000;

/// What to ask for next.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// All DaemonSets.
    All,
    /// The one of this namespace and name.
    One(Arc<Identity>),
    /// Nothing before this moment.
    Wait(Instant),
}

/// How often, as the settings have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// After a failure, and while the node is not healthy.
    pub fail: Duration,
    /// Once it is.
    pub pass: Duration,
}

impl Periods {
    /// Until the first look at what is waited for: most rollouts are over by then.
    fn first_look(&self, chance: f64) -> Duration {
        between(self.fail, 0.5, 1.0, chance)
    }

    /// The pause until the next read: with the defaults 20 to 50 s, so that an annotation acts within a minute.
    fn next_look(&self, chance: f64) -> Duration {
        between(self.fail, 2.0, 5.0, chance)
    }

    /// Until the next look at all: with the defaults an hour, give or take half of it.
    fn all(&self, chance: f64) -> Duration {
        between(self.pass, 30.0, 90.0, chance)
    }

    /// After so many failures in a row. The whole of the time is drawn by lot: what fails one node
    /// fails all, and they shall not come back together.
    pub fn after_failures(&self, count: u32, chance: f64) -> Duration {
        between(self.fail.saturating_mul(count.clamp(1, 3)), 0.1, 1.0, chance)
    }
}

/// The duration times a number between these two. What does not fit is as long as can be.
pub fn between(duration: Duration, least: f64, most: f64, chance: f64) -> Duration {
    let factor = least + (most - least) * chance;
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// The longest that anything is put off; the clock cannot hold every sum.
const FAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// What is due when.
#[derive(Debug)]
pub struct Agenda {
    periods: Periods,
    /// Not before this.
    retry: Instant,
    failures: u32,
    /// All of them.
    all: Instant,
    last_all: Option<Instant>,
    /// Those that are waited for.
    look: Option<Instant>,
    /// When they were last asked for one by one, and which.
    looked: Option<(Instant, Vec<Arc<Identity>>)>,
    /// One by one.
    pending: BTreeSet<Arc<Identity>>,
    /// Owners of pods here that do not exist, or not with this UID, or of which nothing is kept.
    absent: BTreeSet<Arc<Identity>>,
}

impl Agenda {
    /// All are due now.
    pub fn new(periods: Periods, now: Instant) -> Agenda {
        let (pending, absent) = Default::default();
        Agenda {
            periods,
            retry: now,
            failures: 0,
            all: now,
            last_all: None,
            look: None,
            looked: None,
            pending,
            absent,
        }
    }

    /// A pod of it is here, and nothing is known of it, or nothing that fits.
    pub fn is_unknown(&mut self, owner: Arc<Identity>) {
        if !self.absent.contains(&owner) {
            self.pending.insert(owner);
        }
    }

    /// These are waited for.
    pub fn waits(&mut self, waiting: &[Judged], now: Instant, chance: f64) {
        if waiting.is_empty() {
            self.look = None;
        } else if self.look.is_none() {
            let first = now + self.periods.first_look(chance).min(FAR);
            // One whose pods flap would else be asked for each time, by all nodes.
            let is_known =
                |looked: &&(_, Vec<_>)| waiting.iter().all(|judged| looked.1.contains(&judged.set));
            let last = self.looked.as_ref().filter(is_known).map(|(at, _)| *at).max(self.last_all);
            let next = last.map(|at| at + self.periods.next_look(chance).min(FAR));
            self.look = Some(next.map_or(first, |next| next.max(first)));
        }
    }

    /// What to ask for next, while these are waited for.
    pub fn next(&mut self, waiting: &[Judged], now: Instant, chance: f64) -> Task {
        if now < self.retry {
            return Task::Wait(self.retry);
        }
        let is_fresh =
            self.last_all.is_some_and(|at| now.saturating_duration_since(at) < self.periods.fail);
        if self.all <= now || (self.pending.len() > MOST_SINGLE && !is_fresh) {
            return Task::All;
        }
        if self.pending.is_empty() && self.look.is_some_and(|at| at <= now) {
            if waiting.len() > MOST_SINGLE {
                // Until it is answered: where it fails, nobody would learn that it is over once nothing is waited for.
                self.all = now;
                return Task::All;
            }
            let sets = waiting.iter().map(|judged| Arc::clone(&judged.set)).collect::<Vec<_>>();
            self.pending.extend(sets.iter().cloned());
            self.looked = Some((now, sets));
            self.look = Some(now + self.periods.next_look(chance).min(FAR));
        }
        match self.pending.first() {
            Some(one) => Task::One(Arc::clone(one)),
            None => Task::Wait(self.look.map_or(self.all, |look| look.min(self.all))),
        }
    }

    /// All have been asked for, and these owners are unknown all the same.
    pub fn has_all(&mut self, unknown: BTreeSet<Arc<Identity>>, now: Instant, chance: f64) {
        (self.failures, self.last_all) = (0, Some(now));
        self.all = now + self.periods.all(chance).min(FAR);
        self.look = self.look.map(|_| now + self.periods.next_look(chance).min(FAR));
        self.pending.clear();
        unknown.into_iter().for_each(|owner| self.is_unknown(owner));
    }

    /// One has been asked for, and is known by now, or does not exist, or not with this UID.
    pub fn has_one(&mut self, one: &Arc<Identity>, is_known: bool) {
        self.failures = 0;
        self.pending.remove(one);
        if !is_known {
            if self.absent.len() >= MOST_ABSENT {
                self.absent.clear();
            }
            self.absent.insert(Arc::clone(one));
        }
    }

    /// Asking has failed; the server may want a longer pause.
    pub fn has_failed(&mut self, retry_after: Duration, now: Instant, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.periods.after_failures(self.failures, chance).max(retry_after);
        self.retry = now + pause.min(FAR);
    }
}

#[cfg(test)]
mod tests;
