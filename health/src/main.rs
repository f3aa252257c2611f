//! The program `health`. Its code is in the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    psl::process::exit_code(health::config::PROGRAM.name, health::run())
}
