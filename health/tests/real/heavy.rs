//! Clusters whose objects are many and heavy, within the memory of a container of 16 MiB.

use testkit::heavy;

use super::*;

/// What is left of 16 MiB goes to the kernel: stacks and sockets of up to 70 threads, and the pages of the program itself.
const MOST_KIB: u64 = 12 * 1024;

#[test]
fn heavy_clusters_fit_a_container() {
    for cluster_is in &heavy::ALL {
        let cluster = Cluster::new();
        cluster_is.put(&cluster.api);
        let health = bare_health().args(["--failHc=20s", "--passHc=100ms", "--node-name=node-a"]);
        let mut health = cluster.point(health, &cluster.api.url()).start();
        let counts = testkit::eventually("a verdict", 6 * CEILING, || {
            let counts = state(&mut health)["counts"].clone();
            counts.is_object().then_some(counts)
        });
        let all = ["ready", "waiting", "not-here", "excluded"].map(|which| counts[which].as_u64().unwrap());
        assert_eq!(all.iter().sum::<u64>(), cluster_is.sets() as u64, "{}: {counts}", cluster_is.name);
        // A second list, while the first is known.
        let asked = |path: &str| cluster.api.requests().iter().filter(|asked| asked.path == path).count();
        testkit::eventually("more lists", 6 * CEILING, || (asked(DAEMONSETS) >= 3).then_some(()));
        get(&mut health, "/state");
        let peak = health.memory_peak_kib();
        println!("{}: VmHWM {peak} KiB, {counts}", cluster_is.name);
        if Program::static_dir().is_some() {
            assert!(peak <= MOST_KIB, "{}: {peak} KiB\n{health}", cluster_is.name);
        }
    }
    if Program::static_dir().is_none() {
        testkit::skip("the bound on memory holds for the static binary, see PSL_TEST_BIN_DIR");
    }
}
