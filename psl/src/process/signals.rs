//! SIGTERM and SIGINT end the program at once.
//!
//! PID 1 of a container needs a handler: the kernel drops a signal without one, and Kubernetes then
//! waits for the whole grace period. Does not know the work before the end.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::logging::stderr::{self, SIGNAL_FLUSH};
use crate::thread::spawn;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM: the kubelet, `docker stop`.
    Terminate,
    Interrupt,
}

impl StopSignal {
    /// 128 and the signal's number, as a shell reports it.
    pub fn exit_code(self) -> i32 {
        match self {
            StopSignal::Terminate => 128 + SIGTERM,
            StopSignal::Interrupt => 128 + SIGINT,
        }
    }
}

/// init sends a request on this thread. That needs 24 KiB in a static binary and 76 KiB without
/// optimisation (measured). Untouched stack costs no memory.
const STACK: usize = 128 * 1024;

/// The first signal runs `last`; the process then ends with the exit code that `last` returns.
#[expect(clippy::disallowed_methods, reason = "a signal ends the process here")]
pub fn on_stop(last: impl FnOnce(StopSignal) -> i32 + Send + 'static) -> Result<(), String> {
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    // The handler only writes to a pipe, so this thread may allocate and send requests.
    spawn("signals", STACK, move || {
        let signal = match signals.forever().next() {
            Some(SIGINT) => StopSignal::Interrupt,
            _ => StopSignal::Terminate,
        };
        let code = last(signal);
        stderr::flush(SIGNAL_FLUSH);
        std::process::exit(code)
    })
}
