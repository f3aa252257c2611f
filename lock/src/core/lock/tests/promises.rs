//! The README's promises in any schedule: no idle slot beside a parked waiter, a bounded delay by
//! hostile clients, and a clock that wakes when it must.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Request { holder: u8, from: u8, wait: u32, millis: u32 },
    HangUp { nth: usize },
    Undo { nth: usize },
    Release { nth: usize },
    Checked { passes: bool },
    Pressure { is_high: bool },
    Pass { millis: u32 },
}

fn event() -> impl Strategy<Value = Event> {
    let millis = || prop_oneof![1..20u32, 1..700u32];
    prop_oneof![
        6 => (0..6u8, 0..3u8, prop_oneof![Just(0u32), millis()], millis())
            .prop_map(|(holder, from, wait, millis)| Event::Request { holder, from, wait, millis }),
        1 => (0..4usize).prop_map(|nth| Event::HangUp { nth }),
        1 => (0..4usize).prop_map(|nth| Event::Undo { nth }),
        1 => (0..4usize).prop_map(|nth| Event::Release { nth }),
        1 => any::<bool>().prop_map(|passes| Event::Checked { passes }),
        1 => any::<bool>().prop_map(|is_high| Event::Pressure { is_high }),
        4 => millis().prop_map(|millis| Event::Pass { millis }),
    ]
}

/// The answers with their times, in the order of events.
type Log = Vec<(Duration, WaiterId, Kind)>;

struct Run {
    lock: Lock,
    begin: Instant,
    now: Instant,
    keys: u64,
    grants: Vec<(LeaseId, Arrival)>,
    log: Log,
}

impl Run {
    fn new(slots: usize, begin: Instant) -> Run {
        let pressure =
            PressureLimits { thresholds: [NonZeroU8::new(50), None, None], floor: 300 * MILLI };
        let (endpoints, max_hold) = (vec!["tcp://db:1".to_owned()], Some(500 * MILLI));
        let settings = Settings {
            pressure,
            endpoints,
            max_hold,
            most_parked: 4,
            ..settings(Slots::Fixed(slots))
        };
        let mut lock = Lock::new(settings, begin);
        lock.finish_round(vec![Ok(())], begin, begin);
        Run { lock, begin, now: begin, keys: 0, grants: Vec::new(), log: Vec::new() }
    }

    fn event(&mut self, event: &Event) {
        let now = self.now;
        match *event {
            Event::Request { holder, from, wait, millis } => {
                self.keys += 1;
                let duration = Some(millis * MILLI);
                let wait = Some(wait * MILLI).filter(|wait| !wait.is_zero());
                let request =
                    LeaseRequest { duration, wait, ..polls(&holder.to_string(), from.into()) };
                let key = WaiterId(self.keys);
                if let Some(outcome) = self.lock.request(&request, Some(key), now) {
                    self.note(key, &outcome);
                }
            }
            Event::HangUp { nth } => {
                let parked = self
                    .lock
                    .scheduler
                    .queue()
                    .waiters()
                    .iter()
                    .filter(|waiter| waiter.is_parked());
                let id = parked.map(parked_id).nth(nth);
                if let Some(id) = id {
                    self.lock.hang_up(id, now);
                }
            }
            Event::Undo { nth } => {
                let at = self.grants.len().checked_sub(nth + 1);
                if let Some((lease, undo)) = at.map(|at| self.grants[at]) {
                    self.lock.undo(lease, undo, now);
                }
            }
            Event::Release { nth } => {
                let lease = self.lock.scheduler.leases().iter().nth(nth).cloned();
                if let Some(lease) = lease {
                    self.lock.release(lease.holder.as_deref().unwrap(), lease.address, now);
                }
            }
            Event::Checked { passes } => {
                self.lock.finish_round(
                    if passes { vec![Ok(())] } else { down() },
                    now,
                    now + SECOND,
                );
            }
            Event::Pressure { is_high } => {
                drop(self.lock.read_pressure(if is_high { HIGH } else { LOW }, now));
            }
            Event::Pass { .. } => {}
        }
        self.drain();
    }

    fn note(&mut self, key: WaiterId, outcome: &Outcome) {
        if let Outcome::Granted(grant) = outcome {
            self.grants.push((grant.lease, grant.arrival));
        }
        self.log.push((self.now - self.begin, key, outcome.kind()));
    }

    fn drain(&mut self) {
        for answer in self.lock.take_effects().answers {
            self.note(answer.waiter, &answer.outcome);
        }
    }

    /// No slot is free while a waiter that may start is parked, and the clock does not spin.
    fn check(&self) -> Result<(), TestCaseError> {
        let (lock, now) = (&self.lock, self.now);
        let is_idle = lock.scheduler.has_free_slot()
            && lock.may_start(now)
            && lock.scheduler.queue().parked() > 0;
        prop_assert!(!is_idle, "a slot is free while a waiter is parked");
        prop_assert!(lock.scheduler.leases().len() <= lock.scheduler.slots());
        prop_assert!(lock.scheduler.queue().parked() <= 4);
        prop_assert!(lock.poll_at(now).is_none_or(|at| at > now));
        Ok(())
    }

    fn pass(&mut self, millis: u32, by_poll: bool) -> Result<(), TestCaseError> {
        let end = self.now + millis * MILLI;
        while self.now < end {
            self.now = match by_poll {
                true => self.lock.poll_at(self.now).map_or(end, |at| at.min(end)),
                false => self.now + MILLI,
            };
            self.lock.advance(self.now);
            self.drain();
            self.check()?;
        }
        Ok(())
    }
}

fn parked_id(waiter: &Waiter) -> WaiterId {
    match &waiter.presence {
        crate::core::queue::Presence::Parked(parked) => parked.id,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn the_clock_wakes_when_it_must_and_no_slot_is_idle(
        slots in 1usize..4, events in prop::collection::vec(event(), 0..40),
    ) {
        let begin = zero();
        let mut logs = Vec::new();
        for by_poll in [true, false] {
            let mut run = Run::new(slots, begin);
            for event in &events {
                run.event(event);
                run.check()?;
                if let Event::Pass { millis } = event {
                    run.pass(*millis, by_poll)?;
                }
            }
            run.pass(3000, by_poll)?;
            logs.push(run.log);
        }
        prop_assert_eq!(&logs[0], &logs[1]);
    }
}

/// An action of a hostile client.
#[derive(Clone, Debug)]
enum Attack {
    Request {
        name: u8,
        from: u8,
        waits: bool,
        seconds: u32,
    },
    HangUp {
        nth: usize,
    },
    /// Breaks the connection of its last grant.
    Break,
    Release {
        nth: usize,
    },
    /// The next address asks after it is forgotten, and then the active lease ends.
    Relay,
    Pass {
        millis: u32,
    },
}

fn attacks(most: usize) -> impl Strategy<Value = Vec<Attack>> {
    prop_oneof![4 => prop::collection::vec(attack(), 0..most), 1 => prop::collection::vec(Just(Attack::Relay), 0..12)]
}

fn attack() -> impl Strategy<Value = Attack> {
    let millis = prop_oneof![
        Just(1u32),
        Just(100),
        Just(1_000),
        Just(3_000),
        Just(31_000),
        Just(62_000),
        1..9_000u32
    ];
    let seconds = prop_oneof![Just(1u32), Just(10), Just(100)];
    prop_oneof![
        6 => (0..12u8, 0..3u8, any::<bool>(), seconds)
            .prop_map(|(name, from, waits, seconds)| Attack::Request { name, from, waits, seconds }),
        1 => (0..6usize).prop_map(|nth| Attack::HangUp { nth }),
        3 => Just(Attack::Break),
        2 => (0..4usize).prop_map(|nth| Attack::Release { nth }),
        1 => Just(Attack::Relay),
        4 => millis.prop_map(|millis| Attack::Pass { millis }),
    ]
}

const HONEST: u8 = 100;

struct Siege {
    lock: Lock,
    now: Instant,
    keys: u64,
    hostile: u8,
    /// The address of the last relay.
    relay: u8,
    last: Option<(LeaseId, Arrival)>,
    /// The honest client waits, or has its lease.
    is_waiting: bool,
    /// Leases of hostile addresses since the honest client has come.
    leases: [usize; 3],
}

impl Siege {
    fn request(&mut self, request: &LeaseRequest) {
        self.keys += 1;
        let key = WaiterId(self.keys);
        if let Some(outcome) = self.lock.request(request, Some(key), self.now) {
            self.note(&request.clone(), &outcome);
        }
        self.drain();
    }

    fn honest(&mut self) {
        self.request(&waits("honest", HONEST.into()));
    }

    fn note(&mut self, request: &LeaseRequest, outcome: &Outcome) {
        let is_honest = request.holder.as_deref() == Some("honest");
        match (outcome, is_honest) {
            (Outcome::Granted(_), true) => self.is_waiting = false,
            (Outcome::Granted(grant), false) => {
                self.last = Some((grant.lease, grant.arrival));
                let std::net::IpAddr::V4(from) = request.address else { return };
                self.leases[usize::from(from.octets()[3])] += usize::from(self.is_waiting);
            }
            // Its wait is over, and it comes back.
            (Outcome::Locked(_), true) => self.honest(),
            _ => {}
        }
    }

    fn drain(&mut self) {
        for answer in self.lock.take_effects().answers {
            self.note(&answer.request, &answer.outcome);
        }
    }

    fn attack(&mut self, attack: &Attack) {
        let now = self.now;
        match *attack {
            Attack::Request { name, from, waits, seconds } => {
                let wait = waits.then_some(30 * SECOND);
                let from = from % self.hostile;
                let duration = Some(SECOND * seconds);
                self.request(&LeaseRequest {
                    wait,
                    duration,
                    ..polls(&format!("evil-{name}"), from.into())
                });
            }
            Attack::HangUp { nth } => {
                let waiters = self.lock.scheduler.queue().waiters().iter();
                let evil =
                    waiters.filter(|waiter| waiter.is_parked() && &*waiter.holder != "honest");
                if let Some(id) = evil.map(parked_id).nth(nth) {
                    self.lock.hang_up(id, now);
                }
            }
            Attack::Break => {
                if let Some((lease, undo)) = self.last.take() {
                    self.lock.undo(lease, undo, now);
                }
            }
            Attack::Release { nth } => {
                let lease = self.lock.scheduler.leases().iter().nth(nth).cloned();
                if let Some(Lease { holder: Some(holder), address, .. }) = lease {
                    self.lock.release(&holder, address, now);
                }
            }
            Attack::Relay => {
                self.pass(62_000);
                self.relay = (self.relay + 1) % self.hostile;
                let (name, from) = (20 + self.relay, self.relay);
                self.attack(&Attack::Request { name, from, waits: true, seconds: 100 });
                self.attack(&Attack::Release { nth: 0 });
            }
            Attack::Pass { millis } => self.pass(millis),
        }
        self.drain();
    }

    fn pass(&mut self, millis: u32) {
        let end = self.now + millis * MILLI;
        while self.now < end {
            self.now = self.lock.poll_at(self.now).map_or(end, |at| at.min(end));
            self.lock.advance(self.now);
            self.drain();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn a_hostile_address_delays_an_honest_waiter_by_one_lease(
        slots in 1usize..4, hostile in 1u8..4, was_served: bool,
        before in attacks(25), after in attacks(60),
    ) {
        let begin = zero();
        let lock = Lock::new(Settings { most_parked: 8, ..settings(Slots::Fixed(slots)) }, begin);
        let (keys, leases, last, is_waiting, relay) = Default::default();
        let mut siege = Siege { lock, now: begin, keys, hostile, relay, last, is_waiting, leases };
        before.iter().for_each(|attack| siege.attack(attack));
        if was_served {
            siege.honest();
            while siege.lock.scheduler.leases().of("honest").is_none() {
                siege.pass(1000);
            }
            siege.lock.release("honest", [10, 0, 0, HONEST].into(), siege.now);
            siege.attack(&Attack::Request { name: 0, from: 0, waits: true, seconds: 100 });
        }
        // No later grant has the time of the honest address's last one.
        siege.pass(1);
        siege.is_waiting = true;
        siege.honest();
        for attack in &after {
            siege.attack(attack);
            prop_assert!(siege.leases.iter().all(|leases| *leases <= 1), "{:?}", siege.leases);
        }
        // At most four leases of 100 s, one after the other.
        siege.pass(500_000);
        prop_assert!(!siege.is_waiting);
        prop_assert!(siege.leases.iter().all(|leases| *leases <= 1), "{:?}", siege.leases);
    }
}
