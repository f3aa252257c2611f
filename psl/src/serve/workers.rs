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
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tiny_http::Method;

use super::answer::Reply;
use super::client::{Client, Holding, gone};
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

/// Descriptors that are left to everything else: standard streams, listener, signals, look-ups, checks.
const RESERVED: usize = 16;

/// Four nodes' worth of pods. A parked connection costs a descriptor and some 2 KiB of the kernel's memory.
const MOST_PARKED: usize = 512;

struct Server<H> {
    listener: TcpListener,
    limits: Limits,
    crew: Mutex<Crew>,
    handler: H,
    /// Each shortage is told once.
    is_short_of_threads: AtomicBool,
    is_short_of_descriptors: AtomicBool,
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

impl Crew {
    /// Takes the connections of this address out that their clients have closed, and says whether there were any. Their
    /// threads may learn of it only after the client has opened its next connection.
    fn drop_gone(&mut self, address: IpAddr) -> bool {
        let open: Vec<_> = self.table.open(address).map(|(id, stream)| (id, Arc::clone(stream))).collect();
        let gone = gone(&open.iter().map(|(_, stream)| stream.as_ref()).collect::<Vec<_>>());
        for ((id, stream), _) in open.iter().zip(&gone).filter(|(_, is_gone)| **is_gone) {
            // Its thread must stop waiting, also for a client that does not read; it may have ended just now.
            let _ = stream.shutdown(Shutdown::Both);
            self.table.leave(*id);
        }
        gone.contains(&true)
    }

    /// Takes out a connection of this address whose last answer was written: its client may go on to the next one before
    /// it closes this one.
    fn drop_over(&mut self, address: IpAddr) -> bool {
        // Wakes the thread that waits for the client's reaction.
        self.table.take_over(address).map(|stream| stream.shutdown(Shutdown::Both)).is_some()
    }
}

/// Serves for ever; what it returns is why it could not begin.
pub fn run<H, R>(listener: TcpListener, handler: H) -> String
where
    H: Fn(&Request, &Client) -> R + Send + Sync + 'static,
    R: Into<Reply>,
{
    let handler = move |request: &Request, client: &Client| handler(request, client).into();
    let address = match listener.local_addr() {
        Ok(address) => canonical_socket(address),
        Err(error) => return format!("cannot tell the listening address: {error}"),
    };
    let limits = Limits { connections: connections(), ..LIMITS };
    let server = Arc::new(Server {
        listener,
        limits,
        crew: Mutex::new(Crew { table: Table::new(&LIMITS), started: 1, waiting: 1 }),
        handler,
        is_short_of_threads: AtomicBool::new(false),
        is_short_of_descriptors: AtomicBool::new(false),
    });
    for _ in 1..FIRST {
        if let Err(error) = server.start_thread() {
            server.warn_once(&server.is_short_of_threads, "cannot start a thread: fewer connections at a time", &error);
        }
    }
    info!(address:%; "listening");
    server.work()
}

/// Connections that may be parked at a time, apart from those of the server. Raises the soft limit on descriptors, if the
/// hard limit permits it: container runtimes set soft limits from 1,024 up, but a unit of systemd may have less.
pub fn most_parked() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let needed = Some((RESERVED + LIMITS.connections + MOST_PARKED) as u64);
    if limit.current.is_some_and(|current| Some(current) < needed) {
        let current = limit.maximum.min(needed).or(needed);
        // Without more of them fewer connections are parked.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
    (descriptors() - connections()).min(MOST_PARKED)
}

/// Each connection holds a descriptor, and so does each thread that waits in `accept`.
fn connections() -> usize {
    descriptors().div_ceil(2).min(LIMITS.connections)
}

/// Descriptors for connections; at least one.
fn descriptors() -> usize {
    let limit =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    limit.saturating_sub(RESERVED).max(1)
}

impl<H> Server<H>
where
    H: Fn(&Request, &Client) -> Reply + Send + Sync + 'static,
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
            let on_sending = |sending| {
                let mut crew = self.crew();
                let room = self.room(&crew);
                crew.table.set_sending(id, sending, room)
            };
            // Where there is no other thread nobody may keep this one to himself.
            let is_alone = self.crew().started == 1;
            let handler = |request: &Request, has_more| {
                let without_body = request.method == Method::Head;
                (self.handler)(request, &Client { stream: &stream, server: self.as_ref(), id, has_more, without_body })
            };
            Conversation::new(&stream, peer, &self.limits, is_alone).run(on_request, on_sending, handler);
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
            self.warn_once(&self.is_short_of_threads, "cannot start a thread: fewer connections at a time", &error);
        }
    }

    /// Nothing where the newcomer is turned away: closing its socket is all that it costs.
    fn admit(&self, stream: &Arc<TcpStream>, peer: IpAddr, now: Instant) -> Option<Id> {
        let mut crew = self.crew();
        let room = self.room(&crew);
        let mut admission = crew.table.admit(peer, now, room, Arc::clone(stream));
        if matches!(admission, Admission::Refused) && (crew.drop_gone(peer) || crew.drop_over(peer)) {
            admission = crew.table.admit(peer, now, room, Arc::clone(stream));
        }
        match admission {
            Admission::Admitted(id) => Some(id),
            Admission::Displaced(id, victim) => {
                // Wakes the thread that reads from it or writes to it; it may have ended just now.
                let _ = victim.shutdown(Shutdown::Both);
                Some(id)
            }
            Admission::Refused => None,
        }
    }

    /// For one connection fewer than there are threads.
    fn room(&self, crew: &Crew) -> usize {
        (crew.started - 1).clamp(1, self.limits.connections)
    }

    /// As many as the limits say, and where there are few threads or descriptors still no more than
    /// five connections in eight: the others are left to those who are answered at once.
    fn most_held(&self, crew: &Crew) -> usize {
        let threads = match self.is_short_of_threads.load(Ordering::Relaxed) {
            true => crew.started - 1,
            false => usize::MAX,
        };
        self.limits.held.min(self.limits.connections.min(threads) * 5 / 8)
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
        self.warn_once(&self.is_short_of_descriptors, "cannot accept a connection: trying again", error);
        thread::sleep(PAUSE);
    }

    fn warn_once(&self, told: &AtomicBool, what: &str, error: &io::Error) {
        if !told.swap(true, Ordering::Relaxed) {
            warn!(error:%; "{what}; this is said once");
        }
    }

    /// No code that holds this lock can panic half-way through a change.
    fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H> Holding for Server<H>
where
    H: Fn(&Request, &Client) -> Reply + Send + Sync + 'static,
{
    fn hold(&self, id: Id) -> bool {
        let mut crew = self.crew();
        let most = self.most_held(&crew);
        crew.table.hold(id, most)
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock for each connection")]
    fn let_go(&self, id: Id) {
        self.crew().table.let_go(id, Instant::now());
    }

    fn park(&self, id: Id) {
        self.crew().table.leave(id);
    }
}
