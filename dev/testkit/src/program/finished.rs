//! A program that has ended, with its whole output.

use std::fmt;
use std::time::Duration;

/// A program that has ended by itself or by a signal.
#[derive(Clone, Debug)]
pub struct Finished {
    pub command: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Finished {
    /// Panics with the whole output unless it ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Finished {
        assert_eq!(self.code, Some(code), "exit code\n{self}");
        self
    }

    /// The lines of stderr.
    pub fn lines(&self) -> Vec<String> {
        self.stderr.lines().map(str::to_string).collect()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code} after {:?}", self.took),
            (None, signal) => format!("ended by signal {signal:?} after {:?}", self.took),
        };
        report(f, &self.command, &state, &self.stdout, &self.stderr)
    }
}

pub(super) fn report(
    f: &mut fmt::Formatter<'_>,
    command: &str,
    state: &str,
    stdout: &str,
    stderr: &str,
) -> fmt::Result {
    write!(f, "command: {command}\nstatus: {state}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
}
