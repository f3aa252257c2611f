//! The binary. Its code is in the library, so that tests can call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    psl::process::exit_code(lock::PROGRAM.name, lock::run())
}
