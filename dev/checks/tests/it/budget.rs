//! The static binaries keep within their budget of bytes and are static, position-independent and
//! stripped.

use std::fs;

use testkit::budget::BYTES;
use testkit::program::Program;
use testkit::skip;

/// The ELF type of position-independent programs; programs at a fixed address have 2 (elf(5)).
const ET_DYN: u64 = 3;
/// ELF program header types.
const PT_INTERP: u32 = 3;
const PT_DYNAMIC: u32 = 2;

fn binary(name: &str) -> Option<Vec<u8>> {
    let Some(directory) = Program::static_dir() else {
        skip("the static binaries are not given by PSL_TEST_BIN_DIR");
        return None;
    };
    let file = directory.join(name);
    Some(fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())))
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The types of the program headers of a 64-bit little-endian ELF file.
fn segments(elf: &[u8]) -> Vec<u32> {
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let (table, size, count) =
        (number(elf, 32, 8) as usize, number(elf, 54, 2) as usize, number(elf, 56, 2) as usize);
    (0..count).map(|n| number(elf, table + n * size, 4) as u32).collect()
}

/// The names of the sections; a binary without a table of them has none.
fn sections(elf: &[u8]) -> Vec<String> {
    let (table, size) = (number(elf, 40, 8) as usize, number(elf, 58, 2) as usize);
    let (count, names) = (number(elf, 60, 2) as usize, number(elf, 62, 2) as usize);
    let names = number(elf, table + names * size + 24, 8) as usize;
    let name = |section: usize| {
        let at = names + number(elf, table + section * size, 4) as usize;
        elf[at..].iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
    };
    (0..count).map(name).collect()
}

#[test]
fn within_the_budget() {
    for (name, budget) in BYTES {
        let Some(elf) = binary(name) else { return };
        eprintln!("{name}: {} bytes of {budget}", elf.len());
        assert!(elf.len() <= *budget, "{name} has {} bytes, the budget is {budget}", elf.len());
    }
}

#[test]
fn static_position_independent_and_stripped() {
    for (name, _) in BYTES {
        let Some(elf) = binary(name) else { return };
        let segments = segments(&elf);
        assert_eq!(number(&elf, 16, 2), ET_DYN, "{name} is linked to a fixed address");
        assert!(!segments.contains(&PT_INTERP), "{name} asks for a dynamic loader");
        assert!(segments.contains(&PT_DYNAMIC), "{name} is not position-independent");
        let sections = sections(&elf);
        assert!(sections.contains(&".text".to_owned()), "{name}: {sections:?}");
        let left: Vec<_> =
            sections.iter().filter(|s| s.starts_with(".debug") || *s == ".symtab").collect();
        assert!(left.is_empty(), "{name} has {left:?}");
    }
}
