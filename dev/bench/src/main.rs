//! Measures the static programs and compares the figures with their goals.
//!
//! `scripts/bench.sh` builds the programs and runs this. Each part is a file: `http` (with its
//! generator in `load`),
//! `attack`, `leases`, `herd`, `cluster`, `health` and `cost`. A part returns a section of text,
//! and `results` writes the
//! sections to a file. All parts but `cluster`, which runs lock's limit in virtual time, use the
//! programs from outside.
#![allow(clippy::disallowed_methods, reason = "measurements read the real clock")]

mod attack;
mod children;
mod cluster;
mod cost;
mod goal;
mod health;
mod herd;
mod http;
mod leases;
mod load;
mod machine;
mod results;
mod table;
mod waiters;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use pico_args::Arguments;

use results::Section;

type Part = fn(&Options) -> Result<Section, String>;

/// In the order in which they run.
const PARTS: &[(&str, Part)] = &[
    ("http", http::run),
    ("attack", attack::run),
    ("leases", leases::run),
    ("herd", herd::run),
    ("cluster", cluster::run),
    ("health", health::run),
    ("cost", cost::run),
];

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md");

const BROKEN: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;

pub struct Options {
    pub lock: PathBuf,
    pub init: PathBuf,
    pub health: PathBuf,
    /// The plain `tiny_http::Server`.
    pub plain: PathBuf,
    pub peers: cost::Peers,
    /// The default depends on the part.
    pub rounds: Option<usize>,
    /// The default depends on the part.
    pub seconds: Option<Duration>,
    pub herd: herd::Settings,
}

struct Command {
    parts: Vec<(&'static str, Part)>,
    write: bool,
    options: Options,
}

fn main() -> ExitCode {
    children::end_on_panic();
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = match parse(Arguments::from_vec(words)) {
        Ok(command) => command,
        Err(error) => return misused(error),
    };
    match run(&command) {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(broken) => failed(&broken, BROKEN),
        Err(error) => failed(&[error], BROKEN),
    }
}

fn misused(error: String) -> ExitCode {
    failed(&[error, "scripts/bench.sh --help lists the arguments".to_owned()], BAD_ARGUMENTS)
}

fn failed(lines: &[String], code: u8) -> ExitCode {
    for line in lines {
        eprintln!("bench: {line}");
    }
    ExitCode::from(code)
}

fn parse(mut arguments: Arguments) -> Result<Command, String> {
    let options = Options {
        lock: path(&mut arguments, "--lock")?,
        init: path(&mut arguments, "--init")?,
        health: path(&mut arguments, "--health")?,
        plain: path(&mut arguments, "--plain")?,
        peers: cost::Peers {
            lock: peer(&mut arguments, "--peer-lock")?,
            init: peer(&mut arguments, "--peer-init")?,
            health: peer(&mut arguments, "--peer-health")?,
            images: optional(&mut arguments, "--images")?,
        },
        rounds: number(&mut arguments, "--rounds")?.map(|rounds| rounds as usize),
        seconds: number(&mut arguments, "--seconds")?
            .map(|seconds| Duration::from_secs(seconds.into())),
        herd: herd::Settings::take(&mut arguments)?,
    };
    let write = arguments.contains("--write");
    let named = arguments.finish();
    let named =
        named.iter().map(|name| part(&name.to_string_lossy())).collect::<Result<Vec<_>, _>>()?;
    let parts = if named.is_empty() { PARTS.to_vec() } else { named };
    Ok(Command { parts, write, options })
}

fn path(arguments: &mut Arguments, name: &'static str) -> Result<PathBuf, String> {
    arguments.value_from_str(name).map_err(|error| format!("{name}: {error}"))
}

fn optional(arguments: &mut Arguments, name: &'static str) -> Result<Option<PathBuf>, String> {
    arguments.opt_value_from_str(name).map_err(|error| format!("{name}: {error}"))
}

/// A peer that cannot run is an error before minutes of measuring.
fn peer(arguments: &mut Arguments, name: &'static str) -> Result<Option<PathBuf>, String> {
    let Some(file) = optional(arguments, name)? else { return Ok(None) };
    match file.metadata() {
        Ok(of_it) if of_it.is_file() && of_it.permissions().mode() & 0o111 != 0 => Ok(Some(file)),
        Ok(_) => Err(format!("{name}: {} is no program", file.display())),
        Err(error) => Err(format!("{name}: {}: {error}", file.display())),
    }
}

fn number(arguments: &mut Arguments, name: &'static str) -> Result<Option<u32>, String> {
    let number = arguments.opt_value_from_str(name).map_err(|error| format!("{name}: {error}"))?;
    match number {
        Some(0) => Err(format!("{name}: 0 is not accepted; accepted: whole numbers from 1")),
        number => Ok(number),
    }
}

fn part(name: &str) -> Result<(&'static str, Part), String> {
    let known = || PARTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    PARTS
        .iter()
        .find(|(part, _)| *part == name)
        .copied()
        .ok_or_else(|| format!("no part {name:?}; there are {}", known()))
}

/// Runs the parts and prints each section. Returns the goals that fail.
fn run(command: &Command) -> Result<Vec<String>, String> {
    let mut sections = Vec::new();
    for (name, part) in &command.parts {
        eprintln!("bench: {name} …");
        let section = part(&command.options)?;
        println!("## {}\n\n{}", section.title, section.text);
        sections.push(section);
    }
    if command.write {
        write(&sections).map_err(|e| format!("cannot write {RESULTS}: {e}"))?;
    }
    Ok(sections.into_iter().flat_map(|section| section.broken).collect())
}

fn write(sections: &[Section]) -> std::io::Result<()> {
    let old = match std::fs::read_to_string(RESULTS) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    std::fs::write(RESULTS, results::merged(&old, sections))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Command, String> {
        let words =
            ["--lock", "l", "--init", "i", "--health", "h", "--plain", "p"].iter().chain(words);
        parse(Arguments::from_vec(words.map(Into::into).collect()))
    }

    #[test]
    fn arguments() {
        let names =
            |command: &Command| command.parts.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let all = parsed(&[]).unwrap();
        assert_eq!(
            (names(&all), all.write, all.options.rounds, all.options.seconds),
            (
                vec!["http", "attack", "leases", "herd", "cluster", "health", "cost"],
                false,
                None,
                None
            )
        );
        let one = parsed(&["attack", "--seconds", "3", "--write"]).unwrap();
        assert_eq!(
            (names(&one), one.write, one.options.seconds),
            (vec!["attack"], true, Some(Duration::from_secs(3)))
        );
        let cost = parsed(&["cost", "--peer-lock", "/bin/sh"]).unwrap();
        let cost::Peers { lock, init, .. } = cost.options.peers;
        assert_eq!((lock, init), (Some("/bin/sh".into()), None));
        for words in [
            &["--rounds", "0"][..],
            &["htp"],
            &["--loud"],
            &["--seconds"],
            &["--peer-init", "/no/such"],
            &["--peer-init", "/"],
            &["--peer-init", "/etc/passwd"],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
        assert!(parse(Arguments::from_vec(vec![])).is_err());
    }
}
