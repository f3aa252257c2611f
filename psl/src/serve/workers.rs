//! The threads that accept connections and serve what they get.
//!
//! All wait in `accept` on the same listener: starting a thread for each connection was what cost
//! most. There are a few at first, and as many more as were ever needed at the same time. One is
//! always left in `accept`, to turn a newcomer away or to let it displace another. Does not know
//! HTTP.

use std::io;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::answer::Answer;
use super::conversation::Conversation;
use super::head::Request;
use super::table::{Admission, Id, Table};
use super::{LIMITS, Limits};
use crate::address::{canonical, canonical_socket};

/// Of which a request was seen to touch 12 KiB; the rest is address space, not memory.
const STACK: usize = 64 * 1024;

/// Threads at the start, this one included: enough for a node whose pods ask once a second.
const FIRST: usize = 4;

/// Before the next try where the kernel has no descriptor, or no memory, for another connection.
const PAUSE: Duration = Duration::from_millis(200);

struct Server<H> {
    listener: TcpListener,
    limits: Limits,
    crew: Mutex<Crew>,
    handler: H,
    has_warned: AtomicBool,
}

/// Who is inside, and how many threads there are for them.
/// Invariant: there is room for one connection fewer than there are threads, so that one is left in
/// `accept`, or will be as soon as a connection that was displaced has ended.
struct Crew {
    table: Table<Arc<TcpStream>>,
    /// Threads in all.
    started: usize,
    /// Of these in `accept`, or on their way there.
    waiting: usize,
}

/// Serves for ever; what it returns is why it could not begin.
pub fn run<H>(listener: TcpListener, handler: H) -> String
where
    H: Fn(&Request) -> Answer + Send + Sync + 'static,
{
    let address = match listener.local_addr() {
        Ok(address) => canonical_socket(address),
        Err(error) => return format!("cannot tell the listening address: {error}"),
    };
    let server = Arc::new(Server {
        listener,
        limits: LIMITS,
        crew: Mutex::new(Crew { table: Table::new(&LIMITS), started: 1, waiting: 1 }),
        handler,
        has_warned: AtomicBool::new(false),
    });
    for _ in 1..FIRST {
        if let Err(error) = server.start_thread() {
            server.warn_once("cannot start a thread: fewer connections at a time", &error);
        }
    }
    info!(address:%; "listening");
    server.work()
}

impl<H> Server<H>
where
    H: Fn(&Request) -> Answer + Send + Sync + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock for each connection")]
    fn work(self: &Arc<Self>) -> ! {
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => self.serve(Arc::new(stream), canonical(peer.ip()), Instant::now()),
                Err(error) => self.not_accepted(&error),
            }
        }
    }

    fn serve(self: &Arc<Self>, stream: Arc<TcpStream>, peer: IpAddr, now: Instant) {
        self.leave_one_waiting();
        let admitted = self.admit(&stream, peer, now);
        if let Some(id) = admitted {
            let on_request = |at| self.crew().table.completed(id, at);
            Conversation::new(&stream, peer, &self.limits).run(on_request, &self.handler);
        }
        let mut crew = self.crew();
        crew.waiting += 1;
        if let Some(id) = admitted {
            crew.table.leave(id);
        }
    }

    /// Where this thread was the last in `accept`, another takes its place. Where none can be had
    /// there is no more room than before, and the next client tries again.
    fn leave_one_waiting(self: &Arc<Self>) {
        let mut crew = self.crew();
        crew.waiting -= 1;
        let was_last = crew.waiting == 0 && crew.started <= self.limits.connections;
        drop(crew);
        if was_last && let Err(error) = self.start_thread() {
            self.warn_once("cannot start a thread: fewer connections at a time", &error);
        }
    }

    /// Nothing where the newcomer is turned away: closing its socket is all that it costs.
    fn admit(&self, stream: &Arc<TcpStream>, peer: IpAddr, now: Instant) -> Option<Id> {
        let mut crew = self.crew();
        let room = (crew.started - 1).clamp(1, self.limits.connections);
        match crew.table.admit(peer, now, room, Arc::clone(stream)) {
            Admission::Admitted(id) => Some(id),
            Admission::Displaced(id, victim) => {
                // Wakes the thread that reads from it or writes to it; it may have ended just now.
                let _ = victim.shutdown(Shutdown::Both);
                Some(id)
            }
            Admission::Refused => None,
        }
    }

    /// The new thread is counted before it runs, for it may accept a connection at once.
    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        self.count(1);
        let server = Arc::clone(self);
        let thread = thread::Builder::new().name("worker".to_owned()).stack_size(STACK).spawn(move || server.work());
        thread.map(drop).inspect_err(|_| self.count(-1))
    }

    fn count(&self, threads: isize) {
        let mut crew = self.crew();
        crew.started = crew.started.saturating_add_signed(threads);
        crew.waiting = crew.waiting.saturating_add_signed(threads);
    }

    /// A client that went away before it was accepted is nothing. Everything else is a lack of
    /// descriptors or memory: those who wait in `accept` already have theirs, so that they go on,
    /// and this thread tries again a little later.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for descriptors")]
    fn not_accepted(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            return;
        }
        self.warn_once("cannot accept a connection: trying again", error);
        thread::sleep(PAUSE);
    }

    fn warn_once(&self, what: &str, error: &io::Error) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            warn!(error:%; "{what}; this is said once");
        }
    }

    /// No code that holds this lock can panic half-way through a change.
    fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
