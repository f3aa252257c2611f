//! The init container's program: waits for a lease, then lets the pod go on.

use std::process::ExitCode;

fn main() -> ExitCode {
    psl::process::exit_code("init", init::run())
}
