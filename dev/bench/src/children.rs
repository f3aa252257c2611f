//! Ends what was started when this program ends by a panic: the release profile aborts then, so
//! that nothing is dropped, and servers would stay behind.

use std::fs;
use std::panic;

use rustix::process::{Pid, Signal, kill_process};

/// From now on; the panic itself is told as before.
pub fn end_on_panic() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        tell(what);
        for pid in children() {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }));
}

/// Those of all threads. None where the kernel does not list them.
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::program::Program;

    #[test]
    fn a_started_program_is_among_them() {
        let running = Program::at("/bin/sleep").arg("60").start();
        assert!(children().iter().any(|pid| pid.as_raw_nonzero().get() == running.pid()));
    }
}
