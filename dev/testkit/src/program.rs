//! Runs a real binary in a cleared environment and watches it from outside: its output as it comes, its port, its
//! memory. Does not know what any of the programs is for.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::http::{self, Reply};
use crate::{CEILING, eventually};

/// A binary with its arguments and environment, not yet started.
#[derive(Clone, Debug)]
pub struct Program {
    file: PathBuf,
    prefix: Vec<OsString>,
    /// The prefix forks: the program is the prefix's child.
    below_prefix: bool,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    /// Kept for as long as the program may run.
    keep: Vec<Arc<dyn std::any::Any + Send + Sync>>,
}

impl Program {
    /// `exe` is what `env!("CARGO_BIN_EXE_name")` says. Where `PSL_TEST_BIN_DIR` is set, the binary of the same name in
    /// there is run instead, so that the same tests hold for the static binaries.
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

    /// Exactly this file, whatever `PSL_TEST_BIN_DIR` says: for programs that are not ours.
    pub fn at(file: impl Into<PathBuf>) -> Program {
        Program {
            file: file.into(),
            prefix: Vec::new(),
            below_prefix: false,
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            keep: Vec::new(),
        }
    }

    /// Where the static binaries are, if `PSL_TEST_BIN_DIR` says so; a relative path counts from the workspace's root.
    pub fn static_dir() -> Option<PathBuf> {
        let dir = std::env::var_os("PSL_TEST_BIN_DIR").filter(|dir| !dir.is_empty())?;
        // Cargo runs tests in the directory of their crate, but a person names the path from where they stand.
        Some(crate::root().join(dir))
    }

    /// The binary that will run.
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

    /// The working directory.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Program {
        self.dir = Some(dir.as_ref().to_path_buf());
        self
    }

    /// Runs `prefix… program args…`. The prefix must end in an `exec`, so that its process becomes the program's.
    pub fn under<A: Into<OsString>>(mut self, prefix: impl IntoIterator<Item = A>) -> Program {
        let mut prefix: Vec<OsString> = prefix.into_iter().map(Into::into).collect();
        prefix.append(&mut self.prefix);
        self.prefix = prefix;
        self
    }

    /// Runs it as process 1 of a namespace of its own, where a signal without a handler is ignored, as in a container.
    /// The error says why that cannot be done here.
    pub fn as_pid_1(mut self) -> Result<Program, String> {
        let unshare = root_tool("unshare")?;
        // The innermost prefix, so that nothing but the program is process 1.
        self.prefix.extend([
            unshare.into_os_string(),
            "--pid".into(),
            "--fork".into(),
            "--kill-child".into(),
            "--".into(),
        ]);
        self.below_prefix = true;
        Ok(self)
    }

    /// Runs it where it sees this file or directory in the place of another one, such as one of the kernel's. The error says
    /// why that cannot be done here.
    pub fn seeing(self, directory: &Path, place: &str) -> Result<Program, String> {
        let (unshare, mount) = (root_tool("unshare")?, root_tool("mount")?);
        let script = r#"tool=$1 && directory=$2 && place=$3 && shift 3 && "$tool" --bind "$directory" "$place" && exec "$@""#;
        let words = ["-m", "sh", "-c", script, "sh"].map(OsString::from);
        let rest = [mount.into_os_string(), directory.into(), place.into()];
        let prefix: Vec<_> =
            [unshare.into_os_string()].into_iter().chain(words).chain(rest).collect();
        // A kernel may have no such place, and a container may not be allowed to mount.
        let tried = Program::at("/bin/true").under(prefix.clone()).run(CEILING);
        match tried.code {
            Some(0) => Ok(self.under(prefix)),
            _ => Err(tried.stderr.trim().to_owned()),
        }
    }

    /// Keeps something (a directory, a server) until the program has been dropped.
    pub(crate) fn keeping(mut self, kept: impl std::any::Any + Send + Sync) -> Program {
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
        let mut words: Vec<&OsStr> = self.prefix.iter().map(OsString::as_os_str).collect();
        words.push(self.file.as_os_str());
        words.extend(self.args.iter().map(OsString::as_os_str));
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let shown = self.shown(&words);
        let started = Instant::now();
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
        let output = Arc::new(Output::default());
        let readers = vec![
            collect(child.stdout.take().expect("piped"), Stream::Out, &output),
            collect(child.stderr.take().expect("piped"), Stream::Err, &output),
        ];
        let mut running = Running {
            pid: child.id().cast_signed(),
            command: shown,
            child,
            started,
            output,
            readers,
            ended: None,
            _keep: self.keep.clone(),
        };
        if self.below_prefix {
            running.pid = running.pid_below(&self.file);
        }
        running
    }

    fn shown(&self, words: &[&OsStr]) -> String {
        let quoted = |text: &OsStr| {
            let text = text.to_string_lossy();
            let plain =
                !text.is_empty() && !text.contains([' ', '\t', '\n', '"', '\'', '$', '&', '*']);
            if plain { text.into_owned() } else { format!("{text:?}") }
        };
        let env = self
            .env
            .iter()
            .map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(value)));
        let words = words.iter().map(|word| quoted(word));
        env.chain(words).collect::<Vec<_>>().join(" ")
    }
}

/// Where a tool is that only root can use; the error says what is missing.
pub(crate) fn root_tool(name: &str) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err(format!("{name} needs root"));
    }
    let mut found = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .filter(|path| path.is_file());
    found.next().ok_or_else(|| format!("there is no {name} here"))
}

#[derive(Clone, Copy, PartialEq)]
enum Stream {
    Out,
    Err,
}

/// The lines of both streams in the order in which they were seen.
#[derive(Default)]
struct Output {
    lines: Mutex<Vec<(Stream, String)>>,
    grown: Condvar,
}

impl Output {
    fn lines(&self) -> MutexGuard<'_, Vec<(Stream, String)>> {
        self.lines.lock().unwrap()
    }

    fn of(&self, stream: Stream) -> String {
        let lines = self.lines();
        let of_it = lines.iter().filter(|(of, _)| *of == stream);
        of_it.flat_map(|(_, line)| [line.as_str(), "\n"]).collect()
    }
}

fn collect(
    pipe: impl Read + Send + 'static,
    stream: Stream,
    output: &Arc<Output>,
) -> std::thread::JoinHandle<()> {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            let text = text.strip_suffix('\n').unwrap_or(&text).to_string();
            output.lines().push((stream, text));
            output.grown.notify_all();
            line.clear();
        }
    })
}

/// A program that has been started. Killed on drop.
pub struct Running {
    child: Child,
    pid: i32,
    command: String,
    started: Instant,
    output: Arc<Output>,
    readers: Vec<std::thread::JoinHandle<()>>,
    ended: Option<(ExitStatus, Duration)>,
    _keep: Vec<Arc<dyn std::any::Any + Send + Sync>>,
}

impl Running {
    /// The first line of either stream that fits, also one written before.
    #[track_caller]
    pub fn wait_for(&mut self, fits: impl Fn(&str) -> bool, ceiling: Duration) -> String {
        self.wait_for_after(0, fits, ceiling)
    }

    #[track_caller]
    pub fn wait_for_text(&mut self, part: &str, ceiling: Duration) -> String {
        match self.find_after(0, &|line: &str| line.contains(part), ceiling) {
            Some(line) => line,
            None => panic!("no line with {part:?} within {ceiling:?}\n{self}"),
        }
    }

    /// How many lines there are so far, for [`Running::wait_for_after`].
    pub fn mark(&self) -> usize {
        self.output.lines().len()
    }

    /// As [`Running::wait_for`], but leaves out the lines before the mark.
    #[track_caller]
    pub fn wait_for_after(
        &mut self,
        mark: usize,
        fits: impl Fn(&str) -> bool,
        ceiling: Duration,
    ) -> String {
        match self.find_after(mark, &fits, ceiling) {
            Some(line) => line,
            None => panic!("no such line within {ceiling:?}\n{self}"),
        }
    }

    fn find_after(
        &mut self,
        mark: usize,
        fits: &dyn Fn(&str) -> bool,
        ceiling: Duration,
    ) -> Option<String> {
        let deadline = Instant::now() + ceiling;
        let mut next = mark;
        loop {
            // Asked before the lines are looked at: of a program that has ended, all lines are in once its readers are.
            let over = self.try_wait().is_some()
                && self.readers.iter().all(std::thread::JoinHandle::is_finished);
            let lines = self.output.lines();
            if let Some((_, line)) = lines.iter().skip(next).find(|(_, line)| fits(line)) {
                return Some(line.clone());
            }
            next = next.max(lines.len());
            if over || Instant::now() >= deadline {
                return None;
            }
            let patience = Duration::from_millis(20);
            drop(self.output.grown.wait_timeout(lines, patience).unwrap());
        }
    }

    pub fn count(&self, fits: impl Fn(&str) -> bool) -> usize {
        self.output.lines().iter().filter(|(_, line)| fits(line)).count()
    }

    /// The lines of both streams so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines().iter().map(|(_, line)| line.clone()).collect()
    }

    pub fn stdout(&self) -> String {
        self.output.of(Stream::Out)
    }

    pub fn stderr(&self) -> String {
        self.output.of(Stream::Err)
    }

    /// The port that a server says it listens on.
    #[track_caller]
    pub fn port(&mut self) -> u16 {
        let listening = |line: &str| field(line, "msg").is_some_and(|msg| msg == "listening");
        let Some(line) = self.find_after(0, &listening, CEILING) else {
            panic!("it never said that it listens\n{self}");
        };
        let address = field(&line, "address").unwrap_or_default();
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.unwrap_or_else(|| panic!("no port in {line}\n{self}"))
    }

    /// Where a server that listens on all addresses, or on 127.0.0.1, is reached.
    #[track_caller]
    pub fn addr(&mut self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks it, where it is a server, and has its answer.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Reply {
        http::get(self.addr(), target)
    }

    /// How often its threads have gone to sleep by themselves.
    #[track_caller]
    pub fn wakes(&self) -> u64 {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("the process to run");
        let of = |path: &Path| {
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        };
        tasks.filter_map(|task| of(&task.ok()?.path())).sum()
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`, `HUP`, `STOP`, `CONT`, `USR1`.
    #[track_caller]
    pub fn signal(&mut self, name: &str) {
        let signal = match name {
            "TERM" => Signal::TERM,
            "INT" => Signal::INT,
            "KILL" => Signal::KILL,
            "HUP" => Signal::HUP,
            "STOP" => Signal::STOP,
            "CONT" => Signal::CONT,
            "USR1" => Signal::USR1,
            _ => panic!("unknown signal {name}"),
        };
        let pid = Pid::from_raw(self.pid).expect("a process has a number");
        if let Err(error) = kill_process(pid, signal) {
            panic!("cannot send {name}: {error}\n{self}");
        }
    }

    /// No thread of it runs until it is sent `CONT`.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal("STOP");
        let status = format!("/proc/{}/status", self.pid);
        eventually("the process to stand still", CEILING, || {
            std::fs::read_to_string(&status)
                .expect("the process to run")
                .contains("State:\tT")
                .then_some(())
        });
    }

    /// The most memory it ever had resident.
    #[track_caller]
    pub fn memory_peak_kib(&self) -> u64 {
        self.status_number("VmHWM")
    }

    /// The memory it has resident now.
    #[track_caller]
    pub fn memory_kib(&self) -> u64 {
        self.status_number("VmRSS")
    }

    #[track_caller]
    pub fn threads(&self) -> usize {
        usize::try_from(self.status_number("Threads")).unwrap()
    }

    /// How many file descriptors it has open.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        match std::fs::read_dir(format!("/proc/{}/fd", self.pid)) {
            Ok(entries) => entries.count(),
            Err(error) => panic!("cannot count the descriptors of {}: {error}\n{self}", self.pid),
        }
    }

    /// The processor time it has used, its own and the kernel's for it; in steps of 10 ms.
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        // The name in brackets may hold anything, so count from its end: fields 14 and 15 are the 12th and 13th there.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: u64 = rest.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
        Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
    }

    /// The processor time of the threads that it has now, to the nanosecond: what is short vanishes between ticks.
    #[track_caller]
    pub fn threads_time(&self) -> Duration {
        let time = threads_time(self.pid);
        time.unwrap_or_else(|error| {
            panic!("cannot read the threads of {}: {error}\n{self}", self.pid)
        })
    }

    #[track_caller]
    fn status_number(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.split(':').next() == Some(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} of process {}: has it ended?\n{self}", self.pid))
    }

    #[track_caller]
    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {path}: {error}\n{self}"))
    }

    /// The exit code, or 128 plus the signal, of a program that has ended.
    pub fn try_wait(&mut self) -> Option<i32> {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended = Some((status, self.started.elapsed()));
        }
        let (status, _) = self.ended?;
        status.code().or(status.signal().map(|signal| 128 + signal))
    }

    /// Waits for its end; panics at the ceiling.
    #[track_caller]
    pub fn wait(mut self, ceiling: Duration) -> Finished {
        let deadline = Instant::now() + ceiling;
        while self.try_wait().is_none() {
            assert!(Instant::now() < deadline, "still running after {ceiling:?}\n{self}");
            std::thread::sleep(Duration::from_millis(1));
        }
        for reader in self.readers.drain(..) {
            // A reader cannot fail but by a panic, which has printed itself.
            let _ = reader.join();
        }
        let (status, took) = self.ended.expect("it has ended");
        Finished {
            command: self.command.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout(),
            stderr: self.stderr(),
            took,
        }
    }

    /// The process of `file` below the one that was started.
    #[track_caller]
    fn pid_below(&mut self, file: &Path) -> i32 {
        let parent = self.pid;
        let deadline = Instant::now() + CEILING;
        while self.try_wait().is_none() && Instant::now() < deadline {
            let children = format!("/proc/{parent}/task/{parent}/children");
            let children = std::fs::read_to_string(children).unwrap_or_default();
            let child = children.split_whitespace().next().unwrap_or_default();
            // Until it has executed the program, the child is still a copy of the tool.
            let runs = std::fs::read_link(format!("/proc/{child}/exe")).ok();
            if runs.is_some_and(|runs| Some(runs) == file.canonicalize().ok()) {
                return child.parse().unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // It may have ended before it could be seen: the output tells, and there is nothing left to signal.
        parent
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a program that has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.ended {
            Some((status, took)) => format!("{status} after {took:?}"),
            None => format!("running for {:?}, process {}", self.started.elapsed(), self.pid),
        };
        report(f, &self.command, &state, &self.stdout(), &self.stderr())
    }
}

/// As [`Running::threads_time`], of any process.
pub fn threads_time(pid: i32) -> std::io::Result<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    // A thread may end in between.
    let times =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    Ok(Duration::from_nanos(
        times.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum(),
    ))
}

/// A program that has ended by itself or by a signal.
#[derive(Clone, Debug)]
pub struct Finished {
    pub command: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Finished {
    /// Panics with everything unless it ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Finished {
        assert_eq!(self.code, Some(code), "exit code\n{self}");
        self
    }

    /// The lines of stderr.
    pub fn lines(&self) -> Vec<String> {
        self.stderr.lines().map(str::to_string).collect()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("ended by signal {}", signal.unwrap_or_default()),
        };
        report(
            f,
            &self.command,
            &format!("{state} after {:?}", self.took),
            &self.stdout,
            &self.stderr,
        )
    }
}

fn report(
    f: &mut fmt::Formatter<'_>,
    command: &str,
    state: &str,
    stdout: &str,
    stderr: &str,
) -> fmt::Result {
    write!(f, "command: {command}\nstatus: {state}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
}

/// The value of a key in a logfmt line, unquoted.
pub fn field(line: &str, key: &str) -> Option<String> {
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let name = &rest[..end];
        let (value, after) = match rest[end..].strip_prefix('=') {
            Some(value) => take_value(value),
            None => (String::new(), &rest[end..]),
        };
        if name == key {
            return Some(value);
        }
        rest = after.trim_start();
    }
    None
}

/// The value at the start of `text`, and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        return (text[..end].to_string(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other)) => value.push(other),
                None => {}
            },
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::at("/bin/sh").args(["-c", script])
    }

    #[test]
    fn everything_of_a_finished_program_is_there() {
        let script = "echo out $A; echo err >&2; printf half; exit 3";
        let finished = shell(script).env("A", "b c").run(CEILING).expect_code(3);
        assert_eq!(finished.stdout, "out b c\nhalf\n");
        assert_eq!(finished.stderr, "err\n");
        let shown = finished.to_string();
        for part in ["A=\"b c\" /bin/sh -c", "exit code 3", "out b c", "err"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn the_environment_is_empty() {
        let finished = shell("env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=; true")
            .env("A", "b")
            .run(CEILING);
        assert_eq!(finished.stdout, "A=b\n");
    }

    #[test]
    fn lines_are_seen_as_they_come_and_marks_hide_older_ones() {
        let mut running = shell("echo one >&2; echo one; exec sleep 60").start();
        running.wait_for_text("one", CEILING);
        crate::eventually("both lines", CEILING, || {
            (running.count(|line| line == "one") == 2).then_some(())
        });
        let mark = running.mark();
        let older =
            running.find_after(mark, &|line: &str| line == "one", Duration::from_millis(50));
        assert_eq!(older, None);
    }

    #[test]
    fn ports_are_read_from_the_log() {
        for (line, port) in [
            ("level=info msg=listening address=127.0.0.1:8888", 8888),
            ("level=info msg=\"listening\" address=\"[::]:1234\" other=1", 1234),
            ("ts=x address=[::1]:7 msg=listening", 7),
        ] {
            let mut running = shell("echo \"$LINE\" >&2; exec sleep 60").env("LINE", line).start();
            assert_eq!(running.port(), port, "{line}");
        }
    }

    #[test]
    fn signals_end_it_and_are_reported() {
        let mut running = shell("echo up; exec sleep 60").start();
        running.wait_for_text("up", CEILING);
        running.signal("TERM");
        let finished = running.wait(CEILING);
        assert_eq!((finished.code, finished.signal), (None, Some(15)));
    }

    #[test]
    fn the_kernel_tells_about_a_running_one() {
        let mut running =
            shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo up; exec sleep 60")
                .start();
        running.wait_for_text("up", CEILING);
        assert!(running.cpu_time() > Duration::ZERO);
        assert!(running.memory_peak_kib() > 0 && running.memory_kib() > 0);
        assert_eq!(running.threads(), 1);
        assert!(running.descriptors() >= 3);
        assert_eq!(running.try_wait(), None);
    }

    #[test]
    fn a_dropped_one_is_gone() {
        let running = shell("exec sleep 60").start();
        let pid = running.pid();
        drop(running);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    #[should_panic(expected = "no such line within")]
    fn an_end_without_the_line_is_noticed_at_once() {
        shell("echo other").start().wait_for(|line| line == "this", Duration::from_secs(3600));
    }

    #[test]
    #[should_panic(expected = "no binary at")]
    fn a_missing_file_is_named() {
        Program::new("/nowhere/no-such-program");
    }

    #[test]
    fn the_static_binary_of_the_same_name_is_taken() {
        let dir = crate::scratch::Scratch::new();
        let file = dir.file("lock", "");
        let taken =
            |static_dir| Program::of(file.to_str().unwrap(), static_dir).file().to_path_buf();
        assert_eq!(taken(None), file);
        let other = crate::scratch::Scratch::new();
        let of_other = other.file("lock", "");
        assert_eq!(taken(Some(other.path().to_path_buf())), of_other);
    }

    #[test]
    fn process_1_is_the_program_itself() {
        let program = match shell("trap 'exit 7' TERM; echo pid $$; while :; do sleep 0.05; done")
            .as_pid_1()
        {
            Ok(program) => program,
            Err(why) => return crate::skip(&why),
        };
        let mut running = program.env("PATH", "/usr/bin:/bin").start();
        assert_eq!(running.wait_for_text("pid", CEILING), "pid 1");
        running.signal("TERM");
        running.wait(CEILING).expect_code(7);
    }

    #[test]
    fn a_directory_in_the_place_of_another_one() {
        let directory = crate::scratch::Scratch::new();
        directory.file("cpu", "of the test");
        let program = match Program::at("/bin/cat")
            .arg("/proc/pressure/cpu")
            .seeing(directory.path(), "/proc/pressure")
        {
            Ok(program) => program,
            Err(why) => {
                return crate::skip(&format!("a directory in the place of another one: {why}"));
            }
        };
        assert_eq!(program.run(CEILING).expect_code(0).stdout.trim_end(), "of the test");
    }

    #[test]
    fn logfmt_fields() {
        let line = r#"level=info msg="a \"b\" c=d" empty= flag address=[::]:1 last=x"#;
        for (key, value) in [
            ("level", Some("info")),
            ("msg", Some("a \"b\" c=d")),
            ("empty", Some("")),
            ("flag", Some("")),
            ("address", Some("[::]:1")),
            ("last", Some("x")),
            ("c", None),
        ] {
            assert_eq!(field(line, key).as_deref(), value, "{key}");
        }
    }
}
