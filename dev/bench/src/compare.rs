//! Which figures of two files have moved by more than the spread of their runs. Does not know what they are of.

use std::fmt::Write as _;
use std::path::Path;

use crate::figures::{Better, Figure, Kept, Measured};
use crate::table::{Table, median};

/// Fewer runs have no spread to speak of.
const RUNS: usize = 3;

/// As a share of the old median; less is of no interest, however steady it is.
const LEAST: f64 = 0.01;

/// Who has more of them knows why.
const NAMES: usize = 10;

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Within,
    Better,
    Worse,
    /// One of the two has too few runs, or none.
    Unknown,
}

/// All that is said of two files.
#[derive(Debug)]
struct Comparison {
    text: String,
    worse: usize,
}

/// The two files' names; prints what has moved. Whether something has become worse; an error is about the files.
pub fn run(old: &Path, new: &Path) -> Result<bool, String> {
    let comparison = compared(&Kept::read(old)?, &Kept::read(new)?);
    print!("{}", comparison.text);
    Ok(comparison.worse > 0)
}

fn compared(old: &Kept, new: &Kept) -> Comparison {
    let mut comparison = Comparison { text: String::new(), worse: 0 };
    for (title, old) in &old.parts {
        match new.parts.get(title) {
            Some(new) => comparison.part(title, old, new),
            None => comparison.text += &format!("## {title}\n\nonly in the old file\n\n"),
        }
    }
    for title in new.parts.keys().filter(|title| !old.parts.contains_key(*title)) {
        comparison.text += &format!("## {title}\n\nonly in the new file\n\n");
    }
    comparison
}

impl Comparison {
    fn part(&mut self, title: &str, old: &Measured, new: &Measured) {
        let text = &mut self.text;
        *text += &format!("## {title}\n\n");
        for (which, measured) in [("old", old), ("new", new)] {
            *text += &format!(
                "- {which}: {}, `{}`, {}\n",
                measured.date, measured.command, measured.machine
            );
        }
        if old.machine != new.machine {
            *text += "- not the same machine: times differ for that alone\n";
        }
        let mut table = Table::new(["", "unit", "old", "new", "change", ""]);
        let (mut within, mut moved, mut unknown, mut gone) = (0, 0, Vec::new(), Vec::new());
        for figure in &old.figures {
            let Some(now) =
                new.figures.iter().find(|now| now.name == figure.name && now.unit == figure.unit)
            else {
                gone.push(figure.name.as_str());
                continue;
            };
            let verdict = verdict(&figure.runs, &now.runs, now.better);
            match verdict {
                Verdict::Within => within += 1,
                Verdict::Unknown => unknown.push(figure.name.as_str()),
                Verdict::Better | Verdict::Worse => {
                    moved += 1;
                    self.worse += usize::from(verdict == Verdict::Worse);
                    table.row(row(figure, now, verdict));
                }
            }
        }
        let come = new.figures.iter().filter(|now| {
            !old.figures.iter().any(|old| old.name == now.name && old.unit == now.unit)
        });
        let come: Vec<_> = come.map(|figure| figure.name.as_str()).collect();
        *text += &format!(
            "- {moved} figures have moved, {within} are within the spread of their runs\n"
        );
        for (what, names) in [
            ("too few runs to say", unknown),
            ("only in the old file", gone),
            ("only in the new file", come),
        ] {
            if !names.is_empty() {
                *text += &format!("- {what}: {}\n", listed(&names));
            }
        }
        *text += "\n";
        if moved > 0 {
            *text += &(table.text() + "\n");
        }
    }
}

/// The first names, and how many more there are.
fn listed(names: &[&str]) -> String {
    let (first, more) = names.split_at(names.len().min(NAMES));
    let more = if more.is_empty() { String::new() } else { format!("; and {} more", more.len()) };
    first.join("; ") + &more
}

fn row(old: &Figure, new: &Figure, verdict: Verdict) -> [String; 6] {
    let (was, is) = (median(&old.runs), median(&new.runs));
    let change =
        if was == 0.0 { String::new() } else { format!("{:+.1} %", (is / was - 1.0) * 100.0) };
    let word = if verdict == Verdict::Worse { "worse" } else { "better" };
    [
        old.name.clone(),
        old.unit.clone(),
        shown(&old.runs),
        shown(&new.runs),
        change,
        word.to_owned(),
    ]
}

/// Median, least and most, without digits that say nothing.
pub fn shown(runs: &[f64]) -> String {
    let (least, most) = ends(runs);
    let digits = match median(runs).abs() {
        large if large >= 1000.0 => 0,
        large if large >= 100.0 => 1,
        _ => 2,
    };
    // What is whole in all runs is counted, not timed.
    let digits = if runs.iter().all(|value| value.fract() == 0.0) { 0 } else { digits };
    let mut text = format!("{:.digits$}", median(runs));
    if least < most {
        // Writing to a string does not fail.
        let _ = write!(text, " ({least:.digits$}–{most:.digits$})");
    }
    text
}

/// Chance moves medians too. So no run of one side may reach into the runs of the other, and the medians
/// must lie further apart than the runs of either side do, and by a hundredth of the old one.
fn verdict(old: &[f64], new: &[f64], better: Better) -> Verdict {
    if old.len() < RUNS || new.len() < RUNS {
        return Verdict::Unknown;
    }
    let ((old_least, old_most), (new_least, new_most)) = (ends(old), ends(new));
    let (was, is) = (median(old), median(new));
    let is_apart = new_least > old_most || new_most < old_least;
    let distance = (is - was).abs();
    let spread = (old_most - old_least).max(new_most - new_least);
    if !is_apart || distance <= spread || distance < LEAST * was.abs() {
        return Verdict::Within;
    }
    match (is < was) == (better == Better::Less) {
        true => Verdict::Better,
        false => Verdict::Worse,
    }
}

fn ends(runs: &[f64]) -> (f64, f64) {
    runs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
        (least.min(*value), most.max(*value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::{figure, part};

    #[test]
    fn verdicts() {
        let old = &[10.0, 10.5, 11.0][..];
        for (name, new, expected) in [
            ("the same", &[10.0, 10.5, 11.0][..], Verdict::Within),
            ("the ranges touch", &[11.0, 13.0, 13.5], Verdict::Within),
            ("apart, but its own runs lie further apart", &[11.1, 11.5, 14.0], Verdict::Within),
            ("apart, but no further than the old runs", &[11.1, 11.5, 11.6], Verdict::Within),
            ("apart", &[11.6, 11.7, 11.8], Verdict::Worse),
            ("apart below", &[9.0, 9.1, 9.2], Verdict::Better),
            ("two runs", &[90.0, 91.0], Verdict::Unknown),
            ("none", &[], Verdict::Unknown),
        ] {
            assert_eq!(verdict(old, new, Better::Less), expected, "{name}");
            let turned = match expected {
                Verdict::Better => Verdict::Worse,
                Verdict::Worse => Verdict::Better,
                same => same,
            };
            assert_eq!(verdict(old, new, Better::More), turned, "{name}, more is better");
        }
    }

    #[test]
    fn what_does_not_vary_moves_by_a_hundredth() {
        let is = |new: f64| verdict(&[1000.0; 3], &[new; 3], Better::Less);
        assert_eq!(
            [is(1000.0), is(1009.0), is(1010.0), is(990.0)],
            [Verdict::Within, Verdict::Within, Verdict::Worse, Verdict::Better]
        );
        assert_eq!(
            verdict(&[0.0; 3], &[0.1; 3], Better::Less),
            Verdict::Worse,
            "there is no hundredth of nothing"
        );
    }

    #[test]
    fn what_is_said() {
        let kept = |parts: Vec<(&str, Measured)>| {
            let mut kept = Kept::default();
            kept.parts.extend(parts.into_iter().map(|(title, part)| (title.to_owned(), part)));
            kept
        };
        let one = |runs: &[f64]| figure("one", Better::Less, runs);
        let two = figure("two", Better::More, &[5.0; 3]);
        let old = kept(vec![
            (
                "A",
                part(vec![
                    one(&[1.0, 1.5, 1.25]),
                    two.clone(),
                    figure("gone", Better::Less, &[1.0; 3]),
                ]),
            ),
            ("B", part(vec![])),
        ]);
        let mut there =
            part(vec![one(&[3.0; 3]), two.clone(), figure("few", Better::Less, &[1.0])]);
        there.machine = "there".to_owned();
        let comparison = compared(&old, &kept(vec![("A", there)]));
        assert_eq!(comparison.worse, 1);
        for line in [
            "- old: today, `this`, here",
            "- not the same machine",
            "- 1 figures have moved, 1 are within",
            "- only in the old file: gone",
            "- only in the new file: few",
            "| one | ",
            "| 1.25 (1.00–1.50) |",
            "| +140.0 % | worse |",
            "## B\n\nonly in the old file",
        ] {
            assert!(comparison.text.contains(line), "{line}\n{}", comparison.text);
        }
        assert!(!comparison.text.contains("two"), "{}", comparison.text);
        let same = compared(&old, &old);
        assert_eq!(same.worse, 0);
        assert!(
            same.text.contains("0 figures have moved, 3 are within") && !same.text.contains('|'),
            "{}",
            same.text
        );
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(&["a", "b"]), "a; b");
        assert_eq!(listed(&["a"; 12]), "a; a; a; a; a; a; a; a; a; a; and 2 more");
    }

    #[test]
    fn digits_that_say_something() {
        for (runs, expected) in [
            (&[1.0, 2.5, 3.25][..], "2.50 (1.00–3.25)"),
            (&[7.0, 7.0], "7"),
            (&[1412.0, 1416.0, 1420.0], "1416 (1412–1420)"),
            (&[123.45, 123.55, 123.46], "123.5 (123.5–123.5)"),
        ] {
            assert_eq!(shown(runs), expected);
        }
    }
}
