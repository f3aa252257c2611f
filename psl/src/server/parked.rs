//! Connections whose requests wait for their answer without a thread, and the watch over them.
//!
//! Knows neither the reason of a wait nor how many clients may wait.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, sockopt::set_socket_recv_buffer_size};

use super::response::{Framing, Head, Response, send};

/// Acts in one call of [`Poller::wait`]; the kernel keeps the others for the next one.
const BATCH: usize = 64;

/// One wait is not longer: the kernel counts milliseconds in 31 bits before Linux 5.11.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The key of the wake-up.
const WAKE: u64 = u64::MAX;

/// A connection whose request waits for its answer. Dropping it closes the connection.
#[derive(Debug)]
pub struct ParkedConnection {
    stream: Arc<TcpStream>,
    /// The answer to HEAD has no body (RFC 9110, 9.3.2).
    without_body: bool,
}

impl ParkedConnection {
    pub(super) fn new(stream: Arc<TcpStream>, without_body: bool) -> ParkedConnection {
        // The kernel raises this to its minimum of some 2 KiB. A client has no reason to send anything while it waits.
        let _ = set_socket_recv_buffer_size(&*stream, 0);
        ParkedConnection { stream, without_body }
    }

    /// The client has sent bytes, closed its half or broken the connection.
    pub fn has_acted(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(&*self.stream, &mut byte, flags).map(|_| ()) != Err(Errno::AGAIN)
    }

    /// Writes the whole answer without waiting, and closes this half of the connection. `false` if the client has gone, or
    /// does not take the answer at once.
    #[expect(clippy::disallowed_methods, reason = "the edge that dates answers")]
    pub fn answer(&self, answer: Response) -> bool {
        let mut head = Head::default();
        let framing = Framing { close: true, without_body: self.without_body };
        let mut parts = head.of(&answer, framing, Instant::now()).map(IoSlice::new);
        let is_sent = send(&self.stream, &mut &mut parts[..], SendFlags::DONTWAIT) == Ok(true);
        is_sent && self.stream.shutdown(Shutdown::Write).is_ok()
    }
}

/// An act of the client of a parked connection. Each act is reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientEvent {
    /// The key that the connection was watched with.
    pub key: u64,
    /// The client has broken the connection: it closed before it had read all bytes. If not, the client has sent bytes or
    /// closed its half.
    pub is_broken: bool,
}

/// Watches parked connections for acts of their clients. A connection that is closed is watched no more.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    waker: OwnedFd,
}

impl Poller {
    /// Fails without a free descriptor.
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &waker, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?;
        Ok(Poller { epoll, waker })
    }

    /// Reports the acts of this client from now on by this key, also those before this call. `u64::MAX` is not a key.
    pub fn watch(&self, parked: &ParkedConnection, key: u64) -> io::Result<()> {
        // By edges: a connection that is kept after an act would otherwise be reported without end.
        let acts = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, &*parked.stream, EventData::new_u64(key), acts)?)
    }

    /// Waits for an act, [`Poller::wake`] or the end of the time, a day at most, and appends the acts, at most 64 of them. The
    /// kernel counts in milliseconds: the wait ends less than one of them late.
    pub fn wait(&self, timeout: Option<Duration>, acts: &mut Vec<ClientEvent>) {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout.min(LONGEST)).ok());
        let mut events = Vec::with_capacity(BATCH);
        // An interrupted wait ends early.
        let _: Result<usize, Errno> =
            epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref());
        let of_clients = events.iter().filter(|event| event.data.u64() != WAKE);
        acts.extend(of_clients.map(|event| {
            let flags = event.flags;
            ClientEvent { key: event.data.u64(), is_broken: flags.contains(EventFlags::ERR) }
        }));
    }

    /// Ends the current wait, or else the next one.
    pub fn wake(&self) {
        // Each write is an edge, so the count need not be read. It has room for 2^64 of them.
        let _ = rustix::io::write(&self.waker, &1u64.to_ne_bytes());
    }
}
