//! Two hundred real inits at one lock, and how much longer they take all together than their
//! applications' starts alone would.
//!
//! An application is a thread that opens a port a while after its init has ended.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::application::Application;
use testkit::program::Program;

use super::Goal;
use crate::Options;
use crate::table::{Table, median};

const INITS: usize = 200;
const SLOTS: usize = 4;
const RUNS: usize = 3;

/// Milliseconds that a start takes, from and to.
const START: (u64, u64) = (50, 250);

/// Threads that wait for their init, and then for the lock's look.
const STACK: usize = 64 * 1024;

/// When what happened to one pod.
struct Pod {
    /// Its init has ended.
    ended: Instant,
    start: Duration,
    /// Its port is open.
    open: Instant,
    /// Somebody has connected to it.
    looked: Instant,
}

/// One run, in seconds.
#[derive(Debug)]
struct Took {
    /// From the first init that was started to the last port that opened.
    total: f64,
    /// The sum of all starts, shared by the slots.
    ideal: f64,
    /// Until the last init was started.
    spawning: f64,
    /// The slots' time, each as a share of `ideal`: until the first inits had ended and after the
    /// last slots had nobody left,
    ends: f64,
    /// from open ports to the looks that found them,
    looks: f64,
    /// from looks to the ends of the next inits.
    handovers: f64,
}

pub fn run(options: &Options) -> Result<(String, Vec<Goal>), String> {
    let mut text = format!(
        "\n### A herd\n\n\
         - {INITS} inits at once from one address, {SLOTS} slots; each application opens its port {} to {} ms after its init \
         has ended (the same times in each run)\n\
         - from the start of the first init's process to the last open port, over the sum of the starts by slots; the \
         shares are where the rest of the slots' time went. Included is what the processes cost: starting them while the \
         first leases run, and the end of each\n\n",
        START.0, START.1
    );
    let mut table = Table::new([
        "run",
        "starts by slots s",
        "total s",
        "ratio",
        "inits started within s",
        "begin and end",
        "port open → look",
        "look → next init ended",
    ]);
    let mut ratios = Vec::new();
    for run in 1..=RUNS {
        let took = herd(options)?;
        ratios.push(took.total / took.ideal);
        table.row(took.row(run));
    }
    text += &table.text();
    let goal = Goal {
        what: "a herd's time over its starts' by slots, median",
        unit: "",
        measured: median(&ratios),
        goal: 1.05,
        broken: 1.5,
    };
    Ok((text, vec![goal]))
}

fn herd(options: &Options) -> Result<Took, String> {
    let lock = Program::at(&options.lock).args([
        "--host=127.0.0.1",
        "--port=0",
        "--locks",
        &SLOTS.to_string(),
    ]);
    let mut lock = lock.start();
    let port = lock.port();
    let applications: Vec<_> =
        (0..INITS).map(|_| Application::starting(Ipv4Addr::LOCALHOST)).collect();
    let begin = Instant::now();
    let mut pods = Vec::new();
    for (number, (application, start)) in applications.into_iter().zip(starts()).enumerate() {
        let init = init(&options.init, port, number, &application.ready())
            .map_err(|e| format!("init: {e}"))?;
        pods.push(pod(init, application, start).map_err(|e| format!("a thread for an init: {e}"))?);
    }
    let spawning = begin.elapsed();
    let pods = pods.into_iter().map(|pod| match pod.join() {
        Ok(pod) => pod,
        Err(_) => Err("a thread that waited for an init has failed".to_owned()),
    });
    Ok(Took::of(begin, spawning, &pods.collect::<Result<Vec<_>, _>>()?))
}

fn starts() -> impl Iterator<Item = Duration> {
    let step = |x: &u64| {
        Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    let millis = |x: u64| START.0 + (x >> 33) % (START.1 - START.0 + 1);
    std::iter::successors(Some(1), step).skip(1).map(move |x| Duration::from_millis(millis(x)))
}

fn init(init: &Path, port: u16, number: usize, ready: &str) -> io::Result<Child> {
    let holder = format!("bench/pod-{number:03}/uid");
    let mut command = Command::new(init);
    command.args([
        "--host=127.0.0.1",
        "--port",
        &port.to_string(),
        "--holder",
        &holder,
        "--ready",
        ready,
    ]);
    command.args(["--duration=60s", "--max-wait=3m", "--on-timeout=fail"]);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn pod(
    mut init: Child,
    application: Application,
    start: Duration,
) -> io::Result<JoinHandle<Result<Pod, String>>> {
    thread::Builder::new().stack_size(STACK).spawn(move || {
        let status = init.wait().map_err(|e| format!("waiting for an init: {e}"))?;
        let ended = Instant::now();
        if !status.success() {
            return Err(format!("an init did not get through: {status}"));
        }
        thread::sleep(start);
        let listener = application.open();
        let open = Instant::now();
        listener.accept().map_err(|e| format!("an application's port: {e}"))?;
        Ok(Pod { ended, start, open, looked: Instant::now() })
    })
}

impl Took {
    /// The slots' time has no holes: of the ends of all leases but the last ones, each is followed
    /// by the grant that comes as many grants later as there are slots.
    fn of(begin: Instant, spawning: Duration, pods: &[Pod]) -> Took {
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let sorted = |of: fn(&Pod) -> Instant| {
            let mut all: Vec<_> = pods.iter().map(of).collect();
            all.sort_unstable();
            all
        };
        let (ended, looked) = (sorted(|pod| pod.ended), sorted(|pod| pod.looked));
        let last = pods.iter().map(|pod| pod.open).max().unwrap_or(begin);
        let slots = SLOTS.min(pods.len());
        let first: f64 = ended.iter().take(slots).map(|ended| seconds(begin, *ended)).sum();
        let left: f64 = looked.iter().rev().take(slots).map(|looked| seconds(*looked, last)).sum();
        let looks: f64 = pods.iter().map(|pod| seconds(pod.open, pod.looked)).sum();
        let handovers: f64 = looked
            .iter()
            .zip(&ended[slots..])
            .map(|(looked, ended)| seconds(*looked, *ended))
            .sum();
        let sum: f64 = pods.iter().map(|pod| pod.start.as_secs_f64()).sum();
        Took {
            total: seconds(begin, last),
            ideal: sum / SLOTS as f64,
            spawning: spawning.as_secs_f64(),
            ends: (first + left) / sum,
            looks: looks / sum,
            handovers: handovers / sum,
        }
    }

    fn row(&self, run: usize) -> Vec<String> {
        let share = |share: f64| format!("{:.1} %", share * 100.0);
        let mut row =
            vec![run.to_string(), format!("{:.2}", self.ideal), format!("{:.2}", self.total)];
        row.extend([format!("{:.3}", self.total / self.ideal), format!("{:.2}", self.spawning)]);
        row.extend([share(self.ends), share(self.looks), share(self.handovers)]);
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_are_within_and_about_the_middle() {
        let starts: Vec<_> = starts().take(INITS).map(|start| start.as_millis() as u64).collect();
        assert!(starts.iter().all(|start| (START.0..=START.1).contains(start)));
        let mean = starts.iter().sum::<u64>() / INITS as u64;
        assert!((130..=170).contains(&mean), "{mean}");
    }

    #[test]
    fn where_the_time_went() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        // All slots take turns at the same moments: 10 ms to begin, starts of 100, looks of 20, hand-overs of 5.
        let pods: Vec<_> = (0..2 * SLOTS)
            .map(|n| if n < SLOTS { 10 } else { 135 })
            .map(|from| {
                let start = Duration::from_millis(100);
                Pod { ended: at(from), start, open: at(from + 100), looked: at(from + 120) }
            })
            .collect();
        let took = Took::of(begin, Duration::ZERO, &pods);
        let is = |value: f64, expected: f64| {
            assert!((value - expected).abs() < 1e-9, "{took:?}: {value}")
        };
        is(took.ideal, 0.2);
        is(took.total, 0.235);
        is(took.ends, 0.05);
        is(took.looks, 0.2);
        is(took.handovers, 0.025);
    }
}
