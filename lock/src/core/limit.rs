//! The automatic concurrency limit: how many leases may begin now, for `--locks auto`.
//!
//! 1. The floor is one start for each online core, whatever the load of others. Only stalls of
//!    memory or of a disk go below it, down to one start.
//! 2. Above the floor, starts are admitted at the pace that the cores carry: cores divided by the
//!    CPU seconds of one start. More runnable threads than cores slow the pace, and [`CROWDED`] of
//!    them for each core stop it. Starts of more threads than there are cores slow it further.
//! 3. A start that began less than [`GAP`] ago may not have reached a core yet, so idle cores are
//!    no proof of room for it. [`UNSEEN`] such starts for each core are the most above the floor.
//! 4. If the counters cannot be read or stand still, the floor is the limit.
//! 5. If no start has begun for [`STALE`], one more begins above the floor at any number of
//!    runnable threads: image pulls and starts that hang may have every lease. Not while memory or
//!    a disk stalls, and not without counters.
//!
//! The load of others is not charged to starts: the lowest load while waiters were parked is
//! subtracted before the rest is shared among the starts that ended.
//!
//! Readings and the time are arguments. The limit knows neither files nor holders.

mod cost;
mod load;
mod status;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cost::Cost;
use load::Load;
pub use load::Reading;
pub use status::{LimitStatus, Reason};

/// The pause between two readings: the kernel counts CPU time in steps of 10 ms.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Load is the mean of this time: long enough for a start that waits for its disk in
/// between, and short beside the kubelet's gap.
pub const SPAN: Duration = Duration::from_millis(500);

/// The kubelet's longest usual gap from a grant to the first CPU second of the application: 0.6 to
/// 0.8 s on an idle node, 2.5 s on an overloaded one.
pub const GAP: Duration = Duration::from_millis(2500);

/// Starts for each core that may be in their gap at the same time above the floor. Three that turn
/// out to cost two CPU seconds each take six seconds together.
pub const UNSEEN: f64 = 3.0;

/// The assumed cost of a start in CPU seconds until one has ended.
pub const FIRST_COST: f64 = 2.0;

/// The cost of a start is that of the last starts, this number for each core.
pub const REMEMBERED: f64 = 6.0;

/// Runnable threads for each core at which no start is admitted above the floor.
pub const CROWDED: f64 = 3.0;

/// After this time a reading, a cost or the last start is no evidence of the present.
pub const STALE: Duration = Duration::from_secs(30);

/// Sums of fractions may miss a whole start by this.
const ROUNDING: f64 = 1e-6;

/// How many leases may begin now beside the active ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub more: usize,
    /// When more may be possible without a reading or the end of a lease.
    pub next: Option<Instant>,
}

/// A start that has not ended.
#[derive(Clone, Copy, Debug)]
struct RecentStart {
    at: Instant,
    /// The part of the credit that the start took.
    paid: f64,
}

#[derive(Clone, Debug)]
pub struct Limit {
    cores: usize,
    most: usize,
    load: Load,
    cost: Cost,
    /// Starts that have not ended, oldest first.
    starts: VecDeque<RecentStart>,
    /// The times of the last two starts.
    last_starts: [Instant; 2],
    /// Starts that may begin above the floor. Negative after a crowd.
    credit: f64,
    credited_at: Instant,
}

impl Limit {
    /// For a node with this number of online cores, and never more than `most` leases.
    pub fn new(cores: usize, most: usize, now: Instant) -> Limit {
        let cores = cores.max(1);
        Limit {
            cores,
            most: most.max(1),
            load: Load::default(),
            cost: Cost::default(),
            starts: VecDeque::new(),
            last_starts: [now; 2],
            credit: cores as f64,
            credited_at: now,
        }
    }

    /// Records a grant. Leases from before a restart come first, in the order of their grants.
    pub fn add_start(&mut self, now: Instant) {
        self.advance(now);
        // A start of the floor takes the saved credit, and leaves no debt.
        let paid = self.credit.clamp(0.0, 1.0);
        self.credit -= paid;
        self.last_starts = [now, self.last_starts[0]];
        self.starts.push_back(RecentStart { at: now, paid });
        if self.starts.len() > self.most {
            self.starts.pop_front();
        }
    }

    /// Takes back the grant of this time: it was no start.
    pub fn undo_start(&mut self, at: Instant, now: Instant) {
        self.advance(now);
        let Some(start) = self.remove(at) else { return };
        self.credit += start.paid;
        if self.last_starts[0] == at {
            self.last_starts[0] = self.last_starts[1];
        }
    }

    /// Records the end of the lease that began at this time; `was_start` if the application became
    /// ready within it.
    pub fn end_start(&mut self, at: Instant, age: Duration, was_start: bool, now: Instant) {
        self.advance(now);
        self.remove(at);
        if was_start {
            self.cost.end(age, self.cores as f64);
        }
    }

    /// Of starts that began at the same time the last, which paid least.
    fn remove(&mut self, at: Instant) -> Option<RecentStart> {
        let nth = self.starts.iter().rposition(|start| start.at == at)?;
        self.starts.remove(nth)
    }

    /// Records a reading of the node; `None` if it cannot be read.
    pub fn read(&mut self, reading: Option<Reading>, active: usize, now: Instant) {
        self.advance(now);
        self.cores = reading.map_or(self.cores, |reading| reading.cores.max(1));
        let used = self.load.read(reading, now);
        let age = |start: &RecentStart| now.saturating_duration_since(start.at).as_secs_f64();
        let ages: Vec<f64> = self.starts.iter().rev().take(active).map(age).collect();
        self.cost.learn(used, self.load.mean(), &ages, self.cores as f64);
    }

    /// The counters cannot be read, or stand still.
    pub fn is_blind(&self) -> bool {
        self.load.is_blind()
    }

    /// When to read the node again while the gates are open for a waiter.
    pub fn next_reading(&self, now: Instant) -> Instant {
        self.load.read_at().map_or(now, |at| at + PERIOD)
    }

    /// How many leases may begin now beside `active` ones. Call [`Limit::advance`] before.
    pub fn quota(&self, active: usize, now: Instant) -> Quota {
        let below = self.floor().saturating_sub(active);
        let above = if self.is_paced() { self.above_floor(active, now) } else { 0 };
        let more = below.max(above).min(self.most.saturating_sub(active));
        let next = if more == 0 && active < self.most { self.next(now) } else { None };
        Quota { more, next }
    }

    /// One for each core, or one in all while memory or a disk stalls.
    fn floor(&self) -> usize {
        if self.load.is_stalled() { 1 } else { self.cores.min(self.most) }
    }

    /// More starts than the floor may be admitted.
    fn is_paced(&self) -> bool {
        !self.load.is_stalled() && !self.load.is_blind()
    }

    fn above_floor(&self, active: usize, now: Instant) -> usize {
        let is_open = self.load.mean().is_some() && self.pace() > 0.0;
        let saved = if is_open { self.credit_at(now) } else { 0.0 };
        let paced = ((saved + ROUNDING).max(0.0) as usize)
            .min(self.most_unseen().saturating_sub(self.unseen(now)));
        paced.max(usize::from(active > 0 && self.owed_at() <= now))
    }

    /// The most starts above the floor that may not have reached a core yet.
    fn most_unseen(&self) -> usize {
        (UNSEEN * self.cores as f64) as usize
    }

    /// Starts that may not have reached a core yet.
    fn unseen(&self, now: Instant) -> usize {
        let is_unseen = |start: &&RecentStart| now.saturating_duration_since(start.at) < GAP;
        self.starts.iter().rev().take_while(is_unseen).count()
    }

    /// When one more start begins at any load.
    fn owed_at(&self) -> Instant {
        self.last_starts[0] + STALE
    }

    /// When the next start may begin at the latest, if the load stays the same.
    fn next(&self, now: Instant) -> Option<Instant> {
        if !self.is_paced() {
            return None;
        }
        let missing = (1.0 - self.credit_at(now)).max(0.0);
        let saved = Duration::try_from_secs_f64(missing / self.pace()).unwrap_or(STALE);
        let gap_end = self.starts.iter().rev().nth(self.most_unseen().saturating_sub(1));
        let gap_end = gap_end.map_or(now, |start| start.at + GAP);
        // Before a whole span was read, no start is admitted above the floor.
        let known = if self.load.mean().is_some() { now } else { now + SPAN };
        let paced = (now + saved.min(STALE)).max(known).max(gap_end);
        // A reading may change the pace at any time; without one, asking again sooner has no
        // effect.
        Some(paced.min(self.owed_at()).max(now + Duration::from_millis(1)))
    }

    /// Starts a second that are admitted above the floor.
    fn pace(&self) -> f64 {
        self.speed().max(0.0)
    }

    /// The same, and the speed at which the credit falls in a crowd.
    fn speed(&self) -> f64 {
        let cores = self.cores as f64;
        let runnable = self.load.mean().map_or(0.0, |mean| mean.runnable) / cores;
        let left = (CROWDED - runnable) / (CROWDED - 1.0);
        left.clamp(-1.0, 1.0) * self.cost.carried_by(cores)
    }

    fn credit_at(&self, now: Instant) -> f64 {
        let cores = self.cores as f64;
        let since = now.saturating_duration_since(self.credited_at).as_secs_f64();
        (self.credit + self.speed() * since).clamp(-cores, cores)
    }

    /// Saves credit up to this time, and forgets readings and costs that are too old.
    pub fn advance(&mut self, now: Instant) {
        self.credit = self.credit_at(now);
        self.credited_at = self.credited_at.max(now);
        let Some(read_at) = self.load.read_at() else { return };
        let since = now.saturating_duration_since(read_at);
        if since >= GAP {
            self.load.forget();
        }
        if since >= STALE {
            self.cost = Cost::default();
        }
    }
}

#[cfg(test)]
mod tests;
