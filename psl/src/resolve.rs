//! Name look-ups that end when their time is up, and do not pile up.
//!
//! The C library's resolver blocks for as long as a silent name server makes it (5 s and more for
//! each), and cannot be stopped. So a look-up runs in a thread of its own with a small stack, and
//! whoever asks for the same name meanwhile waits for the same thread: there is at most one for
//! each name. An answer that comes when nobody waits any more is kept for the next who asks;
//! otherwise a name that takes longer than one attempt would never resolve.
//! Does not know what the addresses are for.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::address::{Host, canonical};

/// musl's resolver keeps two answers of 4.8 kB and its queries on the stack; this is four times
/// what a look-up with six search domains was seen to touch.
const STACK: usize = 128 * 1024;

/// How long an answer that nobody waited for is still good: longer than the longest pause between two attempts of init, which is 30 s and a fifth of that.
const KEPT: Duration = Duration::from_secs(60);

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The resolver says no.
    NotFound(String),
    /// No answer in time.
    TimedOut(String),
    /// No thread could be had for the look-up.
    NoThread(String),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unresolved::NotFound(name) => write!(f, "the name {name} does not resolve"),
            Unresolved::TimedOut(name) => write!(f, "no answer in time from the name server for {name}"),
            Unresolved::NoThread(name) => write!(f, "no thread to look up the name {name}"),
        }
    }
}

type Answer = Result<Vec<IpAddr>, ()>;
type Lookup = fn(&str) -> Answer;

/// The look-ups under way and the answers that nobody waited for.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    names: Mutex<HashMap<String, Arc<Pending>>>,
    answered: Condvar,
    lookup: Lookup,
}

/// One look-up: its answer and when that came. All who wait for it share it.
type Pending = OnceLock<(Answer, Instant)>;

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver::with(system_lookup)
    }
}

impl Resolver {
    fn with(lookup: Lookup) -> Resolver {
        Resolver { shared: Arc::new(Shared { names: Mutex::new(HashMap::new()), answered: Condvar::new(), lookup }) }
    }

    /// The host's addresses, at least one, after `patience` at the latest.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for the name server")]
    pub fn resolve(&self, host: &Host, patience: Duration) -> Result<Vec<IpAddr>, Unresolved> {
        let name = match host {
            Host::Ip(ip) => return Ok(vec![*ip]),
            // RFC 6761, 6.3: this name is the loopback's, also in an image without /etc/hosts.
            Host::Name(_) if host.is_localhost() => {
                return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            }
            Host::Name(name) => name,
        };
        let start = Instant::now();
        let mut names = self.shared.lock();
        names.retain(|_, pending| pending.get().is_none_or(|(_, at)| start.saturating_duration_since(*at) <= KEPT));
        let pending = match names.get(name) {
            Some(pending) => Arc::clone(pending),
            None => {
                let pending = Arc::new(Pending::new());
                self.begin(name, &pending)?;
                names.insert(name.clone(), Arc::clone(&pending));
                pending
            }
        };
        loop {
            let left = patience.saturating_sub(start.elapsed());
            if let Some((answer, _)) = pending.get() {
                // Another waiter may have taken it away, and a third begun anew.
                if names.get(name).is_some_and(|current| Arc::ptr_eq(current, &pending)) {
                    names.remove(name);
                }
                return answer.clone().map_err(|()| Unresolved::NotFound(name.clone()));
            }
            if left.is_zero() {
                return Err(Unresolved::TimedOut(name.clone()));
            }
            names = self.shared.answered.wait_timeout(names, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn begin(&self, name: &str, pending: &Arc<Pending>) -> Result<(), Unresolved> {
        let (shared, pending, owned) = (Arc::clone(&self.shared), Arc::clone(pending), name.to_owned());
        let work = move || shared.run(&owned, &pending);
        let thread = thread::Builder::new().name("look-up".to_owned()).stack_size(STACK).spawn(work);
        thread.map(drop).map_err(|_| Unresolved::NoThread(name.to_owned()))
    }
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "the edge that notes when an answer came")]
    fn run(&self, name: &str, pending: &Pending) {
        let answer = (self.lookup)(name);
        let _names = self.lock();
        // Only this thread ever sets it, so it cannot be set already.
        let _ = pending.set((answer, Instant::now()));
        self.answered.notify_all();
    }

    /// No code that holds this lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Pending>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn system_lookup(name: &str) -> Answer {
    let mut found: Vec<IpAddr> = (name, 0).to_socket_addrs().map_err(|_| ())?.map(|a| canonical(a.ip())).collect();
    found.dedup();
    if found.is_empty() { Err(()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    const GENEROUS: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(20);

    fn host(name: &str) -> Host {
        Host::Name(name.to_owned())
    }

    #[test]
    fn addresses_and_localhost_need_no_name_server() {
        let resolver = Resolver::with(|_| panic!("asked"));
        let ip: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
        assert_eq!(resolver.resolve(&Host::Ip(ip), Duration::ZERO), Ok(vec![ip]));
        assert_eq!(resolver.resolve(&host("LocalHost."), Duration::ZERO).map(|a| a.len()), Ok(2));
    }

    #[test]
    fn a_silent_name_server_costs_one_thread_and_its_late_answer_counts() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        static GO: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);
        let (go, wait) = mpsc::channel();
        *GO.lock().unwrap() = Some(wait);
        let resolver = Resolver::with(|_| {
            CALLS.fetch_add(1, Ordering::SeqCst);
            GO.lock().unwrap().as_ref().unwrap().recv().unwrap();
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        });
        for _ in 0..5 {
            assert_eq!(resolver.resolve(&host("slow"), SHORT), Err(Unresolved::TimedOut("slow".to_owned())));
        }
        go.send(()).unwrap();
        assert_eq!(resolver.resolve(&host("slow"), GENEROUS), Ok(vec![Ipv4Addr::LOCALHOST.into()]));
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
        assert!(resolver.shared.lock().is_empty());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "stands for a slow name server")]
    fn all_who_wait_share_one_answer() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::with(|_| {
            CALLS.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(200));
            Err(())
        });
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let resolver = resolver.clone();
                thread::spawn(move || resolver.resolve(&host("no"), GENEROUS))
            })
            .collect();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(Unresolved::NotFound("no".to_owned())));
        }
        assert!(
            CALLS.load(Ordering::SeqCst) <= 4,
            "a late starter may begin a second look-up, never more than the askers"
        );
    }
}
