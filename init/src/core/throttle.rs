//! Limits how often the log repeats why the wait goes on.
//!
//! Pure: the time is an argument. Does not know the meaning of a reason or the form of a line.

use std::time::Duration;

use super::reason::ReasonKind;

/// A known reason is logged again after this time without a line.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// A wait has a handful of reasons. A server that puts a random word into each answer must not get
/// a line for each.
const MOST_REASONS: usize = 8;

/// Admits a new reason at once, and one line a minute after that. A reason that comes back, as one
/// of two that alternate, is not new.
#[derive(Clone, Debug, Default)]
pub struct LogThrottle {
    known: Vec<(ReasonKind, String)>,
    last_line: Option<Duration>,
}

impl LogThrottle {
    pub fn admit(&mut self, kind: ReasonKind, text: &str, now: Duration) -> bool {
        let gist = gist(text);
        let is_known = self.known.iter().any(|(other, known)| *other == kind && *known == gist);
        let is_new = !is_known && self.known.len() < MOST_REASONS;
        let is_due = self.last_line.is_none_or(|last| now.saturating_sub(last) >= REPEAT_AFTER);
        if is_new {
            self.known.push((kind, gist));
        }
        if is_new || is_due {
            self.last_line = Some(now);
        }
        is_new || is_due
    }
}

/// The text without its numbers, because a new count, time or address does not make a new reason.
/// A word with a digit is a number, so `1m5s` and `59s` are the same.
fn gist(text: &str) -> String {
    let is_in_word = |c: char| c.is_alphanumeric() || c == '.';
    let mut gist = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match is_in_word(first) {
            true => rest.find(|c| !is_in_word(c)).unwrap_or(rest.len()),
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
    use std::collections::HashSet;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// The seconds at which a line is written, if the reasons take turns.
    fn logged_at<R: AsRef<str>>(reasons: &[R], at: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut throttle = LogThrottle::default();
        let mut reasons = reasons.iter().cycle();
        at.filter(|s| {
            throttle.admit(ReasonKind::Locked, reasons.next().unwrap().as_ref(), seconds(*s))
        })
        .collect()
    }

    #[test]
    fn new_reasons_are_logged_at_once_and_known_ones_once_a_minute() {
        assert_eq!(logged_at(&["a"], 0..200), [0, 60, 120, 180]);
        assert_eq!(logged_at(&["a", "b"], 0..200), [0, 1, 61, 121, 181]);
        assert_eq!(logged_at(&["a", "b", "c"], 0..200), [0, 1, 2, 62, 122, 182]);
        assert_eq!(
            logged_at(&["a", "b"], (0..240).step_by(30)),
            [0, 30, 90, 150, 210],
            "rare answers"
        );
        assert_eq!(logged_at(&["a", "a", "a", "b"], 0..200), [0, 3, 63, 123, 183]);
    }

    #[test]
    fn the_minute_is_exact() {
        let mut throttle = LogThrottle::default();
        let minute = seconds(60);
        for (now, expected) in [
            (seconds(1), true),
            (seconds(1) + minute - Duration::from_nanos(1), false),
            (seconds(1) + minute, true),
        ] {
            assert_eq!(throttle.admit(ReasonKind::Locked, "a", now), expected, "{now:?}");
        }
    }

    #[test]
    fn the_same_text_with_another_kind_is_a_new_reason() {
        let mut throttle = LogThrottle::default();
        let admitted: Vec<_> =
            [ReasonKind::Locked, ReasonKind::NoAnswer, ReasonKind::Locked, ReasonKind::NoAnswer]
                .into_iter()
                .map(|kind| throttle.admit(kind, "a", Duration::ZERO))
                .collect();
        assert_eq!(admitted, [true, true, false, false]);
    }

    #[test]
    fn changed_numbers_do_not_make_a_new_reason() {
        let place = |n: u64| {
            format!(
                "423 Locked; position {} in the queue, a slot is expected in {}",
                200 - n,
                Compact(seconds(5 * (200 - n)))
            )
        };
        let busy = |n: u64| {
            format!("423 Locked; the node is busy: 0.{n} of 8 cores idle; at most {n}m{n}s")
        };
        let places: Vec<_> = (0..180).map(place).collect();
        assert_eq!(logged_at(&places, 0..180), [0, 60, 120]);
        let both: Vec<_> = (0..180).map(|n| if n % 2 == 0 { place(n) } else { busy(n) }).collect();
        assert_eq!(logged_at(&both, 0..180), [0, 1, 61, 121]);
    }

    #[test]
    fn random_words_do_not_flood_the_log() {
        let reasons: Vec<_> =
            (0..180u32).map(|n| format!("{}x", "ab".repeat(n as usize))).collect();
        assert_eq!(logged_at(&reasons, 0..180), [0, 1, 2, 3, 4, 5, 6, 7, 67, 127]);
    }

    #[test]
    fn gist_drops_numbers() {
        let words = |position: &str, expected: &str| {
            format!(
                "423 Locked; all slots are taken; position {position} in the queue, \
                 a slot is expected in {expected}"
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
            (
                "position 3 in the queue",
                "position 3 in the queue, a slot is expected in 12s",
                false,
            ),
            // A lock of 0.1.0.
            (
                "position 3 in line, a slot is expected in 9s",
                "position 1 in line, a slot is expected in 500ms",
                true,
            ),
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
        fn counts_and_durations_do_not_make_a_new_reason(
            counts in [any::<u32>(), any::<u32>()],
            expected in [any::<u64>(), any::<u64>()],
        ) {
            let text = |n: usize| Compact(Duration::from_millis(expected[n]));
            let words =
                |n: usize| format!("position {} in the queue, in {}", counts[n], text(n));
            prop_assert_eq!(gist(&words(0)), gist(&words(1)));
        }

        #[test]
        fn the_log_stays_short(
            between in 0..40u64,
            reasons in prop::collection::vec("[a-e0-9 .:]{0,4}", 1..100),
        ) {
            let gists: HashSet<_> = reasons.iter().map(|words| gist(words)).collect();
            let times = (0..reasons.len() as u64).map(|n| n * between);
            let lines = logged_at(&reasons, times).len() as u64;
            let span = (reasons.len() as u64 - 1) * between;
            let most = gists.len().min(MOST_REASONS) as u64 + span / 60;
            prop_assert!((1..=most).contains(&lines), "{lines}");
        }
    }
}
