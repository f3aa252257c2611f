//! How often the log says why the wait goes on.
//!
//! Pure: the time is an argument. Does not know the meaning of a reason, nor how a line is written.

use std::time::Duration;

use crate::wait::Kind;

/// A line is written at least this long after the last one, unless its reason is new.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The bound on new reasons. A wait has a handful of them; a server that puts a random word into
/// each answer must not get a line for each.
const MOST_REASONS: usize = 8;

/// Admits a new reason at once, and one line a minute after that.
///
/// A reason that comes back, as one of two that alternate, is not new.
#[derive(Clone, Debug, Default)]
pub struct LogThrottle {
    known: Vec<(Kind, String)>,
    /// When the last line was written.
    last: Option<Duration>,
}

impl LogThrottle {
    /// Whether a line is to be written about this reason now.
    pub fn admits(&mut self, kind: Kind, words: &str, now: Duration) -> bool {
        let gist = gist(words);
        let is_known = self.known.iter().any(|(other, known)| *other == kind && *known == gist);
        let is_new = !is_known && self.known.len() < MOST_REASONS;
        let is_due = self.last.is_none_or(|last| now.saturating_sub(last) >= SAY_AGAIN);
        if is_new {
            self.known.push((kind, gist));
        }
        if is_new || is_due {
            self.last = Some(now);
        }
        is_new || is_due
    }
}

/// A reason without its numbers: a count, a time or an address that changes makes no other reason.
/// A word with a digit in it counts as a number, so `1m5s` and `59s` are the same.
fn gist(words: &str) -> String {
    let is_of_a_word = |c: char| c.is_alphanumeric() || c == '.';
    let mut gist = String::new();
    let mut rest = words;
    while let Some(first) = rest.chars().next() {
        let end = match is_of_a_word(first) {
            true => rest.find(|c| !is_of_a_word(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, after) = rest.split_at(end);
        if !word.contains(|c: char| c.is_ascii_digit()) {
            gist.push_str(word);
        }
        rest = after;
    }
    gist
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use psl::duration::Compact;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// At which of these seconds a line is written, if the reasons come in turn.
    fn said<R: AsRef<str>>(reasons: &[R], at: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut throttle = LogThrottle::default();
        let mut reasons = reasons.iter().cycle();
        at.filter(|s| throttle.admits(Kind::Held, reasons.next().unwrap().as_ref(), seconds(*s)))
            .collect()
    }

    #[test]
    fn each_reason_once_and_then_a_line_a_minute() {
        assert_eq!(said(&["a"], 0..200), [0, 60, 120, 180]);
        assert_eq!(said(&["a", "b"], 0..200), [0, 1, 61, 121, 181]);
        assert_eq!(said(&["a", "b", "c"], 0..200), [0, 1, 2, 62, 122, 182]);
        assert_eq!(
            said(&["a", "b"], (0..240).step_by(30)),
            [0, 30, 90, 150, 210],
            "also if answers are rare"
        );
        assert_eq!(said(&["a", "a", "a", "b"], 0..200), [0, 3, 63, 123, 183]);
    }

    #[test]
    fn a_minute_is_a_minute_to_the_nanosecond() {
        let mut throttle = LogThrottle::default();
        let minute = seconds(60);
        for (now, expected) in [
            (seconds(1), true),
            (seconds(1) + minute - Duration::from_nanos(1), false),
            (seconds(1) + minute, true),
        ] {
            assert_eq!(throttle.admits(Kind::Held, "a", now), expected, "{now:?}");
        }
    }

    #[test]
    fn the_same_words_of_another_kind_are_another_reason() {
        let mut throttle = LogThrottle::default();
        let admitted: Vec<_> = [Kind::Held, Kind::Unreachable, Kind::Held, Kind::Unreachable]
            .into_iter()
            .map(|kind| throttle.admits(kind, "a", Duration::ZERO))
            .collect();
        assert_eq!(admitted, [true, true, false, false]);
    }

    #[test]
    fn numbers_that_change_are_no_new_reason() {
        let place = |n: u64| {
            format!(
                "423 Locked; position {} in line, a slot is expected in {}",
                200 - n,
                Compact(seconds(5 * (200 - n)))
            )
        };
        let busy = |n: u64| {
            format!("423 Locked; the node is busy: 0.{n} of 8 cores idle; at most {n}m{n}s")
        };
        let places: Vec<_> = (0..180).map(place).collect();
        assert_eq!(said(&places, 0..180), [0, 60, 120]);
        let both: Vec<_> = (0..180).map(|n| if n % 2 == 0 { place(n) } else { busy(n) }).collect();
        assert_eq!(said(&both, 0..180), [0, 1, 61, 121]);
    }

    #[test]
    fn random_words_do_not_fill_the_log() {
        let reasons: Vec<_> =
            (0..180u32).map(|n| format!("{}x", "ab".repeat(n as usize))).collect();
        assert_eq!(said(&reasons, 0..180), [0, 1, 2, 3, 4, 5, 6, 7, 67, 127]);
    }

    #[test]
    fn gists() {
        let words = |position: &str, expected: &str| {
            format!(
                "423 Locked; all slots are taken; position {position} in line, a slot is expected in {expected}"
            )
        };
        let first = gist(&words("12", "1h2m5s"));
        for (position, expected) in
            [("9", "59s"), ("1", "1.5s"), ("2", "2m"), ("10", "500ms"), ("3", "7µs")]
        {
            assert_eq!(gist(&words(position, expected)), first, "{position} {expected}");
        }
        for (one, other, are_the_same) in [
            ("423 Locked; all slots are taken", "423 Locked; the gate is closed", false),
            ("position 3 in line", "position 3 in line, a slot is expected in 12s", false),
            ("12 slots", "12 pods", false),
            ("12", "", true),
            ("request 3fa9c2 refused", "request 00b17e refused", true),
            ("no answer from 10.96.0.10:53", "no answer from 10.0.0.7:53", true),
            ("ü 1", "ü 22", true),
        ] {
            assert_eq!(gist(one) == gist(other), are_the_same, "{one} | {other}");
        }
    }

    proptest! {
        #[test]
        fn no_number_and_no_duration_is_a_new_reason(
            counts in [any::<u32>(), any::<u32>()],
            expected in [any::<u64>(), any::<u64>()],
        ) {
            let text = |n: usize| Compact(Duration::from_millis(expected[n]));
            let words = |n: usize| format!("position {} in line, expected in {}, later", counts[n], text(n));
            prop_assert_eq!(gist(&words(0)), gist(&words(1)));
        }

        #[test]
        fn the_log_stays_short(
            between in 0..40u64,
            reasons in prop::collection::vec("[a-e0-9 .:]{0,4}", 1..100),
        ) {
            let seen: std::collections::HashSet<_> = reasons.iter().map(|words| gist(words)).collect();
            let lines = said(&reasons, (0..reasons.len() as u64).map(|n| n * between)).len() as u64;
            let span = (reasons.len() as u64 - 1) * between;
            prop_assert!(lines >= 1 && lines <= seen.len().min(MOST_REASONS) as u64 + span / 60, "{lines}");
        }
    }
}
