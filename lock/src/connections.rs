//! The parked connections and their answers.
//!
//! A connection is `Waiting` until its request has an outcome. A refusal is written and the
//! connection closed. A grant is written, and the connection stays open for [`RESET_WAIT`]: if the
//! client resets it, the client never read the grant, and the grant is undone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::server::ParkedConnection;

use crate::core::lease::LeaseId;
use crate::core::lock::ParkedOutcome;
use crate::core::outcome::{Arrival, LeaseRequest, Outcome};
use crate::core::queue::WaiterId;
use crate::core::time::after;
use crate::responses;

/// A client that is gone resets the connection within this time: a round trip and the time until
/// its kernel runs.
const RESET_WAIT: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Connection {
    parked: Arc<ParkedConnection>,
    json: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Waiting,
    /// The answer is being sent, or was sent.
    Granted(UnreadGrant),
    /// An answer without a lease is being sent.
    Answered,
}

/// A grant to undo if its client never reads it.
#[derive(Clone, Copy, Debug)]
pub struct UnreadGrant {
    pub lease: LeaseId,
    pub arrival: Arrival,
}

/// An answer to write to its connection, without the mutex.
#[derive(Debug)]
pub struct Delivery {
    key: WaiterId,
    parked: Arc<ParkedConnection>,
    json: bool,
    request: LeaseRequest,
    outcome: Outcome,
}

pub struct DeliveryResult {
    key: WaiterId,
    is_written: bool,
}

/// The consequence of a client's action on its parked connection.
pub enum ClientLoss {
    HangUp(WaiterId),
    Undo(UnreadGrant),
}

#[derive(Debug)]
pub struct Connections {
    /// The most connections, from the request to the end of [`RESET_WAIT`].
    most: usize,
    last_key: u64,
    by_key: HashMap<WaiterId, Connection>,
    /// Connections with a written grant, in the order in which their wait ends.
    unconfirmed: VecDeque<(Instant, WaiterId)>,
}

impl Connections {
    /// The answers of half as many connections as can be parked may be on their way.
    pub fn new(most_parked: usize) -> Connections {
        let most = most_parked + most_parked / 2;
        Connections { most, last_key: 0, by_key: HashMap::new(), unconfirmed: VecDeque::new() }
    }

    /// Adds a connection under a name that was never used before.
    pub fn insert(&mut self, parked: Arc<ParkedConnection>, json: bool) -> WaiterId {
        self.last_key += 1;
        let key = WaiterId(self.last_key);
        self.by_key.insert(key, Connection { parked, json, stage: Stage::Waiting });
        // Most clients have read their grant: a descriptor for the next client is worth more.
        while self.is_full()
            && let Some((_, key)) = self.unconfirmed.pop_front()
        {
            self.by_key.remove(&key);
        }
        key
    }

    /// There are too many connections. The last one must be answered at once.
    pub fn is_full(&self) -> bool {
        self.by_key.len() > self.most
    }

    /// The answer for a connection. `None` if its client is gone.
    pub fn deliver(&mut self, answer: ParkedOutcome) -> Option<Delivery> {
        let ParkedOutcome { waiter: key, request, outcome } = answer;
        let connection = self.by_key.get_mut(&key)?;
        connection.stage = match &outcome {
            Outcome::Granted(grant) => {
                Stage::Granted(UnreadGrant { lease: grant.lease, arrival: grant.arrival })
            }
            _ => Stage::Answered,
        };
        let (parked, json) = (Arc::clone(&connection.parked), connection.json);
        Some(Delivery { key, parked, json, request, outcome })
    }

    /// Records written answers, and returns the grants that did not reach their clients.
    pub fn finish(&mut self, results: Vec<DeliveryResult>, now: Instant) -> Vec<UnreadGrant> {
        let mut lost = Vec::new();
        for DeliveryResult { key, is_written } in results {
            // If the client has broken its connection meanwhile, the connection is removed already.
            let Some(Connection { stage, .. }) = self.by_key.get(&key) else { continue };
            match *stage {
                Stage::Granted(_) if is_written => {
                    self.unconfirmed.push_back((after(now, RESET_WAIT), key));
                    continue;
                }
                Stage::Granted(grant) => lost.push(grant),
                Stage::Waiting | Stage::Answered => {}
            }
            self.by_key.remove(&key);
        }
        lost
    }

    /// Handles the action of a client: it has hung up, sent bytes, or broken the connection.
    pub fn handle_action(&mut self, key: WaiterId, is_broken: bool) -> Option<ClientLoss> {
        let loss = match self.by_key.get(&key)?.stage {
            Stage::Waiting => ClientLoss::HangUp(key),
            Stage::Granted(grant) if is_broken => ClientLoss::Undo(grant),
            // The client has read its grant, or will break the connection when the answer arrives.
            Stage::Granted(_) | Stage::Answered => return None,
        };
        self.by_key.remove(&key);
        Some(loss)
    }

    pub fn expire(&mut self, now: Instant) {
        while let Some((at, key)) = self.unconfirmed.front()
            && *at <= now
        {
            self.by_key.remove(key);
            self.unconfirmed.pop_front();
        }
    }

    pub fn poll_at(&self) -> Option<Instant> {
        self.unconfirmed.front().map(|(at, _)| *at)
    }
}

impl Delivery {
    /// The state file must have the lease before the client does.
    pub fn must_be_durable(&self) -> bool {
        matches!(self.outcome, Outcome::Granted(_) | Outcome::AlreadyGranted { .. })
    }

    /// Writes the answer. The client takes it at once, or is gone.
    pub fn write(self) -> DeliveryResult {
        responses::log(&self.outcome, &self.request);
        let answer = responses::answer(&self.outcome, self.request.baseline, self.json);
        // A client that has acted in the meantime is not waiting any more.
        let is_written = !self.parked.has_acted() && self.parked.answer(answer);
        DeliveryResult { key: self.key, is_written }
    }
}
