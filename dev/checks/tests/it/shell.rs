//! A checkout in which tests run the repository's scripts, with tools that only record their calls,
//! and commands whose failure shows all of their output. Does not know the scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use testkit::program::Program;
use testkit::scratch::Scratch;
use testkit::skip;

pub const PROGRAMS: [&str; 3] = ["lock", "init", "health"];

pub fn root() -> PathBuf {
    testkit::root()
}

#[derive(Debug)]
pub struct Ended {
    pub command: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Its output, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        self.with(0).stdout
    }

    #[track_caller]
    pub fn with(self, code: i32) -> Ended {
        assert_eq!(
            self.code,
            Some(code),
            "{}\nstdout:\n{}\nstderr:\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Runs a command to its end. If it cannot be started its code is 127, as in a shell.
pub fn run(command: &mut Command) -> Ended {
    let words = format!("{command:?}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match command.stdin(Stdio::null()).output() {
        Ok(Output { status, stdout, stderr }) => Ended {
            command: words,
            code: status.code(),
            stdout: text(&stdout),
            stderr: text(&stderr),
        },
        Err(error) => Ended {
            command: words,
            code: Some(127),
            stdout: String::new(),
            stderr: format!("cannot be run: {error}"),
        },
    }
}

/// A static binary; `None`, and a line about it, if none were built.
pub fn program(name: &str) -> Option<Program> {
    let Some(built) = Program::static_dir() else {
        skip("PSL_TEST_BIN_DIR does not say where the static binaries are");
        return None;
    };
    Some(Program::at(built.join(name)))
}

/// Whether a command is installed and succeeds with these arguments.
pub fn answers(command: &str, arguments: &[&str]) -> bool {
    run(Command::new(command).args(arguments)).code == Some(0)
}

/// A copy of the files that scripts read. Tests do not disturb each other in it, and its removal
/// removes all of them.
pub struct Checkout {
    scratch: Scratch,
}

impl Checkout {
    pub fn new() -> Checkout {
        let scratch = Scratch::new();
        for name in [
            ".ci",
            "scripts",
            "deploy",
            ".dockerignore",
            ".gitattributes",
            "Cargo.toml",
            "Cargo.lock",
            "CHANGELOG.md",
        ] {
            run(Command::new("cp").arg("-R").arg(root().join(name)).arg(scratch.path())).ok();
        }
        Checkout { scratch }
    }

    /// With the static programs in dist/amd64; `None`, and a line about it, if none were built.
    pub fn with_programs() -> Option<Checkout> {
        let Some(built) = Program::static_dir() else {
            skip("PSL_TEST_BIN_DIR does not say where the static binaries are");
            return None;
        };
        let checkout = Checkout::new();
        fs::create_dir_all(checkout.join("dist/amd64")).unwrap();
        for name in PROGRAMS.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.built")]) {
            let copied = fs::copy(built.join(&name), checkout.join(&format!("dist/amd64/{name}")));
            copied.unwrap_or_else(|error| panic!("{}/{name}: {error}", built.display()));
        }
        Some(checkout)
    }

    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Makes a shell script, such as a tool that takes the place of a real one.
    pub fn script(&self, name: &str, body: &str) {
        let file = self.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// As [`Checkout::script`], but it appends its name and arguments to the file `$RECORD` first.
    pub fn recorder(&self, name: &str, body: &str) {
        let record = r#"printf '%s\n' "${0##*/} $*" >>"$RECORD""#;
        self.script(name, &format!("{record}\n{body}"));
    }

    /// A command in its root.
    pub fn command(&self, name: &str) -> Command {
        let mut command =
            Command::new(if name.starts_with("scripts/") { self.join(name) } else { name.into() });
        command.current_dir(self.path());
        command
    }
}
