//! The commands of the README on a machine that lacks a tool: each script names the missing tool in
//! one line, and no script begins its work with unknown arguments. Each test removes or replaces
//! tools in its own checkout.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::shell;
use crate::shell::{Checkout, run};

/// The names of the scripts that users run.
fn scripts() -> Vec<String> {
    let directory = fs::read_dir(shell::root().join("scripts")).unwrap().map(Result::unwrap);
    let runs = |file: &fs::DirEntry| {
        let metadata = file.metadata().unwrap();
        metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
    };
    let mut names: Vec<_> =
        directory.filter(runs).map(|file| file.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.contains(&"test.sh".to_owned()), "{names:?}");
    names
}

#[test]
fn help_is_printed_and_nothing_is_done() {
    let checkout = Checkout::new();
    for name in scripts() {
        let mut command = checkout.command(&format!("scripts/{name}"));
        let ended = run(command.arg("--help").env("PATH", "/usr/bin:/bin")).with(0);
        let help = ended.stdout.as_str();
        assert!(ended.stderr.is_empty(), "{name}: {}", ended.stderr);
        assert!(help.contains(&format!("  scripts/{name}")), "{name}: {help}");
        // The last sentence: a comment on the code must not follow it.
        let codes = help
            .rsplit_once("Exit codes: 0 ")
            .unwrap_or_else(|| panic!("{name} has no exit codes: {help}"))
            .1;
        assert!(
            codes.trim_end().find('.') == Some(codes.trim_end().len() - 1),
            "{name} ends with: {codes}"
        );
        assert!(!checkout.join("dist").exists() && !checkout.join("target").exists(), "{name}");
    }
}

#[test]
fn unknown_arguments_are_refused_before_anything_is_done() {
    let checkout = Checkout::new();
    for name in scripts() {
        for arguments in [&["--no-such-option"][..], &["--no-such-option=1"], &["no-such-word"]] {
            let mut command = checkout.command(&format!("scripts/{name}"));
            let ended = run(command.args(arguments).env("PATH", "/usr/bin:/bin")).with(2);
            assert!(ended.stdout.is_empty(), "{name} {arguments:?}: {}", ended.stdout);
            assert_eq!(ended.stderr.lines().count(), 1, "{name} {arguments:?}: {}", ended.stderr);
            assert!(!checkout.join("dist").exists() && !checkout.join("target").exists(), "{name}");
        }
    }
}

/// A checkout with stand-ins for commands.
struct Machine {
    checkout: Checkout,
    path: String,
}

impl Machine {
    /// With a Rust toolchain that builds no program, and the system's C compiler.
    fn new() -> Machine {
        let checkout = Checkout::new();
        let path = format!("{}:/usr/bin:/bin", checkout.join("bin").display());
        fs::create_dir(checkout.join("bin")).unwrap();
        let machine = Machine { checkout, path };
        fs::create_dir_all(machine.file("sysroot/lib/rustlib/x86_64-unknown-linux-musl")).unwrap();
        machine.tool(
            "bin/rustc",
            "case $* in *sysroot*) echo sysroot ;; *) echo 'rustc 1.95.0 (a 2026-01-01)' ;; esac",
        );
        machine.tool("bin/cargo", "case $1 in --version) ;; *) exit 101 ;; esac");
        machine
    }

    fn file(&self, name: &str) -> PathBuf {
        self.checkout.join(name)
    }

    fn tool(&self, name: &str, body: &str) {
        self.checkout.script(name, body);
    }

    fn command(&self, script: &str) -> Command {
        let mut command = self.checkout.command(script);
        command.env("PATH", &self.path).env("HOME", self.checkout.path());
        let toolchain =
            ["CI", "CARGO_TARGET_DIR", "CARGO_HOME", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"];
        for name in toolchain.into_iter().chain(["PSL_E2E_KUBECONFIG", "PSL_E2E_OPTIONS"]) {
            command.env_remove(name);
        }
        command
    }

    /// The script must fail with these words in its last line.
    #[track_caller]
    fn fails(&self, script: &str, arguments: &[&str], words: &[&str]) {
        let ended = run(self.command(script).args(arguments)).with(1);
        let last = ended.stderr.lines().last().unwrap_or_default();
        for word in words {
            assert!(
                last.contains(word),
                "{script} {arguments:?}, without {word:?}: {}",
                ended.stderr
            );
        }
    }
}

/// The first step of CI installs tools on a machine that has only some of them.
#[test]
fn ci_installs_what_is_missing_and_nothing_for_help() {
    let machine = Machine::new();
    machine.tool("bin/apt-get", "echo \"$*\" >>installed");
    let ci = machine.file(".ci/run");
    let run_with = |arguments: &[&str]| run(machine.command(ci.to_str().unwrap()).args(arguments));
    assert!(run_with(&["--help"]).ok().contains("  scripts/test.sh"));
    let ended = run_with(&["--fast"]).with(2);
    assert!(ended.stderr.contains("unknown argument '--fast'"), "{}", ended.stderr);
    assert!(!machine.file("installed").exists());

    // Without the development files of the C library, and without packages.
    machine.tool("bin/cc", "exit 1");
    machine.tool("bin/kubectl", "exit 0");
    machine.tool("bin/id", "echo 0");
    machine.tool("bin/apt-get", "echo \"$*\" >>installed; [ \"$2\" = update ]");
    machine.tool("scripts/test.sh", "echo \"CI=$CI\"");
    let said = run_with(&[]).ok();
    assert!(said.starts_with("skipped: installing ") && said.ends_with("\nCI=true\n"), "{said}");
    let installed = fs::read_to_string(machine.file("installed")).unwrap();
    let install = installed.lines().last().unwrap();
    assert!(install.contains(" install ") && install.contains(" gcc libc6-dev"), "{installed}");
}

/// In the order in which a fresh machine meets them.
#[test]
fn a_build_names_what_is_missing() {
    let machine = Machine::new();
    let build =
        |arguments: &[&str], words: &[&str]| machine.fails("scripts/build.sh", arguments, words);

    fs::remove_file(machine.file("bin/cargo")).unwrap();
    build(&[], &["build.sh: command not found: cargo", "rustup"]);
    machine.fails("scripts/vendor.sh", &[], &["vendor.sh: command not found: cargo", "rustup"]);
    machine.tool("bin/cargo", "echo 'error: no default toolchain' >&2 && exit 1");
    build(&[], &["cargo does not run: error: no default toolchain", "rustup"]);
    machine.tool("bin/cargo", "case $1 in --version) ;; *) exit 101 ;; esac");

    let rustc = fs::read_to_string(machine.file("bin/rustc")).unwrap();
    fs::write(machine.file("bin/rustc"), rustc.replace("1.95.0", "1.63.0")).unwrap();
    build(&[], &["rustc 1.63 is too old", "1.88 or newer"]);
    fs::write(machine.file("bin/rustc"), rustc).unwrap();

    machine.tool("bin/cc", "exit 0");
    fs::rename(machine.file("sysroot"), machine.file("aside")).unwrap();
    build(&[], &["the Rust target x86_64-unknown-linux-musl is missing", "so is rustup"]);
    build(&["--offline"], &["the Rust target x86_64-unknown-linux-musl is missing", "--offline"]);
    machine.tool("bin/rustup", "echo 'error: could not download' >&2 && exit 1");
    build(&[], &["cannot add the Rust target", "run: rustup target add x86_64-unknown-linux-musl"]);
    fs::rename(machine.file("aside"), machine.file("sysroot")).unwrap();

    let linker = "case $1 in --version) ;; *) echo 'rust-lld: error: cannot open Scrt1.o' >&2; exit 101 ;; esac";
    machine.tool("bin/cargo", linker);
    build(&[], &["cannot link programs", "apt-get install gcc libc6-dev", "cannot open Scrt1.o"]);
    let fetches = |some: &str| {
        machine
            .tool("bin/cargo", &format!("case $1 in --version | {some}) ;; *) exit 101 ;; esac"));
    };
    fetches("check");
    machine.tool("bin/cc", "echo 'fatal error: stdint.h: No such file' >&2 && exit 1");
    build(&[], &["cc cannot compile C", "libc6-dev", "stdint.h"]);
    machine.tool("bin/cc", "exit 0");
    build(&[], &["cannot download the crates", "scripts/vendor.sh", "--offline"]);
    build(&["--offline"], &["Cargo has not downloaded all crates", "scripts/vendor.sh"]);
    fetches("check | fetch");
    build(&["init"], &["cannot build init"]);
}

#[test]
fn a_demonstration_names_what_is_missing() {
    let machine = Machine::new();
    let demo = |words: &[&str]| machine.fails("scripts/demo.sh", &["--no-build"], words);
    demo(&["dist/amd64/lock is missing; run: scripts/build.sh"]);
    fs::create_dir_all(machine.file("dist/amd64")).unwrap();
    for program in shell::PROGRAMS {
        machine.tool(&format!("dist/amd64/{program}"), "exit 0");
    }
    demo(&["cannot build the examples of testkit"]);
    fs::remove_file(machine.file("bin/cargo")).unwrap();
    demo(&["command not found: cargo"]);
}

/// The last lines of `scripts/test.sh`, with replaced steps.
#[test]
fn all_steps_run_and_the_end_counts_them() {
    let machine = Machine::new();
    let cargo = |format: &str, test: &str| {
        let body = format!("case $1 in fmt) {format} ;; test) {test} ;; deny) exit 101 ;; esac");
        machine.tool("bin/cargo", &body);
    };
    let skips = "printf '\\ntest result: ok. 5 passed; 0 failed; 0 ignored\\n\\nskipped: no moon\\n\\nskipped: no moon\\n'";
    cargo("exit 0", skips);
    machine.tool("scripts/build.sh", "exit 0");
    machine.tool("scripts/manifests.sh", "echo 'manifests.sh: no kubectl' >&2 && exit 3");
    machine.tool("scripts/reproduce.sh", "echo 'skipped: no namespace'");
    machine.tool("scripts/demo.sh", "echo scenes");
    for tool in ["shellcheck", "aarch64-linux-gnu-gcc", "qemu-aarch64-static"] {
        machine.tool(&format!("bin/{tool}"), "exit 0");
    }
    fs::create_dir_all(machine.file("sysroot/lib/rustlib/aarch64-unknown-linux-musl")).unwrap();
    machine.tool("scripts/arm64.sh", "printf 'test result: ok. 2 passed; 0 failed; 0 ignored\\n'");
    machine.tool(
        "scripts/e2e.sh",
        "echo \"herd: ok ($KUBECONFIG $*)\"; echo 'reboot: skipped: needs --nodes-tool'",
    );
    let run_all = |cluster: Option<&str>, code: i32| {
        let mut command = machine.command("scripts/test.sh");
        if let Some(file) = cluster {
            command.env("PSL_E2E_KUBECONFIG", file).env("PSL_E2E_OPTIONS", "--only herd");
        }
        let ended = run(&mut command).with(code);
        let (before, end) = ended.stdout.rsplit_once("== result\n").expect("a result");
        (before.to_owned(), end.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let end = |code: i32| run_all(None, code);
    let holds = |summary: &[String], line: &str| {
        assert_eq!(
            summary.iter().filter(|said| said.trim() == line).count(),
            1,
            "{line}: {summary:#?}"
        );
    };

    let (_, summary) = end(0);
    assert_eq!(summary.first().unwrap(), "skipped, with the number of times:");
    for line in [
        "2 no moon",
        "1 no namespace",
        "1 manifests.sh: no kubectl",
        "1 cargo-deny is not installed (cargo install --locked cargo-deny)",
        "1 real cluster: PSL_E2E_KUBECONFIG is not set (scripts/e2e.sh --help)",
    ] {
        holds(&summary, line);
    }
    // Nine steps and seven tests.
    assert_eq!(summary[6..], ["16 passed, 0 failed, 6 skipped"]);

    // With a cluster: a scenario that it does not allow is a skip; a cluster that does not answer
    // is a failure.
    let (before, summary) = run_all(Some("/tmp/admin.conf"), 0);
    assert!(before.contains("\nherd: ok (/tmp/admin.conf --only herd)\n"), "{before}");
    holds(&summary, "1 reboot: needs --nodes-tool");
    holds(&summary, "17 passed, 0 failed, 6 skipped");
    machine.tool("scripts/e2e.sh", "echo 'e2e.sh: cannot reach the cluster' >&2; exit 3");
    let (_, summary) = run_all(Some("/tmp/admin.conf"), 1);
    holds(&summary, "failed: end to end, on a real cluster");
    holds(&summary, "16 passed, 1 failed, 5 skipped");

    // A failed command in the middle of a step, and two failed tests.
    cargo(
        "[ \"$2\" = --version ] || exit 1",
        "echo 'test result: FAILED. 3 passed; 2 failed; 0 ignored'; exit 101",
    );
    let (before, summary) = end(1);
    assert!(before.contains("\nscenes\n"), "the steps after it ran: {before}");
    let last =
        ["failed: format, tests, with the static binaries", "12 passed, 3 failed, 4 skipped"];
    assert_eq!(summary[summary.len() - 2..], last);

    machine.tool("scripts/build.sh", "exit 1");
    let (before, summary) = end(1);
    assert!(!before.contains("\nscenes\n"), "{before}");
    let last = [
        "not run, because the static binaries are missing: tests, with the static binaries, the same binaries, built \
         elsewhere without a network, demonstration, end to end, on a real cluster",
        "failed: static binaries, format",
        "6 passed, 2 failed, 2 skipped",
    ];
    assert_eq!(summary[summary.len() - 3..], last);
}
