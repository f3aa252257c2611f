//! The pressure gate: whether the node is under too much pressure for another start.
//!
//! Pressure is that of the kernel (PSI): the share of the last ten seconds in which some task had
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

use crate::core::time::after;

/// The pause between two readings: the kernel computes its averages every two seconds.
const PERIOD: Duration = Duration::from_secs(1);

/// An older reading is no evidence of the present. No `Retry-After` under pressure is as long.
const MEMORY: Duration = Duration::from_secs(60);

/// The gate opens this many points below the threshold.
const POINTS: u8 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Io,
    Memory,
}

impl Resource {
    /// In the order of [`Readings`], with the names of their files.
    pub const ALL: [(Resource, &str); 3] =
        [(Resource::Cpu, "cpu"), (Resource::Io, "io"), (Resource::Memory, "memory")];
}

/// Hundredths of a percent of the last ten seconds; `None` if a resource could not be read.
pub type Readings = [Option<u16>; Resource::ALL.len()];

#[derive(Clone, Copy, Debug)]
pub struct PressureLimits {
    /// Percent, by [`Resource`]; `None` for a resource without a threshold.
    pub thresholds: [Option<NonZeroU8>; Resource::ALL.len()],
    /// One start begins in this time, however high the pressure. Never zero.
    pub floor: Duration,
}

impl PressureLimits {
    /// A resource has a threshold.
    pub fn is_on(&self) -> bool {
        self.thresholds.iter().any(Option::is_some)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PressureState {
    Open,
    /// One start may begin, because none has for as long as the floor.
    One,
    Closed {
        /// One start may begin then at the latest.
        until: Instant,
    },
}

/// One resource for metrics and `/state`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResourceStatus {
    pub name: &'static str,
    /// Percent; `None` before a first reading, and if the resource could not be read.
    pub percent: Option<f64>,
    pub closes_above: f64,
    pub opens_at: f64,
    /// It keeps the gate closed.
    pub closes_gate: bool,
}

/// The gate with its last readings.
#[derive(Clone, Debug)]
pub struct Pressure {
    limits: PressureLimits,
    last: Readings,
    read_at: Option<Instant>,
    /// The resources that keep the gate closed: above their threshold, and not low enough since.
    closing: [bool; Resource::ALL.len()],
    /// When the gate opened last.
    opened: Option<Instant>,
    /// Since when the gate has been closed without a start.
    closed_since: Option<Instant>,
    /// The last start of the floor, and `closed_since` before it.
    last_start: Option<(Instant, Instant)>,
    starts: u64,
}

impl Pressure {
    /// Open until a first reading.
    pub fn new(limits: PressureLimits) -> Pressure {
        Pressure {
            limits,
            last: Readings::default(),
            read_at: None,
            closing: Default::default(),
            opened: None,
            closed_since: None,
            last_start: None,
            starts: 0,
        }
    }

    /// The last reading is too old for a decision.
    pub fn is_due(&self, now: Instant) -> bool {
        self.limits.is_on() && self.age(now).is_none_or(|age| age >= PERIOD)
    }

    fn is_old(&self, now: Instant) -> bool {
        self.age(now).is_none_or(|age| age >= MEMORY)
    }

    /// Records a reading. Returns whether the gate is closed now, if that has changed.
    pub fn read(&mut self, readings: Readings, now: Instant) -> Option<bool> {
        let was_closed = self.closing.contains(&true);
        let is_old = self.is_old(now);
        for (at, reading) in readings.into_iter().enumerate() {
            let Some(threshold) = self.limits.thresholds[at] else { continue };
            let bound = match self.closing[at] && !is_old {
                true => opens_at(threshold),
                false => u16::from(threshold.get()) * 100,
            };
            self.closing[at] = reading.is_some_and(|reading| reading > bound);
        }
        (self.last, self.read_at) = (readings, Some(now));
        let is_closed = self.closing.contains(&true);
        if is_closed && (!was_closed || self.closed_since.is_none()) {
            // After a long opening the floor counts anew, because waiters have had time to start. A
            // start may also have begun while the last reading was too old to close the gate.
            let opened_for = self.opened.map(|at| now.saturating_duration_since(at));
            if opened_for.is_none_or(|time| time >= self.limits.floor) {
                self.closed_since = None;
            }
            self.closed_since.get_or_insert(now);
        } else if was_closed && !is_closed {
            self.opened = Some(now);
        }
        (is_closed != was_closed).then_some(is_closed)
    }

    fn state(&self, now: Instant) -> PressureState {
        match self.closed_since {
            Some(since) if !self.is_old(now) && self.closing.contains(&true) => {
                let until = after(since, self.limits.floor);
                if until <= now { PressureState::One } else { PressureState::Closed { until } }
            }
            _ => PressureState::Open,
        }
    }

    /// The end of the floor while the gate is closed: one start may begin then.
    pub fn closed_until(&self, now: Instant) -> Option<Instant> {
        match self.state(now) {
            PressureState::Closed { until } => Some(until),
            PressureState::Open | PressureState::One => None,
        }
    }

    /// Records that a start begins.
    pub fn start(&mut self, now: Instant) {
        let since = self.closed_since;
        self.closed_since = match self.state(now) {
            PressureState::Open => None,
            PressureState::One | PressureState::Closed { .. } => Some(now),
        };
        if let (Some(since), Some(_)) = (since, self.closed_since) {
            self.last_start = Some((now, since));
            self.starts += 1;
        }
    }

    /// Takes back the start of that instant.
    pub fn undo_start(&mut self, start: Instant) {
        if let Some((_, since)) = self.last_start.take_if(|(at, _)| *at == start) {
            self.closed_since = self.closed_since.map(|_| since);
            self.starts -= 1;
        }
    }

    /// The next reading, or the next start by the floor, while a waiter is parked; always after
    /// `now`.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        let is_on = self.limits.is_on();
        let read = is_on.then(|| self.read_at.map_or(now, |at| after(at, PERIOD)));
        // A reading that is due does not hide the start that comes after it.
        read.into_iter().chain(self.closed_until(now)).filter(|at| *at > now).min()
    }

    /// One start begins in this time, however high the pressure.
    pub fn floor(&self) -> Duration {
        self.limits.floor
    }

    /// Starts of the floor.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// The age of the last reading.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.read_at.map(|at| now.saturating_duration_since(at))
    }

    /// The resources with a threshold, by the last reading.
    pub fn resources(&self) -> impl Iterator<Item = ResourceStatus> {
        Resource::ALL.iter().enumerate().filter_map(|(at, (_, name))| {
            let threshold = self.limits.thresholds[at]?;
            Some(ResourceStatus {
                name,
                percent: self.last[at].map(|hundredths| f64::from(hundredths) / 100.0),
                closes_above: f64::from(threshold.get()),
                opens_at: f64::from(opens_at(threshold)) / 100.0,
                closes_gate: self.closing[at],
            })
        })
    }

    /// The resources that keep the gate closed, for people.
    pub fn description(&self) -> String {
        let mut parts = Vec::new();
        for resource in self.resources().filter(|resource| resource.closes_gate) {
            let ResourceStatus { name, closes_above, opens_at, .. } = resource;
            let percent = resource.percent.unwrap_or_default();
            parts.push(format!(
                "{name} {percent}% (closes above {closes_above}%, opens at {opens_at}%)"
            ));
        }
        parts.join(", ")
    }

    /// Why no start may begin, for answers; `None` if one may.
    pub fn reason(&self, now: Instant) -> Option<String> {
        let left = self.closed_until(now)?.saturating_duration_since(now).as_millis();
        let left = u64::try_from(left.div_ceil(1000)).unwrap_or(u64::MAX);
        let left = Compact(Duration::from_secs(left));
        let pressure = self.description();
        Some(format!(
            "the node is under pressure: {pressure}; one start begins in {left} at the latest"
        ))
    }
}

/// Hundredths of a percent. A node never falls to a pressure of ten points below a threshold of
/// ten, so that the gate would never open again.
fn opens_at(threshold: NonZeroU8) -> u16 {
    let threshold = threshold.get();
    (u16::from(threshold.saturating_sub(POINTS)) * 100).max(u16::from(threshold) * 50)
}

#[cfg(test)]
mod tests;
