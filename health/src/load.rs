//! How busy the node is, and whether that closes the gate: quantities as Kubernetes writes them, a
//! threshold, and an opening ten points below it.
//!
//! Pure. Does not know where the figures come from.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::api::Problem;

/// The gate that a busy node has closed opens this many points below the threshold, so that it does
/// not flap.
const HYSTERESIS: u8 = 10;

/// An amount, in billionths ("Quantity" in the API reference); what is smaller is rounded up.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Quantity(u128);

impl TryFrom<String> for Quantity {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Quantity, &'static str> {
        Quantity::parse(&text).ok_or("no quantity")
    }
}

impl Quantity {
    /// `137402104n`, `250m`, `1`, `1.5`, `2e3`, `1Ki`. Nothing where it is none, is negative, or
    /// does not fit.
    pub fn parse(text: &str) -> Option<Quantity> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (factor, exponent) = scale(suffix)?;
        // Zeros at the end of a fraction say nothing, and would only make the number overflow.
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let mantissa: u128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let exponent = exponent.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let scaled = mantissa.checked_mul(factor)?;
        match u32::try_from(exponent) {
            _ if scaled == 0 => Some(Quantity(0)),
            Ok(more) => Some(Quantity(scaled.checked_mul(10u128.checked_pow(more)?)?)),
            Err(_) => Some(Quantity(
                10u128.checked_pow(exponent.unsigned_abs()).map_or(1, |by| scaled.div_ceil(by)),
            )),
        }
    }
}

/// A factor, and a power of ten.
fn scale(suffix: &str) -> Option<(u128, i32)> {
    Some(match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let is_number =
                (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            (1, if is_number { exponent.parse().ok()? } else { return None })
        }
    })
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Percent of the capacity, 0 to 100; at or above it the node is too busy.
    pub threshold: u8,
    /// How often it is looked at.
    pub period: Duration,
    /// How long a look is believed while no other one succeeds.
    pub stale_after: Duration,
}

/// A look at the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    used: Quantity,
    capacity: Quantity,
    at: Instant,
}

/// What is known of the load.
///
/// Invariant: without a look that is fresh enough the gate is closed only in the first period.
#[derive(Clone, Debug)]
pub struct Load {
    settings: Settings,
    started: Instant,
    last: Option<Look>,
    is_busy: bool,
    problem: Option<Problem>,
}

impl Load {
    /// Nothing is known yet.
    pub fn new(settings: Settings, now: Instant) -> Load {
        Load { settings, started: now, last: None, is_busy: false, problem: None }
    }

    /// Takes a look.
    pub fn note(&mut self, used: Quantity, capacity: Quantity, now: Instant) {
        let threshold = u128::from(self.settings.threshold);
        let opens = u128::from(self.settings.threshold.saturating_sub(HYSTERESIS));
        let reaches =
            |percent: u128| used.0.saturating_mul(100) >= percent.saturating_mul(capacity.0);
        let exceeds =
            |percent: u128| used.0.saturating_mul(100) > percent.saturating_mul(capacity.0);
        self.is_busy = reaches(threshold) || (self.is_busy && exceeds(opens));
        self.last = Some(Look { used, capacity, at: now });
        self.problem = None;
    }

    /// Takes note that there is no look to be had, and why.
    pub fn fail(&mut self, problem: Problem) {
        self.problem = Some(problem);
    }

    fn fresh(&self, now: Instant) -> Option<&Look> {
        self.last
            .as_ref()
            .filter(|look| now.saturating_duration_since(look.at) < self.settings.stale_after)
    }

    /// Whether the gate is open.
    pub fn is_open(&self, now: Instant) -> bool {
        match self.fresh(now) {
            Some(_) => !self.is_busy,
            None => {
                self.last.is_some()
                    || now.saturating_duration_since(self.started) >= self.settings.period
            }
        }
    }

    /// Why the gate is closed, or why nobody knows; the server's words to `insiders` only.
    pub fn reason(&self, insiders: bool, now: Instant) -> Option<String> {
        let Settings { threshold, .. } = self.settings;
        let opens = threshold.saturating_sub(HYSTERESIS);
        match (self.fresh(now), &self.problem) {
            (Some(look), _) if self.is_busy => {
                let percent = look.percent();
                Some(format!(
                    "the node's CPU is busy to {percent} %; closed from {threshold} %, opens again at {opens} %"
                ))
            }
            (Some(_), _) => None,
            (None, Some(_)) => Some(format!(
                "the node's load is not known: {}",
                self.problem(insiders).unwrap_or_default()
            )),
            (None, None) => Some("the node's load is not known yet".to_owned()),
        }
    }

    /// Why there is no newer look, where that is so.
    pub fn problem(&self, insiders: bool) -> Option<String> {
        self.problem.as_ref().map(|problem| problem.told(insiders))
    }

    /// The share of the CPUs in use at the last look, and how old that is.
    pub fn last(&self, now: Instant) -> Option<(u64, Duration)> {
        self.last.as_ref().map(|look| (look.percent(), now.saturating_duration_since(look.at)))
    }

    /// As it was set.
    pub fn threshold(&self) -> u8 {
        self.settings.threshold
    }
}

impl Look {
    /// Whole percents; a node without any capacity is wholly busy.
    fn percent(&self) -> u64 {
        let percent = self.used.0.saturating_mul(100).checked_div(self.capacity.0).unwrap_or(100);
        u64::try_from(percent).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("137402104n", Some(137_402_104)),
            ("250m", Some(250_000_000)),
            ("1", Some(1_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("2e3", Some(2_000_000_000_000)),
            ("2E3", Some(2_000_000_000_000)),
            ("2e+3", Some(2_000_000_000_000)),
            ("2e-3", Some(2_000_000)),
            ("2E", Some(2_000_000_000_000_000_000_000_000_000)),
            ("3u", Some(3_000)),
            ("1k", Some(1_000_000_000_000)),
            ("1Ki", Some(1_024_000_000_000)),
            ("0.5Mi", Some(524_288_000_000_000)),
            (".5", Some(500_000_000)),
            ("5.", Some(5_000_000_000)),
            ("+4", Some(4_000_000_000)),
            ("0", Some(0)),
            ("0e9999", Some(0)),
            ("0.000000000000000000000000000000000000000000000000", Some(0)),
            ("1.10000000000000000000000000000000000000000000000", Some(1_100_000_000)),
            ("0.1n", Some(1)),
            ("1e-9999", Some(1)),
            ("1e9999", None),
            ("9999999999999999999999999999999999999999", None),
            ("", None),
            (".", None),
            ("-1", None),
            ("1.2.3", None),
            ("1 ", None),
            ("m", None),
            ("1e", None),
            ("1e1.5", None),
            ("1e99999", None),
            ("1K", None),
            ("1mi", None),
            ("0x10", None),
            ("1_000", None),
        ] {
            assert_eq!(Quantity::parse(text).map(|quantity| quantity.0), expected, "{text}");
        }
    }

    fn cpus(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
    fn start() -> Instant {
        Instant::now()
    }

    const PERIOD: Duration = Duration::from_secs(10);
    const STALE: Duration = Duration::from_secs(300);

    fn load(threshold: u8, at: Instant) -> Load {
        Load::new(Settings { threshold, period: PERIOD, stale_after: STALE }, at)
    }

    #[test]
    fn it_opens_ten_points_below_where_it_closed() {
        let at = start();
        let mut load = load(80, at);
        for (used, expected) in [
            ("3199m", true),
            ("3200m", false),
            ("3199m", false),
            ("2801m", false),
            ("2800000001n", false),
            ("2800m", true),
            ("3199999999n", true),
            ("3.2", false),
            ("0", true),
            ("4e3", false),
        ] {
            load.note(cpus(used), cpus("4"), at);
            assert_eq!(load.is_open(at), expected, "{used}");
            assert_eq!(load.reason(true, at).is_none(), expected, "{used}");
        }
    }

    #[test]
    fn thresholds_at_the_ends() {
        let at = start();
        for (threshold, used, expected) in [
            (0, "0", false),
            (100, "3999m", true),
            (100, "4", false),
            (5, "199m", true),
            (5, "200m", false),
        ] {
            let mut load = load(threshold, at);
            load.note(cpus(used), cpus("4"), at);
            assert_eq!(load.is_open(at), expected, "{threshold} {used}");
        }
        let mut low = load(5, at);
        low.note(cpus("1"), cpus("4"), at);
        low.note(cpus("0"), cpus("4"), at);
        assert!(low.is_open(at), "a threshold below ten opens at nothing");
    }

    #[test]
    fn a_metrics_server_that_is_missing_closes_for_one_period_only() {
        let at = start();
        let mut load = load(80, at);
        assert_eq!(load.reason(true, at).as_deref(), Some("the node's load is not known yet"));
        load.fail(Problem::new("404"));
        let nano = Duration::from_nanos(1);
        assert!(!load.is_open(at) && !load.is_open(at + PERIOD - nano));
        assert!(load.is_open(at + PERIOD));
        assert_eq!(
            load.reason(true, at + PERIOD).as_deref(),
            Some("the node's load is not known: 404"),
            "it is told all the same"
        );
        load.note(cpus("4"), cpus("4"), at + PERIOD);
        load.fail(Problem::new("503"));
        assert!(!load.is_open(at + PERIOD + STALE - nano), "the last look stands for a while");
        assert!(load.is_open(at + PERIOD + STALE));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+0-9.eEkKmMnuiGTP ]{0,12}|.*") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn what_is_written_plainly_is_read_back(whole in 0u64..1_000_000, billionths in 0u32..1_000_000_000) {
            let expected = u128::from(whole) * 1_000_000_000 + u128::from(billionths);
            prop_assert_eq!(Quantity::parse(&format!("{whole}.{billionths:09}")), Some(Quantity(expected)));
            prop_assert_eq!(Quantity::parse(&format!("{expected}n")), Some(Quantity(expected)));
        }
    }
}
