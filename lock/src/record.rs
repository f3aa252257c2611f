//! The state file: leases and queue on disk, so that they outlive the process.
//!
//! One JSON file, replaced by a rename: a process that is killed at any moment leaves the old file or
//! the new one. It is not synced to the disk, because it has to outlive the process and not the
//! machine. Knows the form of the file; [`crate::shared`] decides when to write it, and
//! [`crate::core::scheduler`] knows leases and waiters.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use psl::process;
use psl::protocol::ready::Ready;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::barred::barred;
use crate::config::Rules;
use crate::core::lease::{Lease, LeaseId, Watch, WatchState, after};
use crate::core::scheduler::Scheduler;
use crate::json::quoted;
use crate::shared::Shared;

const VERSION: u64 = 1;

/// Two files of this size, because one replaces the other, have room in a volume of 1 MiB.
const LARGEST: usize = 480 * 1024;

/// The most bytes of a lease and of a waiter besides their texts: keys, an IPv6 address, numbers.
const LEASE: usize = 160;
const PLACE: usize = 100;

/// Serialising the state was measured to touch 8 KiB.
const STACK: usize = 64 * 1024;

/// The kernel's own number of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The state file of one boot.
pub struct Record {
    file: PathBuf,
    boot: String,
}

/// The file. Times are nanoseconds of the clock that counts from the boot, sleep included, and that
/// nobody sets (clock_gettime(2), `CLOCK_BOOTTIME`).
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    version: u64,
    boot: &'a str,
    #[serde(borrow)]
    leases: Vec<WrittenLease<'a>>,
    #[serde(borrow)]
    queue: Vec<WrittenPlace<'a>>,
}

/// What can be read of a file of any version.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct WrittenLease<'a> {
    #[serde(borrow)]
    holder: Option<Cow<'a, str>>,
    address: IpAddr,
    since: u64,
    deadline: u64,
    ready: Option<String>,
    look: Option<WrittenLook>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenLook {
    First,
    Open,
    Watched,
}

#[derive(Serialize, Deserialize)]
struct WrittenPlace<'a> {
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

impl Record {
    /// The record in this file, of this machine's boot.
    pub fn new(file: PathBuf) -> Record {
        Record::of_boot(file, fs::read_to_string(BOOT_ID).unwrap_or_default().trim())
    }

    /// The record in this file, of this boot.
    pub fn of_boot(file: PathBuf, boot: &str) -> Record {
        Record { file, boot: boot.to_owned() }
    }

    /// Restores the state that an earlier process of this boot has left, and logs the result.
    pub fn restore(&self, scheduler: &mut Scheduler, rules: &Rules) {
        let file = self.file.display();
        // A larger file is not the state of a lock.
        let text = match read(&self.file, 2 * LARGEST as u64) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return info!(file:%; "no state file yet: starting empty");
            }
            Err(error) => return warn!(file:%, error:%; "state file not read: starting empty"),
        };
        match self.take_over(&text, scheduler, rules) {
            Ok(()) => {
                let (leases, places, slots) = (
                    scheduler.leases().len(),
                    scheduler.queue().waiters().len(),
                    scheduler.slots(),
                );
                info!(file:%, leases, places; "state restored");
                if leases > slots {
                    let over = leases - slots + 1;
                    warn!(file:%, leases, slots; "the state file has more leases than slots: no start until {over} of them have ended");
                }
            }
            Err(why) => warn!(file:%, reason = why.as_str(); "state file not used: starting empty"),
        }
    }

    /// Restores the state in this text; the error says why it is not this boot's.
    pub fn take_over(
        &self,
        text: &str,
        scheduler: &mut Scheduler,
        rules: &Rules,
    ) -> Result<(), String> {
        let written = self.parse(text)?;
        restore(&written, Clocks::now(), scheduler, rules);
        Ok(())
    }

    /// The content of the file for this state.
    pub fn words(&self, scheduler: &Scheduler) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put(&Page::of(scheduler), Clocks::now(), &mut bytes);
        bytes
    }

    /// Starts the thread that writes each change.
    pub fn start(self, shared: Arc<Shared>) -> Result<(), String> {
        process::spawn("record", STACK, move || self.run(&shared))
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that rests between two writes")]
    fn run(&self, shared: &Shared) -> ! {
        let mut bytes = Vec::new();
        let mut told = String::new();
        loop {
            let (page, version) = shared.next_snapshot(|lock| Page::of(lock.scheduler()));
            let begin = Instant::now();
            let left_out = self.put(&page, Clocks::now(), &mut bytes);
            let problem = match self.replace(&bytes) {
                Err(error) => format!("cannot write it: {error}"),
                Ok(()) if left_out => {
                    format!("it holds no more than {LARGEST} bytes: a restart will forget the rest")
                }
                Ok(()) => String::new(),
            };
            shared.has_written(version, Instant::now());
            if problem != told {
                let file = self.file.display();
                match problem.as_str() {
                    "" => info!(file:%; "state file is whole again"),
                    problem => {
                        warn!(file:%, reason = problem; "state file is not whole: a restart may let too many start");
                    }
                }
                told = problem;
            }
            // At most a third of a core goes into this, however fast clients come and go.
            thread::sleep(begin.elapsed() * 2);
        }
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let mut name = self.file.clone().into_os_string();
        name.push(".new");
        let new = Path::new(&name);
        fs::write(new, bytes)?;
        fs::rename(new, &self.file)
    }

    /// Writes the state as bytes. Returns whether something had no room.
    fn put(&self, page: &Page, clocks: Clocks, bytes: &mut Vec<u8>) -> bool {
        let mut room = LARGEST;
        let mut has_room = |bytes: usize| {
            let fits = room.checked_sub(bytes);
            room = fits.unwrap_or(0);
            fits.is_some()
        };
        let leases: Vec<_> = page
            .leases
            .iter()
            .map(|lease| (lease, lease.watch.as_ref().map(|watch| watch.ready.to_request())))
            .filter(|(lease, ready)| {
                has_room(LEASE + quoted(lease.holder.as_deref()) + quoted(ready.as_deref()))
            })
            .map(|(lease, ready)| WrittenLease {
                holder: lease.holder.as_deref().map(Into::into),
                address: lease.address,
                since: clocks.to_boot(lease.since),
                deadline: clocks.to_boot(lease.deadline),
                ready,
                look: lease.watch.as_ref().map(|watch| match watch.state {
                    WatchState::Ignored => WrittenLook::Open,
                    WatchState::DueAt(_) | WatchState::Probing => WrittenLook::Watched,
                }),
            })
            .collect();
        let queue: Vec<_> = page
            .places
            .iter()
            .filter(|(holder, ..)| has_room(PLACE + quoted(Some(holder))))
            .map(|(holder, address, since)| WrittenPlace {
                holder: (&**holder).into(),
                address: *address,
                since: clocks.to_boot(*since),
            })
            .collect();
        let left_out = leases.len() < page.leases.len() || queue.len() < page.places.len();
        bytes.clear();
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(
            bytes,
            &Written { version: VERSION, boot: &self.boot, leases, queue },
        );
        left_out
    }

    fn parse<'t>(&self, text: &'t str) -> Result<Written<'t>, String> {
        let Versioned { version } =
            serde_json::from_str(text).map_err(|e| format!("torn, or not a state file: {e}"))?;
        if version != VERSION {
            return Err(format!("it has version {version}, this program reads {VERSION}"));
        }
        let written: Written =
            serde_json::from_str(text).map_err(|e| format!("torn, or not a state file: {e}"))?;
        // Without the kernel's number of the boot, a file of another boot would look the same.
        if written.boot != self.boot || self.boot.is_empty() {
            return Err("it is another boot's".to_owned());
        }
        Ok(written)
    }
}

/// A copy of the state, which is serialised without the mutex.
struct Page {
    leases: Vec<Lease>,
    places: Vec<(Arc<str>, IpAddr, Instant)>,
}

impl Page {
    fn of(scheduler: &Scheduler) -> Page {
        let waiters = scheduler.queue().waiters().iter();
        Page {
            leases: scheduler.leases().iter().cloned().collect(),
            places: waiters
                .map(|waiter| (Arc::clone(&waiter.holder), waiter.address, waiter.since))
                .collect(),
        }
    }
}

/// A lease ends `--max-duration` after its grant at the latest, also if the file or an earlier setting has a later end.
fn restore(written: &Written, clocks: Clocks, scheduler: &mut Scheduler, rules: &Rules) {
    let now = clocks.before;
    // In the order of their grants.
    let mut leases: Vec<_> = written.leases.iter().collect();
    leases.sort_by_key(|lease| lease.since);
    for lease in leases {
        let Some(deadline) = clocks.to_instant(lease.deadline) else { continue };
        let since = clocks.to_instant(lease.since).unwrap_or(now).min(now);
        let deadline = deadline.min(after(since, rules.longest));
        let Ok(holder) = lease.holder.as_deref().map(psl::protocol::holder::parse).transpose()
        else {
            continue;
        };
        let holder = holder.map(Arc::from);
        let ready = lease.ready.as_deref().and_then(|ready| Ready::parse(ready).ok());
        let look = lease.look.map(|look| match look {
            // An earlier version had not probed it yet: a success would prove nothing.
            WrittenLook::First | WrittenLook::Open => WatchState::Ignored,
            WrittenLook::Watched => WatchState::DueAt(now),
        });
        let is_barred = || barred(lease.address, &rules.node_addresses).is_some();
        let watch = ready.zip(look).filter(|_| !is_barred()).map(|(ready, state)| {
            Box::new(Watch { ready, state, was_closed: true, is_slow: false })
        });
        let (id, address) = (LeaseId(0), lease.address);
        let lease = Lease {
            id,
            holder,
            address,
            since,
            deadline,
            watch,
            is_quiet: false,
            has_moved: false,
            is_confirmed: true,
        };
        scheduler.restore_lease(lease, now);
    }
    for place in &written.queue {
        let since = clocks.to_instant(place.since).unwrap_or(now).min(now);
        if let Ok(holder) = psl::protocol::holder::parse(&place.holder) {
            scheduler.restore_waiter(holder.into(), place.address, since, now);
        }
    }
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

    /// Nothing for what the clock cannot hold.
    fn to_instant(self, boot: u64) -> Option<Instant> {
        let boot = Duration::from_nanos(boot);
        match boot.checked_sub(self.boot) {
            Some(later) => self.before.checked_add(later),
            None => self.before.checked_sub(self.boot - boot),
        }
    }
}

/// The first `most` bytes of a file. Only regular files are opened, because a pipe would wait for its writer.
pub fn read(file: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    File::open(file)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::lease::ProbeResult;
    use crate::core::outcome::LeaseRequest;
    use crate::core::queue::{GRACE, MOST_WAITERS, Waiter};
    use crate::core::scheduler::{Durations, Response};
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn record() -> Record {
        Record::of_boot(PathBuf::from("/nowhere"), "this-boot")
    }

    fn rules() -> Rules {
        Rules {
            default: 10 * SECOND,
            longest: 3600 * SECOND,
            node: None,
            node_addresses: Vec::new(),
        }
    }

    fn scheduler(slots: usize) -> Scheduler {
        let durations =
            Durations { default: 10 * SECOND, longest: 3600 * SECOND, probe_pause: SECOND };
        Scheduler::new(slots, 64, durations)
    }

    fn ask(
        scheduler: &mut Scheduler,
        holder: &str,
        ready: Option<(&str, ProbeResult)>,
        now: Instant,
    ) -> Response {
        let request = LeaseRequest {
            holder: Some(holder.into()),
            address: "10.0.0.1".parse().unwrap(),
            duration: None,
            ready: ready.map(|(ready, _)| Ready::parse(ready).unwrap()),
            baseline: ready.map(|(_, baseline)| baseline),
            wait: None,
            node: None,
        };
        scheduler.request(&request, None, true, now)
    }

    fn written(record: &Record, scheduler: &Scheduler, clocks: Clocks) -> (String, bool) {
        let mut bytes = Vec::new();
        let left_out = record.put(&Page::of(scheduler), clocks, &mut bytes);
        (String::from_utf8(bytes).unwrap(), left_out)
    }

    /// The same moment of both clocks.
    fn clocks(instant: Instant, boot: Duration) -> Clocks {
        Clocks { before: instant, boot, after: instant }
    }

    #[test]
    fn a_written_file_is_read_back() {
        let start = Clocks::now();
        let mut old = scheduler(3);
        ask(&mut old, "a", None, start.after);
        for (holder, baseline) in
            [("watched\"\\", ProbeResult::Closed), ("open", ProbeResult::Open)]
        {
            ask(&mut old, holder, Some(("http:80/a?b=c", baseline)), start.after);
        }
        for waiter in ["b", "c"] {
            ask(&mut old, waiter, None, start.after);
        }
        let (text, left_out) = written(&record(), &old, start);
        assert!(!left_out);
        let mut new = scheduler(3);
        let later = clocks(start.after + 3 * SECOND, start.boot + 3 * SECOND);
        restore(&record().parse(&text).unwrap(), later, &mut new, &rules());
        let of = |scheduler: &Scheduler| -> Vec<_> {
            scheduler
                .leases()
                .iter()
                .map(|lease| (lease.holder.clone(), lease.deadline, lease.since))
                .collect()
        };
        assert_eq!(of(&new), of(&old));
        let watches =
            new.leases().iter().map(|lease| lease.watch.as_ref().map(|watch| watch.state));
        let watches: Vec<_> = watches.collect();
        assert_eq!(
            watches,
            [None, Some(WatchState::DueAt(later.before)), Some(WatchState::Ignored)]
        );
        let waiters = |scheduler: &Scheduler| -> Vec<_> {
            scheduler
                .queue()
                .waiters()
                .iter()
                .map(|waiter| (waiter.holder.clone(), waiter.since))
                .collect()
        };
        assert_eq!(waiters(&new), waiters(&old));
        assert!(!new.queue().waiters().iter().any(Waiter::is_parked));
        assert_eq!(
            new.queue().poll_at(),
            Some(later.before + GRACE),
            "the clients are away, and come back"
        );
    }

    #[test]
    fn a_port_that_an_earlier_version_had_not_probed_ends_no_lease() {
        let now = Clocks::now();
        let mut old = scheduler(1);
        ask(&mut old, "a", Some(("tcp:1", ProbeResult::Closed)), now.after);
        let (text, _) = written(&record(), &old, now);
        for (look, is_watched) in [("watched", true), ("open", false), ("first", false)] {
            let text = text.replace("\"look\":\"watched\"", &format!("\"look\":\"{look}\""));
            let mut new = scheduler(1);
            restore(&record().parse(&text).unwrap(), now, &mut new, &rules());
            assert_eq!(
                new.leases().iter().map(Lease::is_watched).collect::<Vec<_>>(),
                [is_watched],
                "{look}"
            );
        }
    }

    #[test]
    fn a_lease_is_cut_to_the_longest_and_not_probed_where_it_must_not_be() {
        let now = Clocks::now();
        let mut old = scheduler(9);
        ask(&mut old, "a", Some(("tcp:1", ProbeResult::Closed)), now.after);
        let (text, _) = written(&record(), &old, now);
        let lease = |since: Duration, lasts: Duration, rules: &Rules| {
            let mut written = record().parse(&text).unwrap();
            let nanos = |at: Duration| u64::try_from(at.as_nanos()).unwrap();
            written.leases[0].since = nanos(now.boot + since);
            written.leases[0].deadline = nanos(now.boot + since + lasts);
            let mut new = scheduler(9);
            restore(
                &written,
                clocks(now.after + 10 * SECOND, now.boot + 10 * SECOND),
                &mut new,
                rules,
            );
            let left =
                |lease: &Lease| (lease.deadline - now.after - 10 * SECOND, lease.is_watched());
            new.leases().iter().next().map(left)
        };
        let (hour, day) = (3600 * SECOND, 24 * 3600 * SECOND);
        assert_eq!(
            lease(Duration::ZERO, 20 * SECOND, &rules()),
            Some((10 * SECOND, true)),
            "as it was"
        );
        assert_eq!(
            lease(Duration::ZERO, day, &rules()),
            Some((hour - 10 * SECOND, true)),
            "from its grant on"
        );
        assert_eq!(
            lease(3 * day, day, &rules()),
            Some((hour, true)),
            "a clock that was days ahead"
        );
        let shorter = Rules { longest: 10 * SECOND, ..rules() };
        assert_eq!(lease(Duration::ZERO, day, &shorter), None, "over by now");
        let node = Rules { node_addresses: vec!["10.0.0.1".parse().unwrap()], ..rules() };
        assert_eq!(lease(Duration::ZERO, 20 * SECOND, &node), Some((10 * SECOND, false)));
    }

    #[test]
    fn a_file_that_is_not_this_boots_state_is_refused_with_a_reason() {
        let now = Clocks::now();
        let mut old = scheduler(1);
        ask(&mut old, "a", Some(("tcp:1", ProbeResult::Closed)), now.after);
        ask(&mut old, "b", None, now.after);
        let (text, _) = written(&record(), &old, now);
        assert!(record().parse(&text).is_ok());
        for end in 0..text.len() {
            assert!(record().parse(&text[..end]).is_err(), "{}", &text[..end]);
        }
        for (text, part) in [
            (
                text.replace("\"version\":1", "\"version\":2"),
                "it has version 2, this program reads 1",
            ),
            (text.replace("this-boot", "that-boot"), "another boot"),
            (format!("{text}{text}"), "torn, or not a state file"),
            ("{\"version\":1}".to_owned(), "torn, or not a state file"),
            ("[]".to_owned(), "torn, or not a state file"),
            ("\0".repeat(1000), "torn, or not a state file"),
        ] {
            let why = record().parse(&text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(why.contains(part), "{why}");
        }
        let nowhere = Record::of_boot(PathBuf::from("/nowhere"), "");
        assert!(
            nowhere.parse(&text.replace("this-boot", "")).is_err(),
            "an unknown boot is no boot"
        );
    }

    #[test]
    fn two_files_have_room_in_a_volume_of_a_mebibyte() {
        let now = Clocks::now();
        let mut old = scheduler(4096);
        let name = |n: usize| format!("{n:0>8}{}", "\"".repeat(504));
        let ready = format!("http:1/{}", "x".repeat(255));
        for n in 0..4096 + MOST_WAITERS {
            ask(&mut old, &name(n), Some((&ready, ProbeResult::Closed)), now.after);
        }
        let (text, left_out) = written(&record(), &old, now);
        assert!(left_out && text.len() <= LARGEST, "{}", text.len());
        assert!(record().parse(&text).is_ok_and(|written| written.leases.len() > 200));

        let mut usual = scheduler(1000);
        let name = |n: usize| {
            format!(
                "some-namespace/some-deployment-7c9fd5c8b5-{n:0>5}/7c1e6b0a-5f3d-4e7b-9a51-0f6f0c5f0a5a"
            )
        };
        for n in 0..1000 + MOST_WAITERS {
            ask(&mut usual, &name(n), None, now.after);
        }
        let (text, left_out) = written(&record(), &usual, now);
        assert!(!left_out, "{}", text.len());
    }

    proptest! {
        /// Whatever time passes between writing and reading, and in either between the two clocks.
        #[test]
        fn no_lease_lives_longer_than_it_would_have(
            slept in 0u64..20_000, ran in 0u64..20_000, wrote in 0u64..50, read in 0u64..50,
        ) {
            let milli = Duration::from_millis;
            let zero = Clocks::now().before + 100 * SECOND;
            let mut old = scheduler(1);
            ask(&mut old, "a", None, zero);
            let (boot, after) = (1000 * SECOND, zero + milli(wrote));
            let (text, _) = written(&record(), &old, Clocks { before: zero, boot, after });
            // Sleep is counted by the boot's clock alone.
            let before = zero + milli(ran);
            let later = Clocks { before, boot: boot + milli(ran + slept + read), after: before + milli(read) };
            let mut new = scheduler(1);
            restore(&record().parse(&text).unwrap(), later, &mut new, &rules());
            let left = new.leases().iter().next().map(|lease| lease.deadline - later.after);
            let due = (10 * SECOND).checked_sub(milli(ran + slept + read));
            prop_assert!(left.unwrap_or_default() <= due.unwrap_or_default(), "{:?} of {:?}", left, due);
        }
    }
}
