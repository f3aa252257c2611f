//! Scenes, run by run, ours and a peer in turn, and what was found in them. Does not know what a scene measures.

use std::path::{Path, PathBuf};

use crate::figures::{Better, Figure, rounded};

/// A kind of figure: what a column of a table holds. All of them are costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub unit: &'static str,
}

/// Whose binary it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Ours,
    Peers,
}

/// A program, and who stands beside it.
pub struct Pair {
    pub ours: PathBuf,
    pub peer: Option<PathBuf>,
}

/// What one run of a scene found. What is wrong with a binary is an error of the whole scene.
type Measure<'a> = Box<dyn FnMut(&Path, Whose, &mut Found) -> Result<(), String> + 'a>;

/// Something that is done with a program and measured, once a run.
pub struct Scene<'a> {
    /// A row of the tables.
    pub row: String,
    pub pair: &'a Pair,
    pub measure: Measure<'a>,
}

/// In the order in which it was found.
#[derive(Default)]
pub struct Found {
    values: Vec<(Column, f64)>,
    /// What the binary cannot do, and why.
    lacks: Vec<(Column, String)>,
}

/// All runs of a scene's column.
#[derive(Clone, Debug)]
pub struct Measured {
    pub row: String,
    pub column: Column,
    pub ours: Vec<f64>,
    /// Empty where it lacks something, nothing where there is no peer.
    pub peer: Option<Vec<f64>>,
}

/// What came of all scenes.
#[derive(Default)]
pub struct Outcome {
    pub measured: Vec<Measured>,
    /// What ours could not do.
    pub failures: Vec<String>,
    /// What a peer lacks, once each.
    pub notes: Vec<String>,
}

impl Found {
    pub fn add(&mut self, column: Column, value: f64) {
        self.values.push((column, value));
    }

    /// What is nothing was not measured, and why.
    pub fn add_seen(&mut self, column: Column, value: f64, else_why: &str) {
        match value > 0.0 {
            true => self.add(column, value),
            false => self.lacks(column, else_why),
        }
    }

    pub fn lacks(&mut self, column: Column, why: impl Into<String>) {
        self.lacks.push((column, why.into()));
    }
}

/// What ours cannot do is a failure, and leaves out that run of both; what a peer cannot is noted, and not tried again.
/// Who comes first changes from run to run, so that neither always has the warmer machine.
pub fn run(scenes: &mut [Scene], runs: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut given_up = vec![false; scenes.len()];
    for run in 0..runs {
        for (scene, given_up) in scenes.iter_mut().zip(&mut given_up) {
            let turns = if run % 2 == 0 {
                [Whose::Ours, Whose::Peers]
            } else {
                [Whose::Peers, Whose::Ours]
            };
            let (mut ours, mut peers) = (Err(String::new()), None);
            for whose in turns {
                match (whose, &scene.pair.peer) {
                    (Whose::Ours, _) => ours = found(&mut scene.measure, &scene.pair.ours, whose),
                    (Whose::Peers, Some(peer)) if !*given_up => {
                        peers = Some(found(&mut scene.measure, peer, whose))
                    }
                    (Whose::Peers, _) => {}
                }
            }
            *given_up |= matches!(peers, Some(Err(_)));
            outcome.take(&scene.row, run, ours, peers);
        }
    }
    outcome.align(scenes);
    outcome
}

fn found(measure: &mut Measure, file: &Path, whose: Whose) -> Result<Found, String> {
    let mut found = Found::default();
    measure(file, whose, &mut found).map(|()| found)
}

impl Outcome {
    /// One run of a scene.
    fn take(
        &mut self,
        row: &str,
        run: usize,
        ours: Result<Found, String>,
        peers: Option<Result<Found, String>>,
    ) {
        let failed = |why: String| format!("{row}, run {}: {why}", run + 1);
        let ours = match ours {
            Ok(ours) if ours.lacks.is_empty() => ours,
            Ok(ours) => {
                let whys = ours
                    .lacks
                    .into_iter()
                    .map(|(column, why)| failed(format!("{}: {why}", column.name)));
                return self.failures.extend(whys);
            }
            Err(why) => return self.failures.push(failed(why)),
        };
        for (column, value) in ours.values {
            self.place(row, column).ours.push(value);
        }
        match peers {
            None => {}
            Some(Err(why)) => self.note(row, &why),
            Some(Ok(peers)) => {
                for (column, value) in peers.values {
                    self.place(row, column).peer.get_or_insert_default().push(value);
                }
                for (column, why) in peers.lacks {
                    self.note(&format!("{row}: {}", column.name), &why);
                }
            }
        }
    }

    fn place(&mut self, row: &str, column: Column) -> &mut Measured {
        let is_it = |measured: &Measured| measured.row == row && measured.column == column;
        let place = self.measured.iter().position(is_it).unwrap_or_else(|| {
            self.measured.push(Measured {
                row: row.to_owned(),
                column,
                ours: Vec::new(),
                peer: None,
            });
            self.measured.len() - 1
        });
        &mut self.measured[place]
    }

    fn note(&mut self, what: &str, why: &str) {
        let note = format!("{what}: the peer could not be measured: {why}");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Where the peer has not a value for each of ours there are no pairs.
    fn align(&mut self, scenes: &[Scene]) {
        for measured in &mut self.measured {
            let has_peer =
                scenes.iter().any(|scene| scene.row == measured.row && scene.pair.peer.is_some());
            let peer = has_peer.then(|| measured.peer.take().unwrap_or_default());
            measured.peer =
                peer.map(
                    |values| if values.len() == measured.ours.len() { values } else { Vec::new() },
                );
        }
    }
}

impl Measured {
    pub fn figure(&self) -> Figure {
        Figure {
            name: format!("{}: {}", self.row, self.column.name),
            unit: self.column.unit.to_owned(),
            better: Better::Less,
            runs: rounded(&self.ours),
            peer: self.peer.as_deref().map(rounded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Column = Column { name: "time", unit: "ms" };
    const STATE: Column = Column { name: "state", unit: "ms" };

    fn pair(peer: Option<&str>) -> Pair {
        Pair { ours: "ours".into(), peer: peer.map(PathBuf::from) }
    }

    fn scene<'a>(
        pair: &'a Pair,
        measure: impl FnMut(&Path, Whose, &mut Found) -> Result<(), String> + 'a,
    ) -> Scene<'a> {
        Scene { row: "row".to_owned(), pair, measure: Box::new(measure) }
    }

    #[test]
    fn run_by_run_in_turn() {
        let (pair, mut order) = (pair(Some("peer")), Vec::new());
        let measure = |file: &Path, whose, found: &mut Found| {
            order.push((file.display().to_string(), whose));
            found.add(TIME, order.len() as f64);
            Ok(())
        };
        let outcome = run(&mut [scene(&pair, measure)], 2);
        let expected = [
            ("ours", Whose::Ours),
            ("peer", Whose::Peers),
            ("peer", Whose::Peers),
            ("ours", Whose::Ours),
        ];
        assert_eq!(order, expected.map(|(file, whose)| (file.to_owned(), whose)));
        let [measured] = &outcome.measured[..] else {
            panic!("one figure: {:?}", outcome.measured)
        };
        assert_eq!(
            (&measured.ours[..], measured.peer.as_deref()),
            (&[1.0, 4.0][..], Some(&[2.0, 3.0][..]))
        );
        assert_eq!(measured.figure().name, "row: time");
    }

    #[test]
    fn without_a_peer_none_is_measured() {
        let pair = pair(None);
        let measure = |_: &Path, whose, found: &mut Found| {
            assert_eq!(whose, Whose::Ours);
            found.add(TIME, 1.0);
            Ok(())
        };
        let outcome = run(&mut [scene(&pair, measure)], 3);
        assert_eq!((outcome.measured[0].ours.len(), &outcome.measured[0].peer), (3, &None));
    }

    #[test]
    fn what_a_peer_lacks_is_not_measured_and_no_error() {
        let pair = pair(Some("peer"));
        let mut asked = 0;
        let measure = |_: &Path, whose, found: &mut Found| {
            found.add(TIME, 1.0);
            match whose {
                Whose::Ours => found.add(STATE, 2.0),
                Whose::Peers => found.lacks(STATE, "status 404"),
            }
            Ok(())
        };
        let fails = |_: &Path, whose, found: &mut Found| {
            asked += usize::from(whose == Whose::Peers);
            found.add(TIME, 1.0);
            // Only the first time is it well, so that there is half of a series.
            if whose == Whose::Peers && asked > 1 { Err("it ended".to_owned()) } else { Ok(()) }
        };
        let mut scenes =
            [scene(&pair, measure), Scene { row: "fails".to_owned(), ..scene(&pair, fails) }];
        let outcome = run(&mut scenes, 4);
        drop(scenes);
        let peers: Vec<_> =
            outcome.measured.iter().map(|one| one.peer.as_ref().unwrap().len()).collect();
        assert_eq!((peers, asked), (vec![4, 0, 0], 2), "time, state, and time where it fails");
        assert_eq!(
            outcome.notes,
            [
                "row: state: the peer could not be measured: status 404",
                "fails: the peer could not be measured: it ended"
            ]
        );
    }

    #[test]
    fn what_ours_lacks_is_a_failure_and_leaves_out_the_pair() {
        let pair = pair(Some("peer"));
        let mut asked = 0;
        let lacks_once = |_: &Path, whose, found: &mut Found| {
            asked += usize::from(whose == Whose::Ours);
            found.add(TIME, asked as f64);
            match (whose, asked) {
                (Whose::Ours, 2) => found.lacks(STATE, "no answer"),
                (Whose::Ours, 3) => return Err("it ended".to_owned()),
                _ => {}
            }
            Ok(())
        };
        let outcome = run(&mut [scene(&pair, lacks_once)], 5);
        assert_eq!(outcome.failures, ["row, run 2: state: no answer", "row, run 3: it ended"]);
        assert_eq!(outcome.measured[0].ours, [1.0, 4.0, 5.0]);
        assert_eq!(outcome.measured[0].peer.as_ref().unwrap().len(), 3);
        assert!(outcome.notes.is_empty());
    }
}
