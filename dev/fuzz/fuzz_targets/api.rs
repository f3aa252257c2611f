//! Searches for bytes that break `properties::api`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::api(bytes));
