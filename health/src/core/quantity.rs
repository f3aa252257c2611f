//! Amounts as Kubernetes writes them ("Quantity" in the API reference).

/// An amount in billionths, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(u128);

impl Quantity {
    /// Whole percent of `capacity`. Any use of no capacity is 100 %.
    pub fn percent_of(self, capacity: Quantity) -> u64 {
        let percent = self.0.saturating_mul(100).checked_div(capacity.0).unwrap_or(100);
        u64::try_from(percent).unwrap_or(u64::MAX)
    }

    /// Whether the amount is at least this percentage of `capacity`.
    pub fn reaches(self, percent: u8, capacity: Quantity) -> bool {
        self.0.saturating_mul(100) >= capacity.0.saturating_mul(percent.into())
    }

    /// Whether the amount is more than this percentage of `capacity`.
    pub fn exceeds(self, percent: u8, capacity: Quantity) -> bool {
        self.0.saturating_mul(100) > capacity.0.saturating_mul(percent.into())
    }

    /// Parses `137402104n`, `250m`, `1`, `1.5`, `2e3` or `1Ki`. Negative amounts are invalid.
    pub fn parse(text: &str) -> Option<Quantity> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (factor, exponent) = scale(suffix)?;
        // Trailing zeros of a fraction would only make the number overflow.
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let mantissa: u128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let exponent = exponent.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let scaled = mantissa.checked_mul(factor)?;
        let power = 10u128.checked_pow(exponent.unsigned_abs());
        match (scaled, exponent) {
            (0, _) => Some(Quantity(0)),
            (_, 0..) => Some(Quantity(scaled.checked_mul(power?)?)),
            _ => Some(Quantity(power.map_or(1, |power| scaled.div_ceil(power)))),
        }
    }
}

/// The factor and the power of ten of a suffix.
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

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in "[-+0-9.eEkKmMnuiGTP ]{0,12}|.*") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn decimal_and_nano_notation_agree(whole in 0u64..1_000_000, billionths in 0u32..1_000_000_000) {
            let expected = u128::from(whole) * 1_000_000_000 + u128::from(billionths);
            prop_assert_eq!(Quantity::parse(&format!("{whole}.{billionths:09}")), Some(Quantity(expected)));
            prop_assert_eq!(Quantity::parse(&format!("{expected}n")), Some(Quantity(expected)));
        }
    }
}
