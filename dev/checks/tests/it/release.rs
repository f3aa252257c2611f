//! `scripts/release.sh` and `scripts/sbom.sh`: the conditions of a release, its files, and the
//! components of the programs. Stand-ins replace the long steps (tests, builds, crates).

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::shell;
use crate::shell::{Checkout, Ended, PROGRAMS, run};
use serde_json::Value;
use testkit::skip;

#[test]
fn a_release_holds_everything_with_checksums_and_twice_the_same() {
    let Some(release) = Release::new() else { return };
    release.make("0.1.0").with(0);
    let listing =
        || run(release.checkout.command("sh").args(["-c", "cd dist/0.1.0 && sha256sum *"])).ok();
    let first = listing();
    let names: BTreeSet<&str> =
        first.lines().map(|line| line.split("  ").nth(1).unwrap()).collect();
    let mut expected: BTreeSet<String> =
        ["SHA256SUMS", "crates.tar.gz", "source.tar.gz"].map(str::to_string).into();
    for program in PROGRAMS {
        expected.insert(format!("psl-{program}.tar"));
        for arch in ["amd64", "arm64"] {
            let endings = ["", ".tar", ".cdx.json"];
            expected.extend(endings.map(|ending| format!("psl-{program}-{arch}{ending}")));
        }
    }
    assert_eq!(names, expected.iter().map(String::as_str).collect());
    run(release
        .checkout
        .command("sh")
        .args(["-c", "cd dist/0.1.0 && sha256sum --check --strict SHA256SUMS"]))
    .ok();
    let packed = "tar -xzOf dist/0.1.0/source.tar.gz pod-startup-lock-0.1.0/scripts/commit.txt";
    let packed = run(release.checkout.command("sh").args(["-c", packed])).ok();
    let head = run(release.checkout.command("git").args(["log", "-1", "--format=%H %ct"])).ok();
    assert_eq!(packed, head, "the sources say of which commit they are");
    let sums = fs::read_to_string(release.checkout.join("dist/0.1.0/SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), expected.len() - 1, "each file but itself: {sums}");
    let steps = fs::read_to_string(release.checkout.join("dist/steps")).unwrap();
    assert_eq!(
        steps,
        "test.sh\nbuild.sh --arch amd64\nreproduce.sh --arch amd64\nbuild.sh --arch arm64\nreproduce.sh --arch arm64\nvendor.sh\n"
    );

    release.make("0.1.0").with(0);
    assert_eq!(listing(), first);

    // Settings that a user has made for other archives.
    run(release.checkout.command("git").args(["config", "tar.umask", "0077"])).ok();
    let mut elsewhere = release.command("0.1.0");
    run(elsewhere.env("TAR_OPTIONS", "--mode=700 --exclude=*").env("GZIP", "--rsyncable")).ok();
    assert_eq!(listing(), first, "with settings of its own");
}

#[test]
fn nothing_is_made_of_what_is_not_ready() {
    let Some(release) = Release::new() else { return };
    let cases = [
        ("", "expected one argument"),
        ("1", "'1' is not a version"),
        ("1.2.3.4", "'1.2.3.4' is not a version"),
        ("v0.1.0", "'v0.1.0' is not a version"),
        ("0.2.0", "Cargo.toml does not have the version"),
    ];
    for (version, why) in cases {
        release.refuses(version, why);
    }
    let file = |name: &str| release.checkout.join(name);
    let edit = |name: &str, old: &str, new: &str| {
        let text = fs::read_to_string(file(name)).unwrap();
        assert!(text.contains(old), "{name} has no {old}");
        fs::write(file(name), text.replace(old, new)).unwrap();
    };
    edit("CHANGELOG.md", "## [0.1.0] - ", "## [0.1.1] - ");
    release.refuses("0.1.0", "the tree has uncommitted changes");
    release.commit();
    release.refuses("0.1.0", "CHANGELOG.md does not have the heading '## [0.1.0] - DATE'");
    edit("CHANGELOG.md", "## [0.1.1] - ", "## [0.1.0] - ");
    edit("deploy/images/kustomization.yaml", "newTag: 0.1.0", "newTag: 0.0.9");
    release.commit();
    release.refuses("0.1.0", "deploy/images/kustomization.yaml does not have the tag");
    edit("deploy/images/kustomization.yaml", "newTag: 0.0.9", "newTag: 0.1.0");
    release.commit();
    fs::rename(file(".git"), file(".git-aside")).unwrap();
    release.refuses("0.1.0", "not a git checkout: fatal: not a git repository");
    fs::rename(file(".git-aside"), file(".git")).unwrap();
    release.make("0.1.0").with(0);
}

/// A new repository at version 0.1.0 with built programs, whose long steps only record their call.
struct Release {
    checkout: Checkout,
}

impl Release {
    fn new() -> Option<Release> {
        let checkout = Checkout::with_programs()?;
        run(checkout.command("cp").args(["-R", "dist/amd64", "dist/arm64"])).ok();
        let step = |name: &str, body: &str| {
            let record = format!("echo \"{name}${{1:+ }}$*\" >>dist/steps");
            checkout.script(&format!("scripts/{name}"), &format!("{record}\n{body}"));
        };
        step("test.sh", "");
        step("build.sh", "");
        step("reproduce.sh", "");
        step("vendor.sh", "echo crates >dist/crates.tar.gz");
        checkout.script("scripts/sbom.sh", "echo \"$@\"");
        // The test must not depend on the version of the workspace.
        for (name, from) in [
            ("Cargo.toml", "version = \"0.1.0\""),
            ("deploy/images/kustomization.yaml", "newTag: 0.1.0"),
        ] {
            let version = env!("CARGO_PKG_VERSION");
            let text = fs::read_to_string(checkout.join(name)).unwrap();
            fs::write(checkout.join(name), text.replace(&from.replace("0.1.0", version), from))
                .unwrap();
        }
        fs::write(checkout.join("CHANGELOG.md"), "## [0.1.0] - 2026-01-01\n").unwrap();
        fs::write(checkout.join(".gitignore"), "/dist/\n").unwrap();
        let release = Release { checkout };
        if run(release.checkout.command("git").args(["init", "--quiet"])).code != Some(0) {
            skip("there is no git to release from");
            return None;
        }
        release.commit();
        Some(release)
    }

    fn commit(&self) {
        let script = "git add --all && git -c user.name=test -c user.email=test@localhost commit --quiet --message test";
        run(self.checkout.command("sh").args(["-c", script])).ok();
    }

    fn make(&self, version: &str) -> Ended {
        run(&mut self.command(version))
    }

    fn command(&self, version: &str) -> Command {
        let mut command = self.checkout.command("scripts/release.sh");
        command.args((!version.is_empty()).then_some(version));
        command
    }

    fn refuses(&self, version: &str, why: &str) {
        let ended = self.make(version);
        assert_ne!(ended.code, Some(0), "{version}: {ended:?}");
        assert!(
            ended.stderr.contains(why) && ended.stderr.lines().count() == 1,
            "{version}: {}",
            ended.stderr
        );
        assert!(!self.checkout.join("dist/steps").exists(), "{version}: a step was taken");
    }
}

// ---- the same bytes ----

/// Settings for other builds have no effect on these; Cargo's target directory stays.
#[test]
fn settings_of_other_builds_do_not_count() {
    let checkout = Checkout::new();
    let lost = [
        "CFLAGS",
        "CFLAGS_x86_64_unknown_linux_musl",
        "TARGET_CFLAGS",
        "CARGO_PROFILE_RELEASE_OPT_LEVEL",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "RUSTFLAGS",
    ];
    let kept = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"];
    let mut command = checkout.command("sh");
    command.args(["-euc", ". scripts/flags.sh; env"]);
    command.envs(lost.iter().chain(&kept).map(|name| (*name, "/elsewhere")));
    let after = run(&mut command).ok();
    let set = |name: &str| after.lines().any(|line| line == format!("{name}=/elsewhere"));
    for name in lost {
        assert!(!set(name), "{name} is still set");
    }
    for name in kept {
        assert!(set(name), "{name} is lost");
    }
}

/// The commit in the images' label, with a stand-in compiler: without a repository, in a release's
/// sources, in a checkout, with an untracked file, and in another user's checkout, as for root in a
/// container.
#[test]
fn a_build_says_of_which_commit_it_is() {
    let checkout = Checkout::new();
    let bin = checkout.join("target/bin");
    let sysroot = "x86_64-unknown-linux-musl";
    fs::create_dir_all(checkout.join("target/lib/rustlib").join(sysroot)).unwrap();
    let tool = |name: &str, body: &str| checkout.script(&format!("target/bin/{name}"), body);
    let release = format!("target/{sysroot}/release");
    let build =
        format!("for last; do :; done; mkdir -p {release}; echo \"$last\" >{release}/\"$last\"");
    tool("cargo", &format!("case $1 in build) {build} ;; esac"));
    tool("rustc", "case $* in *sysroot*) echo target ;; *) echo rustc 1 ;; esac");
    tool("cc", "case $* in *-print-prog-name*) echo cc ;; *) echo cc 1 ;; esac");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let command = |name: &str| {
        let mut command = checkout.command(name);
        command.env("PATH", &path).env("HOME", checkout.path()).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_CEILING_DIRECTORIES", checkout.path().parent().unwrap());
        command
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("GIT_CONFIG_GLOBAL")
            .env_remove("SOURCE_DATE_EPOCH");
        command
    };
    let built = || {
        let ended = run(command("scripts/build.sh").arg("init")).with(0);
        let text = fs::read_to_string(checkout.join("dist/amd64/init.built")).unwrap();
        (text.lines().next().unwrap().to_string(), ended.stderr)
    };
    let git = "git init --quiet && git add --all && git -c user.name=a -c user.email=a@b commit --quiet --message a";

    assert_eq!(built(), ("commit=unknown".to_string(), String::new()));
    let packed = checkout.join("scripts/commit.txt");
    let format = fs::read(&packed).unwrap();
    fs::write(&packed, "abc 1700000000\n").unwrap();
    assert_eq!(built(), ("commit=abc".to_string(), String::new()), "the sources of a release");
    let epoch = fs::read_to_string(checkout.join("dist/amd64/init.built")).unwrap();
    assert!(epoch.contains("\nepoch=1700000000\n"), "{epoch}");
    fs::write(&packed, format).unwrap();
    fs::create_dir(checkout.join(".git")).unwrap();
    let (commit, said) = built();
    assert_eq!(commit, "commit=unknown");
    assert!(said.contains("git cannot read the commit") && said.lines().count() == 1, "{said}");

    fs::write(checkout.join(".gitignore"), "/dist/\n/target/\n").unwrap();
    run(command("sh").args(["-c", git])).ok();
    let head = format!("commit={}", run(command("git").args(["rev-parse", "HEAD"])).ok().trim());
    assert_eq!(built(), (head.clone(), String::new()));

    run(command("git").args(["config", "status.showUntrackedFiles", "no"])).ok();
    fs::write(checkout.join("new.rs"), "").unwrap();
    assert_eq!(built().0, format!("{head}-changed"));
    fs::remove_file(checkout.join("new.rs")).unwrap();

    if run(Command::new("chown").args(["-R", "65534"]).arg(checkout.path())).code != Some(0) {
        skip("only root can give a checkout to another user");
        return;
    }
    assert_ne!(run(command("git").args(["rev-parse", "HEAD"])).code, Some(0), "git refuses it");
    assert_eq!(built(), (head, String::new()));
}

#[test]
fn without_git_the_second_build_is_skipped() {
    let checkout = Checkout::new();
    let ended = run(checkout.command("scripts/reproduce.sh").arg("init")).with(3);
    assert!(
        ended.stderr.contains("not a git checkout") && ended.stderr.lines().count() == 1,
        "{}",
        ended.stderr
    );
}

// ---- components ----

#[test]
fn the_list_of_components_is_cargos() {
    for program in PROGRAMS {
        let Some(sbom) = sbom(program) else { return };
        assert_eq!(sbom["bomFormat"], "CycloneDX");
        let file = fs::canonicalize(shell::root().join(format!("dist/amd64/{program}"))).unwrap();
        let sum = run(Command::new("sha256sum").arg(file)).ok();
        assert_eq!(sbom["metadata"]["component"]["hashes"][0]["content"], sum[..64]);

        let mut tree = Command::new(env!("CARGO"));
        tree.current_dir(shell::root()).args([
            "tree",
            "--locked",
            "--package",
            program,
            "--prefix",
            "none",
        ]);
        tree.args([
            "--edges",
            "normal,build",
            "--target",
            "x86_64-unknown-linux-musl",
            "--format",
            "{p}",
        ]);
        let tree = run(&mut tree).ok();
        let expected: BTreeSet<String> = tree
            .lines()
            .map(|line| {
                line.split_whitespace().take(2).collect::<Vec<_>>().join(" ").replace(" v", " ")
            })
            .filter(|line| !line.starts_with(&format!("{program} ")))
            .collect();
        let components = sbom["components"].as_array().unwrap();
        let name = |one: &Value| {
            format!("{} {}", one["name"].as_str().unwrap(), one["version"].as_str().unwrap())
        };
        let found: BTreeSet<String> = components.iter().map(name).collect();
        let toolchain: Vec<&String> = found.difference(&expected).collect();
        assert!(
            expected.is_subset(&found) && toolchain.len() == 2,
            "{program}: {toolchain:?}\n{expected:?}\n{found:?}"
        );

        for one in components.iter().filter(|one| !one["purl"].is_null()) {
            assert_eq!(one["hashes"][0]["content"].as_str().unwrap().len(), 64, "{one}");
            assert!(!one["licenses"][0]["expression"].as_str().unwrap().is_empty(), "{one}");
        }
        let known: Vec<&Value> = components.iter().map(|one| &one["bom-ref"]).collect();
        for edge in sbom["dependencies"].as_array().unwrap() {
            for to in edge["dependsOn"].as_array().unwrap() {
                assert!(known.contains(&to), "{to} is needed and not listed");
            }
        }
    }
}

/// Cargo unifies features over one build, so the list must come from a build of each program alone.
#[test]
fn init_carries_no_tls_and_no_program_its_tests() {
    let Some(init) = sbom("init") else { return };
    let Some(lock) = sbom("lock") else { return };
    let scope = |sbom: &Value, name: &str| {
        let one =
            sbom["components"].as_array().unwrap().iter().find(|one| one["name"] == name)?.clone();
        Some(one["scope"].as_str()?.to_string())
    };
    assert_eq!(scope(&init, "rustls"), None);
    assert_eq!(scope(&lock, "rustls").as_deref(), Some("required"));
    assert_eq!(
        scope(&lock, "cc").as_deref(),
        Some("excluded"),
        "it compiles ring, and is not in the program"
    );
    for name in ["proptest", "testkit", "rcgen"] {
        assert_eq!((scope(&init, name), scope(&lock, name)), (None, None), "{name}");
    }
}

/// The components of the program that scripts/build.sh has made in this checkout.
fn sbom(program: &str) -> Option<Value> {
    if !shell::root().join(format!("dist/amd64/{program}.built")).exists() {
        skip(
            "scripts/build.sh has not been run here, so that there is no program to list the components of",
        );
        return None;
    }
    let mut command = Command::new(shell::root().join("scripts/sbom.sh"));
    Some(serde_json::from_str(&run(command.args([program, "amd64"])).ok()).unwrap())
}
