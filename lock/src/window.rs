//! How many may start at a time: as many as keep the node busy, and no more.
//!
//! The rule, for `--locks auto`:
//!
//! 1. Each start costs CPU: what all cores have used while somebody waited, shared among the leases
//!    that have ended meanwhile. Nobody knows what a start costs before one is over; [`FIRST_COST`] is
//!    the guess, or a second for each thread once starts are seen to burn, and again when nobody has
//!    waited for a minute.
//! 2. The cores can carry as many starts a second as they have seconds for; starts are let in at that
//!    pace, after one a core at once. What is still on its way, between the grant and the start of
//!    the container, needs no guess then: it was let in at the pace at which it can be carried.
//! 3. When nothing ends for longer than leases usually take, the pace falls off: idle cores are no
//!    proof of room.
//! 4. Starts of more threads than there are cores take each other's time, so that fewer are let in.
//! 5. The window is two and a half times what keeps all cores busy while a lease lasts that was not slowed down, and
//!    one a core; until a first lease has ended it is the most there may be.
//! 6. Leases far older than usual are counted beside it: they pull an image, or hang, and burn nothing.
//! 7. While far more threads want to run than there are cores, or all that run wait for memory or a
//!    disk, nobody is let in, but for as many as keep the cores busy after the others have drained.
//! 8. Once a lease has ended, and until the cores have been busy, starts are let in faster.
//! 9. There is always room for one; and when none has begun for five times as long as leases usually
//!    last, and for half a minute, one more begins, so that what hangs does not keep everybody out.
//!
//! The pace and the window are those of a transport protocol that models its path (Cardwell et al.,
//! "BBR: Congestion-Based Congestion Control", 2016): the rate of the bottleneck, and what is on its
//! way at the shortest time there and back. They are clocked by leases, not by constants. A rate that
//! is raised while cores are idle, but for rule 8, runs away, since what is on its way cannot be seen.
//!
//! Pure: readings and the time are arguments. Knows neither files nor holders.

mod load;
mod starts;

use std::time::{Duration, Instant};

use crate::book::Room;
use crate::lease::after;

use load::Load;
pub use load::Reading;
pub use starts::FIRST_COST;
use starts::{OLD, Starts};

/// Between two looks, while somebody waits.
pub const PERIOD: Duration = Duration::from_millis(100);

/// What starts cost and last is forgotten when nobody has waited for so long: the next herd may be another one.
const MEMORY: Duration = Duration::from_secs(60);

/// And how busy the node was after so long.
const STALE: Duration = Duration::from_secs(10);

/// The pace falls off when nothing has ended for as long as leases usually last, and not before so many seconds.
const PATIENCE: f64 = 1.3;

/// So many times what keeps the cores busy.
const SPARE: f64 = 2.5;

/// More runnable threads a core than this, and the cores have more to do than they can.
pub const CROWDED: f64 = 2.25;

/// Even then so much of what keeps them busy may be on its way, and so many a core at most: what starts
/// were thought to cost may be wrong.
const NEXT: f64 = 0.85;
const NEXT_A_CORE: f64 = 3.5;

/// Whatever the node does, one more may begin when none has for as long as makes a lease old, and for so many seconds.
const LONGEST_PAUSE: f64 = 30.0;

/// Less of the CPU than this in use may be one start of several, and tells nothing of the others.
const BURNING: f64 = 0.6;

/// The pace is divided by how many times as many threads as cores a start has, to this power.
const WIDE: f64 = 0.35;

/// From the first lease that has ended until the cores have been busy, starts are let in so many times as fast.
const FIRST_PACE: f64 = 1.72;

/// A start is let in when all of it has been saved, but for what sums of fractions lose.
const NEARLY: f64 = 1e-6;

/// Above this share of the time in which all that was to be done waited for memory or a disk (the
/// kernel's "PSI - Pressure Stall Information", `full`), idle cores are no room.
const STALLED: f64 = 0.5;

/// The window as it is now, for those who look from outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Leases that may be held.
    pub slots: usize,
    /// Why it is so.
    pub why: Why,
    /// Share of the CPU that was idle in the last half second in which somebody waited.
    pub idle: f64,
    /// Threads that ran or wanted to, in the mean over it.
    pub runnable: f64,
    /// CPU seconds that a start costs.
    pub cost: f64,
    /// Starts a second that the cores are thought to carry.
    pub pace: f64,
    /// Seconds that a lease lasts that is not slowed down; nothing before one has ended.
    pub least: Option<f64>,
}

/// Why the window is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No lease has ended yet.
    Unknown,
    /// Starts cost so much, and last so long.
    Measured,
    /// More threads want to run than the cores can take, or all wait for memory or a disk.
    Crowded,
    /// The node cannot be looked at.
    Blind,
}

impl Why {
    /// In the order of their metric.
    pub const ALL: [(Why, &str); 4] =
        [(Why::Unknown, "unknown"), (Why::Measured, "measured"), (Why::Crowded, "crowded"), (Why::Blind, "blind")];

    /// As metrics, `/state` and log have it.
    pub fn name(self) -> &'static str {
        Why::ALL[self as usize].1
    }
}

/// The window has moved by half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// From so many.
    pub from: usize,
    /// To so many.
    pub to: usize,
    /// What it is now made of.
    pub why: Why,
}

/// How many leases may be held, and how fast they may begin.
#[derive(Clone, Debug)]
pub struct Window {
    cores: f64,
    most: usize,
    load: Load,
    starts: Starts,
    /// The node could not be looked at the last time.
    is_blind: bool,
    /// When it was looked at last, whatever came of it.
    looked_at: Option<Instant>,
    /// When a start ended last.
    taught_at: Option<Instant>,
    /// When a lease ended last, or the first began.
    quiet_since: Option<Instant>,
    /// Seconds that the first lease lasts where time alone ends them all.
    expected: Option<f64>,
    /// When the last began, and the one before.
    began_at: Option<Instant>,
    began_before: Option<Instant>,
    /// Leases that are held, and those of them that are far older than usual.
    held: usize,
    old: usize,
    /// Starts that have ended since the last look.
    unread: usize,
    /// Starts that may be let in at once, and when they were counted.
    saved: f64,
    counted_at: Option<Instant>,
    /// What was said of it last.
    told: usize,
}

impl Window {
    /// Before anything is known of the node but its cores.
    pub fn new(cores: usize, most: usize) -> Window {
        let cores = cores.max(1) as f64;
        Window {
            cores,
            most: most.max(1),
            load: Load::unknown(),
            starts: Starts::unknown(),
            is_blind: false,
            looked_at: None,
            taught_at: None,
            quiet_since: None,
            expected: None,
            began_at: None,
            began_before: None,
            held: 0,
            old: 0,
            unread: 0,
            saved: cores,
            counted_at: None,
            told: most.max(1),
        }
    }

    /// So many leases have begun.
    pub fn began(&mut self, count: usize, now: Instant) {
        if count == 0 {
            return;
        }
        if self.held == 0 {
            self.quiet_since = Some(now);
        }
        self.began_before = self.began_at.replace(now);
        // Who was let in because nobody else was leaves no debt.
        self.saved = (self.saved - count as f64).max(0.0);
    }

    /// None of the leases ends before it is so old, where that is known.
    pub fn expect(&mut self, age: Option<Duration>) {
        self.expected = age.map(|age| age.as_secs_f64());
    }

    /// A lease has ended that tells of no start; what is quiet is so from now on.
    pub fn gone(&mut self, now: Instant) {
        self.quiet_since = Some(now);
    }

    /// The one that began last was none: its answer could not be sent.
    pub fn undone(&mut self) {
        self.saved = (self.saved + 1.0).min(self.cores);
        self.began_at = self.began_before;
    }

    /// A lease has ended that was a start from beginning to end.
    pub fn ended(&mut self, age: Duration, now: Instant) {
        self.gone(now);
        self.starts.last(age);
        self.taught_at = Some(now);
        self.unread += 1;
    }

    /// A look at the node, while somebody waits; nothing where it could not be looked at. With the
    /// ages of the leases that are held.
    pub fn read(&mut self, reading: Option<Reading>, ages: impl Iterator<Item = Duration>, now: Instant) {
        self.looked_at = Some(now);
        self.is_blind = reading.is_none();
        // What starts have burnt that were over before this look is known only together with what was used before it.
        let ended = std::mem::take(&mut self.unread);
        let Some(reading) = reading else { return self.load.lose() };
        self.cores = reading.cores.max(1) as f64;
        let Some(burnt) = self.load.read(reading) else { return };
        self.starts.end(ended, self.cores);
        self.starts.burn(burnt);
        if self.load.is_full() && 1.0 - self.load.idle > BURNING {
            self.starts.widen(self.load.runnable / self.young().max(1.0) / self.cores);
        }
        self.old = self.starts.weigh(ages, self.cores);
    }

    /// What the time alone brings; so many leases are held now.
    pub fn pass(&mut self, held: usize, now: Instant) {
        self.forget(now);
        if held > 0 {
            // Those of before a restart began now at the latest.
            self.began_at.get_or_insert(now);
            self.quiet_since.get_or_insert(now);
        }
        let before = self.counted_at.replace(now).unwrap_or(now);
        let earned = self.pace(now) * now.saturating_duration_since(before).as_secs_f64();
        self.held = held;
        self.old = self.old.min(held);
        // A crowd saves nothing up: those who were let in meanwhile do not come back as a burst.
        let earned = if self.is_crowded() { 0.0 } else { earned };
        self.saved = (self.saved + earned).min(self.cores);
    }

    /// So long nobody has waited, and no lease has ended, that what is known is of another herd.
    fn forget(&mut self, now: Instant) {
        let Some(known_at) = self.looked_at.max(self.taught_at) else { return };
        let since = now.saturating_duration_since(known_at);
        if since >= STALE {
            self.load.lose();
        }
        if since >= MEMORY {
            (self.looked_at, self.taught_at) = (None, None);
            (self.load, self.starts, self.old) = (Load::unknown(), Starts::unknown(), 0);
        }
    }

    /// The most leases that may be held now, at least one.
    pub fn slots(&self) -> usize {
        if self.is_blind {
            return (self.cores as usize).clamp(1, self.most);
        }
        match self.starts.least {
            None => self.most,
            Some(_) => (SPARE * self.starts.on_the_way(self.cores) + self.cores).min(self.most as f64) as usize,
        }
        .saturating_add(self.old)
        .clamp(1, self.most)
    }

    /// How many may begin now, and when the next may.
    pub fn room(&self, now: Instant) -> Option<Room> {
        if self.is_blind {
            return None;
        }
        let each = lasting(1.0 / self.pace(now));
        let paced = if self.is_crowded() { 0 } else { (self.saved + NEARLY) as usize };
        let is_owed = self.held == 0 || self.owed_at().is_some_and(|at| at <= now);
        let more = paced.max(usize::from(is_owed));
        let missing = lasting((1.0 - self.saved).max(0.0) / self.pace(now));
        // A crowd may be over with the next reading.
        let next = if more > 0 { now } else { after(now, missing.max(PERIOD)) };
        Some(Room { more, next, each })
    }

    /// When the node is to be looked at again, while somebody waits.
    pub fn due(&self, now: Instant) -> Instant {
        self.looked_at.map_or(now, |at| after(at, PERIOD))
    }

    /// Why the window is what it is.
    pub fn why(&self) -> Why {
        match self.starts.least {
            _ if self.is_blind => Why::Blind,
            _ if self.is_crowded() => Why::Crowded,
            None => Why::Unknown,
            Some(_) => Why::Measured,
        }
    }

    /// What it was made of.
    pub fn seen(&self) -> Seen {
        let (slots, why) = (self.slots(), self.why());
        let (cost, pace) = (self.starts.cost, self.carried());
        Seen { slots, why, idle: self.load.idle, runnable: self.load.runnable, cost, pace, least: self.starts.least }
    }

    /// Where it has moved by half since this was asked last, from where, and to what.
    pub fn moved(&mut self) -> Option<Moved> {
        let (from, to) = (self.told, self.slots());
        let is_far = 2 * to >= 3 * from || 2 * to <= from;
        is_far.then(|| {
            self.told = to;
            Moved { from, to, why: self.why() }
        })
    }

    /// Leases that may burn something.
    fn young(&self) -> f64 {
        self.held.saturating_sub(self.old) as f64
    }

    fn is_crowded(&self) -> bool {
        let is_full = self.load.runnable > CROWDED * self.cores || self.load.stalled > STALLED;
        let next = (NEXT * self.starts.on_the_way(self.cores)).min(NEXT_A_CORE * self.cores);
        is_full && self.held > 0 && self.young() >= next
    }

    /// When one more may begin, whatever the node does.
    fn owed_at(&self) -> Option<Instant> {
        let longest = (OLD * self.starts.usual.unwrap_or(0.0)).max(LONGEST_PAUSE);
        Some(after(self.began_at?, lasting(longest)))
    }

    /// Starts a second that may begin now.
    fn pace(&self, now: Instant) -> f64 {
        self.slowed(now) * self.carried()
    }

    /// Starts a second that the cores are thought to carry.
    fn carried(&self) -> f64 {
        let faster = if self.starts.usual.is_some() && !self.load.was_busy { FIRST_PACE } else { 1.0 };
        faster * self.cores / self.starts.cost / self.starts.width.max(1.0).powf(WIDE)
    }

    /// The share of the pace that is left when nothing has ended for long.
    fn slowed(&self, now: Instant) -> f64 {
        let quiet = self.quiet_since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        let patience = self.starts.usual.or(self.expected).unwrap_or(0.0).max(PATIENCE);
        // Where nothing is held there is nothing that could end.
        if self.held > 0 && quiet > patience { patience / quiet } else { 1.0 }
    }
}

/// So many seconds, also where a duration cannot hold them.
fn lasting(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
