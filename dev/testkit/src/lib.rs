//! What the tests and the benchmark of the three programs share: real binaries, raw HTTP, servers that misbehave on
//! purpose, a replayed Kubernetes API, hostile clients. It knows the programs only from outside, by their files, ports
//! and output, so that a test proves what a user would see.
//!
//! Everything here waits on the real clock, with a ceiling, and panics with all that it knows when the ceiling is
//! reached: a failed test must be readable from its output alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test code: a panic is a failed test, and tests live on the real clock and environment"
)]
#![allow(missing_docs, reason = "many names here say it all; what they do not say is documented")]

pub mod api;
pub mod application;
pub mod attack;
pub mod budget;
pub mod dns;
pub mod document;
pub mod heavy;
pub mod http;
pub mod large;
mod listening;
pub mod program;
pub mod relay;
pub mod scratch;
pub mod scripted;
pub mod tls;

use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The time within which anything that works has happened, also on a busy machine with two cores.
pub const CEILING: Duration = Duration::from_secs(20);

/// Asks `attempt` again and again until it has a value; panics, naming `what`, when it has none by the ceiling.
#[track_caller]
pub fn eventually<T>(what: &str, ceiling: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + ceiling;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {ceiling:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../..").into()
}

/// Prints a line of its own with the reason why a check is skipped; `scripts/test.sh` counts these lines.
pub fn skip(why: &str) {
    // Not by `eprintln!`, which the test runner swallows where the test passes; in one write, so that no other output of
    // the runner comes in between.
    let line = format!("\nskipped: {}\n", why.lines().collect::<Vec<_>>().join(" "));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// An address of this machine that is not a loopback's, from which it reaches itself; nothing where it has none.
pub fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this only asks by which address somebody far away would be reached.
    socket.connect("203.0.113.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The middle one, which a few that a busy machine has delayed do not move.
#[track_caller]
pub fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    *values.get(values.len() / 2).expect("a median is one of some values")
}
