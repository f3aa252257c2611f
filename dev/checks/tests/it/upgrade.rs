//! deploy/upgrade: manifests of the Go generations before and after. Their marks must account for
//! every changed line, and the programs must run with them. It does not know the Go programs.

use std::collections::BTreeMap;
use std::fs;

use crate::shell;
use serde::Deserialize;
use serde_json::Value;
use testkit::api::{Api, pods_ready};
use testkit::http::Request;
use testkit::program::Program;
use testkit::{CEILING, eventually, skip};

#[test]
fn the_marks_account_for_every_line() {
    for generation in ["1.x", "2.x"] {
        let [before, after] = ["before", "after"].map(|when| text(generation, when));
        let was: Vec<String> = after.lines().filter_map(undone).collect();
        let before: Vec<&str> = before.lines().collect();
        assert_eq!(was, before, "{generation}");
        let version = format!(":{} # was", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            after.matches(&version).count(),
            3,
            "{generation}: the three images are those of this version"
        );
    }
}

/// The line of the old file for this line of the new file.
fn undone(line: &str) -> Option<String> {
    let indent = &line[..line.len() - line.trim_start().len()];
    if let Some(gone) = line.trim_start().strip_prefix("# gone: ") {
        Some(format!("{indent}{gone}"))
    } else if line.ends_with(" # new")
        || (line.trim_start().starts_with("# ") && !indent.is_empty())
    {
        None
    } else if let Some((_, was)) = line.split_once(" # was: ") {
        Some(format!("{indent}{was}"))
    } else {
        Some(line.to_string())
    }
}

/// A whole start: health answers, lock sees it, init gets a lease, with the old lines and with the
/// new.
#[test]
fn the_programs_run_with_the_files_of_both_generations() {
    if Program::static_dir().is_none() {
        skip("PSL_TEST_BIN_DIR does not say where the static binaries are");
        return;
    }
    for (generation, when) in
        [("1.x", "before"), ("1.x", "after"), ("2.x", "before"), ("2.x", "after")]
    {
        let what = format!("{generation} {when}");
        let containers = containers(generation, when);
        let find =
            |program: &str| containers.iter().find(|one| one.program == program).expect(program);

        let api = Api::start(shell::root().join("health/tests/data/answers"));
        api.open(true);
        // The only DaemonSet on the host network that is not ready.
        api.edit("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a", |pods| {
            assert_eq!(pods_ready(pods, "node-exporter", true), 1);
        });
        let mut health = find("health")
            .with(&[("--port", "0")])
            .env("PSL_BIND_PORT", "0")
            .env("PSL_BIND_HOST", "127.0.0.1");
        health = health.env("PSL_K8S_API_URL", api.url());
        let mut health = health.start();
        let healthy = eventually(&what, CEILING, || {
            let reply = Request::get("/").send(health.addr(), CEILING).unwrap();
            (reply.status == 200).then_some(reply)
        });
        assert_eq!(
            healthy.first_line(),
            "HealthCheck OK",
            "no DaemonSet of the recorded cluster is on the host network"
        );

        let check = format!("http://{}/", health.addr());
        let lock = find("lock").with(&[("--port", "0"), ("--check", &check)]);
        let lock = lock.env("PSL_BIND_PORT", "0").env("PSL_BIND_HOST", "127.0.0.1");
        let lock = if generation == "2.x" { lock.env("PSL_HC_ENDPOINTS", &check) } else { lock };
        let mut lock = lock.start();

        let port = lock.addr().port().to_string();
        let init = find("init")
            .with(&[("--host", "127.0.0.1")])
            .env("PSL_LOCK_HOST", "127.0.0.1")
            .env("PSL_LOCK_PORT", port);
        let ended = init.run(CEILING * 2).expect_code(0);
        assert!(ended.stderr.contains("lock acquired"), "{what}: {ended}");
        let wanted = if generation == "1.x" { "duration=20s" } else { "duration=30s" };
        // The duration is that of the file. A thread of its own writes the log.
        lock.wait_for_text(wanted, CEILING);
    }
}

/// A container of the manifests: its program, and its environment and arguments from Kubernetes.
struct Container {
    program: &'static str,
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Container {
    /// With other values for some flags, which these files write as separate words.
    fn with(&self, other: &[(&str, &str)]) -> Program {
        let mut args = self.args.clone();
        for at in 1..args.len() {
            if let Some((_, value)) = other.iter().find(|(flag, _)| *flag == args[at - 1]) {
                args[at] = (*value).to_string();
            }
        }
        self.env.iter().fold(Program::new(self.program).args(args), |program, (name, value)| {
            // The test's own value takes its place.
            if ["PSL_BIND_PORT", "PSL_HC_ENDPOINTS", "PSL_LOCK_HOST", "PSL_LOCK_PORT"]
                .contains(&name.as_str())
            {
                program
            } else {
                program.env(name, value)
            }
        })
    }
}

fn containers(generation: &str, when: &str) -> Vec<Container> {
    let objects: Vec<Value> = yaml_serde::Deserializer::from_str(&text(generation, when))
        .map(|document| {
            serde_json::to_value(yaml_serde::Value::deserialize(document).unwrap()).unwrap()
        })
        .collect();
    let map = |name: &str| {
        let map = objects
            .iter()
            .find(|one| one["kind"] == "ConfigMap" && one["metadata"]["name"] == name)
            .expect(name);
        serde_json::from_value::<BTreeMap<String, String>>(map["data"].clone()).unwrap()
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for spec in objects.iter().map(|object| &object["spec"]["template"]["spec"]) {
        for container in list(&spec["initContainers"]).iter().chain(&list(&spec["containers"])) {
            let image = container["image"].as_str().unwrap().rsplit('/').next().unwrap();
            let program = match image.split(':').next().unwrap() {
                "psl-lock" => "lock",
                "psl-init" => "init",
                "psl-k8s-health" | "psl-health" => "health",
                _ => continue,
            };
            let mut env = BTreeMap::new();
            for source in list(&container["envFrom"]) {
                env.extend(map(source["configMapRef"]["name"].as_str().unwrap()));
            }
            for one in list(&container["env"]) {
                // These files use only one field of the pod, its node; the recorded cluster has
                // node-a.
                let value = one["value"].as_str().unwrap_or("node-a");
                env.insert(one["name"].as_str().unwrap().to_string(), value.to_string());
            }
            let args = list(&container["args"])
                .iter()
                .map(|arg| arg.as_str().unwrap().to_string())
                .collect();
            found.push(Container { program, args, env });
        }
    }
    found
}

fn text(generation: &str, when: &str) -> String {
    fs::read_to_string(shell::root().join(format!("deploy/upgrade/{generation}.{when}.yaml")))
        .unwrap()
}
