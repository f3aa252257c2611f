//! Looks whether an application is ready: at a port of the holder's own address, and nowhere else.
//!
//! A fixed number of threads, whatever the number of leases. Knows how to look; when, and what
//! comes of it, is the book's business.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use log::warn;
use psl::address::Host;
use psl::call::{Caller, Patience};
use psl::url::{HTTP, Url};

use crate::book::Target;
use crate::lease::Id;
use crate::shared::Shared;

/// Two look while two are held up by ports that accept and never answer.
const THREADS: usize = 4;

const STACK: usize = 256 * 1024;

/// A grant waits for its first look no longer than this.
const FIRST: Duration = Duration::from_millis(50);

/// Of these, for the connection; the client library adds 20 ms to what it is given for that.
const FIRST_REACH: Duration = Duration::from_millis(30);

/// A pod on this node is reached in less than a millisecond, or not at all.
const REACH: Duration = Duration::from_millis(250);

/// As the kubelet's probes by default ("Configure Liveness, Readiness and Startup Probes").
const ANSWER: Duration = Duration::from_secs(1);

/// Asks ports.
pub struct Prober {
    caller: Caller,
    shared: Arc<Shared>,
    started: Once,
}

impl Prober {
    /// Ready to look at what this book says. Its threads start when there is something to look at,
    /// which there may be from before a restart.
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
    pub fn new(shared: Arc<Shared>) -> Prober {
        let prober = Prober { caller: Caller::new("lock"), shared, started: Once::new() };
        if prober.shared.with(Instant::now(), |state| state.book.is_watching()) {
            prober.started.call_once(|| prober.start());
        }
        prober
    }

    /// Whether this lease's port tells anything, which it does not where it is open before the
    /// application can run; nothing where it is not to be looked at for the first time.
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock before and after a look")]
    #[inline(never)]
    pub fn first_look(&self, lease: Id) -> Option<bool> {
        let target = self.shared.with(Instant::now(), |state| state.book.first_look(lease))?;
        self.started.call_once(|| self.start());
        let patience = Patience { reach: FIRST_REACH, answer: FIRST, whole: FIRST };
        let is_open = is_open(&self.caller, &target, patience);
        let now = Instant::now();
        Some(self.shared.with(now, |state| state.first_looked(&target, is_open, now)))
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

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock after a look")]
fn run(caller: &Caller, shared: &Shared) -> ! {
    loop {
        let target = shared.next_look();
        let is_open = is_open(caller, &target, Patience { reach: REACH, answer: ANSWER, whole: ANSWER });
        let now = Instant::now();
        shared.with(now, |state| state.looked(&target, is_open, now));
    }
}

/// 2xx, where a path is given; redirects are not followed. Whoever accepts, where none is.
fn is_open(caller: &Caller, target: &Target, patience: Patience) -> bool {
    let port = target.ready.port();
    let Some(path) = target.ready.path() else {
        return TcpStream::connect_timeout(&SocketAddr::new(target.address, port), patience.reach).is_ok();
    };
    let url = Url::root(HTTP, Host::Ip(target.address), port).join(path);
    caller.get(&url, &[], patience).is_ok_and(|reply| (200..300).contains(&reply.status))
}
