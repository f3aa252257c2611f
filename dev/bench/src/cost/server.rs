//! A server as all generations of it are started: its port by flag and by variable, watched from outside. Does not
//! know which of the programs it is.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::CEILING;
use testkit::http::{Reply, Request};
use testkit::program::{Program, Running};

use super::pairs::{Column, Found};
use crate::load::{Load, Style, wait_for_room};
use crate::table::quantile;

/// How often a server is asked that does not listen yet: a refusal takes some microseconds.
const LOOK: Duration = Duration::from_micros(100);

/// How often one is asked that answers, but not yet as is wanted: each answer costs it something. At least, and as a share
/// of the time that it has taken so far.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const LOOKS: u32 = 50;

/// What a round of requests takes, and the one before it of which nothing is kept.
const ROUND: Duration = Duration::from_millis(300);
const WARM_UP: Duration = Duration::from_millis(50);

/// After so much time without a request what a server has resident is what it keeps.
const REST: Duration = Duration::from_millis(300);

/// A clock that counts in ticks is less than so much ahead of one that counts nanoseconds: a tick of its own time, and one
/// of the kernel's.
const TICKS: Duration = Duration::from_millis(20);

/// Said where a processor time is none: neither of the two clocks has seen it.
pub const UNSEEN: &str = "its processor time is not seen: threads that end take it with them";

/// Below those that the kernel takes for clients' ends.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// What a program is told, in the two ways in which a generation may take it.
pub struct Settings {
    pub flags: Vec<String>,
    pub variables: Vec<(&'static str, String)>,
}

pub struct Server {
    running: Running,
    address: SocketAddr,
    started: Instant,
    /// From before its process was there.
    pub first_answer: Duration,
}

/// The processor time of a process by two clocks.
struct Spent {
    /// To the nanosecond, of the threads that there are.
    threads: Duration,
    /// Of all that there ever were.
    ticks: Duration,
}

/// The columns that a round of requests fills.
pub struct Requests {
    pub style: Style,
    pub cost: Column,
    pub half: Column,
    pub most: Column,
}

pub const KEPT: Requests = Requests {
    style: Style::KeepAlive,
    cost: Column { name: "keep-alive CPU", unit: "µs" },
    half: Column { name: "keep-alive p50", unit: "µs" },
    most: Column { name: "keep-alive p99", unit: "µs" },
};
pub const NEW: Requests = Requests {
    style: Style::NewConnection,
    cost: Column { name: "new connection CPU", unit: "µs" },
    half: Column { name: "new connection p50", unit: "µs" },
    most: Column { name: "new connection p99", unit: "µs" },
};

pub const FIRST_ANSWER: Column = Column { name: "start", unit: "ms" };
pub const START_CPU: Column = Column { name: "CPU", unit: "ms" };
pub const RESIDENT: Column = Column { name: "resident", unit: "KiB" };
pub const PEAK: Column = Column { name: "peak", unit: "KiB" };

impl Settings {
    /// With flags and variables, and where flags are refused with variables alone.
    pub fn ways(&self, file: &Path) -> [Program; 2] {
        let bare = self
            .variables
            .iter()
            .fold(Program::at(file), |program, (name, value)| program.env(name, value));
        [bare.clone().args(&self.flags), bare]
    }

    /// The port of a server.
    fn with_port(&self, port: u16) -> Settings {
        let flags =
            self.flags.iter().cloned().chain(["--port".to_owned(), port.to_string()]).collect();
        let variables =
            self.variables.iter().cloned().chain([("PSL_BIND_PORT", port.to_string())]).collect();
        Settings { flags, variables }
    }
}

impl Server {
    /// Returns with the first answer, whatever it says.
    pub fn start(file: &Path, settings: &Settings, path: &str) -> Result<Server, String> {
        let mut refused = None;
        for way in 0..2 {
            let port = free_port()?;
            let started = Instant::now();
            let running = settings.with_port(port).ways(file)[way].start();
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut server = Server { running, address, started, first_answer: Duration::ZERO };
            match server.wait(path, |_| LOOK, |_| true) {
                Ok(first_answer) => return Ok(Server { first_answer, ..server }),
                // One that stays and is silent has taken its flags.
                Err(why) if server.running.try_wait().is_none() => return Err(why),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Err(refused.unwrap_or_default())
    }

    /// From the start until an answer fits.
    pub fn until(&mut self, path: &str, fits: impl Fn(&Reply) -> bool) -> Result<Duration, String> {
        self.wait(path, |so_far| LOOK_AGAIN.max(so_far / LOOKS), fits)
    }

    fn wait(
        &mut self,
        path: &str,
        pause: impl Fn(Duration) -> Duration,
        fits: impl Fn(&Reply) -> bool,
    ) -> Result<Duration, String> {
        let request = Request::get(path);
        loop {
            let reply = request.send(self.address, CEILING);
            if reply.as_ref().is_ok_and(&fits) {
                return Ok(self.started.elapsed());
            }
            self.alive()?;
            if self.started.elapsed() > CEILING {
                let last = reply
                    .map_or_else(|e| e.to_string(), |reply| format!("status {}", reply.status));
                return Err(format!(
                    "GET {path} was not answered as expected within {CEILING:?}, last: {last}"
                ));
            }
            thread::sleep(pause(self.started.elapsed()));
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks once; what else than this status comes is an error.
    pub fn ask(&mut self, request: &Request, expected: u16) -> Result<Reply, String> {
        let reply = request.send(self.address, CEILING).map_err(|e| e.to_string());
        self.alive()?;
        match reply? {
            reply if reply.status == expected => Ok(reply),
            reply => Err(format!("status {}, expected {expected}", reply.status)),
        }
    }

    /// What is asked of a process that has ended has no answer.
    fn alive(&mut self) -> Result<(), String> {
        ended(&mut self.running).map_or(Ok(()), Err)
    }

    /// What it has resident now, and the most that it ever had.
    pub fn memory(&mut self, found: &mut Found) -> Result<(), String> {
        self.alive()?;
        found.add(RESIDENT, self.running.memory_kib() as f64);
        found.add(PEAK, self.running.memory_peak_kib() as f64);
        Ok(())
    }

    /// After a rest.
    pub fn memory_at_rest(&mut self, found: &mut Found) -> Result<(), String> {
        thread::sleep(REST);
        self.memory(found)
    }

    /// The processor time that it takes meanwhile.
    pub fn spent<T>(&mut self, work: impl FnOnce() -> T) -> Result<(T, Duration), String> {
        let before = self.spent_so_far()?;
        let worked = work();
        Ok((worked, self.spent_so_far()?.since(&before)))
    }

    /// From its start on.
    pub fn spent_in_all(&mut self) -> Result<Duration, String> {
        let none = Spent { threads: Duration::ZERO, ticks: Duration::ZERO };
        Ok(self.spent_so_far()?.since(&none))
    }

    fn spent_so_far(&mut self) -> Result<Spent, String> {
        self.alive()?;
        Ok(Spent { threads: self.running.threads_time(), ticks: self.running.cpu_time() })
    }

    /// A round of requests in both styles. One that cannot be held is something that the server lacks.
    pub fn requests(
        &mut self,
        expected: u16,
        path: &str,
        callers: usize,
        found: &mut Found,
    ) -> Result<(), String> {
        for requests in [KEPT, NEW] {
            let load = Load::expecting(expected, self.address, path, requests.style);
            let rounds = load.and_then(|load| {
                let mut load = load.callers(callers);
                load.run(WARM_UP)?;
                wait_for_room();
                let (outcome, cpu) = self.spent(|| load.run(ROUND))?;
                Ok((outcome?, cpu))
            });
            let answered = rounds.and_then(|(outcome, cpu)| {
                enough_answered(
                    outcome.latencies.len() + outcome.failures,
                    outcome.failures,
                    outcome.first_failure,
                )?;
                Ok((outcome.latencies, cpu))
            });
            match answered {
                Ok((mut latencies, cpu)) => {
                    latencies.sort_unstable();
                    found.add_seen(requests.cost, micros(cpu) / latencies.len() as f64, UNSEEN);
                    found.add(requests.half, micros(quantile(&latencies, 0.5)));
                    found.add(requests.most, micros(quantile(&latencies, 0.99)));
                }
                Err(why) => found.lacks(requests.cost, why),
            }
        }
        self.alive()
    }
}

impl Spent {
    /// By nanoseconds, unless threads have ended in between and taken their share with them.
    fn since(&self, before: &Spent) -> Duration {
        let threads = self.threads.saturating_sub(before.threads);
        let ticks = self.ticks.saturating_sub(before.ticks);
        if ticks >= threads + TICKS { ticks } else { threads }
    }
}

/// Whether what was measured is of those who were answered, but for one in a hundred at most: that each is answered is the
/// promise of other parts, and one who is not on a busy machine does not change what the others cost.
pub fn enough_answered(asked: usize, failures: usize, first: Option<String>) -> Result<(), String> {
    if asked > 0 && failures * 100 <= asked {
        return Ok(());
    }
    Err(format!(
        "{failures} of {asked} had no answer, first: {}",
        first.unwrap_or_else(|| "none".to_owned())
    ))
}

/// How a process has ended, by its last words.
pub fn ended(running: &mut Running) -> Option<String> {
    let code = running.try_wait()?;
    let last = running.lines().pop().map_or_else(String::new, |line| format!(": {line}"));
    Some(format!("it ended with {code}{last}"))
}

pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Not one that the kernel chooses: what a peer is told to choose it may not tell. The kernel's own choices come
/// from elsewhere, so nobody takes it in between but another of these.
fn free_port() -> Result<u16, String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    (0..PORTS.len())
        .map(|_| {
            PORTS.start
                + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u16
        })
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .ok_or_else(|| format!("no free port in {PORTS:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_and_not_given_twice() {
        let (one, two) = (free_port().unwrap(), free_port().unwrap());
        assert!(PORTS.contains(&one) && PORTS.contains(&two) && one != two, "{one} {two}");
        // For a moment a process that another test starts can have a copy of the socket that was tried.
        testkit::eventually("it is free", CEILING, || {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, one)).ok()
        });
    }

    #[test]
    fn threads_that_have_ended_are_counted_by_ticks() {
        let spent = |threads, ticks| Spent {
            threads: Duration::from_millis(threads),
            ticks: Duration::from_millis(ticks),
        };
        for (name, after, expected) in [
            ("as ticks have it", spent(105, 110), 95),
            ("ticks run ahead", spent(105, 120), 95),
            ("as far as they can", spent(100, 119), 90),
            ("a thread has ended", spent(100, 120), 110),
            ("and more than was used since", spent(5, 140), 130),
        ] {
            assert_eq!(after.since(&spent(10, 10)), Duration::from_millis(expected), "{name}");
        }
    }

    #[test]
    fn one_in_a_hundred_may_fail() {
        let enough = |asked, failures| enough_answered(asked, failures, Some("why".to_owned()));
        assert_eq!([enough(100, 1), enough(1000, 0)], [Ok(()), Ok(())]);
        assert_eq!(enough(99, 1), Err("1 of 99 had no answer, first: why".to_owned()));
        assert!(enough(0, 0).is_err(), "nothing was measured");
    }

    #[test]
    fn one_that_ends_at_once_is_told_by_its_last_words() {
        let none = Settings { flags: vec![], variables: vec![] };
        let error = Server::start(Path::new("/bin/false"), &none, "/").err().unwrap();
        assert_eq!(error, "it ended with 1");
    }

    #[test]
    fn flags_are_left_out_where_they_are_refused() {
        let settings = Settings {
            flags: vec!["--port=1".to_owned()],
            variables: vec![("PORT", "1".to_owned())],
        };
        let [both, bare] = settings.ways(Path::new("/usr/bin/env"));
        assert_eq!(bare.run(CEILING).stdout, "PORT=1\n");
        assert_ne!(both.run(CEILING).code, Some(0));
    }
}
