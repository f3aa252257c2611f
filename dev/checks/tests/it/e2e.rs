//! `scripts/e2e.sh` without a cluster: against a kubectl and a nodes' tool that record their calls.
//! Does not know the results of the scenarios on a real cluster.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell;
use crate::shell::{Checkout, Ended, run};
use rustix::process::{Pid, Signal, kill_process};
use testkit::{CEILING, eventually};

#[test]
fn a_mistake_in_the_words_asks_no_cluster() {
    let stand = Stand::new("");
    let cases = [
        ("now", "unknown option 'now'"),
        ("--scenario herd", "unknown option '--scenario'"),
        ("--only", "--only needs a value"),
        ("--only=", "--only needs a value"),
        ("--only everything", "--only: 'everything' is not a scenario; accepted: install overlays"),
        ("--seconds 0", "--seconds: '0' is not accepted; accepted: 1 to 840"),
        ("--seconds 841", "--seconds: '841' is not accepted"),
        ("--seconds 1m", "--seconds: '1m' is not accepted"),
        ("--nodes-tool nowhere", "--nodes-tool: 'nowhere' has no executable node.sh"),
        ("--load --with --registry registry.example", "--load and --registry exclude each other"),
    ];
    for (words, why) in cases {
        let ended = stand.e2e(words).with(2);
        assert!(
            ended.stderr.contains(why) && ended.stderr.lines().count() == 1,
            "{words}: {}",
            ended.stderr
        );
        assert!(
            ended.stdout.is_empty() && stand.asked().is_empty(),
            "{words}: {:?}",
            stand.asked()
        );
    }
}

#[test]
fn help_and_list_need_no_cluster() {
    let stand = Stand::new("");
    let help = stand.e2e("--help").ok();
    for option in [
        "--list",
        "--only",
        "--load",
        "--registry",
        "--nodes-tool",
        "--seconds",
        "--keep",
        "control.sh pause|go",
    ] {
        assert!(help.contains(option), "{option}\n{help}");
    }
    assert!(help.lines().all(|line| line.len() <= 100 && !line.contains("set -eu")), "{help}");
    let list = stand.e2e("--list").ok();
    let functions: String = ["install", "injection", "herd", "node", "stuck"]
        .map(|file| {
            fs::read_to_string(shell::root().join(format!("scripts/e2e/{file}.sh"))).unwrap()
        })
        .concat();
    for line in list.lines() {
        let (name, bound) = line.split_once(' ').unwrap();
        assert!(bound.parse::<u32>().unwrap() <= 300, "{line}");
        assert!(
            functions.contains(&format!("\nscenario_{}() {{\n", name.replace('-', "_"))),
            "{line}"
        );
    }
    assert_eq!(
        functions.matches("\nscenario_").count(),
        list.lines().count(),
        "a scenario that is in no list"
    );
    assert!(stand.asked().is_empty());
}

#[test]
fn a_cluster_that_is_not_named_or_not_there_is_left_alone() {
    let stand = Stand::new("");
    let mut command = stand.command();
    let ended = run(command.env_remove("KUBECONFIG")).with(3);
    assert!(ended.stderr.contains("KUBECONFIG is not set"), "{}", ended.stderr);
    assert!(stand.asked().is_empty());

    let stand = Stand::new("*'--raw /readyz') echo 'connection refused' >&2; exit 1 ;;");
    let ended = stand.e2e("").with(3);
    assert!(
        ended.stderr.contains("cannot reach the cluster: connection refused"),
        "{}",
        ended.stderr
    );
    assert_eq!(stand.changed(), Vec::<String>::new());
}

#[test]
fn a_cluster_with_a_lock_is_refused() {
    let cases = [
        (
            "by its label",
            "'get daemonsets'*) echo 'shop/gate pod-startup-lock registry.example/gate:1' ;;",
            "shop/gate",
        ),
        (
            "by its image",
            "'get daemonsets'*) echo 'psl/any  registry.example/psl-lock:2.0.1' ;;",
            "psl/any",
        ),
        (
            "what a lock left",
            "*'get namespaces,'*) echo 'Role kube-system pod-startup-lock-health' ;;",
            "kube-system",
        ),
        (
            "what a run left",
            "*'get namespaces,'*) echo 'Namespace - psl-e2e-herd psl-e2e=made' ;;",
            "psl-e2e-herd",
        ),
        (
            "no answer",
            "'get daemonsets'*) echo forbidden >&2; exit 1 ;;",
            "cannot list DaemonSets: forbidden",
        ),
        (
            "no whole answer",
            "*'get namespaces,'*) echo forbidden >&2; exit 1 ;;",
            "cannot list the objects of the cluster: forbidden",
        ),
    ];
    for (case, answer, why) in cases {
        let stand = Stand::new(answer);
        let ended = stand.e2e("").with(1);
        assert!(
            ended.stderr.contains(why) && ended.stdout.is_empty(),
            "{case}: {}{}",
            ended.stderr,
            ended.stdout
        );
        assert_eq!(stand.changed(), Vec::<String>::new(), "{case}");
    }
    // An application that only uses a lock is no lock.
    let stand = Stand::new(
        "'get daemonsets'*) echo 'shop/web  registry.example/psl-init:1' ;; *'get nodes'*) echo node-a ;;",
    );
    stand.e2e("--only nodes").with(0);
}

#[test]
fn a_scenario_that_cannot_be_played_is_skipped_with_its_reason() {
    let stand = Stand::new("*'get nodes'*) echo node-a ;;");
    let said = stand.e2e("--only nodes --only reboot --only api-hung").ok();
    for line in [
        "nodes: skipped: needs two nodes",
        "reboot: skipped: needs --nodes-tool",
        "api-hung: skipped: needs --nodes-tool",
        "0 passed, 0 failed, 3 skipped",
    ] {
        assert!(said.lines().any(|other| other == line), "no {line:?} in\n{said}");
    }
}

#[test]
fn a_failure_is_told_in_one_line_and_everything_is_removed() {
    let stand =
        Stand::new("*'--raw /readyz'*) ;; *'apply -f'*) echo 'quota exceeded' >&2; exit 1 ;;");
    let ended = stand.e2e("--only install --load --with").with(1);
    assert!(
        ended.stdout.contains("install: failed: scripts/deploy.sh cannot load or push the images"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.ends_with("\n0 passed, 1 failed, 0 skipped\n"), "{}", ended.stdout);
    assert!(ended.stderr.contains("--with needs a value"), "what deploy.sh said\n{}", ended.stderr);
    stand.removed_everything();
}

#[test]
fn what_cannot_be_removed_is_a_failure() {
    // It exists only after the first scenario has begun.
    let stand = Stand::new(
        "*'get namespaces,'*) [ ! -f \"$RECORD.later\" ] || echo 'Secret shop psl-e2e-token' ;; *'get nodes'*) : >\"$RECORD.later\"; echo node-a ;;",
    );
    let ended = stand.e2e("--only nodes").with(1);
    assert!(
        ended
            .stdout
            .contains("cleanup: failed: objects remain in the cluster: Secret shop psl-e2e-token"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.ends_with("\n0 passed, 1 failed, 1 skipped\n"), "{}", ended.stdout);
}

#[test]
fn no_scenario_outlives_its_bound() {
    let stand = Stand::new(
        "'get daemonsets --ignore'*) exec sleep 100 ;; *'daemonsets --ignore-not-found'*) exec sleep 100 ;;",
    );
    stand.loaded();
    let begun = Instant::now();
    let ended = stand.e2e("--seconds 2 --only gate --only herd --load --with=docker").with(1);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let gate = ended.stdout.lines().next().unwrap();
    assert!(gate.starts_with("gate: failed: not finished after "), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("herd: failed: not run: the time limit of 2 s is over"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.ends_with("\n0 passed, 2 failed, 0 skipped\n"), "{}", ended.stdout);
    stand.removed_everything();
}

#[test]
fn a_signal_ends_what_runs_and_everything_is_removed() {
    let stand = Stand::new(
        "*'daemonsets --ignore-not-found'*) echo $$ >\"$RECORD.waits\"; exec sleep 100 ;;",
    );
    stand.loaded();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        stand.forget();
        let mut script = stand.begin("--only gate --load --with=docker");
        let sleeper = eventually("kubectl waits", CEILING, || {
            stand.read("record.waits").filter(|pid| pid.ends_with('\n'))
        });
        kill_process(Pid::from_child(&script), signal).unwrap();
        let ended = eventually("the script ends", CEILING, || script.try_wait().unwrap());
        assert_eq!(ended.code(), Some(code));
        let process = PathBuf::from(format!("/proc/{}", sleeper.trim()));
        eventually("the waiting kubectl is gone", CEILING, || (!process.exists()).then_some(()));
        stand.removed_everything();
    }
}

/// The API server is back before any other request.
#[test]
fn a_signal_gives_the_api_server_back() {
    let stand = Stand::new(STANDING);
    stand.tool("tool/node.sh", "");
    stand.tool("tool/control.sh", "[ \"$1\" != stop ] || : >\"$RECORD.stopped\"");
    stand.loaded();
    let mut script = stand.begin("--only api-stopped --nodes-tool tool --load --with=docker");
    eventually("the API server is stopped", CEILING, || stand.read("record.stopped"));
    kill_process(Pid::from_child(&script), Signal::TERM).unwrap();
    eventually("the script ends", CEILING, || script.try_wait().unwrap());
    let asked = stand.asked();
    let stopped = asked.iter().position(|line| line == "control.sh stop kube-apiserver").unwrap();
    let after: Vec<_> = asked.iter().skip(stopped + 1).map(String::as_str).collect();
    assert_eq!(
        after.get(..2).unwrap(),
        ["control.sh go kube-apiserver", "control.sh start kube-apiserver"],
        "{after:?}"
    );
    stand.removed_everything();
}

#[test]
fn a_tool_that_cannot_do_this_skips_the_scenario() {
    let stand = Stand::new(STANDING);
    stand.tool("tool/node.sh", "");
    stand.loaded();
    for (code, line) in [
        (77, "api-hung: skipped: the nodes' tool cannot pause the API server"),
        (9, "api-hung: failed: the nodes' tool failed to pause the API server: exit code 9"),
    ] {
        stand.tool("tool/control.sh", &format!("exit {code}"));
        let ended = stand.e2e("--only api-hung --nodes-tool tool --load --with=docker");
        assert!(ended.stdout.starts_with(line), "{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(if code == 77 { 0 } else { 1 }));
    }
}

/// A new command in the document is noticed without a cluster.
#[test]
fn every_command_for_stuck_pods_has_its_check() {
    let stand = Stand::new("");
    let script = ". scripts/e2e/stuck.sh; E2E_SCRATCH=.; take_away=''; undo=''
        for name in written printed forward shop_starts shut_gate eventually undone_by one_lease load_again; do eval \"$name() { :; }\"; done
        fail() { echo \"$1\"; exit 1; }
        stuck_commands >commands; while read -r line; do stuck_command \"$line\"; done <commands; wc -l <commands";
    let commands = run(stand.checkout.command("sh").args(["-c", script])).ok();
    assert!(commands.trim().parse::<u32>().unwrap() >= 14, "{commands}");
    fs::write(stand.path("docs/operations.md"), "## When it is stuck\n\n`kubectl drain NODE`\n")
        .unwrap();
    let said = run(stand.checkout.command("sh").args(["-c", script])).with(1).stdout;
    assert_eq!(
        said,
        "docs/operations.md has a command without a check in scripts/e2e/stuck.sh: kubectl drain NODE\n"
    );
}

/// The application's image goes to the nodes in the same way, without the images of the lock.
#[test]
fn deploy_brings_one_image_alone() {
    let stand = Stand::new("");
    stand.tool("bin/docker", "");
    for program in ["lock", "init", "health", "e2e"] {
        let version = env!("CARGO_PKG_VERSION");
        fs::write(stand.path("index.json"), format!("\"localhost/psl-{program}:{version}\""))
            .unwrap();
        let archive = format!("dist/images/psl-{program}-amd64.tar");
        run(stand.checkout.command("tar").args(["-cf", &archive, "index.json"])).ok();
    }
    let deploy = |words: &str| {
        let mut command = stand.within(stand.checkout.command("scripts/deploy.sh"));
        run(command.args(words.split_whitespace()))
    };
    let printed = deploy("load --with docker --arch amd64 --program e2e --dry-run").ok();
    assert!(printed.contains("psl-e2e-amd64.tar") && printed.lines().count() == 1, "{printed}");
    let printed = deploy("load --with docker --arch amd64 --dry-run").ok();
    assert!(!printed.contains("psl-e2e") && printed.lines().count() == 3, "{printed}");
    let ended = deploy("load --program all").with(2);
    assert!(
        ended
            .stderr
            .contains("--program: 'all' is not accepted; accepted: lock, init, health, e2e"),
        "{ended:?}"
    );
}

// ---- the stand-ins ----

/// A cluster with the lock that scenarios share, its gates open, and watching pods that see only
/// 200.
const STANDING: &str = "*'daemonsets --ignore-not-found'*) echo 'standing standing' ;; \
    *proxy/state) echo '\"gate\":{\"open\":true,\"overridden\":false' ;; \
    *logs*) printf 'p 1 a 200\\np 1 b 200\\n' ;;";

struct Stand {
    checkout: Checkout,
}

impl Stand {
    /// With a kubectl that answers with these cases of `case`, and else as an empty cluster.
    fn new(cases: &str) -> Stand {
        let stand = Stand { checkout: Checkout::new() };
        run(Command::new("cp")
            .arg("-R")
            .arg(shell::root().join("docs"))
            .arg(stand.checkout.path()))
        .ok();
        fs::create_dir_all(stand.path("dist/images")).unwrap();
        for program in ["lock", "init", "health", "e2e"] {
            fs::write(stand.path(&format!("dist/images/psl-{program}-amd64.tar")), "").unwrap();
        }
        let always = "*architecture}*) echo amd64 ;;";
        let empty =
            "api-resources*) echo namespaces; echo secrets ;; *'get nodes'*) echo node-a ;;";
        stand.tool("bin/kubectl", &format!("case \"$*\" in {always} {cases} {empty} esac"));
        stand
    }

    /// With a docker that loads every image, and a deploy.sh that records its call.
    fn loaded(&self) {
        self.tool("bin/docker", "");
        fs::write(
            self.path("scripts/deploy.sh"),
            "#!/bin/sh\nprintf '%s\\n' \"deploy.sh $*\" >>\"$RECORD\"\n",
        )
        .unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.checkout.join(name)
    }

    /// A command that records its call and then does this.
    fn tool(&self, name: &str, body: &str) {
        self.checkout.recorder(name, body);
    }

    fn command(&self) -> Command {
        self.within(self.checkout.command("scripts/e2e.sh"))
    }

    fn within(&self, mut command: Command) -> Command {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command
            .env("PATH", path)
            .env("RECORD", self.path("record"))
            .env("KUBECONFIG", self.path("none"));
        command
    }

    fn e2e(&self, words: &str) -> Ended {
        run(self.command().args(words.split_whitespace()))
    }

    fn begin(&self, words: &str) -> Child {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(words.split_whitespace()).spawn().unwrap()
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    fn asked(&self) -> Vec<String> {
        self.read("record").unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn changed(&self) -> Vec<String> {
        let verbs = ["apply", "create", "delete", "label", "annotate", "patch", "set"];
        let changes =
            |line: &String| verbs.iter().any(|verb| line.split(' ').any(|word| word == *verb));
        self.asked().into_iter().filter(changes).collect()
    }

    #[track_caller]
    fn removed_everything(&self) {
        let asked = self.asked();
        for call in [
            "kubectl delete namespaces --selector psl-e2e",
            "kubectl delete namespace pod-startup-lock --ignore-not-found",
            "kubectl delete clusterroles,clusterrolebindings pod-startup-lock-health --ignore-not-found",
            "kubectl --namespace kube-system delete roles,rolebindings pod-startup-lock-health --ignore-not-found",
        ] {
            assert!(asked.iter().any(|line| line == call), "no {call:?} in\n{asked:#?}");
        }
        assert!(
            asked.last().unwrap().starts_with("kubectl get namespaces,secrets --all-namespaces"),
            "{asked:#?}"
        );
    }

    fn forget(&self) {
        for name in ["record", "record.waits"] {
            // Without a call the file does not exist.
            let _ = fs::remove_file(self.path(name));
        }
    }
}
