//! The cycle that follows one kind of object: a list, then watches that continue from it, or lists
//! alone if watching is forbidden. Pauses grow with the failures in a row.
//!
//! The file does not know objects or requests.

use std::time::{Duration, Instant};

use crate::core::refresh_schedule::{Periods, between};

/// The longest pause after a watch that ended normally or by 410.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// A shorter watch does not prove that watching works.
const SHORTEST_WATCH: Duration = Duration::from_secs(5);

/// The pause until a forbidden watch is tried again for the first time. A server that has just
/// started may not know the roles yet, and all nodes would poll it.
const FIRST_RETRY: Duration = Duration::from_secs(60);

/// The pause until it is tried again later: the role may have changed.
const NEXT_RETRY: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct WatchSchedule {
    periods: Periods,
    failures: u32,
    /// The last data from a list or a watch.
    last_data: Instant,
    /// Set while the last watch was forbidden.
    polls_until: Option<Instant>,
}

impl WatchSchedule {
    pub fn new(periods: Periods, now: Instant) -> WatchSchedule {
        WatchSchedule { periods, failures: 0, last_data: now, polls_until: None }
    }

    /// A list has succeeded. Returns whether a watch follows; otherwise the source is polled.
    pub fn finish_list(&mut self, now: Instant) -> bool {
        self.last_data = now;
        let polls = self.is_polling(now);
        // If a watch follows, the watch has to prove that it works.
        if polls {
            self.failures = 0;
        }
        !polls
    }

    pub fn is_polling(&self, now: Instant) -> bool {
        self.polls_until.is_some_and(|until| now < until)
    }

    /// A watch is forbidden. Returns whether this is new.
    pub fn forbid_watch(&mut self, now: Instant, chance: f64) -> bool {
        let is_new = self.polls_until.is_none();
        let pause = if is_new { FIRST_RETRY } else { NEXT_RETRY };
        self.polls_until = Some(now + between(pause, 1.0, 1.5, chance));
        self.failures = 0;
        is_new
    }

    /// A watch has ended. A normal end alone is no success: a proxy may hold the watch open and
    /// never forward an event.
    pub fn finish_watch(
        &mut self,
        had_events: bool,
        is_normal: bool,
        start: Instant,
        now: Instant,
    ) {
        if had_events {
            (self.last_data, self.polls_until) = (now, None);
        }
        let is_long = now.saturating_duration_since(start) >= SHORTEST_WATCH;
        if had_events || (is_normal && is_long) {
            self.failures = 0;
        }
    }

    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether there was no data for this long, in one watch or in many: a proxy may end each watch
    /// before it forwards an event.
    pub fn is_silent(&self, silence: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.last_data) >= silence
    }

    pub fn pause_after_failure(&mut self, chance: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.periods.after_failures(self.failures, chance)
    }

    /// The pause after a normal end. It grows as well, because a server may end every watch at
    /// once.
    pub fn pause_after_end(&mut self, chance: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            1 => between(SHORT_PAUSE.min(self.periods.fail), 0.0, 1.0, chance),
            more => self.periods.after_failures(more - 1, chance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIODS: Periods =
        Periods { fail: Duration::from_secs(10), pass: Duration::from_secs(60) };

    fn start() -> (WatchSchedule, Instant) {
        #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
        let now = Instant::now();
        (WatchSchedule::new(PERIODS, now), now)
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn pauses_grow_with_failures_in_a_row() {
        let (mut schedule, _) = start();
        for expected in [10.0, 20.0, 30.0, 30.0] {
            assert_eq!(schedule.pause_after_failure(1.0), seconds(expected));
        }
    }

    #[test]
    fn a_polled_list_resets_the_failures() {
        let (mut schedule, now) = start();
        schedule.pause_after_failure(1.0);
        assert!(schedule.forbid_watch(now, 0.0), "the first one is new");
        assert_eq!(schedule.pause_after_failure(1.0), seconds(10.0), "a refusal resets the count");
        schedule.pause_after_failure(1.0);
        assert!(!schedule.finish_list(now), "the source is polled");
        assert_eq!(schedule.pause_after_failure(1.0), seconds(10.0));
    }

    #[test]
    fn a_list_before_a_watch_does_not_reset_the_failures() {
        let (mut schedule, now) = start();
        schedule.pause_after_failure(1.0);
        assert!(schedule.finish_list(now), "a watch follows");
        assert_eq!(
            schedule.pause_after_failure(1.0),
            seconds(20.0),
            "otherwise a list and a failing watch would alternate without end"
        );
    }

    #[test]
    fn a_watch_with_events_or_of_some_length_resets_the_failures() {
        for (case, had_events, is_normal, lasted, expected) in [
            ("events", true, false, 0.0, 10.0),
            ("lasted", false, true, 5.0, 10.0),
            ("did not last", false, true, 4.9, 20.0),
            ("lasted, but broke", false, false, 600.0, 20.0),
        ] {
            let (mut schedule, now) = start();
            schedule.pause_after_failure(1.0);
            schedule.finish_watch(had_events, is_normal, now, now + seconds(lasted));
            assert_eq!(schedule.pause_after_failure(1.0), seconds(expected), "{case}");
        }
    }

    #[test]
    fn watches_that_end_at_once_are_restarted_ever_more_rarely() {
        let (mut schedule, _) = start();
        assert_eq!(
            [1.0; 5].map(|chance| schedule.pause_after_end(chance)),
            [1.0, 10.0, 20.0, 30.0, 30.0].map(seconds)
        );
    }

    #[test]
    fn a_forbidden_watch_is_retried_after_a_minute_and_then_more_rarely() {
        let (mut schedule, now) = start();
        assert!(schedule.finish_list(now));
        assert!(schedule.forbid_watch(now, 0.0));
        for (after, may_watch) in [(0.0, false), (59.9, false), (60.0, true)] {
            assert_eq!(schedule.finish_list(now + seconds(after)), may_watch, "{after}");
        }
        assert!(!schedule.forbid_watch(now, 0.0), "it is new only once");
        for (after, may_watch) in [(599.9, false), (600.0, true)] {
            assert_eq!(schedule.finish_list(now + seconds(after)), may_watch, "{after}");
        }
        schedule.finish_watch(true, true, now, now);
        assert!(schedule.forbid_watch(now, 0.0), "after a watch with events it is new again");
    }

    #[test]
    fn watches_without_events_are_silent_however_many_they_are() {
        let (mut schedule, now) = start();
        let silence = seconds(150.0);
        for after in 1..150 {
            let at = now + Duration::from_secs(after);
            schedule.finish_watch(false, true, at, at);
            assert!(!schedule.is_silent(silence, at), "{after}");
        }
        assert!(schedule.is_silent(silence, now + silence));
        schedule.finish_watch(true, true, now, now + silence);
        assert!(!schedule.is_silent(silence, now + silence), "the watch had events");
        schedule.finish_list(now + 2 * silence);
        assert!(!schedule.is_silent(silence, now + 2 * silence), "a list is data as well");
    }
}
