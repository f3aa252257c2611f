//! A node of a large cluster, made of recorded objects that are as large as real ones are. Does not know who serves it.

use std::path::Path;

use serde_json::{Value, json};

/// How many DaemonSets there are.
pub const SETS: usize = 1_000;
/// How many of them have a ready pod on the node.
pub const ON_NODE: usize = 250;

/// What an API server has to tell to its node.
pub struct Large {
    pub daemonsets: Value,
    pub pods: Value,
    pub node: Value,
}

impl Large {
    /// Made of the recordings in this folder.
    pub fn of(folder: &Path) -> Large {
        Large::sized(folder, SETS, ON_NODE)
    }

    /// With so many DaemonSets, of which so many have a ready pod on the node.
    pub fn sized(folder: &Path, count: usize, on_node: usize) -> Large {
        let recorded = |name: &str| -> Value {
            let path = folder.join(name);
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            serde_json::from_str(&text).unwrap()
        };
        let (recorded_sets, recorded_pods) = (recorded("daemonsets.json"), recorded("pods.json"));
        let is_of_daemonset =
            |pod: &&Value| pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet";
        let templates: Vec<&Value> =
            recorded_pods["items"].as_array().unwrap().iter().filter(is_of_daemonset).collect();
        let (mut sets, mut pods) = (Vec::new(), Vec::new());
        for number in 0..count {
            let mut set = recorded_sets["items"][number % 100].clone();
            let name = format!("{}-{number}", set["metadata"]["name"].as_str().unwrap());
            let uid = format!("00000000-0000-4000-8000-{number:012}");
            (set["metadata"]["name"], set["metadata"]["uid"]) = (json!(name), json!(uid));
            if number % (count / on_node) == 0 {
                // So that it is wanted here, whatever else the recorded one asks for.
                set["spec"]["template"]["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
                set["spec"]["template"]["spec"]["affinity"] = Value::Null;
                set["spec"]["template"]["spec"]["nodeSelector"] =
                    json!({"kubernetes.io/os": "linux"});
                let mut pod = templates[number % templates.len()].clone();
                pod["metadata"]["namespace"] = set["metadata"]["namespace"].clone();
                (pod["metadata"]["name"], pod["metadata"]["uid"]) =
                    (json!(format!("{name}-x")), json!(format!("pod-{number}")));
                let owner = &mut pod["metadata"]["ownerReferences"][0];
                (owner["name"], owner["uid"]) = (json!(name), json!(uid));
                pods.push(pod);
            }
            sets.push(set);
        }
        Large {
            daemonsets: list("DaemonSetList", "apps/v1", sets),
            pods: list("PodList", "v1", pods),
            node: recorded("node.json"),
        }
    }

    /// Leaves nobody to wait for: what has no pod on the node belongs elsewhere.
    pub fn all_ready(mut self) -> Large {
        let pods = self.pods["items"].as_array().unwrap();
        let here: Vec<Value> =
            pods.iter().map(|pod| pod["metadata"]["ownerReferences"][0]["uid"].clone()).collect();
        for set in self.daemonsets["items"].as_array_mut().unwrap() {
            if !here.contains(&set["metadata"]["uid"]) {
                set["spec"]["template"]["spec"]["nodeSelector"] = json!({"elsewhere": "true"});
            }
        }
        self
    }

    /// Says whether one of the pods is ready.
    pub fn pod_ready(&mut self, number: usize, ready: bool) {
        for condition in self.pods["items"][number]["status"]["conditions"].as_array_mut().unwrap()
        {
            if condition["type"] == "Ready" {
                condition["status"] = if ready { "True" } else { "False" }.into();
            }
        }
    }
}

fn list(kind: &str, version: &str, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_size_and_without_anybody_to_wait_for() {
        let recorded = crate::root().join("health/tests/data/scale");
        let large = Large::sized(&recorded, 10, 2).all_ready();
        let items = |list: &Value| list["items"].as_array().unwrap().clone();
        let (sets, pods) = (items(&large.daemonsets), items(&large.pods));
        assert_eq!((sets.len(), pods.len()), (10, 2));
        let elsewhere =
            |set: &&Value| set["spec"]["template"]["spec"]["nodeSelector"]["elsewhere"] == "true";
        assert_eq!(sets.iter().filter(elsewhere).count(), 8);
        for pod in pods {
            let owner = &pod["metadata"]["ownerReferences"][0]["uid"];
            let set = sets.iter().find(|set| set["metadata"]["uid"] == *owner).unwrap();
            assert!(!elsewhere(&set), "{owner}");
        }
    }
}
