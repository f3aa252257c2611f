//! What the README says of init: its tables row by row, and the snippet for manifests.

use init::config::PROGRAM;
use psl::settings::Setting;
use testkit::readme::{same_rows, section};

const EXAMPLE: &str = include_str!("../../../deploy/example/deployment.yaml");

#[test]
fn settings() {
    let expected: Vec<_> = PROGRAM.listed().map(Setting::markdown).collect();
    same_rows("### Settings of init", "|", &expected);
}

#[test]
fn exit_codes() {
    let row = |(code, meaning): &(u8, &str)| format!("| init | {code} | {meaning} |");
    let expected: Vec<_> = PROGRAM.exit_codes.iter().map(row).collect();
    same_rows("## Exit codes", "| init |", &expected);
}

/// The lines that count, without the indent that they share.
fn bare(lines: impl Iterator<Item = &'static str>) -> Vec<String> {
    let lines: Vec<_> =
        lines.filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).collect();
    let indent =
        lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or_default();
    lines.iter().map(|line| line[indent..].to_owned()).collect()
}

#[test]
fn the_snippet_is_that_of_the_example() {
    let (_, snippet) =
        section("### The init container").split_once("\n```yaml\n").expect("a snippet");
    let snippet = bare(snippet.split("\n```").next().unwrap().lines());
    let gate = EXAMPLE.lines().skip_while(|line| !line.trim().starts_with("initContainers:"));
    let gate = bare(gate.take_while(|line| !line.trim().starts_with("containers:")));
    // The example gets its tag from deploy/images.
    let tag = format!("image: localhost/psl-init:{}", env!("CARGO_PKG_VERSION"));
    let gate: Vec<_> = gate.iter().map(|line| line.replace("image: psl-init", &tag)).collect();
    assert_eq!(snippet, gate);
}
