//! The client behind a request, as far as a handler that holds its answer back has to know it.
//!
//! Does not know what the client waits for.

use std::mem::MaybeUninit;
use std::net::TcpStream;

use socket2::SockRef;

use super::table::Id;

/// recv(2): look without taking anything out, and without waiting.
const MSG_PEEK: i32 = 0x02;
const MSG_DONTWAIT: i32 = 0x40;

/// Who asks.
pub struct Client<'s> {
    stream: &'s TcpStream,
    server: &'s dyn Holding,
    id: Id,
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
    /// The client has closed the connection, or its own half of it: nobody who waits for an answer
    /// does that.
    pub fn is_gone(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(self.0.stream).recv_with_flags(&mut byte, MSG_PEEK | MSG_DONTWAIT) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.server.let_go(self.0.id);
    }
}
