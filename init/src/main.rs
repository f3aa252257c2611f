//! The program of the init container.

use std::process::ExitCode;

fn main() -> ExitCode {
    psl::process::exit_code("init", init::run())
}
