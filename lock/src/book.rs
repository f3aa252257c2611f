//! Who has a slot and who comes next: the leases and the line together.
//!
//! Pure: the time is an argument and never goes back. Knows nothing of HTTP, of checks (but that
//! they may let nobody in), of threads and files: what has to be done outside it keeps as [`News`].
//!
//! Invariants:
//! - there are never more leases than slots, but for those that a larger lock has left behind;
//! - a holder has a lease, or a place in line, or neither, and never two of them;
//! - no slot stays free while somebody asks for whom no slot before him is kept, and there is [`Room`];
//! - everything is bounded: leases by the slots, places by [`crate::queue::MOST`], held requests by
//!   [`SEATS`] or what it was given for that, remembered addresses by [`REMEMBERED`].

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::ready::Ready;

use crate::lease::{How, Id, Lease, Leases, Look, Seen, Watch, after};
use crate::queue::{Place, Queue, SEATS, Seat, Standing};
use crate::shadow::Waited;

/// The longest that an answer is held back.
pub const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// Nobody is told to stay away for longer; those who would be are spread over the last half of it.
const LONGEST_RETRY: u64 = 30;

/// The same for who can be held back, and comes to sit before it is his turn: unless so many are
/// before him that even quick leases take longer.
const LONGEST_SEATED: u64 = 15;

/// The same for who cannot, where a lease may be given up while the slot would be kept for him.
const LONGEST_KEPT: u64 = 10;

/// As soon as whole seconds can say.
const AT_ONCE: Duration = Duration::from_secs(1);

/// So many are told the same second of the next round of checks.
const AT_A_ROUND: u64 = 16;

/// While there is no room although slots are free, nobody is told to stay away for longer than this, or than the
/// line before him takes: room may come at any time. Those who would be are spread over the last seconds of it.
const LONGEST_WITHOUT_ROOM: u64 = 5;

/// What a lease that can end early is thought to last before one has ended: rather too little,
/// since whoever comes back too late leaves a slot empty, and too early only asks once more.
const QUICK: Duration = Duration::from_millis(250);

/// No application runs sooner after its gate: from the end of an init container to the start of the
/// next one the kubelet was seen to take 213 ms and more. A port that is open by then is not its own.
pub const TOO_SOON: Duration = Duration::from_millis(200);

/// A look that took this long was at a port that is hardly there.
const LONG_LOOK: Duration = Duration::from_millis(250);

/// So many look at ports that took long the last time; the others are for those that answer.
const AT_SLOW_PORTS: usize = 2;

/// An address without lease and place is remembered for so long, that it may not come back as one
/// that was never served.
const MEMORY: Duration = Duration::from_secs(60);

/// Between two looks for whom to forget.
const SWEEP: Duration = Duration::from_secs(1);

/// So many of these at most.
pub const REMEMBERED: usize = 1024;

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Whose lease it will be; a request that names nobody counts for itself.
    pub holder: Option<&'a str>,
    /// Where it comes from.
    pub address: IpAddr,
    /// How long the lease would last; more than zero.
    pub duration: Duration,
    /// What would end it earlier.
    pub ready: Option<&'a Ready>,
    /// How long the answer may be held back; zero for who would wait and has nowhere to.
    pub wait: Option<Duration>,
    /// See [`Lease::is_quiet`].
    pub is_quiet: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The slot is the asker's.
    Granted {
        /// The lease.
        id: Id,
        /// How long it lasts.
        duration: Duration,
        /// Since the holder first asked.
        waited: Duration,
        /// What [`Book::undo`] restores.
        before: Before,
    },
    /// The holder has a lease already.
    Again {
        /// The lease.
        id: Id,
        /// How much of it is left.
        remaining: Duration,
        /// Its holder asks from another address for the first time.
        has_moved: bool,
    },
    /// The answer is held back: to be asked for by [`Book::resume`] when called, or then.
    Held {
        /// Names the request.
        seat: Seat,
        /// When it has waited for as long as it may.
        until: Instant,
    },
    /// Not now.
    Refused(Refusal),
}

/// What a grant has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The holder's place in order of arrival; nothing where it had none.
    ticket: Option<u64>,
    /// When it first asked.
    asked: Instant,
    /// When its address had last been served.
    served: Option<Instant>,
    /// Slots that had been kept for its place in vain.
    misses: u8,
}

/// A request that has not got a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whole seconds, at least one.
    pub retry_after: Duration,
    /// The place in line, from 1; nothing for who has none.
    pub position: Option<usize>,
    /// When a slot is likely to be free.
    pub free_in: Duration,
    /// What keeps it from one now.
    pub cause: Cause,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// All are taken.
    Taken,
    /// One is free, and kept for who comes before.
    Kept,
    /// Some are free, but there is no [`Room`] yet.
    NoRoom,
}

/// What a holder has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Its lease.
    Lease,
    /// Its place in line.
    Place,
    /// It had neither, or is somebody else's.
    Nothing,
}

/// What has happened that somebody outside has to do something about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Held requests that are to look whether it is their turn.
    pub called: Vec<Seat>,
    /// Leases that have ended.
    pub ended: Vec<(Lease, How, Instant)>,
    /// Those who would have waited until now; none but in shadow mode.
    pub waited: Vec<Waited>,
}

/// One look at a lease's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose.
    pub id: Id,
    /// The holder's own address.
    pub address: IpAddr,
    /// What to ask there.
    pub ready: Ready,
}

/// How many more may get a slot for now, although more of them may be free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// So many.
    pub more: usize,
    /// When one more may at the latest.
    pub next: Instant,
    /// And one more in each such time after it.
    pub each: Duration,
}

/// What an address has had, and when it was last heard of.
#[derive(Clone, Copy, Debug)]
struct Known {
    standing: Standing,
    places: usize,
    seen: Instant,
}

impl Known {
    fn is_idle(&self) -> bool {
        self.standing.leases == 0 && self.places == 0
    }

    fn is_over(&self, now: Instant) -> bool {
        self.is_idle() && now.saturating_duration_since(self.seen) >= MEMORY
    }
}

/// The slots of this node and who waits for them.
#[derive(Debug)]
pub struct Book {
    slots: usize,
    /// The most held requests.
    seats: usize,
    room: Option<Room>,
    default: Duration,
    look_pause: Duration,
    leases: Leases,
    queue: Queue,
    addresses: HashMap<IpAddr, Known>,
    /// When those were last looked through for whom to forget.
    swept: Option<Instant>,
    /// Tickets, seats and leases are numbered together.
    next: u64,
    /// How long leases lasted lately.
    typical: Option<Duration>,
    /// Requests without a place that were refused, to tell them different seconds.
    strangers: u64,
    /// Leases that have begun.
    begun: usize,
    news: News,
    /// Grows with each change that a restart must not forget.
    version: u64,
}

impl Book {
    /// All slots free; there is at least one. `default` is what a lease lasts mostly, `look_pause`
    /// the longest pause between two looks at one port.
    pub fn new(slots: usize, default: Duration, look_pause: Duration) -> Book {
        Book {
            slots: slots.max(1),
            seats: SEATS,
            room: None,
            default,
            look_pause,
            leases: Leases::default(),
            queue: Queue::default(),
            addresses: HashMap::new(),
            swept: None,
            next: 0,
            typical: None,
            strangers: 0,
            begun: 0,
            news: News::default(),
            version: 0,
        }
    }

    /// So many requests are held at most.
    pub fn with_seats(self, seats: usize) -> Book {
        Book { seats, ..self }
    }

    /// No more than these get a slot until this is said anew; as many as are free where it is nothing.
    pub fn let_in(&mut self, room: Option<Room>) {
        self.room = room;
    }

    /// Decides on a request. While `closed_for` says when the checks run next, nobody new gets in.
    pub fn ask(&mut self, request: &Request, closed_for: Option<Duration>, now: Instant) -> Told {
        self.pass(now);
        if let Some(again) = self.again(request, now) {
            return again;
        }
        let at = self.stand_in_line(request, now);
        let wait = request.wait.filter(|wait| !wait.is_zero());
        let until = wait.map(|wait| after(now, wait.min(LONGEST_HOLD)));
        let told = self.decide(request, at, None, until, closed_for, now);
        self.call(closed_for, now);
        told
    }

    /// Decides on a request that was held back, when it was called or has waited for long enough.
    pub fn resume(
        &mut self,
        request: &Request,
        seat: Seat,
        until: Instant,
        closed_for: Option<Duration>,
        now: Instant,
    ) -> Told {
        self.pass(now);
        let told = match self.queue.seated(seat) {
            Some(at) => {
                self.queue.get_mut(at).is_called = false;
                let until = Some(until).filter(|until| *until > now);
                self.decide(request, Some(at), Some(seat), until, closed_for, now)
            }
            // It lost its seat to one that comes earlier, and keeps its place; or the holder has asked
            // anew, has given up, or was crowded out.
            None => match request.holder.and_then(|holder| self.queue.of(holder)) {
                Some(at) if self.queue.places()[at].seat.is_none() => {
                    self.decide(request, Some(at), None, None, closed_for, now)
                }
                _ => Told::Refused(Refusal {
                    retry_after: AT_ONCE,
                    position: None,
                    free_in: AT_ONCE,
                    cause: self.cause(),
                }),
            },
        };
        self.call(closed_for, now);
        told
    }

    /// The client of a held request has hung up; what was kept for it is not kept any more.
    pub fn hung_up(&mut self, seat: Seat, now: Instant) {
        if let Some(at) = self.queue.seated(seat) {
            self.queue.get_mut(at).gone(now);
        }
        self.call(None, now);
    }

    /// The grant could not be told: the slot is free again, and the holder where it was in line. Says when the lease
    /// had begun that there is no more.
    pub fn undo(&mut self, id: Id, before: Before, now: Instant) -> Option<Instant> {
        self.pass(now);
        // Whoever has asked again in the meantime has been told.
        self.leases.get(id).filter(|lease| !lease.was_told_again)?;
        let typical = self.typical;
        let lease = self.end(id, How::Released, now)?;
        self.typical = typical;
        let known = self.known(lease.address, now);
        if known.standing.served == Some(lease.since) {
            known.standing.served = before.served;
        }
        self.rank(lease.address);
        if let (Some(holder), Some(ticket)) = (lease.holder, before.ticket) {
            let mut place = Place::new(ticket, holder, lease.address, before.asked, now);
            place.misses = before.misses;
            place.gone(now);
            self.join(place, now);
        }
        self.call(None, now);
        Some(lease.since)
    }

    /// Ends a holder's lease or its place in line, where it asks from its own address or this machine.
    pub fn give_up(&mut self, holder: &str, from: IpAddr, now: Instant) -> GivenUp {
        self.pass(now);
        let may = |address: IpAddr| address == from || from.is_loopback();
        let given_up = if let Some(lease) = self.leases.of(holder).filter(|lease| may(lease.address)) {
            let id = lease.id;
            self.end(id, How::Released, now);
            GivenUp::Lease
        } else if let Some(at) = self.queue.of(holder).filter(|at| may(self.queue.places()[*at].address)) {
            let place = self.queue.leave(at);
            self.left(&place, now);
            self.version += 1;
            GivenUp::Place
        } else {
            GivenUp::Nothing
        };
        self.call(None, now);
        given_up
    }

    /// Ends a lease that was over then, for a reason that is known elsewhere.
    pub fn finish(&mut self, id: Id, how: How, at: Instant, now: Instant) {
        if let Some(lease) = self.leases.end(id) {
            self.version += 1;
            self.has_ended(lease, how, at, now);
        }
        self.call(None, now);
    }

    /// What this holder would be told of its place in line.
    pub fn expected(&mut self, holder: &str, now: Instant) -> Option<Refusal> {
        let at = self.queue.of(holder)?;
        Some(self.refusal(Some(at), true, None, now))
    }

    /// What is to be asked before this grant is answered, if anything.
    pub fn first_look(&mut self, id: Id) -> Option<Target> {
        let lease = self.leases.get_mut(id)?;
        let watch = lease.watch.as_ref().filter(|watch| watch.look == Look::First)?;
        Some(Target { id, address: lease.address, ready: watch.ready.clone() })
    }

    /// What the first look has given.
    pub fn first_looked(&mut self, target: &Target, seen: Seen, now: Instant) {
        let longest_pause = self.look_pause;
        let lease = self.leases.get_mut(target.id).filter(|lease| lease.address == target.address);
        if let Some(lease) = lease.filter(|lease| lease.look() == Some(Look::First)) {
            self.version += 1;
            not_ready(lease, seen, now, longest_pause);
        }
    }

    /// Whether any lease may be ended by its port.
    pub fn is_watching(&self) -> bool {
        self.leases.iter().any(Lease::is_watched)
    }

    /// Whether a port is to be looked at now.
    pub fn has_due_look(&self, now: Instant) -> bool {
        let has_room = self.has_room_for_slow();
        self.leases.iter().any(|lease| is_due(lease, has_room, now))
    }

    /// A port whose turn it is to be looked at.
    pub fn due_look(&mut self, now: Instant) -> Option<Target> {
        let has_room = self.has_room_for_slow();
        let due = self.leases.iter_mut().filter(|lease| is_due(lease, has_room, now));
        let lease = due.min_by_key(|lease| match lease.look() {
            Some(Look::At(at)) => at,
            _ => now,
        })?;
        lease.set_look(Look::Looking);
        let ready = lease.watch.as_ref()?.ready.clone();
        Some(Target { id: lease.id, address: lease.address, ready })
    }

    /// What a look has given: the first success ends the lease, unless it comes too soon to mean
    /// anything. Whether it did is handed back.
    pub fn looked(&mut self, target: &Target, seen: Seen, took: Duration, now: Instant) -> bool {
        self.pass(now);
        let longest_pause = self.look_pause;
        let lease = self.leases.get_mut(target.id).filter(|lease| lease.look() == Some(Look::Looking));
        let Some(lease) = lease.filter(|lease| lease.address == target.address) else { return false };
        let is_early = now.saturating_duration_since(lease.since) < TOO_SOON;
        let Some(watch) = &mut lease.watch else { return false };
        watch.is_slow = took >= LONG_LOOK;
        let is_ready = seen == Seen::Open && (watch.was_closed || !is_early);
        if is_ready {
            self.end(target.id, How::Ready, now);
        } else {
            not_ready(lease, seen, now, longest_pause);
        }
        self.call(None, now);
        seen == Seen::Open && !is_ready
    }

    /// The checks have begun to hold everybody back: those who are held know nothing of it yet.
    pub fn close(&mut self) {
        for place in self.queue.places().iter().filter(|place| !place.is_called) {
            self.news.called.extend(place.seat);
        }
    }

    /// Ends what is over.
    pub fn pass(&mut self, now: Instant) {
        while let Some(lease) = self.leases.expire_one(now) {
            let at = lease.deadline;
            self.has_ended(lease, How::Expired, at, now);
        }
        while let Some(place) = self.queue.lapse_one(now) {
            self.left(&place, now);
            self.version += 1;
        }
        self.forget(now);
    }

    /// Ends what is over, and calls those for whom there is a slot now.
    pub fn tick(&mut self, closed_for: Option<Duration>, now: Instant) {
        self.pass(now);
        self.call(closed_for, now);
    }

    /// When something happens by itself next: a lease ends, a slot is kept no longer, a port is due, there is room.
    pub fn next_event(&self, now: Instant) -> Option<Instant> {
        let lapse = if self.free() > 0 && self.queue.has_seated() { self.queue.next_lapse(now) } else { None };
        let look = self.leases.iter().filter_map(|lease| match lease.look() {
            // Those that are due already wait for somebody who looks, not for the time.
            Some(Look::At(at)) if at > now => Some(at),
            _ => None,
        });
        let room = self.room.filter(|room| room.more == 0 && self.queue.has_seated()).map(|room| room.next);
        // One that has come would let the clock spin; how much room there is then is said with the next tick.
        let room = room.filter(|at| *at > now && self.has_slot());
        self.leases.first_deadline().into_iter().chain(lapse).chain(look).chain(room).min()
    }

    /// What has happened since this was asked last.
    pub fn news(&mut self) -> News {
        mem::take(&mut self.news)
    }

    /// The held requests alone of that.
    pub fn called(&mut self) -> Vec<Seat> {
        mem::take(&mut self.news.called)
    }

    /// Whether a request without a name would get a slot now; else when one may.
    pub fn is_free(&mut self, now: Instant) -> Result<(), Refusal> {
        self.pass(now);
        match self.queue.live_before(None, now) < self.free() {
            true => Ok(()),
            false => Err(self.refusal(None, false, None, now)),
        }
    }

    /// What a request without a name is told while the checks let nobody in.
    pub fn closed(&self, closed_for: Duration) -> Refusal {
        let retry_after = seconds(whole_seconds(closed_for));
        Refusal { retry_after, position: None, free_in: closed_for, cause: self.cause() }
    }

    /// The slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// So many from now on; there is at least one. Leases beyond them end as they would.
    pub fn set_slots(&mut self, slots: usize) {
        self.slots = slots.max(1);
    }

    /// The leases that have begun so far.
    pub fn begun(&self) -> usize {
        self.begun
    }

    /// The leases that have ended since [`Book::news`] was asked last.
    pub fn ended_lately(&self) -> &[(Lease, How, Instant)] {
        &self.news.ended
    }

    /// The leases.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The line.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Grows with each change that a restart must not forget.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes over a lease from before a restart.
    pub fn restore_lease(&mut self, mut lease: Lease, now: Instant) {
        if lease.deadline <= now || lease.holder.as_deref().is_some_and(|holder| self.knows(holder)) {
            return;
        }
        lease.id = Id(self.number());
        self.has_one_more(lease.address, lease.since, now);
        self.leases.begin(lease);
    }

    /// Takes over a place from before a restart, behind those that were taken over before it.
    pub fn restore_place(&mut self, holder: Arc<str>, address: IpAddr, since: Instant, now: Instant) {
        if self.knows(&holder) {
            return;
        }
        let mut place = Place::new(self.number(), holder, address, since, now);
        // Nobody knows when it was due to ask: whoever was held back comes within a second or so.
        place.told(AT_ONCE, now);
        self.join(place, now);
    }

    fn knows(&self, holder: &str) -> bool {
        self.leases.of(holder).is_some() || self.queue.of(holder).is_some()
    }

    /// The same holder gets the same lease, whatever the checks say: it has been let in.
    fn again(&mut self, request: &Request, now: Instant) -> Option<Told> {
        let lease = self.leases.of(request.holder?)?;
        let (id, old) = (lease.id, lease.address);
        let remaining = lease.deadline.saturating_duration_since(now);
        let has_moved = old != request.address;
        let lease = self.leases.get_mut(id)?;
        lease.was_told_again = true;
        let is_first_move = has_moved && !lease.has_moved && !lease.is_quiet;
        if has_moved {
            lease.has_moved = true;
            lease.address = request.address;
            let ready = lease.watch.take().map(|watch| watch.ready);
            lease.watch = watch(ready.as_ref());
            self.has_one_less(old, now);
            self.has_one_more(request.address, now, now);
            self.version += 1;
        }
        Some(Told::Again { id, remaining, has_moved: is_first_move })
    }

    /// The holder's place, found or made; nothing for who has no name or finds no room.
    fn stand_in_line(&mut self, request: &Request, now: Instant) -> Option<usize> {
        let holder = request.holder?;
        if let Some(at) = self.queue.of(holder) {
            let place = &self.queue.places()[at];
            if place.address == request.address {
                let seat = place.seat;
                // Whoever is still held back under this name is told so.
                self.news.called.extend(seat);
                self.queue.get_mut(at).told(Duration::ZERO, now);
                return Some(at);
            }
            let mut place = self.queue.leave(at);
            self.left(&place, now);
            place.address = request.address;
            place.told(Duration::ZERO, now);
            self.join(place, now);
            self.version += 1;
        } else {
            let place = Place::new(self.number(), holder.into(), request.address, now, now);
            self.join(place, now);
            self.version += u64::from(self.queue.of(holder).is_some());
        }
        self.queue.of(holder)
    }

    fn decide(
        &mut self,
        request: &Request,
        at: Option<usize>,
        seat: Option<Seat>,
        until: Option<Instant>,
        closed_for: Option<Duration>,
        now: Instant,
    ) -> Told {
        if closed_for.is_none() && self.free() > 0 && self.queue.live_before(at, now) < self.free() {
            return self.grant(request, at, now);
        }
        if let (Some(at), Some(until), None) = (at, until, closed_for)
            && let Some(seat) = self.seat(at, seat, now)
        {
            return Told::Held { seat, until };
        }
        let can_be_held = at.is_some() && request.wait.is_some();
        let refusal = self.refusal(at, can_be_held, closed_for, now);
        match at {
            Some(at) => self.queue.get_mut(at).told(refusal.retry_after, now),
            None => self.strangers += 1,
        }
        Told::Refused(refusal)
    }

    fn grant(&mut self, request: &Request, at: Option<usize>, now: Instant) -> Told {
        let id = Id(self.number());
        self.begun += 1;
        self.strangers = 0;
        if let Some(room) = &mut self.room {
            room.more = room.more.saturating_sub(1);
        }
        self.queue.pass_by(at, now);
        let place = at.map(|at| self.queue.leave(at));
        if let Some(place) = &place {
            self.left(place, now);
        }
        let served = self.known(request.address, now).standing.served;
        let asked = place.as_ref().map_or(now, |place| place.since);
        let before = Before {
            ticket: place.as_ref().map(|place| place.ticket),
            asked,
            served,
            misses: place.as_ref().map_or(0, |place| place.misses),
        };
        self.has_one_more(request.address, now, now);
        self.leases.begin(Lease {
            id,
            holder: place.map(|place| place.holder).or_else(|| request.holder.map(Arc::from)),
            address: request.address,
            since: now,
            deadline: after(now, request.duration),
            watch: watch(request.ready),
            is_quiet: request.is_quiet,
            has_moved: false,
            was_told_again: false,
        });
        self.version += 1;
        let waited = now.saturating_duration_since(asked);
        Told::Granted { id, duration: request.duration, waited, before }
    }

    /// A seat for those who come next. Where all are taken, the one that comes last gets up.
    fn seat(&mut self, at: usize, seat: Option<Seat>, now: Instant) -> Option<Seat> {
        if seat.is_some() {
            return seat;
        }
        if self.queue.seats() >= self.seats {
            let last = self.queue.last_seated().filter(|last| self.queue.is_before(at, *last))?;
            let last = self.queue.get_mut(last);
            // Its thread finds the seat gone, and answers.
            self.news.called.extend(last.seat);
            last.told(AT_ONCE, now);
        }
        let seat = Seat(self.number());
        self.queue.get_mut(at).hold(seat);
        Some(seat)
    }

    fn refusal(&mut self, at: Option<usize>, can_be_held: bool, closed_for: Option<Duration>, now: Instant) -> Refusal {
        let before = at.map_or(self.queue.places().len(), |at| self.queue.before(at));
        let position = at.map(|_| before + 1);
        let number = at.map_or(self.strangers, |at| self.queue.places()[at].ticket);
        if let Some(next_round) = closed_for {
            let retry_after = whole_seconds(next_round).saturating_add(before as u64 / AT_A_ROUND);
            return Refusal { retry_after: seconds(retry_after), position, free_in: next_round, cause: self.cause() };
        }
        let mut free_in = self.free_in(before, self.typical.unwrap_or(self.default), false, now);
        let may_end_early = can_be_held || self.leases.iter().any(Lease::is_watched);
        let may_be_given_up = may_end_early || self.leases.iter().any(|lease| lease.holder.is_some());
        let is_seated = can_be_held && before < SEATS;
        let retry_after = if is_seated {
            1
        } else if may_end_early {
            // Half-way to when it comes to sit, so that it is not late where leases get shorter.
            let typical = self.typical.unwrap_or(QUICK.min(self.default));
            let ahead = if can_be_held { before - SEATS } else { before };
            whole_seconds(self.free_in(ahead, typical, true, now) / 2)
        } else {
            whole_seconds(free_in)
        };
        let retry_after = match self.room.filter(|room| room.more == 0) {
            None => retry_after,
            Some(Room { next, each, .. }) => {
                let next = next.saturating_duration_since(now);
                free_in = free_in.max(next.saturating_add(each.saturating_mul(before as u32)));
                let soon = LONGEST_WITHOUT_ROOM - number % (LONGEST_WITHOUT_ROOM / 2 + 1);
                if is_seated { retry_after } else { retry_after.max(soon.min(whole_seconds(next))) }
            }
        };
        // Strangers are all told of the same slot; only one of them will get it.
        let spread = if at.is_none() { number % (retry_after / 2 + 2) } else { 0 };
        let longest = match (can_be_held, may_be_given_up) {
            (true, _) => {
                let turns = before.saturating_sub(SEATS) / self.slots;
                LONGEST_SEATED.max(QUICK.as_millis() as u64 / 2 * turns as u64 / 1000).min(LONGEST_RETRY)
            }
            (false, true) => LONGEST_KEPT,
            (false, false) => LONGEST_RETRY,
        };
        let retry_after = match retry_after.saturating_add(spread) {
            late if late > longest => longest - number % (longest / 2 + 1),
            soon => soon,
        };
        Refusal { retry_after: seconds(retry_after), position, free_in, cause: self.cause() }
    }

    /// When there is likely to be a slot for one with so many before him; `all_early` where not only
    /// those leases may end early whose ports are looked at.
    fn free_in(&self, before: usize, typical: Duration, all_early: bool, now: Instant) -> Duration {
        let over_in = |lease: &Lease| {
            let is_early = all_early || lease.is_watched();
            let end = if is_early { after(lease.since, typical).min(lease.deadline) } else { lease.deadline };
            end.saturating_duration_since(now)
        };
        let mut ends: Vec<Duration> = self.leases.iter().map(over_in).collect();
        let left_behind = ends.len().saturating_sub(self.slots);
        ends.resize(ends.len().max(self.slots), Duration::ZERO);
        let (rounds, nth) = (before / self.slots, before % self.slots + left_behind);
        let (_, first, _) = ends.select_nth_unstable(nth);
        first.saturating_add(typical.saturating_mul(rounds as u32))
    }

    fn has_room_for_slow(&self) -> bool {
        let looking =
            |lease: &&Lease| lease.watch.as_ref().is_some_and(|watch| watch.is_slow && watch.look == Look::Looking);
        self.leases.iter().filter(looking).count() < AT_SLOW_PORTS
    }

    fn free(&self) -> usize {
        let free = self.slots.saturating_sub(self.leases.count());
        self.room.map_or(free, |room| free.min(room.more))
    }

    /// Not all slots are taken, whoever the others are kept for.
    pub fn has_slot(&self) -> bool {
        self.leases.count() < self.slots
    }

    fn cause(&self) -> Cause {
        match (self.has_slot(), self.free()) {
            (false, _) => Cause::Taken,
            (true, 0) => Cause::NoRoom,
            (true, _) => Cause::Kept,
        }
    }

    fn call(&mut self, closed_for: Option<Duration>, now: Instant) {
        if closed_for.is_none() && self.free() > 0 && self.queue.has_seated() {
            let called = self.queue.call(self.free(), now);
            self.news.called.extend(called);
        }
    }

    fn end(&mut self, id: Id, how: How, now: Instant) -> Option<Lease> {
        let lease = self.leases.end(id)?;
        self.version += 1;
        self.has_ended(lease.clone(), how, now, now);
        Some(lease)
    }

    fn has_ended(&mut self, lease: Lease, how: How, at: Instant, now: Instant) {
        let held = at.saturating_duration_since(lease.since);
        self.typical = Some(self.typical.map_or(held, |typical| (typical * 3 + held) / 4));
        self.has_one_less(lease.address, now);
        self.news.ended.push((lease, how, at));
    }

    fn join(&mut self, place: Place, now: Instant) {
        let known = self.known(place.address, now);
        known.places += 1;
        let standing = known.standing;
        if let Some(out) = self.queue.join(place, standing) {
            self.left(&out, now);
        }
    }

    /// A place is not in line any more.
    fn left(&mut self, place: &Place, now: Instant) {
        self.news.called.extend(place.seat);
        self.known(place.address, now).places -= 1;
        self.rank(place.address);
    }

    /// An address has a lease more, and was served then.
    fn has_one_more(&mut self, address: IpAddr, served: Instant, now: Instant) {
        let standing = &mut self.known(address, now).standing;
        standing.leases += 1;
        standing.served = standing.served.max(Some(served));
        self.rank(address);
    }

    fn has_one_less(&mut self, address: IpAddr, now: Instant) {
        self.known(address, now).standing.leases -= 1;
        self.rank(address);
    }

    fn rank(&mut self, address: IpAddr) {
        if let Some(known) = self.addresses.get(&address) {
            self.queue.rank(address, known.standing);
        }
    }

    fn known(&mut self, address: IpAddr, now: Instant) -> &mut Known {
        let new = Known { standing: Standing { leases: 0, served: None }, places: 0, seen: now };
        let known = self.addresses.entry(address).or_insert(new);
        if known.is_over(now) {
            *known = new;
        }
        known.seen = now;
        known
    }

    /// Forgets those that have neither lease nor place, after a while, or before where they are too
    /// many.
    fn forget(&mut self, now: Instant) {
        // Who is forgotten a little late is taken for a stranger all the same, see `known`.
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP) {
            self.swept = Some(now);
            self.addresses.retain(|_, known| !known.is_over(now));
        }
        while self.addresses.len() > self.leases.count() + self.queue.places().len() + REMEMBERED {
            let idle = self.addresses.iter().filter(|(_, known)| known.is_idle());
            let Some((oldest, _)) = idle.min_by_key(|(_, known)| known.seen) else { return };
            let oldest = *oldest;
            self.addresses.remove(&oldest);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// After a look that does not end the lease.
fn not_ready(lease: &mut Lease, seen: Seen, now: Instant, longest_pause: Duration) {
    let Some(watch) = &mut lease.watch else { return };
    match seen {
        Seen::Open | Seen::Barred(_) => watch.look = Look::Open,
        Seen::Closed | Seen::Silent => {
            watch.was_closed |= seen == Seen::Closed;
            lease.look_again(now, longest_pause);
        }
    }
}

fn is_due(lease: &Lease, has_room_for_slow: bool, now: Instant) -> bool {
    let is_due = matches!(lease.look(), Some(Look::At(at)) if at <= now);
    is_due && (has_room_for_slow || !lease.watch.as_ref().is_some_and(|watch| watch.is_slow))
}

fn watch(ready: Option<&Ready>) -> Option<Box<Watch>> {
    let ready = ready?.clone();
    Some(Box::new(Watch { ready, look: Look::First, was_closed: false, is_slow: false }))
}

/// Up, so that nobody comes too early, and at least 1.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests;
