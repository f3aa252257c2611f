//! What would be if the lock held anybody back, while it grants everything.
//!
//! Two books: in one of them everybody gets a lease at once, since everybody starts at once. Its
//! leases end as ever, by their ports, by DELETE or by their deadlines, so that it tells how long
//! each start takes. The other one has the slots, the line and the gates, and in it each request is
//! one that waits without a break; a lease that it grants lasts as long as that start took. Pure: the
//! time is an argument. Knows nothing of the gates but that there may be no [`crate::book::Room`].
//!
//! Invariant: nobody outside waits for anything here.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::metrics::Histogram;
use psl::ready::Ready;

use crate::book::{Book, News, Request, Target, Told};
use crate::lease::{How, Id, Seen, after};
use crate::pressure::Pressure;
use crate::queue::{MOST, Seat};

/// Nobody would wait for longer: whoever has no bound of his own is taken out of the line then, and
/// counts as having waited so long.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// What a request would have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    /// That it has a lease.
    Granted,
    /// That all slots are taken, or kept for others.
    Busy,
    /// That the checks fail.
    GateClosed,
    /// That the node is under pressure.
    Pressure,
    /// That it comes from another node.
    Misdirected,
}

impl Would {
    /// In the order of [`Counts::would`].
    pub const ALL: [(Would, &str); 5] = [
        (Would::Granted, "granted"),
        (Would::Busy, "busy"),
        (Would::GateClosed, "gate_closed"),
        (Would::Pressure, "pressure"),
        (Would::Misdirected, "misdirected"),
    ];
}

/// Somebody's turn has come who would have waited for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waited {
    /// Who; nothing for a request that named nobody.
    pub holder: Option<Arc<str>>,
    /// Where it came from.
    pub address: IpAddr,
    /// From its request to its turn.
    pub waited: Duration,
    /// His turn has not come: he would wait still.
    pub is_cut: bool,
    /// See [`crate::lease::Lease::is_quiet`].
    pub is_quiet: bool,
}

/// What has been counted so far.
#[derive(Clone, Debug)]
pub struct Counts {
    /// How long starts would have waited, those too that would not have.
    pub waited: Histogram,
    /// Requests by [`Would`].
    pub would: [u64; Would::ALL.len()],
}

/// A start that is in the line of the model, or has a lease there.
#[derive(Clone, Debug)]
struct Start {
    /// In the model; no holder's where the request named nobody.
    name: Arc<str>,
    real: Id,
    address: IpAddr,
    asked: Instant,
    duration: Duration,
    /// What would end its lease earlier, unless it was open before it could mean anything.
    ready: Option<Ready>,
    is_quiet: bool,
    at: At,
    /// How long it took, and how it ended.
    took: Option<(Duration, How)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In line.
    Waits(Seat),
    /// Its turn has come then.
    Has(Id, Instant),
    Over,
}

impl Start {
    fn request(&self) -> Request<'_> {
        request(&self.name, self.address, self.duration, self.ready.as_ref())
    }

    /// Its holder starts anew, because the answer was lost or its pod has come again: the place and the wait are those of
    /// the first start, and what it takes is known when this one has ended.
    fn is_followed_by(&mut self, real: Id, asks: &Request) {
        (self.real, self.took, self.address) = (real, None, asks.address);
        if matches!(self.at, At::Waits(_)) {
            self.duration = asks.duration;
            self.ready = asks.ready.cloned();
        }
    }

    /// When its lease in the model is over; nothing while nobody knows.
    fn ends(&self) -> Option<Instant> {
        let (At::Has(_, since), Some((took, _))) = (self.at, self.took) else { return None };
        Some(after(since, took.min(self.duration)))
    }
}

/// It would be held without a break. To look at its port is the real lease's business; here it tells a lease that ends
/// by its deadline although its application is not ready.
fn request<'a>(name: &'a str, address: IpAddr, duration: Duration, ready: Option<&'a Ready>) -> Request<'a> {
    Request { holder: Some(name), address, duration, ready, wait: Some(LONGEST), is_quiet: true }
}

/// Of the model this is whatever is not a book.
#[derive(Debug)]
pub struct Shadow {
    /// What really runs.
    pub real: Book,
    counts: Counts,
    starts: Vec<Start>,
    nameless: u64,
    news: News,
}

/// No holder's name begins so: those are visible characters.
const NAMELESS: char = ' ';

/// A name in the model; nothing where the request named nobody.
pub fn holder(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.starts_with(NAMELESS))
}

impl Shadow {
    /// Nobody has started. `real` has room for whatever is to be followed.
    pub fn new(real: Book, bounds: &'static [f64]) -> Shadow {
        let counts = Counts { waited: Histogram::new(bounds), would: [0; Would::ALL.len()] };
        Shadow { real, counts, starts: Vec::new(), nameless: 0, news: News::default() }
    }

    /// What has been counted so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Counts what a request would have been told.
    pub fn count(&mut self, would: Would) {
        self.counts.would[would as usize] += 1;
    }

    /// Puts a start that begins now into the model, and says under which name and whether its turn
    /// is at once. A holder whose last start has not had its turn there keeps his place, and one whose lease
    /// there has not ended keeps that.
    pub fn begin(
        &mut self,
        real: Id,
        asks: &Request,
        model: &mut Book,
        pressure: &mut Pressure,
        now: Instant,
    ) -> (Arc<str>, bool) {
        let name = asks.holder.map_or_else(
            || {
                self.nameless += 1;
                format!("{NAMELESS}{}", self.nameless).into()
            },
            Arc::from,
        );
        let told = model.ask(&request(&name, asks.address, asks.duration, asks.ready), None, now);
        let known = self.starts.iter_mut().find(|start| start.name == name);
        let at = match told {
            Told::Granted { id, .. } => At::Has(id, now),
            Told::Held { seat, .. } => At::Waits(seat),
            Told::Again { .. } => {
                known.into_iter().for_each(|known| known.is_followed_by(real, asks));
                return (name, true);
            }
            // The line is full, and it has no place there.
            Told::Refused(_) => return (name, false),
        };
        let is_granted = matches!(at, At::Has(..));
        if is_granted {
            pressure.started(now);
        }
        if let Some(known) = known {
            known.is_followed_by(real, asks);
            known.at = at;
            if is_granted {
                // His turn has come with this request, and nobody has been called.
                self.counts.waited.observe(now.saturating_duration_since(known.asked));
                self.news.waited.push(waited(known, false, now));
            }
            return (name, is_granted);
        }
        if is_granted {
            self.counts.waited.observe(Duration::ZERO);
        }
        let (address, duration, is_quiet) = (asks.address, asks.duration, asks.is_quiet);
        let (name_of_it, ready) = (Arc::clone(&name), asks.ready.cloned());
        self.starts.push(Start { name, real, address, asked: now, duration, ready, is_quiet, at, took: None });
        (name_of_it, is_granted)
    }

    /// A port was open before it could mean anything: in the model, too, the deadline alone ends that lease.
    pub fn is_open(&mut self, real: &Target, model: &mut Book, now: Instant) {
        let Some(start) = self.starts.iter_mut().find(|start| start.real == real.id) else { return };
        start.ready = None;
        if let At::Has(id, _) = start.at {
            model.first_looked(&Target { id, ..real.clone() }, Seen::Open, now);
        }
    }

    /// Lets the model follow what really has ended, and those go on in it whose turn has come.
    pub fn settle(&mut self, model: &mut Book, pressure: &mut Pressure, now: Instant) {
        // Nobody is held in the real book.
        let News { ended, .. } = self.real.news();
        for (lease, how, at) in &ended {
            if let Some(start) = self.starts.iter_mut().find(|start| start.real == lease.id) {
                let took = at.saturating_duration_since(lease.since);
                start.took.get_or_insert((took, *how));
            }
        }
        self.news.ended.extend(ended);
        loop {
            self.end(model, now);
            let called = model.called();
            if called.is_empty() {
                return;
            }
            for seat in called {
                self.take_turn(seat, model, pressure, now);
            }
        }
    }

    /// What really has ended, and whose turn has come in the model, since this was asked last.
    pub fn news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    fn end(&mut self, model: &mut Book, now: Instant) {
        let mut has_ended = false;
        for start in &mut self.starts {
            let ends = start.ends();
            match (start.at, start.took) {
                (At::Has(id, _), Some((_, how))) if ends.is_some_and(|ends| ends <= now) => {
                    model.finish(id, how, ends.unwrap_or(now), now);
                    start.at = At::Over;
                }
                (At::Has(_, since), _) if after(since, start.duration) <= now => start.at = At::Over,
                (At::Waits(_), _) if after(start.asked, LONGEST) <= now => {
                    model.give_up(&start.name, Ipv4Addr::LOCALHOST.into(), now);
                    self.news.waited.push(waited(start, true, now));
                    self.counts.waited.observe(LONGEST);
                    start.at = At::Over;
                }
                _ => {}
            }
            has_ended |= start.at == At::Over;
        }
        if has_ended {
            self.starts.retain(|start| start.at != At::Over);
        }
    }

    fn take_turn(&mut self, seat: Seat, model: &mut Book, pressure: &mut Pressure, now: Instant) {
        // One that has asked anew has another seat.
        let Some(at) = self.starts.iter().position(|start| start.at == At::Waits(seat)) else { return };
        let start = &mut self.starts[at];
        match model.resume(&start.request(), seat, after(now, LONGEST), None, now) {
            Told::Granted { id, .. } => {
                pressure.started(now);
                start.at = At::Has(id, now);
                self.counts.waited.observe(now.saturating_duration_since(start.asked));
                self.news.waited.push(waited(start, false, now));
            }
            Told::Held { seat, .. } => start.at = At::Waits(seat),
            // Crowded out of a full line.
            Told::Again { .. } | Told::Refused(_) => {
                self.starts.remove(at);
            }
        }
    }

    /// When something ends by itself next of what the books know nothing of.
    pub fn next_event(&self) -> Option<Instant> {
        let event = |start: &Start| match start.at {
            At::Waits(_) => Some(after(start.asked, LONGEST)),
            _ => start.ends(),
        };
        self.starts.iter().filter_map(event).min()
    }

    /// So many starts are followed at most.
    pub fn room(slots: usize) -> usize {
        slots.max(MOST)
    }
}

fn waited(start: &Start, is_cut: bool, now: Instant) -> Waited {
    Waited {
        holder: holder(&start.name).map(|_| Arc::clone(&start.name)),
        address: start.address,
        waited: now.saturating_duration_since(start.asked),
        is_cut,
        is_quiet: start.is_quiet,
    }
}

#[cfg(test)]
mod tests;
