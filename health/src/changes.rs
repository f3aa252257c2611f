//! Which changes of the verdict the log tells: each, but for those of a pod that flaps, of which it tells some and in
//! the end where they led.
//!
//! Pure: the time is an argument. Does not know what the verdict is, nor how one logs.

use std::time::{Duration, Instant};

use psl::rate::RateLimiter;

/// So many in a minute are the worst that DaemonSets do when a node comes up.
const MOST_TOLD: usize = 20;
const PERIOD: Duration = Duration::from_secs(60);

/// What was told.
#[derive(Debug)]
pub struct Changes {
    last: Option<Vec<String>>,
    /// How many there were since one was told.
    untold: usize,
    pace: RateLimiter,
}

/// What is to be done about the present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It has changed so many times since the last line.
    Change(usize),
    /// Nothing has changed.
    Same,
    /// It has, and will be told when that is [`Changes::due`].
    Later,
}

impl Changes {
    /// Nothing was told.
    pub fn new(now: Instant) -> Changes {
        Changes { last: None, untold: 0, pace: RateLimiter::new(MOST_TOLD, PERIOD, now) }
    }

    /// The gate is open, or shut for these reasons.
    pub fn look(&mut self, reasons: Vec<String>, now: Instant) -> Line {
        self.untold += usize::from(self.last.as_ref() != Some(&reasons));
        self.last = Some(reasons);
        match self.untold {
            0 => Line::Same,
            count if self.pace.has_room(now) => {
                self.pace.note();
                self.untold = 0;
                Line::Change(count)
            }
            _ => Line::Later,
        }
    }

    /// The reasons of last.
    #[cfg(test)]
    pub fn last(&self) -> &[String] {
        self.last.as_deref().unwrap_or_default()
    }

    /// When what was not told is to be looked at again.
    pub fn due(&self) -> Option<Instant> {
        (self.untold > 0).then(|| self.pace.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
        Instant::now()
    }

    fn shut(why: &str) -> Vec<String> {
        vec![why.to_owned()]
    }

    #[test]
    fn a_change_is_told_and_the_same_again_is_not() {
        let now = start();
        let mut changes = Changes::new(now);
        assert_eq!(changes.look(shut("a"), now), Line::Change(1));
        assert_eq!(changes.look(shut("a"), now), Line::Same);
        assert_eq!(changes.look(shut("b"), now), Line::Change(1));
        assert_eq!(changes.look(vec![], now), Line::Change(1));
        assert_eq!((changes.look(vec![], now), changes.due()), (Line::Same, None));
    }

    #[test]
    fn of_a_pod_that_flaps_some_changes_are_told_and_where_they_led() {
        let now = start();
        let mut changes = Changes::new(now);
        let mut told = 0;
        for second in 0..50 {
            let reasons = if second % 2 == 0 { shut("flaps") } else { vec![] };
            let line = changes.look(reasons, now + Duration::from_secs(second));
            told += usize::from(line == Line::Change(1));
        }
        assert_eq!((told, changes.due()), (MOST_TOLD, Some(now + PERIOD)));
        let just_before = now + PERIOD - Duration::from_nanos(1);
        assert_eq!(
            changes.look(vec![], just_before),
            Line::Later,
            "that it has come to rest makes no difference"
        );
        assert_eq!(changes.look(vec![], now + PERIOD), Line::Change(50 - MOST_TOLD));
        assert_eq!((changes.look(vec![], now + PERIOD), changes.due()), (Line::Same, None));
    }
}
