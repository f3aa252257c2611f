//! What init costs: one run where the lock is free, and its memory while it waits. Whom it asks is a scripted server,
//! which answers as locks of all generations do.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use testkit::CEILING;
use testkit::program::Program;
use testkit::scripted::{Behaviour, Server};

use super::pairs::{Column, Found, Pair, Scene};
use super::server::{PEAK, RESIDENT, START_CPU, Settings, ended, millis};
use crate::table::median;

pub const ROW: &str = "init";
pub const WHOLE_RUN: Column = Column { name: "run", unit: "ms" };

/// A run of the scene is so many of init, one after the other: their processor time is counted in hundredths of a second.
const INITS: u32 = 100;

/// After the answer that makes it wait.
const REST: Duration = Duration::from_millis(200);

pub fn scene(pair: &Pair) -> Scene<'_> {
    Scene {
        row: ROW.to_owned(),
        pair,
        measure: Box::new(|file, _, found| {
            let way = free(file, found)?;
            waiting(file, way, found)
        }),
    }
}

fn settings(port: u16) -> Settings {
    let port = port.to_string();
    Settings {
        flags: ["--host", "127.0.0.1", "--port", &port].map(str::to_owned).to_vec(),
        variables: vec![("PSL_LOCK_HOST", "127.0.0.1".to_owned()), ("PSL_LOCK_PORT", port)],
    }
}

/// Which of the two ways to be told its settings it takes.
fn free(file: &Path, found: &mut Found) -> Result<usize, String> {
    let lock = Server::start(Behaviour::ok("Lock acquired\n"));
    let ways = settings(lock.port()).ways(file);
    let (mut way, mut failed) = (0, Err(String::new()));
    for (number, program) in ways.iter().enumerate() {
        way = number;
        failed = gets_through(program);
        if failed.is_ok() {
            break;
        }
    }
    failed?;
    let before = of_children()?;
    let mut taken = Vec::new();
    for _ in 0..INITS {
        taken.push(millis(one(file, way, lock.port())?));
    }
    found.add(WHOLE_RUN, median(&taken));
    found.add(START_CPU, millis(of_children()?.saturating_sub(before) / INITS));
    Ok(way)
}

/// Once, with all that it says.
fn gets_through(program: &Program) -> Result<(), String> {
    let mut running = program.start();
    let end = Instant::now() + CEILING;
    while ended(&mut running).is_none() && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    match (running.try_wait(), ended(&mut running)) {
        (Some(0), _) => Ok(()),
        (_, Some(why)) => Err(format!("where the lock is free {why}")),
        (_, None) => Err(format!("where the lock is free it did not end within {CEILING:?}")),
    }
}

/// From before there is a process to its end, which is waited for without a pause.
fn one(file: &Path, way: usize, port: u16) -> Result<Duration, String> {
    let settings = settings(port);
    let mut command = Command::new(file);
    command
        .env_clear()
        .envs(settings.variables)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if way == 0 {
        command.args(settings.flags);
    }
    let begin = Instant::now();
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let in_time = wait(&child);
    let took = begin.elapsed();
    if !matches!(in_time, Ok(true)) {
        // It may have ended meanwhile.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if status.success() {
        Ok(took)
    } else {
        Err(format!("where the lock is free it ended with {status}"))
    }
}

/// Whether it has ended before the ceiling.
fn wait(child: &Child) -> rustix::io::Result<bool> {
    let pid = Pid::from_child(child);
    let end = pidfd_open(pid, PidfdFlags::empty())?;
    let ceiling = Timespec { tv_sec: CEILING.as_secs() as i64, tv_nsec: 0 };
    Ok(retry_on_intr(|| poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&ceiling)))? > 0)
}

/// The processor time of all children that have ended, in steps of 10 ms.
fn of_children() -> Result<Duration, String> {
    let stat =
        fs::read_to_string("/proc/self/stat").map_err(|e| format!("/proc/self/stat: {e}"))?;
    let ticks = children_ticks(&stat).ok_or("/proc/self/stat has no time of children")?;
    Ok(Duration::from_secs(1) * ticks as u32 / clock_ticks_per_second() as u32)
}

/// Fields 16 and 17, counted from the end of the name, which may hold anything.
fn children_ticks(stat: &str) -> Option<u64> {
    let rest = stat.rsplit_once(") ")?.1;
    rest.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn waiting(file: &Path, way: usize, found: &mut Found) -> Result<(), String> {
    let lock = Server::start(Behaviour::status(423, "Locked\n"));
    let mut init = settings(lock.port()).ways(file)[way].start();
    let end = Instant::now() + CEILING;
    while lock.requests().is_empty() && ended(&mut init).is_none() && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(REST);
    if let Some(why) = ended(&mut init) {
        return Err(format!("while it should wait {why}"));
    }
    found.add(RESIDENT, init.memory_kib() as f64);
    found.add(PEAK, init.memory_peak_kib() as f64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children() {
        let stat = "1 (a b) c) S 1 1 1 0 -1 4194560 0 0 0 0 11 12 13 14 20 0 1 0 1 1 1";
        assert_eq!(children_ticks(stat), Some(27));
        assert_eq!(children_ticks("1 (a) S 1"), Some(0));
        assert!(children_ticks(&fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }

    #[test]
    fn one_that_does_not_get_through_is_told() {
        let mut found = Found::default();
        assert_eq!(
            free(Path::new("/bin/false"), &mut found).unwrap_err(),
            "where the lock is free it ended with 1"
        );
        assert_eq!(free(Path::new("/bin/true"), &mut found), Ok(0));
        assert_eq!(
            waiting(Path::new("/bin/true"), 0, &mut found).unwrap_err(),
            "while it should wait it ended with 0"
        );
    }
}
