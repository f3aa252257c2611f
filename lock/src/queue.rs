//! The line of those who wait: who is next, for whom a freed slot is kept, who is forgotten.
//!
//! Pure: the time is an argument and never goes back. Knows neither slots nor leases but for how
//! many of them each address has, which it is told.
//!
//! Invariants: a holder has one place at most; there are never more than [`MOST`] places.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lease::after;

/// The most places; a node runs 110 pods as Kubernetes is shipped.
pub const MOST: usize = 1024;

/// The most requests whose answers are held back. Whoever is further behind has time to ask again.
pub const SEATS: usize = 32;

/// A freed slot is kept for who comes next until this long after he was due to ask.
pub const GRACE: Duration = Duration::from_millis(500);

/// So often a slot is kept in vain for a place; from then on it is its turn only when it asks. Who
/// lets slots go by must not be able to keep them empty.
const MOST_MISSES: u8 = 2;

/// A place lives so long after its holder last asked, at least.
const LIFE: Duration = Duration::from_secs(60);

/// And so many times what he was told to stay away.
const LIVES: u32 = 3;

/// How long a client that has hung up keeps its place. A holder whose connection broke has time to ask
/// again, which init does after 1 to 1.2 s; a deleted pod does not ask again.
pub const RETURN: Duration = Duration::from_secs(2);

/// Names a request that is held back. A holder that asks anew gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(pub u64);

/// Somebody who waits and has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The order of arrival.
    pub ticket: u64,
    /// Who waits.
    pub holder: Arc<str>,
    /// Tells most other names apart without looking at them.
    hash: u64,
    /// Where he asked from last.
    pub address: IpAddr,
    /// When he first asked.
    pub since: Instant,
    /// When he is to ask again; of no meaning while his request is held back.
    pub due: Instant,
    /// When the place is forgotten unless he asks; as above.
    pub ends: Instant,
    /// His request that is held back.
    pub seat: Option<Seat>,
    /// That request was told to look whether it is its turn.
    pub is_called: bool,
    /// Slots that were kept for it in vain.
    pub misses: u8,
    /// The last of them is counted.
    is_counted: bool,
    standing: Standing,
    rank: Rank,
}

/// What decides who comes next, in this order.
///
/// The line serves the address with the fewest leases, then the one that was served longest ago,
/// then who has waited longest. An address's second place comes when its first has been served,
/// so that it counts as one with a lease more that was served just now: hence a place knows how
/// many of its address stand before it, and needs no look at the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The leases that its address will have when its turn comes.
    leases: usize,
    /// Places of its address before it: of two with as many leases, the one that is not to be
    /// served in between was served longer ago.
    nth: usize,
    /// When its address was served last.
    served: Option<Instant>,
    /// The ticket of the first place of its address.
    first: u64,
}

impl Rank {
    fn of(standing: Standing, nth: usize, first: u64) -> Rank {
        Rank { leases: standing.leases + nth, nth, served: standing.served, first }
    }
}

/// What an address has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Leases that it has now.
    pub leases: usize,
    /// When it last got one.
    pub served: Option<Instant>,
}

impl Place {
    /// At the end of the line; it is to ask at once.
    pub fn new(ticket: u64, holder: Arc<str>, address: IpAddr, since: Instant, now: Instant) -> Place {
        let mut place = Place {
            ticket,
            hash: 0,
            holder,
            address,
            since,
            due: now,
            ends: now,
            seat: None,
            is_called: false,
            misses: 0,
            is_counted: false,
            standing: Standing::default(),
            rank: Rank::default(),
        };
        place.told(Duration::ZERO, now);
        place
    }

    /// He was told to ask again after this.
    pub fn told(&mut self, retry_after: Duration, now: Instant) {
        self.seat = None;
        self.is_called = false;
        self.is_counted = false;
        self.due = after(now, retry_after);
        self.ends = after(now, LIFE.max(retry_after.saturating_mul(LIVES)));
    }

    /// His request is held back.
    pub fn hold(&mut self, seat: Seat) {
        self.seat = Some(seat);
        self.is_called = false;
    }

    /// The client has hung up: the place stays for a moment, but no slot is kept for it until the client asks again.
    pub fn gone(&mut self, now: Instant) {
        self.told(Duration::ZERO, now);
        self.ends = after(now, RETURN);
        self.due = now.checked_sub(GRACE).unwrap_or(now);
        self.is_counted = true;
    }

    /// A freed slot is kept for him.
    pub fn is_live(&self, now: Instant) -> bool {
        let is_due = now.saturating_duration_since(self.due) < GRACE;
        self.seat.is_some() || (is_due && self.misses < MOST_MISSES)
    }
}

/// Everybody who waits, in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    places: Vec<Place>,
    hasher: RandomState,
    /// Until then no place lapses, so that nobody has to look.
    none_lapses_before: Option<Instant>,
}

impl Queue {
    /// In order of arrival.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The place with this index, which is good until the next change.
    pub fn get_mut(&mut self, at: usize) -> &mut Place {
        &mut self.places[at]
    }

    /// The index of this holder's place.
    pub fn of(&self, holder: &str) -> Option<usize> {
        let hash = self.hasher.hash_one(holder);
        self.places.iter().position(|place| place.hash == hash && *place.holder == *holder)
    }

    /// The index of the place whose request this is.
    pub fn seated(&self, seat: Seat) -> Option<usize> {
        self.places.iter().position(|place| place.seat == Some(seat))
    }

    /// Adds a place where its ticket belongs. Where there are too many, the address that has most
    /// of them loses its newest, which is handed out: it may be the one that has just come.
    #[must_use]
    pub fn join(&mut self, mut place: Place, standing: Standing) -> Option<Place> {
        place.hash = self.hasher.hash_one(&*place.holder);
        let address = place.address;
        let at = self.places.partition_point(|other| other.ticket < place.ticket);
        self.places.insert(at, place);
        self.rank(address, standing);
        if self.places.len() <= MOST {
            return None;
        }
        // The address with the most places is the one whose newest has the most before it.
        let newest = (0..self.places.len()).max_by_key(|at| (self.places[*at].rank.nth, self.places[*at].ticket))?;
        Some(self.places.remove(newest))
    }

    /// Takes a place out; its address has to be ranked again.
    pub fn leave(&mut self, at: usize) -> Place {
        self.places.remove(at)
    }

    /// Takes out a place that nobody has asked for in time; its address has to be ranked again.
    pub fn lapse_one(&mut self, now: Instant) -> Option<Place> {
        if self.none_lapses_before.is_some_and(|before| now < before) {
            return None;
        }
        if let Some(at) = self.places.iter().position(|place| place.seat.is_none() && place.ends <= now) {
            return Some(self.leave(at));
        }
        // A client that comes, asks or hangs up from now on keeps its place for that long at least.
        let first = self.places.iter().filter(|place| place.seat.is_none()).map(|place| place.ends).min();
        self.none_lapses_before = first.into_iter().chain([after(now, RETURN)]).min();
        None
    }

    /// Notes what has changed for an address: its places, its leases, when it was served.
    pub fn rank(&mut self, address: IpAddr, standing: Standing) {
        let mut first = None;
        for (nth, place) in self.places.iter_mut().filter(|place| place.address == address).enumerate() {
            let first = *first.get_or_insert(place.ticket);
            place.standing = standing;
            place.rank = Rank::of(standing, nth, first);
        }
    }

    /// For how many a slot is kept, of those who come before this place; of all where there is none.
    pub fn live_before(&self, at: Option<usize>, now: Instant) -> usize {
        let live = self.live(at, now);
        at.map_or(live.len(), |at| live.iter().position(|other| *other == at).unwrap_or(live.len()))
    }

    /// Those for whom a slot is kept, and this one, in the order in which they are served: whoever
    /// stays away is not served in between, and so counts for nothing in what his address has.
    fn live(&self, asks: Option<usize>, now: Instant) -> Vec<usize> {
        let mut of_address: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        let mut live: Vec<(Rank, usize)> = Vec::new();
        for (at, place) in self.places.iter().enumerate() {
            if asks != Some(at) && !place.is_live(now) {
                continue;
            }
            let (nth, first) = of_address.entry(place.address).or_insert((0, place.ticket));
            live.push((Rank::of(place.standing, *nth, *first), at));
            *nth += 1;
        }
        live.sort_unstable();
        live.into_iter().map(|(_, at)| at).collect()
    }

    /// A slot goes past those who come before this place, or before everybody who has none, and for
    /// whom it was kept long enough.
    pub fn pass_by(&mut self, at: Option<usize>, now: Instant) {
        let rank = at.map(|at| self.places[at].rank);
        let is_before = |place: &Place| rank.is_none_or(|rank| place.rank < rank);
        for place in self.places.iter_mut().filter(|place| !place.is_counted && is_before(place)) {
            if !place.is_live(now) {
                place.is_counted = true;
                place.misses = place.misses.saturating_add(1);
            }
        }
    }

    /// How many come before this place.
    pub fn before(&self, at: usize) -> usize {
        let rank = self.places[at].rank;
        self.places.iter().filter(|place| place.rank < rank).count()
    }

    /// The next in line, so many at most.
    pub fn line(&self, most: usize) -> Vec<&Place> {
        let mut line: Vec<&Place> = self.places.iter().collect();
        line.sort_unstable_by_key(|place| place.rank);
        line.truncate(most);
        line
    }

    /// Whether a slot is kept for anybody whose answer is held back.
    pub fn has_seated(&self) -> bool {
        self.places.iter().any(|place| place.seat.is_some())
    }

    /// Calls those whose turn it is while so many slots are free, each once.
    pub fn call(&mut self, free: usize, now: Instant) -> Vec<Seat> {
        let mut called = Vec::new();
        for at in self.live(None, now).into_iter().take(free) {
            let place = &mut self.places[at];
            if let Some(seat) = place.seat.filter(|_| !place.is_called) {
                place.is_called = true;
                called.push(seat);
            }
        }
        called
    }

    /// Of those whose answers are held back, the one that comes last: its index and place in line.
    pub fn last_seated(&self) -> Option<usize> {
        let seated = (0..self.places.len()).filter(|at| self.places[*at].seat.is_some());
        seated.max_by_key(|at| self.places[*at].rank)
    }

    /// How many answers are held back.
    pub fn seats(&self) -> usize {
        self.places.iter().filter(|place| place.seat.is_some()).count()
    }

    /// Whether the first comes before the second.
    pub fn is_before(&self, first: usize, second: usize) -> bool {
        self.places[first].rank < self.places[second].rank
    }

    /// When the next slot that is kept for somebody is kept no longer.
    pub fn next_lapse(&self, now: Instant) -> Option<Instant> {
        let kept = self.places.iter().filter(|place| place.seat.is_none() && place.is_live(now));
        kept.map(|place| after(place.due, GRACE)).min()
    }
}
