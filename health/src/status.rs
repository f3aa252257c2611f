//! What is known at present: written by those who ask the API, read by those who answer for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use psl::duration;
use psl::sync;

use crate::api::Problem;
use crate::load::Load;
use crate::verdict::Verdict;

/// The bound on the names of DaemonSets that are not ready, together: 64 clients may ask for them at once.
const MOST_BYTES: usize = 16 * 1024;

/// What is asked of the API, each by a thread of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// This node.
    Node,
    /// All DaemonSets, or one.
    DaemonSets,
    /// The pods on this node.
    Pods,
}

/// What the API has told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Nothing until all has been told once.
    pub verdict: Option<Arc<Verdict>>,
    /// When it last told anything.
    pub heard: Option<Instant>,
    /// What fails at present, and since when.
    pub troubles: BTreeMap<Source, (Instant, Arc<Problem>)>,
    /// How long the verdict stands while anything fails.
    pub stale_after: Duration,
}

impl Told {
    fn failing_since(&self) -> Option<Instant> {
        self.troubles.values().map(|(since, _)| *since).min()
    }

    /// Up to when the verdict is known to have been right; nothing where there is none.
    pub fn last_success(&self) -> Option<Instant> {
        let heard = self.heard.filter(|_| self.verdict.is_some())?;
        Some(self.failing_since().map_or(heard, |since| since.min(heard)))
    }

    /// Whether the API has failed for too long.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.failing_since()
            .is_some_and(|since| now.saturating_duration_since(since) >= self.stale_after)
    }

    /// The verdict, as long as it stands.
    pub fn standing(&self, now: Instant) -> Option<&Verdict> {
        self.verdict.as_deref().filter(|_| !self.is_stale(now))
    }

    /// What fails, to everybody or to `insiders`.
    pub fn problems(&self, insiders: bool) -> impl Iterator<Item = String> {
        self.troubles.values().map(move |(_, problem)| problem.told(insiders))
    }

    /// Why the gate is shut, one cause each; at most so many DaemonSets are named, to `insiders` only.
    fn reasons(&self, insiders: bool, most: usize, now: Instant) -> Vec<String> {
        if let Some(verdict) = self.standing(now) {
            return verdict_reasons(verdict, insiders, most);
        }
        let mut reasons: Vec<String> = self.problems(insiders).collect();
        if self.verdict.is_some() {
            let limit = duration::Compact(self.stale_after);
            reasons.push(format!(
                "the API has failed for longer than the {limit} that its last verdict stands"
            ));
        } else if reasons.is_empty() {
            reasons.push("no answer of the API yet".to_owned());
        }
        reasons
    }
}

/// What is known.
#[derive(Clone, Debug)]
pub struct Known {
    /// Nothing where nothing of it counts.
    pub told: Option<Told>,
    /// Nothing where it does not count.
    pub load: Option<Load>,
    /// Answers of the API by status; nothing stands for no answer.
    pub requests: BTreeMap<Option<u16>, u64>,
    /// Watches that were begun again.
    pub reconnects: u64,
}

impl Known {
    /// What is known before the first answer.
    pub fn at_start(stale_after: Option<Duration>, load: Option<Load>) -> Known {
        let told = |stale_after| Told {
            verdict: None,
            heard: None,
            troubles: BTreeMap::new(),
            stale_after,
        };
        Known { told: stale_after.map(told), load, requests: BTreeMap::new(), reconnects: 0 }
    }

    /// Whether the gate is open.
    pub fn is_healthy(&self, now: Instant) -> bool {
        let told = self.told.as_ref();
        let by_api = told.is_none_or(|told| told.standing(now).is_some_and(Verdict::is_healthy));
        by_api && self.load.as_ref().is_none_or(|load| load.is_open(now))
    }

    /// When the verdict will not stand any more, where the API fails until then.
    pub fn stale_at(&self, now: Instant) -> Option<Instant> {
        let told = self.told.as_ref()?;
        told.failing_since()?.checked_add(told.stale_after).filter(|at| *at > now)
    }

    /// Why the gate is shut, one cause each.
    pub fn reasons(&self, insiders: bool, most: usize, now: Instant) -> Vec<String> {
        let mut reasons =
            self.told.as_ref().map(|told| told.reasons(insiders, most, now)).unwrap_or_default();
        let load = self.load.as_ref().filter(|load| !load.is_open(now));
        reasons.extend(load.and_then(|load| load.reason(insiders, now)));
        reasons
    }
}

fn verdict_reasons(verdict: &Verdict, insiders: bool, most: usize) -> Vec<String> {
    let mut reasons = Vec::new();
    if verdict.node_is_old {
        reasons.push("the API still shows this node as it was before this boot".to_owned());
    }
    reasons.extend(verdict.node.iter().cloned());
    let count = if verdict.is_latched { 0 } else { verdict.counts.waiting };
    match (count, insiders) {
        (0, _) => {}
        (1, false) => reasons.push("1 DaemonSet is not ready on this node".to_owned()),
        (count, false) => reasons.push(format!("{count} DaemonSets are not ready on this node")),
        (count, true) => {
            let mut room = MOST_BYTES;
            let named =
                verdict.waiting().iter().take(most).map(ToString::to_string).take_while(|reason| {
                    room = room.saturating_sub(reason.len());
                    room > 0
                });
            let named: Vec<_> = named.collect();
            let more = count - named.len();
            reasons.extend(named);
            if more > 0 {
                reasons.push(format!("and {more} more"));
            }
        }
    }
    reasons
}

/// Where it is kept.
#[derive(Debug)]
pub struct Board {
    known: Mutex<Known>,
}

impl Board {
    /// Begins with this.
    pub fn new(known: Known) -> Board {
        Board { known: Mutex::new(known) }
    }

    /// A copy, so that nobody waits while an answer is written.
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    /// The verdict of last.
    pub fn verdict(&self) -> Option<Arc<Verdict>> {
        self.lock().told.as_ref()?.verdict.clone()
    }

    /// Notes what all that is known comes to.
    pub fn judged(&self, verdict: Verdict) {
        if let Some(told) = &mut self.lock().told {
            told.verdict = Some(Arc::new(verdict));
        }
    }

    /// Notes that the API has told something about this. Returns whether it failed before.
    pub fn well(&self, source: Source, now: Instant) -> bool {
        let mut known = self.lock();
        let Some(told) = &mut known.told else { return false };
        told.heard = Some(now);
        told.troubles.remove(&source).is_some()
    }

    /// Notes that it fails. Returns whether that is news.
    pub fn trouble(&self, source: Source, problem: Problem, now: Instant) -> bool {
        let mut known = self.lock();
        let Some(told) = &mut known.told else { return false };
        let (since, is_news) = match told.troubles.get(&source) {
            Some((since, known)) => (*since, known.cause != problem.cause),
            None => (now, true),
        };
        told.troubles.insert(source, (since, Arc::new(problem)));
        is_news
    }

    /// Changes what is known of the load.
    pub fn load(&self, change: impl FnOnce(&mut Load)) {
        if let Some(load) = &mut self.lock().load {
            change(load);
        }
    }

    /// Counts an answer of the API, or that none came.
    pub fn count(&self, status: Option<u16>) {
        *self.lock().requests.entry(status).or_default() += 1;
    }

    /// Counts a watch that is begun again.
    pub fn count_reconnect(&self) {
        self.lock().reconnects += 1;
    }

    /// No code that holds this lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Known> {
        sync::lock(&self.known)
    }
}
