//! Tools of the tests and benchmarks of the three programs: real binaries, raw HTTP, servers that
//! misbehave on purpose, a replayed Kubernetes API, hostile clients. They know the programs only
//! from outside, by files, ports and output, so that a test proves the behaviour that users see.
//!
//! All of them wait on the real clock with a ceiling, and panic at the ceiling with all that they
//! know: the output of a failed test must explain the failure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test code: a panic is a failed test, and tests live on the real clock and environment"
)]
#![allow(missing_docs, reason = "comments are for names that need one")]

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
pub mod transcript;

use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The bound for waits: even a busy machine with two cores needs less.
pub const CEILING: Duration = Duration::from_secs(20);

/// Repeats `attempt` until it returns a value; panics with `what` at the ceiling.
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

pub fn root() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../..").into()
}

/// Prints a line with the reason why a check is skipped; `scripts/test.sh` counts these lines.
pub fn skip(why: &str) {
    // The test runner hides `eprintln!` of tests that pass. In one write, so that no other output
    // of the runner comes in between.
    let line = format!("\nskipped: {}\n", why.lines().collect::<Vec<_>>().join(" "));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// An address of this machine that is not loopback, or `None`.
pub fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Connecting a UDP socket sends no packet; it only chooses the source address.
    socket.connect("203.0.113.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The median, which a few delays of a busy machine do not move.
#[track_caller]
pub fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    *values.get(values.len() / 2).expect("a median is one of some values")
}
