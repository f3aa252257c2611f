//! The scheduler against a naive model of the rules: plain lists that are searched from scratch.
//!
//! - An active holder gets its lease again; a request from another address moves it.
//! - A slot goes to the parked waiter whose address has the fewest leases; of equals, to the
//!   address that was served longest ago; of equals, to the first to arrive.
//! - A request without a wait begins a lease if a slot is free and no parked waiter may have it.
//! - The order of arrival is kept for the grace: after a hang-up, after a grant that was not read,
//!   and after the time that a refusal names.

use super::*;
use proptest::prelude::*;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const ADDRESSES: u32 = 4;
const MOST_PARKED: usize = 4;

/// The time after which a refused client returns.
const RETRY: Duration = SECOND;

/// Longer schedules would need the model to forget addresses.
const LONGEST: Duration = Duration::from_secs(50);

#[derive(Clone, Debug)]
enum Event {
    Request { holder: Option<usize>, from: u32, wait: Option<u32>, millis: u32 },
    HangUp { nth: usize },
    Undo { nth: usize },
    Release { holder: usize, from: u32 },
    Ready { nth: usize },
    Quota { left: usize },
    Pass { millis: u32 },
}

fn event() -> impl Strategy<Value = Event> {
    let millis = || {
        prop_oneof![1..3u32, 1..3_000u32, Just(1_000), Just(2_000), Just(3_000), 3_000..12_000u32]
    };
    let holder = || prop::option::weighted(0.9, 0..NAMES.len());
    let wait = prop::option::weighted(0.8, millis());
    prop_oneof![
        10 => (holder(), 0..ADDRESSES, wait, millis())
            .prop_map(|(holder, from, wait, millis)| Event::Request { holder, from, wait, millis }),
        2 => (0..4usize).prop_map(|nth| Event::HangUp { nth }),
        2 => (0..4usize).prop_map(|nth| Event::Undo { nth }),
        // The last address is the loopback.
        2 => (0..NAMES.len(), 0..=ADDRESSES).prop_map(|(holder, from)| Event::Release { holder, from }),
        2 => (0..4usize).prop_map(|nth| Event::Ready { nth }),
        2 => prop_oneof![Just(0usize), Just(1), Just(usize::MAX)].prop_map(|left| Event::Quota { left }),
        5 => millis().prop_map(|millis| Event::Pass { millis }),
    ]
}

#[derive(Clone, Debug)]
struct Active {
    /// Leases before this one.
    number: usize,
    holder: Option<usize>,
    from: u32,
    since: Instant,
    deadline: Instant,
    is_confirmed: bool,
    has_moved: bool,
    /// The arrival of its waiter.
    ticket: u64,
    arrived: Instant,
}

#[derive(Clone, Debug)]
struct Waiting {
    ticket: u64,
    holder: usize,
    from: u32,
    since: Instant,
    /// The name of the parked request and the duration that it asks for.
    parked: Option<(WaiterId, Duration)>,
    /// The end of the wait or of the grace.
    ends: Instant,
}

/// A grant: the parked request, the number of the lease, its holder, how long the holder waited.
type Granted = (Option<WaiterId>, usize, Option<usize>, Duration);

#[derive(Debug)]
struct Model {
    slots: usize,
    quota: usize,
    leases: Vec<Active>,
    waiters: Vec<Waiting>,
    /// The number of the last grant of each address.
    served: [Option<usize>; ADDRESSES as usize],
    grants: usize,
    tickets: u64,
    numbers: usize,
    parks: u64,
    ended: Vec<(usize, LeaseEnd, Instant)>,
    dismissed: Vec<WaiterId>,
    granted: Vec<Granted>,
}

impl Model {
    fn new(slots: usize) -> Model {
        let (leases, waiters, served, grants) = Default::default();
        let (ended, dismissed, granted) = Default::default();
        let (tickets, numbers, parks, quota) = (0, 0, 0, usize::MAX);
        Model {
            slots,
            quota,
            leases,
            waiters,
            served,
            grants,
            tickets,
            numbers,
            parks,
            ended,
            dismissed,
            granted,
        }
    }

    fn leases_of(&self, from: u32) -> usize {
        self.leases.iter().filter(|lease| lease.from == from).count()
    }

    fn may_start(&self) -> bool {
        self.quota > 0 && self.leases.len() < self.slots
    }

    fn advance(&mut self, now: Instant) {
        self.leases.sort_by_key(|lease| (lease.deadline, lease.number));
        for lease in self.leases.extract_if(.., |lease| lease.deadline <= now) {
            self.ended.push((lease.number, LeaseEnd::Expired, lease.deadline));
        }
        self.waiters.sort_by_key(|waiter| waiter.ticket);
        self.waiters.retain(|waiter| waiter.parked.is_some() || waiter.ends > now);
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.ends <= now) {
            self.dismissed.extend(waiter.parked.take().map(|(id, _)| id));
            waiter.ends = now + RETRY + GRACE;
        }
        while self.may_start() {
            let parked = self.waiters.iter().filter(|waiter| waiter.parked.is_some());
            let rank =
                |w: &&Waiting| (self.leases_of(w.from), self.served[w.from as usize], w.ticket);
            let Some(first) = parked.min_by_key(rank).map(|waiter| waiter.ticket) else { break };
            let at = self.waiters.iter().position(|waiter| waiter.ticket == first).unwrap();
            let Waiting { ticket, holder, from, since, parked, .. } = self.waiters.remove(at);
            let (id, duration) = parked.unwrap();
            self.grant(Some(id), Some(holder), from, duration, (ticket, since), now);
        }
    }

    fn grant(
        &mut self,
        id: Option<WaiterId>,
        holder: Option<usize>,
        from: u32,
        duration: Duration,
        (ticket, arrived): (u64, Instant),
        now: Instant,
    ) {
        let (number, deadline) = (self.numbers, now + duration);
        self.numbers += 1;
        self.quota -= 1;
        self.grants += 1;
        self.served[from as usize] = Some(self.grants);
        let (is_confirmed, has_moved, since) = (false, false, now);
        self.leases.push(Active {
            number,
            holder,
            from,
            since,
            deadline,
            is_confirmed,
            has_moved,
            ticket,
            arrived,
        });
        self.granted.push((id, number, holder, now - arrived));
    }

    /// A lease that the holder has, or whether its request is parked; `None` if it is refused.
    fn request(
        &mut self,
        holder: Option<usize>,
        from: u32,
        wait: Option<Duration>,
        duration: Duration,
        now: Instant,
    ) -> Seen {
        if let Some(lease) =
            self.leases.iter_mut().find(|lease| holder.is_some() && lease.holder == holder)
        {
            let has_moved = lease.from != from;
            // The log does not follow a short lease.
            let is_logged = lease.deadline - lease.since >= SECOND;
            let is_first = has_moved && !lease.has_moved && is_logged;
            (lease.is_confirmed, lease.has_moved) = (true, lease.has_moved || has_moved);
            if has_moved {
                lease.from = from;
                self.grants += 1;
                self.served[from as usize] = Some(self.grants);
            }
            return Seen::Again(lease.number, lease.deadline - now, is_first);
        }
        let old = self.waiters.iter().position(|waiter| Some(waiter.holder) == holder);
        let old = old.map(|at| self.waiters.remove(at));
        self.dismissed.extend(old.iter().filter_map(|old| old.parked).map(|(id, _)| id));
        self.tickets += 1;
        let (ticket, since) = old.map_or((self.tickets, now), |old| (old.ticket, old.since));
        match (holder, wait) {
            (Some(holder), Some(wait)) => {
                let parked = Some((WaiterId(self.parks), duration));
                self.waiters.push(Waiting {
                    ticket,
                    holder,
                    from,
                    since,
                    parked,
                    ends: now + wait,
                });
                self.dismiss_excess(now);
                Seen::Parked
            }
            _ if self.may_start() => {
                self.grant(None, holder, from, duration, (ticket, since), now);
                Seen::Granted
            }
            (Some(holder), None) => {
                let ends = now + RETRY + GRACE;
                self.waiters.push(Waiting { ticket, holder, from, since, parked: None, ends });
                Seen::Refused
            }
            (None, _) => Seen::Refused,
        }
    }

    /// The parked waiter with the most waiters of its address before it is dismissed; of equals,
    /// the newest.
    fn dismiss_excess(&mut self, now: Instant) {
        let parked = |waiter: &&Waiting| waiter.parked.is_some();
        if self.waiters.iter().filter(parked).count() <= MOST_PARKED {
            return;
        }
        let before = |this: &Waiting| {
            self.waiters
                .iter()
                .filter(|other| other.from == this.from && other.ticket < this.ticket)
                .count()
        };
        let last =
            self.waiters.iter().filter(parked).max_by_key(|waiter| (before(waiter), waiter.ticket));
        let ticket = last.unwrap().ticket;
        let last = self.waiters.iter_mut().find(|waiter| waiter.ticket == ticket).unwrap();
        self.dismissed.extend(last.parked.take().map(|(id, _)| id));
        last.ends = now + RETRY + GRACE;
    }

    fn undo(&mut self, nth: usize, now: Instant) {
        if self.leases[nth].is_confirmed {
            return;
        }
        let Active { number, holder, from, ticket, arrived: since, .. } = self.leases.remove(nth);
        self.ended.push((number, LeaseEnd::Released, now));
        self.quota = self.quota.saturating_add(1);
        if let Some(holder) = holder {
            self.waiters.push(Waiting {
                ticket,
                holder,
                from,
                since,
                parked: None,
                ends: now + GRACE,
            });
        }
    }

    fn release(&mut self, holder: usize, from: u32, now: Instant) -> ReleaseEffect {
        let may_release = |address: u32| address == from || from == ADDRESSES;
        let lease = self
            .leases
            .iter()
            .position(|lease| lease.holder == Some(holder) && may_release(lease.from));
        if let Some(at) = lease {
            self.ended.push((self.leases.remove(at).number, LeaseEnd::Released, now));
            return ReleaseEffect::Lease;
        }
        let waiter = self
            .waiters
            .iter()
            .position(|waiter| waiter.holder == holder && may_release(waiter.from));
        let Some(at) = waiter else { return ReleaseEffect::Nothing };
        self.dismissed.extend(self.waiters.remove(at).parked.map(|(id, _)| id));
        ReleaseEffect::Waiter
    }

    /// All waiters, present or not, as if all were granted one by one and no lease ended.
    fn order(&self) -> Vec<&str> {
        let mut leases: Vec<usize> = (0..ADDRESSES).map(|from| self.leases_of(from)).collect();
        // Grants of this count come after all grants so far.
        let mut served: Vec<_> = self.served.iter().map(|at| (0, *at)).collect();
        let mut left: Vec<&Waiting> = self.waiters.iter().collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let rank = |at: &usize| {
                let from = left[*at].from as usize;
                (leases[from], served[from], left[*at].ticket)
            };
            let first = left.remove((0..left.len()).min_by_key(rank).unwrap());
            leases[first.from as usize] += 1;
            served[first.from as usize] = (order.len() + 1, None);
            order.push(NAMES[first.holder]);
        }
        order
    }
}

/// The response to a request.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The number of the lease, its remaining time, and whether its holder has moved for the first
    /// time.
    Again(usize, Duration, bool),
    Granted,
    Parked,
    Refused,
}

struct Run {
    node: Node,
    model: Model,
    /// Leases by their number in the model.
    leases: Vec<LeaseId>,
    undos: Vec<Arrival>,
    /// The state and its version after the last event.
    durable: Vec<(Option<usize>, u32, Instant, bool)>,
    version: u64,
    now: Instant,
}

impl Run {
    fn event(&mut self, event: &Event, begin: Instant) -> Result<(), TestCaseError> {
        let (node, model, now) = (&mut self.node, &mut self.model, self.now);
        node.advance(now);
        model.advance(now);
        match *event {
            Event::Request { holder, from, wait, millis } => {
                let (name, wait) =
                    (holder.map_or("", |holder| NAMES[holder]), wait.map(|wait| wait * MILLI));
                let wait = wait.filter(|_| holder.is_some());
                let duration = millis * MILLI;
                let request = LeaseRequest { wait, duration: Some(duration), ..polls(name, from) };
                model.parks += u64::from(wait.is_some());
                let response = node.request(&request, now);
                let expected = model.request(holder, from, wait, duration, now);
                let actual = match response {
                    Placement::AlreadyGranted(Outcome::AlreadyGranted {
                        lease,
                        remaining,
                        has_moved,
                    }) => {
                        let number = self.leases.iter().position(|id| *id == lease).unwrap();
                        Seen::Again(number, remaining, has_moved)
                    }
                    Placement::AlreadyGranted(other) => panic!("{other:?}"),
                    Placement::Granted(start) => {
                        let (.., waited) = model.granted.pop().unwrap();
                        prop_assert_eq!((start.waited, start.duration), (waited, duration));
                        self.leases.push(start.lease);
                        self.undos.push(start.arrival);
                        Seen::Granted
                    }
                    Placement::Parked => Seen::Parked,
                    Placement::Refused => Seen::Refused,
                };
                prop_assert_eq!(actual, expected);
            }
            Event::HangUp { nth } => {
                let waiter =
                    model.waiters.iter_mut().filter(|waiter| waiter.parked.is_some()).nth(nth);
                let Some(waiter) = waiter else { return Ok(()) };
                let (id, _) = waiter.parked.take().unwrap();
                waiter.ends = now + GRACE;
                prop_assert!(node.scheduler.hang_up(id, now));
            }
            Event::Undo { nth } => {
                let Some(lease) = model.leases.get(nth) else { return Ok(()) };
                let id = self.leases[lease.number];
                let expected = (!lease.is_confirmed).then_some(lease.since);
                let undo = self.undos[lease.number];
                let undone = node.scheduler.undo(id, undo, now);
                prop_assert_eq!(undone, expected);
                node.quota = node.quota.saturating_add(usize::from(undone.is_some()));
                model.undo(nth, now);
            }
            Event::Release { holder, from } => {
                let address =
                    if from == ADDRESSES { Ipv4Addr::LOCALHOST.into() } else { address(from) };
                let released = node.scheduler.release(NAMES[holder], address, now);
                prop_assert_eq!(released, model.release(holder, from, now));
            }
            Event::Ready { nth } => {
                if nth < model.leases.len() {
                    let number = model.leases.remove(nth).number;
                    model.ended.push((number, LeaseEnd::Ready, now));
                    node.scheduler.finish(self.leases[number], LeaseEnd::Ready, now, now);
                }
            }
            Event::Quota { left } => (node.quota, model.quota) = (left, left),
            Event::Pass { millis } => self.now = (now + millis * MILLI).min(begin + LONGEST),
        }
        let now = self.now;
        self.node.advance(now);
        self.model.advance(now);
        self.compare()
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let (node, model, now) = (&mut self.node, &mut self.model, self.now);
        let granted: Vec<_> = node.granted.drain(..).collect();
        prop_assert_eq!(granted.len(), model.granted.len());
        for ((id, request, start), expected) in granted.into_iter().zip(model.granted.drain(..)) {
            let holder = NAMES.iter().position(|name| Some(*name) == request.holder.as_deref());
            prop_assert_eq!((Some(id), self.leases.len(), holder, start.waited), expected);
            self.leases.push(start.lease);
            self.undos.push(start.arrival);
        }
        let number = |id: LeaseId| self.leases.iter().position(|known| *known == id).unwrap();
        let ended: Vec<_> = node
            .ended
            .drain(..)
            .map(|ended| (number(ended.lease.id), ended.end, ended.at))
            .collect();
        prop_assert_eq!(ended, std::mem::take(&mut model.ended));
        node.dismissed.sort_unstable();
        model.dismissed.sort_unstable();
        prop_assert_eq!(std::mem::take(&mut node.dismissed), std::mem::take(&mut model.dismissed));

        let scheduler = &node.scheduler;
        let leases: Vec<_> = scheduler
            .leases()
            .iter()
            .map(|l| (number(l.id), l.address, l.since, l.deadline))
            .collect();
        model.leases.sort_by_key(|lease| (lease.deadline, lease.number));
        let expected: Vec<_> =
            model.leases.iter().map(|l| (l.number, address(l.from), l.since, l.deadline)).collect();
        prop_assert_eq!(leases, expected);
        prop_assert!(model.leases.len() <= model.slots);

        model.waiters.sort_by_key(|waiter| waiter.ticket);
        let parked = |waiter: &Waiter| match &waiter.presence {
            Presence::Parked(parked) => Some(parked.id),
            Presence::Away { .. } => None,
        };
        let queue = scheduler.queue();
        let waiters: Vec<_> = queue
            .waiters()
            .iter()
            .map(|w| (&*w.holder, w.address, w.arrival.since, parked(w)))
            .collect();
        let expected =
            |w: &Waiting| (NAMES[w.holder], address(w.from), w.since, w.parked.map(|(id, _)| id));
        let expected: Vec<_> = model.waiters.iter().map(expected).collect();
        prop_assert_eq!(waiters, expected);
        prop_assert_eq!(
            queue.parked(),
            model.waiters.iter().filter(|waiter| waiter.parked.is_some()).count()
        );
        prop_assert!(queue.parked() <= MOST_PARKED);
        prop_assert!(
            queue.parked() == 0 || !model.may_start(),
            "a slot is free while a waiter is parked"
        );
        let order = node.order();
        prop_assert_eq!(&order, &model.order());
        for (at, holder) in order.iter().enumerate() {
            prop_assert_eq!(queue.before(holder), Some(at));
        }
        let ends = model
            .waiters
            .iter()
            .map(|waiter| waiter.ends)
            .chain(model.leases.iter().map(|l| l.deadline));
        prop_assert_eq!(scheduler.poll_at(now), ends.min());
        self.compare_version()
    }

    /// Each change that a restart must not lose has a version of its own.
    fn compare_version(&mut self) -> Result<(), TestCaseError> {
        let leases =
            self.model.leases.iter().map(|lease| (lease.holder, lease.from, lease.deadline, true));
        let waiters = self
            .model
            .waiters
            .iter()
            .map(|waiter| (Some(waiter.holder), waiter.from, waiter.since, false));
        let durable: Vec<_> = leases.chain(waiters).collect();
        // A restart forgets leases and waiters that have expired.
        self.durable.retain(|(_, _, at, is_lease)| !is_lease || *at > self.now);
        let version = self.node.scheduler.version();
        prop_assert!(durable == self.durable || version > self.version);
        (self.durable, self.version) = (durable, version);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_scheduler_agrees_with_the_rules(slots in 1usize..4, events in prop::collection::vec(event(), 0..70)) {
        let begin = zero();
        let (leases, undos, durable) = Default::default();
        let (node, model) = (Node::new(slots, MOST_PARKED), Model::new(slots));
        let mut run = Run { node, model, leases, undos, durable, version: 0, now: begin };
        for event in &events {
            run.event(event, begin)?;
        }
        // Each lease ends, and no waiter is left that stays away.
        run.node.advance(run.now + 100 * SECOND);
        run.node.advance(run.now + 200 * SECOND);
        prop_assert_eq!(run.node.scheduler.leases().len() + run.node.scheduler.queue().waiters().len(), 0);
        prop_assert_eq!(run.node.scheduler.poll_at(run.now), None);
    }
}
