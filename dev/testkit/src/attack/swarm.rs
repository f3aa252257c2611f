//! Many connections of one pattern at the same time, without blocking.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::AttackReport;

const TICK: Duration = Duration::from_millis(10);
/// Between the end of a client's connection and its next one.
const PAUSE: Duration = Duration::from_millis(50);
/// New connections in one tick. More than 2,000 a second would measure this machine's kernel.
pub(super) const NEW_IN_A_TICK: usize = 20;
/// The bytes that one connection sends in one tick.
const POUR: usize = 16 * 1024;
/// The time that a client waits for an answer to odd bytes.
const PATIENCE: Duration = Duration::from_millis(500);

/// The connections of an attack.
pub(super) struct Pattern {
    pub(super) name: &'static str,
    /// The number of connections at the same time.
    pub(super) connections: usize,
    /// The first bytes of the connection of this number.
    pub(super) opening: Box<dyn Fn(usize) -> Vec<u8>>,
    pub(super) then: Then,
    pub(super) reads: bool,
    /// The kernel's buffer for received bytes; the system's choice if `None`.
    pub(super) receive_buffer: Option<usize>,
    pub(super) pause: Duration,
}

impl Pattern {
    pub(super) fn new(name: &'static str, opening: impl Fn(usize) -> Vec<u8> + 'static) -> Pattern {
        Pattern {
            name,
            connections: 8,
            opening: Box::new(opening),
            then: Then::Stay,
            reads: true,
            receive_buffer: None,
            pause: PAUSE,
        }
    }

    /// Each connection begins with this text.
    pub(super) fn sending(name: &'static str, opening: &'static str) -> Pattern {
        Pattern::new(name, |_| opening.as_bytes().to_vec())
    }
}

/// The behaviour of a connection after its opening.
pub(super) enum Then {
    Stay,
    /// Sends these bytes again and again, with this pause.
    Send(Vec<u8>, Duration),
    /// Waits for an answer for [`PATIENCE`], then ends.
    Listen,
    Reset,
    /// Ends the connection by a FIN after this time.
    HangUp(Duration),
    /// Ends its own direction after this time, and goes on reading.
    HalfClose(Duration),
}

/// Sends as fast as the tick and the server allow.
pub(super) fn pour(unit: &[u8]) -> Then {
    Then::Send(unit.repeat(POUR / unit.len()), TICK)
}

/// One connection after the other.
struct Client {
    stream: Option<TcpStream>,
    /// The bytes to send now, from `sent` on.
    bytes: Vec<u8>,
    sent: usize,
    /// The time of its next action: to connect, to send, to give up.
    due: Instant,
    answered: bool,
}

impl Client {
    fn end(&mut self, pause: Duration) {
        self.stream = None;
        self.bytes.clear();
        self.due = Instant::now() + pause;
    }

    fn fail(&mut self, error: &io::Error, pause: Duration, report: &mut AttackReport) {
        match error.kind() {
            // A connection that is not yet open takes no bytes.
            ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected => return,
            // Connecting does not wait for a refusal, which shows only here.
            ErrorKind::ConnectionRefused => report.failed += 1,
            _ => report.closed_by_server += 1,
        }
        self.end(pause);
    }

    /// Takes the next step after all bytes are sent.
    fn proceed(&mut self, pattern: &Pattern, now: Instant) {
        let Some(stream) = &self.stream else { return };
        match &pattern.then {
            Then::Stay => {}
            Then::Send(bytes, pause) => {
                self.bytes.clone_from(bytes);
                self.sent = 0;
                self.due = now + *pause;
            }
            Then::Listen | Then::Reset => self.end(pattern.pause),
            Then::HangUp(_) => {
                // Without this the close is a reset; it fails only if the connection is closed.
                let _ = SockRef::from(stream).set_linger(None);
                self.end(pattern.pause);
            }
            Then::HalfClose(_) => {
                // It fails only if the connection is closed, which the next read notices.
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
    }
}

struct Swarm {
    pattern: Pattern,
    target: SocketAddr,
    from: Vec<Ipv4Addr>,
    clients: Vec<Client>,
    /// The number of the next connection.
    number: usize,
    report: AttackReport,
}

pub(super) fn swarm(
    pattern: Pattern,
    target: SocketAddr,
    from: Vec<Ipv4Addr>,
    until: Instant,
) -> AttackReport {
    allow_descriptors(pattern.connections as u64 + 500);
    let due = Instant::now();
    let client = |_| Client { stream: None, bytes: Vec::new(), sent: 0, due, answered: false };
    let clients: Vec<Client> = (0..pattern.connections).map(client).collect();
    let report = AttackReport { name: pattern.name, ..AttackReport::default() };
    let mut swarm = Swarm { pattern, target, from, clients, number: 0, report };
    loop {
        let now = Instant::now();
        if now >= until {
            return swarm.report;
        }
        swarm.connect();
        swarm.write();
        swarm.read();
        let open = swarm.clients.iter().filter(|client| client.stream.is_some()).count() as u64;
        swarm.report.most_open = swarm.report.most_open.max(open);
        std::thread::sleep(TICK.min(until.saturating_duration_since(now)));
    }
}

impl Swarm {
    fn connect(&mut self) {
        let now = Instant::now();
        let clients = self.clients.iter_mut();
        let free = clients.filter(|client| client.stream.is_none() && client.due <= now);
        for client in free.take(NEW_IN_A_TICK) {
            let source = self.from.get(self.number % self.from.len().max(1)).copied();
            match begin_connection(self.target, source, self.pattern.receive_buffer) {
                Ok(stream) => {
                    self.report.opened += 1;
                    let due = match self.pattern.then {
                        Then::Listen => now + PATIENCE,
                        Then::HangUp(after) | Then::HalfClose(after) => now + after,
                        _ => now,
                    };
                    let bytes = (self.pattern.opening)(self.number);
                    let stream = Some(stream);
                    *client = Client { stream, bytes, sent: 0, due, answered: false };
                }
                Err(_) => {
                    self.report.failed += 1;
                    client.end(self.pattern.pause);
                }
            }
            self.number += 1;
        }
    }

    fn write(&mut self) {
        let now = Instant::now();
        for client in &mut self.clients {
            if client.sent == client.bytes.len() && client.due <= now {
                client.proceed(&self.pattern, now);
            }
            let Some(stream) = &mut client.stream else { continue };
            if client.sent == client.bytes.len() {
                continue;
            }
            match stream.write(&client.bytes[client.sent..]) {
                Ok(written) => {
                    client.sent += written;
                    self.report.bytes_sent += written as u64;
                }
                Err(error) => client.fail(&error, self.pattern.pause, &mut self.report),
            }
        }
    }

    fn read(&mut self) {
        let reads = self.pattern.reads;
        let interest = if reads { PollFlags::IN } else { PollFlags::RDHUP };
        let mut open: Vec<&mut Client> =
            self.clients.iter_mut().filter(|client| client.stream.is_some()).collect();
        let ready: Vec<bool> = {
            let streams = open.iter().filter_map(|client| client.stream.as_ref());
            let mut polled: Vec<_> = streams.map(|stream| PollFd::new(stream, interest)).collect();
            // After a failure no connection is ready, and the next tick tries again.
            let _ = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
            polled.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        let mut buffer = [0; 16 * 1024];
        for (client, _) in open.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            let read = match &mut client.stream {
                Some(stream) if reads => stream.read(&mut buffer),
                _ => Ok(0),
            };
            match read {
                Ok(read) if read > 0 => {
                    self.report.bytes_read += read as u64;
                    self.report.answers += u64::from(!client.answered);
                    client.answered = true;
                }
                Ok(_) => {
                    self.report.closed_by_server += 1;
                    client.end(self.pattern.pause);
                }
                Err(error) => client.fail(&error, self.pattern.pause, &mut self.report),
            }
        }
    }
}

/// Begins a connection. A reset closes it, so that its port can be used again at once.
pub(super) fn begin_connection(
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

/// Raises this process's limit if it is too low. If it cannot be raised, connections fail and are
/// counted.
pub(super) fn allow_descriptors(needed: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < needed) {
        let raised = maximum.map_or(needed, |most| most.min(needed));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    }
}
