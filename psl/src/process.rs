//! Start and end of a program: its arguments and variables, its last output and its exit code.

pub mod signals;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::logging::stderr::{self, EXIT_FLUSH};
use crate::settings::{Input, Program};

pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;
pub const BAD_CONFIGURATION: u8 = 2;

/// The reason for which a program ends before it has done its work.
#[derive(Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// The text of `--help` or `--version`.
    Text(String),
    ConfigErrors(Vec<String>),
    Failed(String),
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the environment")]
pub fn read_input(program: &Program) -> Result<Input, EarlyExit> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    Input::read(program, arguments, |name| std::env::var_os(name)).map_err(EarlyExit::Text)
}

/// Prints the output of a result and returns its exit code, also if the output cannot be written.
pub fn exit_code(program: &str, result: Result<u8, EarlyExit>) -> ExitCode {
    let code = match result {
        Ok(code) => code,
        Err(EarlyExit::Text(text)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            DONE
        }
        Err(EarlyExit::ConfigErrors(lines)) => {
            print_error(
                &lines.iter().map(|line| format!("{program}: {line}\n")).collect::<String>(),
            );
            BAD_CONFIGURATION
        }
        // After the log has started, the error is its last line, in the format of the log.
        Err(EarlyExit::Failed(error)) if log::log_enabled!(log::Level::Error) => {
            log::error!("{error}");
            FAILED
        }
        Err(EarlyExit::Failed(error)) => {
            print_error(&format!("{program}: {error}\n"));
            FAILED
        }
    };
    stderr::flush(EXIT_FLUSH);
    ExitCode::from(code)
}

fn print_error(lines: &str) {
    let _ = stderr::writer(|_| String::new()).write_all(lines.as_bytes());
}
