//! The documents about init: tables row by row, and the snippet for manifests.

use init::config::PROGRAM;
use psl::settings::Setting;
use testkit::document::{code_from, same_rows};

const CONFIGURATION: &str = "docs/configuration.md";

const EXAMPLE: &str = include_str!("../../../deploy/example/deployment.yaml");

#[test]
fn settings() {
    let expected: Vec<_> = PROGRAM.listed().map(Setting::markdown).collect();
    same_rows(CONFIGURATION, "## Settings of init", "|", &expected);
}

#[test]
fn exit_codes() {
    let row = |(code, meaning): &(u8, &str)| format!("| init | {code} | {meaning} |");
    let expected: Vec<_> = PROGRAM.exit_codes.iter().map(row).collect();
    same_rows(CONFIGURATION, "## Exit codes", "| init |", &expected);
}

/// The lines without comments, blank lines and the indent that they share.
fn bare<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lines: Vec<_> =
        lines.filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).collect();
    let indent =
        lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or_default();
    lines.iter().map(|line| line[indent..].to_owned()).collect()
}

/// The init container of the example, which gets its tag from `deploy/images`.
fn example() -> Vec<String> {
    let gate = EXAMPLE.lines().skip_while(|line| !line.trim().starts_with("initContainers:"));
    let gate = bare(gate.take_while(|line| !line.trim().starts_with("containers:")));
    let tag = format!("image: localhost/psl-init:{}", env!("CARGO_PKG_VERSION"));
    gate.iter().map(|line| line.replace("image: psl-init", &tag)).collect()
}

#[test]
fn the_snippet_is_that_of_the_example() {
    let snippet = code_from("docs/install.md", "initContainers:");
    assert_eq!(bare(snippet.lines()), example());
}

/// The short form has lines of the example, in the same order, and no others.
#[test]
fn the_short_snippet_is_a_part_of_the_example() {
    let snippet = code_from("README.md", "initContainers:");
    let example = example();
    let mut rest = example.iter();
    for line in bare(snippet.lines()) {
        assert!(rest.any(|other| *other == line), "{line:?} is not in the rest of the example");
    }
}
