//! What all threads share: the leases, the gate and the counts, behind one mutex.
//!
//! One is enough: whoever holds it only computes, for microseconds, and never waits for a client,
//! a disk or an endpoint. [`State`] itself is pure; the time is an argument.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use psl::metrics::Histogram;

use crate::config::{Config, Rules};
use crate::gate::{Gate, Verdict};
use crate::lease::{Lease, Leases, Taken};

/// A request for a lease, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The duration that it names.
    pub duration: Option<Duration>,
    /// The node that it comes from.
    pub node: Option<String>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has a lease of this duration.
    Granted {
        /// How long the lease lasts.
        duration: Duration,
        /// It asked for more.
        is_cut: bool,
        /// The checks fail, but have held back for long enough.
        is_overridden: bool,
    },
    /// It asked for nothing but whether a slot is free, and one is.
    Free,
    /// All slots are taken; the first will be free after this.
    Busy {
        /// Until the first slot is free.
        free_in: Duration,
        /// It asked for nothing but whether a slot is free.
        is_probe: bool,
    },
    /// The checks do not let anybody start.
    GateClosed {
        /// One for each endpoint that is not up.
        reasons: Vec<String>,
        /// Until the next round of checks, or until they hold nobody back any more.
        next_round_in: Duration,
        /// It asked for nothing but whether a slot is free.
        is_probe: bool,
    },
    /// It comes from another node.
    Misdirected {
        /// The node that it comes from.
        asks_for: String,
        /// The node of this lock.
        serves: String,
    },
}

/// How requests ended, as the metric has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A lease was granted.
    Granted,
    /// All slots were taken.
    Busy,
    /// The checks failed.
    GateClosed,
    /// Nothing but a question.
    Probe,
    /// Another node's.
    Misdirected,
    /// Not understood.
    Invalid,
}

impl Counted {
    /// In the order of [`Counts::requests`].
    pub const ALL: [(Counted, &str); 6] = [
        (Counted::Granted, "granted"),
        (Counted::Busy, "busy"),
        (Counted::GateClosed, "gate_closed"),
        (Counted::Probe, "probe"),
        (Counted::Misdirected, "misdirected"),
        (Counted::Invalid, "invalid"),
    ];
}

/// What has happened since the start.
#[derive(Clone, Debug)]
pub struct Counts {
    /// By [`Counted`].
    pub requests: [u64; Counted::ALL.len()],
    /// How long the leases were held that have ended.
    pub held: Histogram,
    /// Leases that ended by their deadline.
    pub expired: u64,
}

/// A copy to render after the mutex has been given back.
#[derive(Clone, Debug)]
pub struct View {
    /// Leases that may be held at the same time.
    pub slots: usize,
    /// Leases that are held.
    pub slots_in_use: usize,
    /// Some of them.
    pub leases: Vec<Lease>,
    /// The last round of checks.
    pub gate: Gate,
    /// What has happened so far.
    pub counts: Counts,
}

/// From half a second to the longest lease by default.
const HELD_BOUNDS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Leases, gate, counts.
#[derive(Debug)]
pub struct State {
    leases: Leases,
    /// Written by the checks alone.
    pub gate: Gate,
    counts: Counts,
}

impl State {
    /// All slots free.
    pub fn new(slots: usize, config: &Config, now: Instant) -> State {
        let endpoints = config.checks.endpoints.iter().map(ToString::to_string).collect();
        State {
            leases: Leases::new(slots),
            gate: Gate::new(endpoints, config.checks.max_hold, now),
            counts: Counts { requests: [0; 6], held: Histogram::new(HELD_BOUNDS), expired: 0 },
        }
    }

    /// Decides on a request, and counts it.
    pub fn ask(&mut self, ask: &Ask, rules: &Rules, now: Instant) -> Outcome {
        self.expire(now);
        let outcome = self.decide(ask, rules, now);
        self.count(counted(&outcome));
        outcome
    }

    /// Counts a request that has become nothing.
    pub fn count(&mut self, counted: Counted) {
        self.counts.requests[counted as usize] += 1;
    }

    /// What there is to see now; of the leases so many at most, those that end first.
    pub fn view(&mut self, now: Instant, most: usize) -> View {
        self.expire(now);
        View {
            slots: self.leases.slots(),
            slots_in_use: self.leases.count(),
            leases: self.leases.first_to_end(most),
            gate: self.gate.clone(),
            counts: self.counts.clone(),
        }
    }

    fn decide(&mut self, ask: &Ask, rules: &Rules, now: Instant) -> Outcome {
        if let (Some(asks_for), Some(serves)) = (&ask.node, &rules.node)
            && asks_for != serves
        {
            return Outcome::Misdirected { asks_for: asks_for.clone(), serves: serves.clone() };
        }
        let is_probe = ask.duration == Some(Duration::ZERO);
        let verdict = self.gate.verdict(now);
        if verdict == Verdict::Closed {
            let due = self.gate.overridden_at().map_or(self.gate.next_round(), |at| at.min(self.gate.next_round()));
            let next_round_in = due.saturating_duration_since(now);
            return Outcome::GateClosed { reasons: self.gate.reasons(), next_round_in, is_probe };
        }
        if is_probe {
            return match self.leases.free_at(now) {
                None => Outcome::Free,
                Some(at) => Outcome::Busy { free_in: at.saturating_duration_since(now), is_probe },
            };
        }
        let wanted = ask.duration.unwrap_or(rules.default);
        let duration = wanted.min(rules.longest);
        match self.leases.take(now, duration) {
            Taken::Granted(_) => {
                Outcome::Granted { duration, is_cut: duration < wanted, is_overridden: verdict == Verdict::Overridden }
            }
            Taken::Busy(until) => Outcome::Busy { free_in: until.saturating_duration_since(now), is_probe },
        }
    }

    fn expire(&mut self, now: Instant) {
        for lease in self.leases.expire(now) {
            self.counts.expired += 1;
            self.counts.held.observe(lease.deadline.saturating_duration_since(lease.since));
        }
    }
}

fn counted(outcome: &Outcome) -> Counted {
    match outcome {
        Outcome::Granted { .. } => Counted::Granted,
        Outcome::Free | Outcome::Busy { is_probe: true, .. } | Outcome::GateClosed { is_probe: true, .. } => {
            Counted::Probe
        }
        Outcome::Busy { .. } => Counted::Busy,
        Outcome::GateClosed { .. } => Counted::GateClosed,
        Outcome::Misdirected { .. } => Counted::Misdirected,
    }
}

/// The state as threads hold it.
#[derive(Debug)]
pub struct Shared(Mutex<State>);

impl Shared {
    /// Ready to be given to threads.
    pub fn new(state: State) -> Arc<Shared> {
        Arc::new(Shared(Mutex::new(state)))
    }

    /// No code that holds this lock can panic half-way through a change.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
