//! One thread that keeps connections busy: on each, the next request follows the last answer.
//! Counts the answers; does not
//! know the server.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::retry_on_intr;
use socket2::{Domain, Protocol, Socket, Type};
use testkit::http::{Reply, Request};

/// The most connections that lock admits from one address.
pub const CONNECTIONS: usize = 16;

/// A request without an answer after this time has failed.
const LOST: Duration = Duration::from_secs(1);

/// The longest wait for an event before the thread reads the clock.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Connections from one source address. Linux has 28,000 ephemeral ports for each address, and a
/// port must not be used
/// again while the kernel remembers its last connection.
const FROM_ONE_ADDRESS: usize = 10_000;

/// The number of the next unused source address.
static SOURCES: AtomicUsize = AtomicUsize::new(1);

/// With connection tracking (Docker, Kubernetes) the kernel remembers each connection for a while,
/// and drops new ones when
/// its table is full.
const TRACKED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const TRACKED_AT_MOST: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// The kernel remembers an ended connection for two minutes.
const FORGOTTEN: Duration = Duration::from_secs(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One connection for all requests.
    KeepAlive,
    /// A connection for each request, with `Connection: close`.
    NewConnection,
    /// The same, but the client does not wait for the server's close: the last connection may still
    /// count when the next
    /// one comes.
    NextAtOnce,
}

/// The request, its server and the expected answer.
pub struct Load {
    target: SocketAddr,
    style: Style,
    callers: usize,
    request: Vec<u8>,
    /// The status line and the length of each answer. Answers differ in their date alone.
    status_line: Vec<u8>,
    answer: usize,
    /// The number of the first source address in use, and the connections since it is.
    source: usize,
    opened: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// From the request, or from the connect, to the last byte, or to the end of the connection.
    pub latencies: Vec<Duration>,
    pub failures: usize,
    pub first_failure: Option<String>,
    pub took: Duration,
}

struct Lane {
    stream: TcpStream,
    since: Instant,
    received: usize,
}

impl Load {
    pub fn new(target: SocketAddr, path: &str, style: Style) -> Result<Load, String> {
        Load::expecting(200, target, path, style)
    }

    /// Asks once, to learn the expected answer.
    pub fn expecting(
        expected: u16,
        target: SocketAddr,
        path: &str,
        style: Style,
    ) -> Result<Load, String> {
        let request = match style {
            Style::KeepAlive => Request::get(path).keep_alive(),
            Style::NewConnection | Style::NextAtOnce => Request::get(path),
        };
        let reply = request
            .send(target, testkit::CEILING)
            .map_err(|e| format!("GET {path} of {target}: {e}"))?;
        let Reply { status, raw, .. } = reply;
        if status != expected {
            return Err(format!("GET {path} of {target}: status {status}, expected {expected}"));
        }
        let request = request.bytes(&target.to_string());
        let status_line =
            raw.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
        Ok(Load {
            target,
            style,
            callers: CONNECTIONS,
            request,
            status_line,
            answer: raw.len(),
            source: 0,
            opened: 0,
        })
    }

    /// This many connections at a time, at most [`CONNECTIONS`] of them from one address.
    pub fn callers(self, callers: usize) -> Load {
        Load { callers, ..self }
    }

    /// Uses new source addresses: the server may still count the last connections of the old ones.
    pub fn run(&mut self, length: Duration) -> Result<Outcome, String> {
        self.next_source();
        self.drive(length).map_err(|e| format!("load on {}: {e}", self.target))
    }

    /// Waits for the last answers: they are no failures, and a reset before the accept would end
    /// the accept loop of
    /// `tiny_http`.
    fn drive(&mut self, length: Duration) -> io::Result<Outcome> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let start = Instant::now();
        let mut outcome = Outcome::default();
        let mut lanes = Vec::new();
        for place in 0..self.callers {
            lanes.push(Some(self.open(&poll, place)?));
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(self.callers);
        while lanes.iter().any(Option::is_some) && start.elapsed() < length + LOST {
            retry_on_intr(|| epoll::wait(&poll, spare_capacity(&mut events), Some(&TICK)))?;
            for event in events.drain(..) {
                let place = event.data.u64() as usize;
                let Some(mut lane) = lanes[place].take() else { continue };
                match self.step(&mut lane) {
                    Ok(None) => {
                        lanes[place] = Some(lane);
                        continue;
                    }
                    Ok(Some(latency)) => outcome.latencies.push(latency),
                    Err(error) => outcome.failed(error.to_string()),
                }
                if start.elapsed() < length {
                    lanes[place] = Some(self.next(&poll, place, lane)?);
                }
            }
        }
        outcome.took = start.elapsed();
        for _ in lanes.iter().flatten() {
            outcome.failed(format!("no answer within {LOST:?}"));
        }
        Ok(outcome)
    }

    /// Reads the available bytes. Returns the latency once the answer is whole.
    fn step(&self, lane: &mut Lane) -> io::Result<Option<Duration>> {
        let mut bytes = [0; 2048];
        loop {
            let count = match lane.stream.read(&mut bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            if lane.received == 0 && count > 0 && !bytes[..count].starts_with(&self.status_line) {
                return Err(io::Error::other("an answer with another status"));
            }
            lane.received += count;
            let is_whole = lane.received == self.answer;
            let is_over = match self.style {
                Style::KeepAlive | Style::NextAtOnce => is_whole || count == 0,
                Style::NewConnection => count == 0,
            };
            match (is_over, is_whole) {
                (true, true) => return Ok(Some(lane.since.elapsed())),
                (true, false) => {
                    return Err(io::Error::other("the connection ended before the answer"));
                }
                (false, _) if lane.received > self.answer => {
                    return Err(io::Error::other("an answer that is too long"));
                }
                (false, _) => {}
            }
        }
    }

    /// Sends the next request, on the same connection if it is kept alive.
    fn next(&mut self, poll: &impl AsFd, place: usize, mut lane: Lane) -> io::Result<Lane> {
        let can_go_on = self.style == Style::KeepAlive && lane.received == self.answer;
        (lane.since, lane.received) = (Instant::now(), 0);
        if can_go_on && lane.stream.write_all(&self.request).is_ok() {
            return Ok(lane);
        }
        drop(lane);
        self.open(poll, place)
    }

    fn open(&mut self, poll: &impl AsFd, place: usize) -> io::Result<Lane> {
        let since = Instant::now();
        let socket =
            Socket::new(Domain::for_address(self.target), Type::STREAM, Some(Protocol::TCP))?;
        // The connection ends by a reset, after the answer and the server's close: it does not
        // linger, so neither ports
        // nor the kernel's tables run out within a round. A client that does not wait for the close
        // sends a FIN.
        if self.style != Style::NextAtOnce {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        socket.bind(&SocketAddr::new(self.address(place), 0).into())?;
        socket.connect(&self.target.into())?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(&self.request)?;
        stream.set_nonblocking(true)?;
        epoll::add(poll, &stream, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
        self.opened += 1;
        if self.opened == FROM_ONE_ADDRESS * self.addresses() {
            self.next_source();
        }
        Ok(Lane { stream, since, received: 0 })
    }

    fn next_source(&mut self) {
        (self.source, self.opened) = (SOURCES.fetch_add(self.addresses(), Ordering::Relaxed), 0);
    }

    fn addresses(&self) -> usize {
        self.callers.div_ceil(CONNECTIONS)
    }

    fn address(&self, place: usize) -> IpAddr {
        let [.., high, low] = (self.source + place / CONNECTIONS).to_be_bytes();
        Ipv4Addr::new(127, 2, high, low).into()
    }
}

impl Outcome {
    fn failed(&mut self, why: String) {
        self.failures += 1;
        self.first_failure.get_or_insert(why);
    }

    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }
}

/// Waits until less than half of the kernel's connection table is in use, at most until the kernel
/// forgets.
pub fn wait_for_room() {
    let number =
        |path| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let is_full =
        || number(TRACKED).zip(number(TRACKED_AT_MOST)).is_some_and(|(now, most)| now > most / 2);
    let start = Instant::now();
    while is_full() && start.elapsed() < FORGOTTEN {
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::scripted::{Behaviour, Server};

    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn counts_answers_on_new_connections() {
        let server = Server::start(Behaviour::ok("hello"));
        let outcome =
            Load::new(server.addr(), "/", Style::NewConnection).unwrap().run(SHORT).unwrap();
        assert_eq!(outcome.failures, 0, "{:?}", outcome.first_failure);
        assert!(outcome.latencies.len() > CONNECTIONS, "{}", outcome.latencies.len());
        assert!(server.requests().len() > outcome.latencies.len());
    }

    #[test]
    fn the_next_connection_need_not_wait_for_the_end_of_the_last() {
        let server = Server::start(Behaviour::ok("hello"));
        let outcome = Load::new(server.addr(), "/", Style::NextAtOnce).unwrap().run(SHORT).unwrap();
        assert_eq!(outcome.failures, 0, "{:?}", outcome.first_failure);
        assert!(outcome.latencies.len() > CONNECTIONS, "{}", outcome.latencies.len());
    }

    #[test]
    fn a_server_that_closes_all_the_same_gets_a_new_connection() {
        let server = Server::start(Behaviour::ok("hello"));
        let outcome = Load::new(server.addr(), "/", Style::KeepAlive).unwrap().run(SHORT).unwrap();
        assert!(outcome.latencies.len() > CONNECTIONS, "{}", outcome.latencies.len());
    }

    #[test]
    fn other_answers_are_failures() {
        for behaviour in [
            Behaviour::status(503, "hello"),
            Behaviour::ok("a longer one"),
            Behaviour::Truncated200,
            Behaviour::ResetAfterRequest,
        ] {
            let server = Server::start(Behaviour::ok("hello"));
            let mut load = Load::new(server.addr(), "/", Style::NewConnection).unwrap();
            server.set(behaviour);
            let outcome = load.run(SHORT).unwrap();
            assert!(outcome.failures > 0 && outcome.latencies.is_empty(), "{outcome:?}");
        }
    }

    #[test]
    fn callers_share_addresses_and_expect_what_they_are_told_to() {
        let server = Server::start(Behaviour::status(423, "Locked"));
        let load = Load::expecting(423, server.addr(), "/", Style::NewConnection).unwrap();
        let outcome = load.callers(CONNECTIONS + 1).run(SHORT).unwrap();
        assert_eq!(outcome.failures, 0, "{:?}", outcome.first_failure);
        let from: std::collections::BTreeSet<_> =
            server.requests().iter().skip(1).map(|seen| seen.from.ip()).collect();
        assert_eq!(from.len(), 2, "{from:?}");
    }

    #[test]
    fn silence_is_a_failure() {
        let server = Server::start(Behaviour::ok("hello"));
        let mut load = Load::new(server.addr(), "/", Style::NewConnection).unwrap();
        server.set(Behaviour::SilentAfterRequest);
        let outcome = load.run(LOST + SHORT).unwrap();
        assert_eq!(outcome.failures, CONNECTIONS);
    }

    #[test]
    fn what_it_asks_first_has_to_be_answered() {
        let server = Server::start(Behaviour::status(404, "no"));
        let error = Load::new(server.addr(), "/", Style::KeepAlive).err().unwrap();
        assert!(error.ends_with("status 404, expected 200"), "{error}");
    }
}
