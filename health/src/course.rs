//! How one source is followed: a list, then watches that go on from it, or lists alone where watching is forbidden;
//! and how long the pauses are, longer the more has failed in a row.
//!
//! Pure: time and chance are arguments. Does not know what is followed, nor how one asks.

use std::time::{Duration, Instant};

use crate::agenda::{Periods, between};

/// After a watch that has ended as agreed, or by 410, at most.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// A watch that lasts less has not done its work.
const SHORTEST_WATCH: Duration = Duration::from_secs(5);

/// Where watching is forbidden it is tried again after about this long, at first: a server that has just started may
/// not know the roles yet, and all nodes would poll it.
const UNTIL_FIRST_TRY: Duration = Duration::from_secs(60);

/// And then after this: the role may have grown.
const UNTIL_NEXT_TRY: Duration = Duration::from_secs(600);

/// Where a source stands.
#[derive(Debug)]
pub struct Course {
    periods: Periods,
    /// How often in a row something has come to nothing.
    failures: u32,
    /// When anything was last told of it, by a list or by a watch.
    heard: Instant,
    /// Up to when it is polled, where the last watch was forbidden.
    polls_until: Option<Instant>,
}

impl Course {
    /// Nothing has been asked yet.
    pub fn new(periods: Periods, now: Instant) -> Course {
        Course { periods, failures: 0, heard: now, polls_until: None }
    }

    /// A list has been read. Returns whether a watch is to go on from it; else it is polled.
    pub fn listed(&mut self, now: Instant) -> bool {
        self.heard = now;
        let polls = self.polls(now);
        // Where it is watched the watch has to show that it works: a list that does says nothing of that.
        self.failures = if polls { 0 } else { self.failures };
        !polls
    }

    /// Whether it is polled at present.
    pub fn polls(&self, now: Instant) -> bool {
        self.polls_until.is_some_and(|until| now < until)
    }

    /// A watch is forbidden. Returns whether that is news.
    pub fn forbidden(&mut self, now: Instant, chance: f64) -> bool {
        let is_news = self.polls_until.is_none();
        let pause = if is_news { UNTIL_FIRST_TRY } else { UNTIL_NEXT_TRY };
        self.polls_until = Some(now + between(pause, 1.0, 1.5, chance));
        self.failures = 0;
        is_news
    }

    /// A watch has ended. That the server agreed to it says nothing yet: it may hold it open and never tell anything.
    pub fn watched(&mut self, has_told: bool, as_agreed: bool, began: Instant, now: Instant) {
        if has_told {
            (self.heard, self.polls_until) = (now, None);
        }
        if has_told || (as_agreed && now.saturating_duration_since(began) >= SHORTEST_WATCH) {
            self.failures = 0;
        }
    }

    /// Whether something has come to nothing since all was well.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether nothing was told for so long, be it in one watch or in many: what stands in between may end each of them
    /// before it tells anything.
    pub fn is_silent(&self, silence: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= silence
    }

    /// How long to pause after a failure.
    pub fn after_failure(&mut self, chance: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.periods.after_failures(self.failures, chance)
    }

    /// And after a watch that has ended as agreed. A server that ends every watch at once would otherwise be asked
    /// without a pause.
    pub fn after_end(&mut self, chance: f64) -> Duration {
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

    fn start() -> (Course, Instant) {
        #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
        let now = Instant::now();
        (Course::new(PERIODS, now), now)
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn pauses_grow_with_failures_in_a_row() {
        let (mut course, _) = start();
        for expected in [10.0, 20.0, 30.0, 30.0] {
            assert_eq!(course.after_failure(1.0), seconds(expected));
        }
    }

    #[test]
    fn a_list_that_is_polled_ends_the_row() {
        let (mut course, now) = start();
        course.after_failure(1.0);
        assert!(course.forbidden(now, 0.0), "that is news");
        assert_eq!(course.after_failure(1.0), seconds(10.0), "to be refused is an answer");
        course.after_failure(1.0);
        assert!(!course.listed(now), "it is polled");
        assert_eq!(course.after_failure(1.0), seconds(10.0));
    }

    #[test]
    fn a_list_before_a_watch_does_not() {
        let (mut course, now) = start();
        course.after_failure(1.0);
        assert!(course.listed(now), "it is watched");
        assert_eq!(
            course.after_failure(1.0),
            seconds(20.0),
            "or a list and a watch that fails would go on without end"
        );
    }

    #[test]
    fn a_watch_ends_the_row_where_it_has_told_or_has_lasted() {
        for (case, has_told, as_agreed, lasted, expected) in [
            ("told", true, false, 0.0, 10.0),
            ("lasted", false, true, 5.0, 10.0),
            ("did not last", false, true, 4.9, 20.0),
            ("lasted, but broke", false, false, 600.0, 20.0),
        ] {
            let (mut course, now) = start();
            course.after_failure(1.0);
            course.watched(has_told, as_agreed, now, now + seconds(lasted));
            assert_eq!(course.after_failure(1.0), seconds(expected), "{case}");
        }
    }

    #[test]
    fn watches_that_end_at_once_are_asked_for_ever_more_rarely() {
        let (mut course, _) = start();
        assert_eq!(
            [1.0; 5].map(|chance| course.after_end(chance)),
            [1.0, 10.0, 20.0, 30.0, 30.0].map(seconds)
        );
    }

    #[test]
    fn where_watching_is_forbidden_it_is_tried_again_after_a_minute_and_then_more_rarely() {
        let (mut course, now) = start();
        assert!(course.listed(now));
        assert!(course.forbidden(now, 0.0));
        for (after, may_watch) in [(0.0, false), (59.9, false), (60.0, true)] {
            assert_eq!(course.listed(now + seconds(after)), may_watch, "{after}");
        }
        assert!(!course.forbidden(now, 0.0), "it is said once");
        for (after, may_watch) in [(599.9, false), (600.0, true)] {
            assert_eq!(course.listed(now + seconds(after)), may_watch, "{after}");
        }
        course.watched(true, true, now, now);
        assert!(course.forbidden(now, 0.0), "a role that shrinks is news again");
    }

    #[test]
    fn watches_that_tell_nothing_are_silent_however_many_they_are() {
        let (mut course, now) = start();
        let silence = seconds(150.0);
        for after in 1..150 {
            let at = now + Duration::from_secs(after);
            course.watched(false, true, at, at);
            assert!(!course.is_silent(silence, at), "{after}");
        }
        assert!(course.is_silent(silence, now + silence));
        course.watched(true, true, now, now + silence);
        assert!(!course.is_silent(silence, now + silence), "it has told something");
        course.listed(now + 2 * silence);
        assert!(!course.is_silent(silence, now + 2 * silence), "a list tells all there is");
    }
}
