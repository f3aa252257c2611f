//! One connection: its bytes, its timeouts and its end.
//!
//! Knows neither the other connections nor the meaning of requests.

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

use super::ServerLimits;
use super::head::{self, ParsedHead, Request};
use super::peer::{Registration, RequestPeer, is_reset, next_events};
use super::response::{Framing, HandlerResult, HeadWriter, Response, send};

/// The bytes of one read: nearly every head fits.
const CHUNK: usize = 1024;

/// Bytes that the server reads and drops after a refusal. Closing with unread bytes would reset the
/// connection before the client has read the reason (RFC 9112, 9.6).
const MOST_DRAINED: usize = 64 * 1024;
const LONGEST_DRAIN: Duration = Duration::from_millis(250);

/// A closed socket responds to bytes with a reset. On one machine the reset takes microseconds; the
/// rest is for a busy machine. Bounds the wait for an idle client.
const RESET_WAIT: Duration = Duration::from_millis(100);

/// Memory that a worker uses for one connection after the other.
#[derive(Default)]
pub(super) struct Buffers {
    /// Requests without a response: at most one head, or pipelined requests.
    input: Vec<u8>,
    head: HeadWriter,
}

pub(super) struct HttpConnection<'s> {
    stream: &'s Arc<TcpStream>,
    peer: IpAddr,
    registration: &'s dyn Registration,
    limits: &'s ServerLimits,
    is_single: bool,
    buffers: &'s mut Buffers,
    /// The input has not been parsed since it arrived.
    is_unparsed: bool,
    is_new: bool,
    has_responded: bool,
    /// The arrival of the first byte of the current head.
    head_since: Option<Instant>,
    read_at: Instant,
    /// The present timeout of the socket, which is mostly right already. Setting it again would be
    /// a third system call of a request.
    read_timeout: Duration,
}

enum Received {
    Bytes,
    TimedOut,
    Closed,
}

impl<'s> HttpConnection<'s> {
    pub(super) fn new(
        stream: &'s Arc<TcpStream>,
        peer: IpAddr,
        registration: &'s dyn Registration,
        limits: &'s ServerLimits,
        is_single: bool,
        buffers: &'s mut Buffers,
    ) -> HttpConnection<'s> {
        buffers.input.clear();
        buffers.input.shrink_to(CHUNK);
        HttpConnection {
            stream,
            peer,
            registration,
            limits,
            is_single,
            buffers,
            is_unparsed: false,
            is_new: true,
            has_responded: false,
            head_since: None,
            read_at: now(),
            read_timeout: Duration::ZERO,
        }
    }

    /// Serves requests until either side closes.
    pub(super) fn run(mut self, handler: &dyn Fn(&Request, &RequestPeer) -> HandlerResult) {
        loop {
            match self.receive_head() {
                Received::Bytes => {}
                Received::TimedOut => return self.refuse_late_head(),
                Received::Closed => return,
            }
            let (request, length, keep_alive) = match head::parse(&self.buffers.input, self.peer) {
                ParsedHead::Partial => continue,
                ParsedHead::Refused(response) => return self.refuse(&response),
                ParsedHead::Complete { request, length, keep_alive } => {
                    (request, length, keep_alive)
                }
            };
            // The client may open its next connection during the handler.
            self.registration.deregister();
            let has_more = self.buffers.input.len() > length;
            let without_body = request.method == Method::Head;
            let framing = Framing { close: !keep_alive || self.is_single, without_body };
            let (stream, registration) = (self.stream, self.registration);
            let peer = RequestPeer { stream, registration, has_more, without_body };
            let result = handler(&request, &peer);
            // A handler that waited has registered. The client may open its next connection before
            // it has the response.
            self.registration.deregister();
            self.buffers.input.drain(..length);
            self.is_unparsed = has_more;
            self.head_since = has_more.then(now);
            let HandlerResult::Now { response, unsent } = result else { return };
            if !self.respond(&response, unsent, framing) {
                return;
            }
        }
    }

    /// Reads until the input is worth parsing: the head of a client that sends byte by byte is not
    /// parsed for each byte.
    fn receive_head(&mut self) -> Received {
        let is_unparsed = mem::take(&mut self.is_unparsed);
        loop {
            let is_idle = self.has_responded && self.head_since.is_none();
            // Also before a pipelined request, so that one client cannot occupy all threads.
            if !self.is_new && !self.registration.register(is_idle) {
                return Received::Closed;
            }
            if is_unparsed {
                return Received::Bytes;
            }
            let timeout = match self.head_since {
                Some(since) => self.limits.head.saturating_sub(elapsed(since)),
                None if self.has_responded => self.limits.idle,
                None => self.limits.head,
            };
            let parsed = self.buffers.input.len();
            match self.receive(timeout) {
                Received::Bytes => {}
                end => return end,
            }
            self.read_at = now();
            self.head_since.get_or_insert(self.read_at);
            let input = &self.buffers.input;
            if parsed == 0 || input.len() == head::LARGEST || input[parsed..].contains(&b'\n') {
                return Received::Bytes;
            }
        }
    }

    /// Appends bytes to the input; the timeout is for the first byte.
    fn receive(&mut self, timeout: Duration) -> Received {
        let input = &mut self.buffers.input;
        if input.len() == input.capacity() {
            input.reserve_exact(CHUNK.min(head::LARGEST - input.len()));
        }
        // The request of a new connection has mostly arrived: then the thread does not wait.
        if mem::take(&mut self.is_new) {
            match recv(self.stream, spare_capacity(input), RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Received::Closed,
                Ok(_) => return Received::Bytes,
                Err(_) if self.registration.register(false) => {}
                Err(_) => return Received::Closed,
            }
        }
        if timeout.is_zero() {
            return Received::TimedOut;
        }
        if timeout != self.read_timeout && self.stream.set_read_timeout(Some(timeout)).is_err() {
            return Received::TimedOut;
        }
        self.read_timeout = timeout;
        loop {
            return match recv(self.stream, spare_capacity(input), RecvFlags::empty()) {
                // When a stopped process continues, its waits are interrupted (signal(7)).
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Received::TimedOut,
                Ok((_, 0)) | Err(_) => Received::Closed,
                Ok(_) => Received::Bytes,
            };
        }
    }

    /// Sends 408 to a client that has begun a request (RFC 9110, 15.5.9).
    fn refuse_late_head(&mut self) {
        // An empty line does not begin a request (RFC 9112, 2.2).
        if self.buffers.input.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.read_at = now();
            let text = "the head did not come in time";
            self.refuse(&Response::error(408, "request_timeout", text, false));
        }
    }

    fn refuse(&mut self, response: &Response) {
        self.registration.deregister();
        let is_sent = self.send(response, Framing { close: true, without_body: false });
        self.close(is_sent);
    }

    /// Sends a response; `true` if the connection continues.
    fn respond(
        &mut self,
        response: &Response,
        unsent: Option<Box<dyn FnOnce()>>,
        framing: Framing,
    ) -> bool {
        let is_sent = match unsent {
            None => self.send(response, framing),
            Some(unsent) => {
                let events = self.next_events();
                let is_sent = self.send(response, framing) && self.is_read(events, framing.close);
                if !is_sent {
                    unsent();
                }
                is_sent
            }
        };
        if framing.close {
            self.close(is_sent && !self.buffers.input.is_empty());
        }
        is_sent && !framing.close
    }

    /// The events that the client can still cause after it has read the next response. A pipelined
    /// request has arrived already, so it is no confirmation.
    fn next_events(&self) -> PollFlags {
        let events = next_events(self.stream);
        if self.buffers.input.is_empty() { events } else { events - PollFlags::IN }
    }

    /// `true` if the client reads a sent response. A client that closes its socket before it has
    /// read all bytes resets the connection (RFC 9293, 3.6.1). A client that closed before the
    /// response may have closed its own half only, so this waits for the reset.
    fn is_read(&self, events: PollFlags, is_last: bool) -> bool {
        if is_last {
            // A client may wait for the end of the stream before its next step.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        let timeout = if self.registration.register(true) { RESET_WAIT } else { Duration::ZERO };
        !is_reset(self.stream, events, timeout)
    }

    /// `true` if the whole response was sent before the timeout.
    fn send(&mut self, response: &Response, framing: Framing) -> bool {
        self.has_responded = true;
        let mut parts = self.buffers.head.write(response, framing, self.read_at).map(IoSlice::new);
        let mut parts = &mut parts[..];
        if send(self.stream, &mut parts, SendFlags::DONTWAIT) == Ok(true) {
            return true;
        }
        if !self.registration.register(false) {
            return false;
        }
        let start = now();
        loop {
            let left = self.limits.answer.saturating_sub(elapsed(start));
            if left.is_zero() || self.stream.set_write_timeout(Some(left)).is_err() {
                return false;
            }
            match send(self.stream, &mut parts, SendFlags::empty()) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
        }
    }

    /// Closes the connection. If the client may still send, drains its bytes to avoid a reset.
    fn close(&mut self, drain: bool) {
        if !drain
            || self.stream.shutdown(Shutdown::Write).is_err()
            || !self.registration.register(true)
        {
            return;
        }
        let start = now();
        let mut drained = 0;
        while drained < MOST_DRAINED {
            self.buffers.input.clear();
            match self.receive(LONGEST_DRAIN.saturating_sub(elapsed(start))) {
                Received::Bytes => drained += self.buffers.input.len(),
                Received::TimedOut | Received::Closed => return,
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock of a connection")]
fn now() -> Instant {
    Instant::now()
}

fn elapsed(since: Instant) -> Duration {
    now().saturating_duration_since(since)
}
