//! The Prometheus text exposition format, version 0.0.4.
//!
//! Does not know the metrics of a program.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::version::{COMMIT, VERSION};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins with `psl_build_info`, which every program has.
    pub fn new(program: &str) -> Exposition {
        let mut out = Exposition::default();
        let labels = [("program", program), ("version", VERSION), ("commit", COMMIT)];
        out.gauge("psl_build_info", "The program and its version; always 1");
        out.sample("psl_build_info", &labels, 1);
        out
    }

    /// Begins a counter; its samples follow.
    pub fn counter(&mut self, name: &str, help: &str) {
        self.head(name, "counter", help);
    }

    /// Begins a gauge; its samples follow.
    pub fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    /// A gauge with one sample and no labels.
    pub fn single_gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauge(name, help);
        self.sample(name, &[], value);
    }

    /// One sample of the metric begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let pairs: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        match pairs.is_empty() {
            true => self.line(format_args!("{name} {value}")),
            false => self.line(format_args!("{name}{{{}}} {value}", pairs.join(","))),
        }
    }

    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count;
            self.sample(&format!("{name}_bucket"), &[("le", &bound.to_string())], below);
        }
        self.sample(&format!("{name}_bucket"), &[("le", "+Inf")], histogram.count);
        self.sample(&format!("{name}_sum"), &[], histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[], histogram.count);
    }

    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments) {
        // Writing to a `String` does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Durations counted by upper bound, in seconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    count: u64,
    sum: Duration,
}

impl Histogram {
    /// An empty histogram; `bounds` ascend.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len()], count: 0, sum: Duration::ZERO }
    }

    /// Counts the duration in the first bucket whose bound is not below it.
    pub fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = self.bounds.iter().position(|bound| seconds <= *bound) {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposition() {
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        for millis in [500, 501, 1000, 1001] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut out = Exposition::default();
        out.single_gauge("a", "An a", 2);
        out.counter("b_total", "A b");
        out.sample("b_total", &[("x", "1"), ("y", "q\"\\\n")], 3);
        out.histogram("c_seconds", "A c", &histogram);
        assert_eq!(
            out.finish(),
            "# HELP a An a\n# TYPE a gauge\na 2\n\
             # HELP b_total A b\n# TYPE b_total counter\nb_total{x=\"1\",y=\"q\\\"\\\\\\n\"} 3\n\
             # HELP c_seconds A c\n# TYPE c_seconds histogram\nc_seconds_bucket{le=\"0.5\"} 1\nc_seconds_bucket{le=\"1\"} 3\n\
             c_seconds_bucket{le=\"+Inf\"} 4\nc_seconds_sum 3.002\nc_seconds_count 4\n"
        );
    }
}
