//! lock's HTTP server beside a plain `tiny_http::Server`: requests a second, and CPU time a
//! request.
//!
//! The servers take turns, round by round, so that other load on the machine affects both.
//! Generator and server share the
//! cores: requests a second belong to both, CPU time to the server alone.

use std::time::Duration;

use testkit::program::{Program, Running};

use crate::Options;
use crate::load::{CONNECTIONS, Load, Outcome, Style, wait_for_room};
use crate::machine;
use crate::results::Section;
use crate::table::{Table, median, millis, quantile, spread};

/// A round without figures: threads start, pages are touched.
const WARM_UP: Duration = Duration::from_millis(500);

const ROUNDS: usize = 8;

/// The most connections that lock serves at a time, from four addresses.
const MOST: usize = 64;

const PATH: &str = "/?duration=0";

struct Server {
    name: &'static str,
    running: Running,
}

#[derive(Default)]
struct Measured {
    per_second: Vec<f64>,
    /// CPU microseconds a request.
    cost: Vec<f64>,
    latencies: Vec<Duration>,
    failures: usize,
    first_failure: Option<String>,
}

pub fn run(options: &Options) -> Result<Section, String> {
    let length = options.seconds.unwrap_or(Duration::from_secs(1));
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let mut text = machine::described("http", &options.lock);
    text += &format!(
        "- `GET {PATH}` on {CONNECTIONS} connections from one address, or {MOST} from four, each asking again when it is answered; one \
         generator thread on the same cores; {rounds} rounds of {length:?} each, in turn; medians, ratios with least and most\n\n",
    );
    let mut table = Table::new([
        "",
        "requests/s",
        "CPU µs a request",
        "p50 ms",
        "p99 ms",
        "failed",
        "peak KiB",
    ]);
    let (mut notes, mut broken) = (Vec::new(), Vec::new());
    for (style, name, callers) in [
        (Style::KeepAlive, "keep-alive", CONNECTIONS),
        (Style::NewConnection, "a new connection each", CONNECTIONS),
        (Style::NextAtOnce, "the next connection at once, 64 of them", MOST),
    ] {
        let lock = Program::at(&options.lock).args(["--host", "127.0.0.1", "--port", "0"]);
        let mut servers = [
            Server { name: "lock", running: lock.start() },
            Server { name: "tiny_http::Server", running: Program::at(&options.plain).start() },
        ];
        let measured = compare(&mut servers, style, callers, rounds, length)?;
        for (server, measured) in servers.iter().zip(&measured) {
            let name = format!("{name}: {}", server.name);
            notes.extend(
                measured
                    .first_failure
                    .as_ref()
                    .map(|why| format!("\n{name}: first failure: {why}\n")),
            );
            table.row(measured.row(&name, server.running.memory_peak_kib()));
        }
        let [lock, plain] = &measured;
        let throughput = ratios(&lock.per_second, &plain.per_second);
        let cost = ratios(&lock.cost, &plain.cost);
        let none = String::new;
        table.row([
            format!("{name}: ratio"),
            spread(&throughput),
            spread(&cost),
            none(),
            none(),
            none(),
            none(),
        ]);
        broken.extend(verdict(name, lock, &cost));
    }
    Ok(Section { title: "HTTP", text: text + &table.text() + &notes.concat(), broken })
}

/// The first server of a pair changes from round to round, so that neither always has the warmer
/// machine.
fn compare(
    servers: &mut [Server; 2],
    style: Style,
    callers: usize,
    rounds: usize,
    length: Duration,
) -> Result<[Measured; 2], String> {
    let mut measured = [Measured::default(), Measured::default()];
    let mut loads = Vec::new();
    for server in servers.iter_mut() {
        let mut load = Load::new(server.running.addr(), PATH, style)?.callers(callers);
        load.run(WARM_UP)?;
        loads.push(load);
    }
    for round in 0..rounds {
        for turn in 0..2 {
            let who = (round + turn) % 2;
            wait_for_room();
            let before = servers[who].running.cpu_time();
            let outcome = loads[who].run(length)?;
            measured[who].add(outcome, servers[who].running.cpu_time() - before);
        }
    }
    Ok(measured)
}

impl Measured {
    fn add(&mut self, outcome: Outcome, cpu: Duration) {
        self.per_second.push(outcome.per_second());
        self.cost.push(cpu.as_secs_f64() * 1e6 / outcome.latencies.len() as f64);
        self.latencies.extend(outcome.latencies);
        self.failures += outcome.failures;
        self.first_failure = self.first_failure.take().or(outcome.first_failure);
    }

    fn row(&self, name: &str, peak: u64) -> Vec<String> {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        vec![
            name.to_owned(),
            format!("{:.0}", median(&self.per_second)),
            format!("{:.1}", median(&self.cost)),
            millis(quantile(&latencies, 0.5)),
            millis(quantile(&latencies, 0.99)),
            self.failures.to_string(),
            peak.to_string(),
        ]
    }
}

fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// lock answers each request, with less CPU than the plain server.
fn verdict(name: &str, lock: &Measured, cost: &[f64]) -> Vec<String> {
    let mut broken = Vec::new();
    if let Some(first) = &lock.first_failure {
        broken.push(format!(
            "http, {name}: lock failed {} of {} requests, first: {first}",
            lock.failures,
            lock.failures + lock.latencies.len()
        ));
    }
    let ratio = median(cost);
    // Without an answer the ratio is NaN.
    if ratio.is_nan() || ratio >= 1.0 {
        broken.push(format!(
            "http, {name}: lock is not ahead of tiny_http::Server in CPU a request: {} of its",
            spread(cost)
        ));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let fine = Measured::default();
        assert!(verdict("x", &fine, &[0.5, 1.2, 0.9]).is_empty());
        for cost in [&[1.0][..], &[0.5, 1.2, 1.1], &[], &[f64::NAN]] {
            assert_eq!(verdict("x", &fine, cost).len(), 1, "{cost:?}");
        }
        let failing =
            Measured { failures: 2, first_failure: Some("why".to_owned()), ..Measured::default() };
        assert_eq!(
            verdict("x", &failing, &[0.5]),
            ["http, x: lock failed 2 of 2 requests, first: why"]
        );
    }

    #[test]
    fn cost_is_for_each_request() {
        let server = testkit::scripted::Server::start(testkit::scripted::Behaviour::ok("hello"));
        let outcome =
            Load::new(server.addr(), PATH, Style::NewConnection).unwrap().run(WARM_UP).unwrap();
        let mut measured = Measured::default();
        let answered = outcome.latencies.len();
        measured.add(outcome, Duration::from_micros(10) * answered as u32);
        assert!((measured.cost[0] - 10.0).abs() < 0.1, "{:?}", measured.cost);
        assert_eq!(measured.row("x", 7)[6], "7");
    }
}
