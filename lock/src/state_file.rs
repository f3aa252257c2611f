//! The state file: leases and queue on disk, so that they outlive the process.
//!
//! One JSON file, replaced by a rename: a process that is killed at any moment leaves the old file
//! or the new one. It is not synced to the disk, because it has to outlive the process and not the
//! machine. Knows the form of the file; [`crate::shared`] decides when to write it, and
//! [`crate::core::scheduler`] knows leases and waiters.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use psl::protocol::holder;
use psl::protocol::ready::Ready;
use psl::thread::spawn;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::barred::bar_reason;
use crate::config::Rules;
use crate::core::lease::{Lease, LeaseId, PortWatch, WatchState};
use crate::core::scheduler::Scheduler;
use crate::core::time::after;
use crate::file::read;
use crate::json::quoted_len;
use crate::shared::Shared;

const VERSION: u64 = 1;

/// Two files of this size, because one replaces the other, fit into a volume of 1 MiB.
const LARGEST: usize = 480 * 1024;

/// The most bytes of a lease and of a waiter besides their texts: keys, an IPv6 address, numbers.
const LEASE_BYTES: usize = 160;
const WAITER_BYTES: usize = 100;

/// Serialising the state was measured to touch 8 KiB.
const STACK: usize = 64 * 1024;

/// The kernel's identifier of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub struct StateFile {
    path: PathBuf,
    boot: String,
}

/// The content of the file. Times are nanoseconds of the clock that counts from the boot, sleep
/// included, and is never set (clock_gettime(2), `CLOCK_BOOTTIME`).
#[derive(Serialize, Deserialize)]
struct StoredState<'a> {
    version: u64,
    boot: &'a str,
    #[serde(borrow)]
    leases: Vec<StoredLease<'a>>,
    #[serde(borrow)]
    queue: Vec<StoredWaiter<'a>>,
}

/// The readable part of a file of any version.
#[derive(Deserialize)]
struct StoredVersion {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredLease<'a> {
    #[serde(borrow)]
    holder: Option<Cow<'a, str>>,
    address: IpAddr,
    since: u64,
    deadline: u64,
    ready: Option<String>,
    #[serde(rename = "look")]
    baseline: Option<StoredBaseline>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredBaseline {
    /// Of an earlier version: the port was not probed yet.
    First,
    Open,
    Watched,
}

#[derive(Serialize, Deserialize)]
struct StoredWaiter<'a> {
    #[serde(borrow)]
    holder: Cow<'a, str>,
    address: IpAddr,
    since: u64,
}

/// Both clocks at nearly the same moment, to go from one to the other. One is read before and after
/// the other, so that a pause in between never makes a deadline later than it was.
#[derive(Clone, Copy)]
struct Clocks {
    before: Instant,
    boot: Duration,
    after: Instant,
}

/// A copy of the state, which is serialised without the mutex.
struct Snapshot {
    leases: Vec<Lease>,
    waiters: Vec<(Arc<str>, IpAddr, Instant)>,
}

/// The bytes that are left for entries of the file.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

impl StateFile {
    pub fn new(path: PathBuf) -> StateFile {
        StateFile::of_boot(path, fs::read_to_string(BOOT_ID).unwrap_or_default().trim())
    }

    /// The state file of this boot.
    pub fn of_boot(path: PathBuf, boot: &str) -> StateFile {
        StateFile { path, boot: boot.to_owned() }
    }

    /// Restores the state of an earlier process of this boot, and logs the result.
    pub fn restore(&self, scheduler: &mut Scheduler, rules: &Rules) {
        let file = self.path.display();
        // A larger file is not the state of a lock.
        let text = match read(&self.path, 2 * LARGEST as u64) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return info!(file:%; "no state file yet: starting empty");
            }
            Err(error) => {
                return warn!(file:%, error:%; "cannot read the state file: starting empty");
            }
        };
        if let Err(reason) = self.restore_text(&text, scheduler, rules) {
            return warn!(file:%, reason = reason.as_str(); "state file not used: starting empty");
        }
        let (leases, slots) = (scheduler.leases().len(), scheduler.slots());
        let places = scheduler.queue().waiters().len();
        info!(file:%, leases, places; "state restored");
        if leases > slots {
            let over = leases - slots + 1;
            warn!(
                file:%, leases, slots;
                "more leases restored than slots: no start until {over} of them have ended"
            );
        }
    }

    /// Restores the state in this text; the error says why the text is not used.
    pub fn restore_text(
        &self,
        text: &str,
        scheduler: &mut Scheduler,
        rules: &Rules,
    ) -> Result<(), String> {
        let stored = self.parse(text)?;
        restore(&stored, Clocks::now(), scheduler, rules);
        Ok(())
    }

    /// The content of the file for this state.
    pub fn content(&self, scheduler: &Scheduler) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.serialise(&Snapshot::of(scheduler), Clocks::now(), &mut bytes);
        bytes
    }

    /// Starts the thread that writes each change.
    pub fn start(self, shared: Arc<Shared>) -> Result<(), String> {
        spawn("state-file", STACK, move || self.run(&shared))
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that rests between two writes")]
    fn run(&self, shared: &Shared) -> ! {
        let mut bytes = Vec::new();
        let mut reported = String::new();
        loop {
            let (snapshot, version) = shared.next_snapshot(|lock| Snapshot::of(lock.scheduler()));
            let begin = Instant::now();
            let is_complete = self.serialise(&snapshot, Clocks::now(), &mut bytes);
            let problem = match self.replace(&bytes) {
                Err(error) => format!("cannot write the file: {error}"),
                Ok(()) if is_complete => String::new(),
                Ok(()) => format!("larger than {LARGEST} bytes: the rest is left out"),
            };
            shared.finish_write(version, Instant::now());
            if problem != reported {
                self.report(&problem);
                reported = problem;
            }
            // At most a third of a core goes into this, however fast clients come and go.
            thread::sleep(begin.elapsed() * 2);
        }
    }

    fn report(&self, problem: &str) {
        let file = self.path.display();
        match problem {
            "" => info!(file:%; "state file is complete again"),
            reason => {
                warn!(
                    file:%, reason;
                    "state file is incomplete: a restart may let too many pods start"
                );
            }
        }
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let new = Path::new(&name);
        fs::write(new, bytes)?;
        fs::rename(new, &self.path)
    }

    /// Writes the state as bytes. Returns whether everything had room.
    fn serialise(&self, snapshot: &Snapshot, clocks: Clocks, bytes: &mut Vec<u8>) -> bool {
        let mut room = Room(LARGEST);
        let leases: Vec<_> = snapshot
            .leases
            .iter()
            .filter_map(|lease| stored_lease(lease, clocks, &mut room))
            .collect();
        let mut queue = Vec::new();
        for (holder, address, since) in &snapshot.waiters {
            if room.take(WAITER_BYTES + quoted_len(Some(holder))) {
                let since = clocks.to_boot(*since);
                queue.push(StoredWaiter { holder: (&**holder).into(), address: *address, since });
            }
        }
        let is_complete =
            leases.len() == snapshot.leases.len() && queue.len() == snapshot.waiters.len();
        bytes.clear();
        let stored = StoredState { version: VERSION, boot: &self.boot, leases, queue };
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(bytes, &stored);
        is_complete
    }

    fn parse<'t>(&self, text: &'t str) -> Result<StoredState<'t>, String> {
        let error = |e| format!("truncated, or not a state file: {e}");
        let StoredVersion { version } = serde_json::from_str(text).map_err(error)?;
        if version != VERSION {
            return Err(format!(
                "file has version {version}, this program reads version {VERSION}"
            ));
        }
        let stored: StoredState = serde_json::from_str(text).map_err(error)?;
        // Without the identifier of the boot, a file of another boot would look the same.
        if stored.boot != self.boot || self.boot.is_empty() {
            return Err("written before the last reboot of the node".to_owned());
        }
        Ok(stored)
    }
}

impl Snapshot {
    fn of(scheduler: &Scheduler) -> Snapshot {
        let mut waiters = Vec::new();
        for waiter in scheduler.queue().waiters() {
            waiters.push((Arc::clone(&waiter.holder), waiter.address, waiter.arrival.since));
        }
        Snapshot { leases: scheduler.leases().iter().cloned().collect(), waiters }
    }
}

/// `None` if the lease has no room in the file.
fn stored_lease<'a>(lease: &'a Lease, clocks: Clocks, room: &mut Room) -> Option<StoredLease<'a>> {
    let holder = lease.holder.as_deref();
    let ready = lease.watch.as_ref().map(|watch| watch.ready.to_request());
    let baseline = lease.watch.as_ref().map(|watch| match watch.state {
        WatchState::Ignored => StoredBaseline::Open,
        WatchState::DueAt(_) | WatchState::Probing => StoredBaseline::Watched,
    });
    let has_room = room.take(LEASE_BYTES + quoted_len(holder) + quoted_len(ready.as_deref()));
    has_room.then(|| StoredLease {
        holder: holder.map(Into::into),
        address: lease.address,
        since: clocks.to_boot(lease.since),
        deadline: clocks.to_boot(lease.deadline),
        ready,
        baseline,
    })
}

fn restore(stored: &StoredState, clocks: Clocks, scheduler: &mut Scheduler, rules: &Rules) {
    let now = clocks.before;
    // In the order of their grants.
    let mut leases: Vec<_> = stored.leases.iter().collect();
    leases.sort_by_key(|lease| lease.since);
    for lease in leases {
        if let Some(lease) = restored_lease(lease, clocks, rules) {
            scheduler.restore_lease(lease, now);
        }
    }
    for waiter in &stored.queue {
        let since = clocks.to_instant(waiter.since).unwrap_or(now).min(now);
        if let Ok(holder) = holder::parse(&waiter.holder) {
            scheduler.restore_waiter(holder.into(), waiter.address, since, now);
        }
    }
}

/// A lease ends `--max-duration` after its grant at the latest, also if the file or an earlier
/// setting has a later end. `None` if it is not valid.
fn restored_lease(stored: &StoredLease, clocks: Clocks, rules: &Rules) -> Option<Lease> {
    let (now, address) = (clocks.before, stored.address);
    let since = clocks.to_instant(stored.since).unwrap_or(now).min(now);
    let deadline = clocks.to_instant(stored.deadline)?.min(after(since, rules.longest));
    let holder = match stored.holder.as_deref() {
        Some(holder) => Some(holder::parse(holder).ok()?.into()),
        None => None,
    };
    let ready = stored.ready.as_deref().and_then(|ready| Ready::parse(ready).ok());
    let state = stored.baseline.map(|baseline| match baseline {
        // Without a baseline probe a success is no proof.
        StoredBaseline::First | StoredBaseline::Open => WatchState::Ignored,
        StoredBaseline::Watched => WatchState::DueAt(now),
    });
    let watch = match (ready, state) {
        (Some(ready), Some(state)) if bar_reason(address, &rules.node_addresses).is_none() => {
            Some(Box::new(PortWatch { ready, state, was_closed: true, is_slow: false }))
        }
        _ => None,
    };
    Some(Lease {
        id: LeaseId(0),
        holder,
        address,
        since,
        deadline,
        watch,
        is_quiet: false,
        has_moved: false,
        is_confirmed: true,
    })
}

impl Clocks {
    #[expect(clippy::disallowed_methods, reason = "the edge that reads both clocks")]
    fn now() -> Clocks {
        let before = Instant::now();
        let boot = clock_gettime(ClockId::Boottime);
        let boot = Duration::new(boot.tv_sec.unsigned_abs(), boot.tv_nsec.unsigned_abs() as u32);
        Clocks { before, boot, after: Instant::now() }
    }

    fn to_boot(self, at: Instant) -> u64 {
        let boot = match at.checked_duration_since(self.after) {
            Some(later) => self.boot.saturating_add(later),
            None => self.boot.saturating_sub(self.after.saturating_duration_since(at)),
        };
        u64::try_from(boot.as_nanos()).unwrap_or(u64::MAX)
    }

    /// `None` for a time that the clock cannot represent.
    fn to_instant(self, boot: u64) -> Option<Instant> {
        let boot = Duration::from_nanos(boot);
        match boot.checked_sub(self.boot) {
            Some(later) => self.before.checked_add(later),
            None => self.before.checked_sub(self.boot - boot),
        }
    }
}

#[cfg(test)]
mod tests;
