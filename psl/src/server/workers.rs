//! The threads that accept connections and serve what they get.
//!
//! All wait in `accept` on the same listener, because starting a thread for each connection costs most.
//! There are a few, and more only while threads wait for clients. One is always left to accept, to refuse
//! a new connection or to let it displace another. Does not know HTTP.

use std::cell::Cell;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::client::Client;
use super::connection::{Buffers, Connection, Place};
use super::head::Request;
use super::response::HandlerResult;
use super::table::{Admission, Id, Table};
use super::{LIMITS, Limits};
use crate::address::{canonical, canonical_socket};
use crate::{process, sync};

/// A request was measured to touch 12 KiB of it; the rest is address space, not memory.
const STACK: usize = 64 * 1024;

/// Threads at the start, the main thread included, and those that stay when no thread waits for a client. A request
/// whose bytes have come takes a thread for a fraction of a millisecond, so more than these would share the same cores.
const FEW: usize = 4;

/// The pause before the next try if the kernel has no descriptor, or no memory, for another connection.
const PAUSE: Duration = Duration::from_millis(200);

/// Descriptors that are left to everything else: standard streams, listener, signals, look-ups, checks.
const RESERVED: usize = 16;

/// The soft limit that Linux and systemd set, which is enough for 64 connections, 512 parked ones and all checks.
const ENOUGH: u64 = 1024;

type Handler = dyn Fn(&Request, &Client) -> HandlerResult + Send + Sync;

struct Server {
    listener: TcpListener,
    limits: Limits,
    crew: Mutex<Crew>,
    handler: Box<Handler>,
    /// Each shortage is logged once.
    is_short_of_threads: AtomicBool,
    is_short_of_descriptors: AtomicBool,
}

/// The connections that threads wait for, and the threads.
/// Invariant: there is room for one connection fewer than there are threads, so that one is left to
/// accept, or will be as soon as a connection that was displaced has ended.
struct Crew {
    table: Table<Arc<TcpStream>>,
    /// Threads in all.
    started: usize,
    /// Of these in `accept`, or on their way there.
    waiting: usize,
}

/// The place of a connection that a worker serves.
struct Served<'s> {
    server: &'s Arc<Server>,
    stream: &'s Arc<TcpStream>,
    peer: IpAddr,
    id: Cell<Option<Id>>,
}

/// Serves for ever; returns the reason if it cannot begin.
pub fn run<H, R>(listener: TcpListener, handler: H) -> String
where
    H: Fn(&Request, &Client) -> R + Send + Sync + 'static,
    R: Into<HandlerResult>,
{
    let handler =
        Box::new(move |request: &Request, client: &Client| handler(request, client).into());
    let address = match listener.local_addr() {
        Ok(address) => canonical_socket(address),
        Err(error) => return format!("cannot tell the listening address: {error}"),
    };
    let server = Arc::new(Server {
        listener,
        limits: Limits { connections: most_connections(), ..LIMITS },
        crew: Mutex::new(Crew { table: Table::new(&LIMITS), started: 1, waiting: 1 }),
        handler,
        is_short_of_threads: AtomicBool::new(false),
        is_short_of_descriptors: AtomicBool::new(false),
    });
    for _ in 1..FEW {
        server.start_thread();
    }
    info!(address:%; "listening");
    loop {
        server.serve_all(true);
    }
}

/// Connections that may be parked at a time. Half as many more have a descriptor after that: their answer is on its way.
/// Raises a low soft limit on descriptors, as far as the hard limit permits it.
pub fn most_parked() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < ENOUGH) {
        let current = Some(limit.maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH)));
        // Without more of them fewer connections are parked.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
    let rest = descriptors() - most_connections();
    (rest - rest.div_ceil(3)).min(LIMITS.parked)
}

/// Each connection holds a descriptor, and so does each thread that waits in `accept`. Few descriptors are shared with
/// parked connections.
fn most_connections() -> usize {
    descriptors().div_ceil(2).min(LIMITS.connections)
}

/// Descriptors for connections.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(usize::MAX, |limit| limit.saturating_sub(RESERVED).max(1))
}

impl Server {
    /// Serves one connection after the other. Returns if this thread has become one too many, unless it is to stay.
    fn serve_all(self: &Arc<Self>, stays: bool) {
        let mut buffers = Buffers::default();
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    self.serve(&Arc::new(stream), canonical(peer.ip()), &mut buffers)
                }
                Err(error) => {
                    self.not_accepted(&error);
                    continue;
                }
            }
            let mut crew = self.crew();
            if crew.waiting >= FEW && !stays {
                crew.started -= 1;
                return;
            }
            crew.waiting += 1;
        }
    }

    fn serve(self: &Arc<Self>, stream: &Arc<TcpStream>, peer: IpAddr, buffers: &mut Buffers) {
        let mut crew = self.crew();
        crew.waiting -= 1;
        // Without another thread no client may keep this one to itself.
        let is_alone = crew.started == 1;
        drop(crew);
        let place = Served { server: self, stream, peer, id: Cell::new(None) };
        Connection::new((stream, peer), (&place, &self.limits), is_alone, buffers)
            .run(&*self.handler);
        place.leave();
    }

    /// The new thread is counted before it runs, for it may accept a connection at once.
    fn start_thread(self: &Arc<Self>) {
        self.count(1);
        let server = Arc::clone(self);
        if let Err(error) = process::spawn("worker", STACK, move || server.serve_all(false)) {
            self.count(-1);
            self.warn_once(
                &self.is_short_of_threads,
                "cannot start a thread: fewer connections at a time",
                &error,
            );
        }
    }

    fn count(&self, threads: isize) {
        let mut crew = self.crew();
        crew.started = crew.started.saturating_add_signed(threads);
        crew.waiting = crew.waiting.saturating_add_signed(threads);
    }

    /// A client that went away before it was accepted is no error. Everything else is a lack of descriptors
    /// or memory: threads that wait in `accept` already have theirs, so that they go on, and this thread
    /// tries again a little later.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for descriptors")]
    fn not_accepted(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            return;
        }
        self.warn_once(
            &self.is_short_of_descriptors,
            "cannot accept a connection: trying again",
            error,
        );
        thread::sleep(PAUSE);
    }

    fn warn_once(&self, told: &AtomicBool, what: &str, error: &dyn Display) {
        if !told.swap(true, Ordering::Relaxed) {
            warn!(error:%; "{what}; this is said once");
        }
    }

    /// No code that holds this lock can panic half-way through a change.
    fn crew(&self) -> MutexGuard<'_, Crew> {
        sync::lock(&self.crew)
    }
}

impl Place for Served<'_> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge that reads the clock for each connection"
    )]
    fn wait(&self, is_idle: bool) -> bool {
        let mut crew = self.server.crew();
        if let Some(id) = self.id.get() {
            return crew.table.set_idle(id, is_idle);
        }
        // Another thread takes this one's turn to accept. Without one there is no more room than before.
        if crew.waiting == 0 && crew.started <= self.server.limits.connections {
            drop(crew);
            self.server.start_thread();
            crew = self.server.crew();
        }
        let room = (crew.started - 1).clamp(1, self.server.limits.connections);
        let id = match crew.table.admit(self.peer, Instant::now(), room, Arc::clone(self.stream)) {
            Admission::Admitted(id) => id,
            Admission::Displaced(id, displaced) => {
                // Wakes the thread that waits for its client; it may have ended just now.
                let _ = displaced.shutdown(Shutdown::Both);
                id
            }
            Admission::Refused => return false,
        };
        self.id.set(Some(id));
        crew.table.set_idle(id, is_idle)
    }

    fn leave(&self) {
        if let Some(id) = self.id.take() {
            self.server.crew().table.leave(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared() {
        assert!(descriptors() >= most_connections() + most_parked() + most_parked() / 2);
        assert!(most_connections() >= 1);
    }
}
