//! Searches for bytes that break `properties::durations`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::durations(bytes));
