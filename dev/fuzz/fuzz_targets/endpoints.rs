//! Searches for bytes that break `properties::endpoints`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::endpoints(bytes));
