//! Stand-in until the limit that follows the node is merged: one start for each core.

use std::fmt;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub at: Instant,
    pub busy: Duration,
    pub idle: Duration,
    pub runnable: usize,
    pub cores: usize,
    pub stalled: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub more: usize,
    pub next: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    pub limit: usize,
    pub floor: usize,
    pub in_flight: usize,
    pub pace: f64,
    pub idle_cores: f64,
    pub cores: usize,
    pub next: Option<Duration>,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Free,
    Pace,
    Busy,
    Stalled,
    Blind,
    Max,
}

impl Reason {
    pub const ALL: [(Reason, &str); 6] = [
        (Reason::Free, "free"),
        (Reason::Pace, "pace"),
        (Reason::Busy, "busy"),
        (Reason::Stalled, "stalled"),
        (Reason::Blind, "blind"),
        (Reason::Max, "max"),
    ];

    pub fn name(self) -> &'static str {
        Reason::ALL[self as usize].1
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node is busy")
    }
}

#[derive(Debug)]
pub struct Limit {
    cores: usize,
    most: usize,
}

impl Limit {
    pub fn new(cores: usize, most: usize, _now: Instant) -> Limit {
        Limit { cores, most }
    }
    pub fn began(&mut self, _now: Instant) {}
    pub fn undone(&mut self, _now: Instant) {}
    pub fn ended(&mut self, _age: Duration, _was_start: bool, _now: Instant) {}
    pub fn read(&mut self, _reading: Option<Reading>, _active: usize, _now: Instant) {}
    pub fn next_reading(&self, now: Instant) -> Instant {
        now + Duration::from_millis(100)
    }
    pub fn quota(&self, active: usize, _now: Instant) -> Quota {
        Quota { more: self.cores.min(self.most).saturating_sub(active), next: None }
    }
    pub fn status(&self, active: usize, _now: Instant) -> Status {
        Status {
            limit: self.cores,
            floor: self.cores,
            in_flight: active,
            pace: 0.0,
            idle_cores: 0.0,
            cores: self.cores,
            next: None,
            reason: Reason::Free,
        }
    }
}
