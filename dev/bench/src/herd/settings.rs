//! The settings of the herd, and the scale between the node's time and the time of a run.

use std::path::PathBuf;
use std::time::Duration;

use pico_args::Arguments;

/// All times are a node's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Default: ten for each core.
    pub applications: Option<usize>,
    /// The CPU time of a start.
    pub start: Duration,
    /// From the end of init to the start of the application.
    pub latency: Duration,
    pub runs: usize,
    pub scale: Scale,
    /// The directory of the pictures.
    pub pictures: Option<PathBuf>,
    /// The remedies to run, by the names of their pictures; all if empty.
    pub only: Vec<String>,
}

/// A second of the node takes 1/`factor` s here. The cost of a process itself is not scaled.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    factor: u32,
}

impl Settings {
    pub fn take(arguments: &mut Arguments) -> Result<Settings, String> {
        let number = crate::number;
        let millis = |number: u32| Duration::from_millis(number.into());
        let list: Option<String> =
            arguments.opt_value_from_str("--only").map_err(|e| format!("--only: {e}"))?;
        // Zero is accepted: a kubelet without latency.
        let latency: Option<u32> =
            arguments.opt_value_from_str("--latency").map_err(|e| format!("--latency: {e}"))?;
        Ok(Settings {
            applications: number(arguments, "--applications")?.map(|number| number as usize),
            start: millis(number(arguments, "--cpu")?.unwrap_or(1_000)),
            latency: millis(latency.unwrap_or(800)),
            runs: number(arguments, "--runs")?.unwrap_or(3) as usize,
            scale: Scale { factor: number(arguments, "--factor")?.unwrap_or(10) },
            pictures: arguments
                .opt_value_from_str("--pictures")
                .map_err(|e| format!("--pictures: {e}"))?,
            only: list.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect(),
        })
    }

    pub fn takes(&self, picture: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == picture)
    }
}

impl Scale {
    pub fn here(self, node: Duration) -> Duration {
        node / self.factor
    }

    pub fn on_the_node(self, here: Duration) -> Duration {
        here * self.factor
    }

    /// For times that must not become too short.
    pub fn at_most(self, factor: u32) -> Scale {
        Scale { factor: self.factor.min(factor) }
    }

    pub fn factor(self) -> u32 {
        self.factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(words: &[&str]) -> Result<Settings, String> {
        let mut arguments = Arguments::from_vec(words.iter().map(Into::into).collect());
        let settings = Settings::take(&mut arguments)?;
        assert!(arguments.finish().is_empty(), "{words:?}");
        Ok(settings)
    }

    #[test]
    fn the_command_line() {
        let millis = Duration::from_millis;
        let default = taken(&[]).unwrap();
        assert_eq!((default.applications, default.runs, default.scale.factor()), (None, 3, 10));
        assert_eq!((default.start, default.latency), (millis(1_000), millis(800)));
        let words = [
            "--applications",
            "40",
            "--cpu",
            "500",
            "--latency",
            "0",
            "--runs",
            "1",
            "--factor",
            "4",
        ];
        let given = taken(&words).unwrap();
        assert_eq!((given.applications, given.runs, given.scale.factor()), (Some(40), 1, 4));
        assert_eq!((given.start, given.latency), (millis(500), Duration::ZERO));
        for (name, value) in
            [("applications", "0"), ("cpu", "0"), ("runs", "0"), ("factor", "0"), ("latency", "-1")]
        {
            assert!(taken(&[&format!("--{name}"), value]).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn a_few_alone() {
        assert!(taken(&[]).unwrap().takes("alike-none"));
        let two = taken(&["--only", "alike-none,disk-none"]).unwrap();
        let is_taken =
            ["alike-none", "disk-none", "threads-none", "none"].map(|name| two.takes(name));
        assert_eq!(is_taken, [true, true, false, false]);
    }

    #[test]
    fn a_second_of_the_node() {
        let scale = Scale { factor: 8 };
        assert_eq!(scale.here(Duration::from_secs(10)), Duration::from_millis(1250));
        assert_eq!(scale.on_the_node(Duration::from_millis(125)), Duration::from_secs(1));
        assert_eq!([4, 20].map(|most| scale.at_most(most).factor()), [4, 8]);
    }
}
