//! The real binary, asked from outside.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test, and tests of real processes wait on the real clock"
)]

mod attacks;
mod auto;
mod barred;
mod checks;
mod connections;
mod documents;
mod leases;
mod memory;
mod pressure;
mod ready;
mod requests;
mod restart;
mod settings;
mod shadow;
mod starve;
