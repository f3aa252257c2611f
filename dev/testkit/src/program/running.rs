//! Watches a running program from outside: its output as it comes, its port, its memory, its end.

use std::any::Any;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::field;
use super::finished::{Finished, report};
use crate::http::{self, Reply};
use crate::{CEILING, eventually};

#[derive(Clone, Copy, PartialEq)]
enum Stream {
    Out,
    Err,
}

/// The lines of both streams in the order in which they were read.
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
        let of_stream = lines.iter().filter(|(of, _)| *of == stream);
        of_stream.flat_map(|(_, line)| [line.as_str(), "\n"]).collect()
    }

    /// Reads a pipe to its end, in a thread.
    fn collect(self: &Arc<Output>, pipe: impl Read + Send + 'static, stream: Stream) -> Reader {
        let output = Arc::clone(self);
        thread::spawn(move || {
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
}

type Reader = JoinHandle<()>;

/// A program that has been started. Killed on drop.
pub struct Running {
    child: Child,
    pid: i32,
    command: String,
    started: Instant,
    output: Arc<Output>,
    readers: Vec<Reader>,
    ended: Option<(ExitStatus, Duration)>,
    _keep: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Running {
    pub(super) fn new(
        mut child: Child,
        command: String,
        keep: Vec<Arc<dyn Any + Send + Sync>>,
    ) -> Running {
        let output = Arc::new(Output::default());
        let stdout = output.collect(child.stdout.take().expect("piped"), Stream::Out);
        let stderr = output.collect(child.stderr.take().expect("piped"), Stream::Err);
        Running {
            pid: child.id().cast_signed(),
            command,
            child,
            started: Instant::now(),
            output,
            readers: vec![stdout, stderr],
            ended: None,
            _keep: keep,
        }
    }

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

    /// The number of lines so far, for [`Running::wait_for_after`].
    pub fn mark(&self) -> usize {
        self.output.lines().len()
    }

    /// As [`Running::wait_for`], without the lines before the mark.
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

    pub(super) fn find_after(
        &mut self,
        mark: usize,
        fits: &dyn Fn(&str) -> bool,
        ceiling: Duration,
    ) -> Option<String> {
        let deadline = Instant::now() + ceiling;
        let mut next = mark;
        loop {
            // Before the lines: once an ended program's readers have ended, all lines are read.
            let is_over =
                self.try_wait().is_some() && self.readers.iter().all(JoinHandle::is_finished);
            let lines = self.output.lines();
            if let Some((_, line)) = lines.iter().skip(next).find(|(_, line)| fits(line)) {
                return Some(line.clone());
            }
            next = next.max(lines.len());
            if is_over || Instant::now() >= deadline {
                return None;
            }
            drop(self.output.grown.wait_timeout(lines, Duration::from_millis(20)).unwrap());
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

    /// The port in a server's `listening` log line.
    #[track_caller]
    pub fn port(&mut self) -> u16 {
        let listening = |line: &str| field(line, "msg").is_some_and(|msg| msg == "listening");
        let Some(line) = self.find_after(0, &listening, CEILING) else {
            panic!("it never logged that it listens\n{self}");
        };
        let address = field(&line, "address").unwrap_or_default();
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.unwrap_or_else(|| panic!("no port in {line}\n{self}"))
    }

    /// The address of a server that listens on all addresses, or on 127.0.0.1.
    #[track_caller]
    pub fn addr(&mut self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The answer of a server to a GET.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Reply {
        http::get(self.addr(), target)
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

    /// Stops all of its threads until it is sent `CONT`.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal("STOP");
        eventually("the process to stand still", CEILING, || {
            self.proc("status").contains("State:\tT").then_some(())
        });
    }

    /// The peak of its resident memory.
    #[track_caller]
    pub fn memory_peak_kib(&self) -> u64 {
        self.status_number("VmHWM")
    }

    #[track_caller]
    pub fn memory_kib(&self) -> u64 {
        self.status_number("VmRSS")
    }

    #[track_caller]
    pub fn threads(&self) -> usize {
        usize::try_from(self.status_number("Threads")).unwrap()
    }

    /// The number of its open file descriptors.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        match std::fs::read_dir(format!("/proc/{}/fd", self.pid)) {
            Ok(entries) => entries.count(),
            Err(error) => panic!("cannot count the descriptors of {}: {error}\n{self}", self.pid),
        }
    }

    /// The number of voluntary context switches of its threads.
    #[track_caller]
    pub fn wakes(&self) -> u64 {
        let switches = |status: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| {
                line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok()
            })
        };
        let texts = of_threads(self.pid, "status").expect("the process to run");
        texts.iter().filter_map(|text| switches(text)).sum::<u64>()
    }

    /// The processor time it has used, its own and the kernel's for it; in steps of 10 ms.
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        // Fields 14 and 15. The name in brackets may hold anything, so they count from its end.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: u64 = rest.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
        Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
    }

    /// The processor time of its current threads, to the nanosecond.
    #[track_caller]
    pub fn threads_time(&self) -> Duration {
        threads_time(self.pid).unwrap_or_else(|error| {
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
            thread::sleep(Duration::from_millis(1));
        }
        for reader in self.readers.drain(..) {
            // A reader fails only by a panic, which has printed itself.
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

    /// Watches the process of this file below the one that was started.
    #[track_caller]
    pub(super) fn descend_to(&mut self, file: &Path) {
        let parent = self.pid;
        let deadline = Instant::now() + CEILING;
        // If it ends before its number is known, no test can signal it, and its output is read.
        while self.try_wait().is_none() && Instant::now() < deadline {
            let children = format!("/proc/{parent}/task/{parent}/children");
            let children = std::fs::read_to_string(children).unwrap_or_default();
            let child = children.split_whitespace().next().unwrap_or_default();
            // Until it has executed the program, the child is still a copy of the tool.
            let exe = std::fs::read_link(format!("/proc/{child}/exe")).ok();
            if exe.is_some_and(|exe| Some(exe) == file.canonicalize().ok()) {
                self.pid = child.parse().unwrap();
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a program that has ended.
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

/// A file of each thread of a process. A thread that ends meanwhile is left out.
fn of_threads(pid: i32, file: &str) -> std::io::Result<Vec<String>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    let text = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join(file)).ok()
    };
    Ok(tasks.filter_map(text).collect())
}

/// As [`Running::threads_time`], of any process.
pub fn threads_time(pid: i32) -> std::io::Result<Duration> {
    let texts = of_threads(pid, "schedstat")?;
    let times = texts.iter().filter_map(|text| text.split(' ').next()?.parse::<u64>().ok());
    Ok(Duration::from_nanos(times.sum()))
}
