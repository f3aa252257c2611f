//! JSON of answers.

use std::time::Duration;

use serde::Serialize;

/// Serialising cannot fail: map keys are strings, numbers are finite.
pub fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Seconds, rounded to milliseconds.
pub fn seconds(duration: Duration) -> f64 {
    thousandths(duration.as_secs_f64())
}

pub fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The number of bytes of a text with its escapes.
pub fn quoted_len(text: Option<&str>) -> usize {
    let text = text.unwrap_or_default();
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}
