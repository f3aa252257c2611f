//! The lookup of one name at the name servers, on the caller's thread: sockets, waiting, search
//! list.
//!
//! If the timeout ends a lookup, it continues when the caller asks again. Its sockets stay open, so
//! the answer of a server that is slower than one attempt counts.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::conf::ResolvConf;
use super::exchange::{Exchange, FailureKind, LookupFailure, LookupResult};
use super::message::{Family, Query, ServerError};
use super::search::Search;
use super::tcp;
use crate::random;

/// Without EDNS an answer over UDP has at most 512 bytes, but some servers send more. An answer
/// that fills this buffer may be longer, and is requested again over TCP.
const LARGEST_DATAGRAM: usize = 4096;

#[derive(Debug)]
pub struct NameLookup {
    /// The content of the file at the start; a change of the file ends the lookup.
    pub conf: ResolvConf,
    /// The same, with the servers in the order of their queries.
    rotated: ResolvConf,
    search: Search,
    current: Option<CurrentName>,
    worst: Option<LookupFailure>,
    queried: usize,
}

/// The queries for one name, and the sockets of its servers.
#[derive(Debug)]
struct CurrentName {
    exchange: Exchange,
    sockets: Vec<Option<UdpSocket>>,
}

#[derive(Debug)]
pub enum Progress {
    Found(Vec<IpAddr>),
    /// `is_silent`: no server has answered.
    Failed {
        reason: String,
        is_silent: bool,
    },
    /// The timeout has ended; the reason so far.
    Unfinished(String),
}

#[expect(clippy::disallowed_methods, reason = "the edge that waits for the name server")]
impl NameLookup {
    pub fn new(name: &str, conf: ResolvConf) -> NameLookup {
        let mut rotated = conf.clone();
        if conf.rotate {
            let count = rotated.servers.len();
            rotated.servers.rotate_left((random::fraction() * count as f64) as usize);
        }
        let search = Search::new(name, &conf);
        NameLookup { search, conf, rotated, current: None, worst: None, queried: 0 }
    }

    /// Continues until the result, or until `timeout` after `start`.
    pub fn run(&mut self, start: Instant, timeout: Duration) -> Progress {
        let until = start.checked_add(timeout);
        loop {
            let Some(current) = self.current.as_mut() else {
                if !self.begin_next(timeout.saturating_sub(start.elapsed())) {
                    return self.failed();
                }
                continue;
            };
            current.receive(&self.rotated, until);
            let now = Instant::now();
            if let Some(result) = current.exchange.result(now) {
                match result {
                    LookupResult::Found(addresses) => return Progress::Found(addresses),
                    LookupResult::Failed(failure) => self.end_name(failure),
                }
            } else if until.is_some_and(|until| now >= until) {
                let failure = current.exchange.failure(timeout);
                return Progress::Unfinished(self.describe(&failure));
            } else if !current.send(&self.rotated, now, until) {
                current.wait(now, until);
            }
        }
    }

    /// Begins with the next name; `false` if no name is left.
    fn begin_next(&mut self, timeout: Duration) -> bool {
        let bits = random::bits();
        // Two identifiers that differ: so an answer without its question belongs to one query.
        let (first, second) = (bits as u16, (bits >> 16) as u16);
        let ids = (first, if first == second { !first } else { second });
        while let Some(name) = self.search.next(&self.rotated) {
            let exchange = Exchange::new(&name, &self.rotated, timeout, ids, Instant::now());
            if let Some(exchange) = exchange {
                let sockets = self.rotated.servers.iter().map(|_| None).collect();
                self.current = Some(CurrentName { exchange, sockets });
                self.queried += 1;
                return true;
            }
        }
        false
    }

    /// The current name has no address: decides which names follow.
    fn end_name(&mut self, failure: LookupFailure) {
        self.current = None;
        match failure.kind {
            FailureKind::NotFound | FailureKind::PartlyNotFound | FailureKind::ServerFailure => {}
            FailureKind::NoAddress => self.search.end(),
            FailureKind::Refused | FailureKind::Silent => self.search.leave_domains(),
        }
        if self.worst.as_ref().is_none_or(|worst| worst.kind < failure.kind) {
            self.worst = Some(failure);
        }
    }

    fn failed(&self) -> Progress {
        let Some(worst) = &self.worst else {
            let reason = "not a valid DNS name".to_owned();
            return Progress::Failed { reason, is_silent: false };
        };
        let is_silent = worst.kind == FailureKind::Silent;
        Progress::Failed { reason: self.describe(worst), is_silent }
    }

    fn describe(&self, failure: &LookupFailure) -> String {
        let mut text = failure.reason.clone();
        if !self.search.is_whole(&failure.name) {
            text += &format!(" for {}", failure.name);
        }
        match self.queried {
            0 | 1 => {}
            2 => text += "; 1 other name tried",
            queried => text += &format!("; {} other names tried", queried - 1),
        }
        if self.conf.is_default {
            text += "; no nameserver in /etc/resolv.conf";
        }
        text
    }
}

impl CurrentName {
    /// `false` if no query is due.
    fn send(&mut self, conf: &ResolvConf, now: Instant, until: Option<Instant>) -> bool {
        let Some(at) = self.exchange.next_server(now) else { return false };
        if conf.use_tcp {
            let families: Vec<_> = self.exchange.pending_at(at).map(|query| query.family).collect();
            families.into_iter().for_each(|family| self.query_over_tcp(conf, at, family, until));
        } else if let Err(error) = self.send_to(conf.servers[at], at) {
            self.exchange.fail(at, None, ServerError::Unreachable(describe(&error)));
        }
        true
    }

    fn send_to(&mut self, server: SocketAddr, at: usize) -> io::Result<()> {
        let socket = match &mut self.sockets[at] {
            Some(socket) => socket,
            none => none.insert(connected(server)?),
        };
        for bytes in self.exchange.pending_at(at).filter_map(Query::bytes) {
            match socket.send(&bytes) {
                // The kernel's buffer is full: the message is lost, as on the network.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // "Connection refused" concerns an earlier query; this message was not sent.
                sent => drop(sent?),
            }
        }
        Ok(())
    }

    /// Reads all messages that have arrived.
    #[expect(clippy::disallowed_methods, reason = "the edge that notes the arrival of an answer")]
    fn receive(&mut self, conf: &ResolvConf, until: Option<Instant>) {
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        for at in 0..self.sockets.len() {
            // Twice the number of possible answers: foreign messages cannot block the loop.
            for _ in 0..4 {
                let Some(socket) = &self.sockets[at] else { break };
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        if length == LARGEST_DATAGRAM {
                            // The bit TC of the header.
                            buffer[2] |= 2;
                        }
                        let message = &buffer[..length];
                        if let Some(family) = self.exchange.receive(at, message, Instant::now()) {
                            self.query_over_tcp(conf, at, family, until);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => {
                        let error = ServerError::Unreachable(describe(&error));
                        self.exchange.fail(at, None, error);
                    }
                }
            }
        }
    }

    /// Blocks during the query; the answers of other servers wait in their sockets.
    #[expect(clippy::disallowed_methods, reason = "the edge that bounds the time of one query")]
    fn query_over_tcp(
        &mut self,
        conf: &ResolvConf,
        at: usize,
        family: Family,
        until: Option<Instant>,
    ) {
        let query = self.exchange.pending_at(at).find(|query| query.family == family);
        let Some(bytes) = query.and_then(Query::bytes) else { return };
        let last = Instant::now() + conf.timeout;
        let until = until.map_or(last, |until| until.min(last));
        let error = match tcp::query(conf.servers[at], &bytes, until) {
            Ok(answer) => {
                let _ = self.exchange.receive(at, &answer, Instant::now());
                // Over TCP a truncated answer, or one to another question, is useless.
                ServerError::Malformed
            }
            Err(error) => ServerError::Unreachable(format!("over TCP: {}", describe(&error))),
        };
        if self.exchange.pending_at(at).any(|query| query.family == family) {
            self.exchange.fail(at, Some(family), error);
        }
    }

    /// Waits for a message, for the next step of the exchange, or for the timeout.
    fn wait(&self, now: Instant, until: Option<Instant>) {
        let poll_at = self.exchange.poll_at();
        let left = until.map_or(poll_at, |until| until.min(poll_at)).saturating_duration_since(now);
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut sockets: Vec<_> =
            self.sockets.iter().flatten().map(|s| PollFd::new(s, PollFlags::IN)).collect();
        // After a failed wait, such as an interrupted one, the loop reads the clock again.
        let _ = poll(&mut sockets, Some(&timeout));
    }
}

/// A socket on a random port, which receives messages of this server only.
fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "timed out".to_owned(),
        ErrorKind::UnexpectedEof => "connection closed before the complete answer".to_owned(),
        _ => error.to_string(),
    }
}
