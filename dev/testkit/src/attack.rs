//! Hostile clients, and the honest one beside them. Only ever for servers on loopback. An attack runs in the calling
//! thread, on sockets that never block, a hundred times a second: light enough that on two cores it is the server that
//! is measured. It ends at its time, and does not know what it attacks.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::http::Request;

pub mod waiters;

/// Attacks the target from these addresses (none: the system's choice) until then.
pub type Attack = fn(SocketAddr, Vec<Ipv4Addr>, Instant) -> AttackReport;

/// All of them, by name.
pub const ATTACKS: &[(&str, Attack)] = &[
    ("idle connections", idle_connections),
    ("slow trickle", slow_trickle),
    ("endless header line", endless_header_line),
    ("endless request line", endless_request_line),
    ("endless headers", endless_headers),
    ("huge body", huge_body),
    ("mix", mix),
    ("connect and reset", connect_and_reset),
    ("pipelining", pipelining),
];

const TICK: Duration = Duration::from_millis(10);
/// How long a place rests after its connection has failed or ended.
const PAUSE: Duration = Duration::from_millis(50);
/// New connections in one tick, that is 2,000 a second: more would measure this machine's kernel.
const NEW_IN_A_TICK: usize = 20;
/// What one connection pours out in one tick.
const POUR: usize = 16 * 1024;
/// How long an answer to something odd is awaited.
const PATIENCE: Duration = Duration::from_millis(500);

/// What an attack did and met.
#[derive(Clone, Debug, Default)]
pub struct AttackReport {
    pub name: &'static str,
    /// Connections that were begun.
    pub opened: u64,
    /// Those that were refused or otherwise never came to be.
    pub failed: u64,
    /// Those that the server ended.
    pub closed_by_server: u64,
    /// Those on which the server said something.
    pub answers: u64,
    /// How many were open at the same time.
    pub most_open: u64,
    pub bytes_sent: u64,
    pub bytes_read: u64,
}

impl fmt::Display for AttackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} connections opened, {} failed, {} closed by the server, {} answered, {} at once; {} bytes sent, {} read",
            self.name,
            self.opened,
            self.failed,
            self.closed_by_server,
            self.answers,
            self.most_open,
            self.bytes_sent,
            self.bytes_read
        )
    }
}

/// That many addresses of loopback, for attacks that come from many.
pub fn addresses(count: u8) -> Vec<Ipv4Addr> {
    (1..=count).map(|last| Ipv4Addr::new(127, 0, 1, last)).collect()
}

/// 2,000 connections that say nothing.
pub fn idle_connections(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
    let pattern = Pattern { connections: 2000, ..Pattern::new("idle connections", |_| Vec::new()) };
    swarm(&pattern, target, &from, until)
}

/// 500 connections that send a byte of a header each half second, and come again when they are cut off.
pub fn slow_trickle(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
    let pattern = Pattern {
        connections: 500,
        then: Then::Send(b"a".to_vec(), Duration::from_millis(500)),
        ..Pattern::new("slow trickle", |_| b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ".to_vec())
    };
    swarm(&pattern, target, &from, until)
}

pub fn endless_header_line(
    target: SocketAddr,
    from: Vec<Ipv4Addr>,
    until: Instant,
) -> AttackReport {
    let pattern = Pattern {
        then: pour(b"a"),
        ..Pattern::new("endless header line", |_| b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ".to_vec())
    };
    swarm(&pattern, target, &from, until)
}

pub fn endless_request_line(
    target: SocketAddr,
    from: Vec<Ipv4Addr>,
    until: Instant,
) -> AttackReport {
    let pattern =
        Pattern { then: pour(b"a"), ..Pattern::new("endless request line", |_| b"GET /".to_vec()) };
    swarm(&pattern, target, &from, until)
}

pub fn endless_headers(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
    let pattern = Pattern {
        then: pour(b"X-Aa: b\r\n"),
        ..Pattern::new("endless headers", |_| b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec())
    };
    swarm(&pattern, target, &from, until)
}

/// A body announced as 99,999,999,999 bytes, and begun.
pub fn huge_body(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
    let opening = |_| b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".to_vec();
    let pattern = Pattern { then: pour(b"a"), ..Pattern::new("huge body", opening) };
    swarm(&pattern, target, &from, until)
}

/// What servers are sent by scanners, other protocols and broken clients, in turn.
pub fn mix(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
    let pattern = Pattern { connections: 64, then: Then::Listen, ..Pattern::new("mix", oddity) };
    swarm(&pattern, target, &from, until)
}

/// Connections that are broken off as soon as they are there.
pub fn connect_and_reset(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
    let pattern = Pattern {
        connections: NEW_IN_A_TICK,
        then: Then::Reset,
        pause: Duration::ZERO,
        ..Pattern::new("connect and reset", |_| Vec::new())
    };
    swarm(&pattern, target, &from, until)
}

/// Requests without end on each connection, and not one answer read.
pub fn pipelining(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
    let pattern = Pattern {
        connections: 16,
        then: pour(b"GET /?duration=0 HTTP/1.1\r\nHost: a\r\n\r\n"),
        reads: false,
        ..Pattern::new("pipelining", |_| Vec::new())
    };
    swarm(&pattern, target, &from, until)
}

/// The oddities of [`mix`]; each number has one.
fn oddity(number: usize) -> Vec<u8> {
    const TLS_HELLO: &[u8] = b"\x16\x03\x01\x00\x4c\x01\x00\x00\x48\x03\x03\
        0123456789abcdef0123456789abcdef\x00\x00\x04\x13\x01\x13\x02\x01\x00\x00\x1b\
        \x00\x2b\x00\x03\x02\x03\x04\x00\x0a\x00\x04\x00\x02\x00\x1d\x00\x0d\x00\x08\x00\x06\x08\x04\x04\x03\x04\x01";
    const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let fixed: &[&[u8]] = &[
        TLS_HELLO,
        HTTP2,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"GET /livez HTTP/1.1\nHost: a\n\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n folded: yes\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX-\xc3\xa4: \xff\xfe\r\n\r\n",
        b"GET /\xc3\xa4?\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%00?duration=%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /livez HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
    ];
    match fixed.get(number % (fixed.len() + 1)) {
        Some(bytes) => bytes.to_vec(),
        None => format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(60_000)).into_bytes(),
    }
}

struct Pattern {
    name: &'static str,
    /// How many at the same time.
    connections: usize,
    /// What the connection of this number sends first.
    opening: fn(usize) -> Vec<u8>,
    then: Then,
    reads: bool,
    /// Bytes that the kernel buffers of what the server sends; the system's choice if `None`.
    receive_buffer: Option<usize>,
    pause: Duration,
}

impl Pattern {
    fn new(name: &'static str, opening: fn(usize) -> Vec<u8>) -> Pattern {
        Pattern {
            name,
            connections: 8,
            opening,
            then: Then::Stay,
            reads: true,
            receive_buffer: None,
            pause: PAUSE,
        }
    }
}

/// What a connection does after its opening.
enum Then {
    Stay,
    /// Sends this again and again, this far apart.
    Send(Vec<u8>, Duration),
    /// Waits for an answer for [`PATIENCE`], then makes room for the next.
    Listen,
    Reset,
    /// Ends the connection by a FIN after this time.
    HangUp(Duration),
    /// Ends its own direction after this time, and goes on reading.
    HalfClose(Duration),
}

/// As fast as the tick and the server allow.
fn pour(unit: &[u8]) -> Then {
    Then::Send(unit.repeat(POUR / unit.len()), TICK)
}

/// One of the connections of an attack.
struct Place {
    stream: Option<TcpStream>,
    /// What has to be sent now, from `sent` on.
    bytes: Vec<u8>,
    sent: usize,
    /// When it next does something: connects, sends, gives up.
    due: Instant,
    answered: bool,
}

impl Place {
    fn end(&mut self, pause: Duration) {
        self.stream = None;
        self.bytes.clear();
        self.due = Instant::now() + pause;
    }

    /// Sorts out what an error of the stream means. A refusal shows only here, as connecting does not wait for it.
    fn failed(&mut self, error: &io::Error, pattern: &Pattern, report: &mut AttackReport) {
        match error.kind() {
            // A connection that is still being made takes nothing yet.
            ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected => return,
            ErrorKind::ConnectionRefused => report.failed += 1,
            _ => report.closed_by_server += 1,
        }
        self.end(pattern.pause);
    }
}

fn swarm(pattern: &Pattern, target: SocketAddr, from: &[Ipv4Addr], until: Instant) -> AttackReport {
    allow_descriptors(pattern.connections as u64 + 500);
    let mut report = AttackReport { name: pattern.name, ..AttackReport::default() };
    let now = Instant::now();
    let empty = |_| Place { stream: None, bytes: Vec::new(), sent: 0, due: now, answered: false };
    let mut places: Vec<Place> = (0..pattern.connections).map(empty).collect();
    let mut number = 0;
    loop {
        let now = Instant::now();
        if now >= until {
            return report;
        }
        connect_some(pattern, target, from, &mut places, &mut number, &mut report);
        write_some(pattern, &mut places, &mut report);
        read_some(pattern, &mut places, &mut report);
        let open = places.iter().filter(|place| place.stream.is_some()).count() as u64;
        report.most_open = report.most_open.max(open);
        std::thread::sleep(TICK.min(until.saturating_duration_since(now)));
    }
}

fn connect_some(
    pattern: &Pattern,
    target: SocketAddr,
    from: &[Ipv4Addr],
    places: &mut [Place],
    number: &mut usize,
    report: &mut AttackReport,
) {
    let now = Instant::now();
    let free = places.iter_mut().filter(|place| place.stream.is_none() && place.due <= now);
    for place in free.take(NEW_IN_A_TICK) {
        let source = from.get(*number % from.len().max(1)).copied();
        match begin_connection(target, source, pattern.receive_buffer) {
            Ok(stream) => {
                report.opened += 1;
                place.stream = Some(stream);
                place.bytes = (pattern.opening)(*number);
                place.sent = 0;
                place.answered = false;
                place.due = match pattern.then {
                    Then::Listen => now + PATIENCE,
                    Then::HangUp(after) | Then::HalfClose(after) => now + after,
                    _ => now,
                };
            }
            Err(_) => {
                report.failed += 1;
                place.end(pattern.pause);
            }
        }
        *number += 1;
    }
}

/// A connection that need not be there yet. It is closed by a reset, so that its port can be used again at once.
fn begin_connection(
    target: SocketAddr,
    from: Option<Ipv4Addr>,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let (Some(from), true) = (from, target.is_ipv4()) {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
    }
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

fn write_some(pattern: &Pattern, places: &mut [Place], report: &mut AttackReport) {
    let now = Instant::now();
    for place in places {
        let Some(stream) = &mut place.stream else { continue };
        if place.sent == place.bytes.len() && place.due <= now {
            match &pattern.then {
                Then::Stay => {}
                Then::Send(bytes, pause) => {
                    place.bytes.clone_from(bytes);
                    place.sent = 0;
                    place.due = now + *pause;
                }
                Then::Listen | Then::Reset => {
                    place.end(pattern.pause);
                    continue;
                }
                Then::HangUp(_) => {
                    // Without this the close is a reset; it fails only if the connection is gone.
                    let _ = SockRef::from(&*stream).set_linger(None);
                    place.end(pattern.pause);
                    continue;
                }
                Then::HalfClose(_) => {
                    // It fails only if the connection is gone, which the next read notices.
                    let _ = stream.shutdown(Shutdown::Write);
                }
            }
        }
        if place.sent == place.bytes.len() {
            continue;
        }
        match stream.write(&place.bytes[place.sent..]) {
            Ok(written) => {
                place.sent += written;
                report.bytes_sent += written as u64;
            }
            Err(error) => place.failed(&error, pattern, report),
        }
    }
}

fn read_some(pattern: &Pattern, places: &mut [Place], report: &mut AttackReport) {
    let interest = if pattern.reads { PollFlags::IN } else { PollFlags::RDHUP };
    let mut open: Vec<&mut Place> =
        places.iter_mut().filter(|place| place.stream.is_some()).collect();
    let ready: Vec<bool> = {
        let streams = open.iter().filter_map(|place| place.stream.as_ref());
        let mut polled: Vec<PollFd<'_>> =
            streams.map(|stream| PollFd::new(stream, interest)).collect();
        // A failure leaves nothing ready, and the next tick asks again.
        let _ = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.iter().map(|fd| !fd.revents().is_empty()).collect()
    };
    let mut buffer = [0; 16 * 1024];
    for (place, _) in open.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
        let read = match &mut place.stream {
            Some(stream) if pattern.reads => stream.read(&mut buffer),
            _ => Ok(0),
        };
        match read {
            Ok(read) if read > 0 => {
                report.bytes_read += read as u64;
                report.answers += u64::from(!place.answered);
                place.answered = true;
            }
            Ok(_) => {
                report.closed_by_server += 1;
                place.end(pattern.pause);
            }
            Err(error) => place.failed(&error, pattern, report),
        }
    }
}

/// Raises this process's own limit where it is too low; where it cannot be raised, connections fail and are counted.
fn allow_descriptors(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = limit.maximum.map_or(needed, |most| most.min(needed));
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum });
    }
}

/// What an honest client met.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// The time each answered request took, from connecting to the last byte, in their order.
    pub taken: Vec<Duration>,
    /// Why the others were not answered.
    pub failures: Vec<String>,
    pub statuses: BTreeMap<u16, usize>,
}

impl Latencies {
    /// How many were answered.
    pub fn n(&self) -> usize {
        self.taken.len()
    }

    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    pub fn max(&self) -> Duration {
        self.quantile(1.0)
    }

    /// The smallest that is not exceeded by this share of them; zero if there is none.
    fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.taken.clone();
        sorted.sort();
        let place = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(place.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, median, p99, max) = (self.n(), self.median(), self.p99(), self.max());
        write!(f, "{n} answered {:?}, median {median:?}, p99 {p99:?}, max {max:?}", self.statuses)?;
        if let Some(first) = self.failures.first() {
            write!(f, "; {} not answered, first: {first}", self.failures.len())?;
        }
        Ok(())
    }
}

/// Asks `GET` on a new connection each time until then, and never gives up within 10 s. Without a path it asks the lock
/// whether a slot is free. No answer, or a 5xx, is a failure.
pub fn honest(
    target: SocketAddr,
    from: Option<IpAddr>,
    path: &str,
    every: Duration,
    until: Instant,
) -> Latencies {
    let request = Request::get(if path.is_empty() { "/?duration=0" } else { path });
    let request = match from {
        Some(from) => request.from(from),
        None => request,
    };
    let mut latencies = Latencies::default();
    let mut due = Instant::now();
    while Instant::now() < until {
        let start = Instant::now();
        let failure = match request.send(target, Duration::from_secs(10)) {
            Ok(reply) => {
                *latencies.statuses.entry(reply.status).or_default() += 1;
                (reply.status >= 500).then(|| format!("status {}", reply.status))
            }
            Err(error) => Some(format!("{error} after {:?}", start.elapsed())),
        };
        match failure {
            None => latencies.taken.push(start.elapsed()),
            Some(why) => latencies.failures.push(why),
        }
        // After a slow answer it goes on at its pace and does not make up for what was missed.
        due = (due + every).max(Instant::now());
        std::thread::sleep(due.min(until).saturating_duration_since(Instant::now()));
    }
    latencies
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::scripted::{Behaviour, Server};

    /// Takes every connection, reads all that comes in one thread, answers nothing; counts bytes.
    struct Sink {
        address: SocketAddr,
        read: Arc<AtomicU64>,
        stop: Arc<AtomicBool>,
    }

    fn sink() -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let sink = Sink {
            address: listener.local_addr().unwrap(),
            read: Arc::default(),
            stop: Arc::default(),
        };
        let (read, stop) = (Arc::clone(&sink.read), Arc::clone(&sink.stop));
        std::thread::spawn(move || {
            let (mut streams, mut buffer) = (Vec::new(), [0; 64 * 1024]);
            while !stop.load(Ordering::SeqCst) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    streams.push(stream);
                }
                streams.retain_mut(|stream| match stream.read(&mut buffer) {
                    Ok(n) => {
                        read.fetch_add(n as u64, Ordering::SeqCst);
                        n > 0
                    }
                    Err(error) => error.kind() == ErrorKind::WouldBlock,
                });
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        sink
    }

    impl Drop for Sink {
        fn drop(&mut self) {
            self.stop.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn each_attack_reaches_its_target_and_ends_in_time() {
        for (name, attack) in ATTACKS {
            let sink = sink();
            let until = Instant::now() + Duration::from_millis(1200);
            let report = attack(sink.address, addresses(2), until);
            let late = Instant::now().saturating_duration_since(until);
            println!("{report}, {late:?} late");
            assert_eq!(report.name, *name);
            assert!(late < crate::CEILING / 4, "{name}: {late:?}");
            assert!(report.opened >= 8, "{report}");
            assert_eq!(report.failed, 0, "{report}");
            let silent = ["idle connections", "connect and reset"].contains(name);
            assert_eq!(report.bytes_sent == 0, silent, "{report}");
            assert_eq!(sink.read.load(Ordering::SeqCst) == 0, silent, "{report}");
        }
    }

    #[test]
    fn the_slow_ones_go_on_and_the_idle_ones_are_many() {
        let sink = sink();
        let until = Instant::now() + Duration::from_millis(2500);
        let report = idle_connections(sink.address, addresses(8), until);
        assert_eq!(report.most_open, 2000, "{report}");
        let until = Instant::now() + Duration::from_millis(2200);
        let report = slow_trickle(sink.address, Vec::new(), until);
        assert_eq!(report.most_open, 500, "{report}");
        assert!(report.bytes_sent > 500 * 33, "{report}");
    }

    #[test]
    fn those_that_are_cut_off_or_refused_come_again() {
        let server = Server::start(Behaviour::CloseAtOnce);
        let until = Instant::now() + Duration::from_secs(1);
        let report = endless_header_line(server.addr(), addresses(1), until);
        assert!(report.closed_by_server > 8, "{report}");
        server.set(Behaviour::Refuse);
        let until = Instant::now() + Duration::from_millis(500);
        let report = mix(server.addr(), addresses(1), until);
        assert!(report.failed > 64 && report.most_open == 0, "{report}");
    }

    #[test]
    fn pipelined_answers_stay_unread() {
        let server = Server::start(Behaviour::ok("hello"));
        let until = Instant::now() + Duration::from_millis(500);
        let report = pipelining(server.addr(), addresses(1), until);
        assert!(report.bytes_read == 0 && report.closed_by_server > 0, "{report}");
    }

    #[test]
    fn the_honest_client_counts_what_it_meets() {
        let pause = Duration::from_millis(20);
        let server = Server::start(Behaviour::Sequence(vec![
            Behaviour::ok("a"),
            Behaviour::status(423, "b"),
            Behaviour::CloseAtOnce,
            Behaviour::After(Duration::from_millis(300), Box::new(Behaviour::ok("slow"))),
            Behaviour::status(503, "c"),
            Behaviour::ok("a"),
        ]));
        let until = Instant::now() + Duration::from_secs(2);
        let met = honest(server.addr(), Some([127, 0, 0, 9].into()), "", pause, until);
        assert!(met.n() > 3 && met.n() < 100, "{met}");
        assert_eq!(met.failures.len(), 2, "{met}");
        assert_eq!((met.statuses[&423], met.statuses[&503]), (1, 1), "{met}");
        assert!(met.max() >= Duration::from_millis(300) && met.median() < met.max(), "{met}");
        let seen = server.requests();
        assert_eq!(
            (seen[0].target.as_str(), seen[0].from.ip().to_string().as_str()),
            ("/?duration=0", "127.0.0.9")
        );
    }

    #[test]
    fn quantiles() {
        let taken: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let latencies = Latencies { taken, ..Latencies::default() };
        let found = (latencies.median(), latencies.p99(), latencies.max());
        let expected = [100, 198, 200].map(Duration::from_millis);
        assert_eq!(found, expected.into());
        assert_eq!(Latencies::default().p99(), Duration::ZERO);
    }
}
