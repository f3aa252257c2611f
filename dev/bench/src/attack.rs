//! The time to an answer for an honest client while other addresses attack the lock; `starve`
//! measures the time to a
//! lease.
//!
//! Each attack has a lock of its own, so memory and threads are those of one attack.

mod starve;

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use testkit::attack::{
    ATTACKS, Attack, AttackReport, Latencies, addresses, honest, idle_connections, slow_trickle,
};
use testkit::program::Program;

use crate::Options;
use crate::machine;
use crate::results::Section;
use crate::table::{Table, millis};

const HONEST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 9, 9));
const EVERY: Duration = Duration::from_millis(50);

/// For the 99th percentile. The attacker has the same cores, so a miss does not fail the command.
const GOAL: Duration = Duration::from_millis(100);

struct Met {
    name: String,
    honest: Latencies,
    attack: AttackReport,
    peak_kib: u64,
    threads: usize,
}

pub fn run(options: &Options) -> Result<Section, String> {
    let length = options.seconds.unwrap_or(Duration::from_secs(6));
    let mut text = machine::described("attack", &options.lock);
    text += &format!(
        "- a fresh lock for each attack, which goes on for {length:?} from one address or eight; an honest client at another \
         address asks `GET /?duration=0` each {EVERY:?} on a new connection\n\n"
    );
    let met: Vec<Met> = attacks()
        .into_iter()
        .map(|(name, attack, from)| endure(options, name, attack, from, length))
        .collect();
    text += &table(&met).text();
    text += &format!("\n{}\n", against_goal(&met));
    let (words, goals) = starve::run(options);
    text += &words;
    let broken = broken(&met)
        .into_iter()
        .chain(goals.iter().filter_map(|goal| goal.broken("attack")))
        .collect();
    Ok(Section { title: "Under attack", text, broken })
}

/// First none, to compare with; then all from one address, and those with many connections also
/// from eight.
fn attacks() -> Vec<(String, Attack, Vec<Ipv4Addr>)> {
    let mut attacks: Vec<(String, Attack, Vec<Ipv4Addr>)> =
        vec![("none".to_owned(), no_attack, addresses(1))];
    attacks
        .extend(ATTACKS.iter().map(|(name, attack)| ((*name).to_owned(), *attack, addresses(1))));
    for (name, attack) in
        [("idle connections", idle_connections as Attack), ("slow trickle", slow_trickle)]
    {
        attacks.push((format!("{name}, 8 addresses"), attack, addresses(8)));
    }
    attacks
}

fn no_attack(_: std::net::SocketAddr, _: Vec<Ipv4Addr>, _: Instant) -> AttackReport {
    AttackReport::default()
}

fn endure(
    options: &Options,
    name: String,
    attack: Attack,
    from: Vec<Ipv4Addr>,
    length: Duration,
) -> Met {
    let mut lock = Program::at(&options.lock).args(["--host", "127.0.0.1", "--port", "0"]).start();
    let address = lock.addr();
    let until = Instant::now() + length;
    let attacker = thread::spawn(move || attack(address, from, until));
    let honest = honest(address, Some(HONEST), "", EVERY, until);
    let attack = attacker.join().unwrap_or_default();
    Met { name, honest, attack, peak_kib: lock.memory_peak_kib(), threads: lock.threads() }
}

fn table(met: &[Met]) -> Table {
    let mut table = Table::new([
        "attack",
        "asked",
        "unanswered",
        "median ms",
        "p99 ms",
        "max ms",
        "lock's peak KiB",
        "threads",
        "hostile connections",
        "cut off",
    ]);
    for met in met {
        let (honest, attack) = (&met.honest, &met.attack);
        table.row([
            met.name.clone(),
            (honest.n() + honest.failures.len()).to_string(),
            honest.failures.len().to_string(),
            millis(honest.median()),
            millis(honest.p99()),
            millis(honest.max()),
            met.peak_kib.to_string(),
            met.threads.to_string(),
            attack.opened.to_string(),
            attack.closed_by_server.to_string(),
        ]);
    }
    table
}

fn against_goal(met: &[Met]) -> String {
    let slow: Vec<_> =
        met.iter().filter(|met| met.honest.p99() > GOAL).map(|met| met.name.as_str()).collect();
    match slow.as_slice() {
        [] => format!("Goal for the 99th percentile, {GOAL:?}: met under each attack."),
        slow => {
            format!("Goal for the 99th percentile, {GOAL:?}: MISSED under {}.", slow.join("; "))
        }
    }
}

/// The honest client gets an answer to each request.
fn broken(met: &[Met]) -> Vec<String> {
    let unanswered =
        met.iter().filter_map(|met| match (&met.honest.failures[..], met.honest.n()) {
            ([], 0) => Some(format!("attack, {}: the honest client never had an answer", met.name)),
            ([], _) => None,
            ([first, ..], _) => Some(format!(
                "attack, {}: {} honest requests were not answered, first: {first}",
                met.name,
                met.honest.failures.len()
            )),
        });
    unanswered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(name: &str, millis: u64, failures: &[&str]) -> Met {
        let taken = if millis == 0 { Vec::new() } else { vec![Duration::from_millis(millis)] };
        let failures = failures.iter().map(|&failure| failure.to_owned()).collect();
        let honest = Latencies { taken, failures, ..Latencies::default() };
        Met {
            name: name.to_owned(),
            honest,
            attack: AttackReport::default(),
            peak_kib: 1,
            threads: 1,
        }
    }

    #[test]
    fn the_goal() {
        assert!(against_goal(&[met("a", 100, &[])]).ends_with("100ms: met under each attack."));
        assert!(
            against_goal(&[met("a", 100, &[]), met("b", 101, &[]), met("c", 200, &[])])
                .ends_with("MISSED under b; c.")
        );
    }

    #[test]
    fn the_promise() {
        assert!(broken(&[met("a", 5000, &[])]).is_empty());
        let broken = broken(&[met("a", 1, &["reset", "again"]), met("b", 0, &[])]);
        assert_eq!(
            broken,
            [
                "attack, a: 2 honest requests were not answered, first: reset",
                "attack, b: the honest client never had an answer"
            ]
        );
    }
}
