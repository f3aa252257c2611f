//! The image archives of `scripts/image.sh`: their files, their size, that they have the same bytes
//! each time, and the tools that load them. With a Docker engine, the three programs run from them
//! as the manifests run them. It does not know a cluster.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, UNIX_EPOCH};

use crate::shell;
use crate::shell::{Checkout, Ended, PROGRAMS, answers, run};
use serde_json::{Value, json};
use testkit::api::Api;
use testkit::heavy::{self, Heavy};
use testkit::http::Request;
use testkit::scratch::Scratch;
use testkit::{CEILING, eventually, skip};

/// The limit of an image in bytes, compressed as in a registry.
const COMPRESSED: usize = 1_000_000;

// ---- the files of the archives ----

#[test]
fn an_archive_leads_from_both_entry_points_to_the_same_blobs() {
    let Some(checkout) = archives("0.0.1-test") else { return };
    for program in PROGRAMS {
        let archive = Archive::open(&checkout, &format!("psl-{program}-amd64.tar"));
        let index = archive.json("index.json");
        let entry = &index["manifests"][0];
        let name = format!("localhost/psl-{program}:0.0.1-test");
        assert_eq!(entry["annotations"]["io.containerd.image.name"], name);
        assert_eq!(entry["platform"], json!({"architecture": "amd64", "os": "linux"}));
        let manifest = archive.blob(entry);
        let [layer] = manifest["layers"].as_array().unwrap().as_slice() else {
            panic!("one layer: {manifest}")
        };
        let config = archive.blob(&manifest["config"]);
        assert_eq!(config["rootfs"]["diff_ids"], json!([layer["digest"]]), "not compressed");

        let [config_file, layer_file] =
            [&manifest["config"], layer].map(|blob| Archive::file(&blob["digest"]));
        let docker = json!([{"Config": config_file, "RepoTags": [name], "Layers": [layer_file]}]);
        assert_eq!(archive.json("manifest.json"), docker);

        let listing = archive.bytes(&layer_file).listing();
        assert!(
            listing.starts_with("-rwxr-xr-x 0/0 ")
                && listing.trim_end().ends_with(&format!(" {program}"))
        );
        assert_eq!(listing.lines().count(), 1, "one file: {listing}");
        let built = fs::read(checkout.join(&format!("dist/amd64/{program}"))).unwrap();
        assert_eq!(archive.bytes(&layer_file).content(program), built, "{program}");
    }
}

#[test]
fn the_configuration_says_who_runs_and_what_it_was_made_of() {
    let Some(checkout) = archives("0.0.1-test") else { return };
    for (program, port) in
        [("lock", Some("8888/tcp")), ("init", None), ("health", Some("9999/tcp"))]
    {
        let archive = Archive::open(&checkout, &format!("psl-{program}-amd64.tar"));
        let config = archive.config();
        assert_eq!(config["os"], "linux");
        assert_eq!(config["architecture"], "amd64");
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!([format!("/{program}")]));
        let ports = port.map_or(Value::Null, |port| json!({port: {}}));
        assert_eq!(config["config"]["ExposedPorts"], ports);
        let built =
            fs::read_to_string(checkout.join(&format!("dist/amd64/{program}.built"))).unwrap();
        let labels = &config["config"]["Labels"];
        for (key, label) in [
            ("commit", "org.opencontainers.image.revision"),
            ("rustc", "pod-startup-lock/rustc"),
            ("cc", "pod-startup-lock/cc"),
            ("ld", "pod-startup-lock/ld"),
        ] {
            let line =
                built.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).expect(key);
            assert!(!line.is_empty(), "{built}");
            assert_eq!(labels[label], line, "{program}");
        }
        assert_eq!(labels["org.opencontainers.image.created"], config["created"]);
    }
}

#[test]
fn the_same_programs_give_the_same_bytes_and_few_of_them() {
    let Some(checkout) = archives("0.0.1-test") else { return };
    let read = |program: &str| {
        fs::read(checkout.join(&format!("dist/images/psl-{program}-amd64.tar"))).unwrap()
    };
    let first = PROGRAMS.map(read);
    for program in PROGRAMS {
        // The differences of two machines: times and modes of files, the language, and a
        // directory's setgid bit, which new files inherit.
        let file = checkout.join(&format!("dist/amd64/{program}"));
        run(Command::new("touch").arg("-d").arg("2001-01-01").arg(&file)).ok();
        run(Command::new("chmod").arg("700").arg(&file)).ok();
    }
    let shared = checkout.join("shared");
    fs::create_dir(&shared).unwrap();
    run(Command::new("chmod").arg("2777").arg(&shared)).ok();
    let mut again = checkout.command("scripts/image.sh");
    again.args(["--tag", "0.0.1-test"]).env("TMPDIR", shared).env("TAR_OPTIONS", "--xattrs");
    run(again.env("LC_ALL", "C.UTF-8").env("TZ", "Asia/Tokyo")).ok();
    assert!(first == PROGRAMS.map(read), "not the same bytes the second time");
    for program in PROGRAMS {
        let file = checkout.join(&format!("dist/images/psl-{program}-amd64.tar"));
        let sizes = "gzip -9c \"$1\" | wc -c";
        let size: usize =
            run(Command::new("sh").args(["-c", sizes, "-"]).arg(file)).ok().trim().parse().unwrap();
        assert!(
            size < COMPRESSED,
            "psl-{program} has {size} bytes compressed, the bound is {COMPRESSED}"
        );
    }
}

/// Both architectures in one archive. The second has the programs of the first here: image.sh does
/// not read them.
#[test]
fn an_index_names_both_architectures() {
    let Some(checkout) = Checkout::with_programs() else { return };
    run(checkout.command("cp").args(["-R", "dist/amd64", "dist/arm64"])).ok();
    run(checkout.command("scripts/image.sh").args(["--index", "init"])).ok();
    let archive = Archive::open(&checkout, "psl-init.tar");
    let index = archive.blob(&archive.json("index.json")["manifests"][0]);
    let found: Vec<&Value> =
        index["manifests"].as_array().unwrap().iter().map(|one| &one["platform"]).collect();
    assert_eq!(
        json!(found),
        json!([{"architecture": "amd64", "os": "linux"}, {"architecture": "arm64", "os": "linux"}])
    );
    for one in index["manifests"].as_array().unwrap() {
        let config = archive.blob(&archive.blob(one)["config"]);
        assert_eq!(config["architecture"], one["platform"]["architecture"]);
    }

    let built = checkout.join("dist/arm64/init.built");
    let text = fs::read_to_string(&built).unwrap();
    let (commit, rest) = text.split_once('\n').unwrap();
    assert!(commit.starts_with("commit="), "{text}");
    fs::write(&built, format!("commit=another\n{rest}")).unwrap();
    let ended = run(checkout.command("scripts/image.sh").args(["--index", "init"])).with(1);
    assert!(ended.stderr.contains("dist/arm64/init of another"), "{}", ended.stderr);
}

#[test]
fn a_mistake_ends_with_one_line_and_makes_nothing() {
    let checkout = Checkout::new();
    let cases: [(&[&str], i32, &str); 8] = [
        (&[], 1, "dist/ has no programs"),
        (&["--tag"], 2, "--tag needs a value"),
        (&["--arch"], 2, "--arch needs a value"),
        (&["--tag", "--index"], 2, "--tag needs a value"),
        (&["server"], 2, "unknown argument 'server'"),
        (&["--arch", "mips"], 2, "unknown architecture 'mips'"),
        (&["--tag", "a b"], 2, "--tag: 'a b' is not accepted"),
        (&["--arch=amd64", "lock"], 1, "dist/amd64/lock is missing"),
    ];
    for (arguments, code, why) in cases {
        let ended = run(checkout.command("scripts/image.sh").args(arguments)).with(code);
        assert!(
            ended.stderr.contains(why) && ended.stderr.lines().count() == 1,
            "{arguments:?}: {ended:?}"
        );
        let made = fs::read_dir(checkout.join("dist/images")).map_or(0, Iterator::count);
        assert_eq!(made, 0, "{arguments:?}");
    }
}

// ---- tools that load them ----

#[test]
fn containerd_and_skopeo_load_the_archives() {
    let Some(checkout) = archives("0.0.1-test") else { return };
    if answers("skopeo", &["--version"]) {
        for kind in ["oci-archive", "docker-archive"] {
            let source =
                format!("{kind}:{}", checkout.join("dist/images/psl-init-amd64.tar").display());
            let shown = run(Command::new("skopeo").args(["inspect", &source])).ok();
            let shown: Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(shown["Labels"]["org.opencontainers.image.title"], "psl-init", "{kind}");
        }
    } else {
        skip("there is no skopeo to load the archives (Debian: apt-get install skopeo)");
    }
    let Some(containerd) = Containerd::start() else { return };
    for program in PROGRAMS {
        let archive = checkout.join(&format!("dist/images/psl-{program}-amd64.tar"));
        run(containerd.ctr().args(["images", "import", "--no-unpack"]).arg(archive)).ok();
    }
    let names = run(containerd.ctr().args(["images", "list", "--quiet"])).ok();
    let expected =
        ["health", "init", "lock"].map(|program| format!("localhost/psl-{program}:0.0.1-test"));
    assert_eq!(names.lines().collect::<Vec<_>>(), expected);
}

/// A containerd that runs no container; ended on drop.
struct Containerd {
    scratch: Scratch,
    process: Child,
}

impl Containerd {
    fn start() -> Option<Containerd> {
        if !answers("containerd", &["--version"])
            || !answers("ctr", &["--version"])
            || run(Command::new("id").arg("-u")).stdout.trim() != "0"
        {
            skip("there is no containerd with its ctr, or no root to start one");
            return None;
        }
        let scratch = Scratch::new();
        let settings = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        let config = scratch.file("config.toml", settings);
        let log = fs::File::create(scratch.join("log")).unwrap();
        let mut command = Command::new("containerd");
        command.arg("--config").arg(config).arg("--root").arg(scratch.join("root"));
        command
            .arg("--state")
            .arg(scratch.join("state"))
            .arg("--address")
            .arg(scratch.join("socket"));
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let containerd = Containerd { scratch, process };
        eventually("containerd to answer", CEILING, || {
            (run(containerd.ctr().arg("version")).code == Some(0)).then_some(())
        });
        Some(containerd)
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--timeout")
            .arg("5s")
            .arg("--address")
            .arg(self.scratch.join("socket"))
            .args(["--namespace", "k8s.io"]);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // It fails if containerd has ended, and a drop must not panic.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// ---- the programs in containers ----

#[test]
fn a_herd_goes_through_one_lock_that_is_stopped_and_started() {
    let Some(engine) = Engine::with_images("herd") else { return };
    engine.network();
    let lock =
        engine.server("lock", &["--network-alias", "lock"], &["--locks=1", "--timeout=200ms"]);
    let herd = engine.herd("first", 8);
    engine.all_acquired(&herd);

    engine.stops_within_a_second(&lock);
    let waiting = engine.herd("second", 3);
    for name in &waiting {
        eventually("an init to say why it waits", CEILING, || {
            engine.docker(&["logs", name]).stderr.contains("waiting for the lock").then_some(())
        });
    }
    engine.docker(&["start", &lock]).ok();
    engine.all_acquired(&waiting);

    engine.stops_within_a_second(&lock);
    let alone = engine.init("alone", &["--unreachable-wait=1s", "--attempt-timeout=300ms"]);
    assert_eq!(engine.docker(&["wait", &alone]).ok().trim(), "0");
    let log = engine.docker(&["logs", &alone]).stderr;
    assert!(log.contains("starting without the lock"), "{log}");

    for name in herd.iter().chain(&waiting).chain([&lock, &alone]) {
        engine.never_out_of_memory(name);
    }
}

#[test]
fn health_answers_from_a_container() {
    let Some(engine) = Engine::with_images("health") else { return };
    let api = Api::start(shell::root().join("health/tests/data/answers"));
    api.open(true);
    let url = api.url();
    let arguments = [
        "--host=127.0.0.1",
        "--port=0",
        "--node-name=node-a",
        "--ex=app:gpu-plugin",
        "--failHc=1s",
    ];
    let mut arguments: Vec<&str> = arguments.to_vec();
    arguments.extend(["--baseUrl", &url]);
    let health = engine.server("health", &["--network", "host"], &arguments);
    let log = engine.docker(&["logs", &health]).stderr;
    let address =
        log.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect(&log);
    let reply = eventually("a verdict", CEILING, || {
        let reply = Request::get("/").send(address.parse().unwrap(), CEILING).unwrap();
        reply.body.contains("node-exporter").then_some(reply)
    });
    assert_eq!(reply.status, 412, "one DaemonSet of the recorded cluster is not ready: {reply:?}");
    engine.never_out_of_memory(&health);
    engine.stops_within_a_second(&health);
}

/// All clusters at once: each container waits several seconds for its lists.
#[test]
fn health_keeps_within_its_container_whatever_the_cluster() {
    let Some(engine) = Engine::with_images("heavy") else { return };
    let engine = &engine;
    std::thread::scope(|all| {
        for (number, heavy) in heavy::ALL.iter().enumerate() {
            all.spawn(move || engine.keeps_health_within(&format!("health-{number}"), heavy));
        }
    });
}

/// The Dockerfile gives the images of image.sh, but for the times.
#[test]
fn the_dockerfile_gives_the_same_content() {
    let Some(engine) = Engine::with_images("recipe") else { return };
    let recipe = |program: &str| format!("localhost/psl-{program}:{}-recipe", engine.tag);
    for program in PROGRAMS {
        let mut build = engine.checkout.command("docker");
        build.env("DOCKER_BUILDKIT", "0").args([
            "build",
            "--file=deploy/Dockerfile",
            "--target",
            program,
        ]);
        run(build.args(["--tag", &recipe(program), "."])).ok();
    }
    let show = |image: &str| {
        ["User", "Entrypoint", "Cmd", "ExposedPorts"].map(|field| {
            let format = format!("{{{{json .Config.{field}}}}}");
            engine.docker(&["image", "inspect", "--format", &format, image]).ok()
        })
    };
    let shown = PROGRAMS.map(|program| (show(&recipe(program)), show(&engine.image(program))));
    // After all builds: each build begins with the stages of the one before.
    let _ = engine.docker(
        &[
            &["image", "rm", "--force"],
            PROGRAMS.map(recipe).each_ref().map(String::as_str).as_slice(),
        ]
        .concat(),
    );
    for (built, loaded) in shown {
        assert_eq!(built, loaded);
    }
}

/// A Docker engine with the images under a tag of this test; removes containers, network and images
/// on drop.
struct Engine {
    checkout: Checkout,
    tag: String,
}

impl Engine {
    fn with_images(test: &str) -> Option<Engine> {
        if !answers("docker", &["version", "--format", "{{.Server.Version}}"]) {
            skip("there is no Docker engine to run the images");
            return None;
        }
        let tag = format!("test-{test}-{}", std::process::id());
        let checkout = archives(&tag)?;
        let engine = Engine { checkout, tag };
        for program in PROGRAMS {
            let archive = engine.checkout.join(&format!("dist/images/psl-{program}-amd64.tar"));
            engine.docker(&["load", "--quiet", "--input", archive.to_str().unwrap()]).ok();
        }
        Some(engine)
    }

    fn docker(&self, arguments: &[&str]) -> Ended {
        run(Command::new("docker").args(arguments))
    }

    fn image(&self, program: &str) -> String {
        format!("localhost/psl-{program}:{}", self.tag)
    }

    fn network(&self) {
        self.docker(&["network", "create", &self.tag]).ok();
    }

    /// Starts a container as a hardened manifest does, and returns its name.
    fn start(
        &self,
        name: &str,
        program: &str,
        memory: &str,
        docker: &[&str],
        arguments: &[&str],
    ) -> String {
        let name = format!("{}-{name}", self.tag);
        let image = self.image(program);
        let mut words = vec!["run", "--detach", "--name", &name, "--label", &self.tag];
        words.extend([
            "--read-only",
            "--user",
            "65532",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
        ]);
        words.extend(["--memory", memory]);
        if !docker.contains(&"--network") {
            words.extend(["--network", &self.tag]);
        }
        words.extend(docker);
        words.push(&image);
        words.extend(arguments);
        self.docker(&words).ok();
        name
    }

    /// Starts lock or health, and waits until it listens.
    fn server(&self, program: &str, docker: &[&str], arguments: &[&str]) -> String {
        let name = self.start(program, program, "16m", docker, arguments);
        eventually("a server to listen", CEILING, || {
            self.docker(&["logs", &name]).stderr.contains("msg=listening").then_some(()).or_else(
                || self.docker(&["logs", &name]).stderr.contains("msg=\"listening\"").then_some(()),
            )
        });
        name
    }

    fn init(&self, name: &str, arguments: &[&str]) -> String {
        // init finds the lock by its name, as in a cluster.
        let mut words = vec!["--host=lock", "--pause=200ms"];
        words.extend(arguments);
        self.start(name, "init", "6m", &[], &words)
    }

    fn herd(&self, name: &str, count: usize) -> Vec<String> {
        let bounds = ["--max-wait=2m", "--unreachable-wait=1m", "--on-timeout=fail"];
        (0..count).map(|number| self.init(&format!("{name}-{number}"), &bounds)).collect()
    }

    fn all_acquired(&self, herd: &[String]) {
        for name in herd {
            let code = self.docker(&["wait", name]).ok();
            let log = self.docker(&["logs", name]).stderr;
            assert_eq!(code.trim(), "0", "{log}");
            assert!(log.contains("lock acquired"), "{log}");
        }
    }

    /// Without a handler for SIGTERM the end takes ten seconds. The engine's clock measures from
    /// the signal to the end; the start of its client would measure this machine.
    fn stops_within_a_second(&self, name: &str) {
        let now = || UNIX_EPOCH.elapsed().unwrap().as_secs();
        let since = now();
        self.docker(&["stop", name]).ok();
        let (since, until) = (since.to_string(), (now() + 1).to_string());
        let container = format!("container={name}");
        let mut events =
            vec!["events", "--since", &since, "--until", &until, "--filter", &container];
        events.extend(["--format", "{{.Action}} {{.TimeNano}}"]);
        let events = self.docker(&events).ok();
        let at = |action: &str| -> u64 {
            let line = events.lines().find_map(|line| line.strip_prefix(action)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {action}: {events}")).parse().unwrap()
        };
        let took = Duration::from_nanos(at("die") - at("kill"));
        eprintln!("{name}: ended {took:?} after SIGTERM");
        assert!(took < Duration::from_secs(1), "docker stop took {took:?}");
        let code = self.docker(&["inspect", "--format", "{{.State.ExitCode}}", name]).ok();
        assert_eq!(code.trim(), "0");
    }

    fn never_out_of_memory(&self, name: &str) {
        let killed = self
            .docker(&["inspect", "--format", "{{.State.OOMKilled}} {{.RestartCount}}", name])
            .ok();
        assert_eq!(killed.trim(), "false 0", "{name}");
    }

    /// health lists this cluster twice in a container of 16 MiB.
    fn keeps_health_within(&self, name: &str, heavy: &Heavy) {
        let api = Api::start(shell::root().join("health/tests/data/answers"));
        api.open(true);
        heavy.put(&api);
        let url = api.url();
        // health lists all again after 3 to 9 s.
        let arguments = [
            "--host=127.0.0.1",
            "--port=0",
            "--node-name=node-a",
            "--failHc=20s",
            "--passHc=100ms",
            "--baseUrl",
            &url,
        ];
        let health = self.start(name, "health", "16m", &["--network", "host"], &arguments);
        let asked =
            || api.requests().iter().filter(|asked| asked.path.ends_with("/daemonsets")).count();
        eventually("two lists and the next", 6 * CEILING, || {
            self.still_runs(&health);
            // Each attempt starts two processes, and several tests wait at the same time.
            std::thread::sleep(Duration::from_millis(200));
            (asked() >= 3).then_some(())
        });
        let log = self.docker(&["logs", &health]).stderr;
        let address = log
            .split("address=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .expect(&log);
        let address = address.parse().unwrap();
        let counts: u64 = eventually(heavy.name, 6 * CEILING, || {
            self.still_runs(&health);
            let state = Request::get("/state").send(address, CEILING).unwrap().json();
            Some(state["counts"].as_object()?.values().filter_map(Value::as_u64).sum())
        });
        assert_eq!(counts, heavy.sets() as u64, "{}", heavy.name);
        self.still_runs(&health);
        self.docker(&["rm", "--force", &health]).ok();
    }

    /// The log of a server that has ended early has the reason.
    fn still_runs(&self, name: &str) {
        self.never_out_of_memory(name);
        let running = self.docker(&["inspect", "--format", "{{.State.Running}}", name]).ok();
        assert_eq!(running.trim(), "true", "{}", self.docker(&["logs", name]).stderr);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The rest of a failed test must not stop the next one; a drop must not panic.
        let filter = format!("label={}", self.tag);
        let names = self.docker(&["ps", "--all", "--quiet", "--filter", &filter]).stdout;
        let names: Vec<&str> = names.split_whitespace().collect();
        if !names.is_empty() {
            let _ = self.docker(&[&["rm", "--force"], names.as_slice()].concat());
        }
        let _ = self.docker(&["network", "rm", &self.tag]);
        for program in PROGRAMS {
            let _ = self.docker(&["image", "rm", "--force", &self.image(program)]);
        }
    }
}

// ---- reading archives ----

/// A checkout in which image.sh has made archives with this tag.
fn archives(tag: &str) -> Option<Checkout> {
    let checkout = Checkout::with_programs()?;
    run(checkout.command("scripts/image.sh").args(["--tag", tag])).ok();
    Some(checkout)
}

/// A tar archive, unpacked.
struct Archive {
    unpacked: Scratch,
}

/// A tar archive within one.
struct Bytes<'a> {
    file: &'a Path,
    name: String,
}

impl Archive {
    fn open(checkout: &Checkout, name: &str) -> Archive {
        let unpacked = Scratch::new();
        let file = checkout.join(&format!("dist/images/{name}"));
        run(Command::new("tar").arg("-xf").arg(file).arg("-C").arg(unpacked.path())).ok();
        Archive { unpacked }
    }

    fn file(digest: &Value) -> String {
        format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.unpacked.join(name)).unwrap()).unwrap()
    }

    fn bytes(&self, name: &str) -> Bytes<'_> {
        Bytes { file: self.unpacked.path(), name: name.to_owned() }
    }

    /// The content of a descriptor, after a check of its digest and length.
    fn blob(&self, descriptor: &Value) -> Value {
        let file = self.unpacked.join(&Archive::file(&descriptor["digest"]));
        let sum = run(Command::new("sha256sum").arg(&file)).ok();
        assert_eq!(descriptor["digest"], format!("sha256:{}", &sum[..64]));
        assert_eq!(descriptor["size"], fs::metadata(&file).unwrap().len());
        self.json(&Archive::file(&descriptor["digest"]))
    }

    fn config(&self) -> Value {
        self.blob(&self.blob(&self.json("index.json")["manifests"][0])["config"])
    }
}

impl Bytes<'_> {
    fn listing(&self) -> String {
        run(Command::new("tar").arg("-tvf").arg(self.file.join(&self.name))).ok()
    }

    fn content(&self, member: &str) -> Vec<u8> {
        Command::new("tar")
            .arg("-xOf")
            .arg(self.file.join(&self.name))
            .arg(member)
            .output()
            .unwrap()
            .stdout
    }
}
