//! The present status: the verdict, errors of the API server, the load and counters. It decides
//! whether the gate is open, and gives the reasons.
//!
//! The file does not know the threads that change the status or the format of answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::duration;

use crate::core::api_error::ApiError;
use crate::core::load::Load;
use crate::core::verdict::Verdict;

/// The most bytes of waiting DaemonSets in one answer: 64 clients may ask at once.
const MOST_NAMED_BYTES: usize = 16 * 1024;

/// A kind of object that is requested from the API server, by a thread of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Node,
    DaemonSets,
    Pods,
}

/// The verdict and its age.
#[derive(Clone, Debug)]
pub struct ApiStatus {
    /// `None` until every source has answered once.
    pub verdict: Option<Arc<Verdict>>,
    /// The last data from the API server.
    pub last_data: Option<Instant>,
    /// The sources that fail, each with the time of the first failure in a row.
    pub errors: BTreeMap<Source, (Instant, Arc<ApiError>)>,
    /// The verdict stands for this long while a source fails.
    pub stale_after: Duration,
}

impl ApiStatus {
    fn failing_since(&self) -> Option<Instant> {
        self.errors.values().map(|(since, _)| *since).min()
    }

    /// The last moment at which the verdict was certainly correct.
    pub fn last_success(&self) -> Option<Instant> {
        self.verdict.as_ref()?;
        let last_data = self.last_data?;
        Some(self.failing_since().map_or(last_data, |since| since.min(last_data)))
    }

    pub fn is_stale(&self, now: Instant) -> bool {
        let since = self.failing_since();
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.stale_after)
    }

    pub fn current_verdict(&self, now: Instant) -> Option<&Verdict> {
        self.verdict.as_deref().filter(|_| !self.is_stale(now))
    }

    pub fn error_texts(&self, is_local: bool) -> Vec<String> {
        self.errors.values().map(|(_, error)| error.text_for(is_local)).collect()
    }

    fn reasons(&self, is_local: bool, most: usize, now: Instant) -> Vec<String> {
        if let Some(verdict) = self.current_verdict(now) {
            return verdict_reasons(verdict, is_local, most);
        }
        let mut reasons = self.error_texts(is_local);
        if self.verdict.is_some() {
            let limit = duration::Compact(self.stale_after);
            reasons.push(format!(
                "verdict is stale: the API server has failed for more than {limit} (--stale-after)"
            ));
        } else if reasons.is_empty() {
            reasons.push("no response from the API server yet".to_owned());
        }
        reasons
    }
}

#[derive(Clone, Debug)]
pub struct Status {
    /// `None` if neither DaemonSets nor node conditions nor the load count.
    pub api: Option<ApiStatus>,
    /// `None` if the load does not count.
    pub load: Option<Load>,
    /// Responses by status; `None` counts requests without a response.
    pub requests: BTreeMap<Option<u16>, u64>,
    /// The watches that have ended so far.
    pub reconnects: u64,
}

impl Status {
    /// The status before the first response.
    pub fn new(stale_after: Option<Duration>, load: Option<Load>) -> Status {
        let api = stale_after.map(|stale_after| ApiStatus {
            verdict: None,
            last_data: None,
            errors: BTreeMap::new(),
            stale_after,
        });
        Status { api, load, requests: BTreeMap::new(), reconnects: 0 }
    }

    pub fn is_healthy(&self, now: Instant) -> bool {
        let verdict_is_healthy = match &self.api {
            Some(api) => api.current_verdict(now).is_some_and(Verdict::is_healthy),
            None => true,
        };
        verdict_is_healthy && self.load.as_ref().is_none_or(|load| load.is_open(now))
    }

    /// The moment at which the verdict becomes stale, if the failure lasts.
    pub fn stale_at(&self, now: Instant) -> Option<Instant> {
        let api = self.api.as_ref()?;
        api.failing_since()?.checked_add(api.stale_after).filter(|at| *at > now)
    }

    /// The reasons why the gate is closed. Only local clients see names, `most` of them.
    pub fn reasons(&self, is_local: bool, most: usize, now: Instant) -> Vec<String> {
        let mut reasons = match &self.api {
            Some(api) => api.reasons(is_local, most, now),
            None => Vec::new(),
        };
        if let Some(load) = self.load.as_ref().filter(|load| !load.is_open(now)) {
            reasons.extend(load.reason(is_local, now));
        }
        reasons
    }

    pub fn set_verdict(&mut self, verdict: Verdict) {
        if let Some(api) = &mut self.api {
            api.verdict = Some(Arc::new(verdict));
        }
    }

    pub fn count_response(&mut self, code: Option<u16>) {
        *self.requests.entry(code).or_default() += 1;
    }

    /// A source has answered. Returns whether it failed before.
    pub fn record_success(&mut self, source: Source, now: Instant) -> bool {
        let Some(api) = &mut self.api else { return false };
        api.last_data = Some(now);
        api.errors.remove(&source).is_some()
    }

    /// A source has failed. Returns whether the error is new.
    pub fn record_failure(&mut self, source: Source, error: ApiError, now: Instant) -> bool {
        let Some(api) = &mut self.api else { return false };
        let (since, is_new) = match api.errors.get(&source) {
            Some((since, last)) => (*since, last.cause != error.cause),
            None => (now, true),
        };
        api.errors.insert(source, (since, Arc::new(error)));
        is_new
    }
}

fn verdict_reasons(verdict: &Verdict, is_local: bool, most: usize) -> Vec<String> {
    let mut reasons = Vec::new();
    if verdict.node_is_old {
        reasons.push("node object is from before this boot".to_owned());
    }
    reasons.extend(verdict.node_problems.iter().cloned());
    match verdict.counts.waiting {
        _ if verdict.is_latched => {}
        0 => {}
        count if is_local => reasons.extend(waiting_reasons(verdict, count, most)),
        1 => reasons.push("1 DaemonSet is not ready on this node".to_owned()),
        count => reasons.push(format!("{count} DaemonSets are not ready on this node")),
    }
    reasons
}

/// A line for each waiting DaemonSet, as far as the limits allow, and a line with the number of
/// others.
fn waiting_reasons(verdict: &Verdict, count: usize, most: usize) -> Vec<String> {
    let mut bytes = 0;
    let mut reasons = Vec::new();
    for status in verdict.waiting().iter().take(most) {
        let reason = status.to_string();
        bytes += reason.len();
        if bytes >= MOST_NAMED_BYTES {
            break;
        }
        reasons.push(reason);
    }
    let others = count - reasons.len();
    if others > 0 {
        reasons.push(format!("and {others} more"));
    }
    reasons
}
