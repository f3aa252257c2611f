//! `--locks auto` on the real binary, on the node that the test runs on.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests of real processes wait on a real clock, and a failed step is a failed test"
)]

use std::fs::OpenOptions;
use std::io::{Seek as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use lock::window::FIRST_COST;
use testkit::http::{Connection, Request};
use testkit::program::{Program, Running, field};
use testkit::scratch::Scratch;
use testkit::{CEILING, eventually, skip};

const KERNELS: &str = "/proc/stat";

fn lock(arguments: &[&str]) -> Program {
    Program::new(env!("CARGO_BIN_EXE_lock")).args(["--host=127.0.0.1", "--port=0"]).args(arguments)
}

/// A lock that sees this in place of the kernel's figures; nothing where mounts of one's own cannot be had.
fn with_stat(text: &str, arguments: &[&str]) -> Option<(Scratch, Running)> {
    let directory = Scratch::new();
    let file = directory.file("stat", text);
    match lock(arguments).seeing(&file, KERNELS) {
        Ok(lock) => Some((directory, lock.start())),
        Err(why) => {
            skip(&format!("figures of the test's own: {why}"));
            None
        }
    }
}

/// A node of two cores that has used so many hundredths of a second, and on which so many threads want to run.
fn stat(busy: u64, running: u32) -> String {
    format!("cpu  {busy:>12} 0 0 1000 0 0 0 0 0 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\nprocs_running {running}\n")
}

#[test]
fn starts_are_let_in_at_a_pace_and_told_of() {
    let Some((node, mut lock)) = with_stat(&stat(0, 1), &["--locks=auto", "--timeout=10m"]) else { return };
    let cores = lock.get("/state").json()["slots"].as_u64().unwrap() / 16;
    let begin = Instant::now();
    for n in 0..cores {
        assert_eq!(lock.get(&format!("/?holder=at-once-{n}")).status, 200, "one a core");
    }
    // So many CPU seconds a start, until one has shown what it costs.
    let mut granted = 0;
    for n in 0..2 * cores {
        granted += u64::from(lock.get(&format!("/?holder=later-{n}&wait=5s")).status == 200);
        let carried = 1 + (begin.elapsed().as_secs_f64() * cores as f64 / FIRST_COST) as u64;
        assert!(granted <= carried, "{granted} of {carried}");
    }
    assert_eq!(granted, 2 * cores, "the cores are idle");
    let metrics = lock.get("/metrics");
    let why = metrics.sample("psl_lock_window_why{why=\"unknown\"}");
    assert_eq!((metrics.sample("psl_lock_window"), why), (16.0 * cores as f64, 1.0));
    assert_eq!(metrics.sample("psl_lock_window_idle_ratio"), 1.0);
    let window = lock.get("/state").json()["window"].clone();
    assert_eq!((&window["why"], &window["start_cost_seconds"]), (&"unknown".into(), &FIRST_COST.into()), "{window}");
    assert_eq!(
        (metrics.sample("psl_lock_window_pace"), &window["pace"]),
        (2.0 / FIRST_COST, &(2.0 / FIRST_COST).into()),
        "two cores"
    );
    let shortest = "\npsl_lock_window_shortest_lease_seconds ";
    assert!(!metrics.body.contains(shortest) && window["shortest_lease_seconds"].is_null(), "none has ended: {window}");
    // Both cores are used, and a first lease tells how long they last: so many starts do not fit.
    assert_eq!(lock.get("/?holder=short&duration=1s&wait=10s").status, 200);
    let begin = Instant::now();
    let mut file = OpenOptions::new().write(true).open(node.join("stat")).unwrap();
    let moved = eventually("a window", CEILING, || {
        file.rewind().unwrap();
        file.write_all(stat(begin.elapsed().as_millis() as u64 / 5, 3).as_bytes()).unwrap();
        lock.get("/?holder=waits&duration=1s");
        lock.stderr().lines().find(|line| line.contains("window moved")).map(str::to_owned)
    });
    assert_eq!(["level", "why"].map(|key| field(&moved, key).unwrap()), ["info", "measured"], "{moved}");
    let shortest = lock.get("/metrics").sample("psl_lock_window_shortest_lease_seconds");
    assert!((1.0..2.0).contains(&shortest), "{shortest}");
}

#[test]
fn a_refusal_for_want_of_room_says_so() {
    let Some((_stat, mut lock)) = with_stat(&stat(0, 9), &["--locks=auto", "--timeout=10m"]) else { return };
    let mut asked = 0;
    let refused = eventually("a crowd", CEILING, || {
        asked += 1;
        let reply = lock.get(&format!("/?holder={asked}"));
        let is_crowded = lock.get("/metrics").sample("psl_lock_window_why{why=\"crowded\"}") == 1.0;
        (reply.status == 423 && is_crowded).then_some(reply)
    });
    let reason = "slots are free, but the node has no room for another start yet";
    assert!(refused.body.starts_with(&format!("Locked\n{reason}\nposition ")), "{refused}");
    assert_eq!(lock.get("/?duration=0").body, format!("Locked\n{reason}\n"));
    let state = lock.get("/state").json();
    assert!(state["slots_in_use"].as_u64() < state["slots"].as_u64(), "{state}");
}

#[test]
fn grants_that_die_leave_the_room_to_others() {
    // A machine that is busy with other tests would be crowded.
    let Some((_stat, mut lock)) = with_stat(&stat(0, 1), &["--locks=auto", "--timeout=10m"]) else { return };
    let cores = lock.get("/state").json()["slots"].as_u64().unwrap() / 16;
    for round in 1..=4 * cores {
        // The request is complete and its client gone before it is accepted.
        lock.stop();
        let mut connection = Connection::open(lock.addr(), None, CEILING).unwrap();
        connection.write(&Request::get("/?holder=gone").bytes("lock")).unwrap();
        connection.reset();
        lock.signal("CONT");
        eventually("the lease to be given back", CEILING, || {
            let released = lock.get("/metrics").sample("psl_lock_ended_total{how=\"released\"}");
            (released == round as f64).then_some(())
        });
    }
    for n in 0..cores {
        assert_eq!(lock.get(&format!("/?holder={n}")).status, 200, "one a core at once, as if nothing had been");
    }
}

#[test]
fn a_crowded_node_starts_one_after_the_other() {
    let Some((_stat, mut lock)) = with_stat(&stat(0, 9), &["--locks=auto:2", "--timeout=1500ms"]) else { return };
    assert_eq!(lock.get("/?holder=a").status, 200);
    lock.get("/?holder=b");
    eventually("a look at the node", CEILING, || {
        lock.get("/?holder=c");
        let metrics = lock.get("/metrics");
        (metrics.sample("psl_lock_window_why{why=\"crowded\"}") == 1.0).then_some(())
    });
    for n in 0..3 {
        assert_eq!(lock.get(&format!("/?holder={n}&wait=30s")).status, 200, "one at least");
        assert!(lock.get("/metrics").sample("psl_lock_slots_in_use") <= 2.0);
    }
}

#[test]
fn garbage_is_told_at_start_and_once_and_starts_one_a_core() {
    let Some((_stat, mut lock)) = with_stat("cpu many\n", &["--locks=auto", "--timeout=10m"]) else { return };
    let warning = lock.wait_for_text("cannot be read", CEILING);
    assert_eq!(field(&warning, "file").as_deref(), Some(KERNELS), "{warning}");
    let cores = lock.get("/state").json()["slots"].as_u64().unwrap() / 16;
    for n in 0..cores {
        assert_eq!(lock.get(&format!("/?holder={n}")).status, 200);
    }
    assert_eq!(lock.get("/?holder=next&wait=1s").status, 423, "nothing has ended");
    thread::sleep(Duration::from_millis(500));
    let metrics = lock.get("/metrics");
    assert_eq!((metrics.sample("psl_lock_window"), lock.count(|line| line.contains("level=warn"))), (cores as f64, 1));
}

#[test]
fn a_most_of_one_is_one_slot() {
    let mut lock = lock(&["--locks=auto:1", "--timeout=10m"]).start();
    assert_eq!(lock.get("/?holder=a").status, 200);
    assert_eq!(lock.get("/?holder=b&wait=2s").status, 423);
    assert_eq!(Request::new("DELETE", "/?holder=a").send(lock.addr(), CEILING).unwrap().status, 200);
    assert_eq!(lock.get("/?holder=b&wait=30s").status, 200);
}

#[test]
fn nobody_looks_at_the_node_while_nobody_waits() {
    let mut lock = lock(&["--locks=auto:2", "--timeout=10m"]).start();
    assert_eq!(lock.get("/?holder=a").status, 200);
    let quiet = eventually("a lock that sleeps", CEILING, || {
        let before = lock.wakes();
        thread::sleep(Duration::from_millis(300));
        (lock.wakes() == before).then_some(before)
    });
    thread::sleep(Duration::from_secs(2));
    assert_eq!(lock.wakes(), quiet);
    // Three wait for one slot.
    for holder in ["b", "c", "d"] {
        lock.get(&format!("/?holder={holder}"));
    }
    let waiting = lock.wakes();
    eventually("looks", CEILING, || (lock.wakes() >= waiting + 10).then_some(()));
}
