//! The cost of waiting: 200 real inits at one lock, 1,000 waiting holders, and the hand-over from
//! one holder to the next.
//!
//! Generator and lock share the cores, so a goal is comparisons with the median, and only a wide
//! miss breaks it.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::application::Application;
use testkit::attack::{Latencies, honest};
use testkit::http::{Connection, Request, connect_from};
use testkit::program::{Program, Running};
use testkit::{CEILING, eventually};

use crate::Options;
use crate::goal::Goal;
use crate::machine;
use crate::results::Section;
use crate::table::{Table, median, millis, quantile};
use crate::waiters::{Counts, JITTER, WAIT, Waiters};

const SLOTS: usize = 4;

const INITS: usize = 200;
const RUNS: usize = 3;

/// The length of a start, in milliseconds.
const START: (u64, u64) = (50, 250);

/// The stack of a thread that waits for its init and then for lock's probe.
const STACK: usize = 64 * 1024;

const HOLDERS: usize = 1000;

/// The holders come one by one within this time.
const ARRIVAL: Duration = Duration::from_secs(5);

/// From the first arrival to the begin of the measurement.
const SETTLED: Duration = Duration::from_secs(10);

/// A request without a holder, which is answered at once.
const ANONYMOUS: &str = "/?duration=1s";
const ANONYMOUS_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 9, 9));
const ANONYMOUS_PAUSE: Duration = Duration::from_millis(100);

/// All hand-overs end within one `wait` of the crowd.
const HANDOVERS: usize = 100;

/// Requests that are parked behind the next holder. Their address has a lease, so the next holder
/// comes first.
const CROWD: usize = 500;
const CROWD_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 6, 1));

/// The age of a lease at its end, and up to this many milliseconds more: lock probes each 20 ms,
/// and a port must not
/// always open just before a probe.
const LEASE: Duration = Duration::from_millis(100);
const MORE: usize = 20;

/// The address that reads the queue.
const WATCHER: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 1);

type Part = fn(&Options) -> Result<(String, Vec<Goal>), String>;

pub fn run(options: &Options) -> Result<Section, String> {
    let mut text = machine::described("leases", &options.lock);
    let mut goals = Vec::new();
    for part in [herds as Part, waiting_holders, handovers] {
        let (words, of_part) = part(options)?;
        text += &words;
        goals.extend(of_part);
    }
    text += "\n### Goals\n\n";
    text.extend(goals.iter().map(Goal::line));
    let broken = goals.iter().filter_map(|goal| goal.broken("leases")).collect();
    Ok(Section { title: "Leases", text, broken })
}

fn start_lock(options: &Options, slots: usize) -> Running {
    let slots = slots.to_string();
    Program::at(&options.lock).args(["--host=127.0.0.1", "--port=0", "--locks", &slots]).start()
}

fn herds(options: &Options) -> Result<(String, Vec<Goal>), String> {
    let text = format!(
        "\n### A herd\n\n\
         - {INITS} inits at once from one address, {SLOTS} slots; each application opens its port {} to {} ms after its init \
         has ended (the same times in each run)\n\
         - from the start of the first init to the last open port, over the sum of the starts by slots. It includes the \
         cost of the processes\n\n",
        START.0, START.1
    );
    let mut table = Table::new(["run", "starts by slots s", "total s", "ratio"]);
    let mut ratios = Vec::new();
    for run in 1..=RUNS {
        let (ideal, total) = herd(options)?;
        ratios.push(total / ideal);
        table.row([
            run.to_string(),
            format!("{ideal:.2}"),
            format!("{total:.2}"),
            format!("{:.3}", total / ideal),
        ]);
    }
    let what = "a herd's time over its starts' by slots, median";
    let goal = Goal { what, unit: "", measured: median(&ratios), goal: 1.05, broken: 1.5 };
    Ok((text + &table.text(), vec![goal]))
}

/// The ideal and the total time in seconds.
fn herd(options: &Options) -> Result<(f64, f64), String> {
    let mut lock = start_lock(options, SLOTS);
    let port = lock.port();
    let applications: Vec<_> =
        (0..INITS).map(|_| Application::starting(Ipv4Addr::LOCALHOST)).collect();
    let begin = Instant::now();
    let mut pods = Vec::new();
    for (number, (application, start)) in applications.into_iter().zip(starts()).enumerate() {
        let init = init(options, port, number, &application.ready());
        let init = init.map_err(|e| format!("cannot start init: {e}"))?;
        let pod = pod(init, application, start);
        pods.push(pod.map_err(|e| format!("cannot start a thread for an init: {e}"))?);
    }
    let mut last = begin;
    for pod in pods {
        let open = pod.join().map_err(|_| "a thread of an init panicked".to_owned())??;
        last = last.max(open);
    }
    let sum: Duration = starts().take(INITS).sum();
    Ok((sum.as_secs_f64() / SLOTS as f64, (last - begin).as_secs_f64()))
}

/// The lengths of the starts, the same in each run.
fn starts() -> impl Iterator<Item = Duration> {
    let step = |x: &u64| {
        Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    let millis = |x: u64| START.0 + (x >> 33) % (START.1 - START.0 + 1);
    std::iter::successors(Some(1), step).skip(1).map(move |x| Duration::from_millis(millis(x)))
}

fn init(options: &Options, port: u16, number: usize, ready: &str) -> io::Result<Child> {
    let holder = format!("bench/pod-{number:03}/uid");
    let mut command = Command::new(&options.init);
    command.args(["--host=127.0.0.1", "--port", &port.to_string(), "--holder", &holder]);
    command.args(["--ready", ready, "--duration=60s", "--max-wait=3m", "--on-timeout=fail"]);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Returns the moment at which the port opened.
fn pod(
    mut init: Child,
    application: Application,
    start: Duration,
) -> io::Result<JoinHandle<Result<Instant, String>>> {
    thread::Builder::new().stack_size(STACK).spawn(move || {
        let status = init.wait().map_err(|e| format!("cannot wait for an init: {e}"))?;
        if !status.success() {
            return Err(format!("an init failed: {status}"));
        }
        thread::sleep(start);
        let listener = application.open();
        let open = Instant::now();
        listener.accept().map_err(|e| format!("an application's port: {e}"))?;
        Ok(open)
    })
}

fn waiting_holders(options: &Options) -> Result<(String, Vec<Goal>), String> {
    // One `wait` of each holder.
    let length = options.seconds.unwrap_or(WAIT);
    let mut text = format!(
        "\n### {HOLDERS} waiting holders\n\n\
         - {HOLDERS} holders, an address each, wait for {SLOTS} slots as init does (`?wait=30`, `Retry-After` obeyed with up \
         to {:.0} % more); they come within {ARRIVAL:?}, and {length:?} are measured from {SETTLED:?} on; one generator \
         thread on the same cores\n\
         - at once: answers to a client without a holder, which asks each {ANONYMOUS_PAUSE:?}\n\n",
        JITTER * 100.0,
    );
    let mut table = Table::new([
        "",
        "answers/s",
        "granted",
        "failed",
        "CPU of one core",
        "at once p50 ms",
        "p99 ms",
        "peak KiB",
        "threads",
    ]);
    let (mut peak, mut slow, mut failed, mut goals) = (0.0_f64, 0.0_f64, 0.0_f64, Vec::new());
    for (name, moves, what, goal, broken) in [
        ("no lease ends", false, "CPU of one core, no lease ends", 0.5, 1.5),
        ("leases of one second", true, "CPU of one core, leases of one second", 1.5, 3.0),
    ] {
        let line = measure(options, moves, length).map_err(|e| format!("waiting holders: {e}"))?;
        for first in line.counts.first_failure.iter().chain(line.anonymous.failures.first()) {
            text += &format!("{name}: first failure: {first}\n\n");
        }
        let failures = line.counts.failures + line.anonymous.failures.len();
        failed += failures as f64;
        peak = peak.max(line.peak_kib as f64);
        slow = slow.max(line.anonymous.p99().as_secs_f64() * 1000.0);
        goals.push(Goal { what, unit: " %", measured: line.cpu * 100.0, goal, broken });
        table.row([
            name.to_owned(),
            format!("{:.0}", line.per_second),
            line.counts.granted.to_string(),
            failures.to_string(),
            format!("{:.2} %", line.cpu * 100.0),
            millis(line.anonymous.median()),
            millis(line.anonymous.p99()),
            line.peak_kib.to_string(),
            line.threads.to_string(),
        ]);
    }
    goals.extend([
        Goal::new("peak memory with waiting holders", " KiB", peak, 4096.0, 6144.0),
        Goal::new("99th percentile of answers at once", " ms", slow, 10.0, 50.0),
        Goal::new("requests of waiting holders without an answer", "", failed, 0.0, 1.0),
    ]);
    Ok((text + &table.text(), goals))
}

struct Line {
    counts: Counts,
    anonymous: Latencies,
    per_second: f64,
    cpu: f64,
    peak_kib: u64,
    threads: usize,
}

fn measure(options: &Options, moves: bool, length: Duration) -> io::Result<Line> {
    let mut lock = start_lock(options, SLOTS);
    let address = lock.addr();
    for slot in 0..if moves { 0 } else { SLOTS } {
        Request::get(&format!("/?holder=taken-{slot}&duration=10m")).send(address, CEILING)?;
    }
    let begin = Instant::now();
    let mut holders = Waiters::new(address, HOLDERS, ARRIVAL, moves)?;
    holders.play(begin + SETTLED)?;
    holders.counts = Counts::default();
    let (from, before) = (Instant::now(), lock.cpu_time());
    let anonymous = thread::spawn(move || {
        honest(address, Some(ANONYMOUS_ADDRESS), ANONYMOUS, ANONYMOUS_PAUSE, from + length)
    });
    holders.play(from + length)?;
    let (cpu, took) = ((lock.cpu_time() - before).as_secs_f64(), from.elapsed().as_secs_f64());
    let anonymous = anonymous.join().map_err(|_| io::Error::other("the client panicked"))?;
    Ok(Line {
        per_second: (holders.counts.answers + anonymous.n()) as f64 / took,
        counts: holders.counts,
        anonymous,
        cpu: cpu / took,
        peak_kib: lock.memory_peak_kib(),
        threads: lock.threads(),
    })
}

/// Ends a lease and returns the moment of its end.
type End = fn(&mut Holder, SocketAddr) -> io::Result<Instant>;

fn handovers(options: &Options) -> Result<(String, Vec<Goal>), String> {
    let text = format!(
        "\n### Hand-over\n\n\
         - one slot changes hands; the next holder is parked, and {CROWD} requests of another address, which has the other \
         slot, behind it; {HANDOVERS} leases of {LEASE:?} and up to {MORE} ms more\n\
         - from the end of the lease (lock's connection to the open port, or the `DELETE`) until the next holder has read its \
         200\n\n",
    );
    let mut table = Table::new(["from", "median ms", "p90 ms", "p99 ms", "max ms"]);
    let (mut threads, mut peak, mut goals) = (0, 0, Vec::new());
    let ends: [(_, _, End); 2] = [
        ("successful probe", "hand-over from the successful probe, p99", open_port),
        ("DELETE", "hand-over from DELETE, p99", delete_lease),
    ];
    for (name, what, end) in ends {
        let measured = handovers_by(options, end).map_err(|e| format!("hand-over: {e}"))?;
        let (mut taken, lock) = measured;
        (threads, peak) = (threads.max(lock.threads()), peak.max(lock.memory_peak_kib()));
        taken.sort_unstable();
        let cells = [0.5, 0.9, 0.99, 1.0].map(|share| millis(quantile(&taken, share)));
        table.row(std::iter::once(name.to_owned()).chain(cells));
        let measured = quantile(&taken, 0.99).as_secs_f64() * 1000.0;
        goals.push(Goal { what, unit: " ms", measured, goal: 1.0, broken: 10.0 });
    }
    goals.push(Goal::new("threads with 500 parked", "", threads as f64, 12.0, 24.0));
    goals.push(Goal::new("peak memory with 500 parked", " KiB", peak as f64, 2560.0, 3584.0));
    Ok((text + &table.text(), goals))
}

fn handovers_by(options: &Options, end: End) -> io::Result<(Vec<Duration>, Running)> {
    let mut lock = start_lock(options, 2);
    let address = lock.addr();
    let mut holder = Holder::new(0);
    holder.ask(address)?.reply().and_then(|reply| expect_ok(reply.status))?;
    let _crowd = (0..=CROWD).map(|number| park(address, number)).collect::<io::Result<Vec<_>>>()?;
    let mut taken = Vec::new();
    for number in 1..=HANDOVERS {
        let next = Holder::new(number);
        let mut asking = next.ask(address)?;
        eventually("the next holder is parked", CEILING, || {
            is_next(address, &next.name).then_some(())
        });
        let answer =
            thread::spawn(move || asking.reply().map(|reply| (reply.status, Instant::now())));
        thread::sleep(LEASE + Duration::from_millis((number * 7 % MORE) as u64));
        let ended = end(&mut holder, address)?;
        let answer = answer.join().map_err(|_| io::Error::other("the next holder panicked"))?;
        let (status, granted) = answer?;
        expect_ok(status)?;
        taken.push(granted.saturating_duration_since(ended));
        holder = next;
    }
    Ok((taken, lock))
}

/// The first request of the crowd gets the second slot and keeps it; the others wait.
fn park(lock: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let mut stream = connect_from(Some(CROWD_ADDRESS), lock, CEILING)?;
    let target = format!("/?holder=bench/crowd-{number}/uid&duration=10m&wait=30");
    stream.write_all(&Request::get(&target).bytes("lock"))?;
    Ok(stream)
}

fn open_port(holder: &mut Holder, _: SocketAddr) -> io::Result<Instant> {
    let application = holder.application.take();
    application.ok_or_else(|| io::Error::other("the port is open already"))?.open().accept()?;
    Ok(Instant::now())
}

fn delete_lease(holder: &mut Holder, lock: SocketAddr) -> io::Result<Instant> {
    let begin = Instant::now();
    let delete = Request::delete(&format!("/?holder={}", holder.name)).from(holder.address);
    expect_ok(delete.send(lock, CEILING)?.status)?;
    Ok(begin)
}

fn expect_ok(status: u16) -> io::Result<()> {
    match status {
        200 => Ok(()),
        status => Err(io::Error::other(format!("status {status}, expected 200"))),
    }
}

fn is_next(lock: SocketAddr, holder: &str) -> bool {
    let state = Request::get("/state").from(WATCHER).send(lock, CEILING);
    let next = state.map(|state| state.json()["queue"][0].clone()).unwrap_or_default();
    next["held"] == true && next["holder"] == holder
}

/// A holder at an address of its own.
struct Holder {
    name: String,
    address: IpAddr,
    application: Option<Application>,
}

impl Holder {
    fn new(number: usize) -> Holder {
        let [.., last] = number.to_be_bytes();
        let address = Ipv4Addr::new(127, 0, 8, last);
        let name = format!("bench/pod-{number}/uid");
        Holder { name, address: address.into(), application: Some(Application::starting(address)) }
    }

    fn ask(&self, lock: SocketAddr) -> io::Result<Connection> {
        let mut connection = Connection::open(lock, Some(self.address), CEILING)?;
        let ready = self.application.as_ref().map(Application::ready).unwrap_or_default();
        let target = format!("/?holder={}&duration=60s&wait=30s&ready={ready}", self.name);
        connection.write(&Request::get(&target).bytes("lock"))?;
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_within_their_bounds_and_differ() {
        let starts: Vec<_> = starts().take(INITS).collect();
        let [least, most] = [START.0, START.1].map(Duration::from_millis);
        assert!(starts.iter().all(|start| (least..=most).contains(start)));
        assert!(starts.iter().max() > starts.iter().min());
    }
}
