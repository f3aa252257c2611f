//! The bytes and seconds of one connection.
//!
//! Knows when to read, to give up and to close; not who may come in, nor what is asked.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::SendFlags;
use tiny_http::Method;

use super::Limits;
use super::answer::{Answer, Framing, Reply};
use super::client::{is_broken, next_acts};
use super::head::{self, Parsed, Request};
use super::table::Sending;

/// Read at a time: nearly every head fits.
const CHUNK: usize = 1024;

/// What is read and thrown away after a refusal, so that closing does not reset the connection
/// before the client has read why (RFC 9112, 9.6).
const DRAINED: usize = 64 * 1024;
const DRAIN: Duration = Duration::from_millis(250);

/// A closed socket answers bytes with a reset. On one machine the reset comes within microseconds; the rest is for a busy
/// machine, and bounds the wait for an idle client.
const ECHO: Duration = Duration::from_millis(100);

/// One connection, from its first byte to its end.
pub(super) struct Conversation<'s> {
    stream: &'s TcpStream,
    peer: IpAddr,
    limits: &'s Limits,
    /// It ends with its first answer.
    is_single: bool,
    /// What has come and is not answered yet: at most a head, or pipelined ones.
    buffer: Vec<u8>,
    /// What the socket's time-outs are set to. They are mostly right already, and setting them all
    /// the same is every second system call of a request.
    read_timeout: Duration,
    write_timeout: Duration,
}

/// What came next.
enum Heard {
    Request(Request, bool),
    Refused(Answer),
    Gone,
}

impl<'s> Conversation<'s> {
    pub(super) fn new(stream: &'s TcpStream, peer: IpAddr, limits: &'s Limits, is_single: bool) -> Conversation<'s> {
        let (read_timeout, write_timeout) = (Duration::ZERO, Duration::ZERO);
        Conversation { stream, peer, limits, is_single, buffer: Vec::new(), read_timeout, write_timeout }
    }

    /// Answers requests until either side has had enough. `on_request` hears of each complete one, and `on_sending` how far the
    /// last answer is; it says whether the connection still has a place.
    pub(super) fn run(
        mut self,
        on_request: impl Fn(Instant),
        on_sending: impl Fn(Sending) -> bool,
        handler: impl Fn(&Request, bool) -> Reply,
    ) {
        let mut patience = self.limits.head;
        loop {
            match self.hear(patience) {
                Heard::Request(request, keep_alive) => {
                    on_request(now());
                    let keep_alive = keep_alive && !self.is_single;
                    let framing = Framing { close: !keep_alive, without_body: request.method == Method::Head };
                    let Reply::Now { answer, unsent } = handler(&request, !self.buffer.is_empty()) else { return };
                    let acts = unsent.as_ref().map(|_| self.next_acts());
                    let bytes = answer.into_bytes(framing);
                    let is_last = !keep_alive && self.buffer.is_empty();
                    let mut sent = if is_last { self.send_last(&bytes, &on_sending) } else { self.send(&bytes) };
                    if let Some((unsent, acts)) = unsent.zip(acts) {
                        sent = sent && self.is_read(acts, !keep_alive, &on_sending);
                        if !sent {
                            unsent();
                        }
                    }
                    if !sent || !keep_alive {
                        return self.close(sent && !self.buffer.is_empty());
                    }
                }
                Heard::Refused(answer) => {
                    let bytes = answer.into_bytes(Framing { close: true, without_body: false });
                    let sent = self.send_last(&bytes, &on_sending);
                    return self.close(sent && on_sending(Sending::Over));
                }
                Heard::Gone => return,
            }
            patience = self.limits.idle;
        }
    }

    /// The next request: its first byte comes within `patience`, the rest within the bound on heads.
    fn hear(&mut self, patience: Duration) -> Heard {
        let mut start = now();
        let mut patience = if self.buffer.is_empty() { patience } else { self.limits.head };
        let mut left = patience;
        let mut unparsed = !self.buffer.is_empty();
        loop {
            if unparsed {
                match head::parse(&self.buffer, self.peer) {
                    Parsed::Partial => {}
                    Parsed::Refused(answer) => return Heard::Refused(answer),
                    Parsed::Complete { request, length, keep_alive } => {
                        self.buffer.drain(..length);
                        return Heard::Request(request, keep_alive);
                    }
                }
            }
            let mut chunk = [0; CHUNK];
            let room = CHUNK.min(head::LARGEST - self.buffer.len());
            let Some(count) = self.read(&mut chunk[..room], left) else {
                return self.late();
            };
            if count == 0 {
                return Heard::Gone;
            }
            let at = now();
            if self.buffer.is_empty() {
                (start, patience) = (at, self.limits.head);
            }
            left = patience.saturating_sub(at.saturating_duration_since(start));
            // A client that sends byte by byte does not get its head parsed for each of them.
            let came = &chunk[..count];
            unparsed = self.buffer.is_empty() || came.contains(&b'\n') || self.buffer.len() + count == head::LARGEST;
            self.buffer.extend_from_slice(came);
        }
    }

    /// Time is up: somebody who has begun a request is told so (RFC 9110, 15.5.9).
    fn late(&self) -> Heard {
        // An empty line is not a request that has begun (RFC 9112, 2.2).
        if self.buffer.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            return Heard::Gone;
        }
        Heard::Refused(Answer::error(408, "request_timeout", "the head did not come in time", false))
    }

    /// `None` when time is up, 0 when there is nothing more to come.
    fn read(&mut self, into: &mut [u8], left: Duration) -> Option<usize> {
        if left.is_zero() || (left != self.read_timeout && self.stream.set_read_timeout(Some(left)).is_err()) {
            return None;
        }
        self.read_timeout = left;
        let mut read = (&mut &*self.stream).read(into);
        // When a stopped process continues, its waits are interrupted (signal(7)).
        while read.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
            read = (&mut &*self.stream).read(into);
        }
        match read {
            Ok(count) => Some(count),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            // A reset is an end like any other.
            Err(_) => Some(0),
        }
    }

    /// What the client can do after it has read the next answer. Requests that are here already say nothing of it.
    fn next_acts(&self) -> PollFlags {
        let acts = next_acts(self.stream);
        if self.buffer.is_empty() { acts } else { acts - PollFlags::IN }
    }

    /// Whether the client reads an answer that matters, once all of it was sent. A client that closes its socket before it has
    /// read all bytes breaks the connection (RFC 9293, 3.6.1). A client that had hung up before may have closed its own
    /// half only, and is given time to break it.
    fn is_read(&mut self, acts: PollFlags, is_last: bool, on_sending: impl Fn(Sending) -> bool) -> bool {
        if is_last {
            // A client may wait for the end of the stream before its next step.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        // A thread waits for a connection that counts only.
        let may_wait = !is_last || on_sending(Sending::Over);
        !is_broken(self.stream, acts, if may_wait { ECHO } else { Duration::ZERO })
    }

    /// Sends the last answer. The connection does not count meanwhile: a client that has read it may open its next connection
    /// before this thread runs again. Where the client does not take it at once the connection has to count again.
    fn send_last(&mut self, bytes: &[u8], on_sending: impl Fn(Sending) -> bool) -> bool {
        on_sending(Sending::Begun);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let count = rustix::net::send(self.stream, bytes, flags).unwrap_or(0);
        count == bytes.len() || (on_sending(Sending::Stalled) && self.send(&bytes[count..]))
    }

    /// Whether all of it went out before the client's time for reading it was up.
    fn send(&mut self, mut bytes: &[u8]) -> bool {
        let start = now();
        let mut left = self.limits.answer;
        loop {
            if left.is_zero() || (left != self.write_timeout && self.stream.set_write_timeout(Some(left)).is_err()) {
                return false;
            }
            self.write_timeout = left;
            match (&mut &*self.stream).write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return false,
                Ok(count) if count == bytes.len() => return true,
                Ok(count) => bytes = &bytes[count..],
            }
            left = self.limits.answer.saturating_sub(now().saturating_duration_since(start));
        }
    }

    /// Ends the connection; where something may still be on its way, not with a reset.
    fn close(&mut self, gently: bool) {
        if !gently || self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let start = now();
        let mut drained = 0;
        let mut chunk = [0; CHUNK];
        while drained < DRAINED {
            let left = DRAIN.saturating_sub(now().saturating_duration_since(start));
            match self.read(&mut chunk, left) {
                None | Some(0) => return,
                Some(count) => drained += count,
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that gives a connection its seconds")]
fn now() -> Instant {
    Instant::now()
}
