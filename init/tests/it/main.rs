//! The real binary against locks that work, locks that do not, and servers that are no locks.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test, and tests of real processes wait on the real clock"
)]

mod answers;
mod bounds;
mod documents;
mod holder;
mod memory;
mod names;
mod settings;
mod signals;
mod termination;

use std::time::Duration;

use testkit::program::{Program, Running};
use testkit::scripted::Server;

const CEILING: Duration = testkit::CEILING;

/// Not configured at all.
fn bare() -> Program {
    Program::new(env!("CARGO_BIN_EXE_init"))
}

/// Impatient, for tests: short pauses, short attempts, no parked requests.
fn init() -> Program {
    bare().args(["--pause=100ms", "--attempt-timeout=500ms"]).env("PSL_WAIT", "0")
}

/// Impatient, and asks this server.
fn init_at(server: &Server) -> Program {
    init().args(["--host", "127.0.0.1", "--port", &server.port().to_string()])
}

/// Waits for a line with all of these parts.
#[track_caller]
fn wait_for_all(running: &mut Running, parts: &[&str]) -> String {
    running.wait_for(|line| parts.iter().all(|part| line.contains(part)), CEILING)
}

/// A waiting program's `reason` holds these words.
#[track_caller]
fn wait_for_reason(running: &mut Running, words: &str) -> String {
    running.wait_for(
        |line| testkit::program::field(line, "reason").is_some_and(|reason| reason.contains(words)),
        CEILING,
    )
}
