//! Durations in the forms of the earlier Go versions.
//!
//! A whole number is seconds (1.x). Everything else is a Go duration such as `1m30s`, in the
//! grammar of `time.ParseDuration` without its sign. Does not know defaults, nor the meaning of
//! zero.

use std::fmt;
use std::time::Duration;

/// The accepted form, for error messages and `--help`.
pub const ACCEPTED: &str = "whole seconds or a duration such as 500ms, 1.5s, 1m30s, 2h";

/// A loop with a shorter period would keep a core and its peer busy.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Reads `10`, `500ms`, `1.5s`, `1m30s`; no sign, no spaces, at most `u64::MAX` seconds.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parsed = match is_number {
        true => text.parse().map(Duration::from_secs).ok(),
        false => parse_units(text),
    };
    parsed.ok_or(ACCEPTED)
}

/// Like [`parse`], without zero.
pub fn parse_nonzero(text: &str) -> Result<Duration, &'static str> {
    match parse(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("whole seconds or a duration such as 500ms, 1.5s, 1m30s, 2h, more than zero"),
    }
}

/// Like [`parse`], at least 100 ms.
pub fn parse_period(text: &str) -> Result<Duration, &'static str> {
    match parse(text) {
        Ok(period) if period >= SHORTEST_PERIOD => Ok(period),
        _ => Err("whole seconds or a duration such as 500ms, 1.5s, 1m30s, 2h, at least 100ms"),
    }
}

fn parse_units(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut nanos: u128 = 0;
    loop {
        let (part, after) = leading_part(rest)?;
        nanos = nanos.checked_add(part)?;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).ok()?;
    let subsecond = u32::try_from(nanos % NANOS_PER_SECOND).ok()?;
    Some(Duration::new(seconds, subsecond))
}

/// One number with its unit, in nanoseconds, and the text after it.
fn leading_part(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (unit, rest) = UNITS
        .iter()
        .find_map(|(name, nanos)| rest.strip_prefix(name).map(|rest| (*nanos, rest)))?;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanos = whole.checked_mul(unit)?.checked_add(fraction_of(fraction, unit))?;
    Some((nanos, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(end)
}

/// Longer names come first: `m` is a prefix of `ms`.
const UNITS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
];

/// Drops digits below a nanosecond, as Go does.
fn fraction_of(digits: &str, unit: u128) -> u128 {
    let mut value = 0;
    let mut scale = unit;
    for digit in digits.bytes() {
        scale /= 10;
        value += u128::from(digit - b'0') * scale;
    }
    value
}

/// A duration in the form that [`parse`] reads back: `1m30s`, `1.5s`, `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact(pub Duration);

impl Compact {
    pub fn in_millis(duration: Duration) -> Compact {
        Compact(Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000))
    }
}

impl fmt::Display for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        match (seconds, nanos) {
            (0, 1_000_000..) => {
                return write!(
                    f,
                    "{}ms",
                    decimal((nanos / 1_000_000).into(), nanos % 1_000_000, 6)
                );
            }
            (0, 1_000..) => {
                return write!(f, "{}us", decimal((nanos / 1_000).into(), nanos % 1_000, 3));
            }
            (0, 1..) => return write!(f, "{nanos}ns"),
            _ => {}
        }
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if rest > 0 || nanos > 0 || seconds == 0 {
            write!(f, "{}s", decimal(rest, nanos, 9))?;
        }
        Ok(())
    }
}

fn decimal(whole: u64, fraction: u32, width: usize) -> String {
    let text = format!("{whole}.{fraction:0width$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Adds `chance` (0 to 1) of the share `most` (0.2 for 20 %) to the duration.
pub fn with_jitter(duration: Duration, most: f64, chance: f64) -> Duration {
    let more = Duration::try_from_secs_f64(duration.as_secs_f64() * most * chance);
    duration.saturating_add(more.unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Accepted texts; also the seeds of the fuzz target.
    const GOOD: &[(&str, Duration)] = &[
        ("0", Duration::ZERO),
        ("10", Duration::from_secs(10)),
        ("007", Duration::from_secs(7)),
        ("18446744073709551615", Duration::from_secs(u64::MAX)),
        ("0s", Duration::ZERO),
        ("500ms", Duration::from_millis(500)),
        ("1.5s", Duration::from_millis(1500)),
        (".5s", Duration::from_millis(500)),
        ("1.s", Duration::from_secs(1)),
        ("1m30s", Duration::from_secs(90)),
        ("30s1m", Duration::from_secs(90)),
        ("2h", Duration::from_secs(7200)),
        ("1h0m0.000000001s", Duration::new(3600, 1)),
        ("10us", Duration::from_micros(10)),
        ("10\u{b5}s", Duration::from_micros(10)),
        ("3ns", Duration::from_nanos(3)),
        ("0.0000000019s", Duration::from_nanos(1)),
    ];

    const BAD: &[&str] = &[
        "",
        " ",
        "s",
        ".",
        ".s",
        "-1",
        "+1",
        "-5s",
        "1 s",
        " 1s",
        "1s ",
        "1.5",
        "1d",
        "1sec",
        "1e3",
        "0x10",
        "1s-",
        "1.2.3s",
        "18446744073709551616",
        "18446744073709551616s",
        "99999999999999999999999999999999999999999h",
        "\u{661}s",
        "1h99999999999999999999999999999999999999ns9",
    ];

    #[test]
    fn with_jitter_stays_in_its_bounds() {
        let second = Duration::from_secs(1);
        for (duration, most, chance, expected) in [
            (second, 0.2, 0.0, second),
            (second, 0.2, 1.0, Duration::from_millis(1200)),
            (Duration::ZERO, 0.2, 1.0, Duration::ZERO),
            (Duration::MAX, 0.2, 1.0, Duration::MAX),
        ] {
            assert_eq!(with_jitter(duration, most, chance), expected);
        }
    }

    #[test]
    fn durations_are_parsed() {
        for (text, expected) in GOOD {
            assert_eq!(parse(text), Ok(*expected), "{text}");
        }
    }

    #[test]
    fn invalid_durations_are_refused() {
        for text in BAD {
            assert_eq!(parse(text), Err(ACCEPTED), "{text}");
        }
    }

    #[test]
    fn parse_nonzero_refuses_zero() {
        assert_eq!(parse_nonzero("1ns"), Ok(Duration::from_nanos(1)));
        for text in ["0", "0s", "0.0000000001s", "x"] {
            assert!(parse_nonzero(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parse_period_refuses_short_periods() {
        for (text, expected) in [("100ms", 100), ("0.1s", 100), ("1", 1_000), ("1m30s", 90_000)] {
            assert_eq!(parse_period(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for text in
            ["", "x", "0", "0s", "1ns", "1us", "1ms", "99ms", "99.999999ms", "0.0999s", "-1s"]
        {
            let accepted =
                "whole seconds or a duration such as 500ms, 1.5s, 1m30s, 2h, at least 100ms";
            assert_eq!(parse_period(text), Err(accepted), "{text}");
        }
    }

    #[test]
    fn compact_texts() {
        for (duration, expected) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(20), "20s"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_secs(3600), "1h"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_millis(500), "500ms"),
            (Duration::from_micros(1500), "1.5ms"),
            (Duration::from_nanos(3), "3ns"),
        ] {
            assert_eq!(Compact(duration).to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn compact_is_parsed_back(seconds in any::<u64>(), nanos in 0..1_000_000_000u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse(&Compact(duration).to_string()), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
