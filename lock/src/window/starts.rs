//! What starts cost and how long leases last, as far as those tell that have ended.
//!
//! Pure. Knows neither how many may begin nor the time.

use std::time::Duration;

use super::load::SPAN;

/// CPU seconds that a start is thought to cost before the first ones were seen to burn.
pub const FIRST_COST: f64 = 2.0;

/// And each thread of the widest one after that; so much in all at least before one has ended, for it may go on, and
/// so much at most, for many threads are made for large machines and not for long.
pub const A_THREAD: f64 = 1.0;
pub const LEAST_GUESS: f64 = 1.5;
pub const MOST_GUESS: f64 = 2.5;

/// The guess counts as so many starts a core while the first ones end, and fades with so many of them a core: those that
/// are over first are the short ones.
const GUESSED_A_CORE: f64 = 0.5;
const FADED_A_CORE: f64 = 5.7;

/// No start is thought to be cheaper: the kernel counts hundredths of a second.
const LEAST_COST: f64 = 0.01;

/// The cost is that of the last so many starts a core, and of so many at least.
const REMEMBERED_A_CORE: f64 = 6.4;
const REMEMBERED: f64 = 8.0;

/// While the first starts end, those that still run count as this share of one: the CPU that they
/// have used is in the sum. After so many a core it no longer matters.
const UNFINISHED: f64 = 0.62;
const FIRST_A_CORE: f64 = 2.4;

/// A lease moves what is usual no further than if it had lasted so many times as long.
const OUTLIER: f64 = 2.0;

/// What a lease lasts that was not slowed down is the shortest that was seen; it is forgotten by this
/// share with each that took longer, and no lease makes it shorter than this share of what it was.
const FORGOTTEN: f64 = 0.01;
const SHORTER: f64 = 0.75;

/// A lease this many times as old as usual burns nothing.
pub const OLD: f64 = 5.0;

/// How wide starts are is forgotten by this share with each that ends.
const NARROWED: f64 = 0.02;

/// What runs besides must not be taken for one start without bound.
pub const WIDEST: f64 = 4.0;

/// What is known of the starts of a herd.
#[derive(Clone, Debug)]
pub struct Starts {
    /// CPU seconds, and leases that have ended: the older the less.
    busy: f64,
    ended: f64,
    /// All that have ended.
    total: f64,
    /// CPU seconds of one.
    pub cost: f64,
    /// Seconds that leases last.
    pub usual: Option<f64>,
    /// And the shortest of them, which was not slowed down.
    pub least: Option<f64>,
    /// Threads of the widest one lately, for each core; none were seen yet where it is zero.
    pub width: f64,
}

impl Starts {
    /// Nothing is known.
    pub fn unknown() -> Starts {
        Starts { busy: 0.0, ended: 0.0, total: 0.0, cost: FIRST_COST, usual: None, least: None, width: 0.0 }
    }

    /// Leases last so long.
    pub fn last(&mut self, age: Duration) {
        let age = age.as_secs_f64();
        let moved = age.min(OUTLIER * self.usual.unwrap_or(age));
        self.usual = Some(self.usual.map_or(age, |usual| usual * 0.75 + moved * 0.25));
        self.least = Some(match self.least {
            Some(least) if age >= least => least + (moved - least).max(0.0) * FORGOTTEN,
            Some(least) => age.max(SHORTER * least),
            None => age,
        });
    }

    /// So many are over whose CPU time is in the sum.
    pub fn end(&mut self, count: usize, cores: f64) {
        let keep = 1.0 - 1.0 / REMEMBERED.max(REMEMBERED_A_CORE * cores);
        for _ in 0..count {
            self.total += 1.0;
            self.width *= 1.0 - NARROWED;
            self.busy *= keep;
            self.ended = (self.ended + 1.0) * keep;
        }
    }

    /// So many CPU seconds were used.
    pub fn burn(&mut self, seconds: f64) {
        self.busy += seconds;
    }

    /// Starts were seen to burn with so many threads each, for each core.
    pub fn widen(&mut self, width: f64) {
        self.width = self.width.max(width).min(WIDEST);
    }

    /// What one costs, where leases of these ages are held; says how many of those burn nothing.
    pub fn weigh(&mut self, ages: impl Iterator<Item = Duration>, cores: f64) -> usize {
        // Shorter ones are over before their age tells anything.
        let Some(usual) = self.usual.map(|usual| usual.max(SPAN.as_secs_f64())) else {
            self.cost = self.guess(cores);
            return 0;
        };
        let (mut unfinished, mut old) = (0.0, 0);
        for age in ages {
            let share = age.as_secs_f64() / usual;
            unfinished += UNFINISHED * share.min(1.0);
            old += usize::from(share > OLD);
        }
        let left_of = |a_core: f64| (1.0 - self.total / (a_core * cores)).max(0.0);
        let guessed = GUESSED_A_CORE * cores * left_of(FADED_A_CORE);
        let starts = self.ended + unfinished * left_of(FIRST_A_CORE) + guessed;
        let cost = (self.busy + guessed * self.guess(cores)) / starts.max(f64::MIN_POSITIVE);
        // None burns more than all cores while it lasts: what else runs does, when nothing ends.
        self.cost = cost.min(cores * usual).max(LEAST_COST);
        old
    }

    /// What one may cost, of which nothing is known but how many threads the widest had.
    pub fn guess(&self, cores: f64) -> f64 {
        if self.width == 0.0 {
            return FIRST_COST;
        }
        let least = if self.usual.is_none() { LEAST_GUESS } else { A_THREAD };
        (A_THREAD * self.width * cores).clamp(least, MOST_GUESS)
    }

    /// Leases that keep so many cores busy while one of them lasts.
    pub fn on_the_way(&self, cores: f64) -> f64 {
        self.least.map_or(0.0, |least| cores / self.cost * least)
    }
}
