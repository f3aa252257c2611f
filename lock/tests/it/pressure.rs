//! The pressure gate on the real binary, with a pressure of the test's own in place of the
//! kernel's.

use std::thread;
use std::time::{Duration, Instant};

use testkit::http::Request;
use testkit::program::{Running, field};
use testkit::scratch::Scratch;
use testkit::{CEILING, eventually, skip};

use crate::support::program;

const KERNELS: &str = "/proc/pressure";

/// The files as the kernel writes them, in a directory that a program sees where the kernel's are.
struct Node {
    directory: Scratch,
}

impl Node {
    /// `None` if the test may not mount.
    fn new() -> Option<Node> {
        let node = Node { directory: Scratch::new() };
        for name in ["cpu", "io", "memory"] {
            node.set(name, "0.00");
        }
        match program(&[]).seeing(node.directory.path(), KERNELS) {
            Ok(_) => Some(node),
            Err(why) => {
                skip(&format!("a pressure of the test's own: {why}"));
                None
            }
        }
    }

    /// Replaced by a rename, so that no reader finds half a file.
    fn write(&self, name: &str, text: &str) {
        let new = self.directory.file("new", text);
        std::fs::rename(new, self.directory.join(name)).unwrap();
    }

    fn set(&self, name: &str, average: &str) {
        let some = format!("some avg10={average} avg60=1.00 avg300=1.00 total=12345\n");
        self.write(name, &(some + "full avg10=99.00 avg60=0.00 avg300=0.00 total=0\n"));
    }

    fn lock(&self, arguments: &[&str]) -> Running {
        program(arguments)
            .seeing(self.directory.path(), KERNELS)
            .expect("a mount, as a moment ago")
            .start()
    }
}

#[test]
fn no_start_begins_above_the_threshold_until_pressure_is_ten_points_lower() {
    let Some(node) = Node::new() else { return };
    let mut lock = node.lock(&["--locks=4", "--io-pressure=50", "--gate-floor=1h"]);
    node.set("cpu", "99.00");
    assert_eq!(lock.get("/?holder=a").status, 200, "another resource has no threshold");
    node.set("io", "83.02");
    // It was read for a, and is read no more than once a second.
    let refused = eventually("a pressure gate that is closed", CEILING, || {
        Some(lock.get("/?holder=b&duration=0")).filter(|reply| reply.status == 423)
    });
    let reason = "the node is under pressure: io 83.02% (closes above 50%, opens at 40%); one start begins in ";
    assert!(refused.body.starts_with(&format!("Locked\n{reason}")), "{}", refused.body);
    assert_eq!(lock.get("/?holder=a").status, 200, "an active lease stays");
    let closed = lock.wait_for_text("pressure gate closed", CEILING);
    assert_eq!(field(&closed, "level").as_deref(), Some("info"), "{closed}");
    let polling = lock.get("/?holder=b");
    let retry_after: u64 = polling.header("retry-after").unwrap().parse().unwrap();
    assert!(polling.status == 423 && (1..=5).contains(&retry_after), "{polling:?}");
    assert!(polling.body.contains("position 1 in the queue"), "{}", polling.body);
    let metrics = lock.get("/metrics");
    let samples = ["psl_pressure_open", "psl_gate_open", "psl_pressure_ratio{resource=\"io\"}"];
    assert_eq!(samples.map(|name| metrics.sample(name)), [0.0, 1.0, 0.8302]);
    assert!(!metrics.body.contains("resource=\"cpu\""), "{}", metrics.body);
    let pressure = lock.get("/state").json()["pressure"].clone();
    assert_eq!(
        (&pressure["open"], &pressure["resources"][0]["percent"]),
        (&false.into(), &83.02.into()),
        "{pressure}"
    );

    // A parked request stays parked, and is answered when the pressure has fallen.
    let address = lock.addr();
    let parked =
        thread::spawn(move || Request::get("/?holder=b&wait=30").send(address, CEILING).unwrap());
    eventually("b to be parked", CEILING, || {
        lock.get("/state").json()["queue"][0]["held"].as_bool().filter(|h| *h)
    });
    node.set("io", "40.01");
    let mark = lock.mark();
    thread::sleep(Duration::from_millis(2500));
    assert!(!parked.is_finished(), "ten points lower, and not nearly");
    node.set("io", "40.00");
    let fallen = Instant::now();
    assert_eq!(parked.join().unwrap().status, 200);
    assert!(
        fallen.elapsed() < Duration::from_millis(1900),
        "{:?}: it is read each second",
        fallen.elapsed()
    );
    lock.wait_for_after(mark, |line| line.contains("pressure gate open"), CEILING);
    let count = |lock: &Running, text: &str| lock.count(|line| line.contains(text));
    assert_eq!((count(&lock, "pressure gate closed"), count(&lock, "pressure gate open")), (1, 1));
}

#[test]
fn one_starts_in_each_floor() {
    let Some(node) = Node::new() else { return };
    node.set("memory", "97.00");
    let floor = Duration::from_millis(1500);
    let mut lock =
        node.lock(&["--locks=8", "--memory-pressure=80", "--gate-floor=1500ms", "--timeout=10m"]);
    let address = lock.addr();
    let begin = Instant::now();
    let herd: Vec<_> = (0..4)
        .map(|n| {
            thread::spawn(move || {
                let reply =
                    Request::get(&format!("/?holder={n}&wait=30")).send(address, CEILING).unwrap();
                (reply.status, begin.elapsed())
            })
        })
        .collect();
    let mut started: Vec<_> = herd.into_iter().map(|pod| pod.join().unwrap()).collect();
    started.sort_unstable();
    for (n, (status, after)) in (1..).zip(&started) {
        assert_eq!(*status, 200);
        let due = floor * n;
        assert!(
            *after >= due && *after < due + CEILING / 4,
            "{n}: {after:?} of {due:?} in {started:?}"
        );
    }
    assert_eq!(lock.get("/metrics").sample("psl_pressure_let_through_total"), 4.0);
    assert_eq!(lock.count(|line| line.contains("pressure gate closed")), 1);
}

#[test]
fn an_unreadable_pressure_is_logged_once_and_delays_no_start() {
    let Some(node) = Node::new() else { return };
    node.set("cpu", "90.00");
    node.write("io", "some avg10=many\n");
    let mut lock =
        node.lock(&["--locks=8", "--cpu-pressure=80", "--io-pressure=80", "--gate-floor=1h"]);
    let warning = lock.wait_for_text("cannot read the node's pressure", CEILING);
    assert_eq!(
        ["level", "file", "reason"].map(|key| field(&warning, key).unwrap()),
        ["warn", "/proc/pressure/io", "unexpected content"]
    );
    assert_eq!(lock.get("/?holder=a").status, 423, "the other one counts");
    for (garbage, status) in [("", 200), ("some avg10=100.01 avg60=0.00\n", 200), ("\0\u{ff}", 200)]
    {
        node.write("cpu", garbage);
        eventually(&format!("{status} with {garbage:?}"), CEILING, || {
            Some(lock.get("/?duration=0")).filter(|reply| reply.status == status)
        });
    }
    node.set("io", "1.00");
    eventually("a pressure that can be read again", CEILING, || {
        lock.get("/?duration=0");
        (lock.count(|line| line.contains("pressure can be read again")) == 1).then_some(())
    });
    assert_eq!(
        lock.count(|line| line.contains("cannot read the node's pressure")),
        2,
        "{}",
        lock.stderr()
    );
}

#[test]
fn a_kernel_without_pressure_is_logged_once_and_delays_no_start() {
    let Some(node) = Node::new() else { return };
    for name in ["cpu", "io", "memory"] {
        std::fs::remove_file(node.directory.join(name)).unwrap();
    }
    let mut lock = node.lock(&["--locks=4", "--cpu-pressure=1", "--memory-pressure=1"]);
    let warning = lock.wait_for_text("cannot read the node's pressure", CEILING);
    let files = "/proc/pressure/cpu, /proc/pressure/memory";
    assert_eq!(field(&warning, "file").as_deref(), Some(files), "{warning}");
    lock.wait_for_text("lock started", CEILING);
    for n in 0..4 {
        assert_eq!(lock.get(&format!("/?holder={n}")).status, 200);
    }
    assert_eq!(lock.get("/?holder=last&wait=1500ms").status, 423, "a slot is one all the same");
    let metrics = lock.get("/metrics");
    assert_eq!(metrics.sample("psl_pressure_open"), 1.0);
    assert_eq!(lock.count(|line| line.contains("level=warn")), 1, "{}", lock.stderr());
}

#[test]
fn pressure_is_read_only_while_a_client_waits() {
    let Some(node) = Node::new() else { return };
    let mut lock = node.lock(&["--locks=1", "--cpu-pressure=80", "--timeout=10m"]);
    assert_eq!(lock.get("/?holder=a").status, 200);
    // Connections are closed and lines are written by then.
    let quiet = eventually("a lock that sleeps", CEILING, || {
        let before = lock.wakes();
        thread::sleep(Duration::from_millis(300));
        (lock.wakes() == before).then_some(before)
    });
    // A file that changes does not wake lock, because lock does not read it.
    node.set("cpu", "99.00");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(lock.wakes(), quiet);
    assert_eq!(lock.count(|line| line.contains("pressure gate closed")), 0);
    // A waiter is parked, and it is read.
    let address = lock.addr();
    let parked = thread::spawn(move || Request::get("/?holder=b&wait=30").send(address, CEILING));
    lock.wait_for_text("pressure gate closed", CEILING);
    let waiting = lock.wakes();
    eventually("readings", CEILING, || (lock.wakes() >= waiting + 3).then_some(()));
    assert!(!parked.is_finished());
}
