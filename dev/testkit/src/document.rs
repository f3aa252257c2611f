//! The documents as tests see them: their sections, tables and blocks of code.
//!
//! With `PSL_UPDATE_DOCS=1` a table that differs is rewritten in the document and the test passes.
//! Does not know the expected content.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Tests of one program run side by side and may rewrite tables of the same document.
static FILES: Mutex<()> = Mutex::new(());

fn files() -> MutexGuard<'static, ()> {
    // A failed test has left no document half-written.
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file(document: &str) -> PathBuf {
    crate::root().join(document)
}

#[track_caller]
fn read(document: &str) -> String {
    let _guard = files();
    fs::read_to_string(file(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// The text from a heading, its `##` included, to the next heading of level two or three.
#[track_caller]
pub fn section(document: &str, heading: &str) -> String {
    let text = read(document);
    let range = section_range(&text, heading);
    text[range.unwrap_or_else(|| panic!("{document}: no heading {heading:?}"))].to_owned()
}

fn section_range(text: &str, heading: &str) -> Option<std::ops::Range<usize>> {
    let found = format!("\n{heading}\n");
    let begin = text.find(&found)? + found.len() - 1;
    let rest = &text[begin..];
    let ends = ["\n## ", "\n### "].map(|next| rest.find(next).unwrap_or(rest.len()));
    Some(begin..begin + ends[0].min(ends[1]))
}

/// The rows of a section's first table that begin like this, without the two lines of its head.
#[track_caller]
pub fn rows(document: &str, heading: &str, start: &str) -> Vec<String> {
    let section = section(document, heading);
    let table = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    table.skip(2).filter(|row| row.starts_with(start)).map(str::to_owned).collect()
}

/// The first block of code in a section.
#[track_caller]
pub fn code(document: &str, heading: &str) -> String {
    codes(document, heading)
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("{document}: no code below {heading:?}"))
}

/// All blocks of code in a section.
#[track_caller]
pub fn codes(document: &str, heading: &str) -> Vec<String> {
    blocks(&section(document, heading))
}

/// The first block of code of the whole document that has this first line.
#[track_caller]
pub fn code_from(document: &str, first_line: &str) -> String {
    blocks(&read(document))
        .into_iter()
        .find(|block| block.lines().next() == Some(first_line))
        .unwrap_or_else(|| panic!("{document}: no code that begins with {first_line:?}"))
}

fn blocks(text: &str) -> Vec<String> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    blocks.filter_map(|block| Some(block.split_once('\n')?.1.to_owned())).collect()
}

/// Panics with the expected rows if the table has others. With `PSL_UPDATE_DOCS=1` it writes them
/// into the document instead.
#[track_caller]
pub fn same_rows(document: &str, heading: &str, start: &str, expected: &[String]) {
    let present = rows(document, heading, start);
    if present == expected {
        return;
    }
    if std::env::var_os("PSL_UPDATE_DOCS").is_some_and(|value| value == "1") {
        return update(document, heading, start, expected);
    }
    panic!(
        "{document}, {heading}: PSL_UPDATE_DOCS=1 writes the expected rows:\n{}\ninstead of\n{}\n",
        expected.join("\n"),
        present.join("\n"),
    );
}

#[track_caller]
fn update(document: &str, heading: &str, start: &str, expected: &[String]) {
    let _guard = files();
    let text = fs::read_to_string(file(document)).unwrap();
    let range = section_range(&text, heading).unwrap();
    let section = with_rows(&text[range.clone()], start, expected)
        .unwrap_or_else(|| panic!("{document}: no table below {heading:?}"));
    let text = [&text[..range.start], &section, &text[range.end..]].concat();
    fs::write(file(document), text).unwrap();
}

/// The section with these rows in place of those of its first table that begin like this. New rows
/// of an empty table follow its head, other new rows the rows of the table.
fn with_rows(section: &str, start: &str, expected: &[String]) -> Option<String> {
    let mut lines: Vec<&str> = section.split('\n').collect();
    let head = lines.iter().position(|line| line.starts_with('|'))?;
    let length = lines[head..].iter().take_while(|line| line.starts_with('|')).count();
    let mut table = lines[head..head + length].to_vec();
    let first = table.iter().skip(2).position(|row| row.starts_with(start)).map(|n| n + 2);
    let mut body = table.split_off(2.min(table.len()));
    let at = first.map_or(body.len(), |n| n - 2);
    body.retain(|row| !row.starts_with(start));
    body.splice(at..at, expected.iter().map(String::as_str));
    table.extend(body);
    lines.splice(head..head + length, table);
    Some(lines.join("\n"))
}

/// One row for each metric in a Prometheus text, with the labels of its samples.
pub fn metrics(program: &str, metrics: &str) -> Vec<String> {
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

/// A JSON value without its numbers and texts.
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(values) => values.iter().take(1).map(shape).collect(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: &str =
        "\nText.\n\n| a | b |\n| - | - |\n| x | 1 |\n| y | 2 |\n| y | 3 |\n\nMore.";

    fn rewritten(start: &str, rows: &[&str]) -> String {
        let rows: Vec<_> = rows.iter().map(|row| (*row).to_owned()).collect();
        with_rows(SECTION, start, &rows).unwrap()
    }

    #[test]
    fn documents_have_sections_tables_and_code() {
        let document = "docs/configuration.md";
        assert!(section(document, "## Exit codes").contains("143"));
        assert!(rows(document, "## Exit codes", "| lock |").len() >= 3);
        assert!(code("docs/protocol.md", "## A session with curl").contains("Lock acquired"));
    }

    #[test]
    fn an_update_replaces_the_rows_that_begin_alike() {
        let expected = SECTION.replace("| y | 2 |\n| y | 3 |", "| y | 4 |");
        assert_eq!(rewritten("| y |", &["| y | 4 |"]), expected);
        let expected = SECTION.replace("| x | 1 |\n", "| x | 1 |\n| x | 2 |\n");
        assert_eq!(rewritten("| x |", &["| x | 1 |", "| x | 2 |"]), expected);
    }

    #[test]
    fn an_update_adds_new_rows_at_the_end_of_the_table() {
        let expected = SECTION.replace("| y | 3 |", "| y | 3 |\n| z | 5 |");
        assert_eq!(rewritten("| z |", &["| z | 5 |"]), expected);
    }

    #[test]
    fn an_update_without_a_table_fails() {
        assert_eq!(with_rows("\nText.\n", "|", &[]), None);
    }
}
