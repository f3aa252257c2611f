//! The threads that accept and serve connections.
//!
//! All threads wait in `accept` on one listener, because starting a thread for each connection
//! would be the largest part of its cost. The pool grows only while threads wait for clients. One
//! thread always remains free to accept: it refuses a new connection, or lets it displace another
//! one. Does not know HTTP.

use std::cell::Cell;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::connection::{Buffers, HttpConnection};
use super::head::Request;
use super::peer::{Registration, RequestPeer};
use super::response::HandlerResult;
use super::table::{Admission, ConnectionTable, EntryId};
use super::{LIMITS, ServerLimits};
use crate::sync;
use crate::thread::spawn;

/// A request touches 12 KiB of the stack (measured); untouched pages cost no memory.
const STACK: usize = 64 * 1024;

/// Threads at the start, the main thread included, and the threads that stay while no thread waits
/// for a client. A request that has arrived occupies a thread for less than a millisecond, so more
/// threads would only share the same cores.
const BASE_THREADS: usize = 4;

/// The pause before the next `accept` if the kernel has no descriptor or memory for a connection.
const PAUSE: Duration = Duration::from_millis(200);

/// Descriptors for everything else: standard streams, listener, signals, lookups, checks.
const RESERVED_DESCRIPTORS: usize = 16;

/// The default soft limit of Linux and systemd. It suffices for 64 connections, 512 parked ones and
/// all checks.
const ENOUGH_DESCRIPTORS: u64 = 1024;

type Handler = dyn Fn(&Request, &RequestPeer) -> HandlerResult + Send + Sync;

struct HttpServer {
    listener: TcpListener,
    limits: ServerLimits,
    pool: Mutex<WorkerPool>,
    handler: Box<Handler>,
    /// Each shortage is logged once.
    is_short_of_threads: AtomicBool,
    is_short_of_descriptors: AtomicBool,
}

/// The threads, and the connections that occupy them.
/// Invariant: the table has room for one connection fewer than there are threads. So one thread is
/// free to accept, or becomes free as soon as a displaced connection has ended.
struct WorkerPool {
    table: ConnectionTable<Arc<TcpStream>>,
    started: usize,
    /// Of these, threads in `accept` or on their way to it.
    accepting: usize,
}

/// The entry in the table of the connection that a worker serves.
struct TableRegistration<'s> {
    server: &'s Arc<HttpServer>,
    stream: &'s Arc<TcpStream>,
    peer: IpAddr,
    id: Cell<Option<EntryId>>,
}

/// Serves for ever; returns the error if it cannot begin.
pub fn run<H, R>(listener: TcpListener, handler: H) -> String
where
    H: Fn(&Request, &RequestPeer) -> R + Send + Sync + 'static,
    R: Into<HandlerResult>,
{
    let address = match listener.local_addr() {
        // A dual-stack socket reports IPv4 addresses in IPv6 form.
        Ok(address) => SocketAddr::new(address.ip().to_canonical(), address.port()),
        Err(error) => return format!("cannot read the listening address: {error}"),
    };
    let server = Arc::new(HttpServer {
        listener,
        limits: ServerLimits { connections: most_connections(), ..LIMITS },
        pool: Mutex::new(WorkerPool {
            table: ConnectionTable::new(&LIMITS),
            started: 1,
            accepting: 1,
        }),
        handler: Box::new(move |request: &Request, peer: &RequestPeer| {
            handler(request, peer).into()
        }),
        is_short_of_threads: AtomicBool::new(false),
        is_short_of_descriptors: AtomicBool::new(false),
    });
    for _ in 1..BASE_THREADS {
        server.start_thread();
    }
    info!(address:%; "listening");
    loop {
        server.serve_all(true);
    }
}

/// The most connections that may be parked at a time. Half as many more have a descriptor after
/// that, while their response is sent. Raises a low soft limit on descriptors up to the hard limit.
pub fn most_parked() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < ENOUGH_DESCRIPTORS) {
        let current = Some(limit.maximum.unwrap_or(ENOUGH_DESCRIPTORS).min(ENOUGH_DESCRIPTORS));
        // If this fails, fewer connections are parked.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
    let rest = descriptors() - most_connections();
    (rest - rest.div_ceil(3)).min(LIMITS.parked)
}

/// Each connection has a descriptor, and so has each thread that waits in `accept`. If descriptors
/// are few, parked connections get half of them.
fn most_connections() -> usize {
    descriptors().div_ceil(2).min(LIMITS.connections)
}

fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(usize::MAX, |limit| limit.saturating_sub(RESERVED_DESCRIPTORS).max(1))
}

impl HttpServer {
    /// Serves one connection after the other. Returns if the pool has a thread too many, unless
    /// this thread `stays`.
    fn serve_all(self: &Arc<Self>, stays: bool) {
        let mut buffers = Buffers::default();
        loop {
            let (stream, address) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.handle_accept_error(&error);
                    continue;
                }
            };
            self.serve(&Arc::new(stream), address.ip().to_canonical(), &mut buffers);
            let mut pool = self.pool();
            if pool.accepting >= BASE_THREADS && !stays {
                pool.started -= 1;
                return;
            }
            pool.accepting += 1;
        }
    }

    fn serve(self: &Arc<Self>, stream: &Arc<TcpStream>, peer: IpAddr, buffers: &mut Buffers) {
        let mut pool = self.pool();
        pool.accepting -= 1;
        // If this is the only thread, a connection ends with its first response.
        let is_alone = pool.started == 1;
        drop(pool);
        let registration = TableRegistration { server: self, stream, peer, id: Cell::new(None) };
        let limits = &self.limits;
        HttpConnection::new(stream, peer, &registration, limits, is_alone, buffers)
            .run(&*self.handler);
        registration.deregister();
    }

    /// Counts the thread before it runs, because it may accept a connection at once.
    fn start_thread(self: &Arc<Self>) {
        self.add_threads(1);
        let server = Arc::clone(self);
        if let Err(error) = spawn("worker", STACK, move || server.serve_all(false)) {
            self.add_threads(-1);
            let message = "cannot start a thread: serving fewer connections at a time";
            warn_once(&self.is_short_of_threads, message, &error);
        }
    }

    fn add_threads(&self, threads: isize) {
        let mut pool = self.pool();
        pool.started = pool.started.saturating_add_signed(threads);
        pool.accepting = pool.accepting.saturating_add_signed(threads);
    }

    /// A client that closed before `accept` is no error. Any other error is a shortage of
    /// descriptors or memory. Threads in `accept` already have theirs and continue; this thread
    /// retries later.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for descriptors")]
    fn handle_accept_error(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            return;
        }
        warn_once(&self.is_short_of_descriptors, "cannot accept a connection: retrying", error);
        thread::sleep(PAUSE);
    }

    fn pool(&self) -> MutexGuard<'_, WorkerPool> {
        sync::lock(&self.pool)
    }
}

fn warn_once(is_logged: &AtomicBool, message: &str, error: &dyn Display) {
    if !is_logged.swap(true, Ordering::Relaxed) {
        warn!(error:%; "{message}; logged once");
    }
}

impl Registration for TableRegistration<'_> {
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock of a connection")]
    fn register(&self, is_idle: bool) -> bool {
        let mut pool = self.server.pool();
        if let Some(id) = self.id.get() {
            return pool.table.set_idle(id, is_idle);
        }
        let most = self.server.limits.connections;
        // A new thread accepts in place of this one. If it cannot start, the table gets no more
        // room.
        if pool.accepting == 0 && pool.started <= most {
            drop(pool);
            self.server.start_thread();
            pool = self.server.pool();
        }
        let room = (pool.started - 1).clamp(1, most);
        let id = match pool.table.admit(self.peer, Instant::now(), room, Arc::clone(self.stream)) {
            Admission::Admitted(id) => id,
            Admission::Displaced(id, displaced) => {
                // Wakes the thread that waits for its client; the connection may have ended by
                // itself.
                let _ = displaced.shutdown(Shutdown::Both);
                id
            }
            Admission::Refused => return false,
        };
        self.id.set(Some(id));
        pool.table.set_idle(id, is_idle)
    }

    fn deregister(&self) {
        if let Some(id) = self.id.take() {
            self.server.pool().table.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_suffice_for_all_connections() {
        assert!(descriptors() >= most_connections() + most_parked() + most_parked() / 2);
        assert!(most_connections() >= 1);
    }
}
