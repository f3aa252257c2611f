//! A thousand holders wait: the cost for the lock, and the time to the answer of a client that does
//! not wait.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use testkit::CEILING;
use testkit::attack::{Latencies, honest};
use testkit::http::Request;
use testkit::program::Program;

use super::Goal;
use crate::Options;
use crate::table::{Table, millis};
use crate::waiters::{JITTER, Seen, WAIT, Waiters};

const HOLDERS: usize = 1000;
const SLOTS: usize = 4;

/// They come one by one within this.
const ARRIVAL: Duration = Duration::from_secs(5);

/// From the first arrival to the begin of what is measured.
const SETTLED: Duration = Duration::from_secs(10);

/// Who asks without a name is answered at once.
const PASSER_BY: &str = "/?duration=1s";
const PASSER_BY_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 9, 9));
const EVERY: Duration = Duration::from_millis(100);

/// One line.
struct Met {
    seen: Seen,
    passer_by: Latencies,
    per_second: f64,
    cpu: f64,
    peak_kib: u64,
    threads: usize,
}

pub fn run(options: &Options) -> Result<(String, Vec<Goal>), String> {
    // One `wait` of each holder.
    let length = options.seconds.unwrap_or(WAIT);
    let mut text = format!(
        "\n### A long line\n\n\
         - {HOLDERS} holders, an address each, wait for {SLOTS} slots as init does (`?wait=30`, `Retry-After` obeyed with up \
         to {:.0} % more); they come within {ARRIVAL:?}, and {length:?} are measured from {SETTLED:?} on; one generator thread \
         on the same cores\n\
         - at once: what somebody without a name is told who asks each {EVERY:?}; the lock's threads and the generator's \
         have the same cores\n\n",
        JITTER * 100.0,
    );
    let mut table = Table::new([
        "",
        "answers/s",
        "granted",
        "failed",
        "CPU of one core",
        "at once",
        "p50 ms",
        "p99 ms",
        "max ms",
        "peak KiB",
        "threads",
    ]);
    let (mut peak, mut slow, mut failed, mut goals) = (0.0_f64, 0.0_f64, 0.0_f64, Vec::new());
    for (name, moves, what, goal, broken) in [
        ("nothing moves", false, "share of one core for a long line, nothing moves", 0.5, 1.5),
        (
            "leases of one second",
            true,
            "share of one core for a long line, leases of one second",
            1.5,
            3.0,
        ),
    ] {
        let met = measure(options, moves, length).map_err(|e| format!("a long line: {e}"))?;
        for first in met.seen.first_failure.iter().chain(met.passer_by.failures.first()) {
            text += &format!("{name}: first failure: {first}\n\n");
        }
        failed += (met.seen.failures + met.passer_by.failures.len()) as f64;
        peak = peak.max(met.peak_kib as f64);
        goals.push(Goal { what, unit: " %", measured: met.cpu * 100.0, goal, broken });
        slow = slow.max(met.passer_by.p99().as_secs_f64() * 1000.0);
        table.row(met.row(name));
    }
    text += &table.text();
    goals.extend([
        Goal {
            what: "peak memory with a long line",
            unit: " KiB",
            measured: peak,
            goal: 4096.0,
            broken: 6144.0,
        },
        Goal {
            what: "99th percentile of answers at once",
            unit: " ms",
            measured: slow,
            goal: 10.0,
            broken: 50.0,
        },
        Goal {
            what: "requests in a long line without an answer",
            unit: "",
            measured: failed,
            goal: 0.0,
            broken: 1.0,
        },
    ]);
    Ok((text, goals))
}

fn measure(options: &Options, moves: bool, length: Duration) -> io::Result<Met> {
    let lock = Program::at(&options.lock).args([
        "--host=127.0.0.1",
        "--port=0",
        "--locks",
        &SLOTS.to_string(),
    ]);
    let mut lock = lock.start();
    let address = lock.addr();
    if !moves {
        for slot in 0..SLOTS {
            Request::get(&format!("/?holder=taken-{slot}&duration=10m")).send(address, CEILING)?;
        }
    }
    let begin = Instant::now();
    let mut line = Waiters::new(address, HOLDERS, ARRIVAL, moves)?;
    line.play(begin + SETTLED)?;
    line.seen = Seen::default();
    let (from, before) = (Instant::now(), lock.cpu_time());
    let passer_by = thread::spawn(move || {
        honest(address, Some(PASSER_BY_ADDRESS), PASSER_BY, EVERY, from + length)
    });
    line.play(from + length)?;
    let (cpu, took) = ((lock.cpu_time() - before).as_secs_f64(), from.elapsed().as_secs_f64());
    let passer_by = passer_by.join().map_err(|_| io::Error::other("who passed by has failed"))?;
    Ok(Met {
        per_second: (line.seen.answers + passer_by.n()) as f64 / took,
        seen: line.seen,
        passer_by,
        cpu: cpu / took,
        peak_kib: lock.memory_peak_kib(),
        threads: lock.threads(),
    })
}

impl Met {
    fn row(&self, name: &str) -> Vec<String> {
        let Seen { granted, failures, .. } = &self.seen;
        let mut row = vec![name.to_owned(), format!("{:.0}", self.per_second), granted.to_string()];
        row.extend([
            failures.to_string(),
            format!("{:.2} %", self.cpu * 100.0),
            self.passer_by.n().to_string(),
        ]);
        row.extend(
            [self.passer_by.median(), self.passer_by.p99(), self.passer_by.max()].map(millis),
        );
        row.extend([self.peak_kib.to_string(), self.threads.to_string()]);
        row
    }
}
