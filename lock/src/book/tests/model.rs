//! The book against a model that follows the words of the contract: lists that are looked through
//! from scratch, and a line that is served one by one to see who comes next.

use std::collections::HashMap;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Ask { holder: Option<usize>, from: u32, millis: u32, wait: bool, closed: bool },
    GiveUp { holder: usize, from: u32 },
    Ready { nth: usize },
    Resume { nth: usize, closed: bool },
    HangUp { nth: usize },
    Undo { nth: usize },
    Pass { millis: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let millis = || prop_oneof![0..3u32, 100..3_000u32, 3_000..90_000u32, Just(500), Just(60_000)];
    prop_oneof![
        8 => (prop::option::weighted(0.8, 0..7usize), 0..4u32, millis(), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(holder, from, millis, wait, closed)| Step::Ask { holder, from, millis: millis + 1, wait, closed }),
        1 => (0..7usize, 0..4u32).prop_map(|(holder, from)| Step::GiveUp { holder, from }),
        1 => (0..4usize).prop_map(|nth| Step::Ready { nth }),
        3 => (0..4usize, prop::bool::weighted(0.1)).prop_map(|(nth, closed)| Step::Resume { nth, closed }),
        1 => (0..4usize).prop_map(|nth| Step::HangUp { nth }),
        1 => (0..4usize).prop_map(|nth| Step::Undo { nth }),
        6 => millis().prop_map(|millis| Step::Pass { millis }),
    ]
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

#[derive(Clone, Debug)]
struct Held {
    id: Id,
    holder: Option<usize>,
    from: u32,
    since: Instant,
    deadline: Instant,
    told_again: bool,
    has_moved: bool,
    /// Ticket and since of the place it had; when its address was served before.
    before: (Option<u64>, Instant, Option<Instant>),
    /// What was kept for that place in vain.
    misses: u8,
    /// What the book itself says of that.
    token: Before,
}

#[derive(Clone, Debug)]
struct Waits {
    ticket: u64,
    holder: usize,
    from: u32,
    since: Instant,
    due: Instant,
    ends: Instant,
    seat: Option<(Seat, Instant)>,
    misses: u8,
    is_counted: bool,
}

#[derive(Default)]
struct Model {
    slots: usize,
    leases: Vec<Held>,
    places: Vec<Waits>,
    served: HashMap<u32, Instant>,
    /// When an address had a lease or a place last.
    seen: HashMap<u32, Instant>,
    tickets: u64,
}

impl Model {
    fn pass(&mut self, now: Instant) {
        let ended: Vec<_> = self.leases.iter().filter(|lease| lease.deadline <= now).map(|lease| lease.from).collect();
        let lapsed = |place: &Waits| place.seat.is_none() && place.ends <= now;
        let lapsing: Vec<_> = self.places.iter().filter(|place| lapsed(place)).map(|place| place.from).collect();
        self.leases.retain(|lease| lease.deadline > now);
        self.places.retain(|place| !lapsed(place));
        for from in ended.into_iter().chain(lapsing) {
            self.seen.insert(from, now);
        }
        let (leases, places) = (&self.leases, &self.places);
        let is_busy = |from: u32| leases.iter().any(|l| l.from == from) || places.iter().any(|p| p.from == from);
        self.served.retain(|from, _| is_busy(*from) || now - self.seen[from] < MEMORY);
    }

    fn free(&self) -> usize {
        self.slots.saturating_sub(self.leases.len())
    }

    /// Serves those of the line, one by one, as if no lease ended.
    fn line_of(&self, mut left: Vec<usize>) -> Vec<usize> {
        let mut leases: HashMap<u32, usize> = HashMap::new();
        for lease in &self.leases {
            *leases.entry(lease.from).or_default() += 1;
        }
        // Before all of the line, and after all that was.
        let mut served: HashMap<u32, (u64, Option<Instant>)> =
            self.served.iter().map(|(from, at)| (*from, (0, Some(*at)))).collect();
        let mut line = Vec::new();
        while !left.is_empty() {
            let key = |at: &usize| {
                let place = &self.places[*at];
                let served = served.get(&place.from).copied().unwrap_or_default();
                (leases.get(&place.from).copied().unwrap_or_default(), served, place.ticket)
            };
            let next = *left.iter().min_by_key(|at| key(at)).unwrap();
            left.retain(|at| *at != next);
            let from = self.places[next].from;
            *leases.entry(from).or_default() += 1;
            served.insert(from, (line.len() as u64 + 1, None));
            line.push(next);
        }
        line
    }

    fn line(&self) -> Vec<usize> {
        self.line_of((0..self.places.len()).collect())
    }

    fn is_live(place: &Waits, now: Instant) -> bool {
        place.seat.is_some() || (now < place.due + GRACE && place.misses < 2)
    }

    /// Whether it is somebody's turn; of who has no place where none is given.
    fn may(&self, holder: Option<usize>, now: Instant) -> bool {
        let is_in = |place: &Waits| Model::is_live(place, now) || Some(place.holder) == holder;
        let line = self.line_of((0..self.places.len()).filter(|at| is_in(&self.places[*at])).collect());
        line.iter().take_while(|at| Some(self.places[**at].holder) != holder).count() < self.free()
    }

    fn of(&mut self, holder: usize) -> Option<&mut Waits> {
        self.places.iter_mut().find(|place| place.holder == holder)
    }

    fn tell(place: &mut Waits, retry_after: Duration, now: Instant) {
        place.seat = None;
        place.is_counted = false;
        place.due = now + retry_after;
        place.ends = now + (60 * SECOND).max(3 * retry_after);
    }
}

struct Run {
    book: Book,
    model: Model,
    now: Instant,
}

impl Run {
    fn ask(
        &mut self,
        holder: Option<usize>,
        from: u32,
        millis: u32,
        wait: bool,
        closed: bool,
    ) -> Result<(), TestCaseError> {
        let now = self.now;
        let request = Request {
            holder: holder.map(|holder| NAMES[holder]),
            address: address(from),
            duration: millis * MILLI,
            ready: None,
            wait: wait.then_some(10 * SECOND),
            is_quiet: false,
        };
        let told = self.book.ask(&request, closed.then_some(SECOND), now);
        self.model.pass(now);
        if let Some(lease) = self.model.leases.iter_mut().find(|lease| holder.is_some() && lease.holder == holder) {
            let has_moved = lease.from != from;
            let is_first = has_moved && !lease.has_moved;
            prop_assert_eq!(told, Told::Again { id: lease.id, remaining: lease.deadline - now, has_moved: is_first });
            lease.has_moved |= has_moved;
            lease.told_again = true;
            if has_moved {
                self.model.seen.extend([(lease.from, now), (from, now)]);
                lease.from = from;
                self.model.served.insert(from, now);
            }
            return Ok(());
        }
        if let Some(holder) = holder {
            match self.model.of(holder) {
                Some(place) => {
                    let old = place.from;
                    place.from = from;
                    Model::tell(place, Duration::ZERO, now);
                    self.model.seen.extend([(old, now), (from, now)]);
                }
                None => {
                    self.model.tickets += 1;
                    let ticket = self.model.tickets;
                    let (due, ends) = (now, now + 60 * SECOND);
                    let (since, seat) = (now, None);
                    let (misses, is_counted) = (0, false);
                    let place = Waits { ticket, holder, from, since, due, ends, seat, misses, is_counted };
                    self.model.places.push(place);
                    self.model.seen.insert(from, now);
                }
            }
        }
        let until = wait.then(|| now + 10 * SECOND);
        self.decide(told, holder, from, millis, until, closed)
    }

    fn decide(
        &mut self,
        told: Told,
        holder: Option<usize>,
        from: u32,
        millis: u32,
        until: Option<Instant>,
        closed: bool,
    ) -> Result<(), TestCaseError> {
        let now = self.now;
        let may = !closed && self.model.may(holder, now);
        prop_assert_eq!(is_granted(told), may, "{:?}", told);
        match told {
            Told::Granted { id, duration, waited, before: token } => {
                prop_assert_eq!(duration, millis * MILLI);
                for at in self.model.line() {
                    let place = &mut self.model.places[at];
                    if Some(place.holder) == holder {
                        break;
                    }
                    if !Model::is_live(place, now) && !place.is_counted {
                        (place.misses, place.is_counted) = (place.misses.saturating_add(1), true);
                    }
                }
                let place = self.model.places.iter().position(|place| Some(place.holder) == holder);
                let place = place.map(|at| self.model.places.remove(at));
                let since = place.as_ref().map_or(now, |place| place.since);
                prop_assert_eq!(waited, now - since);
                let misses = place.as_ref().map_or(0, |place| place.misses);
                let before = (place.map(|place| place.ticket), since, self.model.served.insert(from, now));
                self.model.seen.insert(from, now);
                let deadline = now + duration;
                self.model.leases.push(Held {
                    id,
                    holder,
                    from,
                    since: now,
                    deadline,
                    told_again: false,
                    has_moved: false,
                    before,
                    misses,
                    token,
                });
            }
            Told::Held { seat, until: held } => {
                prop_assert_eq!(Some(held), until);
                prop_assert!(!closed);
                self.model.of(holder.unwrap()).unwrap().seat = Some((seat, held));
            }
            Told::Refused(refusal) => {
                prop_assert!(closed || holder.is_none() || until.is_none(), "there are seats enough");
                prop_assert!(refusal.retry_after >= SECOND && refusal.retry_after <= 30 * SECOND);
                let line = self.model.line();
                let position = line.iter().position(|at| Some(self.model.places[*at].holder) == holder);
                prop_assert_eq!(refusal.position, position.map(|before| before + 1));
                if let Some(holder) = holder {
                    Model::tell(self.model.of(holder).unwrap(), refusal.retry_after, now);
                }
            }
            Told::Again { .. } => prop_assert!(false, "no lease of this holder"),
        }
        Ok(())
    }

    fn seat(&self, nth: usize) -> Option<Waits> {
        self.model.places.iter().filter(|place| place.seat.is_some()).nth(nth).cloned()
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = self.now;
        match step {
            Step::Ask { holder, from, millis, wait, closed } => self.ask(*holder, *from, *millis, *wait, *closed)?,
            Step::GiveUp { holder, from } => {
                let given_up = self.book.give_up(NAMES[*holder], address(*from), now);
                self.model.pass(now);
                let lease = self.model.leases.iter().position(|l| l.holder == Some(*holder) && l.from == *from);
                let place = self.model.places.iter().position(|p| p.holder == *holder && p.from == *from);
                let expected = match (lease, place) {
                    (Some(at), _) => (GivenUp::Lease, self.model.leases.remove(at).from).0,
                    (None, Some(at)) => (GivenUp::Place, self.model.places.remove(at).from).0,
                    (None, None) => GivenUp::Nothing,
                };
                if expected != GivenUp::Nothing {
                    self.model.seen.insert(*from, now);
                }
                prop_assert_eq!(given_up, expected);
            }
            Step::Ready { nth } => {
                self.model.pass(now);
                if *nth < self.model.leases.len() {
                    let lease = self.model.leases.remove(*nth);
                    self.model.seen.insert(lease.from, now);
                    self.book.pass(now);
                    prop_assert!(self.book.end(lease.id, How::Ready, now).is_some());
                    self.book.tick(None, now);
                }
            }
            Step::Resume { nth, closed } => {
                let Some(place) = self.seat(*nth) else { return Ok(()) };
                let (seat, until) = place.seat.unwrap();
                let request = Request { duration: SECOND, ..waiting(NAMES[place.holder], place.from) };
                let told = self.book.resume(&request, seat, until, closed.then_some(SECOND), now);
                self.model.pass(now);
                let until = Some(until).filter(|until| *until > now);
                self.decide(told, Some(place.holder), place.from, 1000, until, *closed)?;
            }
            Step::HangUp { nth } => {
                let Some(place) = self.seat(*nth) else { return Ok(()) };
                self.book.hung_up(place.seat.unwrap().0, now);
                let place = self.model.of(place.holder).unwrap();
                Model::tell(place, Duration::ZERO, now);
                (place.due, place.ends, place.is_counted) = (now - GRACE, now + 2 * SECOND, true);
            }
            Step::Undo { nth } => {
                self.model.pass(now);
                let Some(lease) = self.model.leases.get(*nth).cloned() else { return Ok(()) };
                self.book.undo(lease.id, lease.token, now);
                if lease.told_again {
                    return Ok(());
                }
                self.model.leases.remove(*nth);
                self.model.seen.insert(lease.from, now);
                if self.model.served.get(&lease.from) == Some(&lease.since) {
                    match lease.before.2 {
                        Some(at) => self.model.served.insert(lease.from, at),
                        None => self.model.served.remove(&lease.from),
                    };
                }
                if let (Some(holder), (Some(ticket), since, _)) = (lease.holder, lease.before) {
                    let (due, ends) = (now - GRACE, now + 2 * SECOND);
                    let (misses, is_counted, from, seat) = (lease.misses, true, lease.from, None);
                    let place = Waits { ticket, holder, from, since, due, ends, seat, misses, is_counted };
                    let at = self.model.places.partition_point(|other| other.ticket < ticket);
                    self.model.places.insert(at, place);
                }
            }
            Step::Pass { millis } => {
                self.now += *millis * MILLI;
                self.book.tick(None, self.now);
                self.model.pass(self.now);
            }
        }
        self.agree()
    }

    fn agree(&mut self) -> Result<(), TestCaseError> {
        let now = self.now;
        let mut leases: Vec<_> =
            self.model.leases.iter().map(|l| (l.deadline, l.id, address(l.from), l.since)).collect();
        leases.sort_unstable();
        let ours: Vec<_> = self.book.leases().iter().map(|l| (l.deadline, l.id, l.address, l.since)).collect();
        prop_assert_eq!(ours, leases);
        prop_assert!(self.model.leases.len() <= self.model.slots);
        let expected: Vec<_> = self.model.line().into_iter().map(|at| NAMES[self.model.places[at].holder]).collect();
        prop_assert_eq!(line(&self.book), expected);
        for name in NAMES {
            let leases = self.book.leases().iter().filter(|lease| lease.holder.as_deref() == Some(name)).count();
            let places = self.book.queue().places().iter().filter(|place| &*place.holder == name).count();
            prop_assert!(leases + places <= 1, "{} has {} leases and {} places", name, leases, places);
        }
        // Whoever is held and could have a slot has been called.
        self.book.tick(None, now);
        let is_live = |at: &usize| Model::is_live(&self.model.places[*at], now);
        let line = self.model.line_of((0..self.model.places.len()).filter(is_live).collect());
        for at in line.into_iter().take(self.model.free()) {
            let place = &self.book.queue().places()[at];
            prop_assert_eq!(&*place.holder, NAMES[self.model.places[at].holder]);
            prop_assert!(place.seat.is_none() || place.is_called);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn the_book_agrees_with_the_words(slots in 1usize..4, script in prop::collection::vec(step(), 0..80)) {
        let model = Model { slots, ..Model::default() };
        let mut run = Run { book: book(slots), model, now: zero() };
        for step in &script {
            run.step(step)?;
        }
        // Every lease ends, and nothing is left of anybody who stays away.
        run.book.tick(None, run.now + 1000 * SECOND);
        prop_assert_eq!(run.book.leases().count(), 0);
        run.book.news();
        let seated = run.book.queue().seats();
        prop_assert_eq!(run.book.queue().places().len(), seated, "whoever is held is answered by his thread");
    }
}
