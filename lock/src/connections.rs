//! The parked connections and their answers.
//!
//! A connection is `Waiting` until its request has an outcome. A refusal is written and the
//! connection closed. A grant is written, and the connection kept for [`ECHO`]: if the client breaks
//! it, the client never read the grant, and the grant is undone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::server::ParkedConnection;

use crate::core::lease::{LeaseId, after};
use crate::core::lock::Answer;
use crate::core::outcome::{LeaseRequest, Outcome, Undo};
use crate::core::queue::WaiterId;
use crate::responses;

/// A client that has gone breaks the connection within this time: a round trip and the time until
/// its kernel runs.
const ECHO: Duration = Duration::from_millis(100);

/// A parked connection.
#[derive(Debug)]
struct Connection {
    parked: Arc<ParkedConnection>,
    json: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Waiting,
    /// The answer is on its way.
    Granted {
        lease: LeaseId,
        undo: Undo,
    },
    /// Another answer is on its way.
    Answered,
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

/// A written answer, or one that could not be written.
pub struct Delivered {
    key: WaiterId,
    is_written: bool,
}

/// The act of a client on its parked connection, as far as lock must do something.
pub enum Consequence {
    HangUp(WaiterId),
    Undo(LeaseId, Undo),
}

#[derive(Debug)]
pub struct Connections {
    /// The most connections, from the request to the end of the echo.
    most: usize,
    last_key: u64,
    by_key: HashMap<WaiterId, Connection>,
    /// Granted connections with the end of their echo, in its order.
    echoes: VecDeque<(Instant, WaiterId)>,
}

impl Connections {
    /// Half as many connections as are parked may have an answer on its way.
    pub fn new(most_parked: usize) -> Connections {
        let most = most_parked + most_parked / 2;
        Connections { most, last_key: 0, by_key: HashMap::new(), echoes: VecDeque::new() }
    }

    /// A name for a connection. None is used twice.
    pub fn next_key(&mut self) -> WaiterId {
        self.last_key += 1;
        WaiterId(self.last_key)
    }

    pub fn insert(&mut self, key: WaiterId, parked: Arc<ParkedConnection>, json: bool) {
        self.by_key.insert(key, Connection { parked, json, stage: Stage::Waiting });
        // Mostly the client has read its grant: a descriptor for the next one is worth more.
        while self.is_full()
            && let Some((_, key)) = self.echoes.pop_front()
        {
            self.by_key.remove(&key);
        }
    }

    /// There are too many connections. The last one must be answered at once.
    pub fn is_full(&self) -> bool {
        self.by_key.len() > self.most
    }

    /// The answer for a connection. `None` if its client has gone.
    pub fn deliver(&mut self, answer: Answer) -> Option<Delivery> {
        let Answer { waiter: key, request, outcome } = answer;
        let connection = self.by_key.get_mut(&key)?;
        connection.stage = match &outcome {
            Outcome::Granted(grant) => Stage::Granted { lease: grant.lease, undo: grant.undo },
            _ => Stage::Answered,
        };
        let (parked, json) = (Arc::clone(&connection.parked), connection.json);
        Some(Delivery { key, parked, json, request, outcome })
    }

    /// Records written answers, and returns the grants that no client has.
    pub fn delivered(&mut self, delivered: Vec<Delivered>, now: Instant) -> Vec<(LeaseId, Undo)> {
        let mut lost = Vec::new();
        for Delivered { key, is_written } in delivered {
            // A client that has broken its connection meanwhile is not here any more.
            let Some(Connection { stage, .. }) = self.by_key.get(&key) else { continue };
            match *stage {
                Stage::Granted { .. } if is_written => {
                    self.echoes.push_back((after(now, ECHO), key));
                    continue;
                }
                Stage::Granted { lease, undo } => lost.push((lease, undo)),
                Stage::Waiting | Stage::Answered => {}
            }
            self.by_key.remove(&key);
        }
        lost
    }

    /// Handles the act of a client: it has hung up, sent bytes, or broken the connection.
    pub fn act(&mut self, key: WaiterId, is_broken: bool) -> Option<Consequence> {
        match self.by_key.get(&key)?.stage {
            Stage::Waiting => {
                self.by_key.remove(&key);
                Some(Consequence::HangUp(key))
            }
            Stage::Granted { lease, undo } if is_broken => {
                self.by_key.remove(&key);
                Some(Consequence::Undo(lease, undo))
            }
            // The client has read its grant, or will break the connection when the answer arrives.
            Stage::Granted { .. } | Stage::Answered => None,
        }
    }

    /// Closes the connections whose echo is over.
    pub fn expire(&mut self, now: Instant) {
        while self.poll_at().is_some_and(|at| at <= now) {
            if let Some((_, key)) = self.echoes.pop_front() {
                self.by_key.remove(&key);
            }
        }
    }

    /// The end of the next echo.
    pub fn poll_at(&self) -> Option<Instant> {
        self.echoes.front().map(|(at, _)| *at)
    }
}

impl Delivery {
    /// The state file must have the lease before the client does.
    pub fn must_be_durable(&self) -> bool {
        matches!(self.outcome, Outcome::Granted(_) | Outcome::AlreadyGranted { .. })
    }

    /// Writes the answer. The client takes it at once, or has gone.
    pub fn write(self) -> Delivered {
        responses::log(&self.outcome, &self.request);
        let answer = responses::answer(&self.outcome, self.request.baseline, self.json);
        // A client that has acted in the meantime is not waiting any more.
        let is_written = !self.parked.has_acted() && self.parked.answer(answer);
        Delivered { key: self.key, is_written }
    }
}
