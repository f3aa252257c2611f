//! Clusters with many large objects, in a container of 16 MiB.

use testkit::heavy::{self, Heavy};

use super::*;

/// The rest of 16 MiB is for the stacks and sockets of 70 threads, and for the pages of the
/// program.
const MOST_KIB: u64 = 12 * 1024;

/// All at once, because each test waits several seconds for lists.
#[test]
fn heavy_clusters_fit_a_container() {
    std::thread::scope(|all| {
        heavy::ALL.iter().for_each(|heavy| drop(all.spawn(|| fits_a_container(heavy))));
    });
    if Program::static_dir().is_none() {
        testkit::skip("the bound on memory holds for the static binary, see PSL_TEST_BIN_DIR");
    }
}

fn fits_a_container(heavy: &Heavy) {
    let cluster = Cluster::new();
    heavy.put(&cluster.api);
    // The next list comes after 3 to 9 s.
    let health = bare_health().args(["--failHc=20s", "--passHc=100ms", "--node-name=node-a"]);
    let mut health = cluster.point(health, &cluster.api.url()).start();
    let counts = testkit::eventually("a verdict", 6 * CEILING, || {
        let counts = state(&mut health)["counts"].clone();
        counts.is_object().then_some(counts)
    });
    let all =
        ["ready", "waiting", "not-here", "excluded"].map(|which| counts[which].as_u64().unwrap());
    assert_eq!(all.iter().sum::<u64>(), heavy.sets() as u64, "{}: {counts}", heavy.name);
    // A second list, while the first is known.
    let asked =
        |path: &str| cluster.api.requests().iter().filter(|asked| asked.path == path).count();
    testkit::eventually("more lists", 6 * CEILING, || (asked(DAEMONSETS) >= 3).then_some(()));
    get(&mut health, "/state");
    let peak = health.memory_peak_kib();
    println!("{}: VmHWM {peak} KiB, {counts}", heavy.name);
    if Program::static_dir().is_some() {
        assert!(peak <= MOST_KIB, "{}: {peak} KiB\n{health}", heavy.name);
    }
}
