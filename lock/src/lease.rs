//! The leases: who has a slot, until when, and whether his application is already looked at.
//!
//! Pure: the time is an argument and never goes back. Knows nothing of the line of those who wait,
//! nor of HTTP; whether a slot may be taken is decided by whoever calls [`Leases::begin`].
//!
//! Invariants: a lease ends at its deadline at the latest, so that at this instant its slot is
//! free; one that is named has a name of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::ready::Ready;

/// Stands for deadlines that the clock cannot hold; nobody waits this long.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// After this share of a lease's age its port is looked at again: a tenth of a start is as late as
/// anybody may notice that it is over.
const LOOKS: u32 = 10;

/// The shortest pause between two looks at one port.
pub const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// Names a lease for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u64);

/// A slot that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Unlike any other's.
    pub id: Id,
    /// Who has it; nothing for a request that named nobody.
    pub holder: Option<Arc<str>>,
    /// Where the holder asked from last.
    pub address: IpAddr,
    /// When it was granted.
    pub since: Instant,
    /// When it ends by itself.
    pub deadline: Instant,
    /// What may end it earlier.
    pub watch: Option<Box<Watch>>,
    /// Its life is not told to everybody who reads the log.
    pub is_quiet: bool,
    /// Its holder has asked from another address since.
    pub has_moved: bool,
    /// Its holder has asked again and was told so: the grant has reached him, whatever became of
    /// the first answer.
    pub was_told_again: bool,
}

/// The port of an application that is about to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// What to ask, at the holder's own address.
    pub ready: Ready,
    /// What is known of it.
    pub look: Look,
    /// It was seen not to answer, so that an answer will mean something.
    pub was_closed: bool,
    /// The last look at it took long.
    pub is_slow: bool,
}

/// What a look has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It accepts, or answers 2xx.
    Open,
    /// It refuses, or answers anything else.
    Closed,
    /// Nothing came back in time.
    Silent,
    /// No port of this address is probed, for this reason; see `barred.rs`.
    Barred(&'static str),
}

/// What is known of a lease's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not looked at yet, or the holder has moved to another address since.
    First,
    /// It answered before the application could run, and so proves nothing, or it must not be probed: only the
    /// deadline ends this lease.
    Open,
    /// Looked at next then.
    At(Instant),
    /// Somebody is looking.
    Looking,
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Its port answered.
    Ready,
    /// It was given back.
    Released,
    /// By its deadline.
    Expired,
}

impl How {
    /// In the order of their metric.
    pub const ALL: [(How, &str); 3] = [(How::Ready, "ready"), (How::Released, "released"), (How::Expired, "expired")];

    /// As metrics and log have it.
    pub fn name(self) -> &'static str {
        How::ALL[self as usize].1
    }
}

impl Lease {
    /// Its port is looked at until it answers.
    pub fn is_watched(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.look != Look::Open)
    }

    /// What is known of its port, if it has one.
    pub fn look(&self) -> Option<Look> {
        self.watch.as_ref().map(|watch| watch.look)
    }

    /// Notes what is known of its port.
    pub fn set_look(&mut self, look: Look) {
        if let Some(watch) = &mut self.watch {
            watch.look = look;
        }
    }

    /// After a look without success.
    pub fn look_again(&mut self, now: Instant, longest_pause: Duration) {
        let age = now.saturating_duration_since(self.since);
        let pause = (age / LOOKS).min(longest_pause).max(SHORTEST_PAUSE);
        self.set_look(Look::At(after(now, pause)));
    }
}

/// All leases, in the order in which they end.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    running: BTreeMap<(Instant, Id), Lease>,
}

impl Leases {
    /// One more.
    pub fn begin(&mut self, lease: Lease) {
        self.running.insert((lease.deadline, lease.id), lease);
    }

    /// Removes the one that has been over for longest.
    pub fn expire_one(&mut self, now: Instant) -> Option<Lease> {
        let first = self.running.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// Ends this one early.
    pub fn end(&mut self, id: Id) -> Option<Lease> {
        let key = self.iter().find(|lease| lease.id == id).map(|lease| (lease.deadline, id))?;
        self.running.remove(&key)
    }

    /// By its number.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut Lease> {
        self.running.values_mut().find(|lease| lease.id == id)
    }

    /// As [`Leases::get_mut`].
    pub fn get(&self, id: Id) -> Option<&Lease> {
        self.iter().find(|lease| lease.id == id)
    }

    /// By the name of who has it.
    pub fn of(&self, holder: &str) -> Option<&Lease> {
        self.iter().find(|lease| lease.holder.as_deref() == Some(holder))
    }

    /// Those that end first come first.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.running.values()
    }

    /// As [`Leases::iter`]; deadlines stay as they are.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lease> {
        self.running.values_mut()
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// When the first of them ends.
    pub fn first_deadline(&self) -> Option<Instant> {
        self.running.keys().next().map(|(deadline, _)| *deadline)
    }
}

/// The end of a duration that begins now, also where the clock cannot hold it.
pub fn after(now: Instant, duration: Duration) -> Instant {
    now.checked_add(duration).or_else(|| now.checked_add(FAR)).unwrap_or(now)
}
