//! Kills the child processes if this program panics: the release profile aborts without dropping
//! them.

use std::fs;
use std::panic;

use rustix::process::{Pid, Signal, kill_process};

pub fn end_on_panic() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        tell(what);
        for pid in children() {
            // The process may have ended already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }));
}

/// The children of all threads.
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
