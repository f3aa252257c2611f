//! Looks whether an application is ready: at a port of the holder's own address, and nowhere else.
//! A barred address is never probed; the lease then lasts its duration.
//!
//! A fixed number of threads, whatever the number of leases. Knows how to look; when, and what
//! comes of it, is the book's business.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use psl::address::Host;
use psl::call::{Caller, Failure, Patience};
use psl::url::{HTTP, Url};

use crate::barred::barred;
use crate::book::Target;
use crate::lease::{Id, Seen};
use crate::shared::Shared;

/// Two look while two are held up by ports that accept and never answer: see the book.
const THREADS: usize = 4;

const STACK: usize = 256 * 1024;

/// A grant waits for its first look 50 ms at most; the kernel's timers and the thread take the rest.
const FIRST: Duration = Duration::from_millis(40);

/// Of these, for the connection; the client library adds 20 ms to what it is given for that.
const FIRST_REACH: Duration = Duration::from_millis(20);

/// A pod on this node is reached in less than a millisecond, or not at all.
const REACH: Duration = Duration::from_millis(250);

/// As the kubelet's probes by default ("Configure Liveness, Readiness and Startup Probes").
const ANSWER: Duration = Duration::from_secs(1);

/// Asks ports.
pub struct Prober {
    caller: Caller,
    shared: Arc<Shared>,
    /// Known addresses of the node.
    node: Vec<IpAddr>,
    started: Once,
}

impl Prober {
    /// Ready to look at what this book says. Its threads start when there is something to look at,
    /// which there may be from before a restart.
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
    pub fn new(shared: Arc<Shared>, node: Vec<IpAddr>) -> Prober {
        let prober = Prober { caller: Caller::new("lock"), shared, node, started: Once::new() };
        if prober.shared.with(Instant::now(), |state| state.is_watching()) {
            prober.started.call_once(|| prober.start());
        }
        prober
    }

    /// Looks at this lease's port before its application can run, and says what it saw; nothing
    /// where it is not to be looked at for the first time.
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock before and after a look")]
    pub fn first_look(&self, lease: Id) -> Option<Seen> {
        let target = self.shared.with(Instant::now(), |state| state.first_look(lease))?;
        let seen = match barred(target.address, &self.node) {
            Some(why) => Seen::Barred(why),
            None => {
                self.started.call_once(|| self.start());
                let patience = Patience { reach: FIRST_REACH, answer: FIRST, whole: FIRST };
                look_aside(&self.caller, &target, patience)
            }
        };
        let now = Instant::now();
        self.shared.with(now, |state| state.first_looked(&target, seen, now));
        Some(seen)
    }

    /// Where no thread can be had the leases last their durations.
    fn start(&self) {
        for _ in 0..THREADS {
            let (caller, shared) = (self.caller.clone(), Arc::clone(&self.shared));
            let thread = thread::Builder::new().name("prober".to_owned()).stack_size(STACK);
            if let Err(error) = thread.spawn(move || run(&caller, &shared)) {
                warn!(error:%; "cannot start a thread that looks at ports; this is said once for each of {THREADS}");
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock before and after a look")]
fn run(caller: &Caller, shared: &Shared) -> ! {
    loop {
        let target = shared.next_look();
        let begin = Instant::now();
        let seen = look(caller, &target, Patience { reach: REACH, answer: ANSWER, whole: ANSWER });
        let now = Instant::now();
        if shared.with(now, |state| state.looked(&target, seen, now - begin, now)) {
            let (peer, ready) = (target.address, &target.ready);
            info!(peer:%, ready:%; "a port is open before the application can run: the duration alone counts");
        }
    }
}

/// The client library takes more of a stack than those who serve have: it gets one for a while.
fn look_aside(caller: &Caller, target: &Target, patience: Patience) -> Seen {
    if target.ready.path().is_none() {
        return look(caller, target, patience);
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("look".to_owned()).stack_size(STACK);
        let looking = thread.spawn_scoped(scope, || look(caller, target, patience));
        // Where no thread can be had nothing was seen.
        looking.map_or(Seen::Silent, |looking| looking.join().unwrap_or(Seen::Silent))
    })
}

/// 2xx, where a path is given; redirects are not followed. Whoever accepts, where none is.
fn look(caller: &Caller, target: &Target, patience: Patience) -> Seen {
    let port = target.ready.port();
    let Some(path) = target.ready.path() else {
        return match TcpStream::connect_timeout(&SocketAddr::new(target.address, port), patience.reach) {
            Ok(_) => Seen::Open,
            Err(error) if error.kind() == ErrorKind::TimedOut => Seen::Silent,
            Err(_) => Seen::Closed,
        };
    };
    let url = Url::root(HTTP, Host::Ip(target.address), port).join(path);
    match caller.get(&url, &[], patience) {
        Ok(reply) if (200..300).contains(&reply.status) => Seen::Open,
        Err(Failure::NoRoute | Failure::Silent) => Seen::Silent,
        _ => Seen::Closed,
    }
}
