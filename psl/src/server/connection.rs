//! The bytes and seconds of one connection.
//!
//! Knows when to read, to give up and to close; neither which connections have a place nor the requests'
//! meaning.

use std::io::IoSlice;
use std::mem;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv};
use tiny_http::Method;

use super::Limits;
use super::client::{Client, is_broken, next_acts};
use super::head::{self, Parsed, Request};
use super::response::{Framing, HandlerResult, Head, Response, send};

/// Read at a time: nearly every head fits.
const CHUNK: usize = 1024;

/// Bytes that are read and dropped after a refusal, so that closing does not reset the connection before
/// the client has read the reason (RFC 9112, 9.6).
const DRAINED: usize = 64 * 1024;
const DRAIN: Duration = Duration::from_millis(250);

/// A closed socket answers bytes with a reset. On one machine the reset comes within microseconds; the rest is for a busy
/// machine, and bounds the wait for an idle client.
const ECHO: Duration = Duration::from_millis(100);

/// The place of a connection among those that a thread waits for.
pub(super) trait Place {
    /// Takes a place, or keeps it, before this thread waits for the client. A connection that is idle, because it was
    /// answered, gives way to the next one of its address. `false` if there is no place.
    fn wait(&self, is_idle: bool) -> bool;
    /// Gives the place up.
    fn leave(&self);
}

/// Memory that a worker uses for one connection after the other.
#[derive(Default)]
pub(super) struct Buffers {
    /// Bytes of requests that are not answered yet: at most a head, or pipelined ones.
    input: Vec<u8>,
    head: Head,
}

/// One connection, from its first byte to its end.
pub(super) struct Connection<'s> {
    stream: &'s Arc<TcpStream>,
    peer: IpAddr,
    place: &'s dyn Place,
    limits: &'s Limits,
    /// It ends with its first answer.
    is_single: bool,
    buffers: &'s mut Buffers,
    /// The input was not parsed since it came.
    is_unparsed: bool,
    /// Nothing was read yet.
    is_new: bool,
    is_answered: bool,
    /// When the first byte of the awaited head was seen.
    begun: Option<Instant>,
    read_at: Instant,
    /// The time-out of the socket. It is mostly right already, and setting it again is a third system call
    /// of a request.
    read_timeout: Duration,
}

/// The result of a read.
enum Received {
    Bytes,
    TimeUp,
    Gone,
}

impl<'s> Connection<'s> {
    pub(super) fn new(
        (stream, peer): (&'s Arc<TcpStream>, IpAddr),
        (place, limits): (&'s dyn Place, &'s Limits),
        is_single: bool,
        buffers: &'s mut Buffers,
    ) -> Connection<'s> {
        buffers.input.clear();
        buffers.input.shrink_to(CHUNK);
        Connection {
            stream,
            peer,
            place,
            limits,
            is_single,
            buffers,
            is_unparsed: false,
            is_new: true,
            is_answered: false,
            begun: None,
            read_at: now(),
            read_timeout: Duration::ZERO,
        }
    }

    /// Answers requests until either side has had enough.
    pub(super) fn run(mut self, handler: &dyn Fn(&Request, &Client) -> HandlerResult) {
        loop {
            match self.receive_head() {
                Received::Bytes => {}
                Received::TimeUp => return self.late(),
                Received::Gone => return,
            }
            match head::parse(&self.buffers.input, self.peer) {
                Parsed::Partial => {}
                Parsed::Refused(answer) => return self.refuse(&answer),
                Parsed::Complete { request, length, keep_alive } => {
                    // The next wait is one of its own, and this client may open its next connection before it.
                    self.place.leave();
                    let has_more = self.buffers.input.len() > length;
                    let without_body = request.method == Method::Head;
                    let framing = Framing { close: !keep_alive || self.is_single, without_body };
                    let client =
                        Client { stream: self.stream, place: self.place, has_more, without_body };
                    let reply = handler(&request, &client);
                    // A handler that waited took a place; the client may open its next connection before the answer.
                    self.place.leave();
                    self.buffers.input.drain(..length);
                    self.is_unparsed = has_more;
                    self.begun = has_more.then(now);
                    let HandlerResult::Now { answer, unsent } = reply else { return };
                    if !self.answer(&answer, unsent, framing) {
                        return;
                    }
                }
            }
        }
    }

    /// Reads until there is something worth parsing: the head of a client that sends byte by byte is not parsed for each of
    /// them.
    fn receive_head(&mut self) -> Received {
        let is_unparsed = mem::take(&mut self.is_unparsed);
        loop {
            let is_idle = self.is_answered && self.begun.is_none();
            // Also before a request that has come with the last one, so that no client keeps all threads busy.
            if !self.is_new && !self.place.wait(is_idle) {
                return Received::Gone;
            }
            if is_unparsed {
                return Received::Bytes;
            }
            let left = match self.begun {
                Some(begun) => {
                    self.limits.head.saturating_sub(now().saturating_duration_since(begun))
                }
                None if self.is_answered => self.limits.idle,
                None => self.limits.head,
            };
            let parsed = self.buffers.input.len();
            match self.receive(left) {
                Received::Bytes => {}
                end => return end,
            }
            self.read_at = now();
            self.begun.get_or_insert(self.read_at);
            let input = &self.buffers.input;
            if parsed == 0 || input.len() == head::LARGEST || input[parsed..].contains(&b'\n') {
                return Received::Bytes;
            }
        }
    }

    /// Appends to the input; its first byte comes within this time.
    fn receive(&mut self, left: Duration) -> Received {
        let input = &mut self.buffers.input;
        if input.len() == input.capacity() {
            input.reserve_exact(CHUNK.min(head::LARGEST - input.len()));
        }
        // The request of a new connection has mostly come: then no thread waits for this client.
        if mem::take(&mut self.is_new) {
            match recv(self.stream, spare_capacity(input), RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Received::Gone,
                Ok(_) => return Received::Bytes,
                Err(_) if self.place.wait(false) => {}
                Err(_) => return Received::Gone,
            }
        }
        if left.is_zero()
            || (left != self.read_timeout && self.stream.set_read_timeout(Some(left)).is_err())
        {
            return Received::TimeUp;
        }
        self.read_timeout = left;
        loop {
            return match recv(self.stream, spare_capacity(input), RecvFlags::empty()) {
                // When a stopped process continues, its waits are interrupted (signal(7)).
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Received::TimeUp,
                // A reset is an end like any other.
                Ok((_, 0)) | Err(_) => Received::Gone,
                Ok(_) => Received::Bytes,
            };
        }
    }

    /// A client that has begun a request is told that its time is up (RFC 9110, 15.5.9).
    fn late(&mut self) {
        // An empty line is not a request that has begun (RFC 9112, 2.2).
        if self.buffers.input.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.read_at = now();
            self.refuse(&Response::error(
                408,
                "request_timeout",
                "the head did not come in time",
                false,
            ));
        }
    }

    fn refuse(&mut self, answer: &Response) {
        self.place.leave();
        let is_sent = self.send(answer, Framing { close: true, without_body: false });
        self.close(is_sent);
    }

    /// Sends an answer. Says whether the connection goes on.
    fn answer(
        &mut self,
        answer: &Response,
        unsent: Option<Box<dyn FnOnce()>>,
        framing: Framing,
    ) -> bool {
        let acts = unsent.as_ref().map(|_| self.next_acts());
        let mut is_sent = self.send(answer, framing);
        if let Some((unsent, acts)) = unsent.zip(acts) {
            is_sent = is_sent && self.is_read(acts, framing.close);
            if !is_sent {
                unsent();
            }
        }
        if framing.close {
            self.close(is_sent && !self.buffers.input.is_empty());
        }
        is_sent && !framing.close
    }

    /// The acts that are left to the client after it has read the next answer. A request that has come already
    /// confirms nothing.
    fn next_acts(&self) -> PollFlags {
        let acts = next_acts(self.stream);
        if self.buffers.input.is_empty() { acts } else { acts - PollFlags::IN }
    }

    /// Whether the client reads an answer that matters, once all of it was sent. A client that closes its socket before it has
    /// read all bytes breaks the connection (RFC 9293, 3.6.1). A client that had hung up before may have closed its own
    /// half only, and is given time to break it.
    fn is_read(&self, acts: PollFlags, is_last: bool) -> bool {
        if is_last {
            // A client may wait for the end of the stream before its next step.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        let patience = if self.place.wait(true) { ECHO } else { Duration::ZERO };
        !is_broken(self.stream, acts, patience)
    }

    /// Whether all of the answer went out before the client's time for reading it was up.
    fn send(&mut self, answer: &Response, framing: Framing) -> bool {
        self.is_answered = true;
        let mut parts = self.buffers.head.of(answer, framing, self.read_at).map(IoSlice::new);
        let mut parts = &mut parts[..];
        if send(self.stream, &mut parts, SendFlags::DONTWAIT) == Ok(true) {
            return true;
        }
        let until =
            self.place.wait(false).then(now).and_then(|now| now.checked_add(self.limits.answer));
        loop {
            let left = until
                .map(|until| until.saturating_duration_since(now()))
                .filter(|left| !left.is_zero());
            // Without time left nothing is written.
            if left.is_none() || self.stream.set_write_timeout(left).is_err() {
                return false;
            }
            match send(self.stream, &mut parts, SendFlags::empty()) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
        }
    }

    /// Ends the connection; if something may still be on its way, not with a reset.
    fn close(&mut self, gently: bool) {
        if !gently || self.stream.shutdown(Shutdown::Write).is_err() || !self.place.wait(true) {
            return;
        }
        let start = now();
        let mut drained = 0;
        while drained < DRAINED {
            self.buffers.input.clear();
            let left = DRAIN.saturating_sub(now().saturating_duration_since(start));
            match self.receive(left) {
                Received::Bytes => drained += self.buffers.input.len(),
                Received::TimeUp | Received::Gone => return,
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that gives a connection its seconds")]
fn now() -> Instant {
    Instant::now()
}
