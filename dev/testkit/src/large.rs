//! A node of a large cluster, made of recorded objects that are as large as real ones. Does not
//! know which server shows them.

use std::path::Path;

use serde_json::{Value, json};

use crate::transcript::block;

/// The number of DaemonSets.
pub const SETS: usize = 1_000;
/// The number of DaemonSets with a ready pod on the node.
pub const ON_NODE: usize = 250;

/// The objects that an API server shows to its node.
pub struct Large {
    pub daemonsets: Value,
    pub pods: Value,
    pub node: Value,
}

impl Large {
    /// Made of the recorded objects of this transcript.
    pub fn of(scale: &Path) -> Large {
        Large::sized(scale, SETS, ON_NODE)
    }

    /// With `count` DaemonSets, of which `on_node` have a ready pod on the node.
    pub fn sized(scale: &Path, count: usize, on_node: usize) -> Large {
        let transcript = std::fs::read_to_string(scale)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", scale.display()));
        let recorded =
            |name: &str| -> Value { serde_json::from_str(block(&transcript, name)).unwrap() };
        let items = |name: &str| recorded(name)["items"].as_array().unwrap().clone();
        let (recorded_sets, mut templates) = (items("daemonsets"), items("pods"));
        templates.retain(|pod| pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet");
        let (mut sets, mut pods) = (Vec::new(), Vec::new());
        for number in 0..count {
            let mut set = recorded_sets[number % recorded_sets.len()].clone();
            let name = format!("{}-{number}", set["metadata"]["name"].as_str().unwrap());
            let uid = format!("00000000-0000-4000-8000-{number:012}");
            (set["metadata"]["name"], set["metadata"]["uid"]) = (json!(name), json!(uid));
            if number % (count / on_node) == 0 {
                place_on_any_linux(&mut set);
                pods.push(pod_of(&set, &templates[number % templates.len()], number));
            }
            sets.push(set);
        }
        Large {
            daemonsets: list("DaemonSetList", "apps/v1", sets),
            pods: list("PodList", "v1", pods),
            node: recorded("node"),
        }
    }

    /// Places the DaemonSets without a pod on the node on other nodes, so that all are ready.
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

    /// Sets the Ready condition of the pod of this number.
    pub fn pod_ready(&mut self, number: usize, ready: bool) {
        for condition in self.pods["items"][number]["status"]["conditions"].as_array_mut().unwrap()
        {
            if condition["type"] == "Ready" {
                condition["status"] = if ready { "True" } else { "False" }.into();
            }
        }
    }
}

fn place_on_any_linux(set: &mut Value) {
    let template = &mut set["spec"]["template"]["spec"];
    template["tolerations"] = json!([{"operator": "Exists"}]);
    template["affinity"] = Value::Null;
    template["nodeSelector"] = json!({"kubernetes.io/os": "linux"});
}

/// A pod of this DaemonSet, made of a recorded pod.
fn pod_of(set: &Value, template: &Value, number: usize) -> Value {
    let mut pod = template.clone();
    let (name, uid) = (&set["metadata"]["name"], &set["metadata"]["uid"]);
    let metadata = &mut pod["metadata"];
    metadata["namespace"] = set["metadata"]["namespace"].clone();
    metadata["name"] = json!(format!("{}-x", name.as_str().unwrap()));
    metadata["uid"] = json!(format!("pod-{number}"));
    let owner = &mut metadata["ownerReferences"][0];
    (owner["name"], owner["uid"]) = (name.clone(), uid.clone());
    pod
}

fn list(kind: &str, version: &str, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_any_size_can_be_all_ready() {
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
