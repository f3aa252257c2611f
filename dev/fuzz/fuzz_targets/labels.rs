//! Searches for bytes that break `properties::labels`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::labels(bytes));
