//! Searches for bytes that break `properties::names`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::names(bytes));
