//! The seeds of the fuzz targets, and what the fuzzer has found, hold what must hold for any input.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests of real processes wait on a real clock, and a failed step is a failed test"
)]

use std::fs;
use std::path::Path;

#[test]
fn every_seed_holds_its_property() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
    for (name, property) in properties::ALL {
        let files: Vec<_> =
            fs::read_dir(seeds.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 10, "{name} has seeds");
        for file in files {
            eprintln!("{}", file.display());
            property(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_property_has_its_fuzz_target() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
    for (name, _) in properties::ALL {
        let target = fs::read_to_string(targets.join(format!("{name}.rs"))).unwrap();
        assert!(target.contains(&format!("properties::{name}(")), "{target}");
    }
}
