//! The pressure gate: whether the node is under too much pressure for another start.
//!
//! Pure. Pressure is that of the kernel (PSI): the share of the last ten seconds in which some task had
//! to wait for the resource. Readings and the time are arguments. Knows no waiters.
//!
//! Invariants:
//! - while the gate is closed and a waiter is parked, one start begins in each floor;
//! - a resource that closes the gate at its threshold opens it ten points lower, or at half of the
//!   threshold if that is more;
//! - a resource that cannot be read does not close the gate.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use psl::duration::Compact;

use crate::core::lease::after;

/// The pause between two readings: the kernel computes its averages every two seconds.
const PERIOD: Duration = Duration::from_secs(1);

/// An older reading says nothing about the present. No `Retry-After` under pressure is as long.
const MEMORY: Duration = Duration::from_secs(60);

/// The gate opens this many points below the threshold.
const POINTS: u8 = 10;

/// A resource that tasks wait for, by the kernel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A core.
    Cpu,
    /// A disk.
    Io,
    /// Pages that have to be freed or fetched.
    Memory,
}

impl Resource {
    /// In the order of [`Readings`], and the names of their files.
    pub const ALL: [(Resource, &str); 3] =
        [(Resource::Cpu, "cpu"), (Resource::Io, "io"), (Resource::Memory, "memory")];
}

/// Hundredths of a percent of the last ten seconds; `None` if a resource could not be read.
pub type Readings = [Option<u16>; Resource::ALL.len()];

/// The thresholds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Percent, by [`Resource`]; `None` for a resource without a threshold.
    pub thresholds: [Option<NonZeroU8>; Resource::ALL.len()],
    /// One start begins in this time, however high the pressure. Never zero.
    pub floor: Duration,
}

impl Limits {
    /// A resource has a threshold.
    pub fn is_on(&self) -> bool {
        self.thresholds.iter().any(Option::is_some)
    }
}

/// The state of the gate at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Starts may begin.
    Open,
    /// One start may begin, because none has for as long as the floor.
    One,
    /// No start may begin.
    Held {
        /// One may begin then at the latest.
        until: Instant,
    },
}

/// One resource for metrics and `/state`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Its name.
    pub name: &'static str,
    /// Percent; `None` if it was not or could not be read.
    pub percent: Option<f64>,
    /// It closes above this percentage.
    pub above: f64,
    /// And opens again at this one.
    pub opens_at: f64,
    /// It keeps the gate closed.
    pub holds: bool,
}

/// The gate with its last readings.
#[derive(Clone, Debug)]
pub struct Pressure {
    limits: Limits,
    last: Readings,
    read_at: Option<Instant>,
    /// The resources that keep the gate closed: above their threshold, and not low enough since.
    holds: [bool; Resource::ALL.len()],
    /// When the gate opened last.
    opened: Option<Instant>,
    /// Since when the gate has been closed without a start.
    held_since: Option<Instant>,
    /// The last start of the floor, and `held_since` before it.
    through: Option<(Instant, Instant)>,
    let_through: u64,
}

impl Pressure {
    /// Open, because nothing was read yet.
    pub fn new(limits: Limits) -> Pressure {
        Pressure {
            limits,
            last: Readings::default(),
            read_at: None,
            holds: Default::default(),
            opened: None,
            held_since: None,
            through: None,
            let_through: 0,
        }
    }

    /// A resource has a threshold.
    pub fn is_on(&self) -> bool {
        self.limits.is_on()
    }

    /// The last reading is too old for a decision.
    pub fn is_due(&self, now: Instant) -> bool {
        self.is_on() && self.age(now).is_none_or(|age| age >= PERIOD)
    }

    /// Records a reading. Returns whether the gate is closed now, if that has changed.
    pub fn read(&mut self, readings: Readings, now: Instant) -> Option<bool> {
        let was_held = self.holds.contains(&true);
        let is_old = self.age(now).is_none_or(|age| age >= MEMORY);
        for (at, reading) in readings.into_iter().enumerate() {
            let Some(threshold) = self.limits.thresholds[at] else { continue };
            let bound = match self.holds[at] && !is_old {
                true => opens_at(threshold),
                false => u16::from(threshold.get()) * 100,
            };
            self.holds[at] = reading.is_some_and(|reading| reading > bound);
        }
        (self.last, self.read_at) = (readings, Some(now));
        let is_held = self.holds.contains(&true);
        if is_held && (!was_held || self.held_since.is_none()) {
            // After a long opening the floor counts anew, because waiters have had time to start. A start may also
            // have begun by a reading that was too old to close the gate.
            let was_open =
                self.opened.is_none_or(|at| now.saturating_duration_since(at) >= self.limits.floor);
            self.held_since = self.held_since.filter(|_| !was_open).or(Some(now));
        } else if was_held && !is_held {
            self.opened = Some(now);
        }
        (is_held != was_held).then_some(is_held)
    }

    /// The state of the gate now.
    pub fn verdict(&self, now: Instant) -> Verdict {
        let is_old = self.age(now).is_none_or(|age| age >= MEMORY);
        let Some(since) = self.held_since.filter(|_| !is_old && self.holds.contains(&true)) else {
            return Verdict::Open;
        };
        let until = after(since, self.limits.floor);
        if until <= now { Verdict::One } else { Verdict::Held { until } }
    }

    /// A start begins.
    pub fn started(&mut self, now: Instant) {
        let since = self.held_since;
        self.held_since = match self.verdict(now) {
            Verdict::Open => None,
            Verdict::One | Verdict::Held { .. } => Some(now),
        };
        if let (Some(since), Some(_)) = (since, self.held_since) {
            self.through = Some((now, since));
            self.let_through += 1;
        }
    }

    /// The start of that instant was undone.
    pub fn undone(&mut self, start: Instant) {
        if let Some((_, since)) = self.through.take_if(|(at, _)| *at == start) {
            self.held_since = self.held_since.map(|_| since);
            self.let_through -= 1;
        }
    }

    /// The next reading, or the next start by the floor, while a waiter is there; always after `now`.
    pub fn next_event(&self, now: Instant) -> Option<Instant> {
        let read = self.is_on().then(|| self.read_at.map_or(now, |at| after(at, PERIOD)));
        let one = match self.verdict(now) {
            Verdict::Held { until } => Some(until),
            Verdict::Open | Verdict::One => None,
        };
        // A reading that is due does not hide the start that comes after it.
        read.into_iter().chain(one).filter(|at| *at > now).min()
    }

    /// One start begins in this time, however high the pressure.
    pub fn floor(&self) -> Duration {
        self.limits.floor
    }

    /// Starts of the floor.
    pub fn let_through(&self) -> u64 {
        self.let_through
    }

    /// The age of the last reading.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.read_at.map(|at| now.saturating_duration_since(at))
    }

    /// The resources with a threshold, by the last reading.
    pub fn seen(&self) -> impl Iterator<Item = Seen> {
        let all = Resource::ALL.iter().enumerate();
        all.filter_map(|(at, (_, name))| {
            let threshold = self.limits.thresholds[at]?;
            Some(Seen {
                name,
                percent: self.last[at].map(|hundredths| f64::from(hundredths) / 100.0),
                above: f64::from(threshold.get()),
                opens_at: f64::from(opens_at(threshold)) / 100.0,
                holds: self.holds[at],
            })
        })
    }

    /// The resources that keep the gate closed, for people.
    pub fn told(&self) -> String {
        let holding = self.seen().filter(|seen| seen.holds);
        let told: Vec<_> = holding
            .map(|seen| {
                let Seen { name, above, opens_at, .. } = seen;
                let percent = seen.percent.unwrap_or_default();
                format!("{name} {percent}% (closes above {above}%, opens at {opens_at}%)")
            })
            .collect();
        told.join(", ")
    }

    /// Why no start may begin, for answers; `None` if one may.
    pub fn reason(&self, now: Instant) -> Option<String> {
        let Verdict::Held { until } = self.verdict(now) else { return None };
        let left = until.saturating_duration_since(now).as_millis().div_ceil(1000);
        let left = Compact(Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX)));
        Some(format!(
            "the node is under pressure: {}; one starts in {left} at the latest",
            self.told()
        ))
    }
}

/// Hundredths of a percent. A node never falls to a pressure of ten points below a threshold of ten, so
/// that the gate would never open again.
fn opens_at(threshold: NonZeroU8) -> u16 {
    let threshold = threshold.get();
    (u16::from(threshold.saturating_sub(POINTS)) * 100).max(u16::from(threshold) * 50)
}

#[cfg(test)]
mod tests;
