//! The README as tests see it: its sections, tables and blocks of code.
//!
//! Does not know what ought to stand there.

const README: &str = include_str!("../../../README.md");

/// The text from a heading, its `##` included, to the next one.
#[track_caller]
pub fn section(heading: &str) -> &'static str {
    let (_, text) = README
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    text.split("\n## ").next().unwrap().split("\n### ").next().unwrap()
}

/// The rows of a section's table that begin like this, without its two lines of head.
#[track_caller]
pub fn rows(heading: &str, start: &str) -> Vec<&'static str> {
    let table = section(heading)
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    table.skip(2).filter(|row| row.starts_with(start)).collect()
}

/// The first block of code in a section.
#[track_caller]
pub fn code(heading: &str) -> &'static str {
    let (_, rest) =
        section(heading).split_once("\n```").unwrap_or_else(|| panic!("no code below {heading:?}"));
    let (_, code) = rest.split_once('\n').unwrap();
    code.split("\n```").next().unwrap()
}

/// Panics with the rows as they have to be where they are not these.
#[track_caller]
pub fn same_rows(heading: &str, start: &str, expected: &[String]) {
    assert_eq!(
        rows(heading, start),
        expected,
        "README.md, {heading}: the rows have to be\n{}\n",
        expected.join("\n")
    );
}

/// One row for each metric in a Prometheus text, with the labels of its samples.
pub fn described(program: &str, metrics: &str) -> Vec<String> {
    let row = |line: &str| {
        let (name, help) = line.strip_prefix("# HELP ")?.split_once(' ')?;
        let kind =
            metrics.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")))?;
        let sample = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let labels = sample
            .unwrap_or_default()
            .split('}')
            .next()?
            .split(',')
            .filter_map(|label| label.split_once('='));
        let labels: Vec<_> = labels.map(|(label, _)| format!("`{label}`")).collect();
        Some(format!("| {program} | `{name}` | {kind} | {} | {help} |", labels.join(", ")))
    };
    metrics.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_sections_tables_and_code() {
        assert!(section("## Try it").contains("scripts/demo.sh"));
        assert!(rows("## Exit codes", "| lock |").len() >= 3);
        assert!(code("## Try it").contains("scripts/test.sh"));
    }
}
