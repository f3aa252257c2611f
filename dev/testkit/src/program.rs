//! Runs a real binary in a cleared environment. Does not know the programs.

mod finished;
mod logfmt;
mod running;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

pub use finished::Finished;
pub use logfmt::field;
pub use running::{Running, threads_time};

use crate::CEILING;

/// A binary with its arguments and environment.
#[derive(Clone, Debug)]
pub struct Program {
    file: PathBuf,
    prefix: Vec<OsString>,
    /// The prefix forks, so that the program is a child of the prefix.
    below_prefix: bool,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    /// Directories and servers that the program needs while it runs.
    keep: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Program {
    /// `exe` is the value of `env!("CARGO_BIN_EXE_name")`. If `PSL_TEST_BIN_DIR` is set, the binary
    /// of the same name in there is run instead, so that the tests hold for the static binaries.
    #[track_caller]
    pub fn new(exe: &str) -> Program {
        Program::of(exe, Program::static_dir())
    }

    #[track_caller]
    fn of(exe: &str, static_dir: Option<PathBuf>) -> Program {
        let built = Path::new(exe);
        let file = match (&static_dir, built.file_name()) {
            (Some(dir), Some(name)) => dir.join(name),
            _ => built.to_path_buf(),
        };
        assert!(
            file.is_file(),
            "no binary at {} (built at {exe}; PSL_TEST_BIN_DIR is {static_dir:?})",
            file.display()
        );
        Program::at(file)
    }

    /// This file, whatever `PSL_TEST_BIN_DIR` says: for programs of other projects.
    pub fn at(file: impl Into<PathBuf>) -> Program {
        Program {
            file: file.into(),
            prefix: Vec::new(),
            below_prefix: false,
            args: Vec::new(),
            env: Vec::new(),
            keep: Vec::new(),
        }
    }

    /// The directory of the static binaries, `PSL_TEST_BIN_DIR`.
    pub fn static_dir() -> Option<PathBuf> {
        let dir = std::env::var_os("PSL_TEST_BIN_DIR").filter(|dir| !dir.is_empty())?;
        // A relative path counts from the root: Cargo runs tests in the directory of their crate.
        Some(crate::root().join(dir))
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.args.push(arg.as_ref().to_os_string());
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Program {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_os_string()));
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Program {
        self.env.push((name.as_ref().to_os_string(), value.as_ref().to_os_string()));
        self
    }

    /// Runs `prefix… program args…`. The prefix must end in an `exec`, so that its process becomes
    /// the program's.
    pub fn under<A: Into<OsString>>(mut self, prefix: impl IntoIterator<Item = A>) -> Program {
        self.prefix.splice(..0, prefix.into_iter().map(Into::into));
        self
    }

    /// Runs it as process 1 of a new namespace, in which the kernel ignores signals without a
    /// handler, as in a container. The error says why this machine cannot do so.
    pub fn as_pid_1(mut self) -> Result<Program, String> {
        // The innermost prefix, so that no other process is process 1.
        self.prefix.push(root_tool("unshare")?.into());
        self.prefix.extend(["--pid", "--fork", "--kill-child", "--"].map(OsString::from));
        self.below_prefix = true;
        Ok(self)
    }

    /// Mounts this file or directory over another one, such as one of the kernel's, for this
    /// program only. The error says why this machine cannot do so.
    pub fn seeing(self, source: &Path, place: &str) -> Result<Program, String> {
        let (unshare, mount) = (root_tool("unshare")?, root_tool("mount")?);
        let script = r#""$0" --bind "$1" "$2" && shift 2 && exec "$@""#;
        let mut prefix = vec![unshare.into_os_string()];
        prefix.extend(["--mount", "--", "/bin/sh", "-c", script].map(OsString::from));
        prefix.extend([mount.into_os_string(), source.into(), place.into()]);
        // A kernel may not have the place, and a container may not be allowed to mount.
        let probe = Program::at("/bin/true").under(prefix.clone()).run(CEILING);
        match probe.code {
            Some(0) => Ok(self.under(prefix)),
            _ => Err(format!("cannot mount over {place}: {}", probe.stderr.trim())),
        }
    }

    /// Keeps a directory or a server until the program has been dropped.
    pub(crate) fn keeping(mut self, kept: impl Any + Send + Sync) -> Program {
        self.keep.push(Arc::new(kept));
        self
    }

    /// Starts it and waits for its end; panics at the ceiling.
    #[track_caller]
    pub fn run(&self, ceiling: Duration) -> Finished {
        self.start().wait(ceiling)
    }

    #[track_caller]
    pub fn start(&self) -> Running {
        let words: Vec<&OsStr> = self.words().collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear();
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = self.shown();
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
        let mut running = Running::new(child, shown, self.keep.clone());
        if self.below_prefix {
            running.descend_to(&self.file);
        }
        running
    }

    fn words(&self) -> impl Iterator<Item = &OsStr> {
        let words = self.prefix.iter().map(OsString::as_os_str);
        words.chain([self.file.as_os_str()]).chain(self.args.iter().map(OsString::as_os_str))
    }

    /// The command line with its environment, as one would type it.
    fn shown(&self) -> String {
        let quoted = |text: &OsStr| {
            let text = text.to_string_lossy();
            match text.is_empty() || text.contains([' ', '\t', '\n', '"', '\'', '$', '&', '*']) {
                true => format!("{text:?}"),
                false => text.into_owned(),
            }
        };
        let env = self.env.iter();
        let env = env.map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(value)));
        env.chain(self.words().map(quoted)).collect::<Vec<_>>().join(" ")
    }
}

/// The path of a tool that only root can use. The error names the missing part.
pub(crate) fn root_tool(name: &str) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err(format!("{name} needs root"));
    }
    let folders = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    paths.find(|path| path.is_file()).ok_or_else(|| format!("{name} is not installed"))
}
