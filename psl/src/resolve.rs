//! Resolves names as glibc does, from `hosts(5)` and `resolv.conf(5)`, each lookup within a
//! timeout.
//!
//! A static program has musl's resolver, which has four faults. It ignores a search line of 256
//! bytes or more. It takes NXDOMAIN for AAAA for the whole result, and also SERVFAIL in one search
//! domain. A lookup cannot be stopped. So this module queries the name servers itself, on the
//! thread of the caller. The files are read for each lookup, because they may change while a
//! container runs.

pub mod conf;
mod exchange;
pub mod hosts;
mod lookup;
pub mod message;
pub mod search;
mod tcp;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::address::Host;
use crate::text::one_line;
use crate::{file, sync};
use conf::ResolvConf;
use lookup::{NameLookup, Progress};

/// With more addresses, each would get too little of the time.
pub const MOST_ADDRESSES: usize = 16;

/// Four times 32 search domains of 2,048 characters each; the rest of the file is ignored.
const LARGEST_CONF: u64 = 256 * 1024;

/// A list of blocked names may have a few megabytes; a file without end has to be cut.
const LARGEST_HOSTS: u64 = 16 * 1024 * 1024;

/// How long an unfinished lookup is stored: longer than init pauses between two attempts, 30 s and
/// a fifth.
const RETENTION: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    name: String,
    reason: String,
}

impl ResolveError {
    pub fn new(name: &str, reason: String) -> ResolveError {
        ResolveError { name: one_line(name), reason }
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name does not resolve: {}: {}", self.name, self.reason)
    }
}

/// The files with names, and the port of the name servers.
#[derive(Clone, Debug)]
struct Sources {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    port: u16,
}

/// A resolver, which shares its unfinished lookups with its clones.
#[derive(Clone)]
pub struct Resolver {
    sources: Arc<Sources>,
    unfinished: Arc<Mutex<HashMap<String, (NameLookup, Instant)>>>,
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

    /// The host's addresses, 1 to [`MOST_ADDRESSES`], before the timeout.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for the name server")]
    pub fn resolve(&self, host: &Host, timeout: Duration) -> Result<Vec<IpAddr>, ResolveError> {
        let name = match host {
            Host::Ip(ip) => return Ok(vec![*ip]),
            // RFC 6761, 6.3: also in an image without /etc/hosts.
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
        let mut progress = lookup.run(start, timeout);
        if !is_new && matches!(progress, Progress::Failed { is_silent: true, .. }) {
            // An earlier attempt has used up the wait; this caller gets a whole one.
            lookup = NameLookup::new(name, lookup.conf);
            progress = lookup.run(start, timeout);
        }
        match progress {
            Progress::Found(found) => Ok(found),
            Progress::Failed { reason, .. } => Err(ResolveError::new(name, reason)),
            Progress::Unfinished(reason) => {
                sync::lock(&self.unfinished).insert(name.clone(), (lookup, start));
                Err(ResolveError::new(name, reason))
            }
        }
    }

    /// The unfinished lookup of this name, unless the files have changed; or a new one.
    fn begin(&self, name: &str, now: Instant) -> (NameLookup, bool) {
        let conf = self.sources.conf();
        let mut unfinished = sync::lock(&self.unfinished);
        unfinished.retain(|_, (_, since)| now.saturating_duration_since(*since) <= RETENTION);
        match unfinished.remove(name) {
            Some((lookup, _)) if lookup.conf == conf => (lookup, false),
            _ => (NameLookup::new(name, conf), true),
        }
    }
}

impl Sources {
    /// The addresses in the hosts file. A file that cannot be read has none, as in glibc.
    fn in_hosts(&self, name: &str) -> Option<Vec<IpAddr>> {
        let file = file::open(&self.hosts).ok()?.take(LARGEST_HOSTS);
        hosts::addresses(file, name).ok().filter(|found| !found.is_empty())
    }

    fn conf(&self) -> ResolvConf {
        let text = read(&self.resolv_conf).unwrap_or_default();
        let hostname = || read(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
        ResolvConf::parse(&text, hostname, interface_index, self.port)
    }
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    file::open(path).ok()?.take(LARGEST_CONF).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 == LARGEST_CONF {
        // The last line may be incomplete.
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0));
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number of a network interface, 0 if no interface has this name.
fn interface_index(interface: &str) -> u32 {
    if interface.contains('/') || interface.starts_with('.') {
        return 0;
    }
    let index = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"));
    index.ok().and_then(|index| index.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests against real servers wait on a real clock")]
mod tests;
