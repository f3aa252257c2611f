//! What waiting costs: a herd of real inits, a long line of holders, the hand-over from one to the next.
//!
//! Each is a file, which measures and says what it found; here they become a section. Goals are
//! compared by the median; since whoever measures shares the cores with what is measured, only a
//! wide miss is a broken promise.

mod handover;
mod herd;
mod line;

use crate::Options;
use crate::machine;
use crate::results::Section;

/// A goal, what was measured, and how far off breaks the promise.
struct Goal {
    what: &'static str,
    unit: &'static str,
    measured: f64,
    goal: f64,
    broken: f64,
}

pub fn run(options: &Options) -> Result<Section, String> {
    let mut text = machine::described("leases", &options.lock);
    let mut goals = Vec::new();
    for part in [herd::run, line::run, handover::run] {
        let (words, met) = part(options)?;
        text += &words;
        goals.extend(met);
    }
    text += "\n### Goals\n\n";
    text.extend(goals.iter().map(Goal::line));
    Ok(Section { title: "Leases", text, broken: goals.iter().filter_map(Goal::broken).collect() })
}

impl Goal {
    fn line(&self) -> String {
        let Goal { what, unit, measured, goal, broken } = self;
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        format!("- {what}: {measured:.2}{unit}, goal {goal}{unit}: {verdict} (the command fails from {broken}{unit})\n")
    }

    fn is_met(&self) -> bool {
        self.measured <= self.goal
    }

    /// Also where nothing was measured, which is no number.
    fn broken(&self) -> Option<String> {
        let is_kept = self.measured < self.broken;
        (!is_kept).then(|| format!("leases, {}", self.line().trim_start_matches("- ").trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals() {
        for (measured, verdict, is_broken) in [
            (20.0, "20.00 ms, goal 20 ms: met", false),
            (20.01, "20.01 ms, goal 20 ms: MISSED", false),
            (100.0, "100.00 ms, goal 20 ms: MISSED", true),
            (f64::NAN, "NaN ms, goal 20 ms: MISSED", true),
        ] {
            let goal = Goal { what: "hand-over", unit: " ms", measured, goal: 20.0, broken: 100.0 };
            let line = goal.line();
            assert_eq!(line, format!("- hand-over: {verdict} (the command fails from 100 ms)\n"));
            assert_eq!(goal.broken(), is_broken.then(|| format!("leases, {}", line[2..].trim_end())));
        }
    }
}
