//! Whether the node is under too much pressure for another start: thresholds, readings and the time
//! in, a verdict out.
//!
//! Pure. Pressure is what the kernel calls so (PSI): the share of the last ten seconds in which some
//! task had to wait for the resource. Knows neither where readings come from nor who waits.
//!
//! Invariants:
//! - whoever asks without a break is never held back for longer than the floor without a start;
//! - what closed at its threshold opens ten points lower, or at half of it where that is more;
//! - a resource that cannot be read holds nobody back.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use psl::duration::Text;

use crate::core::lease::after;

/// The kernel works its averages out every two seconds.
const PERIOD: Duration = Duration::from_secs(1);

/// A reading this old says nothing of now; nobody who asks is told to stay away for so long.
const MEMORY: Duration = Duration::from_secs(60);

/// What closes at a threshold opens so many points lower.
const POINTS: u8 = 10;

/// What tasks wait for, as the kernel calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A core.
    Cpu,
    /// A disk.
    Io,
    /// Pages that have to be found or fetched.
    Memory,
}

impl Resource {
    /// In the order of [`Readings`], and the names of their files.
    pub const ALL: [(Resource, &str); 3] = [(Resource::Cpu, "cpu"), (Resource::Io, "io"), (Resource::Memory, "memory")];
}

/// Hundredths of a percent of the last ten seconds; nothing for what could not be read.
pub type Readings = [Option<u16>; Resource::ALL.len()];

/// What is too much.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Percent, by [`Resource`]; nothing for what is not looked at.
    pub thresholds: [Option<NonZeroU8>; Resource::ALL.len()],
    /// However high the pressure, one starts in this time. Never zero.
    pub floor: Duration,
}

impl Limits {
    /// Whether anything is looked at.
    pub fn is_on(&self) -> bool {
        self.thresholds.iter().any(Option::is_some)
    }
}

/// What it says at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Starts go on.
    Open,
    /// One may start, because none has for as long as the floor.
    One,
    /// None may.
    Held {
        /// One may then at the latest.
        until: Instant,
    },
}

/// One resource as it is seen from outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Its name.
    pub name: &'static str,
    /// Percent; nothing where it was not or could not be read.
    pub percent: Option<f64>,
    /// It closes above this percentage.
    pub above: f64,
    /// And opens again at this one.
    pub opens_at: f64,
    /// It holds starts back.
    pub holds: bool,
}

/// The last readings and what they have come to.
#[derive(Clone, Debug)]
pub struct Pressure {
    limits: Limits,
    last: Readings,
    read_at: Option<Instant>,
    /// Which have been above their threshold and not been low enough since.
    holds: [bool; Resource::ALL.len()],
    /// When it last began to let everybody in.
    opened: Option<Instant>,
    /// Since when it has held back without a start.
    held_since: Option<Instant>,
    /// The last start that the floor has let through, and what was `held_since` before it.
    through: Option<(Instant, Instant)>,
    let_through: u64,
}

impl Pressure {
    /// Open, for nothing has been read.
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

    /// Whether anything is looked at.
    pub fn is_on(&self) -> bool {
        self.limits.is_on()
    }

    /// Whether the last reading is too old to decide by.
    pub fn is_due(&self, now: Instant) -> bool {
        self.is_on() && self.age(now).is_none_or(|age| age >= PERIOD)
    }

    /// Takes note of a reading; says whether it holds starts back now, where that has changed.
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
            // Whoever waits has had time to start if it was open for long. One may also have started by a reading that
            // was too old to hold him.
            let was_open = self.opened.is_none_or(|at| now.saturating_duration_since(at) >= self.limits.floor);
            self.held_since = self.held_since.filter(|_| !was_open).or(Some(now));
        } else if was_held && !is_held {
            self.opened = Some(now);
        }
        (is_held != was_held).then_some(is_held)
    }

    /// What holds now.
    pub fn verdict(&self, now: Instant) -> Verdict {
        let is_old = self.age(now).is_none_or(|age| age >= MEMORY);
        let Some(since) = self.held_since.filter(|_| !is_old && self.holds.contains(&true)) else {
            return Verdict::Open;
        };
        let until = after(since, self.limits.floor);
        if until <= now { Verdict::One } else { Verdict::Held { until } }
    }

    /// Somebody starts.
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

    /// The start of that moment was none.
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

    /// However high the pressure, one starts in this time.
    pub fn floor(&self) -> Duration {
        self.limits.floor
    }

    /// Starts that the floor has let through.
    pub fn let_through(&self) -> u64 {
        self.let_through
    }

    /// How old the last reading is.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.read_at.map(|at| now.saturating_duration_since(at))
    }

    /// What is looked at, as it was read last.
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

    /// Which pressure holds starts back, for people.
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

    /// Why nobody may start, for whoever is told to wait; nothing where somebody may.
    pub fn reason(&self, now: Instant) -> Option<String> {
        let Verdict::Held { until } = self.verdict(now) else { return None };
        let left = until.saturating_duration_since(now).as_millis().div_ceil(1000);
        let left = Text(Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX)));
        Some(format!("the node is under pressure: {}; one starts in {left} at the latest", self.told()))
    }
}

/// Hundredths of a percent. Ten points below a threshold of ten or less is a pressure that a node
/// never falls to, so that the gate would shut once and for all.
fn opens_at(threshold: NonZeroU8) -> u16 {
    let threshold = threshold.get();
    (u16::from(threshold.saturating_sub(POINTS)) * 100).max(u16::from(threshold) * 50)
}

#[cfg(test)]
mod tests;
