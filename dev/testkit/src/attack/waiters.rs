//! Hostile clients that wait for a lease, and ten honest ones beside them.
//!
//! The hostile clients want the slots of a lock to stay empty, or want all of them. An honest
//! client behaves as init does: it asks with a holder and `wait`, asks again after a 423 or a
//! broken connection, and ends its lease by `DELETE` or by its `ready` port.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Attack, AttackReport, Pattern, Then, addresses, allow_descriptors, attacks};
use super::{begin_connection, pour, swarm};
use crate::application::Application;
use crate::http::{Connection, Request};
use crate::program::{Program, Running};
use crate::scratch::Scratch;

/// The attacks of this module by name.
pub const ATTACKS: &[(&str, Attack)] = &[
    ("ask and stay away", ask_and_stay_away),
    ("park and stay", park_and_stay),
    ("park and flood", park_and_flood),
    ("park and hang up", park_and_hang_up),
    ("park and reset", park_and_reset),
    ("take and DELETE", take_and_delete),
    ("half-closed", half_closed),
    ("grants never read", grants_never_read),
];

/// Honest clients, an address each.
pub const HONEST: usize = 10;

/// As many connections as a lock parks, and as many as it parks and serves if half of them hang up.
const ALL_PARKED: usize = 512;
const MANY: usize = 64;

/// Enough for all attacks that run side by side in one process, and for the honest clients.
const DESCRIPTORS: u64 = 8 * ALL_PARKED as u64;

/// Holders of one address that ask and stay away, and the time between two of their requests. At
/// this rate each is back within the minute for which a lock may remember it.
const ABSENT: usize = 60;
const ABSENT_PAUSE: Duration = Duration::from_millis(300);

/// A client that hangs up is parked for this long before.
const PARKED: Duration = Duration::from_millis(100);

/// The least that Linux takes is about 2 KiB; twenty answers do not fit.
const TINY_BUFFER: usize = 1;
const UNREAD: usize = 20;

/// The longest lease, so that each hostile address may delay an honest client by this much.
const LEASE: &str = "250ms";

/// From the grant to the end of an honest client's start.
const START: Duration = Duration::from_millis(100);

/// For this long an honest client's `ready` port is open; the lease is over by then.
const OPEN: Duration = Duration::from_millis(350);

/// init's pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// The hostile clients come this much earlier than the honest ones.
const HEAD_START: Duration = Duration::from_millis(1500);

/// Between two readings of `/state`.
const SAMPLE: Duration = Duration::from_millis(20);
const WATCHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 8, 1));

/// A lock's arguments, and the slots that are in use whenever a client waits.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    arguments: &'static [&'static str],
    slots: usize,
    /// Runs under a node's pressure that keeps the pressure gate closed.
    is_pressed: bool,
}

/// The floor of `auto` is one slot or more, for each core; that of the pressure gate promises none.
pub const SETTINGS: &[Setting] = &[
    Setting { name: "--locks 1", arguments: &["--locks=1"], slots: 1, is_pressed: false },
    Setting { name: "--locks 8", arguments: &["--locks=8"], slots: 8, is_pressed: false },
    Setting { name: "--locks auto", arguments: &["--locks=auto"], slots: 1, is_pressed: false },
    Setting {
        name: "pressure, floor 150ms",
        arguments: &["--locks=8", "--io-pressure=50", "--gate-floor=150ms"],
        slots: 0,
        is_pressed: true,
    },
];

/// The results of the honest clients.
#[derive(Clone, Debug)]
pub struct Met {
    /// From its first request to its grant, for each that was served, in rising order.
    pub served: Vec<Duration>,
    /// Readings of `/state`, and the number that showed a free slot while a client waited.
    pub samples: usize,
    pub idle: usize,
    pub attack: AttackReport,
}

impl Met {
    pub fn idle_share(&self) -> f64 {
        self.idle as f64 / self.samples.max(1) as f64
    }
}

impl Setting {
    /// The lock. The error says why this machine cannot run it.
    pub fn start(&self, lock: Program) -> Result<Running, String> {
        let lock = lock.args(["--host=127.0.0.1", "--port=0"]).args(self.arguments);
        let lock = lock.args(["--timeout", LEASE, "--max-duration", LEASE]);
        if !self.is_pressed {
            return Ok(lock.start());
        }
        let pressure = Scratch::new();
        for resource in ["cpu", "io", "memory"] {
            let some = "some avg10=99.00 avg60=99.00 avg300=99.00 total=1\n";
            pressure.file(resource, some.to_owned() + &some.replace("some", "full"));
        }
        let seeing = lock.seeing(pressure.path(), "/proc/pressure")?;
        Ok(seeing.keeping(pressure).start())
    }

    /// Attacks the lock for `length`, and again as long as an honest client waits, until `most`.
    pub fn endure(
        &self,
        lock: SocketAddr,
        attack: Attack,
        hostile: u8,
        length: Duration,
        most: Duration,
    ) -> Met {
        allow_descriptors(DESCRIPTORS);
        let (begin, is_over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let end = begin + most;
        let is_done = Arc::clone(&is_over);
        let attacker = thread::spawn(move || {
            let mut report = AttackReport::default();
            while !is_done.load(Ordering::SeqCst) && Instant::now() < end {
                report = attack(lock, addresses(hostile), (Instant::now() + length).min(end));
            }
            report
        });
        thread::sleep(HEAD_START);
        let waiting = Arc::new(AtomicUsize::new(HONEST));
        let honest: Vec<_> = (0..HONEST).map(|n| honest(lock, n, end, &waiting)).collect();
        let (mut samples, mut idle, mut watcher) = (0, 0, None);
        let is_waiting = || waiting.load(Ordering::SeqCst) > 0;
        while Instant::now() < end && (begin.elapsed() < length || is_waiting()) {
            if let Some(is_idle) = self.sample(&mut watcher, lock, is_waiting) {
                samples += 1;
                idle += usize::from(is_idle);
            }
            thread::sleep(SAMPLE);
        }
        is_over.store(true, Ordering::SeqCst);
        let attack = attacker.join().unwrap();
        let mut served: Vec<_> =
            honest.into_iter().filter_map(|client| client.join().unwrap()).collect();
        served.sort_unstable();
        Met { served, samples, idle, attack }
    }

    /// Whether a slot is free while a client waits, if the lock says so.
    fn sample(
        &self,
        watcher: &mut Option<Connection>,
        lock: SocketAddr,
        is_honest_waiting: impl Fn() -> bool,
    ) -> Option<bool> {
        let mut connection = match watcher.take() {
            Some(connection) => connection,
            None => Connection::open(lock, Some(WATCHER), PAUSE).ok()?,
        };
        // A client that is served meanwhile has waited before.
        let is_honest_waiting = is_honest_waiting();
        let reply = connection.send(&Request::get("/state").keep_alive()).ok()?;
        *watcher = Some(connection);
        let state: serde_json::Value = serde_json::from_str(&reply.body).ok()?;
        let is_parked = state["queue"].as_array()?.iter().any(|waiter| waiter["held"] == true);
        let in_use = state["slots_in_use"].as_u64()? as usize;
        Some(in_use < self.slots && (is_parked || is_honest_waiting))
    }
}

/// From the first request to the grant; `None` if there is none by the end.
fn honest(
    lock: SocketAddr,
    number: usize,
    end: Instant,
    waiting: &Arc<AtomicUsize>,
) -> JoinHandle<Option<Duration>> {
    let waiting = Arc::clone(waiting);
    let address = Ipv4Addr::new(127, 0, 9, number as u8 + 1);
    thread::spawn(move || {
        let application = Some(Application::starting(address)).filter(|_| number.is_multiple_of(2));
        let ready =
            application.as_ref().map(|application| format!("&ready={}", application.ready()));
        let place = format!("/?holder=honest-{number}");
        let target = format!("{place}&wait=30{}", ready.unwrap_or_default());
        let begin = Instant::now();
        wait_for_grant(lock, &Request::get(&target).from(address), end)?;
        let served = begin.elapsed();
        waiting.fetch_sub(1, Ordering::SeqCst);
        thread::sleep(START);
        match application {
            Some(application) => {
                let _listener = application.open();
                thread::sleep(OPEN);
            }
            // If it is lost, the lease lasts its duration.
            None => drop(Request::delete(&place).from(address).send(lock, PAUSE)),
        }
        Some(served)
    })
}

/// Pauses as init does: a 423 that was parked has itself been the pause.
fn wait_for_grant(lock: SocketAddr, request: &Request, end: Instant) -> Option<()> {
    loop {
        let asked = Instant::now();
        let left = end.checked_duration_since(asked).filter(|left| !left.is_zero())?;
        let pause = match request.send(lock, left) {
            Ok(reply) if reply.status == 200 => return Some(()),
            Ok(reply) => {
                let retry_after =
                    reply.header("retry-after").and_then(|text| text.parse().ok()).unwrap_or(0);
                match Duration::from_secs(retry_after) {
                    longer if longer > PAUSE => longer,
                    _ => PAUSE.saturating_sub(asked.elapsed()),
                }
            }
            Err(_) => PAUSE,
        };
        thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
    }
}

fn parking(number: usize) -> Vec<u8> {
    Request::get(&format!("/?holder=hostile-{number}&wait=30")).bytes("lock")
}

/// Asks once in `ABSENT_PAUSE` for one of `ABSENT` holders of each address. Neither reads an
/// answer nor ends a connection before the holder asks again.
pub fn ask_and_stay_away(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
    let mut report = AttackReport { name: "ask and stay away", ..AttackReport::default() };
    let most = from.len() * ABSENT;
    let mut streams: VecDeque<TcpStream> = VecDeque::new();
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        for address in &from {
            let request = Request::get(&format!("/?holder=absent-{address}-{}", number % ABSENT))
                .bytes("lock");
            streams.truncate(most - 1);
            let asked = begin_connection(target, Some(*address), None).and_then(|mut stream| {
                stream.write_all(&request)?;
                streams.push_front(stream);
                Ok(())
            });
            match asked {
                Ok(()) => report.opened += 1,
                Err(_) => report.failed += 1,
            }
        }
        // The first round takes all places at once; then comes the steady state.
        let pause = if number < ABSENT { Duration::from_millis(5) } else { ABSENT_PAUSE };
        thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
    }
    report.most_open = streams.len() as u64;
    report
}

attacks! {
    park_and_stay: Pattern { connections: ALL_PARKED, ..Pattern::new("park and stay", parking) };

    /// Fills each buffer between the client and the lock.
    park_and_flood: Pattern {
        connections: ALL_PARKED,
        then: pour(b"a"),
        reads: false,
        ..Pattern::new("park and flood", parking)
    };

    park_and_hang_up: Pattern {
        connections: MANY,
        then: Then::HangUp(PARKED),
        ..Pattern::new("park and hang up", parking)
    };

    park_and_reset:
        Pattern { connections: MANY, then: Then::Reset, ..Pattern::new("park and reset", parking) };

    /// Ends its sending direction while it is parked, and reads on.
    half_closed: Pattern {
        connections: MANY,
        then: Then::HalfClose(PARKED),
        ..Pattern::new("half-closed", parking)
    };

    /// The answers to earlier requests fill the client's buffer, and the grant waits behind them.
    grants_never_read: Pattern {
        connections: ALL_PARKED,
        reads: false,
        receive_buffer: Some(TINY_BUFFER),
        ..Pattern::new("grants never read", |number| {
            let mut requests = Request::get("/livez").keep_alive().bytes("lock").repeat(UNREAD);
            requests.extend(parking(number));
            requests
        })
    };
}

/// Two holders at each address take a lease, give it back and ask again.
pub fn take_and_delete(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
    let mut report = AttackReport { name: "take and DELETE", ..AttackReport::default() };
    let taker = |address: Ipv4Addr, number: usize| {
        move || {
            let place = format!("/?holder=taker-{address}-{number}");
            let (mut opened, mut answers) = (0, 0);
            while Instant::now() < until {
                for request in [Request::get(&format!("{place}&wait=30")), Request::delete(&place)]
                {
                    let left = until.saturating_duration_since(Instant::now());
                    opened += 1;
                    let reply =
                        request.from(address).send(target, left.max(Duration::from_millis(1)));
                    if reply.is_ok_and(|reply| reply.status == 200) {
                        answers += 1;
                    } else {
                        thread::sleep(Duration::from_millis(20));
                    }
                }
            }
            (opened, answers)
        }
    };
    let takers: Vec<_> = from
        .iter()
        .flat_map(|address| [0, 1].map(|number| thread::spawn(taker(*address, number))))
        .collect();
    for taker in takers {
        let (opened, answers) = taker.join().unwrap();
        report.opened += opened;
        report.answers += answers;
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Behaviour, Server};

    #[test]
    fn each_attack_asks_and_ends_in_time() {
        for (name, attack) in ATTACKS {
            let server = Server::start(Behaviour::status(423, "Locked"));
            let until = Instant::now() + Duration::from_millis(800);
            let report = attack(server.addr(), addresses(2), until);
            println!("{report}");
            assert_eq!(report.name, *name);
            assert!(until.elapsed() < crate::CEILING / 4, "{name}: {:?}", until.elapsed());
            assert!(report.opened > 8 && server.requests().len() > 8, "{report}");
        }
    }
}
