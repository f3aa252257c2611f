//! What is known at present: written by the one who asks the API, read by those who answer for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::api::Problem;
use crate::verdict::Verdict;

/// What the last round came to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// DaemonSets do not count, so there are no rounds.
    Off,
    /// The first round has not ended.
    NoneYet,
    /// The API gave no answer to judge by.
    Failed(Arc<Problem>),
    /// The last verdict is of this round.
    Judged,
}

/// What is known.
#[derive(Clone, Debug)]
pub struct Known {
    /// Of the last round.
    pub outcome: Outcome,
    /// The last verdict there was and when, also where rounds have failed since.
    pub last: Option<(Arc<Verdict>, Instant)>,
    /// Answers of the API by status; nothing stands for no answer.
    pub requests: BTreeMap<Option<u16>, u64>,
}

impl Known {
    /// What is known before the first round, or where there will be none.
    pub fn at_start(enabled: bool) -> Known {
        let outcome = if enabled { Outcome::NoneYet } else { Outcome::Off };
        Known { outcome, last: None, requests: BTreeMap::new() }
    }

    /// Whether the gate is open.
    pub fn is_healthy(&self) -> bool {
        match (&self.outcome, &self.last) {
            (Outcome::Off, _) => true,
            (Outcome::Judged, Some((verdict, _))) => verdict.is_healthy(),
            _ => false,
        }
    }

    /// Why the gate is shut, one cause each. DaemonSets, and what the API says of them, are told
    /// to `insiders` only; at most so many are named.
    pub fn reasons(&self, insiders: bool, most: usize) -> Vec<String> {
        match (&self.outcome, &self.last) {
            (Outcome::NoneYet, _) => vec!["no answer of the API yet".to_owned()],
            (Outcome::Failed(problem), _) if insiders => vec![problem.whole()],
            (Outcome::Failed(problem), _) => vec![problem.cause.clone()],
            (Outcome::Judged, Some((verdict, _))) => waiting(verdict, insiders, most),
            (Outcome::Off | Outcome::Judged, _) => Vec::new(),
        }
    }
}

fn waiting(verdict: &Verdict, insiders: bool, most: usize) -> Vec<String> {
    let waiting = verdict.waiting();
    match (waiting.len(), insiders) {
        (0, _) => Vec::new(),
        (1, false) => vec!["1 DaemonSet is not ready on this node".to_owned()],
        (count, false) => vec![format!("{count} DaemonSets are not ready on this node")],
        (count, true) => {
            let mut reasons: Vec<_> = waiting.iter().take(most).map(ToString::to_string).collect();
            if count > most {
                reasons.push(format!("and {} more", count - most));
            }
            reasons
        }
    }
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

    /// Notes what a round came to, and returns the whole as it is now.
    pub fn note(&self, result: Result<Verdict, Problem>, now: Instant) -> Known {
        let mut known = self.lock();
        match result {
            Ok(verdict) => {
                known.last = Some((Arc::new(verdict), now));
                known.outcome = Outcome::Judged;
            }
            Err(problem) => known.outcome = Outcome::Failed(Arc::new(problem)),
        }
        known.clone()
    }

    /// Counts an answer of the API, or that none came.
    pub fn count(&self, status: Option<u16>) {
        *self.lock().requests.entry(status).or_default() += 1;
    }

    /// No code that holds this lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
