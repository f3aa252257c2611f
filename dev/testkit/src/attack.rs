//! Hostile clients, and an honest one beside them, only for servers on loopback. An attack runs in
//! the calling thread, on non-blocking sockets, in a hundred ticks a second: on two cores, the
//! server sets the pace and not the attack. It does not know the server.

mod swarm;
#[cfg(test)]
mod tests;
pub mod waiters;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::http::Request;
use swarm::{NEW_IN_A_TICK, Pattern, Then, allow_descriptors, begin_connection, pour, swarm};

/// Attacks the target from these addresses (the system's choice if empty) until then.
pub type Attack = fn(SocketAddr, Vec<Ipv4Addr>, Instant) -> AttackReport;

/// The attacks of this module by name.
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

/// The counts of an attack.
#[derive(Clone, Debug, Default)]
pub struct AttackReport {
    pub name: &'static str,
    /// Connections that were begun.
    pub opened: u64,
    /// Connections that were refused or could not be begun.
    pub failed: u64,
    pub closed_by_server: u64,
    /// Connections on which the server sent at least a byte.
    pub answers: u64,
    /// The most connections at one time.
    pub most_open: u64,
    pub bytes_sent: u64,
    pub bytes_read: u64,
}

impl fmt::Display for AttackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttackReport { name, opened, failed, closed_by_server, answers, .. } = self;
        let AttackReport { most_open, bytes_sent, bytes_read, .. } = self;
        write!(
            f,
            "{name}: {opened} connections opened, {failed} failed, \
             {closed_by_server} closed by the server, {answers} answered, {most_open} at once; \
             {bytes_sent} bytes sent, {bytes_read} read"
        )
    }
}

/// As many addresses of loopback.
pub fn addresses(count: u8) -> Vec<Ipv4Addr> {
    (1..=count).map(|last| Ipv4Addr::new(127, 0, 1, last)).collect()
}

/// Defines attacks, each of connections of one pattern.
macro_rules! attacks {
    ($($(#[$doc:meta])* $function:ident: $pattern:expr;)*) => {$(
        $(#[$doc])*
        pub fn $function(target: SocketAddr, from: Vec<Ipv4Addr>, until: Instant) -> AttackReport {
            swarm($pattern, target, from, until)
        }
    )*};
}
use attacks;

attacks! {
    /// 2,000 connections that send no byte.
    idle_connections:
        Pattern { connections: 2000, ..Pattern::new("idle connections", |_| Vec::new()) };

    /// 500 connections that send a byte of a header each half second, and come again when they are
    /// closed.
    slow_trickle: Pattern {
        connections: 500,
        then: Then::Send(b"a".to_vec(), Duration::from_millis(500)),
        ..Pattern::sending("slow trickle", "GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
    };

    endless_header_line: Pattern {
        then: pour(b"a"),
        ..Pattern::sending("endless header line", "GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
    };

    endless_request_line:
        Pattern { then: pour(b"a"), ..Pattern::sending("endless request line", "GET /") };

    endless_headers: Pattern {
        then: pour(b"X-Aa: b\r\n"),
        ..Pattern::sending("endless headers", "GET / HTTP/1.1\r\nHost: a\r\n")
    };

    /// A body announced as 99,999,999,999 bytes, and begun.
    huge_body: Pattern {
        then: pour(b"a"),
        ..Pattern::sending(
            "huge body",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
        )
    };

    /// The bytes of scanners, other protocols and broken clients, in turn.
    mix: Pattern { connections: 64, then: Then::Listen, ..Pattern::new("mix", oddity) };

    /// Connections that are reset as soon as they are open.
    connect_and_reset: Pattern {
        connections: NEW_IN_A_TICK,
        then: Then::Reset,
        pause: Duration::ZERO,
        ..Pattern::new("connect and reset", |_| Vec::new())
    };

    /// Endless requests on each connection, whose answers stay unread.
    pipelining: Pattern {
        connections: 16,
        then: pour(b"GET /?duration=0 HTTP/1.1\r\nHost: a\r\n\r\n"),
        reads: false,
        ..Pattern::new("pipelining", |_| Vec::new())
    };
}

/// The oddities of [`mix`], one for each number.
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

/// The answers that an honest client got.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// From connecting to the last byte, for each answered request in their order.
    pub taken: Vec<Duration>,
    /// The errors of the other requests.
    pub failures: Vec<String>,
    pub statuses: BTreeMap<u16, usize>,
}

impl Latencies {
    /// The number of answered requests.
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

    /// The smallest time that this share of the requests does not exceed; zero without requests.
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

/// Sends a GET on a new connection `every` so often, and waits 10 s for each answer. An empty path
/// asks a lock whether a slot is free. No answer, or a 5xx, is a failure.
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
        // After a slow answer it keeps its pace and does not catch up.
        due = (due + every).max(Instant::now());
        std::thread::sleep(due.min(until).saturating_duration_since(Instant::now()));
    }
    latencies
}
