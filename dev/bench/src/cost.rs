//! What the programs cost a node: bytes, starts, memory, and the processor time of what they are asked. Beside a
//! peer, whose binaries are measured in the same runs.
//!
//! Each program's scenes are a file; `pairs` runs them, here their figures become tables. All of it is done with
//! arguments and variables that every generation of the programs understands.

mod bytes;
mod health;
mod init;
mod lock;
mod pairs;
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use testkit::budget;
use testkit::scratch::Scratch;

use crate::Options;
use crate::compare::shown;
use crate::goal::Goal;
use crate::machine;
use crate::results::Section;
use crate::table::{Table, median, spread};
use pairs::{Column, Measured, Outcome, Pair};

/// Enough for a spread.
const RUNS: usize = 5;

/// Binaries to be measured beside ours, and where our images are.
#[derive(Default)]
pub struct Beside {
    pub lock: Option<PathBuf>,
    pub init: Option<PathBuf>,
    pub health: Option<PathBuf>,
    pub images: Option<PathBuf>,
}

/// The tables: a title, what is in them, and their columns.
const TABLES: &[(&str, &str, &[Column])] = &[
    (
        "Bytes",
        "the image is the archive that `scripts/image.sh` makes",
        &[bytes::BINARY, bytes::BINARY_GZIP, bytes::IMAGE_GZIP],
    ),
    (
        "Starts",
        "from before the process is there to its first answer (lock: the median of 10 starts; health: whatever it says, and \
         until it says that all are ready) or, for init, to its end where the lock is free (the median of 100); CPU until then",
        &[server::FIRST_ANSWER, health::VERDICT, init::WHOLE_RUN, server::START_CPU],
    ),
    (
        "Memory",
        "VmRSS and VmHWM: lock and health after 0.3 s without a request, init while it waits; lock with waiters while they \
         wait, each at an address of its own and as init does",
        &[server::RESIDENT, server::PEAK],
    ),
    (
        "Requests",
        "CPU of the server for a request, and what the client waits, in rounds of 0.3 s: lock without waiters is asked \
         `/?duration=0`, with waiters by 16 callers without a name, who are refused; health by 16 callers",
        &[
            server::KEPT.cost,
            server::KEPT.half,
            server::KEPT.most,
            server::NEW.cost,
            server::NEW.half,
            server::NEW.most,
        ],
    ),
    (
        "While holders wait",
        "CPU of lock for each question of theirs, from when the first comes until half a second after the last, and for \
         each answer about itself (what a long line takes of a core is in \"Leases\")",
        &[lock::ASKING, lock::METRICS],
    ),
];

pub fn run(options: &Options) -> Result<Section, String> {
    let Beside { lock, init, health, images } = &options.beside;
    let files = Scratch::new();
    let lock = pair(&files, "lock", &options.lock, lock.as_deref())?;
    let init = pair(&files, "init", &options.init, init.as_deref())?;
    let health = pair(&files, "health", &options.health, health.as_deref())?;
    let named = [("lock", &lock), ("init", &init), ("health", &health)];
    let runs = options.rounds.unwrap_or(RUNS);
    let mut text = machine::described("cost", &options.lock);
    text += &format!("- runs of each: {runs}; medians, with least and most where they differ\n");
    if let Some(peers) = peers(&named) {
        text += &peers;
    }
    let mut scenes: Vec<_> =
        named.iter().map(|(name, pair)| bytes::scene(name, pair, images.as_deref())).collect();
    scenes.extend(lock::scenes(&lock));
    scenes.push(init::scene(&init));
    scenes.extend(health::scenes(&health));
    let outcome = pairs::run(&mut scenes, runs);
    for (title, words, columns) in TABLES {
        text +=
            &format!("\n### {title}\n\n- {words}\n\n{}", table(&outcome.measured, columns).text());
    }
    text += &format!(
        "\n### Growth\n\n- of each run's two figures the ratio\n\n{}",
        growth(&outcome).text()
    );
    text += "\n### Budgets\n\n";
    let goals = goals(&outcome);
    text.extend(goals.iter().map(Goal::line));
    if !outcome.notes.is_empty() {
        text += "\n### What the peer lacks\n\n";
        text.extend(outcome.notes.iter().map(|note| format!("- {note}\n")));
    }
    if !outcome.failures.is_empty() {
        text += "\n### What failed\n\n";
        text.extend(outcome.failures.iter().map(|failure| format!("- {failure}\n")));
    }
    let failures = outcome.failures.iter().map(|failure| format!("cost, {failure}"));
    let broken = goals.iter().filter_map(|goal| goal.broken("cost")).chain(failures).collect();
    let figures = outcome.measured.iter().map(Measured::figure).collect();
    Ok(Section { title: "Costs", text, broken, figures })
}

/// Copies, made alike: what of a file is resident depends on how the kernel keeps it, and the same binary differed
/// by 7 % where one file had just been written by a build and the other had been copied.
fn pair(files: &Scratch, name: &str, ours: &Path, peer: Option<&Path>) -> Result<Pair, String> {
    let copied = |whose: &str, file: &Path| {
        let directory = files.join(&format!("{name}-{whose}"));
        let to = directory.join(file.file_name().unwrap_or_default());
        let copied = fs::create_dir(&directory).and_then(|()| fs::copy(file, &to));
        copied.map(|_| to).map_err(|e| format!("cannot copy {}: {e}", file.display()))
    };
    Ok(Pair {
        ours: copied("ours", ours)?,
        peer: peer.map(|peer| copied("peer", peer)).transpose()?,
    })
}

/// Their files' names, since where they lie is of no interest elsewhere.
fn peers(named: &[(&str, &Pair)]) -> Option<String> {
    let peers = named.iter().filter_map(|(name, pair)| Some((name, pair.peer.as_ref()?)));
    let peers: Vec<_> = peers
        .map(|(name, file)| {
            format!("{name} by `{}`", file.file_name().unwrap_or_default().to_string_lossy())
        })
        .collect();
    let words =
        "run by run beside a peer (the ratio is ours by its, of each run; n/a: it lacks something)";
    (!peers.is_empty()).then(|| format!("- {words}: {}\n", peers.join(", ")))
}

/// One row for each scene that has such figures; with a peer two more.
fn table(measured: &[Measured], columns: &[Column]) -> Table {
    let mut table = Table::new(
        std::iter::once(String::new())
            .chain(columns.iter().map(|column| format!("{} {}", column.name, column.unit))),
    );
    let of_table: Vec<_> = measured.iter().filter(|one| columns.contains(&one.column)).collect();
    let mut rows: Vec<&str> = Vec::new();
    for one in &of_table {
        if !rows.contains(&one.row.as_str()) {
            rows.push(&one.row);
        }
    }
    for row in rows {
        let in_columns = |cell: &dyn Fn(&Measured) -> String| -> Vec<String> {
            let found = |column| of_table.iter().find(|one| one.row == row && one.column == column);
            columns
                .iter()
                .map(|column| found(*column).map_or_else(String::new, |one| cell(one)))
                .collect()
        };
        let mut add = |name: String, cell: &dyn Fn(&Measured) -> String| {
            table.row(std::iter::once(name).chain(in_columns(cell)));
        };
        add(row.to_owned(), &|one| shown(&one.ours));
        if of_table.iter().any(|one| one.row == row && one.peer.is_some()) {
            add(format!("{row}: peer"), &|one| one.beside(shown));
            add(format!("{row}: ratio"), &|one| {
                one.beside(|peer| spread(&ratios(&one.ours, peer)))
            });
        }
    }
    table
}

impl Measured {
    /// A cell about the peer.
    fn beside(&self, cell: impl Fn(&[f64]) -> String) -> String {
        match self.peer.as_deref() {
            None => String::new(),
            Some([]) => "n/a".to_owned(),
            Some(peer) => cell(peer),
        }
    }
}

/// Run by run.
fn ratios(ones: &[f64], others: &[f64]) -> Vec<f64> {
    ones.iter().zip(others).map(|(one, other)| one / other).collect()
}

/// How far figures go up with what they ought not to depend on.
fn growth(outcome: &Outcome) -> Table {
    let columns = [
        server::RESIDENT,
        server::KEPT.cost,
        server::KEPT.half,
        server::NEW.cost,
        server::NEW.half,
    ];
    let [one_caller, .., most_callers] = lock::CALLERS;
    let [one_waiter, .., most_waiters] = lock::WAITERS;
    let [few, .., many] = health::DAEMONSETS;
    let mut table = Table::new(std::iter::once("").chain(columns.iter().map(|column| column.name)));
    for (from, to) in [
        (lock::callers_row(one_caller), lock::callers_row(most_callers)),
        (lock::waiters_row(one_waiter), lock::waiters_row(most_waiters)),
        (health::row(few, false), health::row(many, false)),
    ] {
        let cell = |column: Column| match (outcome.ours(&from, column), outcome.ours(&to, column)) {
            (Some(from), Some(to)) => spread(&ratios(to, from)),
            _ => String::new(),
        };
        table.row(std::iter::once(format!("{to} over {from}")).chain(columns.map(cell)));
    }
    table
}

/// A file is as large as it is; memory is the peak, which is missed by a wide margin or not at all.
fn goals(outcome: &Outcome) -> Vec<Goal> {
    let at_half = |row: &str, column| outcome.ours(row, column).map_or(f64::NAN, median);
    let mut goals: Vec<Goal> = Vec::new();
    for (name, budget) in budget::BYTES {
        let (measured, goal) = (at_half(name, bytes::BINARY), *budget as f64);
        goals.push(Goal { what: name, unit: " bytes", measured, goal, broken: goal + 1.0 });
    }
    let [.., most_waiters] = lock::WAITERS;
    let [.., many] = health::DAEMONSETS;
    for (what, row, goal) in [
        ("peak memory of lock, idle", "lock, idle".to_owned(), 2048.0),
        ("peak memory of lock with most waiters", lock::waiters_row(most_waiters), 4096.0),
        ("peak memory of init", init::ROW.to_owned(), 1536.0),
        ("peak memory of health with most DaemonSets, TLS", health::row(many, true), 4096.0),
    ] {
        let measured = at_half(&row, server::PEAK);
        goals.push(Goal { what, unit: " KiB", measured, goal, broken: goal * 1.5 });
    }
    goals
}

impl Outcome {
    fn ours(&self, row: &str, column: Column) -> Option<&[f64]> {
        let found = self.measured.iter().find(|one| one.row == row && one.column == column)?;
        Some(&found.ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(row: &str, column: Column, ours: &[f64], peer: Option<&[f64]>) -> Measured {
        Measured {
            row: row.to_owned(),
            column,
            ours: ours.to_vec(),
            peer: peer.map(<[f64]>::to_vec),
        }
    }

    #[test]
    fn a_peer_has_a_row_and_a_ratio() {
        let all = [
            measured("lock", server::RESIDENT, &[10.0, 12.0], Some(&[20.0, 20.0])),
            measured("lock", server::PEAK, &[1.0, 1.0], Some(&[])),
            measured("lock", lock::ASKING, &[9.0, 9.0], Some(&[9.0, 9.0])),
            measured("init", server::PEAK, &[3.0], None),
        ];
        assert_eq!(
            table(&all, &[server::RESIDENT, server::PEAK]).text(),
            "|             |     resident KiB | peak KiB |\n\
             | ----------- | ---------------: | -------: |\n\
             | lock        |       11 (10–12) |        1 |\n\
             | lock: peer  |               20 |      n/a |\n\
             | lock: ratio | 0.55 (0.50–0.60) |      n/a |\n\
             | init        |                  |        3 |\n"
        );
    }

    #[test]
    fn both_are_copied_alike() {
        let (files, given) = (Scratch::new(), Scratch::new());
        let (ours, peer) = (given.file("psl", "ours"), given.file("peer", "peer's"));
        let read =
            |file: &Path| (file.starts_with(files.path()), fs::read_to_string(file).unwrap());
        let copies = pair(&files, "lock", &ours, Some(&peer)).unwrap();
        // Files of one name do not take the place of each other.
        let same = pair(&files, "init", &peer, Some(&ours)).unwrap();
        for (copy, content) in [
            (Some(copies.ours), "ours"),
            (copies.peer, "peer's"),
            (Some(same.ours), "peer's"),
            (same.peer, "ours"),
        ] {
            assert_eq!(read(&copy.unwrap()), (true, content.to_owned()));
        }
        let error = pair(&files, "health", &given.join("missing"), None).err().unwrap();
        assert!(
            error.starts_with("cannot copy ") && error.contains("missing: No such file"),
            "{error}"
        );
    }

    #[test]
    fn growth_is_that_of_each_run() {
        let outcome = Outcome {
            measured: vec![
                measured("lock, 1 waiter", server::RESIDENT, &[1000.0, 2000.0], None),
                measured("lock, 1000 waiters", server::RESIDENT, &[2000.0, 2000.0], None),
            ],
            ..Outcome::default()
        };
        let text = growth(&outcome).text();
        assert!(
            text.contains(
                "| lock, 1000 waiters over lock, 1 waiter             | 1.50 (1.00–2.00) |"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_was_not_measured_is_over_budget() {
        let broken = |outcome: &Outcome| {
            goals(outcome).iter().filter_map(|goal| goal.broken("cost")).count()
        };
        assert_eq!(broken(&Outcome::default()), 7);
        let all = |more: f64| Outcome {
            measured: goals(&Outcome::default())
                .iter()
                .zip([
                    ("init", bytes::BINARY),
                    ("lock", bytes::BINARY),
                    ("health", bytes::BINARY),
                    ("lock, idle", server::PEAK),
                    ("lock, 1000 waiters", server::PEAK),
                    ("init", server::PEAK),
                    ("health, 1000 DaemonSets, TLS", server::PEAK),
                ])
                .map(|(goal, (row, column))| measured(row, column, &[goal.goal + more], None))
                .collect(),
            ..Outcome::default()
        };
        assert_eq!([broken(&all(0.0)), broken(&all(1.0)), broken(&all(3000.0))], [0, 3, 7]);
    }

    #[test]
    fn each_figure_has_a_name_of_its_own() {
        let pair = Pair { ours: PathBuf::new(), peer: None };
        let mut rows: Vec<_> =
            lock::scenes(&pair).into_iter().chain(health::scenes(&pair)).map(|s| s.row).collect();
        let all = rows.len();
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), all);
    }
}
