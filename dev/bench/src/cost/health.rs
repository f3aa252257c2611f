//! What health costs in clusters of several sizes, all of whose DaemonSets are ready: until it says so, at rest, and
//! for each answer. With TLS as in a cluster, and without as behind `kubectl proxy`, which all generations can do.

use std::path::Path;

use testkit::large::Large;

use super::pairs;
use super::pairs::{Column, Found, Pair};
use super::server::{FIRST_ANSWER, START_CPU, Server, Settings, millis};
use crate::health::{Scene, recorded};

pub const VERDICT: Column = Column { name: "until ready", unit: "ms" };

pub const DAEMONSETS: [usize; 3] = [10, 100, 1000];

/// Of the DaemonSets, one in so many has a pod on the node.
const PODS: usize = 4;

pub fn scenes(pair: &Pair) -> Vec<pairs::Scene<'_>> {
    let sizes = DAEMONSETS.iter().flat_map(|count| [false, true].map(|tls| (*count, tls)));
    let scene = |(count, tls)| {
        let mut cluster = None;
        pairs::Scene {
            row: row(count, tls),
            pair,
            measure: Box::new(move |file: &Path, _, found: &mut Found| {
                let large =
                    || Large::sized(&recorded().join("scale"), count, count / PODS).all_ready();
                measure(file, cluster.get_or_insert_with(|| Scene::of(large(), tls)), tls, found)
            }),
        }
    };
    sizes.map(scene).collect()
}

pub fn row(count: usize, tls: bool) -> String {
    format!("health, {count} DaemonSets{}", if tls { ", TLS" } else { "" })
}

fn measure(file: &Path, cluster: &Scene, tls: bool, found: &mut Found) -> Result<(), String> {
    let url = cluster.api.url();
    let mut variables = vec![("PSL_K8S_API_URL", url.clone())];
    variables.extend(["PSL_NODE_NAME", "NODE_NAME"].map(|name| (name, "node-big".to_owned())));
    if tls {
        // As variables alone: a generation that has no such flag would not even start with it.
        let names = ["PSL_K8S_CA_FILE", "PSL_K8S_TOKEN_FILE"];
        variables.extend(
            names.into_iter().zip(cluster.credentials().map(|file| file.display().to_string())),
        );
    }
    let settings = Settings { flags: vec!["--baseUrl".to_owned(), url], variables };
    let mut server = Server::start(file, &settings, "/")?;
    found.add(FIRST_ANSWER, millis(server.first_answer));
    found.add(VERDICT, millis(server.until("/", |reply| reply.status == 200)?));
    found.add(START_CPU, millis(server.spent_in_all()?));
    server.memory_at_rest(found)?;
    match tls {
        // How the cluster is heard makes no difference to who asks.
        true => Ok(()),
        false => server.requests(200, "/", 16, found),
    }
}
