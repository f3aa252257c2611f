//! Names to addresses, as glibc does it by `hosts(5)` and `resolv.conf(5)`, each look-up within its caller's time.
//!
//! musl's resolver, which a static program has, ignores a search line of 256 bytes or more. It takes NXDOMAIN for
//! AAAA, or SERVFAIL in one search domain, for the whole answer, and a look-up cannot be stopped. This module
//! therefore asks the name servers itself, on the thread of the caller. It reads the files for each look-up, because they
//! may change while a container runs.
//! Does not know what the addresses are for.

pub mod conf;
mod exchange;
pub mod hosts;
mod lookup;
pub mod message;
pub mod search;
mod tcp;

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::address::Host;
use crate::sync;
use crate::text::one_line;
use conf::Conf;
use lookup::{Lookup, Progress};

/// With more addresses, each would get too little of the time.
pub const MOST_ADDRESSES: usize = 16;

/// Four times 32 search domains of 2,048 characters each. The rest of a longer file is not read.
const LARGEST_CONF: u64 = 256 * 1024;

/// A list of blocked names may have a few megabytes; a file without end has to be cut.
const LARGEST_HOSTS: u64 = 16 * 1024 * 1024;

/// How long an unfinished look-up is kept: longer than the longest pause between two attempts of init, which is 30 s and a fifth of that.
const KEPT: Duration = Duration::from_secs(60);

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    name: String,
    reason: String,
}

impl ResolveError {
    /// An error about this name, with this reason.
    pub fn new(name: &str, reason: String) -> ResolveError {
        ResolveError { name: one_line(name), reason }
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name does not resolve: {}: {}", self.name, self.reason)
    }
}

/// The files and the port that names come from.
#[derive(Clone, Debug)]
struct Sources {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    /// Of the name servers.
    port: u16,
}

/// Looks names up. Its copies share the look-ups that were left unfinished.
#[derive(Clone)]
pub struct Resolver {
    sources: Arc<Sources>,
    unfinished: Arc<Mutex<HashMap<String, (Lookup, Instant)>>>,
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver::of(Sources {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            port: 53,
        })
    }
}

impl Resolver {
    fn of(sources: Sources) -> Resolver {
        Resolver { sources: Arc::new(sources), unfinished: Arc::default() }
    }

    /// The host's addresses, 1 to [`MOST_ADDRESSES`], after `patience` at the latest.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for the name server")]
    pub fn resolve(&self, host: &Host, patience: Duration) -> Result<Vec<IpAddr>, ResolveError> {
        let name = match host {
            Host::Ip(ip) => return Ok(vec![*ip]),
            // RFC 6761, 6.3: this name is the loopback's, also in an image without /etc/hosts.
            Host::Name(_) if host.is_localhost() => {
                return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            }
            Host::Name(name) => name,
        };
        let start = Instant::now();
        if !search::is_name(name) {
            return Err(ResolveError::new(name, "not a valid DNS name".to_owned()));
        }
        if let Some(found) = self.sources.in_hosts(name) {
            return Ok(found);
        }
        let (mut lookup, is_new) = self.begin(name, start);
        let mut progress = lookup.run(start, patience);
        if !is_new && matches!(progress, Progress::Missing(_, true)) {
            // An earlier attempt waited for this silence; this caller gets a whole wait of its own.
            lookup = Lookup::new(name, lookup.conf);
            progress = lookup.run(start, patience);
        }
        match progress {
            Progress::Found(found) => Ok(found),
            Progress::Missing(reason, _) => Err(ResolveError::new(name, reason)),
            Progress::Unfinished(reason) => {
                self.lock().insert(name.clone(), (lookup, start));
                Err(ResolveError::new(name, reason))
            }
        }
    }

    /// The look-up of this name that was left unfinished, unless the files have changed; or a new one.
    fn begin(&self, name: &str, now: Instant) -> (Lookup, bool) {
        let conf = self.sources.conf();
        let mut unfinished = self.lock();
        unfinished.retain(|_, (_, left_at)| now.saturating_duration_since(*left_at) <= KEPT);
        match unfinished.remove(name) {
            Some((lookup, _)) if lookup.conf == conf => (lookup, false),
            _ => (Lookup::new(name, conf), true),
        }
    }

    /// No code that holds this lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Lookup, Instant)>> {
        sync::lock(&self.unfinished)
    }
}

impl Sources {
    /// The addresses of the hosts file. A file that cannot be read has none, as in glibc.
    fn in_hosts(&self, name: &str) -> Option<Vec<IpAddr>> {
        let file = open(&self.hosts)?.take(LARGEST_HOSTS);
        hosts::addresses(file, name).ok().filter(|found| !found.is_empty())
    }

    fn conf(&self) -> Conf {
        let read = |path: &Path| {
            let mut bytes = Vec::new();
            open(path)?.take(LARGEST_CONF).read_to_end(&mut bytes).ok()?;
            if bytes.len() as u64 == LARGEST_CONF {
                // The last line may be half a line.
                bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0));
            }
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let hostname = || read(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
        Conf::parse(&read(&self.resolv_conf).unwrap_or_default(), hostname, scope, self.port)
    }
}

/// Opens regular files only: opening a pipe may take for ever.
fn open(path: &Path) -> Option<File> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    File::open(path).ok()
}

/// The number of a network interface, 0 if no interface has this name.
fn scope(interface: &str) -> u32 {
    let is_plain = !interface.contains('/') && !interface.starts_with('.');
    let number = || {
        fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).ok()?.trim().parse().ok()
    };
    is_plain.then(number).flatten().unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests against real servers wait on a real clock")]
mod tests;
