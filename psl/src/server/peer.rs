//! The client of a request, for a handler that waits or that parks the connection.
//!
//! Does not know the reason for which the client waits.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::parked::ParkedConnection;

/// The entry of a connection among those that occupy a thread.
pub(super) trait Registration {
    /// Adds the connection, or keeps it, before this thread waits for the client. An idle
    /// connection, whose client has its response, may be displaced by the next one of its address.
    /// `false` if the server has no room.
    fn register(&self, is_idle: bool) -> bool;
    fn deregister(&self);
}

pub struct RequestPeer<'s> {
    pub(super) stream: &'s Arc<TcpStream>,
    pub(super) registration: &'s dyn Registration,
    /// Bytes of the next request have arrived.
    pub(super) has_more: bool,
    /// The response to HEAD has no body.
    pub(super) without_body: bool,
}

/// The events that a client can cause while it waits for a response, or after it.
const CLIENT_EVENTS: PollFlags = PollFlags::IN.union(PollFlags::RDHUP);

impl RequestPeer<'_> {
    /// Announces that the handler waits, so that another thread accepts connections. The connection
    /// counts until its response. `false` if no thread is free: then the handler must not wait.
    pub fn begin_wait(&self) -> bool {
        self.registration.register(false)
    }

    /// Takes the connection out of the server; the handler then returns
    /// [`super::HandlerResult::Parked`]. `None` if the client has sent more than this request, or
    /// has closed its half of the connection.
    pub fn park(&self) -> Option<ParkedConnection> {
        if self.has_more || !events(self.stream, CLIENT_EVENTS, Duration::ZERO).is_empty() {
            return None;
        }
        // A registered connection could be displaced and closed by a new one.
        self.registration.deregister();
        Some(ParkedConnection::new(Arc::clone(self.stream), self.without_body))
    }
}

/// The events that the client can still cause after it has read a response: it sends its next
/// request, or it closes the connection. Excludes events before the response.
pub(super) fn next_events(stream: &TcpStream) -> PollFlags {
    CLIENT_EVENTS - events(stream, CLIENT_EVENTS, Duration::ZERO)
}

/// `true` if the client resets the connection before the timeout: it has closed its socket before
/// it had read all bytes. One of the `wanted` events ends the wait.
pub(super) fn is_reset(stream: &TcpStream, wanted: PollFlags, timeout: Duration) -> bool {
    events(stream, wanted, timeout).contains(PollFlags::ERR)
}

/// poll(2) always reports a hang-up and an error. If it fails, the client counts as connected.
fn events(stream: &TcpStream, wanted: PollFlags, timeout: Duration) -> PollFlags {
    let mut streams = [PollFd::new(stream, wanted)];
    let timeout = Timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut streams, Some(&timeout)) {
        Ok(_) => streams[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}
