//! The cost of the programs on a node: bytes, starts, memory, and the CPU time and latency of a
//! request.
//!
//! A scene runs one program and returns its figures. If there is a peer, such as an older build,
//! each run measures both binaries, one after the other. Flags and variables are those that all
//! generations of the programs understand.

mod scenes;
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use testkit::budget;
use testkit::scratch::Scratch;

use crate::Options;
use crate::goal::Goal;
use crate::machine;
use crate::results::Section;
use crate::table::{Table, about, median, spread};
use scenes::{bytes, health_scenes, init_scenes, lock_scenes};

/// Enough for a spread.
const RUNS: usize = 5;

const PEAK: &str = "peak memory, KiB";

/// Binaries to measure beside ours, and the directory of our images.
#[derive(Default)]
pub struct Peers {
    pub lock: Option<PathBuf>,
    pub init: Option<PathBuf>,
    pub health: Option<PathBuf>,
    pub images: Option<PathBuf>,
}

type Figures = Vec<(&'static str, f64)>;
type Measure<'a> = Box<dyn FnMut(&Path) -> Result<Figures, String> + 'a>;

/// The two binaries of one program.
struct Pair {
    ours: PathBuf,
    peer: Option<PathBuf>,
}

struct Scene<'a> {
    name: String,
    pair: &'a Pair,
    measure: Measure<'a>,
}

/// All runs of one figure. `peer` is empty if the peer cannot be measured.
struct Runs {
    scene: String,
    figure: &'static str,
    ours: Vec<f64>,
    peer: Vec<f64>,
}

#[derive(Default)]
struct Measured {
    runs: Vec<Runs>,
    /// Scenes in which our binary failed.
    failures: Vec<String>,
    /// Scenes in which a peer failed.
    notes: Vec<String>,
}

pub fn run(options: &Options) -> Result<Section, String> {
    let (files, peers) = (Scratch::new(), &options.peers);
    let lock = pair(&files, "lock", &options.lock, peers.lock.as_deref())?;
    let init = pair(&files, "init", &options.init, peers.init.as_deref())?;
    let health = pair(&files, "health", &options.health, peers.health.as_deref())?;
    let images = peers.images.as_deref();
    let mut scenes = Vec::new();
    for (name, pair) in [("lock", &lock), ("init", &init), ("health", &health)] {
        let image = images.map(|images| images.join(format!("psl-{name}-amd64.tar")));
        scenes.push(scene(name, pair, move |file| bytes(file, image.as_deref())));
    }
    scenes.extend(lock_scenes(&lock));
    scenes.extend(init_scenes(&init));
    scenes.extend(health_scenes(&health));
    let runs = options.rounds.unwrap_or(RUNS);
    let measured = measure(&mut scenes, runs);
    let goals = measured.goals();
    let mut text = machine::described("cost", &options.lock);
    text += &format!("- {runs} runs of each; medians, with least and most if they differ\n");
    text += "- a start: to the first answer (health also: to the verdict), its CPU time until then; memory of lock and \
             health at rest, of init while it waits; requests: one second each, keep-alive and a new connection each\n\n";
    text += &measured.table();
    text += "\n### Budgets\n\n";
    text.extend(goals.iter().map(Goal::line));
    text.extend(measured.notes.iter().chain(&measured.failures).map(|line| format!("- {line}\n")));
    let failures = measured.failures.iter().map(|failure| format!("cost, {failure}"));
    let broken = goals.iter().filter_map(|goal| goal.broken("cost")).chain(failures).collect();
    Ok(Section { title: "Costs", text, broken })
}

/// Copies both binaries: the resident share of a file depends on how the kernel caches it, and one
/// binary differed by 7 %
/// between a fresh build and a copy.
fn pair(files: &Scratch, name: &str, ours: &Path, peer: Option<&Path>) -> Result<Pair, String> {
    let copied = |owner: &str, file: &Path| {
        let to = files.join(&format!("{name}-{owner}"));
        fs::copy(file, &to).map_err(|e| format!("cannot copy {}: {e}", file.display()))?;
        Ok::<_, String>(to)
    };
    Ok(Pair {
        ours: copied("ours", ours)?,
        peer: peer.map(|file| copied("peer", file)).transpose()?,
    })
}

/// Large figures need no decimals.
fn figures_of(runs: &[f64]) -> String {
    about(runs, if median(runs) >= 100.0 { 0 } else { 2 })
}

fn scene<'a>(
    name: impl Into<String>,
    pair: &'a Pair,
    measure: impl FnMut(&Path) -> Result<Figures, String> + 'a,
) -> Scene<'a> {
    Scene { name: name.into(), pair, measure: Box::new(measure) }
}

/// The first binary changes from run to run, so that neither always has the warmer machine. A peer
/// that fails once is
/// not measured again.
fn measure(scenes: &mut [Scene], runs: usize) -> Measured {
    let mut measured = Measured::default();
    for run in 0..runs {
        for scene in &mut *scenes {
            let peer = scene.pair.peer.as_deref().filter(|_| !measured.has_note(&scene.name));
            let mut from_peer = None;
            if run % 2 == 1 {
                from_peer = peer.map(&mut scene.measure);
            }
            let ours = (scene.measure)(&scene.pair.ours);
            if run % 2 == 0 {
                from_peer = peer.map(&mut scene.measure);
            }
            measured.take(&scene.name, run, ours, from_peer);
        }
    }
    measured
}

impl Measured {
    fn take(
        &mut self,
        scene: &str,
        run: usize,
        ours: Result<Figures, String>,
        peer: Option<Result<Figures, String>>,
    ) {
        let ours = match ours {
            Ok(ours) => ours,
            Err(error) => return self.failures.push(format!("{scene}, run {}: {error}", run + 1)),
        };
        let peer = match peer {
            Some(Err(error)) => {
                self.notes.push(format!("{scene}: the peer cannot be measured: {error}"));
                Figures::new()
            }
            peer => peer.and_then(Result::ok).unwrap_or_default(),
        };
        for (figure, value) in ours {
            let runs = self.runs_of(scene, figure);
            runs.ours.push(value);
            runs.peer.extend(peer.iter().find(|(name, _)| *name == figure).map(|(_, value)| value));
        }
    }

    fn runs_of(&mut self, scene: &str, figure: &'static str) -> &mut Runs {
        let found = self.runs.iter().position(|runs| runs.scene == scene && runs.figure == figure);
        let place = found.unwrap_or(self.runs.len());
        if found.is_none() {
            self.runs.push(Runs { scene: scene.to_owned(), figure, ours: vec![], peer: vec![] });
        }
        &mut self.runs[place]
    }

    fn has_note(&self, scene: &str) -> bool {
        self.notes.iter().any(|note| note.starts_with(&format!("{scene}: ")))
    }

    /// A row for each figure. The ratio is ours by the peer's of the same run.
    fn table(&self) -> String {
        let mut table = Table::new(["", "figure", "ours", "peer", "ratio"]);
        for Runs { scene, figure, ours, peer } in &self.runs {
            let is_paired = !peer.is_empty() && peer.len() == ours.len();
            let ratios: Vec<_> = ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
            let [peer, ratio] = match is_paired {
                true => [figures_of(peer), spread(&ratios)],
                false => [String::new(), String::new()],
            };
            table.row([scene.clone(), (*figure).to_owned(), figures_of(ours), peer, ratio]);
        }
        table.text()
    }

    /// NaN, which no goal accepts, if our binary was not measured.
    fn median(&self, scene: &str, figure: &str) -> f64 {
        let found = self.runs.iter().find(|runs| runs.scene == scene && runs.figure == figure);
        found.map_or(f64::NAN, |runs| median(&runs.ours))
    }

    /// The size of a file is exact. Peak memory misses its budget widely or not at all.
    fn goals(&self) -> Vec<Goal> {
        let bytes = budget::BYTES.iter().map(|(name, budget)| {
            let (measured, goal) = (self.median(name, "binary, bytes"), *budget as f64);
            Goal { what: name, unit: " bytes", measured, goal, broken: goal + 1.0 }
        });
        let peaks = [
            ("peak memory of lock, idle", "lock, idle", 2048.0),
            ("peak memory of lock, 1000 waiters", "lock, waiters: 1000", 4096.0),
            ("peak memory of init", "init, waiting", 1536.0),
            ("peak memory of health, 1000 DaemonSets, TLS", "health, 1000 DaemonSets, TLS", 4096.0),
        ];
        let peaks = peaks.map(|(what, scene, goal)| {
            let measured = self.median(scene, PEAK);
            Goal { what, unit: " KiB", measured, goal, broken: goal * 1.5 }
        });
        bytes.chain(peaks).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair_of(peer: bool) -> Pair {
        Pair { ours: "ours".into(), peer: peer.then(|| "peer".into()) }
    }

    #[test]
    fn runs_are_paired_in_turn() {
        let pair = pair_of(true);
        let mut order = Vec::new();
        let both = |file: &Path| {
            order.push(file.to_owned());
            Ok(vec![("ms", order.len() as f64)])
        };
        let measured = measure(&mut [scene("a", &pair, both)], 2);
        assert_eq!(measured.runs[0].ours, [1.0, 4.0]);
        assert_eq!(measured.runs[0].peer, [2.0, 3.0]);
        let table = measured.table();
        assert!(table.contains("2.50 (1.00–4.00) |"), "{table}");
        assert!(table.contains("0.92 (0.50–1.33) |"), "{table}");
    }

    #[test]
    fn a_peer_that_fails_is_noted_once_and_ours_is_a_failure() {
        let pair = pair_of(true);
        let fails = |name: &'static str| {
            move |file: &Path| match file == Path::new(name) {
                true => Err("status 404".to_owned()),
                false => Ok(vec![("ms", 1.0)]),
            }
        };
        let measured = measure(&mut [scene("a", &pair, fails("peer"))], 3);
        assert_eq!(measured.notes, ["a: the peer cannot be measured: status 404"]);
        assert_eq!((measured.runs[0].ours.len(), measured.runs[0].peer.len()), (3, 0));
        let measured = measure(&mut [scene("a", &pair, fails("ours"))], 2);
        assert_eq!(measured.failures, ["a, run 1: status 404", "a, run 2: status 404"]);
    }

    #[test]
    fn a_figure_without_a_measurement_breaks_its_goal() {
        let broken = |measured: &Measured| {
            measured.goals().iter().filter_map(|goal| goal.broken("cost")).count()
        };
        let mut measured = Measured::default();
        assert_eq!(broken(&measured), 7);
        measured.take("lock, idle", 0, Ok(vec![(PEAK, 2048.0)]), None);
        assert_eq!(broken(&measured), 6);
    }

    #[test]
    fn scenes_of_lock_and_health_have_different_names() {
        let pair = pair_of(false);
        let scenes = lock_scenes(&pair).into_iter().chain(health_scenes(&pair));
        let mut names: Vec<_> = scenes.map(|scene| scene.name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
