//! The values that the threads share: the state of the cluster behind its mutex, and the verdict on
//! each change of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use psl::duration::with_jitter;
use psl::random;
use psl::sync;
use psl::text::one_line;

use crate::api::Api;
use crate::config::ClusterConfig;
use crate::core::api_error::ApiError;
use crate::core::boot::BootCheck;
use crate::core::daemonset::DaemonSetId;
use crate::core::log_throttle::{LogDecision, LogThrottle};
use crate::core::pod::Pod;
use crate::core::refresh_schedule::{Periods, RefreshSchedule};
use crate::core::status::{Source, Status};
use crate::core::verdict::Counts;
use crate::core::view::{Criteria, View};
use crate::machine;
use crate::status_cell::StatusCell;

/// Spreads the requests of nodes that start together.
pub const JITTER: f64 = 0.2;

/// The most that `Retry-After` may lengthen a pause.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The most reasons in a log line; `/state` has more.
const MOST_LOGGED: usize = 10;

/// The wait without a deadline.
pub const IDLE: Duration = Duration::from_secs(3600);

/// The values that the threads share.
pub struct Follower {
    pub config: ClusterConfig,
    pub periods: Periods,
    pub api: Api,
    pub status: Arc<StatusCell>,
    cluster: Mutex<ClusterState>,
    /// Notified after each verdict.
    pub changed: Condvar,
}

pub struct ClusterState {
    pub view: View,
    pub schedule: RefreshSchedule,
    pub throttle: LogThrottle,
    /// The moment at which the verdict or the log may change without an event.
    poll_at: Option<Instant>,
    /// The DaemonSets that a log line has named as too large.
    too_large: BTreeSet<Arc<DaemonSetId>>,
    /// The evicted DaemonSets and pods at the last check.
    evicted: (usize, usize),
}

impl ClusterState {
    pub fn add_pod(&mut self, pod: Pod) {
        if let Some(owner) = self.view.set_pod(pod) {
            self.schedule.add_unknown_owner(owner);
        }
    }

    /// Logs once that objects do not count because of the memory limit.
    pub fn log_limits(&mut self) {
        let too_large = self.view.daemonsets.too_large();
        if !too_large.is_subset(&self.too_large) {
            let names = too_large.iter().take(MOST_LOGGED);
            let names = names.map(|id| one_line(&format!("{}/{}", id.namespace(), id.name())));
            let (count, which) = (too_large.len(), names.collect::<Vec<_>>().join(", "));
            warn!(count, which; "memory limit exceeded: DaemonSets with large templates are ignored");
        }
        self.too_large = too_large;
        let (daemonsets, pods) = self.view.evicted();
        if daemonsets > 0 && self.evicted.0 == 0 {
            let count = daemonsets;
            warn!(count; "memory limit exceeded: DaemonSets of the largest namespaces are ignored");
        }
        if pods > 0 && self.evicted.1 == 0 {
            let count = pods;
            warn!(count; "memory limit exceeded: pods of the largest namespaces are ignored");
        }
        self.evicted = (daemonsets, pods);
    }
}

impl Follower {
    pub fn new(config: ClusterConfig, status: Arc<StatusCell>) -> Follower {
        let boot = BootCheck::new(config.boot_check, config.boot_grace, &machine::read());
        let criteria = Criteria {
            filter: config.filter.clone(),
            conditions: config.conditions,
            latch: config.latch,
        };
        let periods = Periods { fail: config.fail_period, pass: config.pass_period };
        let namespace = config.filter.as_ref().and_then(|filter| filter.namespace.clone());
        let counter = Arc::clone(&status);
        let on_response =
            Box::new(move |code| counter.update(|status| status.count_response(code)));
        let api = Api::new(config.server.clone(), config.node.to_string(), namespace, on_response);
        let cluster = Mutex::new(ClusterState {
            view: View::new(criteria, boot),
            schedule: RefreshSchedule::new(periods, now()),
            throttle: LogThrottle::new(now()),
            poll_at: None,
            too_large: BTreeSet::new(),
            evicted: (0, 0),
        });
        Follower { config, periods, api, status, cluster, changed: Condvar::new() }
    }

    pub fn lock(&self) -> MutexGuard<'_, ClusterState> {
        sync::lock(&self.cluster)
    }

    /// Changes the state of the cluster, and makes a new verdict.
    pub fn update(&self, change: impl FnOnce(&mut ClusterState)) {
        let mut cluster = self.lock();
        change(&mut cluster);
        self.judge(&mut cluster);
    }

    fn judge(&self, cluster: &mut ClusterState) {
        let machine = machine::read();
        cluster.poll_at = None;
        if let Some(verdict) = cluster.view.judge(&machine) {
            let now = now();
            cluster.schedule.set_waiting(verdict.waiting(), now, random::fraction());
            let counts = verdict.counts;
            let status = self.status.update(|status| {
                status.set_verdict(verdict);
                status.clone()
            });
            log_verdict(&mut cluster.throttle, &status, counts, now);
            let grace_end = cluster.view.changes_in(&machine).map(|left| now + left.min(IDLE));
            let deadlines = [grace_end, status.stale_at(now), cluster.throttle.poll_at()];
            cluster.poll_at = deadlines.into_iter().flatten().min();
        }
        self.changed.notify_all();
    }

    pub fn record_success(&self, source: Source) {
        if self.status.update(|status| status.record_success(source, now())) {
            info!("API server responds again");
            self.update(|_| ());
        }
    }

    pub fn record_failure(&self, source: Source, error: ApiError) {
        let why = error.full_text();
        if self.status.update(|status| status.record_failure(source, error, now())) {
            warn!(why; "API request failed");
            // The deadline of the stale verdict is new.
            self.update(|_| ());
        } else {
            debug!(why; "API request failed again");
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that waits between requests")]
    pub fn pause(&self, pause: Duration, retry_after: Option<Duration>) {
        thread::sleep(pause.max(retry_pause(retry_after, random::fraction())));
    }

    /// Makes a new verdict when time alone changes it: at the end of a grace period, when the
    /// verdict becomes stale, and when the log has room again. The other threads may wait for a
    /// response.
    pub fn judge_on_time(&self) {
        let mut cluster = self.lock();
        loop {
            let wait = match cluster.poll_at {
                Some(at) => at.saturating_duration_since(now()),
                None => IDLE,
            };
            if wait.is_zero() {
                self.judge(&mut cluster);
            } else {
                cluster = sync::wait_timeout(&self.changed, cluster, wait);
            }
        }
    }
}

/// The pause that a server asks for, lengthened at random: many nodes may get the same value at
/// once.
pub fn retry_pause(retry_after: Option<Duration>, chance: f64) -> Duration {
    let pause = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    with_jitter(pause, JITTER, chance)
}

/// Logs a verdict that differs from the last one.
fn log_verdict(throttle: &mut LogThrottle, status: &Status, counts: Counts, now: Instant) {
    let reasons = status.reasons(true, MOST_LOGGED, now);
    let Counts { waiting, ready, not_here, excluded } = counts;
    let why = reasons.join("; ");
    let changes = match throttle.observe(reasons, now) {
        LogDecision::Log(changes) => changes,
        LogDecision::Unchanged => return debug!(why; "verdict unchanged"),
        LogDecision::Later => return debug!(why; "verdict changed too often to be logged"),
    };
    if changes > 1 {
        info!(count = changes; "verdict changed several times since the last line");
    }
    if status.is_healthy(now) {
        info!(ready, not_here, excluded; "the node is healthy");
    } else {
        info!(waiting, ready, not_here, excluded, why; "the node is not healthy");
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}
