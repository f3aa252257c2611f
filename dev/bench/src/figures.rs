//! Figures as JSON: what `compare` reads, in `bench/RESULTS.json` beside the tables. Does not know what was measured.
//!
//! # The file
//!
//! ```json
//! {
//!   "version": 1,
//!   "parts": {
//!     "Costs": {
//!       "date": "2026-11-23 07:30 UTC",
//!       "command": "scripts/bench.sh cost",
//!       "machine": "2 cores of …, Linux …",
//!       "figures": [
//!         {
//!           "name": "lock, idle: resident",
//!           "unit": "KiB",
//!           "better": "less",
//!           "runs": [1412.0, 1416.0, 1412.0],
//!           "peer": [1408.0, 1412.0, 1416.0]
//!         }
//!       ]
//!     }
//!   }
//! }
//! ```
//!
//! - `version` is 1. It changes when a reader of the old form would misread the new one; a file of another version, or
//!   with a name in it that is not here, is refused.
//! - `parts`: by the title that the part's section has in `bench/RESULTS.md`. A part that is measured anew replaces its own
//!   alone.
//! - `name` is the figure's own within its part, and stays the same from one version of this program to the next: a figure
//!   that is measured in another way gets another name.
//! - `unit`: bytes, KiB, ms, µs, % of a core, requests/s.
//! - `better`: `less` or `more`.
//! - `runs`: one value for each run, in their order; empty where it could not be measured.
//! - `peer`: the same of a peer, each value measured next to the one in its place in `runs`; empty where the peer lacks
//!   what it takes, absent where there was no peer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

const VERSION: u32 = 1;

/// What is kept of several parts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    version: u32,
    pub parts: BTreeMap<String, Measured>,
}

/// One part, as it was measured last.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub date: String,
    pub command: String,
    pub machine: String,
    pub figures: Vec<Figure>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub better: Better,
    pub runs: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Vec<f64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Less,
    More,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { version: VERSION, parts: BTreeMap::new() }
    }
}

impl Kept {
    pub fn read(file: &Path) -> Result<Kept, String> {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Kept::of(&text).map_err(|e| format!("{}: {e}", file.display()))
    }

    fn of(text: &str) -> Result<Kept, String> {
        let kept: Kept = serde_json::from_str(text).map_err(|e| e.to_string())?;
        match kept.version {
            VERSION => Ok(kept),
            other => Err(format!("its version is {other}, accepted is {VERSION}")),
        }
    }

    /// These parts take the place of their own in the file, if there is one.
    pub fn write(
        file: &Path,
        parts: impl IntoIterator<Item = (String, Measured)>,
    ) -> Result<(), String> {
        let mut kept = if file.exists() { Kept::read(file)? } else { Kept::default() };
        kept.parts.extend(parts);
        let text = kept.text().map_err(|e| format!("{}: {e}", file.display()))?;
        fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// A line for each figure, so that what has changed can be seen in a diff.
    fn text(&self) -> serde_json::Result<String> {
        let mut parts = Vec::new();
        for (title, part) in &self.parts {
            let figures =
                part.figures.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
            let [title, date, command, machine] = [title, &part.date, &part.command, &part.machine]
                .map(|text| Value::from(text.as_str()));
            parts.push(format!(
                "    {title}: {{\n      \"date\": {date},\n      \"command\": {command},\n      \"machine\": {machine},\n      \
                 \"figures\": [\n        {}\n      ]\n    }}",
                figures.join(",\n        "),
            ));
        }
        Ok(format!(
            "{{\n  \"version\": {},\n  \"parts\": {{\n{}\n  }}\n}}\n",
            self.version,
            parts.join(",\n")
        ))
    }
}

/// To the thousandth: what is beyond is chance, and unreadable.
pub fn rounded(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| (value * 1000.0).round() / 1000.0).collect()
}

#[cfg(test)]
pub mod tests {
    use testkit::scratch::Scratch;

    use super::*;

    pub fn figure(name: &str, better: Better, runs: &[f64]) -> Figure {
        Figure {
            name: name.to_owned(),
            unit: "ms".to_owned(),
            better,
            runs: runs.to_vec(),
            peer: None,
        }
    }

    pub fn part(figures: Vec<Figure>) -> Measured {
        Measured {
            date: "today".to_owned(),
            command: "this".to_owned(),
            machine: "here".to_owned(),
            figures,
        }
    }

    #[test]
    fn a_part_replaces_its_own_and_no_other() {
        let scratch = Scratch::new();
        let file = scratch.join("kept.json");
        let one = part(vec![figure("x", Better::Less, &[1.0, 2.5])]);
        let other = part(vec![Figure { peer: Some(vec![]), ..figure("y", Better::More, &[]) }]);
        Kept::write(&file, [("A".to_owned(), one.clone()), ("B".to_owned(), one.clone())]).unwrap();
        Kept::write(&file, [("B".to_owned(), other.clone())]).unwrap();
        let lines = fs::read_to_string(&file).unwrap();
        assert_eq!(
            lines.lines().filter(|line| line.trim().starts_with("{\"name\"")).count(),
            2,
            "{lines}"
        );
        assert_eq!(
            Kept::read(&file).unwrap().parts,
            BTreeMap::from([("A".to_owned(), one), ("B".to_owned(), other)])
        );
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let example: String = include_str!("figures.rs")
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .skip_while(|line| *line != " ```json")
            .skip(1)
            .take_while(|line| *line != " ```")
            .collect();
        let kept = Kept::of(&example).unwrap();
        let figure = &kept.parts["Costs"].figures[0];
        assert_eq!(
            (figure.better, figure.runs.len(), figure.peer.as_ref().unwrap().len()),
            (Better::Less, 3, 3)
        );
        for broken in [
            example.replace("\"version\": 1", "\"version\": 2"),
            example.replace("\"unit\"", "\"units\""),
            example.replace("\"less\"", "\"fewer\""),
            String::new(),
        ] {
            assert!(Kept::of(&broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn text_is_quoted() {
        let mut kept = Kept::default();
        kept.parts.insert(
            "a \"part\"".to_owned(),
            Measured { machine: "\\ \n".to_owned(), ..part(vec![]) },
        );
        assert_eq!(Kept::of(&kept.text().unwrap()).unwrap().parts, kept.parts);
        assert!(Kept::of(&Kept::default().text().unwrap()).unwrap().parts.is_empty());
    }

    #[test]
    fn values_are_rounded() {
        assert_eq!(rounded(&[1.23456, 1_635_064.0]), [1.235, 1_635_064.0]);
    }
}
