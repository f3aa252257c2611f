//! A server that is started as all generations of it are: its port by flag and by variable. Does
//! not know which program
//! it is.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use testkit::CEILING;
use testkit::http::{Reply, Request};
use testkit::program::{Program, Running};

use super::{Figures, PEAK};
use crate::load::{Load, Style, wait_for_room};
use crate::table::quantile;

/// The pause between two requests to a server that does not listen yet. A refusal takes some
/// microseconds.
const PAUSE: Duration = Duration::from_micros(100);

/// The length of a round of requests. CPU time is counted in ticks of 10 ms.
const ROUND: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_millis(50);

/// Without a request for this long, a server has released its temporary memory.
const REST: Duration = Duration::from_millis(300);

/// The settings of a program, in the two forms that a generation may read.
#[derive(Clone, Default)]
pub struct Settings {
    pub flags: Vec<String>,
    pub variables: Vec<(&'static str, String)>,
}

pub struct Server {
    running: Running,
    address: SocketAddr,
    started: Instant,
    /// From the start of the process.
    pub first_answer: Duration,
}

impl Settings {
    /// With flags and variables, and with variables alone.
    pub fn forms(&self, file: &Path) -> [Program; 2] {
        let bare = self
            .variables
            .iter()
            .fold(Program::at(file), |program, (name, value)| program.env(name, value));
        [bare.clone().args(&self.flags), bare]
    }

    /// The flags of the form with flags, none of the other.
    pub fn flags_of(&self, form: usize) -> &[String] {
        if form == 0 { &self.flags } else { &[] }
    }

    fn with_port(&self, port: u16) -> Settings {
        let mut settings = self.clone();
        settings.flags.extend(["--port".to_owned(), port.to_string()]);
        settings.variables.push(("PSL_BIND_PORT", port.to_string()));
        settings
    }
}

impl Server {
    /// Returns with the first answer, whatever its status.
    pub fn start(file: &Path, settings: &Settings, path: &str) -> Result<Server, String> {
        let mut error = String::new();
        for form in 0..2 {
            let port = free_port()?;
            let started = Instant::now();
            let running = settings.with_port(port).forms(file)[form].start();
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut server = Server { running, address, started, first_answer: Duration::ZERO };
            match server.wait(path, |_| true) {
                Ok(first_answer) => return Ok(Server { first_answer, ..server }),
                Err(why) => error = why,
            }
        }
        Err(error)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From the start to an answer with this status.
    pub fn until(&mut self, path: &str, status: u16) -> Result<Duration, String> {
        self.wait(path, |reply| reply.status == status)
    }

    fn wait(&mut self, path: &str, fits: impl Fn(&Reply) -> bool) -> Result<Duration, String> {
        let request = Request::get(path);
        loop {
            let reply = request.send(self.address, CEILING);
            if reply.as_ref().is_ok_and(&fits) {
                return Ok(self.started.elapsed());
            }
            self.check_alive()?;
            if self.started.elapsed() > CEILING {
                return Err(format!("GET {path}: no expected answer within {CEILING:?}"));
            }
            // Each answer costs the server CPU time: at most one in 50 of the time so far.
            thread::sleep(PAUSE.max(self.started.elapsed() / 50));
        }
    }

    pub fn ask(&mut self, request: &Request, expected: u16) -> Result<(), String> {
        let reply = request.send(self.address, CEILING).map_err(|e| e.to_string())?;
        match reply.status == expected {
            true => Ok(()),
            false => Err(format!("status {}, expected {expected}", reply.status)),
        }
    }

    fn check_alive(&mut self) -> Result<(), String> {
        let Some(code) = self.running.try_wait() else { return Ok(()) };
        let last = self.running.lines().pop().unwrap_or_default();
        Err(format!("the program ends with {code}: {last}"))
    }

    /// The CPU time since the start, to the nanosecond: no thread has ended yet.
    pub fn start_cpu(&mut self) -> Result<Duration, String> {
        self.check_alive()?;
        Ok(self.running.threads_time())
    }

    pub fn memory(&mut self) -> Result<Figures, String> {
        self.check_alive()?;
        let resident = self.running.memory_kib() as f64;
        Ok(vec![("resident memory, KiB", resident), (PEAK, self.running.memory_peak_kib() as f64)])
    }

    pub fn memory_at_rest(&mut self) -> Result<Figures, String> {
        thread::sleep(REST);
        self.memory()
    }

    /// A round of requests on kept connections, and one with a new connection each.
    pub fn requests(
        &mut self,
        expected: u16,
        path: &str,
        callers: usize,
    ) -> Result<Figures, String> {
        let mut figures = Figures::new();
        for (style, [cost, half, most]) in [
            (Style::KeepAlive, ["keep-alive, CPU µs", "keep-alive, p50 µs", "keep-alive, p99 µs"]),
            (
                Style::NewConnection,
                ["new connection, CPU µs", "new connection, p50 µs", "new connection, p99 µs"],
            ),
        ] {
            let mut load = Load::expecting(expected, self.address, path, style)?.callers(callers);
            load.run(WARM_UP)?;
            wait_for_room();
            let before = self.running.cpu_time();
            let mut outcome = load.run(ROUND)?;
            self.check_alive()?;
            let cpu = self.running.cpu_time().saturating_sub(before);
            let asked = outcome.latencies.len() + outcome.failures;
            check_failures(asked, outcome.failures, outcome.first_failure.as_deref())?;
            outcome.latencies.sort_unstable();
            figures.push((cost, micros(cpu) / outcome.latencies.len() as f64));
            figures.push((half, micros(quantile(&outcome.latencies, 0.5))));
            figures.push((most, micros(quantile(&outcome.latencies, 0.99))));
        }
        Ok(figures)
    }
}

/// One failure in a hundred does not change the cost of the others. Other parts hold that each
/// request is answered.
pub fn check_failures(asked: usize, failures: usize, first: Option<&str>) -> Result<(), String> {
    match asked > 0 && failures * 100 <= asked {
        true => Ok(()),
        false => Err(format!(
            "{failures} of {asked} requests without an answer, first: {}",
            first.unwrap_or("none")
        )),
    }
}

pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A port that is free now. The program gets its number, since a peer may not tell a port that the
/// kernel chose.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|e| format!("no free port: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_in_a_hundred_is_accepted() {
        assert_eq!(check_failures(100, 1, Some("reset")), Ok(()));
        let error = check_failures(99, 1, Some("reset")).unwrap_err();
        assert_eq!(error, "1 of 99 requests without an answer, first: reset");
        assert!(check_failures(0, 0, None).is_err(), "without a request");
    }

    #[test]
    fn a_program_that_ends_at_once_is_an_error() {
        let error = Server::start(Path::new("/bin/false"), &Settings::default(), "/").err();
        assert_eq!(error.as_deref(), Some("the program ends with 1: "));
    }

    #[test]
    fn flags_are_left_out_if_the_program_refuses_them() {
        let settings =
            Settings { flags: vec!["--x".to_owned()], variables: vec![("Y", "1".to_owned())] };
        let [both, bare] = settings.forms(Path::new("/usr/bin/env"));
        assert_eq!(bare.run(CEILING).stdout, "Y=1\n");
        assert_ne!(both.run(CEILING).code, Some(0));
    }
}
