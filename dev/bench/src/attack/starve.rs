//! Ten honest clients beside hostile waiters: the leases that they get, and the time for which a
//! slot is idle.

use std::thread;
use std::time::Duration;

use testkit::attack::Attack;
use testkit::attack::waiters::{ATTACKS, HONEST, Met, SETTINGS, Setting};
use testkit::program::Program;

use crate::Options;
use crate::goal::Goal;
use crate::table::Table;

/// The numbers of hostile addresses.
const HOSTILE: [u8; 2] = [1, 8];

struct Run {
    name: &'static str,
    hostile: u8,
    setting: &'static str,
    met: Met,
    is_alive: bool,
    peak_kib: u64,
    threads: usize,
}

pub fn run(options: &Options) -> (String, Vec<Goal>) {
    let length = options.seconds.unwrap_or(Duration::from_secs(12));
    let mut text = format!(
        "\n### Leases beside hostile waiters\n\n\
         - a fresh lock for each row, attacked for {length:?} from one address or eight; leases of 250ms at most; {HONEST} honest \
         clients, an address each, come 1.5 s later, ask as init does with `wait=30` until they have one lease each, and end \
         it after 100 ms by `DELETE` or by their `ready` port; the settings run side by side\n\
         - idle: readings of `/state`, one in 20 ms, that show a free slot (with `auto`: all slots free) while a client waits\n\n"
    );
    let mut runs = Vec::new();
    for (name, attack) in ATTACKS {
        for hostile in HOSTILE {
            let started = SETTINGS
                .iter()
                .map(|setting| endure(options, name, *attack, hostile, setting, length));
            let started: Vec<_> = started.collect();
            for (setting, run) in SETTINGS.iter().zip(started) {
                match run.map(thread::JoinHandle::join) {
                    Ok(Ok(run)) => runs.push(run),
                    Ok(Err(_)) => {
                        text += &format!("- {name}, {}: the run has failed\n\n", setting.name);
                    }
                    Err(why) => {
                        text += &format!("- {name}, {}: not measured: {why}\n\n", setting.name);
                    }
                }
            }
        }
    }
    text += &table(&runs).text();
    let goals = goals(&runs);
    text += "\n";
    text.extend(goals.iter().map(Goal::line));
    (text, goals)
}

fn endure(
    options: &Options,
    name: &'static str,
    attack: Attack,
    hostile: u8,
    setting: &'static Setting,
    length: Duration,
) -> Result<thread::JoinHandle<Run>, String> {
    let mut lock = setting.start(Program::at(&options.lock))?;
    let address = lock.addr();
    Ok(thread::spawn(move || {
        let met = setting.endure(address, attack, hostile, length, length);
        let is_alive = lock.try_wait().is_none();
        let (peak_kib, threads) =
            if is_alive { (lock.memory_peak_kib(), lock.threads()) } else { (0, 0) };
        Run { name, hostile, setting: setting.name, met, is_alive, peak_kib, threads }
    }))
}

fn table(runs: &[Run]) -> Table {
    let head =
        ["attack", "addresses", "setting", "served", "median s", "last s", "idle %", "readings"];
    let mut table =
        Table::new(head.into_iter().chain(["peak KiB", "threads", "hostile connections"]));
    for Run { name, hostile, setting, met, peak_kib, threads, .. } in runs {
        let seconds = |at: Option<&Duration>| {
            at.map_or("–".to_owned(), |at| format!("{:.1}", at.as_secs_f64()))
        };
        table.row([
            (*name).to_owned(),
            hostile.to_string(),
            (*setting).to_owned(),
            format!("{} of {HONEST}", met.served.len()),
            seconds(met.served.get(met.served.len() / 2)),
            seconds(met.served.last()),
            format!("{:.1}", met.idle_share() * 100.0),
            met.samples.to_string(),
            peak_kib.to_string(),
            threads.to_string(),
            met.attack.opened.to_string(),
        ]);
    }
    table
}

fn goals(runs: &[Run]) -> Vec<Goal> {
    let starved: usize = runs.iter().map(|run| HONEST - run.met.served.len()).sum();
    let idle = runs.iter().map(|run| run.met.idle_share() * 100.0).fold(0.0, f64::max);
    let ended = runs.iter().filter(|run| !run.is_alive).count();
    vec![
        Goal::new(
            "honest clients without a lease, all rows together",
            "",
            starved as f64,
            0.0,
            1.0,
        ),
        Goal::new("slots idle while a client waits, worst row", " %", idle, 1.0, 5.0),
        Goal::new("locks that have ended", "", ended as f64, 0.0, 1.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::attack::AttackReport;

    #[test]
    fn one_client_without_a_lease_breaks_the_promise() {
        let run = |served, idle, is_alive| Run {
            name: "a",
            hostile: 1,
            setting: "s",
            met: Met {
                served: vec![Duration::ZERO; served],
                samples: 100,
                idle,
                attack: AttackReport::default(),
            },
            is_alive,
            peak_kib: 1,
            threads: 1,
        };
        let broken = |runs: &[Run]| {
            goals(runs).iter().filter(|goal| goal.broken("attack").is_some()).count()
        };
        assert_eq!(broken(&[run(10, 1, true), run(10, 0, true)]), 0);
        assert_eq!(broken(&[run(10, 0, true), run(9, 0, true)]), 1);
        assert_eq!(broken(&[run(10, 5, true), run(10, 0, false)]), 2);
    }
}
