//! The repository's habits as tests, after xshell's `tidy.rs`: documents name files that exist,
//! pure code stays pure, sources stay short. Each failure names the places and tells how to repair
//! them.

mod rust;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use testkit::program::Program;
use testkit::skip;

use crate::shell::{self, PROGRAMS, root};
use rust::{Source, module, paths, sources};

const MOST_WORDS: usize = 1_200;
const MOST_LINES: usize = 400;
const MOST_FUNCTION_LINES: usize = 40;
const MOST_COLUMNS: usize = 100;

/// The folders of the products' sources.
const PRODUCT: [&str; 4] = ["psl/src", "lock/src", "init/src", "health/src"];

/// Fails with the places, and the way to repair them.
#[track_caller]
fn none(places: Vec<String>, advice: &str) {
    assert!(places.is_empty(), "{advice}:\n  {}\n", places.join("\n  "));
}

fn product() -> Vec<Source> {
    sources(&root(), &PRODUCT)
}

// ---- documents ----

/// The Markdown documents that people read, by path.
fn documents() -> BTreeMap<String, String> {
    let mut find = Command::new("sh");
    find.current_dir(root()).args(["-c", "find *.md docs deploy -name '*.md'"]);
    // Without docs/, find prints the other names all the same.
    let names = shell::run(&mut find).stdout;
    assert!(names.contains("README.md"), "no documents found: {names}");
    let text = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    names.lines().map(|name| (name.to_string(), text(name))).collect()
}

/// The target of a relative path in a document.
fn beside(document: &str, path: &str) -> String {
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The text in single backticks, and the lines of code blocks.
fn code_of(markdown: &str) -> Vec<&str> {
    let (mut code, mut in_block) = (Vec::new(), false);
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            code.push(line);
        } else {
            code.extend(line.split('`').skip(1).step_by(2));
        }
    }
    code
}

#[test]
fn documents_name_paths_that_exist() {
    let top = ["psl", "lock", "init", "health", "deploy", "scripts", "docs", "dev", ".ci"];
    let of_path = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    // `dev/fuzz/seeds/TARGET.txt` and `deploy/<overlay>` name many files.
    let is_placeholder = |part: &str| {
        let stem = part.split('.').next().unwrap_or_default();
        stem.len() > 1 && stem.chars().all(|c| c.is_uppercase() || c == '_') && stem != "README"
    };
    let mut missing = Vec::new();
    for (document, text) in documents() {
        for word in code_of(&text).into_iter().flat_map(|code| code.split(|c| !of_path(c))) {
            let path = word.trim_end_matches(['.', '/']);
            let Some((first, rest)) = path.split_once('/') else { continue };
            // `kubectl logs deploy/web` and `init/main.rs` differ by an ending or a second part.
            let is_object = first == "deploy" && !rest.contains(['/', '.']);
            let is_ours = top.contains(&first) && !is_object;
            let exists =
                || root().join(path).exists() || root().join(beside(&document, path)).exists();
            if is_ours && !path.split('/').any(is_placeholder) && !exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    none(missing, "documents name files that do not exist: correct the path or the file");
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let (mut found, mut in_block) = (BTreeSet::new(), false);
    for line in markdown.lines() {
        in_block ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if in_block || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let text = heading.trim().to_lowercase().replace(' ', "-");
        let anchor: String =
            text.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        let again = (1..).map(|number| format!("{anchor}-{number}"));
        let free = [anchor.clone()].into_iter().chain(again).find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}

/// The relative targets of links and pictures.
fn links(markdown: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (start, end) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"'), ("srcset=\"", '"')] {
        let links = markdown.split(start).skip(1).filter_map(|rest| rest.split(end).next());
        found.extend(links.filter(|link| !link.contains([':', ' ', '\n'])));
    }
    found
}

#[test]
fn links_of_documents_lead_somewhere() {
    let documents = documents();
    let mut broken = Vec::new();
    for (document, text) in &documents {
        for link in links(text) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { beside(document, path) };
            let has_anchor = |text: &String| anchor.is_empty() || anchors(text).contains(anchor);
            if !root().join(&target).exists() || !documents.get(&target).is_none_or(has_anchor) {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    none(broken, "links lead to files or headings that do not exist: correct them");
}

#[test]
fn the_readme_is_short() {
    let words = fs::read_to_string(root().join("README.md")).unwrap().split_whitespace().count();
    let advice =
        "keep the text for a decision, the installation and repairs, and move the rest to docs/";
    assert!(words <= MOST_WORDS, "README.md has {words} words of {MOST_WORDS}: {advice}");
}

#[test]
fn help_fits_a_terminal() {
    let Some(programs) = Program::static_dir() else {
        return skip("PSL_TEST_BIN_DIR does not say where the static binaries are");
    };
    let mut bad = Vec::new();
    for program in PROGRAMS {
        let help = shell::run(Command::new(programs.join(program)).arg("--help")).ok();
        for line in help.lines() {
            let has_mark = ["`", "**", "]("].iter().any(|mark| line.contains(mark));
            let is_markdown = has_mark || line.starts_with('|');
            if line.chars().count() > MOST_COLUMNS || is_markdown {
                bad.push(format!("{program}: {line}"));
            }
        }
    }
    none(
        bad,
        "--help has one plain line of 100 columns a setting: shorten it, and explain in docs/",
    );
}

// ---- structure ----

/// Whether a path is one of the standard library's that reads a clock or touches the system.
fn is_impure(path: &[String]) -> bool {
    match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["std", "fs" | "thread" | "env" | "process" | "io" | "os", ..] => true,
        ["std", "net", name, ..] => ["Tcp", "Udp", "ToSocket"].iter().any(|s| name.starts_with(s)),
        ["std", "time", "SystemTime", ..] => true,
        _ => false,
    }
}

/// Plain data, text and arithmetic of psl, which `core/` may use: as pure as `core/` itself.
const PLAIN: [&str; 7] = ["address", "duration", "metrics", "protocol", "rate", "text", "version"];

#[test]
fn core_is_pure() {
    let mut impure = Vec::new();
    for source in product() {
        let module = module(&source.path);
        let top = module.first().map_or("", String::as_str);
        let is_core = top == "core";
        let is_plain = source.path.starts_with("psl/") && PLAIN.contains(&top);
        if !is_core && !is_plain {
            continue;
        }
        let names = |root: &str| paths(&source.code, root).into_iter();
        let outside = |allowed: &'static [&'static str]| {
            move |path: &Vec<String>| !path.get(1).is_some_and(|name| allowed.contains(&&**name))
        };
        let in_crate = names("crate").filter(outside(if is_core { &["core"] } else { &PLAIN }));
        let in_psl = names("psl").filter(outside(&PLAIN));
        let system = names("std").filter(|path| is_impure(path)).chain(names("log"));
        let mut bad: Vec<_> = in_crate.chain(in_psl).chain(system).map(|p| p.join("::")).collect();
        bad.extend(foreign(&source.code));
        bad.extend(source.code.contains("Instant::now").then(|| "Instant::now".to_string()));
        impure.extend(bad.into_iter().map(|path| format!("{}: {path}", source.path)));
    }
    none(impure, "core/ has no clock, I/O, log, environment or threads: pass plain values in");
}

/// The crates that this file imports, without psl and the standard library.
fn foreign(code: &str) -> Vec<String> {
    let known = ["std", "core", "alloc", "crate", "super", "self", "psl"];
    let own: Vec<&str> =
        code.split("mod ").filter_map(|rest| rest.split([';', ' ']).next()).collect();
    let imports = code.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        line.strip_prefix("use ")?.split([':', ';', ' ']).next()
    });
    let imports = imports.filter(|root| !known.contains(root) && !own.contains(root));
    imports.map(str::to_string).collect()
}

/// The modules of its crate that a file names.
fn uses(file: &Source, modules: &BTreeSet<Vec<String>>) -> BTreeSet<Vec<String>> {
    let own = module(&file.path);
    let mut found = BTreeSet::new();
    for path in paths(&file.code, "crate").into_iter().chain(paths(&file.code, "super")) {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let mut full = own[..own.len().saturating_sub(supers)].to_vec();
        match path[0].as_str() {
            "crate" => full = path[1..].to_vec(),
            _ => full.extend_from_slice(&path[supers..]),
        }
        while !full.is_empty() && !modules.contains(&full) {
            full.pop();
        }
        found.insert(full);
    }
    found
}

/// A module and its submodules are one thing: an edge goes from sibling to sibling, below the
/// nearest module that contains both ends.
fn sibling_edges(files: &[Source]) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let modules: BTreeSet<_> = files.iter().map(|file| module(&file.path)).collect();
    let mut edges: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for file in files {
        let from = module(&file.path);
        for to in uses(file, &modules) {
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if common < from.len() && common < to.len() {
                let edge = edges.entry(from[..=common].to_vec()).or_default();
                edge.insert(to[..=common].to_vec());
            }
        }
    }
    edges
}

#[test]
fn files_of_a_crate_import_each_other_in_one_direction() {
    let mut cycles = Vec::new();
    for folder in PRODUCT {
        let edges = sibling_edges(&sources(&root(), &[folder]));
        for start in edges.keys() {
            let (mut reached, mut next) = (BTreeSet::new(), vec![start]);
            while let Some(from) = next.pop() {
                next.extend(edges.get(from).into_iter().flatten().filter(|to| reached.insert(*to)));
            }
            let back: Vec<_> = reached
                .iter()
                .filter(|to| edges.get(**to).is_some_and(|e| e.contains(start)))
                .collect();
            for to in back {
                cycles.push(format!("{folder}: {} <- {}", start.join("::"), to.join("::")));
            }
        }
    }
    none(cycles, "modules import each other in a cycle: move the shared type to a file below both");
}

#[test]
fn predicates_change_nothing() {
    let mut found = Vec::new();
    for source in product() {
        for line in source.code.lines() {
            let is_predicate = line.contains("fn is_") || line.contains("fn has_");
            // The trait `Transport` of ureq has this signature.
            let is_foreign =
                source.path.ends_with("tls/transport.rs") && line.contains("fn is_open");
            if is_predicate && !is_foreign && line.contains("(&mut self") {
                found.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    none(found, "is_… and has_… take &self and change nothing: rename it to a verb");
}

#[test]
fn a_type_name_is_used_once_in_a_program() {
    let mut twice = Vec::new();
    for program in PROGRAMS {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for source in sources(&root(), &["psl/src", &format!("{program}/src")]) {
            for line in source.code.lines().filter(|line| !line.starts_with(' ')) {
                let words: Vec<&str> =
                    line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
                let is_type = |word: &&str| ["struct", "enum", "trait", "type"].contains(word);
                if let Some(at) = words.iter().position(&is_type) {
                    let name = words.get(at + 1).unwrap_or(&"").to_string();
                    places.entry(name).or_default().push(source.path.clone());
                }
            }
        }
        let shared = places.into_iter().filter(|(_, places)| places.len() > 1);
        twice.extend(
            shared.map(|(name, places)| format!("{program}: {name}: {}", places.join(", "))),
        );
    }
    none(twice, "a type name stands for one thing in a program: rename one of them");
}

// ---- size and form ----

#[test]
fn product_files_and_functions_are_short() {
    let mut long = Vec::new();
    for source in product() {
        let lines: Vec<&str> = source.text.lines().collect();
        if lines.len() > MOST_LINES {
            long.push(format!("{}: {} lines", source.path, lines.len()));
        }
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let Some((_, name)) = line.split_once("fn ") else { continue };
            if line.trim_start().starts_with("//") || line.ends_with([';', '}']) {
                continue;
            }
            let is_end = |line: &&str| line.trim_start() == "}" && line.len() == indent + 1;
            let length = lines[start..].iter().position(is_end).map_or(0, |end| end + 1);
            if length > MOST_FUNCTION_LINES {
                let name = name.split(['(', '<']).next().unwrap_or_default();
                long.push(format!("{}:{}: {name}: {length} lines", source.path, start + 1));
            }
        }
    }
    none(long, "files have at most 400 lines, functions 40: split them by concern");
}

#[test]
fn a_doc_comment_says_more_than_the_name() {
    let mut empty = Vec::new();
    for source in sources(&root(), &["psl", "lock", "init", "health", "dev/testkit", "dev/checks"])
    {
        let mut comment = String::new();
        for (at, line) in source.text.lines().enumerate() {
            match line.trim_start().strip_prefix("///") {
                Some(text) => comment += text,
                None => {
                    // A number, or a field or flag in backticks, is more than the name.
                    let is_plain = !comment.contains(|c: char| c == '`' || c.is_ascii_digit());
                    if is_plain && (1..=3).contains(&comment.split_whitespace().count()) {
                        empty.push(format!("{}:{at}:{comment}", source.path));
                    }
                    comment.clear();
                }
            }
        }
    }
    none(empty, "doc comments of three words say no more than the name: delete them, or say more");
}

/// rustfmt wraps code but no comments; long strings and expressions cannot be wrapped.
#[test]
fn comments_fit_a_hundred_columns() {
    let mut find = Command::new("git");
    find.current_dir(root()).args(["ls-files", "*.rs", "*.sh", "deploy/*.yaml"]);
    let listed = shell::run(&mut find);
    if listed.code != Some(0) {
        return skip("there is no git to list the files with");
    }
    let mut long = Vec::new();
    // The marks of deploy/upgrade quote whole lines of older manifests.
    for path in listed.stdout.lines().filter(|path| !path.starts_with("deploy/upgrade/")) {
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        let mark = if path.ends_with(".rs") { "//" } else { "#" };
        for (at, line) in text.lines().enumerate() {
            if line.chars().count() > MOST_COLUMNS && line.trim_start().starts_with(mark) {
                long.push(format!("{path}:{}", at + 1));
            }
        }
    }
    none(long, "comments are longer than 100 columns: wrap them");
}
