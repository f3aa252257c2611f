//! `--locks auto` against the best fixed number of slots, and a cluster after a power cut.
//!
//! The crate `simulator` plays both in virtual time on lock's own limit, so the figures of a commit
//! are the same on each
//! machine.

use std::fmt::Write as _;
use std::time::Instant;

use simulator::cluster::{Cluster, Lease, Number, Outcome};
use simulator::compare::{Case, Comparison, JUDGED_ON, Summary, cases, others, summary};
use simulator::herd::{Arrival, Mix};
use simulator::parallel;

use crate::Options;
use crate::goal::Goal;
use crate::machine;
use crate::results::Section;
use crate::table::Table;

const THREADS: usize = 2;

/// The fixed numbers of slots, for each core.
const A_CORE: [usize; 4] = [1, 2, 4, 8];

/// The arrival of the inits, and whether a lease ends when its application is ready.
const WAYS: [(&str, Arrival, bool); 4] = [
    ("All at once", Arrival::AtOnce, true),
    ("Five inits a second for each core", Arrival::ACore(5.0), true),
    ("Two inits a second for each core", Arrival::ACore(2.0), true),
    (
        "Two inits a second for each core, leases of 10 s that end by time alone",
        Arrival::ACore(2.0),
        false,
    ),
];

/// Indexes of `WAYS` that have goals. `REAL` is the arrival rate that was measured on a real node.
const AT_ONCE: usize = 0;
const REAL: usize = 2;
const BY_TIME: usize = 3;

/// The seed of the tables. Goals use all of `JUDGED_ON`, none of which chose a constant.
const SEED: u64 = JUDGED_ON[0];

pub fn run(options: &Options) -> Result<Section, String> {
    let began = Instant::now();
    let mut text = machine::described("cluster", &options.lock);
    text += "- in virtual time, on lock's own limit: another machine gives the same figures\n\n";
    text += &how_many();
    let mut goals: Vec<Goal> = Vec::new();
    for (at, (name, arrival, ready)) in WAYS.into_iter().enumerate() {
        let seeds = if at == REAL { &JUDGED_ON[..] } else { &[SEED] };
        let all: Vec<_> = seeds.iter().flat_map(|seed| cases(arrival, ready, *seed)).collect();
        let comparisons = table_of(name, &all, began, &mut text);
        let auto = summary(comparisons.iter().map(|herd| &herd.auto));
        match at {
            REAL => goals.extend(goals_of(auto, comparisons.len() as f64 / all.len() as f64)),
            AT_ONCE => goals.push(goal(
                "all at once: time over that of the best fixed number, in the mean",
                auto.mean,
                1.15,
                1.35,
            )),
            BY_TIME => goals.push(goal(
                "leases by time: starts that were killed",
                auto.kills as f64,
                10.0,
                20.0,
            )),
            _ => {}
        }
    }
    let (_, arrival, ready) = WAYS[REAL];
    let comparisons = table_of(
        "Other herds, two inits a second for each core",
        &others(arrival, ready, SEED),
        began,
        &mut text,
    );
    goals.extend(goals_of_others(&comparisons));
    goals.extend(goals_of_cheap(began));
    text += &after_a_power_cut(&cluster(), began);
    text += "\n### Goals\n\n- unless a goal says otherwise, two inits a second and core arrive, and leases end at ready\n";
    text.extend(goals.iter().map(Goal::line));
    let _ = writeln!(text, "\nAll of this took {:.0} s.", began.elapsed().as_secs_f64());
    let broken = goals.iter().filter_map(|goal| goal.broken("cluster")).collect();
    Ok(Section { title: "Cluster", text, broken })
}

/// Adds the table of these herds to the text.
fn table_of(name: &str, cases: &[Case], zero: Instant, text: &mut String) -> Vec<Comparison> {
    let comparisons = parallel::map(THREADS, cases, |case| case.compare(&A_CORE, zero));
    let comparisons: Vec<Comparison> = comparisons.into_iter().flatten().collect();
    *text += &format!("### {name}\n\n{}\n", numbers(&comparisons));
    *text += &farthest(&comparisons);
    comparisons
}

fn how_many() -> String {
    let herds = cases(Arrival::AtOnce, true, SEED).len();
    let (judged, seeds) = (herds * JUDGED_ON.len(), JUDGED_ON.len());
    format!(
        "### How many at a time\n\n\
         - {herds} herds in each table below, and {judged}, of {seeds} seeds, for the goals: each mix \
         with 20, 60 and 200 pods on 2, 8 and 64 cores, with a latency of 0, 1 and 2 s (up to 30 % \
         more or less) from the end of init to the start. By default a start uses 0.5 to 1.5 CPU s \
         in one thread; a start with waits takes as long. The kubelet kills a start after 6 s and \
         restarts it: at once, then after 10 s, 20 s and so on\n\
         - *half I/O*: every second start waits for half of its time; *threads*: one, two or four, \
         each with 0.5 to 1.5 CPU s; *wide*: every second start has a thread for each core; *I/O \
         heavy*: each start waits for 85 % of its time; *image pulls*: every fourth takes a minute. \
         Other herds: *cheap, then dear*: the first half as I/O heavy, then two threads with 0.5 to \
         1.5 CPU s each; *a long tail*: 0.3 to 3.5 CPU s, half of them below 0.6; *spin up*: four \
         threads, a wait, one thread; *half the node taken*: by threads of other programs; *all \
         taken at low weight*: by three batch threads for each core, each with a fortieth of the \
         weight of a start; *kubelet's CPU*: kubelet, containerd and runc use 0.8 CPU s for each \
         start, half before init asks and half after the grant; *pulls of 3 min*: every fourth image \
         takes 135 to 225 s; *all pull 3 min*: each image does; *frozen counters*: `/proc/stat` \
         stands still\n\
         - the constants of `auto` were chosen on herds of other seeds\n\
         - the ratio is the time until all are ready over that of the best fixed number *for that \
         herd*, from 1 to all in steps of a quarter. In brackets: killed starts that would have become \
         ready. A herd is cut off at a ratio of 10\n\n"
    )
}

/// A row for each mix, and one for all.
fn numbers(comparisons: &[Comparison]) -> String {
    let fixed = A_CORE.map(|number| format!("{number} a core"));
    let head = ["mix", "best numbers", "auto: mean", "worst", "above 1.5", "killed", "most in one"];
    let mut table = Table::new(head.map(str::to_owned).into_iter().chain(fixed));
    for (mix, name) in Mix::ALL {
        let of_it: Vec<&Comparison> =
            comparisons.iter().filter(|herd| herd.case.mix == mix).collect();
        if !of_it.is_empty() {
            table.row(row(name, &of_it));
        }
    }
    table.row(row("all", &comparisons.iter().collect::<Vec<_>>()));
    table.text()
}

fn row(name: &str, herds: &[&Comparison]) -> Vec<String> {
    let auto = summary(herds.iter().map(|herd| &herd.auto));
    let least = herds.iter().map(|herd| herd.best.slots).min().unwrap_or(0);
    let most = herds.iter().map(|herd| herd.best.slots).max().unwrap_or(0);
    let mut row = vec![
        name.to_owned(),
        format!("{least} to {most}"),
        format!("{:.2}", auto.mean),
        format!("{:.2}", auto.worst),
    ];
    row.extend([auto.above, auto.kills, auto.most_kills].map(|count| count.to_string()));
    row.extend((0..A_CORE.len()).map(|nth| {
        let fixed = summary(herds.iter().map(|herd| &herd.fixed[nth]));
        format!("{:.2} ({})", fixed.mean, fixed.kills)
    }));
    row
}

/// The three herds that are farthest from their best number.
fn farthest(comparisons: &[Comparison]) -> String {
    let mut herds: Vec<&Comparison> = comparisons.iter().collect();
    herds.sort_by(|a, b| b.auto.ratio.total_cmp(&a.auto.ratio));
    let named = herds.iter().take(3).map(|herd| {
        let case = herd.case;
        format!(
            "{:.2} ({}, {} pods on {} cores, {} s of latency; best {:.1} s with {})",
            herd.auto.ratio,
            case.mix.name(),
            case.pods,
            case.cores,
            case.latency,
            herd.best.home,
            herd.best.slots
        )
    });
    format!("Farthest from the best number: {}.\n\n", named.collect::<Vec<_>>().join("; "))
}

fn goals_of(auto: Summary, home: f64) -> [Goal; 4] {
    [
        goal("time over that of the best fixed number, in the mean", auto.mean, 1.12, 1.2),
        goal("the same, at worst", auto.worst, 1.6, 2.0),
        goal("starts that were killed in one herd, at most", auto.most_kills as f64, 2.0, 10.0),
        goal("share of the herds that no fixed number brings home", 1.0 - home, 0.0, 0.01),
    ]
}

fn goals_of_others(comparisons: &[Comparison]) -> Vec<Goal> {
    let of = |mix: Mix| comparisons.iter().filter(move |herd| herd.case.mix == mix);
    let auto = |mix: Mix| summary(of(mix).map(|herd| &herd.auto));
    // `A_CORE[0]` is one for each core.
    let over_one_a_core = |mix: Mix| {
        let ratios = of(mix).filter_map(|herd| Some(herd.auto.ratio / herd.fixed.first()?.ratio));
        ratios.fold(0.0, f64::max)
    };
    vec![
        goal(
            "half the node taken: time over that of one a core, at worst",
            over_one_a_core(Mix::Beside),
            1.1,
            1.2,
        ),
        goal("all taken at low weight: the same", over_one_a_core(Mix::Batch), 1.1, 1.2),
        goal("frozen counters: the same", over_one_a_core(Mix::Frozen), 1.05, 1.1),
        goal(
            "pulls of 3 min: time over that of the best fixed number, in the mean",
            auto(Mix::LongPulls).mean,
            1.1,
            1.2,
        ),
    ]
}

/// Few of these herds lose a start, so the goal needs all seeds.
fn goals_of_cheap(zero: Instant) -> [Goal; 2] {
    let (_, arrival, ready) = WAYS[REAL];
    let all = JUDGED_ON.iter().flat_map(|seed| others(arrival, ready, *seed));
    let all: Vec<Case> = all.filter(|case| case.mix == Mix::CheapFirst).collect();
    let comparisons = parallel::map(THREADS, &all, |case| case.compare(&[], zero));
    let cheap = summary(comparisons.iter().flatten().map(|herd| &herd.auto));
    [
        goal(
            "cheap, then dear: time over that of the best fixed number, at worst",
            cheap.worst,
            2.0,
            3.0,
        ),
        goal(
            "cheap, then dear: starts that were killed in one herd, at most",
            cheap.most_kills as f64,
            4.0,
            40.0,
        ),
    ]
}

fn goal(what: &'static str, measured: f64, goal: f64, broken: f64) -> Goal {
    Goal { what, unit: "", measured, goal, broken }
}

fn cluster() -> Cluster {
    Cluster {
        nodes: 5_000,
        pods: 20,
        cores: vec![2, 4, 8],
        boot: (60.0, 300.0),
        arrival: 2.0,
        latency: (0.5, 1.1),
        pulls: (0.05, (20.0, 90.0)),
        work: (2.0, 8.0),
        deadline: 30.0,
        back_off: 10.0,
        cut_off: 3600.0,
        seed: 1,
    }
}

/// The longest lease that ends at ready, in seconds, as in the manifests.
const LONGEST: f64 = 120.0;

/// The mean length of a start alone, with the kubelet's latency, in seconds: the best guess.
const GUESSED: f64 = 6.0;

fn remedies() -> Vec<(String, Number, Lease)> {
    let time = |seconds| (format!("leases of {seconds} s"), Lease::Time(seconds));
    let ready = || ("until ready".to_owned(), Lease::Ready(LONGEST));
    let named = |(lease_name, lease): (String, Lease), number| {
        let number_name = match number {
            Number::All => "all at once".to_owned(),
            Number::Fixed(slots) => format!("{slots} slot"),
            Number::ACore(slots) => format!("{slots} a core"),
            Number::Auto => "auto".to_owned(),
        };
        (format!("{lease_name}, {number_name}"), number, lease)
    };
    let mut remedies = vec![("none".to_owned(), Number::All, Lease::Time(GUESSED))];
    remedies.push(named(time(GUESSED / 3.0), Number::ACore(1)));
    for number in [Number::Fixed(1), Number::ACore(1), Number::Auto] {
        remedies.push(named(time(GUESSED), number));
    }
    remedies.push(named(time(GUESSED * 3.0), Number::ACore(1)));
    for number in
        [Number::Fixed(1), Number::ACore(1), Number::ACore(2), Number::ACore(4), Number::Auto]
    {
        remedies.push(named(ready(), number));
    }
    remedies
}

fn after_a_power_cut(cluster: &Cluster, zero: Instant) -> String {
    let Cluster { nodes, pods, .. } = cluster;
    let head = [
        "remedy",
        "all ready s",
        "median wait s",
        "p99 s",
        "nodes not home",
        "killed",
        "CPU wasted %",
        "played in s",
    ];
    let mut table = Table::new(head);
    for (name, number, lease) in remedies() {
        let began = Instant::now();
        let outcome = cluster.run(number, lease, zero, THREADS);
        table.row(remedy(name, &outcome, began.elapsed().as_secs_f64()));
    }
    format!(
        "### {nodes} nodes after a power cut, {} pods\n\n{}\n{}\n\
         *All ready*: from the return of the power. *Wait*: from a pod's first init to its open port. *Wasted*: CPU time of killed \
         starts, of what all starts need once.\n",
        nodes * pods,
        assumptions(cluster),
        table.text()
    )
}

fn remedy(name: String, outcome: &Outcome, took: f64) -> [String; 8] {
    let seconds = |seconds: Option<f64>| {
        seconds.map_or("never".to_owned(), |seconds| format!("{seconds:.1}"))
    };
    [
        name,
        seconds(outcome.home),
        seconds(outcome.waited(0.5)),
        seconds(outcome.waited(0.99)),
        outcome.nodes_lost.to_string(),
        outcome.kills.to_string(),
        format!("{:.1}", 100.0 * outcome.wasted / outcome.work),
        format!("{took:.1}"),
    ]
}

fn assumptions(cluster: &Cluster) -> String {
    let range = |(least, most): (f64, f64), unit: &str| format!("{least} to {most} {unit}");
    let (pulled, pull) = cluster.pulls;
    let guess = "assumed";
    let rows = [
        ("nodes, each with a lock of its own", cluster.nodes.to_string(), guess),
        ("pods on each", cluster.pods.to_string(), guess),
        (
            "cores of a node, each as often",
            cluster.cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            guess,
        ),
        ("from the power's return to a node's first init", range(cluster.boot, "s"), guess),
        (
            "inits that come a second, for each core",
            cluster.arrival.to_string(),
            "20 took 4 to 6 s on real nodes of two cores",
        ),
        (
            "from the end of init to the start",
            range(cluster.latency, "s"),
            "0.6 to 0.8 s in the median on real nodes",
        ),
        (
            "pods whose image is pulled first, in its slot",
            format!("{} %, {}", pulled * 100.0, range(pull, "s")),
            guess,
        ),
        ("CPU time of a start", range(cluster.work, "s"), "assumed: a Java service"),
        (
            "of the starts",
            "half in one thread, a quarter in two, a quarter waits half of the time".to_owned(),
            guess,
        ),
        (
            "killed when not ready after",
            format!("{} s", cluster.deadline),
            "Kubernetes' default probe: three failures, 10 s apart",
        ),
        (
            "back-off",
            format!(
                "none at first, then {} s, doubled to {} s",
                cluster.back_off,
                cluster.back_off * 32.0
            ),
            "the kubelet's, but for its cut at 300 s",
        ),
        ("given up after its node's first init by", format!("{} s", cluster.cut_off), guess),
        ("API server and registry", "bear all of them".to_owned(), guess),
    ];
    let mut table = Table::new(["", "value", "source"]);
    for (what, value, source) in rows {
        table.row([what.to_owned(), value, source.to_owned()]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_cluster_has_a_row_for_each_remedy() {
        let zero = Instant::now();
        let text = after_a_power_cut(&Cluster { nodes: 3, ..cluster() }, zero);
        assert!(text.starts_with("### 3 nodes after a power cut, 60 pods\n"), "{text}");
        for (name, ..) in remedies() {
            assert_eq!(text.matches(&format!("| {name} ")).count(), 1, "{name} in {text}");
        }
    }

    #[test]
    fn a_table_has_a_row_for_each_mix_and_names_the_worst() {
        let zero = Instant::now();
        let small = |cases: Vec<Case>| {
            cases.into_iter().filter(|case| case.pods == 20 && case.cores < 64).collect()
        };
        let (judged, shown): (Vec<Case>, Vec<Case>) =
            (small(cases(Arrival::AtOnce, true, SEED)), small(others(Arrival::AtOnce, true, SEED)));
        for (cases, mixes) in
            [(judged, &Mix::ALL[..Mix::JUDGED]), (shown, &Mix::ALL[Mix::JUDGED..])]
        {
            let mut text = String::new();
            let comparisons = table_of("Herds", &cases, zero, &mut text);
            assert!(!comparisons.is_empty() && text.starts_with("### Herds\n\n| mix "), "{text}");
            assert_eq!(
                text.lines().filter(|line| line.starts_with('|')).count(),
                2 + mixes.len() + 1,
                "{text}"
            );
            for (_, name) in mixes {
                assert_eq!(text.matches(&format!("\n| {name} ")).count(), 1, "{name} in {text}");
            }
            assert!(farthest(&comparisons).contains("20 pods on "), "{}", farthest(&comparisons));
        }
    }
}
