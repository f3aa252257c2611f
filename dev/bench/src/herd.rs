//! A herd of applications with real processes on one node, with and without a lock.
//!
//! `node` plays the kubelet and starts the processes, `remedy` lists the locks that are tried,
//! `timeline` records a run,
//! `picture` draws it. This file runs the remedies in turn and makes the tables.

mod node;
mod picture;
mod remedy;
mod settings;
mod timeline;

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Options;
use crate::goal::Goal;
use crate::machine;
use crate::results::Section;
use crate::table::{Table, about, median};

use node::{LOCK_AWAY, Node, Start};
use picture::Chart;
use remedy::{
    ALL, AUTO, FEW, LONG, LOST, MOST, NONE, READY, READY_ONE, READY_TWO, RESTARTED, Remedy, SHORT,
    SOME,
};
use settings::Scale;
pub use settings::Settings;
use timeline::RunResult;

/// The herds with the kubelet's latency.
const SOME_SLUGS: [&str; 3] = ["alike", "disk", "threads"];

/// Applications for each core: without a lock each start takes ten times as long as alone.
const A_CORE: usize = 10;

/// The start-up probe kills a start after this many times its length alone.
const DEADLINE: u32 = 4;

/// A run is cut off after this many times the CPU time of all starts by cores.
const CUT_OFF: f64 = 4.5;

/// The highest factor of a herd without the kubelet's latency: lock probes a port at most each 20
/// ms, so leases of less
/// than 200 ms would end later than on a node.
const CLOSE: u32 = 4;

/// The factor of `--locks auto`, which reads the node ten times a real second.
const FOLLOWED: u32 = 1;

/// One herd, and the remedies for it.
struct Scene {
    title: &'static str,
    /// The prefix of the names of its pictures.
    slug: &'static str,
    /// Changes the start of every second application.
    second: fn(Start, usize) -> Start,
    latency: Duration,
    scale: Scale,
    remedies: &'static [Remedy],
}

/// All runs of one remedy on one herd.
struct Trial<'a> {
    scene: &'a Scene,
    remedy: Remedy,
    /// The CPU time of all starts by cores: no order of the starts is quicker.
    limit: Duration,
    node: Node,
    runs: Vec<RunResult>,
}

pub fn run(options: &Options) -> Result<Section, String> {
    let settings = &options.herd;
    // First, so that it shows the machine's load without the benchmark.
    let mut text = machine::described("herd", &options.lock);
    let cores = std::thread::available_parallelism()
        .map_err(|e| format!("the number of cores: {e}"))?
        .get();
    let scenes = scenes(settings.latency, settings.scale);
    check(settings, &scenes)?;
    let mut all = trials(&scenes, options, cores);
    // In turn, so that other load on the machine affects all remedies.
    for run in 1..=settings.runs {
        eprintln!("bench: herd, run {run} of {} …", settings.runs);
        for trial in &mut all {
            let result = trial.node.run();
            trial.runs.push(
                result.map_err(|e| {
                    format!("herd, {}, {}: {e}", trial.scene.title, trial.remedy.name)
                })?,
            );
        }
    }
    if let Some(directory) = &settings.pictures {
        draw(&all, directory)
            .map_err(|e| format!("the pictures in {}: {e}", directory.display()))?;
    }
    let goals = goals(&all);
    text += &model(settings, &all);
    for scene in &scenes {
        let of_scene: Vec<_> =
            all.iter().filter(|trial| std::ptr::eq(trial.scene, scene)).collect();
        if of_scene.is_empty() {
            continue;
        }
        text += &format!("\n### {}\n\n", scene.title);
        text += &table(&of_scene);
    }
    if !goals.is_empty() {
        text += "\n### Goals\n\n";
    }
    text.extend(goals.iter().map(Goal::line));
    let broken = goals.iter().filter_map(|goal| goal.broken("herd")).collect();
    Ok(Section { title: "Herd", text, broken })
}

/// The first herd has all remedies. All remedies for all herds would take half an hour.
fn scenes(latency: Duration, scale: Scale) -> Vec<Scene> {
    let alike = |start: Start, _| start;
    let scale_of = |latency: Duration| if latency.is_zero() { scale.at_most(CLOSE) } else { scale };
    let scene = |title, slug, second, latency, remedies| Scene {
        title,
        slug,
        second,
        latency,
        scale: scale_of(latency),
        remedies,
    };
    let mut scenes = vec![
        scene("All alike", "alike", alike, latency, ALL),
        scene("All alike, without the kubelet's latency", "no-latency", alike, Duration::ZERO, FEW),
        scene("Half of them wait for a disk for half of their start", "disk", disk, latency, SOME),
        scene(
            "Half of them have as many threads as there are cores",
            "threads",
            threads,
            latency,
            SOME,
        ),
    ];
    if latency.is_zero() {
        // The first herd is the same, with more remedies.
        scenes.remove(1);
    }
    scenes
}

impl Scene {
    fn picture(&self, remedy: &Remedy) -> String {
        format!("{}-{}", self.slug, remedy.slug())
    }
}

fn check(settings: &Settings, scenes: &[Scene]) -> Result<(), String> {
    let of_scene = |scene: &Scene| {
        scene.remedies.iter().map(|remedy| scene.picture(remedy)).collect::<Vec<_>>()
    };
    let known: Vec<String> = scenes.iter().flat_map(of_scene).collect();
    match settings.only.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("--only: no picture {name:?}; there are {}", known.join(", "))),
        None => Ok(()),
    }
}

fn disk(start: Start, _: usize) -> Start {
    Start { cpu: start.cpu / 2, waiting: start.cpu / 2, ..start }
}

fn threads(start: Start, cores: usize) -> Start {
    Start { threads: cores, ..start }
}

fn trials<'a>(scenes: &'a [Scene], options: &Options, cores: usize) -> Vec<Trial<'a>> {
    let settings = &options.herd;
    let count = settings.applications.unwrap_or(A_CORE * cores);
    let plain = Start { cpu: settings.start, waiting: Duration::ZERO, threads: 1 };
    let shared =
        |starts: &[Start]| starts.iter().map(|start| start.cpu).sum::<Duration>() / cores as u32;
    let on_scene = |scene: &'a Scene| {
        let starts = (0..count)
            .map(|number| if number % 2 == 0 { plain } else { (scene.second)(plain, cores) });
        let starts: Vec<_> = starts.collect();
        let node = Node {
            cores,
            gate: None,
            start: settings.start,
            latency: scene.latency,
            deadline: settings.start * DEADLINE,
            cut_off: shared(&vec![plain; count]).mul_f64(CUT_OFF),
            scale: scene.scale,
            lock: options.lock.clone(),
            init: options.init.clone(),
            starts,
        };
        let with = move |remedy: &Remedy| Trial {
            scene,
            remedy: *remedy,
            limit: shared(&node.starts),
            node: Node {
                gate: remedy.gate,
                scale: if *remedy == AUTO { node.scale.at_most(FOLLOWED) } else { node.scale },
                ..node.clone()
            },
            runs: Vec::new(),
        };
        let is_tried = |remedy: &&Remedy| settings.takes(&scene.picture(remedy));
        scene.remedies.iter().filter(is_tried).map(with).collect::<Vec<_>>()
    };
    scenes.iter().flat_map(on_scene).collect()
}

fn model(settings: &Settings, all: &[Trial]) -> String {
    let Some(Trial { node, .. }) = all.first() else { return String::new() };
    let (s, factor) = (seconds, settings.scale.factor());
    let turn = settings.latency + settings.start;
    let [short, long] = [SHORT, LONG].map(|times| turn.mul_f64(times));
    format!(
        "- {count} applications at once, real processes; a start uses {start} s of CPU. A second of \
         the node takes 1/{factor} s here, 1/{close} s without the kubelet's latency, and one second \
         with `auto`, which reads the node in real time. All times below are the node's\n\
         - the kubelet takes {latency} s from the end of init to the start (up to an eighth more or \
         less), and before each restart. It kills a start that is not ready after {deadline} s and \
         restarts it: at once, then after 10 s, 20 s and so on, 300 s at most; a restart does not \
         run init again. Cut-off at {cut_off} s\n\
         - leases of {short} s (too short), {turn} s (guessed well: the latency and a start alone) \
         and {long} s (too long), or until ready, {most} s at most. Lost answers: one in twenty, cut \
         in its middle. Lock restarted: killed when half of the applications are ready, back \
         {away} s later with its state file\n\
         - runs of each remedy, in turn: {runs}; medians, with least and most if they differ. *Wait*: \
         from the pod's arrival to ready, or to the cut-off. *Wasted*: CPU time of killed starts. \
         *Over the limit*: the whole time over the CPU time of all starts by cores, {limit} s if all \
         are alike. `Retry-After` is in whole seconds and not scaled\n",
        count = node.starts.len(),
        start = s(settings.start),
        latency = s(settings.latency),
        deadline = s(node.deadline),
        cut_off = s(node.cut_off),
        turn = s(turn),
        short = s(short),
        long = s(long),
        most = s(turn * MOST),
        away = s(LOCK_AWAY),
        runs = settings.runs,
        limit = s(node.cut_off.div_f64(CUT_OFF)),
        close = settings.scale.at_most(CLOSE).factor(),
    )
}

fn table(all: &[&Trial]) -> String {
    let mut table = Table::new([
        "remedy",
        "all ready s",
        "over the limit",
        "median wait s",
        "p95 s",
        "killed",
        "wasted s",
    ]);
    for Trial { remedy, limit, runs, .. } in all.iter().copied() {
        let of = |figure: &dyn Fn(&RunResult) -> f64| runs.iter().map(figure).collect::<Vec<f64>>();
        let all_ready = runs.iter().all(|run| run.took().is_some());
        let (took, ratio) = if all_ready {
            let took = of(&|run| run.lasted().as_secs_f64());
            (
                about(&took, 1),
                about(&took.iter().map(|took| took / limit.as_secs_f64()).collect::<Vec<_>>(), 2),
            )
        } else {
            let never = runs.iter().filter(|run| run.took().is_none()).count();
            let left = about(&of(&|run| run.left() as f64), 0);
            (format!("not in {never} of {}: {left} left", runs.len()), "–".to_owned())
        };
        table.row([
            remedy.name.to_owned(),
            took,
            ratio,
            about(&of(&|run| run.wait(0.5).as_secs_f64()), 1),
            about(&of(&|run| run.wait(0.95).as_secs_f64()), 1),
            about(&of(&|run| run.kills() as f64), 0),
            about(&of(&|run| run.wasted().as_secs_f64()), 1),
        ]);
    }
    table.text()
}

/// A remedy that was left out has no goal. A herd that can start at once loses no start, so `none`
/// has no goal then.
fn goals(all: &[Trial]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for Trial { scene, remedy, limit, node, runs } in all {
        if scene.latency.is_zero()
            && *remedy == READY
            && ["alike", "no-latency"].contains(&scene.slug)
        {
            let ratios: Vec<_> =
                runs.iter().map(|run| run.lasted().as_secs_f64() / limit.as_secs_f64()).collect();
            let what = "ready, one a core, no latency: over the limit, median";
            goals.push(Goal { what, unit: "", measured: median(&ratios), goal: 1.15, broken: 1.3 });
            let killed = runs.iter().map(RunResult::kills).sum::<usize>() as f64;
            let what = "ready, one a core, no latency: starts killed in all runs";
            goals.push(Goal { what, unit: "", measured: killed, goal: 0.0, broken: 1.0 });
        }
        // A lock that loses a slot with each lost answer, or all leases with a restart, takes half
        // as long again.
        for (troubled, what, goal) in [
            (LOST, "ready, one a core, answers lost: over the same without, median", 1.15),
            (RESTARTED, "ready, one a core, lock restarted: over the same without, median", 1.25),
        ] {
            let calm =
                all.iter().find(|other| std::ptr::eq(other.scene, *scene) && other.remedy == READY);
            if let Some(calm) = calm.filter(|_| *remedy == troubled) {
                let [with, without] = [runs, &calm.runs].map(|runs| {
                    median(&runs.iter().map(|run| run.lasted().as_secs_f64()).collect::<Vec<_>>())
                });
                goals.push(Goal { what, unit: "", measured: with / without, goal, broken: 1.4 });
            }
        }
        if *remedy == NONE && scene.slug == "alike" && *limit > node.deadline * 2 {
            let finished = runs.iter().filter(|run| run.took().is_some()).count() as f64;
            let what = "none: runs in which all were ready after all";
            goals.push(Goal { what, unit: "", measured: finished, goal: 0.0, broken: 1.0 });
        }
    }
    goals.extend(auto_over_numbers(all));
    let killed = all
        .iter()
        .filter(|trial| trial.remedy == AUTO)
        .flat_map(|trial| trial.runs.iter().map(RunResult::kills));
    if let Some(killed) = killed.reduce(|all, killed| all + killed) {
        let what = "ready, auto: starts killed in all runs";
        goals.push(Goal { what, unit: "", measured: killed as f64, goal: 0.0, broken: 4.0 });
    }
    goals
}

/// The time of `auto` for all herds with the kubelet's latency, over that of the best number of
/// slots for all of them.
fn auto_over_numbers(all: &[Trial]) -> Option<Goal> {
    let sum = |remedy: &Remedy| {
        let trials = SOME_SLUGS.map(|slug| {
            all.iter().find(|trial| trial.scene.slug == slug && trial.remedy == *remedy)
        });
        let medians = trials.map(|trial| {
            let runs: Vec<_> = trial?.runs.iter().map(|run| run.lasted().as_secs_f64()).collect();
            Some(median(&runs))
        });
        medians.into_iter().sum::<Option<f64>>()
    };
    let numbers: Vec<f64> = [READY_ONE, READY, READY_TWO].iter().filter_map(sum).collect();
    let best = numbers.into_iter().reduce(f64::min)?;
    let what =
        "ready, auto: all herds with latency together, over the best number of slots for them";
    Some(Goal { what, unit: "", measured: sum(&AUTO)? / best, goal: 1.0, broken: 1.25 })
}

/// The run with the median time of each remedy; all pictures of a herd have one scale.
fn draw(all: &[Trial], directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    for Trial { scene, remedy, limit, runs, .. } in all {
        let same = all.iter().filter(|other| std::ptr::eq(other.scene, *scene));
        let end =
            same.flat_map(|trial| &trial.runs).map(RunResult::lasted).max().unwrap_or_default();
        let Some(result) = middle(runs) else { continue };
        let svg = picture::svg(&Chart { title: &remedy.title(), result, limit: *limit, end });
        fs::write(directory.join(scene.picture(remedy) + ".svg"), svg)?;
    }
    Ok(())
}

fn middle(runs: &[RunResult]) -> Option<&RunResult> {
    let mut sorted: Vec<_> = runs.iter().collect();
    sorted.sort_by_key(|run| run.lasted());
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

fn seconds(duration: Duration) -> String {
    // A third must not show sixteen digits.
    ((duration.as_secs_f64() * 100.0).round() / 100.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use timeline::{Pod, PodState};

    fn options(words: &[&str]) -> Options {
        let programs = ["--lock", "l", "--init", "i", "--health", "h", "--plain", "p"];
        let words = programs.iter().chain(words).map(Into::into).collect();
        crate::parse(pico_args::Arguments::from_vec(words)).unwrap().options
    }

    fn seconds(duration: Duration) -> f64 {
        duration.as_secs_f64()
    }

    fn result(ready: &[Option<u64>]) -> RunResult {
        let pod = |ready: &Option<u64>| {
            let mut pod = Pod::default();
            pod.begins(PodState::Starting, Duration::ZERO);
            ready.iter().for_each(|at| pod.begins(PodState::Ready, Duration::from_secs(*at)));
            pod
        };
        RunResult { pods: ready.iter().map(pod).collect(), cut_off: Duration::from_secs(50) }
    }

    #[test]
    fn numbers() {
        assert_eq!(about(&[1.0, 3.0, 2.0], 1), "2.0 (1.0–3.0)");
        assert_eq!(about(&[2.01, 2.02], 1), "2.0");
        assert_eq!(
            [600, 1_800, 3_000].map(|millis| super::seconds(Duration::from_millis(millis))),
            ["0.6", "1.8", "3"]
        );
        assert_eq!(super::seconds(Duration::from_secs(1) / 3), "0.33");
    }

    #[test]
    fn what_is_tried() {
        let options = options(&[]);
        let scenes = scenes(options.herd.latency, options.herd.scale);
        let all = trials(&scenes, &options, 2);
        assert_eq!(all.len(), ALL.len() + FEW.len() + 2 * SOME.len());
        for (slug, limit, factor) in
            [("alike", 10.0, 10), ("no-latency", 10.0, 4), ("disk", 7.5, 10), ("threads", 10.0, 10)]
        {
            let Trial { node, limit: measured, .. } =
                all.iter().find(|trial| trial.scene.slug == slug).unwrap();
            assert_eq!((seconds(*measured), node.scale.factor()), (limit, factor), "{slug}");
            assert_eq!(
                (node.starts.len(), seconds(node.deadline), seconds(node.cut_off)),
                (20, 4.0, 45.0),
                "{slug}"
            );
        }
    }

    #[test]
    fn goals_are_about_what_was_tried() {
        let goals_of = |words: &[&str], ready: &[Option<u64>]| {
            let options = options(words);
            let scenes = scenes(options.herd.latency, options.herd.scale);
            let mut all = trials(&scenes, &options, 2);
            all.iter_mut().for_each(|trial| trial.runs.push(result(ready)));
            goals(&all)
                .iter()
                .map(|goal| (goal.what, goal.measured, goal.broken("herd").is_some()))
                .collect::<Vec<_>>()
        };
        let ratio = ("ready, one a core, no latency: over the limit, median", 1.2, false);
        let kills = ("ready, one a core, no latency: starts killed in all runs", 0.0, false);
        let lost = |measured, broken| {
            ("ready, one a core, answers lost: over the same without, median", measured, broken)
        };
        let restarted =
            ("ready, one a core, lock restarted: over the same without, median", 1.0, false);
        let never =
            |finished, broken| ("none: runs in which all were ready after all", finished, broken);
        let auto = (
            "ready, auto: all herds with latency together, over the best number of slots for them",
            1.0,
            false,
        );
        let calm = ("ready, auto: starts killed in all runs", 0.0, false);
        let all = goals_of(&[], &[Some(12)]);
        assert_eq!(all, [never(1.0, true), lost(1.0, false), restarted, ratio, kills, auto, calm]);
        let without_latency = goals_of(&["--latency", "0"], &[Some(12)]);
        assert_eq!(
            without_latency,
            [never(1.0, true), ratio, kills, lost(1.0, false), restarted, auto, calm]
        );
        assert_eq!(goals_of(&["--only", "alike-none"], &[Some(12), None]), [never(0.0, false)]);
        assert_eq!(goals_of(&["--only", "disk-none"], &[None]), []);
        let only =
            options(&["--only", "alike-ready-one-a-core,alike-ready-one-a-core-5-of-answers-lost"]);
        let scenes = super::scenes(only.herd.latency, only.herd.scale);
        let mut two = trials(&scenes, &only, 2);
        two[0].runs = vec![result(&[Some(20)])];
        two[1].runs = vec![result(&[Some(30)])];
        let goals: Vec<_> = super::goals(&two)
            .iter()
            .map(|goal| (goal.what, goal.measured, goal.broken("herd").is_some()))
            .collect();
        assert_eq!(goals, [lost(1.5, true)], "a slot burnt for ten turns");
        let too_few = ["--applications", "16", "--only", "alike-none"];
        assert_eq!(
            goals_of(&too_few, &[Some(12)]),
            [],
            "sixteen starts take eight seconds, which is not more than twice four"
        );
        let unfinished = goals_of(&["--only", "no-latency-ready-one-a-core"], &[None]);
        assert_eq!(unfinished, [(ratio.0, 5.0, true), kills]);
    }

    #[test]
    fn a_remedy_that_fails_has_no_time() {
        let options = options(&["--only", "alike-none"]);
        let scenes = scenes(options.herd.latency, options.herd.scale);
        let mut all = trials(&scenes, &options, 2);
        all[0].runs = vec![result(&[Some(12), Some(14)]), result(&[Some(10), Some(12)])];
        let row = |all: &[Trial]| {
            let text = table(&all.iter().collect::<Vec<_>>());
            let row = text
                .lines()
                .last()
                .unwrap()
                .split('|')
                .map(str::trim)
                .collect::<Vec<_>>()
                .join("|");
            row.trim_matches('|').to_owned()
        };
        assert_eq!(
            row(&all),
            "none|13.0 (12.0–14.0)|1.30 (1.20–1.40)|11.0 (10.0–12.0)|13.0 (12.0–14.0)|0|0.0"
        );
        all[0].runs.push(result(&[Some(11), None]));
        assert!(
            row(&all).starts_with(
                "none|not in 1 of 3: 0 (0–1) left|–|11.0 (10.0–12.0)|14.0 (12.0–50.0)|"
            ),
            "{}",
            row(&all)
        );
    }

    #[test]
    fn the_run_in_the_middle_is_drawn() {
        let runs = [result(&[Some(3)]), result(&[None]), result(&[Some(2)])];
        assert_eq!(middle(&runs).map(RunResult::lasted), Some(Duration::from_secs(3)));
        assert_eq!(middle(&runs[..2]).map(RunResult::lasted), Some(Duration::from_secs(3)));
        assert!(middle(&[]).is_none());
    }

    #[test]
    fn pictures_are_chosen_by_their_names() {
        let settings = options(&[]).herd;
        let scenes = scenes(settings.latency, settings.scale);
        let only = |name: &str| Settings { only: vec![name.to_owned()], ..settings.clone() };
        assert_eq!(check(&settings, &scenes), Ok(()));
        assert_eq!(check(&only("alike-ready-one-a-core"), &scenes), Ok(()));
        let mistake = check(&only("alike-reddy"), &scenes).unwrap_err();
        assert!(
            mistake.starts_with(
                "--only: no picture \"alike-reddy\"; there are alike-none, alike-too-"
            ),
            "{mistake}"
        );
        // Without latency two herds are the same.
        assert!(
            check(&only("no-latency-none"), &super::scenes(Duration::ZERO, settings.scale))
                .is_err()
        );
    }

    #[test]
    fn what_a_start_is_made_of() {
        let start = Start { cpu: Duration::from_secs(1), waiting: Duration::ZERO, threads: 1 };
        let half = Duration::from_millis(500);
        assert_eq!(disk(start, 2), Start { cpu: half, waiting: half, threads: 1 });
        assert_eq!(threads(start, 2), Start { threads: 2, ..start });
    }
}
