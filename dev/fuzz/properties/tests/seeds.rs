//! Each seed of the fuzz targets, and with them each find of the fuzzer, holds its property.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests read files, and a failed step is a failed test"
)]

use std::fs;
use std::path::Path;

/// The name and the bytes of a seed. `printf %b` in scripts/fuzz.sh reads the same escapes.
fn seed(line: &str) -> (&str, Vec<u8>) {
    let (name, rest) = line.split_once(" \"").expect("NAME \"ESCAPED\"");
    let mut rest = rest.strip_suffix('"').expect("a closing quote").as_bytes();
    let mut bytes = Vec::new();
    loop {
        rest = match rest {
            [] => return (name, bytes),
            [b'\\', b'0', octal @ ..] => {
                let (octal, rest) = octal.split_at(3);
                let octal = str::from_utf8(octal).unwrap();
                bytes.push(u8::from_str_radix(octal, 8).unwrap_or_else(|_| panic!("{line}")));
                rest
            }
            [b'\\', escaped, rest @ ..] => {
                let of = |(short, _): &(u8, u8)| short == escaped;
                let short = [(b'n', b'\n'), (b'r', b'\r'), (b't', b'\t'), (b'\\', b'\\')];
                let (_, byte) = short.into_iter().find(of).unwrap_or_else(|| panic!("{line}"));
                bytes.push(byte);
                rest
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        }
    }
}

#[test]
fn every_seed_holds_its_property() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
    for (target, property) in properties::ALL {
        let text = fs::read_to_string(seeds.join(format!("{target}.txt"))).unwrap();
        assert!(text.lines().count() >= 10, "{target} has seeds");
        for (name, bytes) in text.lines().map(seed) {
            eprintln!("{target} {name}");
            property(&bytes);
        }
    }
}

#[test]
fn seeds_are_unescaped_as_printf_does() {
    assert_eq!(seed(r#"a-1 "x"\\\n\r\t\0377\00007""#), ("a-1", b"x\"\\\n\r\t\xff\x007".to_vec()));
    assert_eq!(seed(r#"empty """#), ("empty", Vec::new()));
}

#[test]
fn every_property_has_its_fuzz_target() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
    for (name, _) in properties::ALL {
        let target = fs::read_to_string(targets.join(format!("{name}.rs"))).unwrap();
        assert!(target.contains(&format!("properties::{name}(")), "{target}");
    }
}
