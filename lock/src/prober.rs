//! Probes the `ready` ports of applications, at the holder's own address and nowhere else. A barred
//! address is never probed; the lease then lasts its duration.
//!
//! A fixed number of threads for any number of leases. The scheduler decides when to probe, and what
//! follows.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use psl::address::Host;
use psl::client::url::{HTTP, Url};
use psl::client::{HttpClient, HttpError, Timeouts};
use psl::process;
use psl::protocol::ready::Ready;

use crate::barred::barred;
use crate::core::lease::{ProbeResult, Probed};
use crate::core::outcome::LeaseRequest;
use crate::shared::Shared;

/// Two threads probe while two wait for ports that accept and never answer; see `SLOW_PROBES`.
const THREADS: usize = 4;

const STACK: usize = 256 * 1024;

/// A request waits for its baseline probe 50 ms at most; timers and the thread take the rest.
const BASELINE: Duration = Duration::from_millis(40);

/// Of these, for the connection; the client library adds 20 ms to what it is given for that.
const BASELINE_CONNECT: Duration = Duration::from_millis(20);

/// A pod on this node is reached in less than a millisecond, or not at all.
const REACH: Duration = Duration::from_millis(250);

/// As the kubelet's probes by default ("Configure Liveness, Readiness and Startup Probes").
const ANSWER: Duration = Duration::from_secs(1);

/// Probes ports.
pub struct Prober {
    caller: HttpClient,
    shared: Arc<Shared>,
    /// Known addresses of the node.
    node: Vec<IpAddr>,
    started: Once,
}

impl Prober {
    /// Its threads start with the first port to probe, which may be from before a restart.
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
    pub fn new(shared: Arc<Shared>, node: Vec<IpAddr>) -> Prober {
        let prober = Prober { caller: HttpClient::new("lock"), shared, node, started: Once::new() };
        if prober.shared.with(Instant::now(), |lock| lock.is_watching()) {
            prober.started.call_once(|| prober.start());
        }
        prober
    }

    /// Probes the port of a request before its application can run: a port that is open now belongs
    /// to another process. `None` if the request has no port, or must not wait for a probe.
    ///
    /// Each request with a port passes here before its lease: its address may be barred, and the port
    /// needs the threads, also without a baseline probe.
    pub fn baseline(
        &self,
        request: &LeaseRequest,
        may_probe: impl FnOnce() -> bool,
    ) -> Option<ProbeResult> {
        let ready = request.ready.as_ref()?;
        if let Some(why) = barred(request.address, &self.node) {
            return Some(ProbeResult::Barred(why));
        }
        self.started.call_once(|| self.start());
        if !may_probe() {
            return None;
        }
        let patience = Timeouts { reach: BASELINE_CONNECT, answer: BASELINE, whole: BASELINE };
        Some(probe_aside(&self.caller, request.address, ready, patience))
    }

    /// Without a thread the leases last their durations.
    fn start(&self) {
        for _ in 0..THREADS {
            let (caller, shared) = (self.caller.clone(), Arc::clone(&self.shared));
            if let Err(error) = process::spawn("prober", STACK, move || run(&caller, &shared)) {
                warn!(error:%; "cannot start a thread that probes ports; this is said once for each of {THREADS}");
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge that reads the clock before and after a probe"
)]
fn run(caller: &HttpClient, shared: &Shared) -> ! {
    loop {
        let target = shared.next_probe();
        let begin = Instant::now();
        let patience = Timeouts { reach: REACH, answer: ANSWER, whole: ANSWER };
        let result = probe(caller, target.address, &target.ready, patience);
        let now = Instant::now();
        let probed = shared.with(now, |lock| lock.probed(&target, result, now - begin, now));
        if probed == Probed::TooEarly {
            let (peer, ready) = (target.address, &target.ready);
            info!(peer:%, ready:%; "a port is open before the application can run: the duration alone counts");
        }
    }
}

/// The client library needs a larger stack than a worker's: it gets a thread for this probe.
fn probe_aside(
    caller: &HttpClient,
    address: IpAddr,
    ready: &Ready,
    patience: Timeouts,
) -> ProbeResult {
    if ready.path().is_none() {
        return probe(caller, address, ready, patience);
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("baseline".to_owned()).stack_size(STACK);
        let probing = thread.spawn_scoped(scope, || probe(caller, address, ready, patience));
        // Without a thread there is no result.
        let silent = ProbeResult::Silent;
        probing.map_or(silent, |probing| probing.join().unwrap_or(silent))
    })
}

/// With a path a port is open if it answers 2xx, and redirects are not followed; without, if it accepts.
fn probe(caller: &HttpClient, address: IpAddr, ready: &Ready, patience: Timeouts) -> ProbeResult {
    let port = ready.port();
    let Some(path) = ready.path() else {
        let address = SocketAddr::new(address, port);
        return match TcpStream::connect_timeout(&address, patience.reach) {
            Ok(_) => ProbeResult::Open,
            Err(error) if error.kind() == ErrorKind::TimedOut => ProbeResult::Silent,
            Err(_) => ProbeResult::Closed,
        };
    };
    let url = Url::root(HTTP, Host::Ip(address), port).join(path);
    match caller.get(&url, &[], patience) {
        Ok(reply) if (200..300).contains(&reply.status) => ProbeResult::Open,
        Err(HttpError::NoRoute | HttpError::Silent) => ProbeResult::Silent,
        _ => ProbeResult::Closed,
    }
}
