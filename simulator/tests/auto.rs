//! What `--locks auto` is worth, as a bound that the next change may not break: on fewer herds than
//! `scripts/bench.sh cluster` tries, and on others, for their seed is another.

use std::time::Instant;

use simulator::compare::{Case, Summary, cases, summary};
use simulator::herd::Arrival;
use simulator::node::Lock;
use simulator::parallel;

/// The table has 0.
const SEED: u64 = 5;

/// As few as show each mix with a short and a long line, with and without latency.
fn herds(arrival: Arrival, ready: bool) -> Vec<Case> {
    let all = cases(arrival, ready, SEED);
    all.into_iter().filter(|case| case.cores < 64 && case.pods < 200 && case.latency < 2.0).collect()
}

#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
fn auto(arrival: Arrival, ready: bool) -> Result<Summary, String> {
    let lock = Lock::new(Instant::now())?;
    let compared = parallel::map(2, &herds(arrival, ready), |case| case.compared(&[], &lock));
    let compared: Vec<_> = compared.into_iter().flatten().collect();
    for herd in compared.iter().filter(|herd| herd.auto.ratio > 1.4 || herd.auto.kills > 0) {
        println!("{:?} after {:.1} s with {}; auto {:?}", herd.case, herd.best.home, herd.best.slots, herd.auto);
    }
    let summary = summary(compared.iter().map(|herd| &herd.auto));
    println!("{summary:?}");
    assert_eq!((summary.herds, summary.lost), (64, 0));
    Ok(summary)
}

/// A little more than what it is, for a change that makes one herd better may make another worse.
fn hold(summary: Summary, mean: f64, worst: f64, most_kills: usize) {
    assert!(summary.mean <= mean && summary.worst <= worst && summary.most_kills <= most_kills, "{summary:?}");
}

#[test]
fn near_the_best_number_as_fast_as_a_node_lets_them_come() {
    hold(auto(Arrival::ACore(2.0), true).unwrap(), 1.17, 1.5, 2);
}

#[test]
fn near_the_best_number_where_all_come_at_once() {
    hold(auto(Arrival::AtOnce, true).unwrap(), 1.35, 2.7, 2);
}

#[test]
fn not_far_from_the_best_number_where_leases_end_by_time_alone() {
    hold(auto(Arrival::ACore(2.0), false).unwrap(), 1.42, 2.6, 2);
}
