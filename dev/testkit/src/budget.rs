//! The limits of the static binaries, for the tests that enforce them and for the benchmark.

/// Bytes that a program may have.
pub const BYTES: &[(&str, usize)] =
    &[("init", 800_000), ("lock", 1_700_000), ("health", 1_820_000)];
