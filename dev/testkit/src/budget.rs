//! What the static binaries may cost at most, for the tests that hold them to it and for the benchmark. It does not know
//! what they cost.

/// Bytes that a program may have.
pub const BYTES: &[(&str, usize)] =
    &[("init", 800_000), ("lock", 1_700_000), ("health", 1_820_000)];
