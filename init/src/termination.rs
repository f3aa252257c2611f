//! The last words: how the wait ended, how long it took and why, for the log and for Kubernetes'
//! termination message, which `kubectl describe pod` shows.
//!
//! Whoever ends the program first, the wait or a signal, has the last word. Does not know what
//! leads to an end.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use psl::duration::Compact;
use psl::process::signals::Stop;
use psl::process::{DONE, FAILED};
use psl::sync;

use crate::wait::Bound;

/// Where the kubelet looks unless the manifest says otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// How the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The lease was granted.
    Acquired,
    /// A bound was reached, and the pod starts all the same.
    StartedWithout(Bound),
    /// A bound was reached, and the pod does not start.
    GaveUp(Bound),
    /// A signal came.
    Stopped(Stop),
}

impl Outcome {
    /// What the process ends with.
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Acquired | Outcome::StartedWithout(_) => DONE,
            Outcome::GaveUp(_) => FAILED,
            // Both codes fit.
            Outcome::Stopped(stop) => u8::try_from(stop.exit_code()).unwrap_or(FAILED),
        }
    }
}

/// What is known about the wait so far; copies share it.
#[derive(Clone)]
pub struct LastWords {
    start: Instant,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    reason: Option<String>,
    ended: bool,
}

impl LastWords {
    /// The wait starts now.
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
    pub fn begin() -> LastWords {
        LastWords { start: Instant::now(), known: Arc::default() }
    }

    /// The time since the start.
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
    pub fn waited(&self) -> Duration {
        self.start.elapsed()
    }

    /// Keeps the last reason for the end.
    pub fn remember(&self, reason: &str) {
        self.known().reason = Some(reason.to_owned());
    }

    /// Whether there is anything to say about why.
    pub fn knows_a_reason(&self) -> bool {
        self.known().reason.is_some()
    }

    /// Whether somebody has had the last word.
    pub fn is_over(&self) -> bool {
        self.known().ended
    }

    /// Writes a log line about the wait, unless the wait is over. The end waits for this call, so that no such
    /// line follows the last one; lines go to a queue, so that a slow reader does not block the end.
    pub fn before_the_end(&self, log: impl FnOnce()) {
        let known = self.known();
        if !known.ended {
            log();
        }
        drop(known);
    }

    /// Writes the termination message and the last line of the log; false if somebody had the last
    /// word already, who then also ends the program.
    pub fn end(&self, outcome: Outcome) -> bool {
        let waited = self.waited();
        let mut known = self.known();
        if std::mem::replace(&mut known.ended, true) {
            return false;
        }
        let reason = known.reason.take();
        let written =
            write_message(Path::new(TERMINATION_LOG), &message(outcome, waited, reason.as_deref()));
        drop(known);
        if let Err(error) = written {
            warn!(path = TERMINATION_LOG, error:% = error; "cannot write the termination message");
        }
        log_end(outcome, waited, reason.as_deref());
        true
    }

    /// Nothing that holds this lock can panic half-way through a change.
    fn known(&self) -> MutexGuard<'_, Known> {
        sync::lock(&self.known)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::MaxWait => "--max-wait",
            Bound::UnreachableWait => "--unreachable-wait",
        })
    }
}

fn name(stop: Stop) -> &'static str {
    match stop {
        Stop::Terminate => "SIGTERM",
        Stop::Interrupt => "SIGINT",
    }
}

/// One line, without its end: `kubectl` puts one there.
fn message(outcome: Outcome, waited: Duration, reason: Option<&str>) -> String {
    let waited = Compact::in_millis(waited);
    let how = match outcome {
        Outcome::Acquired => format!("lock acquired after {waited}"),
        Outcome::StartedWithout(bound) => {
            format!("started without the lock after {waited} ({bound})")
        }
        Outcome::GaveUp(bound) => format!("gave up waiting for the lock after {waited} ({bound})"),
        Outcome::Stopped(stop) => {
            format!("stopped by {} after {waited} without the lock", name(stop))
        }
    };
    match (outcome, reason) {
        (Outcome::Acquired, None) => how,
        (Outcome::Acquired, Some(reason)) => format!("{how}; before that: {reason}"),
        (_, Some(reason)) => format!("{how}; last reason: {reason}"),
        (_, None) => format!("{how}; no attempt was over yet"),
    }
}

/// Only into a file that is there: without Kubernetes nobody would look for it. And only a plain
/// file, because opening a pipe could block.
fn write_message(path: &Path, message: &str) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        _ => return Ok(()),
    }
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(message.as_bytes())
}

fn log_end(outcome: Outcome, waited: Duration, reason: Option<&str>) {
    let waited = Compact::in_millis(waited);
    let reason = reason.unwrap_or("none yet");
    match outcome {
        Outcome::Acquired => info!(waited:% = waited; "lock acquired"),
        Outcome::StartedWithout(bound) => {
            warn!(waited:% = waited, bound:% = bound, reason = reason; "starting without the lock");
        }
        Outcome::GaveUp(bound) => {
            error!(waited:% = waited, bound:% = bound, reason = reason; "gave up waiting for the lock");
        }
        Outcome::Stopped(stop) => {
            info!(signal = name(stop), waited:% = waited, reason = reason; "stopped")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let waited = Duration::from_micros(83_450_999);
        let reason = Some("423 Locked");
        for (outcome, reason, expected) in [
            (Outcome::Acquired, None, "lock acquired after 1m23.45s"),
            (Outcome::Acquired, reason, "lock acquired after 1m23.45s; before that: 423 Locked"),
            (
                Outcome::StartedWithout(Bound::MaxWait),
                reason,
                "started without the lock after 1m23.45s (--max-wait); last reason: 423 Locked",
            ),
            (
                Outcome::GaveUp(Bound::UnreachableWait),
                reason,
                "gave up waiting for the lock after 1m23.45s (--unreachable-wait); last reason: 423 Locked",
            ),
            (
                Outcome::Stopped(Stop::Terminate),
                None,
                "stopped by SIGTERM after 1m23.45s without the lock; no attempt was over yet",
            ),
        ] {
            assert_eq!(message(outcome, waited, reason), expected);
        }
    }

    #[test]
    fn exit_codes() {
        for (outcome, expected) in [
            (Outcome::Acquired, 0),
            (Outcome::StartedWithout(Bound::MaxWait), 0),
            (Outcome::GaveUp(Bound::MaxWait), 1),
            (Outcome::Stopped(Stop::Terminate), 143),
            (Outcome::Stopped(Stop::Interrupt), 130),
        ] {
            assert_eq!(outcome.exit_code(), expected, "{outcome:?}");
        }
    }

    #[test]
    fn the_message_goes_only_into_a_file_that_is_there() {
        let folder = std::env::temp_dir().join(format!("psl-init-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("termination-log");
        write_message(&file, "one").unwrap();
        assert!(!file.exists());
        fs::write(&file, "something longer").unwrap();
        write_message(&file, "one").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        write_message(&folder, "a folder is no file").unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
