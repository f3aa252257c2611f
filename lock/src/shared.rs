//! The state as threads share it: one mutex, and who is woken by what has changed under it.
//!
//! Whoever waits here waits without the mutex: a held request for its call or its time, those who
//! look at ports for one that is due, the clock for what happens by itself next, a grant for being
//! written down. Knows whom to wake; decides nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use log::{Level, info, log, warn};
use psl::duration::Text;
use psl::serve::Hold;

use crate::book::Target;
use crate::config::Rules;
use crate::lease::{How, Lease};
use crate::procstat::Stat;
use crate::psi::Psi;
use crate::queue::Seat;
use crate::shadow::Waited;
use crate::state::{Ask, Decision, Outcome, State};

/// A held client that has gone is noticed after this long, or when it is its turn.
const GLANCE: Duration = Duration::from_secs(1);

/// A grant waits for the state file so long at most: a disk that hangs must not be the outage.
const PATIENCE: Duration = Duration::from_secs(1);

/// The clock keeps the time and writes lines; it was seen to touch 8 KiB.
const STACK: usize = 64 * 1024;

/// What threads hold.
#[derive(Debug)]
pub struct Shared {
    inner: Mutex<Inner>,
    /// What the node's pressure is read from. Whoever has it does not have the other.
    psi: Option<Mutex<Psi>>,
    /// Something will happen earlier than the clock has set its alarm to.
    earlier: Condvar,
    /// A port is due to be looked at.
    due: Condvar,
    /// There is something to write down.
    changed: Condvar,
    /// It has been written down.
    written: Condvar,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// The threads of the requests that are held back, and what tells them that they were called.
    held: Vec<(Seat, Thread, Arc<AtomicBool>)>,
    /// When the clock wakes by itself.
    alarm: Option<Instant>,
    file: Option<Written>,
}

/// How far the state file is.
#[derive(Debug)]
struct Written {
    /// Nothing before the first time.
    version: Option<u64>,
    /// It takes longer than anybody may wait for it.
    is_late: bool,
}

/// What is done after the mutex has been given back.
#[must_use]
struct After {
    called: Vec<(Thread, Arc<AtomicBool>)>,
    ended: Vec<(Lease, How, Instant)>,
    waited: Vec<Waited>,
}

impl Shared {
    /// Ready to be given to threads; with a state file, grants wait for being written there.
    pub fn new(state: State, has_file: bool, psi: Option<Psi>) -> Arc<Shared> {
        let file = has_file.then_some(Written { version: None, is_late: false });
        Arc::new(Shared {
            inner: Mutex::new(Inner { state, held: Vec::new(), alarm: None, file }),
            psi: psi.map(Mutex::new),
            earlier: Condvar::new(),
            due: Condvar::new(),
            changed: Condvar::new(),
            written: Condvar::new(),
        })
    }

    /// Changes the state, and wakes whom that concerns.
    pub fn with<T>(&self, now: Instant, change: impl FnOnce(&mut State) -> T) -> T {
        self.change(now, |inner| change(&mut inner.state))
    }

    /// Decides on a request. Where the answer may be held back, this returns when there is one;
    /// nothing where the client has gone by then.
    pub fn ask(&self, ask: &Ask, rules: &Rules, hold: Option<&Hold>, now: Instant) -> Option<Outcome> {
        self.read_pressure(true, now);
        let (decision, is_called) = self.change(now, |inner| {
            let decision = inner.state.ask(ask, rules, now);
            let Decision::Later { seat, .. } = decision else { return (decision, None) };
            let is_called = Arc::new(AtomicBool::new(false));
            inner.held.push((seat, thread::current(), Arc::clone(&is_called)));
            (decision, Some(is_called))
        });
        match decision {
            Decision::Now(outcome) => Some(outcome),
            Decision::Later { seat, until } => self.hold(ask, rules, hold?, &*is_called?, seat, until),
        }
    }

    /// Waits for the call, and asks again.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for a slot")]
    fn hold(
        &self,
        ask: &Ask,
        rules: &Rules,
        hold: &Hold,
        is_called: &AtomicBool,
        seat: Seat,
        until: Instant,
    ) -> Option<Outcome> {
        loop {
            thread::park_timeout(until.saturating_duration_since(Instant::now()).min(GLANCE));
            let is_gone = hold.is_gone();
            let now = Instant::now();
            if !is_called.swap(false, Ordering::AcqRel) && !is_gone && now < until {
                continue;
            }
            if !is_gone {
                self.read_pressure(true, now);
            }
            let decision = self.change(now, |inner| {
                let decision = match is_gone {
                    true => {
                        inner.state.hung_up(seat, now);
                        None
                    }
                    false => Some(inner.state.resume(ask, rules, seat, until, now)),
                };
                if !matches!(decision, Some(Decision::Later { .. })) {
                    inner.held.retain(|(other, ..)| *other != seat);
                }
                decision
            });
            match decision {
                Some(Decision::Later { .. }) => {}
                Some(Decision::Now(outcome)) => return Some(outcome),
                None => return None,
            }
        }
    }

    /// Waits until what has changed so far is written down, where it is.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for a file")]
    pub fn keep(&self) {
        let begin = Instant::now();
        let mut inner = self.inner();
        let version = inner.state.book.version();
        while let Some(file) = &mut inner.file
            && file.version.is_none_or(|written| written < version)
            && !file.is_late
        {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            if left.is_zero() {
                file.is_late = true;
                warn!("the state file takes longer than {}: answers do not wait for it any more", Text(PATIENCE));
                return;
            }
            inner = self.written.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for something to write down, and lets it be put into words.
    pub fn to_write<T>(&self, put: impl FnOnce(&State) -> T) -> (T, u64) {
        let mut inner = self.inner();
        loop {
            let version = inner.state.book.version();
            if inner.file.as_ref().is_some_and(|file| file.version != Some(version)) {
                return (put(&inner.state), version);
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// It is written down, or cannot be.
    pub fn is_written(&self, version: u64) {
        self.inner().file = Some(Written { version: Some(version), is_late: false });
        self.written.notify_all();
    }

    /// Waits for a port that is due to be looked at.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for the time to look")]
    pub fn next_look(&self) -> Target {
        let mut inner = self.inner();
        loop {
            let now = Instant::now();
            if let Some(target) = inner.state.due_look(now) {
                // One is woken for all that are due: it wakes the next.
                if inner.state.has_due_look(now) {
                    self.due.notify_one();
                }
                return target;
            }
            inner = self.due.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Starts the clock: the thread that does what the time alone brings. It looks at the node, too, where the slots
    /// follow it.
    pub fn start_clock(self: &Arc<Self>, stat: Option<Stat>) -> Result<(), String> {
        let shared = Arc::clone(self);
        let thread =
            thread::Builder::new().name("clock".to_owned()).stack_size(STACK).spawn(move || shared.run_clock(stat));
        thread.map(drop).map_err(|e| format!("cannot start the clock's thread: {e}"))
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that waits for what happens next")]
    fn run_clock(&self, mut stat: Option<Stat>) -> ! {
        loop {
            let now = Instant::now();
            self.read_pressure(false, now);
            if let Some(stat) = &mut stat {
                self.read_node(stat, now);
            }
            let mut inner = self.inner();
            let (next, has_due_look) = inner.state.tick(now);
            inner.alarm = next;
            let after = inner.after();
            drop(inner);
            if has_due_look {
                self.due.notify_one();
            }
            after.run();
            // An alarm may have been set earlier in between.
            let inner = self.inner();
            match inner.alarm.map(|alarm| alarm.saturating_duration_since(Instant::now())) {
                Some(left) => drop(self.earlier.wait_timeout(inner, left)),
                None => drop(self.earlier.wait(inner)),
            }
        }
    }

    /// Whoever is to be decided on is decided on by a reading of this second. One reads for all.
    fn read_pressure(&self, is_asked: bool, now: Instant) {
        let Some(psi) = &self.psi else { return };
        let is_due = || self.inner().state.pressure_due(is_asked, now);
        if !is_due() {
            return;
        }
        let mut psi = psi.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_due() {
            return;
        }
        let readings = psi.read();
        let change = self.change(now, |inner| inner.state.feel(readings, now));
        drop(psi);
        match change {
            Some((true, pressure)) => info!(pressure; "pressure gate closed: the node is under pressure"),
            Some((false, _)) => info!("pressure gate open: the pressure has fallen"),
            None => {}
        }
    }

    /// Looks at the node where somebody waits for slots that follow it.
    fn read_node(&self, stat: &mut Stat, now: Instant) {
        if !self.inner().state.reading_due(now) {
            return;
        }
        let reading = stat.read(now);
        if let Some((status, waited)) = self.change(now, |inner| inner.state.read(reading, now)) {
            let (limit, in_flight, reason) = (status.limit, status.in_flight, status.reason.name());
            info!(limit, in_flight, reason, waited:% = Text::in_millis(waited); "the first waiter waits beside free slots: {status}");
        }
    }

    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner();
        let result = change(&mut inner);
        let after = inner.after();
        let next = inner.state.next_event(now);
        if let Some(next) = next.filter(|next| inner.alarm.is_none_or(|alarm| *next < alarm)) {
            inner.alarm = Some(next);
            self.earlier.notify_one();
        }
        let version = inner.state.book.version();
        if inner.file.as_ref().is_some_and(|file| file.version != Some(version)) {
            self.changed.notify_one();
        }
        drop(inner);
        after.run();
        result
    }

    /// No code that holds this lock can panic half-way through a change.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn after(&mut self) -> After {
        let news = self.state.news();
        let thread = |seat: &Seat| {
            let held = self.held.iter().find(|(held, ..)| held == seat);
            held.map(|(_, thread, is_called)| (thread.clone(), Arc::clone(is_called)))
        };
        After { called: news.called.iter().filter_map(thread).collect(), ended: news.ended, waited: news.waited }
    }
}

impl After {
    fn run(self) {
        for (thread, is_called) in &self.called {
            is_called.store(true, Ordering::Release);
            thread.unpark();
        }
        for (lease, how, at) in self.ended {
            let held = at.saturating_duration_since(lease.since);
            let level = level_of(lease.is_quiet);
            let (holder, peer, how) = (named(lease.holder.as_deref()), lease.address, how.name());
            log!(level, holder, peer:%, how, held:% = Text::in_millis(held); "lease ended");
        }
        for Waited { holder, address, waited, is_cut, is_quiet } in self.waited {
            let (level, holder) = (level_of(is_quiet), named(holder.as_deref()));
            let waited = Text::in_millis(waited);
            let what = if is_cut { "it would wait still, and is left out" } else { "its turn comes now" };
            log!(level, holder, peer:% = address, would_have_waited:% = waited; "shadow: {what}");
        }
    }
}

/// Of what is told of a lease's life.
pub fn level_of(is_quiet: bool) -> Level {
    if is_quiet { Level::Debug } else { Level::Info }
}

/// A holder in a log line.
pub fn named(holder: Option<&str>) -> &str {
    holder.unwrap_or("none")
}
