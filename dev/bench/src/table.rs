//! Markdown tables that are aligned for a terminal, and the statistics in them.

use std::time::Duration;

/// Columns are as wide as their widest cell; all but the first are right-aligned.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Table {
        Table { rows: vec![head.into_iter().map(Into::into).collect()] }
    }

    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub fn text(&self) -> String {
        let widths: Vec<usize> = (0..self.rows[0].len())
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut lines: Vec<String> = self.rows.iter().map(|row| line(row, &widths)).collect();
        lines.insert(1, rule(&widths));
        lines.concat()
    }
}

/// The colon right-aligns a column in Markdown.
fn rule(widths: &[usize]) -> String {
    let dashes = widths.iter().enumerate().map(|(column, width)| match column {
        0 => "-".repeat(*width),
        _ => "-".repeat(width.saturating_sub(1)) + ":",
    });
    line(&dashes.collect::<Vec<_>>(), widths)
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::from("|");
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        line +=
            &if column == 0 { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") };
    }
    line + "\n"
}

/// NaN without a value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// The median, and least and most if the printed values differ.
pub fn about(values: &[f64], digits: usize) -> String {
    let shown = |value: f64| format!("{value:.digits$}");
    let least = shown(values.iter().copied().fold(f64::INFINITY, f64::min));
    let most = shown(values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    let median = shown(median(values));
    if least == most { median } else { format!("{median} ({least}–{most})") }
}

/// Median, least and most: `0.52 (0.50–0.55)`.
pub fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.2} ({least:.2}–{most:.2})", median(values))
}

/// The smallest value that this share does not exceed; zero without a value.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

pub fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let mut table = Table::new(["", "µs"]);
        table.row(["lock", "1.5"]);
        table.row(["plain", "12.25"]);
        assert_eq!(
            table.text(),
            "|       |    µs |\n\
             | ----- | ----: |\n\
             | lock  |   1.5 |\n\
             | plain | 12.25 |\n"
        );
    }

    #[test]
    fn numbers() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[1.0, 2.0])), (2.0, 1.5));
        assert!(median(&[]).is_nan());
        assert_eq!(spread(&[0.5, 0.25, 1.0]), "0.50 (0.25–1.00)");
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(
            [0.5, 0.99, 1.0].map(|share| quantile(&sorted, share).as_millis()),
            [100, 198, 200]
        );
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
        assert_eq!(millis(Duration::from_micros(1234)), "1.23");
    }
}
