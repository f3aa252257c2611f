//! Reads Rust sources as far as the checks need it: which code is a product's and which a test's,
//! and which paths it names. It is no parser: macros and `cfg` other than `test` are plain code to
//! it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A source file without its unit tests.
pub struct Source {
    /// From the repository's root.
    pub path: String,
    /// As it is written, up to its unit tests.
    pub text: String,
    /// The text without comments, and with empty strings.
    pub code: String,
}

/// The files of these folders without tests, by path.
pub fn sources(root: &Path, folders: &[&str]) -> Vec<Source> {
    let mut paths = BTreeSet::new();
    for folder in folders {
        collect(root, folder, &mut paths);
    }
    let read = |path: String| (fs::read_to_string(root.join(&path)).unwrap(), path);
    let texts: Vec<(String, String)> = paths.into_iter().map(read).collect();
    let tests: Vec<String> = texts.iter().flat_map(|(text, path)| test_files(path, text)).collect();
    let is_test = |path: &str| {
        tests.iter().any(|module| {
            let rest = path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    };
    let without_tests = texts.into_iter().filter(|(_, path)| !is_test(path));
    without_tests
        .map(|(text, path)| {
            let inline = test_modules(&text).find(|(_, module)| module.ends_with('{'));
            let text = text[..inline.map_or(text.len(), |(at, _)| at)].to_string();
            Source { path, code: code(&text), text }
        })
        .collect()
}

fn collect(root: &Path, folder: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() == "target" {
                continue;
            }
            collect(root, &path, found);
        } else if path.ends_with(".rs") {
            found.insert(path);
        }
    }
}

/// The modules that only tests have: the place of each, and its declaration.
fn test_modules(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("#[cfg(test)]\n").filter_map(|(at, _)| {
        let item = text[at..].lines().find(|line| !line.starts_with("#["))?;
        Some((at, item.trim_start_matches("pub(crate) ").strip_prefix("mod ")?))
    })
}

/// The files of such modules below this file, as paths without `.rs`.
fn test_files(path: &str, text: &str) -> Vec<String> {
    let names = test_modules(text).filter_map(|(_, module)| module.strip_suffix(';'));
    names.map(|name| format!("{}/{name}", folder_of(path))).collect()
}

/// The folder of a file's submodules.
fn folder_of(path: &str) -> &str {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    ["/lib", "/main", "/mod"].iter().find_map(|root| stem.strip_suffix(root)).unwrap_or(stem)
}

/// The module of a file: its names below the crate's root.
pub fn module(path: &str) -> Vec<String> {
    let (_, inner) = folder_of(path).split_once("/src").unwrap_or_default();
    inner.split('/').filter(|name| !name.is_empty()).map(str::to_string).collect()
}

/// The text without comments, and with empty strings and characters.
fn code(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        let word_before = code.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = raw_string(rest).filter(|_| !word_before) {
            code.push_str("\"\"");
            length
        } else if next == '"' {
            code.push_str("\"\"");
            1 + string_end(&rest[1..])
        } else if let Some(length) = character(rest) {
            code.push_str("' '");
            length
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// The length of the raw string with which the text begins.
fn raw_string(text: &str) -> Option<usize> {
    let start = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = start.len() - start.trim_start_matches('#').len();
    let content = start[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content.find(&end)? + end.len();
    Some(text.len() - content.len() + length)
}

/// The length of the rest of a string with its closing quote.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match char {
            '"' if !escaped => return at + 1,
            _ => escaped = char == '\\' && !escaped,
        }
    }
    text.len()
}

/// The length of the character literal with which the text begins; lifetimes are none.
fn character(text: &str) -> Option<usize> {
    let content = text.strip_prefix('\'')?;
    let first = content.chars().next()?;
    let end = match first {
        '\\' => 2 + content.get(2..)?.find('\'')?,
        _ => first.len_utf8(),
    };
    content[end..].starts_with('\'').then_some(end + 2)
}

/// The paths in code that begin with this name, such as `crate`; groups in braces are taken apart.
pub fn paths(code: &str, root: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&format!("{root}::")) {
        let before = code[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            tree(&code[at..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Adds the paths of a use tree below a prefix; returns the text behind the tree.
fn tree<'c>(text: &'c str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'c str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = tree(rest, prefix, found).trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        // All of a module, or the end of a list.
        found.push(prefix.clone());
        return rest.strip_prefix('*').unwrap_or(rest);
    }
    prefix.push(name.to_string());
    let rest = match rest.strip_prefix("::") {
        Some(inner) => tree(inner, prefix, found),
        None => {
            found.push(prefix.clone());
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            rest.strip_prefix(" as ").map_or(rest, |renamed| renamed.trim_start_matches(is_name))
        }
    };
    prefix.pop();
    rest
}

#[test]
fn comments_and_strings_are_no_code() {
    let text =
        "a(\"\\\"// use crate::x;\", '\"', b'\\'', r#\"\"{\"#, 'a: &'b c); // use crate::y;\nd";
    assert_eq!(code(text), "a(\"\", ' ', b' ', \"\", 'a: &'b c); \nd");
}

#[test]
fn groups_of_imports_are_taken_apart() {
    let code = "use crate::{a, b::{self, C as D, E}, f::*,}; crate::g::<u8>(); my_crate::h()";
    let found: Vec<String> = paths(code, "crate").iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::a",
        "crate::b::self",
        "crate::b::C",
        "crate::b::E",
        "crate::f",
        "crate",
        "crate::g",
    ];
    assert_eq!(found, expected);
}
