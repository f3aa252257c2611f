//! The lock as threads share it: one mutex, and the wake-ups that its changes need.
//!
//! Threads wait here without the mutex: probers for a port that is due, the clock for a deadline or
//! an action of a parked client, a grant for the state file. Makes no decision.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use log::{info, warn};
use psl::duration::Compact;
use psl::server::{ClientEvent, ParkedConnection, Poller};
use psl::sync;
use psl::thread::spawn;

use crate::connections::{ClientLoss, Connections, Delivery};
use crate::core::lease::ProbeTarget;
use crate::core::lock::{Effects, Lock, ParkedOutcome};
use crate::core::outcome::{LeaseRequest, Outcome};
use crate::core::queue::WaiterId;
use crate::core::time::after;
use crate::procstat::Stat;
use crate::psi::Psi;
use crate::responses;

/// A grant waits for the state file for this long at most: a disk that hangs must not be the
/// outage.
const LONGEST_WRITE: Duration = Duration::from_secs(1);

/// The clock keeps the time, renders answers and writes log lines: 12 KiB were measured.
const STACK: usize = 64 * 1024;

#[derive(Debug)]
pub struct Shared {
    inner: Mutex<Inner>,
    /// Watches parked connections; the clock waits on it.
    poller: Poller,
    /// The files of the node's pressure. No thread waits for this mutex while it owns `inner`.
    psi: Option<Mutex<Psi>>,
    /// A port is due to be probed.
    due: Condvar,
    /// The state file is older than the state.
    changed: Condvar,
    written: Condvar,
}

#[derive(Debug)]
struct Inner {
    lock: Lock,
    connections: Connections,
    ready: Vec<Delivery>,
    alarm: Option<Instant>,
    file: Option<FileState>,
}

/// The progress of the state file.
#[derive(Debug, Default)]
struct FileState {
    /// The version in the file; `None` before the first write.
    version: Option<u64>,
    /// Writing takes longer than [`LONGEST_WRITE`]: answers do not wait for it.
    is_late: bool,
    waiting: VecDeque<DurableAnswer>,
}

/// An answer that waits for a version in the file, until a time at most.
#[derive(Debug)]
struct DurableAnswer {
    version: u64,
    until: Instant,
    delivery: Delivery,
}

/// Work that is done without the mutex.
#[must_use]
struct Work {
    deliveries: Vec<Delivery>,
    effects: Effects,
}

impl Shared {
    /// With a state file, grants wait until the file has them.
    pub fn new(lock: Lock, has_file: bool, psi: Option<Psi>) -> Result<Arc<Shared>, String> {
        let poller = Poller::new().map_err(|e| format!("cannot watch connections: {e}"))?;
        let file = has_file.then(FileState::default);
        let connections = Connections::new(lock.scheduler().queue().most_parked());
        let inner = Inner { lock, connections, ready: Vec::new(), alarm: None, file };
        Ok(Arc::new(Shared {
            inner: Mutex::new(inner),
            poller,
            psi: psi.map(Mutex::new),
            due: Condvar::new(),
            changed: Condvar::new(),
            written: Condvar::new(),
        }))
    }

    /// Changes the lock, and does everything that follows from it.
    pub fn with<T>(&self, now: Instant, change: impl FnOnce(&mut Lock) -> T) -> T {
        self.change(now, |inner| change(&mut inner.lock))
    }

    /// Handles a request. `None` if `parked`, its connection, gets the answer, now or later.
    pub fn request(
        &self,
        request: &LeaseRequest,
        parked: Option<ParkedConnection>,
        json: bool,
        now: Instant,
    ) -> Option<Outcome> {
        self.read_pressure(true, now);
        self.change(now, |inner| {
            let Some(parked) = parked.map(Arc::new) else {
                return inner.lock.request(request, None, now);
            };
            let key = inner.connections.insert(Arc::clone(&parked), json);
            // Without a watch the connection cannot wait.
            let is_watched =
                !inner.connections.is_full() && self.poller.watch(&parked, key.0).is_ok();
            let outcome = inner.lock.request(request, is_watched.then_some(key), now)?;
            inner.deliver(ParkedOutcome { waiter: key, request: request.clone(), outcome }, now);
            None
        })
    }

    /// Waits until all changes so far are in the state file, if there is one.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for a file")]
    pub fn wait_for_file(&self) {
        let begin = Instant::now();
        let mut inner = self.inner();
        let version = inner.lock.scheduler().version();
        while let Some(file) = &mut inner.file
            && !file.has(version)
        {
            let left = LONGEST_WRITE.saturating_sub(begin.elapsed());
            if left.is_zero() {
                file.give_up();
                return;
            }
            inner = sync::wait_timeout(&self.written, inner, left);
        }
    }

    /// Waits until the state file is older than the state, and takes a snapshot.
    pub fn next_snapshot<T>(&self, take: impl FnOnce(&Lock) -> T) -> (T, u64) {
        let inner = sync::wait_while(&self.changed, self.inner(), |inner| !inner.is_file_old());
        (take(&inner.lock), inner.lock.scheduler().version())
    }

    /// Records that this version was written, or cannot be, and releases the answers that waited
    /// for it.
    pub fn finish_write(&self, version: u64, now: Instant) {
        self.change(now, |inner| {
            let Some(file) = &mut inner.file else { return };
            (file.version, file.is_late) = (Some(version), false);
            inner.release_answers();
        });
        self.written.notify_all();
    }

    /// Waits for a port that is due to be probed.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for the time of a probe")]
    pub fn next_probe(&self) -> ProbeTarget {
        let mut inner = self.inner();
        loop {
            let now = Instant::now();
            if let Some(target) = inner.lock.begin_probe(now) {
                // The clock wakes one prober for all due ports: this prober wakes the next.
                if inner.lock.has_due_probe(now) {
                    self.due.notify_one();
                }
                return target;
            }
            inner = sync::wait(&self.due, inner);
        }
    }

    /// Starts the clock: the thread for deadlines, for actions of parked clients and for readings
    /// of the node.
    pub fn start_clock(self: &Arc<Self>, stat: Option<Stat>) -> Result<(), String> {
        let shared = Arc::clone(self);
        spawn("clock", STACK, move || shared.run_clock(stat))
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that waits for the next deadline")]
    fn run_clock(&self, mut stat: Option<Stat>) -> ! {
        let mut actions = Vec::new();
        loop {
            let now = Instant::now();
            self.read_pressure(false, now);
            if let Some(stat) = &mut stat {
                self.read_load(stat, now);
            }
            let has_due_probe = self.change(now, |inner| inner.tick(&mut actions, now));
            if has_due_probe {
                self.due.notify_one();
            }
            let alarm = self.inner().alarm;
            let left = alarm.map(|alarm| alarm.saturating_duration_since(Instant::now()));
            self.poller.wait(left, &mut actions);
        }
    }

    /// A decision uses a reading of this second. One thread reads for all.
    fn read_pressure(&self, for_request: bool, now: Instant) {
        let Some(psi) = &self.psi else { return };
        let is_due = || self.inner().lock.is_pressure_due(for_request, now);
        if !is_due() {
            return;
        }
        let mut psi = sync::lock(psi);
        if !is_due() {
            return;
        }
        let readings = psi.read();
        let change = self.with(now, |lock| lock.read_pressure(readings, now));
        drop(psi);
        match change {
            Some((true, pressure)) => {
                info!(pressure; "pressure gate closed: the node is under pressure");
            }
            Some((false, _)) => info!("pressure gate open: the pressure has fallen"),
            None => {}
        }
    }

    fn read_load(&self, stat: &mut Stat, now: Instant) {
        if self.inner().lock.is_load_due(now) {
            let reading = stat.read(now);
            if self.with(now, |lock| lock.read_load(reading, now)) {
                warn!("the node's CPU counters stand still: one start for each core at a time");
            }
        }
    }

    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner();
        let result = change(&mut inner);
        let mut work = self.settle(inner, now);
        loop {
            work.log();
            if work.deliveries.is_empty() {
                return result;
            }
            let results = work.deliveries.into_iter().map(Delivery::write).collect();
            let mut inner = self.inner();
            for lost in inner.connections.finish(results, now) {
                inner.lock.undo(lost.lease, lost.arrival, now);
            }
            work = self.settle(inner, now);
        }
    }

    /// Collects the consequences of a change, wakes the threads that need it, and unlocks the
    /// mutex.
    fn settle(&self, mut inner: MutexGuard<Inner>, now: Instant) -> Work {
        let mut effects = inner.lock.take_effects();
        for answer in effects.answers.drain(..) {
            inner.deliver(answer, now);
        }
        let next = inner.poll_at(now);
        if next.is_some_and(|next| inner.alarm.is_none_or(|alarm| next < alarm)) {
            inner.alarm = next;
            self.poller.wake();
        }
        if inner.is_file_old() {
            self.changed.notify_one();
        }
        Work { deliveries: mem::take(&mut inner.ready), effects }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        sync::lock(&self.inner)
    }
}

impl Inner {
    /// Does all that is due, and handles the actions of clients. Returns whether a port is due to
    /// be probed.
    fn tick(&mut self, actions: &mut Vec<ClientEvent>, now: Instant) -> bool {
        // An undone lease frees its slot, which must not go to a waiter that is gone as well.
        let mut undone = Vec::new();
        for action in actions.drain(..) {
            match self.connections.handle_action(WaiterId(action.key), action.is_broken) {
                Some(ClientLoss::HangUp(waiter)) => self.lock.hang_up(waiter, now),
                Some(ClientLoss::Undo(lost)) => undone.push(lost),
                None => {}
            }
        }
        for lost in undone {
            self.lock.undo(lost.lease, lost.arrival, now);
        }
        self.connections.expire(now);
        if let Some(file) = &mut self.file
            && file.waiting.front().is_some_and(|answer| answer.until <= now)
        {
            file.give_up();
        }
        self.release_answers();
        self.lock.advance(now);
        self.alarm = self.poll_at(now);
        self.lock.has_due_probe(now)
    }

    /// An answer that must be durable waits for the state file.
    fn deliver(&mut self, answer: ParkedOutcome, now: Instant) {
        let Some(delivery) = self.connections.deliver(answer) else { return };
        let version = self.lock.scheduler().version();
        let must_wait = delivery.must_be_durable() && !self.connections.is_full();
        match &mut self.file {
            Some(file) if must_wait && !file.has(version) => {
                let until = after(now, LONGEST_WRITE);
                file.waiting.push_back(DurableAnswer { version, until, delivery });
            }
            _ => self.ready.push(delivery),
        }
    }

    /// Answers whose version is in the state file are ready.
    fn release_answers(&mut self) {
        let Some(file) = &mut self.file else { return };
        while file.waiting.front().is_some_and(|answer| file.has(answer.version)) {
            self.ready.extend(file.waiting.pop_front().map(|answer| answer.delivery));
        }
    }

    fn is_file_old(&self) -> bool {
        let version = self.lock.scheduler().version();
        self.file.as_ref().is_some_and(|file| file.version != Some(version))
    }

    fn poll_at(&self, now: Instant) -> Option<Instant> {
        let answer = self.file.as_ref().and_then(|file| file.waiting.front());
        let file = answer.map(|answer| answer.until);
        [self.lock.poll_at(now), self.connections.poll_at(), file].into_iter().flatten().min()
    }
}

impl FileState {
    fn has(&self, version: u64) -> bool {
        self.is_late || self.version.is_some_and(|written| written >= version)
    }

    fn give_up(&mut self) {
        if !self.is_late {
            self.is_late = true;
            let limit = Compact(LONGEST_WRITE);
            warn!(
                "writing the state file takes longer than {limit}: answers no longer wait for it"
            );
        }
    }
}

impl Work {
    fn log(&self) {
        self.effects.ended.iter().for_each(responses::log_end);
        self.effects.waits.iter().for_each(responses::log_model_wait);
        self.effects.stall.iter().for_each(responses::log_stall);
    }
}
