//! Start and end of a program: its input, its threads, its output and its exit code.

pub mod signals;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;

use crate::logging::stderr::{self, END_PATIENCE};
use crate::settings::{Input, Program};

/// Done.
pub const DONE: u8 = 0;
/// Failed at run time.
pub const FAILED: u8 = 1;
/// Bad configuration.
pub const BAD_CONFIGURATION: u8 = 2;

/// Why a program ends before it has done its work.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked for `--help` or `--version`.
    Text(String),
    /// What was wrong with the settings, one line each.
    ConfigErrors(Vec<String>),
    /// It failed at run time.
    Failed(String),
}

/// Reads the process's own arguments and variables for a program.
#[expect(clippy::disallowed_methods, reason = "the edge that reads the environment")]
pub fn read_input(program: &Program) -> Result<Input, End> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    Input::read(program, arguments, |name| std::env::var_os(name)).map_err(End::Text)
}

/// Starts a thread with this name and this many bytes of stack.
pub fn spawn(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(stack);
    let started = thread.spawn(body);
    started.map(drop).map_err(|error| format!("cannot start a thread ({name}): {error}"))
}

/// Prints what there is to print and says the exit code. A reader that has gone away, or does not
/// read, is no reason to end in any other way, nor not at all.
pub fn exit_code(program: &str, result: Result<u8, End>) -> ExitCode {
    let code = match result {
        Ok(code) => code,
        Err(End::Text(text)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            DONE
        }
        Err(End::ConfigErrors(lines)) => {
            say(&lines.iter().map(|line| format!("{program}: {line}\n")).collect::<String>());
            BAD_CONFIGURATION
        }
        // Once there is a log, this is its last line and has its form.
        Err(End::Failed(why)) if log::log_enabled!(log::Level::Error) => {
            log::error!("{why}");
            FAILED
        }
        Err(End::Failed(why)) => {
            say(&format!("{program}: {why}\n"));
            FAILED
        }
    };
    stderr::flush(END_PATIENCE);
    ExitCode::from(code)
}

fn say(lines: &str) {
    let _ = stderr::writer(|_| String::new()).write_all(lines.as_bytes());
}
