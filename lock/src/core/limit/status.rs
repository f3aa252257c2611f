//! The limit's description of itself, for `/state`, metrics, answers and the log.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Limit, STALE};

/// Why no more leases may begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More leases may begin.
    Free,
    /// The node has CPU time for more, but the next start waits for the pace.
    Pace,
    /// Too many runnable threads.
    Busy,
    /// All tasks wait for memory, or for a disk.
    Stalled,
    /// The node's counters cannot be read, or stand still.
    Blind,
    /// The configured maximum is reached.
    Max,
}

impl Reason {
    /// With their names in metrics, `/state` and log, in the order of their metric.
    pub const ALL: [(Reason, &str); 6] = [
        (Reason::Free, "free"),
        (Reason::Pace, "pace"),
        (Reason::Busy, "busy"),
        (Reason::Stalled, "stalled"),
        (Reason::Blind, "blind"),
        (Reason::Max, "max"),
    ];

    pub fn name(self) -> &'static str {
        Reason::ALL[self as usize].1
    }
}

/// The limit at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitStatus {
    /// Leases that may be active now.
    pub limit: usize,
    /// Leases that may be active at any load.
    pub floor: usize,
    pub in_flight: usize,
    /// Starts per second that are admitted above the floor.
    pub pace: f64,
    /// Idle cores in the mean of the last half second with a waiter; `None` if it is not known.
    pub idle_cores: Option<f64>,
    pub cores: usize,
    /// Runnable threads in the same mean.
    pub runnable: Option<f64>,
    /// CPU seconds of one start.
    pub cost: f64,
    /// The time to the next start, if none ends and the load stays the same; `None` if a lease has
    /// to end first.
    pub next: Option<Duration>,
    pub reason: Reason,
}

impl Limit {
    pub fn status(&self, active: usize, now: Instant) -> LimitStatus {
        let quota = self.quota(active, now);
        let floor = self.floor();
        let mean = self.load.mean();
        let cores = self.cores as f64;
        let reason = match () {
            () if active >= self.most => Reason::Max,
            () if quota.more > 0 => Reason::Free,
            () if self.load.is_stalled() => Reason::Stalled,
            () if self.load.is_blind() => Reason::Blind,
            () if self.pace() == 0.0 => Reason::Busy,
            () => Reason::Pace,
        };
        LimitStatus {
            limit: active.saturating_add(quota.more).clamp(floor, self.most),
            floor,
            in_flight: active,
            pace: if self.is_paced() { self.pace() } else { 0.0 },
            idle_cores: mean.map(|mean| mean.idle.clamp(0.0, cores)),
            cores: self.cores,
            runnable: mean.map(|mean| mean.runnable),
            cost: self.cost.of_start(),
            next: match quota.more {
                0 => quota.next.map(|at| at.saturating_duration_since(now)),
                _ => Some(Duration::ZERO),
            },
            reason,
        }
    }
}

impl LimitStatus {
    /// The time until a waiter with `before` waiters before it is admitted above the floor, if the
    /// load stays the same.
    pub fn expected(&self, before: usize) -> Option<Duration> {
        let pause = Duration::try_from_secs_f64(1.0 / self.pace).unwrap_or(STALE).min(STALE);
        Some(self.next?.saturating_add(pause.saturating_mul(before as u32)))
    }
}

impl fmt::Display for LimitStatus {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let LimitStatus { floor, cores, .. } = *self;
        match self.reason {
            Reason::Free => return write!(f, "another start may begin now"),
            Reason::Max => return write!(f, "all slots are taken"),
            Reason::Pace => write!(f, "starts are paced")?,
            Reason::Busy => write!(f, "the node is busy")?,
            Reason::Stalled => {
                write!(f, "the node stalls on memory or a disk: {floor} start at a time")?;
            }
            Reason::Blind => write!(f, "the node's load is unknown: {floor} starts at a time")?,
        }
        if let (Reason::Pace | Reason::Busy, Some(idle)) = (self.reason, self.idle_cores) {
            write!(f, ": {idle:.1} of {cores} cores idle")?;
        }
        let Some(next) = self.next else {
            return write!(f, "; the next start begins when a lease ends");
        };
        // Whole seconds, rounded up.
        let seconds = next.as_millis().div_ceil(1000).max(1);
        // A higher load slows the pace, but on a busy node the time counts from the last start.
        let condition = match self.reason {
            Reason::Busy => "at the latest",
            _ => "if the load stays the same",
        };
        write!(f, "; the next start begins in {seconds}s {condition}")
    }
}
