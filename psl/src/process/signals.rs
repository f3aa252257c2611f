//! SIGTERM and SIGINT end the program at once.
//!
//! A process that is PID 1 of its container gets neither by default: the kernel drops a signal that
//! PID 1 has no handler for, and Kubernetes waits out the whole grace period.
//! Does not know what there is to do before the end.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::spawn;
use crate::logging::stderr::{self, LAST_PATIENCE};

/// Which of the two signals came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM: the kubelet, `docker stop`.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

impl Stop {
    /// 128 and the signal's number, as a shell reports it.
    pub fn exit_code(self) -> i32 {
        match self {
            Stop::Terminate => 128 + SIGTERM,
            Stop::Interrupt => 128 + SIGINT,
        }
    }
}

/// A handler only writes to a pipe, so that this thread may do what a handler may not: init's sends
/// a request, for which a static binary was seen to need 24 KiB and one without optimisation 76.
/// What is never touched costs no memory.
const STACK: usize = 128 * 1024;

/// From now on the first signal runs `last`, and the process ends with the code that it returns.
#[expect(clippy::disallowed_methods, reason = "this is where a signal ends the process")]
pub fn on_stop(last: impl FnOnce(Stop) -> i32 + Send + 'static) -> Result<(), String> {
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let spawned = spawn("signals", STACK, move || {
        let stop = match signals.forever().next() {
            Some(SIGINT) => Stop::Interrupt,
            _ => Stop::Terminate,
        };
        let code = last(stop);
        stderr::flush(LAST_PATIENCE);
        std::process::exit(code)
    });
    spawned
}
