//! A goal of a part. Generator and program share the cores, so only a wide miss fails the command.

/// The command fails if `measured` reaches `broken`.
pub struct Goal {
    pub what: &'static str,
    pub unit: &'static str,
    pub measured: f64,
    pub goal: f64,
    pub broken: f64,
}

impl Goal {
    pub fn new(
        what: &'static str,
        unit: &'static str,
        measured: f64,
        goal: f64,
        broken: f64,
    ) -> Goal {
        Goal { what, unit, measured, goal, broken }
    }

    pub fn line(&self) -> String {
        let Goal { what, unit, measured, goal, broken } = self;
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        format!(
            "- {what}: {measured:.2}{unit}, goal {goal}{unit}: {verdict} (the command fails from {broken}{unit})\n"
        )
    }

    fn is_met(&self) -> bool {
        self.measured <= self.goal
    }

    /// A missing measurement is NaN, and fails.
    pub fn broken(&self, part: &str) -> Option<String> {
        let is_kept = self.measured < self.broken;
        (!is_kept).then(|| format!("{part}, {}", self.line().trim_start_matches("- ").trim_end()))
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
            assert_eq!(
                goal.broken("leases"),
                is_broken.then(|| format!("leases, {}", line[2..].trim_end()))
            );
        }
    }
}
