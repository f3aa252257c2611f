//! Searches for bytes that break `properties::claims`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::claims(bytes));
