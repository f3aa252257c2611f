//! The conditions of a measurement: date, command, machine, versions.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The lines that stand above each table: date and command, machine, versions.
pub fn described(part: &str, lock: &Path) -> String {
    let date = said_by("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let size = fs::metadata(lock).map_or(0, |file| file.len());
    format!(
        "- {date}, `scripts/bench.sh {part}`\n\
         - {cores} cores of {}, Linux {}; load average {load} at the start\n\
         - {} of {size} bytes, tiny_http {}, {}\n",
        processor(),
        kernel.trim(),
        said_by(&lock.to_string_lossy(), &["--version"]),
        locked_version("tiny_http"),
        said_by("rustc", &["--version"]),
    )
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or("an unnamed processor", |(_, name)| name.trim()).to_owned()
}

/// The first line of a program's output; a missing program does not stop the run.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success());
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    text.lines().next().map_or_else(|| format!("unknown {program}"), str::to_owned)
}

/// The version of a dependency that this was built with.
fn locked_version(name: &str) -> &'static str {
    let lock = include_str!("../../../Cargo.lock");
    let package = lock
        .split("[[package]]")
        .find(|package| package.contains(&format!("\nname = \"{name}\"\n")));
    let version =
        package.and_then(|package| package.split("\nversion = \"").nth(1)?.split('"').next());
    version.unwrap_or("of an unknown version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_said_to_be_unknown() {
        assert_eq!(said_by("no-such-program", &[]), "unknown no-such-program");
        assert_eq!(said_by("false", &[]), "unknown false");
        assert_eq!(locked_version("no-such-package"), "of an unknown version");
        assert!(locked_version("tiny_http").starts_with("0."));
    }
}
