//! The client behind a request, as far as a handler that holds its answer back has to know it.
//!
//! Does not know what the client waits for.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::parked::Parked;
use super::table::Id;

/// Who asks.
pub struct Client<'s> {
    pub(super) stream: &'s Arc<TcpStream>,
    pub(super) server: &'s dyn Holding,
    pub(super) id: Id,
    /// Bytes of a next request are here already.
    pub(super) has_more: bool,
    /// The answer to HEAD has no body.
    pub(super) without_body: bool,
}

/// Who keeps the connections.
pub(super) trait Holding {
    /// Whether the answer on this connection may be held back.
    fn hold(&self, id: Id) -> bool;
    /// It is not held back any more.
    fn let_go(&self, id: Id);
    /// It is parked from now on.
    fn park(&self, id: Id);
}

/// For as long as this lives the client's answer may be held back.
pub struct Hold<'s>(&'s Client<'s>);

impl<'s> Client<'s> {
    /// Takes the connection out of the server. If this succeeds, the handler returns [`super::Reply::parked`]. `None` if
    /// the client has sent more than this request, or has closed its half.
    pub fn park(&self) -> Option<Parked> {
        // First, so that the server cannot close it any more; one that it has closed has hung up.
        self.server.park(self.id);
        let has_acted = self.has_more || !events(&[self.stream], ACTS, Duration::ZERO)[0].is_empty();
        (!has_acted).then(|| Parked::new(Arc::clone(self.stream), self.without_body))
    }

    /// Leave to hold the answer back; nothing where too many are held already.
    pub fn hold(&'s self) -> Option<Hold<'s>> {
        self.server.hold(self.id).then(|| Hold(self))
    }
}

impl Hold<'_> {
    /// The client has closed the connection, or its own half of it, whatever it sent before: nobody
    /// who waits for an answer does that.
    pub fn is_gone(&self) -> bool {
        has_hung_up(self.0.stream)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.server.let_go(self.0.id);
    }
}

/// What a client can do while it waits for an answer.
const ACTS: PollFlags = PollFlags::IN.union(PollFlags::RDHUP);

/// The client has closed the connection, or its own half of it.
fn has_hung_up(stream: &TcpStream) -> bool {
    gone(&[stream]) == [true]
}

/// The acts that are left to a client after it has read an answer: to send its next request, or to close. Acts before the
/// answer are left out.
pub(super) fn next_acts(stream: &TcpStream) -> PollFlags {
    ACTS - events(&[stream], ACTS, Duration::ZERO)[0]
}

/// The client breaks the connection within this time: bytes have reached a socket that is closed, or was closed before
/// it had read them. One of these acts ends the wait.
pub(super) fn is_broken(stream: &TcpStream, acts: PollFlags, patience: Duration) -> bool {
    events(&[stream], acts, patience)[0].contains(PollFlags::ERR)
}

/// Tells for each connection whether its client has closed it, or its own half of it.
pub(super) fn gone(connections: &[&TcpStream]) -> Vec<bool> {
    let events = events(connections, PollFlags::RDHUP, Duration::ZERO);
    events.iter().map(|events| !events.is_empty()).collect()
}

/// poll(2) always reports a hang-up and an error. If the kernel gives no answer, the client counts as present.
fn events(connections: &[&TcpStream], wanted: PollFlags, patience: Duration) -> Vec<PollFlags> {
    let mut clients: Vec<_> = connections.iter().map(|stream| PollFd::new(*stream, wanted)).collect();
    let patience = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
    let is_told = poll(&mut clients, Some(&patience)).is_ok();
    clients.iter().map(|client| if is_told { client.revents() } else { PollFlags::empty() }).collect()
}
