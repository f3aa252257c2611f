//! The client behind a request, as far as a handler that holds its answer back has to know it.
//!
//! Does not know what the client waits for.

use std::net::TcpStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::table::Id;

/// Who asks.
pub struct Client<'s> {
    stream: &'s TcpStream,
    server: &'s dyn Holding,
    id: Id,
}

/// For each connection whether its client has closed it, or its own half of it.
pub(super) fn gone(connections: &[&TcpStream]) -> Vec<bool> {
    let mut clients: Vec<_> = connections.iter().map(|stream| PollFd::new(*stream, PollFlags::RDHUP)).collect();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A hang-up and an error are told unasked (poll(2)). A client that cannot be asked is taken to be there.
    let _ = poll(&mut clients, Some(&at_once));
    clients.iter().map(|client| !client.revents().is_empty()).collect()
}

/// Who keeps the connections.
pub(super) trait Holding {
    /// Whether the answer on this connection may be held back.
    fn hold(&self, id: Id) -> bool;
    /// It is not held back any more.
    fn let_go(&self, id: Id);
}

/// For as long as this lives the client's answer may be held back.
pub struct Hold<'s>(&'s Client<'s>);

impl<'s> Client<'s> {
    pub(super) fn new(stream: &'s TcpStream, server: &'s dyn Holding, id: Id) -> Client<'s> {
        Client { stream, server, id }
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
        gone(&[self.0.stream]) == [true]
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.server.let_go(self.0.id);
    }
}
