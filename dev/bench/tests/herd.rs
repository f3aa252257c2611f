//! The herd as it is run, small: a report and pictures come of it. And its application alone.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests of real processes")]

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::application::Application;
use testkit::program::{Program, threads_time};
use testkit::scratch::Scratch;
use testkit::{CEILING, skip};

#[test]
fn an_application_burns_its_time_and_opens_its_port() {
    let application = Application::starting(Ipv4Addr::LOCALHOST);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, application.port()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_application"))
        .args(["60000", "2", "20000"])
        .stdin(application.socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    assert!(TcpStream::connect(address).is_err(), "open before it can be ready");
    let mut word = [0; 6];
    output.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"ready\n");
    TcpStream::connect(address).unwrap();
    // The other thread, and its half, have gone.
    let spent = threads_time(child.id().cast_signed()).unwrap();
    assert!(spent >= Duration::from_millis(30), "{spent:?}");
    drop(output);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_small_herd() {
    let Some(directory) = Program::static_dir() else {
        return skip("the herd needs the static binaries: PSL_TEST_BIN_DIR is not set");
    };
    let pictures = Scratch::new();
    let only = "alike-none,alike-guessed-well-one-slot,alike-ready-one-a-core-5-of-answers-lost,\
                alike-ready-one-a-core-lock-restarted,no-latency-ready-one-a-core,threads-none,disk-ready-one-a-core";
    let bench = Program::at(env!("CARGO_BIN_EXE_bench"))
        .arg("--lock")
        .arg(directory.join("lock"))
        .arg("--init")
        .arg(directory.join("init"))
        .args(["--health", "none", "--plain", "none", "herd"])
        .args(["--applications", "4", "--runs", "1", "--factor", "20"])
        .args(["--only", only, "--pictures"])
        .arg(pictures.path());
    let finished = bench.run(CEILING);
    // A busy machine may miss the goals, and then 1 is right.
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    let rows = |name: &str| {
        finished.stdout.lines().filter(|line| line.starts_with(&format!("| {name} "))).count()
    };
    for (name, expected) in [
        ("none", 2),
        ("guessed well, one slot", 1),
        ("ready, one a core", 2),
        ("ready, one a core, 5 % of answers lost", 1),
        ("ready, one a core, lock restarted", 1),
    ] {
        assert_eq!(rows(name), expected, "{name}\n{finished}");
    }
    let goals = finished.stdout.lines().filter(|line| line.contains(", goal ")).count();
    assert_eq!(
        goals, 2,
        "four applications on two cores are no herd, so that `none` promises nothing\n{finished}"
    );
    let drawn: Vec<_> =
        fs::read_dir(pictures.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(drawn.len(), 7, "{drawn:?}");
    for file in drawn {
        let svg = fs::read_to_string(&file).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{}: {svg}", file.display());
    }
}
