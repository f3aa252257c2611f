//! Clusters that take much memory: many DaemonSets or pods, each with a large placement. Does not
//! know the program under test.

use serde_json::{Value, json};

use crate::api::Api;

const DAEMONSETS: &str = "/apis/apps/v1/daemonsets";
const PODS: &str = "/api/v1/pods";
const NODE: &str = "/api/v1/nodes/node-a";

/// A cluster whose objects are heavy in one way.
pub struct Heavy {
    pub name: &'static str,
    sets: usize,
    /// The template of the DaemonSet with this number.
    template: fn(usize) -> Value,
    /// The length of its name.
    length: usize,
    pods: usize,
    on_node: usize,
}

const LIGHT: Heavy = Heavy {
    name: "20,000 light DaemonSets",
    sets: 20_000,
    template: |_| json!({}),
    length: 12,
    pods: 0,
    on_node: 0,
};

/// The first has 1.9 MB of DaemonSets.
pub const ALL: [Heavy; 7] = [
    Heavy {
        name: "9,000 DaemonSets of ten selector entries",
        sets: 9_000,
        template: selector,
        ..LIGHT
    },
    Heavy {
        name: "9,000 DaemonSets of ten tolerations",
        sets: 9_000,
        template: tolerations,
        ..LIGHT
    },
    Heavy { name: "9,000 DaemonSets with long affinity", sets: 9_000, template: affinity, ..LIGHT },
    LIGHT,
    Heavy { name: "9,000 DaemonSets with the longest names", sets: 9_000, length: 253, ..LIGHT },
    Heavy { name: "4,000 pods with many labels", sets: 1_000, pods: 4_000, ..LIGHT },
    Heavy {
        name: "everything at once",
        sets: 9_000,
        template: |number| [selector, tolerations, affinity][number % 3](number),
        length: 100,
        pods: 4_000,
        on_node: 1_000,
    },
];

fn selector(number: usize) -> Value {
    let entries = (0..10).map(|key| (format!("k{key}"), json!(format!("v{number}")))).collect();
    json!({"nodeSelector": Value::Object(entries)})
}

fn tolerations(number: usize) -> Value {
    let one = |key: usize| json!({"key": format!("example.org/key-{key}"), "value": format!("v{number}"), "effect": "NoExecute"});
    json!({"tolerations": (0..10).map(one).collect::<Vec<_>>(), "nodeSelector": {"pool": "another"}})
}

fn affinity(number: usize) -> Value {
    let values: Vec<_> =
        (0..10).map(|value| format!("node-{number}-{value}.example.org")).collect();
    let one = |key: usize| json!({"key": format!("example.org/label-{key}"), "operator": "In", "values": values});
    let terms: Vec<_> = (0..3).map(|key| json!({"matchExpressions": [one(key)]})).collect();
    let required =
        json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
    json!({"affinity": {"nodeAffinity": required}})
}

fn set(number: usize, length: usize, template: fn(usize) -> Value) -> Value {
    let uid = format!("00000000-0000-4000-8000-{number:012}");
    let width = length - 1;
    let metadata = json!({"namespace": "crowd", "name": format!("d{number:0width$}"), "uid": uid});
    let mut spec = template(number);
    if spec.as_object().is_some_and(serde_json::Map::is_empty) {
        spec["nodeSelector"] = json!({"pool": "another"});
    }
    json!({"metadata": metadata, "spec": {"template": {"spec": spec}}})
}

fn pod(number: usize, pod: &mut Value) {
    let owner = &mut pod["metadata"]["ownerReferences"][0];
    owner["name"] = json!(format!("d{:0200}", number / 2));
    owner["uid"] = json!(format!("00000000-0000-4000-9000-{:012}", number / 2));
    pod["metadata"]["namespace"] = json!("crowd");
    let texts = |length: usize| -> Value {
        let pairs =
            (0..15).map(|key| (format!("example.org/{key:040}"), json!("x".repeat(length))));
        Value::Object(pairs.collect())
    };
    (pod["metadata"]["labels"], pod["metadata"]["annotations"]) = (texts(60), texts(200));
}

impl Heavy {
    /// Makes the API server show this cluster. The last DaemonSet is one of the recorded cluster.
    pub fn put(&self, api: &Api) {
        let last = api.recorded("daemonsets-all")["items"][3].clone();
        let Heavy { sets, template, length, .. } = *self;
        api.big_list(DAEMONSETS, sets, false, move |number, item| {
            *item = if number + 1 == sets { last.clone() } else { set(number, length, template) };
        });
        if self.pods > 0 {
            api.big_list(PODS, self.pods, false, pod);
        }
        if self.on_node > 0 {
            api.edit(NODE, |node| {
                for number in 0..self.on_node {
                    node["metadata"]["labels"][format!("example.org/label-{number:040}")] = json!("x".repeat(63));
                }
                let taint = |number: usize| json!({"key": format!("t-{number:060}"), "value": "x".repeat(63), "effect": "NoExecute"});
                node["spec"]["taints"] = json!((0..self.on_node).map(taint).collect::<Vec<_>>());
                let conditions = node["status"]["conditions"].as_array_mut().unwrap();
                let condition = |number: usize| json!({"type": format!("Example-{number}"), "status": "True", "message": "x".repeat(1000)});
                conditions.extend((0..self.on_node).map(condition));
            });
        }
    }

    /// The number of DaemonSets.
    pub fn sets(&self) -> usize {
        self.sets
    }
}
