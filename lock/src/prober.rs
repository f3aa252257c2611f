//! Looks whether an application is ready: at a port of the holder's own address, and nowhere else.
//!
//! A fixed number of threads, whatever the number of leases. Knows how to look; when, and what
//! comes of it, is the book's business.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use psl::address::Host;
use psl::call::{Caller, Patience};
use psl::url::{HTTP, Url};

use crate::book::Target;
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
#[derive(Clone)]
pub struct Prober(Caller);

impl Prober {
    /// Ready to look.
    pub fn new() -> Prober {
        Prober(Caller::new("lock"))
    }

    /// Starts the threads that look at what is due.
    pub fn start(&self, shared: &Arc<Shared>) -> Result<(), String> {
        for _ in 0..THREADS {
            let (prober, shared) = (self.clone(), Arc::clone(shared));
            let thread = thread::Builder::new().name("prober".to_owned()).stack_size(STACK);
            thread.spawn(move || prober.run(&shared)).map_err(|e| format!("cannot start a prober's thread: {e}"))?;
        }
        Ok(())
    }

    /// Whether the port is open before the application can run.
    pub fn first_look(&self, target: &Target) -> bool {
        self.is_open(target, Patience { reach: FIRST_REACH, answer: FIRST, whole: FIRST })
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock after a look")]
    fn run(&self, shared: &Shared) -> ! {
        loop {
            let target = shared.next_look();
            let is_open = self.is_open(&target, Patience { reach: REACH, answer: ANSWER, whole: ANSWER });
            let now = Instant::now();
            shared.with(now, |state| state.looked(&target, is_open, now));
        }
    }

    /// 2xx, where a path is given; redirects are not followed. Whoever accepts, where none is.
    fn is_open(&self, target: &Target, patience: Patience) -> bool {
        let port = target.ready.port();
        let Some(path) = target.ready.path() else {
            return TcpStream::connect_timeout(&SocketAddr::new(target.address, port), patience.reach).is_ok();
        };
        let url = Url::root(HTTP, Host::Ip(target.address), port).join(path);
        self.0.get(&url, &[], patience).is_ok_and(|reply| (200..300).contains(&reply.status))
    }
}
