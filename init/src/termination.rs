//! The end of the wait: the last log line, and Kubernetes' termination message, which
//! `kubectl describe pod` shows.
//!
//! The wait and a signal may end the program at the same time; the first one reports its end.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::mem;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use psl::duration::Compact;
use psl::process::signals::StopSignal;
use psl::process::{DONE, FAILED};
use psl::sync;

use crate::core::wait::Bound;

/// The kubelet's default `terminationMessagePath`.
const TERMINATION_LOG: &str = "/dev/termination-log";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Granted,
    StartedWithoutLease(Bound),
    GaveUp(Bound),
    Stopped(StopSignal),
}

impl Ending {
    pub fn exit_code(self) -> u8 {
        match self {
            Ending::Granted | Ending::StartedWithoutLease(_) => DONE,
            Ending::GaveUp(_) => FAILED,
            // Both codes fit into a byte.
            Ending::Stopped(stop) => u8::try_from(stop.exit_code()).unwrap_or(FAILED),
        }
    }
}

/// Collects the termination message during the wait. Clones share it.
#[derive(Clone)]
pub struct TerminationMessage {
    start: Instant,
    progress: Arc<Mutex<WaitProgress>>,
}

#[derive(Default)]
struct WaitProgress {
    reason: Option<String>,
    has_ended: bool,
}

impl TerminationMessage {
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
    pub fn start() -> TerminationMessage {
        TerminationMessage { start: Instant::now(), progress: Arc::default() }
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn set_reason(&self, reason: &str) {
        sync::lock(&self.progress).reason = Some(reason.to_owned());
    }

    pub fn has_reason(&self) -> bool {
        sync::lock(&self.progress).reason.is_some()
    }

    pub fn has_ended(&self) -> bool {
        sync::lock(&self.progress).has_ended
    }

    /// Runs `log` unless the wait has ended. The end waits for it, so that no line about the wait
    /// follows the last line. Log lines go to a queue, so a slow reader does not delay the end.
    pub fn log_before_end(&self, log: impl FnOnce()) {
        let progress = sync::lock(&self.progress);
        if !progress.has_ended {
            log();
        }
        drop(progress);
    }

    /// Writes the termination message and the last log line. False if the wait has already ended;
    /// the thread that ended it also ends the program.
    pub fn end(&self, ending: Ending) -> bool {
        let waited = self.elapsed();
        let mut progress = sync::lock(&self.progress);
        if mem::replace(&mut progress.has_ended, true) {
            return false;
        }
        let reason = progress.reason.take();
        let text = message(ending, waited, reason.as_deref());
        let written = write_message(Path::new(TERMINATION_LOG), &text);
        drop(progress);
        if let Err(error) = written {
            warn!(path = TERMINATION_LOG, error:% = error; "cannot write the termination message");
        }
        log_end(ending, waited, reason.as_deref());
        true
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

fn signal_name(stop: StopSignal) -> &'static str {
    match stop {
        StopSignal::Terminate => "SIGTERM",
        StopSignal::Interrupt => "SIGINT",
    }
}

/// One line without a line break, which `kubectl` adds.
fn message(ending: Ending, waited: Duration, reason: Option<&str>) -> String {
    let waited = Compact::in_millis(waited);
    let result = match ending {
        Ending::Granted => format!("lock acquired after {waited}"),
        Ending::StartedWithoutLease(bound) => {
            format!("started without the lock after {waited} ({bound})")
        }
        Ending::GaveUp(bound) => format!("gave up waiting for the lock after {waited} ({bound})"),
        Ending::Stopped(stop) => {
            format!("stopped by {} after {waited} without the lock", signal_name(stop))
        }
    };
    match (ending, reason) {
        (Ending::Granted, None) => result,
        (Ending::Granted, Some(reason)) => format!("{result}; before that: {reason}"),
        (_, Some(reason)) => format!("{result}; last reason: {reason}"),
        (_, None) => format!("{result}; no attempt finished"),
    }
}

/// Writes only to a plain file that exists: outside of Kubernetes the message has no reader, and
/// opening a pipe could block.
fn write_message(path: &Path, message: &str) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        _ => return Ok(()),
    }
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(message.as_bytes())
}

fn log_end(ending: Ending, waited: Duration, reason: Option<&str>) {
    let waited = Compact::in_millis(waited);
    let reason = reason.unwrap_or("no attempt finished");
    match ending {
        Ending::Granted => info!(waited:% = waited; "lock acquired"),
        Ending::StartedWithoutLease(bound) => {
            warn!(waited:%, bound:%, reason; "starting without the lock");
        }
        Ending::GaveUp(bound) => {
            error!(waited:%, bound:%, reason; "gave up waiting for the lock");
        }
        Ending::Stopped(stop) => {
            info!(signal = signal_name(stop), waited:%, reason; "stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_result_time_and_reason() {
        let waited = Duration::from_micros(83_450_999);
        let reason = Some("423 Locked");
        for (ending, reason, expected) in [
            (Ending::Granted, None, "lock acquired after 1m23.45s"),
            (Ending::Granted, reason, "lock acquired after 1m23.45s; before that: 423 Locked"),
            (
                Ending::StartedWithoutLease(Bound::MaxWait),
                reason,
                "started without the lock after 1m23.45s (--max-wait); last reason: 423 Locked",
            ),
            (
                Ending::GaveUp(Bound::UnreachableWait),
                reason,
                "gave up waiting for the lock after 1m23.45s (--unreachable-wait); last reason: 423 Locked",
            ),
            (
                Ending::Stopped(StopSignal::Terminate),
                None,
                "stopped by SIGTERM after 1m23.45s without the lock; no attempt finished",
            ),
        ] {
            assert_eq!(message(ending, waited, reason), expected);
        }
    }

    #[test]
    fn exit_codes_follow_the_ending() {
        for (ending, expected) in [
            (Ending::Granted, 0),
            (Ending::StartedWithoutLease(Bound::MaxWait), 0),
            (Ending::GaveUp(Bound::MaxWait), 1),
            (Ending::Stopped(StopSignal::Terminate), 143),
            (Ending::Stopped(StopSignal::Interrupt), 130),
        ] {
            assert_eq!(ending.exit_code(), expected, "{ending:?}");
        }
    }

    #[test]
    fn the_message_is_written_only_to_an_existing_file() {
        let folder = std::env::temp_dir().join(format!("psl-init-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("termination-log");
        write_message(&file, "one").unwrap();
        assert!(!file.exists());
        fs::write(&file, "something longer").unwrap();
        write_message(&file, "one").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        write_message(&folder, "not a plain file").unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
