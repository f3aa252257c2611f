//! Parked connections, whose requests wait for a response without a thread, and their poller.
//!
//! Knows neither the reason of a wait nor the number of clients that may wait.

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

use super::response::{Framing, HeadWriter, Response, send};

/// Events in one call of [`Poller::wait`]; the kernel keeps the others for the next call.
const BATCH: usize = 64;

/// The longest single wait: before Linux 5.11 the kernel counts milliseconds in 31 bits.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

const WAKE: u64 = u64::MAX;

/// A connection with a request that waits for its response. Dropping it closes the connection.
#[derive(Debug)]
pub struct ParkedConnection {
    stream: Arc<TcpStream>,
    /// The response to HEAD has no body (RFC 9110, 9.3.2).
    without_body: bool,
}

impl ParkedConnection {
    pub(super) fn new(stream: Arc<TcpStream>, without_body: bool) -> ParkedConnection {
        // The kernel raises this to its minimum of some 2 KiB. A waiting client sends no bytes.
        let _ = set_socket_recv_buffer_size(&*stream, 0);
        ParkedConnection { stream, without_body }
    }

    /// The client has sent bytes, closed its half or reset the connection.
    pub fn has_acted(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(&*self.stream, &mut byte, flags).map(|_| ()) != Err(Errno::AGAIN)
    }

    /// Writes the whole response without waiting and closes this half of the connection. `false` if
    /// the client has closed, or its socket does not take the whole response at once.
    #[expect(clippy::disallowed_methods, reason = "the edge that dates responses")]
    pub fn answer(&self, response: Response) -> bool {
        let mut head = HeadWriter::default();
        let framing = Framing { close: true, without_body: self.without_body };
        let mut parts = head.write(&response, framing, Instant::now()).map(IoSlice::new);
        let is_sent = send(&self.stream, &mut &mut parts[..], SendFlags::DONTWAIT) == Ok(true);
        is_sent && self.stream.shutdown(Shutdown::Write).is_ok()
    }
}

/// An action of the client of a parked connection. Each one is reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientEvent {
    pub key: u64,
    /// The client has reset the connection: it closed before it had read all bytes. If `false`, the
    /// client has sent bytes or closed its half.
    pub is_broken: bool,
}

/// Watches parked connections for actions of their clients, until the connections are closed.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    waker: OwnedFd,
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &waker, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?;
        Ok(Poller { epoll, waker })
    }

    /// Reports the client's actions with this key, also those before this call. `u64::MAX` is not a
    /// key.
    pub fn watch(&self, parked: &ParkedConnection, key: u64) -> io::Result<()> {
        // Edge-triggered: a connection that stays open after an action would be reported without
        // end.
        let events = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, &*parked.stream, EventData::new_u64(key), events)?)
    }

    /// Waits for an action, for [`Poller::wake`] or for the timeout, a day at most, and appends up
    /// to 64 actions. The kernel counts in milliseconds, so the wait ends up to one of them late.
    pub fn wait(&self, timeout: Option<Duration>, actions: &mut Vec<ClientEvent>) {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout.min(LONGEST)).ok());
        let mut events = Vec::with_capacity(BATCH);
        // An interrupted wait ends early.
        let _: Result<usize, Errno> =
            epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref());
        for event in events.iter().filter(|event| event.data.u64() != WAKE) {
            let flags = event.flags;
            let is_broken = flags.contains(EventFlags::ERR);
            actions.push(ClientEvent { key: event.data.u64(), is_broken });
        }
    }

    /// Ends the current wait, or else the next one.
    pub fn wake(&self) {
        // Each write is an edge, so the counter is not read. It has room for 2^64 writes.
        let _ = rustix::io::write(&self.waker, &1u64.to_ne_bytes());
    }
}
