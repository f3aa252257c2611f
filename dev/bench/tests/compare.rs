//! `bench compare` as it is run: what it prints, and its exit codes. The rule itself is tested beside it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed step is a failed test"
)]

use std::path::{Path, PathBuf};

use testkit::CEILING;
use testkit::program::{Finished, Program};
use testkit::scratch::Scratch;

fn compare(files: &[&Path]) -> Finished {
    Program::at(env!("CARGO_BIN_EXE_bench")).arg("compare").args(files).run(CEILING)
}

fn kept(scratch: &Scratch, name: &str, runs: &str) -> PathBuf {
    let figure = format!(
        r#"{{"name": "lock, idle: peak", "unit": "KiB", "better": "less", "runs": {runs}}}"#
    );
    let part = format!(
        r#"{{"date": "a day", "command": "a command", "machine": "a machine", "figures": [{figure}]}}"#
    );
    scratch.file(name, format!(r#"{{"version": 1, "parts": {{"Costs": {part}}}}}"#))
}

#[test]
fn the_exit_code_says_whether_something_is_worse() {
    let scratch = Scratch::new();
    let less = kept(&scratch, "less.json", "[1400.0, 1404.0, 1408.0]");
    let more = kept(&scratch, "more.json", "[1500.0, 1504.0, 1508.0]");
    for (files, code, said) in [
        ([&less, &less], 0, "0 figures have moved, 1 are within"),
        (
            [&less, &more],
            1,
            "| lock, idle: peak | KiB | 1404 (1400–1408) | 1504 (1500–1508) | +7.1 % | worse |",
        ),
        ([&more, &less], 0, "| -6.6 % | better |"),
    ] {
        let ended = compare(&files.map(PathBuf::as_path));
        assert_eq!(ended.code, Some(code), "{ended}");
        // Columns are as wide as their widest cell.
        let words = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(said), "{said}\n{ended}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let scratch = Scratch::new();
    let file = kept(&scratch, "kept.json", "[1.0]");
    let broken = scratch.file("broken.json", "{}");
    let missing = scratch.join("missing.json");
    for (files, said) in [
        (vec![&file], "compare: two files are accepted"),
        (vec![&file, &file, &file], "compare: two files are accepted"),
        (vec![&file, &missing], "missing.json: No such file"),
        (vec![&broken, &file], "broken.json: missing field"),
    ] {
        let ended = compare(&files.iter().map(|file| file.as_path()).collect::<Vec<_>>());
        assert_eq!(ended.code, Some(2), "{ended}");
        assert!(ended.stderr.contains(said), "{said}\n{ended}");
    }
}

/// What is kept in the repository can be compared with what is measured next.
#[test]
fn the_kept_figures_are_of_this_form() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.json");
    let ended = compare(&[&kept, &kept]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(
        ended.stdout.contains("## Costs") && ended.stdout.contains("- 0 figures have moved"),
        "{ended}"
    );
}
