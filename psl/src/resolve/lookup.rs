//! The look-up of one name at the name servers, on its caller's thread: sockets, the wait, the search list.
//!
//! A look-up may end unfinished when its caller's time is up, and goes on when the caller asks again. The
//! sockets stay open, so that the answer of a server slower than one attempt counts.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::conf::Conf;
use super::exchange::{Exchange, Kind, Missing, Outcome};
use super::message::{Family, Query, Trouble};
use super::search::Search;
use super::tcp;
use crate::random;

/// Without EDNS an answer over UDP has 512 bytes; some servers send more all the same. An answer that
/// fills this buffer may be longer, and comes again over TCP.
const LARGEST_DATAGRAM: usize = 4096;

/// A look-up under way.
#[derive(Debug)]
pub struct Lookup {
    /// The file's content at the start; a change ends the look-up.
    pub conf: Conf,
    /// In the order in which they are asked.
    rotated: Conf,
    search: Search,
    current: Option<Current>,
    /// The reason that weighs most so far, and how many names were asked.
    worst: Option<Missing>,
    asked: usize,
}

/// One name's queries and the sockets of its servers.
#[derive(Debug)]
struct Current {
    exchange: Exchange,
    sockets: Vec<Option<UdpSocket>>,
}

/// How far a look-up has come.
#[derive(Debug)]
pub enum Progress {
    Found(Vec<IpAddr>),
    /// The reason, and whether all servers were silent.
    Missing(String, bool),
    /// The time is up; the reason so far.
    Unfinished(String),
}

#[expect(clippy::disallowed_methods, reason = "the edge that waits for the name server")]
impl Lookup {
    pub fn new(name: &str, conf: Conf) -> Lookup {
        let mut rotated = conf.clone();
        if conf.rotate {
            let count = rotated.servers.len();
            rotated.servers.rotate_left((random::fraction() * count as f64) as usize);
        }
        Lookup {
            search: Search::new(name, &conf),
            conf,
            rotated,
            current: None,
            worst: None,
            asked: 0,
        }
    }

    /// Goes on until there is a result, or until `patience` has passed since `start`.
    pub fn run(&mut self, start: Instant, patience: Duration) -> Progress {
        let until = start.checked_add(patience);
        loop {
            let Some(current) = self.current.as_mut() else {
                if !self.begin(patience.saturating_sub(start.elapsed())) {
                    return self.ended();
                }
                continue;
            };
            current.receive(&self.rotated, until);
            let now = Instant::now();
            if let Some(outcome) = current.exchange.outcome(now) {
                match outcome {
                    Outcome::Found(addresses) => return Progress::Found(addresses),
                    Outcome::Missing(missing) => self.leave(missing),
                }
            } else if until.is_some_and(|until| now >= until) {
                let missing = current.exchange.missing(patience);
                return Progress::Unfinished(self.words(&missing));
            } else if !current.send(&self.rotated, now, until) {
                current.wait(now, until);
            }
        }
    }

    /// Begins with the next name; `false` if none is left.
    fn begin(&mut self, patience: Duration) -> bool {
        let bits = random::bits();
        // Two different identifiers, so that an answer without its question belongs to one query.
        let first = bits as u16;
        let ids = (first, if first == (bits >> 16) as u16 { !first } else { (bits >> 16) as u16 });
        while let Some(name) = self.search.next(&self.rotated) {
            if let Some(exchange) =
                Exchange::new(&name, &self.rotated, patience, ids, Instant::now())
            {
                let sockets = self.rotated.servers.iter().map(|_| None).collect();
                self.current = Some(Current { exchange, sockets });
                self.asked += 1;
                return true;
            }
        }
        false
    }

    /// The name has no address: decides which names come next.
    fn leave(&mut self, missing: Missing) {
        self.current = None;
        match missing.kind {
            Kind::NotThere | Kind::HalfNotThere | Kind::ServerFailure => {}
            Kind::NoAddress => self.search.end(),
            Kind::Refusal | Kind::Silence => self.search.leave_domains(),
        }
        if self.worst.as_ref().is_none_or(|worst| worst.kind < missing.kind) {
            self.worst = Some(missing);
        }
    }

    fn ended(&self) -> Progress {
        match &self.worst {
            Some(worst) => Progress::Missing(self.words(worst), worst.kind == Kind::Silence),
            None => Progress::Missing("not a valid DNS name".to_owned(), false),
        }
    }

    fn words(&self, missing: &Missing) -> String {
        let others = match self.asked {
            0 | 1 => String::new(),
            2 => "; 1 other name tried".to_owned(),
            asked => format!("; {} other names tried", asked - 1),
        };
        let conf = if self.conf.is_default { "; no nameserver in /etc/resolv.conf" } else { "" };
        let name = if self.search.is_whole(&missing.name) {
            String::new()
        } else {
            format!(" for {}", missing.name)
        };
        format!("{}{name}{others}{conf}", missing.words)
    }
}

impl Current {
    /// Asks the server that is due; `false` if none is.
    fn send(&mut self, conf: &Conf, now: Instant, until: Option<Instant>) -> bool {
        let Some(at) = self.exchange.due(now) else { return false };
        if conf.use_tcp {
            let families: Vec<_> = self.exchange.owed_by(at).map(|query| query.family).collect();
            families.into_iter().for_each(|family| self.ask_over_tcp(conf, at, family, until));
        } else if let Err(error) = self.send_to(conf.servers[at], at) {
            self.exchange.fail(at, None, unreachable(&error));
        }
        true
    }

    fn send_to(&mut self, server: SocketAddr, at: usize) -> io::Result<()> {
        let socket = match &mut self.sockets[at] {
            Some(socket) => socket,
            none => none.insert(connected(server)?),
        };
        for bytes in self.exchange.owed_by(at).filter_map(Query::bytes) {
            match socket.send(&bytes) {
                // Of an earlier query; the message itself was not sent.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Err(error),
                // The kernel's buffer is full: the same as a lost message.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                sent => drop(sent?),
            }
        }
        Ok(())
    }

    /// Takes all messages that have come.
    #[expect(clippy::disallowed_methods, reason = "the edge that notes when an answer came")]
    fn receive(&mut self, conf: &Conf, until: Option<Instant>) {
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        for at in 0..self.sockets.len() {
            // Twice the number of answers that a server may owe: messages of strangers cannot block the loop.
            for _ in 0..4 {
                let Some(socket) = &self.sockets[at] else { break };
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        let is_cut = length == LARGEST_DATAGRAM;
                        if is_cut {
                            // The bit TC of the head.
                            buffer[2] |= 2;
                        }
                        if let Some(family) =
                            self.exchange.take(at, &buffer[..length], Instant::now())
                        {
                            self.ask_over_tcp(conf, at, family, until);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => self.exchange.fail(at, None, unreachable(&error)),
                }
            }
        }
    }

    /// Blocks while it asks; the other servers' answers wait in their sockets.
    #[expect(clippy::disallowed_methods, reason = "the edge that bounds the time of one query")]
    fn ask_over_tcp(&mut self, conf: &Conf, at: usize, family: Family, until: Option<Instant>) {
        let Some(bytes) =
            self.exchange.owed_by(at).find(|query| query.family == family).and_then(Query::bytes)
        else {
            return;
        };
        let last = Instant::now() + conf.timeout;
        let until = until.map_or(last, |until| until.min(last));
        let trouble = match tcp::ask(conf.servers[at], &bytes, until) {
            // An answer that is truncated over TCP as well, or answers another question, is useless.
            Ok(answer) => {
                let _ = self.exchange.take(at, &answer, Instant::now());
                Trouble::Malformed
            }
            Err(error) => Trouble::Unreachable(format!("over TCP: {}", words(&error))),
        };
        if self.exchange.owed_by(at).any(|query| query.family == family) {
            self.exchange.fail(at, Some(family), trouble);
        }
    }

    /// Waits for a message, for the next step of the exchange, or for the end of the time.
    fn wait(&self, now: Instant, until: Option<Instant>) {
        let wake_at = self.exchange.wake_at();
        let left = until.map_or(wake_at, |until| until.min(wake_at)).saturating_duration_since(now);
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut sockets: Vec<_> =
            self.sockets.iter().flatten().map(|s| PollFd::new(s, PollFlags::IN)).collect();
        // A wait that fails, as one that a signal ends, is followed by the next look at the clock.
        let _ = poll(&mut sockets, Some(&timeout));
    }
}

/// On a port that the kernel draws; it takes messages from this server alone.
fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn unreachable(error: &io::Error) -> Trouble {
    Trouble::Unreachable(words(error))
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "time is up".to_owned(),
        ErrorKind::UnexpectedEof => "connection closed before the whole answer".to_owned(),
        _ => error.to_string(),
    }
}
