//! Searches for bytes that break `properties::head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::head(bytes));
