//! Probes the `ready` ports of applications, at the holder's own address and nowhere else. A barred
//! address is never probed; the lease then lasts its full duration.
//!
//! A fixed number of threads for any number of leases. The scheduler decides when to probe, and the
//! consequences.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use psl::address::Host;
use psl::client::url::{HTTP, Url};
use psl::client::{HttpClient, HttpError, Timeouts};
use psl::protocol::ready::Ready;
use psl::thread::spawn;

use crate::barred::bar_reason;
use crate::core::lease::{ProbeEffect, ProbeResult};
use crate::core::outcome::LeaseRequest;
use crate::shared::Shared;

/// Two threads probe while two wait for ports that accept and never answer; see `SLOW_PROBES`.
const THREADS: usize = 4;

const STACK: usize = 256 * 1024;

/// A request waits for its baseline probe 50 ms at most; timers and the thread take the rest. The
/// client library adds 20 ms to its time for the connection.
const BASELINE: Timeouts = Timeouts {
    reach: Duration::from_millis(20),
    answer: Duration::from_millis(40),
    whole: Duration::from_millis(40),
};

/// A pod on this node is reached in less than a millisecond, or not at all. The time for the answer
/// is that of the kubelet's probes by default ("Configure Liveness, Readiness and Startup Probes").
const PROBE: Timeouts = Timeouts {
    reach: Duration::from_millis(250),
    answer: Duration::from_secs(1),
    whole: Duration::from_secs(1),
};

pub struct Prober {
    client: HttpClient,
    shared: Arc<Shared>,
    /// Known addresses of the node.
    node: Vec<IpAddr>,
    started: Once,
}

impl Prober {
    /// Its threads start with the first port to probe, which may be from before a restart.
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
    pub fn new(shared: Arc<Shared>, node: Vec<IpAddr>) -> Prober {
        let prober = Prober { client: HttpClient::new("lock"), shared, node, started: Once::new() };
        if prober.shared.with(Instant::now(), |lock| lock.is_watching()) {
            prober.started.call_once(|| prober.start());
        }
        prober
    }

    /// Probes the port of a request before its application can run: a port that is open now belongs
    /// to another process. `None` if the request has no port, or must not wait for a probe.
    ///
    /// Each request with a port passes here before its lease: its address may be barred, and the
    /// port needs the threads, also without a baseline probe.
    pub fn baseline(
        &self,
        request: &LeaseRequest,
        may_probe: impl FnOnce() -> bool,
    ) -> Option<ProbeResult> {
        let ready = request.ready.as_ref()?;
        if let Some(reason) = bar_reason(request.address, &self.node) {
            return Some(ProbeResult::Barred(reason));
        }
        self.started.call_once(|| self.start());
        may_probe().then(|| probe_aside(&self.client, request.address, ready))
    }

    /// Without a thread the leases last their full durations.
    fn start(&self) {
        for _ in 0..THREADS {
            let (client, shared) = (self.client.clone(), Arc::clone(&self.shared));
            if let Err(error) = spawn("prober", STACK, move || run(&client, &shared)) {
                warn!(error:%; "cannot start one of {THREADS} threads that probe ready ports");
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge that reads the clock before and after a probe"
)]
fn run(client: &HttpClient, shared: &Shared) -> ! {
    loop {
        let target = shared.next_probe();
        let (peer, ready) = (target.address, &target.ready);
        let begin = Instant::now();
        let result = probe(client, peer, ready, PROBE);
        let now = Instant::now();
        let effect = shared.with(now, |lock| lock.finish_probe(&target, result, now - begin, now));
        if effect == ProbeEffect::PortIgnored {
            info!(
                peer:%, ready:%;
                "port open before the application can run: the lease lasts its full duration"
            );
        }
    }
}

/// A baseline probe. The client library needs a larger stack than a worker's, so a probe with a
/// path gets a thread.
fn probe_aside(client: &HttpClient, address: IpAddr, ready: &Ready) -> ProbeResult {
    if ready.path().is_none() {
        return probe(client, address, ready, BASELINE);
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("baseline".to_owned()).stack_size(STACK);
        let probing = thread.spawn_scoped(scope, || probe(client, address, ready, BASELINE));
        // Without a thread there is no result.
        let silent = ProbeResult::Silent;
        probing.map_or(silent, |probing| probing.join().unwrap_or(silent))
    })
}

/// A port with a path is open if it answers 2xx, and redirects are not followed. A port without a
/// path is open if it accepts.
fn probe(client: &HttpClient, address: IpAddr, ready: &Ready, timeouts: Timeouts) -> ProbeResult {
    let port = ready.port();
    let Some(path) = ready.path() else {
        let address = SocketAddr::new(address, port);
        return match TcpStream::connect_timeout(&address, timeouts.reach) {
            Ok(_) => ProbeResult::Open,
            Err(error) if error.kind() == ErrorKind::TimedOut => ProbeResult::Silent,
            Err(_) => ProbeResult::Closed,
        };
    };
    let url = Url::root(HTTP, Host::Ip(address), port).join(path);
    match client.get(&url, &[], timeouts) {
        Ok(response) if (200..300).contains(&response.status) => ProbeResult::Open,
        Err(HttpError::Unreachable | HttpError::Timeout) => ProbeResult::Silent,
        _ => ProbeResult::Closed,
    }
}
