//! The client behind a request, as far as a handler that does not answer at once has to know it.
//!
//! Does not know the reason of the client's wait.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::Place;
use super::parked::ParkedConnection;

/// The client of a request.
pub struct Client<'s> {
    pub(super) stream: &'s Arc<TcpStream>,
    pub(super) place: &'s dyn Place,
    /// Bytes of a next request are here already.
    pub(super) has_more: bool,
    /// The answer to HEAD has no body.
    pub(super) without_body: bool,
}

/// The acts of a client while it waits for an answer, or after it has read one.
const ACTS: PollFlags = PollFlags::IN.union(PollFlags::RDHUP);

impl Client<'_> {
    /// Announces that the handler waits for something, so that another thread accepts meanwhile. The
    /// connection counts until its answer. `false` if there is no room: then the handler must not wait.
    pub fn may_wait(&self) -> bool {
        self.place.wait(false)
    }

    /// Takes the connection out of the server. If this succeeds, the handler returns [`super::HandlerResult::parked`]. `None` if
    /// the client has sent more than this request, or has closed its half.
    pub fn park(&self) -> Option<ParkedConnection> {
        let has_acted = self.has_more || !events(self.stream, ACTS, Duration::ZERO).is_empty();
        if has_acted {
            return None;
        }
        // A newcomer that displaced this connection now would close it.
        self.place.leave();
        Some(ParkedConnection::new(Arc::clone(self.stream), self.without_body))
    }
}

/// The acts that are left to a client after it has read an answer: to send its next request, or to close. Acts before the
/// answer are left out.
pub(super) fn next_acts(stream: &TcpStream) -> PollFlags {
    ACTS - events(stream, ACTS, Duration::ZERO)
}

/// The client breaks the connection within this time: bytes have reached a socket that is closed, or was closed before
/// it had read them. One of these acts ends the wait.
pub(super) fn is_broken(stream: &TcpStream, acts: PollFlags, patience: Duration) -> bool {
    events(stream, acts, patience).contains(PollFlags::ERR)
}

/// poll(2) always reports a hang-up and an error. If the kernel gives no answer, the client counts as present.
fn events(stream: &TcpStream, wanted: PollFlags, patience: Duration) -> PollFlags {
    let mut clients = [PollFd::new(stream, wanted)];
    let patience = Timespec {
        tv_sec: patience.as_secs().cast_signed(),
        tv_nsec: patience.subsec_nanos().into(),
    };
    match poll(&mut clients, Some(&patience)) {
        Ok(_) => clients[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}
