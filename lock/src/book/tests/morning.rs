//! A node's morning in virtual time: many wait, leases end early, and slots are hardly ever idle.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// What happens next, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A waiter's question comes.
    Ask(usize),
    /// A held question is called, or has waited for long enough.
    Look(usize),
    /// Something was to happen by itself.
    Clock,
    /// An application is ready.
    Ready(usize),
}

/// One herd.
#[derive(Clone, Copy, Debug)]
struct Herd {
    waiters: usize,
    slots: usize,
    /// Milliseconds that a start takes, from and to.
    start: (u64, u64),
    /// They come within so many milliseconds.
    within: u64,
    /// All share one address.
    is_one_address: bool,
    /// The starts take so many times as long until half of the herd is through.
    slow_at_first: u64,
}

struct Waiter {
    name: String,
    request_from: u32,
    seat: Option<(Seat, Instant)>,
    asked: u64,
    is_granted: bool,
    comes: u64,
}

struct Morning {
    herd: Herd,
    book: Book,
    zero: Instant,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    waiters: Vec<Waiter>,
    order: Vec<usize>,
    chance: u64,
    numbered: u64,
    asks: usize,
    /// Slot-milliseconds that were free while somebody waited.
    idle: u64,
}

impl Morning {
    fn new(herd: Herd) -> Morning {
        let mut morning = Morning {
            herd,
            book: book(herd.slots),
            zero: zero(),
            now: 0,
            events: BinaryHeap::new(),
            waiters: Vec::new(),
            order: Vec::new(),
            chance: 42,
            numbered: 0,
            asks: 0,
            idle: 0,
        };
        for n in 0..herd.waiters {
            let comes = morning.random(herd.within + 1);
            let request_from = if herd.is_one_address { 1 } else { n as u32 + 1 };
            let name = format!("default/web-{n}/7c1e6b0a-5f3d-4e7b-9a51-0f6f0c5f0a{n:02}");
            morning.waiters.push(Waiter { name, request_from, seat: None, asked: 0, is_granted: false, comes });
            morning.at(comes, Event::Ask(n));
        }
        morning
    }

    /// Any sequence that is the same each time (Numerical Recipes' constants).
    fn random(&mut self, below: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % below
    }

    fn at(&mut self, at: u64, event: Event) {
        self.numbered += 1;
        self.events.push(Reverse((at, self.numbered, event)));
    }

    fn run(mut self) -> Morning {
        while self.order.len() < self.herd.waiters {
            let Reverse((at, _, event)) = self.events.pop().expect("somebody waits, so something happens");
            let is_waited_for = self.waiters.iter().any(|waiter| !waiter.is_granted && waiter.comes <= self.now);
            let free = self.herd.slots - self.book.leases().count();
            if is_waited_for {
                self.idle += (at - self.now) * free as u64;
            }
            self.now = at;
            self.happen(event);
            self.follow_up();
        }
        self
    }

    fn instant(&self) -> Instant {
        self.zero + Duration::from_millis(self.now)
    }

    fn happen(&mut self, event: Event) {
        let now = self.instant();
        match event {
            Event::Clock => self.book.tick(None, now),
            Event::Ready(n) => {
                let from = address(self.waiters[n].request_from);
                assert_eq!(self.book.give_up(&self.waiters[n].name, from, now), GivenUp::Lease);
            }
            Event::Ask(n) => {
                let waiter = &mut self.waiters[n];
                (waiter.asked, self.asks) = (self.now, self.asks + 1);
                let told = self.book.ask(&waiting(&waiter.name, waiter.request_from), None, now);
                self.told(n, told);
            }
            Event::Look(n) => {
                let waiter = &self.waiters[n];
                let Some((seat, until)) = waiter.seat else { return };
                let told = self.book.resume(&waiting(&waiter.name, waiter.request_from), seat, until, None, now);
                self.told(n, told);
            }
        }
    }

    /// As `init` does: a pause of a second between questions, a longer `Retry-After` counts from the
    /// answer, and up to a fifth is added by chance.
    fn told(&mut self, n: usize, told: Told) {
        match told {
            Told::Granted { .. } => {
                (self.waiters[n].is_granted, self.waiters[n].seat) = (true, None);
                self.order.push(n);
                let (least, most) = self.herd.start;
                let slow = if self.order.len() * 2 < self.herd.waiters { self.herd.slow_at_first } else { 1 };
                let takes = (least + self.random(most - least + 1)) * slow;
                self.at(self.now + takes, Event::Ready(n));
            }
            Told::Held { seat, until } => {
                self.waiters[n].seat = Some((seat, until));
                let until = (until - self.zero).as_millis() as u64;
                self.at(until, Event::Look(n));
            }
            Told::Refused(refusal) => {
                self.waiters[n].seat = None;
                let pause = (refusal.retry_after.as_millis() as u64).max(1000);
                let pause = pause + self.random(pause / 5 + 1);
                let from = if refusal.retry_after <= SECOND { self.waiters[n].asked } else { self.now };
                // A millisecond to go there and back.
                self.at((from + pause).max(self.now + 1), Event::Ask(n));
            }
            Told::Again { .. } => panic!("nobody asks again who has a lease"),
        }
    }

    fn follow_up(&mut self) {
        for seat in self.book.news().called {
            let called = self.waiters.iter().position(|waiter| waiter.seat.is_some_and(|(held, _)| held == seat));
            if let Some(n) = called {
                self.at(self.now + 1, Event::Look(n));
            }
        }
        if let Some(next) = self.book.next_event(self.instant()) {
            let next = (next - self.zero).as_micros().div_ceil(1000) as u64;
            self.at(next.max(self.now + 1), Event::Clock);
        }
    }

    /// The share of the slots' time that was idle while somebody waited.
    fn idle_share(&self) -> f64 {
        self.idle as f64 / (self.now * self.herd.slots as u64).max(1) as f64
    }
}

const HUNDRED: Herd =
    Herd { waiters: 100, slots: 2, start: (200, 3000), within: 1000, is_one_address: false, slow_at_first: 1 };

#[test]
fn slots_are_hardly_ever_idle_while_somebody_waits() {
    for (name, herd) in [
        ("a hundred", HUNDRED),
        ("one slot", Herd { slots: 1, ..HUNDRED }),
        ("eight slots", Herd { slots: 8, ..HUNDRED }),
        ("all at once", Herd { within: 0, ..HUNDRED }),
        ("over a minute", Herd { within: 60_000, ..HUNDRED }),
        ("one address", Herd { is_one_address: true, ..HUNDRED }),
        ("quick starts", Herd { start: (100, 300), ..HUNDRED }),
        ("slow starts", Herd { start: (4000, 9000), ..HUNDRED }),
        ("slow at first, then ten times as quick", Herd { start: (100, 900), slow_at_first: 10, ..HUNDRED }),
        ("two hundred quick ones", Herd { waiters: 200, start: (100, 500), ..HUNDRED }),
        ("a thousand", Herd { waiters: 1000, slots: 4, start: (500, 1500), ..HUNDRED }),
    ] {
        let morning = Morning::new(herd).run();
        let idle = morning.idle_share();
        println!("{name}: {:.1} s, {:.2} % idle, {} requests", morning.now as f64 / 1000.0, idle * 100.0, morning.asks);
        assert!(idle < 0.05, "{name}: {idle}");
    }
}

#[test]
fn everybody_gets_through_in_the_order_of_arrival() {
    for is_one_address in [false, true] {
        let morning = Morning::new(Herd { slots: 1, within: 5000, is_one_address, ..HUNDRED }).run();
        let mut expected: Vec<usize> = (0..100).collect();
        expected.sort_by_key(|n| (morning.waiters[*n].comes, *n));
        let late = morning.order.iter().zip(&expected).filter(|(got, expected)| got != expected).count();
        assert!(late == 0, "{late} of 100 were served out of turn");
    }
}
