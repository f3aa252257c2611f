//! The ways in which a request fails, and the bytes that then go over the wire.

use std::io;
use std::time::Duration;

use super::Shared;
use super::recordings::{Query, value};
use crate::listening::{End, Wire};

/// A way to fail a request.
#[derive(Clone, Debug)]
pub enum Fault {
    Status(u16, Vec<(String, String)>, String),
    /// Ends the connection instead of an answer.
    Close,
    Hang,
    Reset,
    /// A whole HTTP answer with the first half of its JSON.
    HalfJson,
    /// The connection ends in the middle of the body.
    Cut,
    /// Bytes that are not HTTP.
    Garbage,
    /// The right answer, with this pause after each byte.
    SlowBytes(Duration),
}

impl Fault {
    /// Whether the client gets no status.
    pub(super) fn is_without_status(&self) -> bool {
        matches!(self, Fault::Close | Fault::Hang | Fault::Reset | Fault::Garbage)
    }

    /// The pause after each byte.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Fault::SlowBytes(pause) => Some(*pause),
            _ => None,
        }
    }

    /// How the connection ends if this fault takes the place of an answer.
    pub(super) fn end(&self, wire: &mut dyn Wire) -> io::Result<Option<End>> {
        Ok(match self {
            Fault::Close => Some(End::Close),
            Fault::Hang => Some(End::Hold),
            Fault::Reset => Some(End::Reset),
            Fault::Garbage => {
                wire.write_all(b"\x7fELF\x02\x01\x01\x00 this is not HTTP \xff\xfe\x00\r\n\r\n")?;
                wire.flush()?;
                Some(End::Close)
            }
            _ => None,
        })
    }
}

impl Shared {
    /// The first fault for this request that is not used up.
    pub(super) fn take_fault(&self, path: &str, query: &Query) -> Option<Fault> {
        let mut state = self.state();
        let fits = |target: &str| {
            let (prefix, key) = target.split_once('?').unwrap_or((target, ""));
            let is_below = path.strip_prefix(prefix).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')
            });
            is_below && (key.is_empty() || value(query, key).is_some())
        };
        let mut faults = state.faults.iter_mut();
        let (_, fault, times) = faults.find(|(target, _, times)| *times > 0 && fits(target))?;
        *times -= 1;
        Some(fault.clone())
    }
}
