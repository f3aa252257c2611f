//! A failure at the worst moment does not keep the gate closed for longer than intended.

use std::fs;

use serde_json::json;
use testkit::api::Fault;

use super::*;

/// The uptime of this machine in seconds.
fn uptime() -> f64 {
    fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_grace_of_a_boot_ends_while_requests_for_daemonsets_fail() {
    for fault in [Fault::Close, Fault::Hang] {
        let cluster = Cluster::new();
        cluster.heal();
        let grace = format!("--boot-grace={}s", uptime() as u64 + 6);
        let mut health = cluster.health().args(["--boot-check=on", &grace]).start();
        wait_for_answer(&mut health, 412, "node object is from before this boot\n");
        cluster.api.fault(DAEMONSETS, fault);
        // A pod of an unknown DaemonSet leads to a request at once.
        cluster.api.edit(&pods_of("node-a"), |list| {
            let mut pod = list["items"][0].clone();
            pod["metadata"]["name"] = json!("new");
            pod["metadata"]["uid"] = json!("new");
            pod["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "new", "uid": "new", "controller": true}]);
            list["items"].as_array_mut().unwrap().push(pod);
        });
        wait_for_answer(&mut health, 200, "");
    }
}
