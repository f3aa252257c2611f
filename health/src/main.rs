//! The program `health`; all of it is in the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    psl::process::exit_code(health::config::PROGRAM.name, health::run())
}
