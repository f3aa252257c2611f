//! `--locks auto` on the real binary, on the node that the test runs on.

use std::fs::OpenOptions;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lock::core::limit::FIRST_COST;
use testkit::http::{Connection, Request};
use testkit::program::{Running, field};
use testkit::scratch::Scratch;
use testkit::{CEILING, eventually, skip};

use crate::support::program;

const KERNELS: &str = "/proc/stat";

/// A lock that reads this text in place of the kernel's counters; `None` if the test may not mount.
fn with_stat(text: &str, arguments: &[&str]) -> Option<(Scratch, Running)> {
    let directory = Scratch::new();
    let file = directory.file("stat", text);
    match program(arguments).seeing(&file, KERNELS) {
        Ok(lock) => Some((directory, lock.start())),
        Err(why) => {
            skip(&format!("mounted counters: {why}"));
            None
        }
    }
}

/// As many cores as the machine has: those of the floor before the first reading.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// This many cores have been in use for this time, and the others idle, with this many runnable
/// threads.
fn stat(time: Duration, busy: usize, running: usize) -> String {
    let hundredths = 1000 + time.as_millis() / 10;
    let (used, idle) = (hundredths * busy as u128, hundredths * (cores() - busy) as u128);
    let each: String = (0..cores()).map(|nth| format!("cpu{nth} 0 0 0 0\n")).collect();
    format!("cpu  {used:>12} 0 0 {idle:>12} 0 0 0 0 0 0\n{each}procs_running {running:>4}\n")
}

/// Keeps the figures of such a node moving.
struct Moving {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Moving {
    fn start(file: &Path, busy: usize, running: usize) -> Moving {
        let (is_over, begin) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let (over, mut file) =
            (Arc::clone(&is_over), OpenOptions::new().write(true).open(file).unwrap());
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                file.rewind().unwrap();
                file.write_all(stat(begin.elapsed(), busy, running).as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(10));
            }
        });
        Moving { is_over, thread: Some(thread) }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// All starts of the floor.
fn fill(lock: &mut Running) {
    for n in 0..cores() {
        assert_eq!(lock.get(&format!("/?holder=floor-{n}")).status, 200, "one a core");
    }
}

#[test]
fn an_idle_node_starts_more_than_the_floor_at_a_pace() {
    let idle = stat(Duration::ZERO, 0, 1);
    let Some((node, mut lock)) = with_stat(&idle, &["--locks=auto", "--timeout=10m"]) else {
        return;
    };
    let _moving = Moving::start(&node.join("stat"), 0, 1);
    let begin = Instant::now();
    fill(&mut lock);
    let mut granted = 0;
    for n in 0..2 * cores() {
        granted += u64::from(lock.get(&format!("/?holder=later-{n}&wait=5s")).status == 200);
        let carried = 1 + (begin.elapsed().as_secs_f64() * cores() as f64 / FIRST_COST) as u64;
        assert!(granted <= carried, "{granted} of {carried}");
    }
    assert_eq!(granted as usize, 2 * cores(), "the cores are idle");
    let metrics = lock.get("/metrics");
    assert_eq!(metrics.sample("psl_lock_window_floor"), cores() as f64);
    assert_eq!(metrics.sample("psl_lock_window_pace"), cores() as f64 / FIRST_COST);
    assert!(metrics.sample("psl_lock_window_idle_ratio") > 0.9, "{}", metrics.body);
    let window = lock.get("/state").json()["window"].clone();
    assert_eq!(
        (&window["start_cost_seconds"], &window["floor"]),
        (&FIRST_COST.into(), &cores().into()),
        "{window}"
    );
    assert_eq!(window["in_flight"].as_u64(), Some(3 * cores() as u64), "{window}");
}

#[test]
fn a_busy_node_keeps_its_floor_and_names_the_reason() {
    let busy = stat(Duration::ZERO, cores(), 1 + 4 * cores());
    let Some((node, mut lock)) = with_stat(&busy, &["--locks=auto", "--timeout=10m"]) else {
        return;
    };
    let _moving = Moving::start(&node.join("stat"), cores(), 1 + 4 * cores());
    fill(&mut lock);
    let refused = eventually("a busy node", CEILING, || {
        let reply = lock.get("/?holder=a");
        assert_eq!(reply.status, 423, "{reply}");
        reply.body.contains("the node is busy").then_some(reply)
    });
    let start = format!(
        "Locked\nthe node is busy: 0.0 of {} cores idle; the next start begins in ",
        cores()
    );
    assert!(
        refused.body.starts_with(&start) && refused.body.contains("s at the latest\n"),
        "{refused}"
    );
    assert!(lock.get("/?duration=0").body.starts_with(&start));
    let metrics = lock.get("/metrics");
    let next = metrics.sample("psl_lock_window_next_start_seconds");
    assert!(
        metrics.sample("psl_lock_window_why{why=\"busy\"}") == 1.0 && (0.0..=30.0).contains(&next),
        "{next}"
    );
    // The floor holds at any load.
    for n in 0..cores() {
        let path = format!("/?holder=floor-{n}");
        assert_eq!(Request::new("DELETE", &path).send(lock.addr(), CEILING).unwrap().status, 200);
        assert_eq!(lock.get(&format!("/?holder=next-{n}&wait=5s")).status, 200);
    }
}

#[test]
fn counters_that_stand_still_start_one_per_core() {
    let Some((_stat, mut lock)) =
        with_stat(&stat(Duration::ZERO, 0, 1), &["--locks=auto", "--timeout=10m"])
    else {
        return;
    };
    fill(&mut lock);
    eventually("a reading of the same", CEILING, || {
        assert_eq!(lock.get("/?holder=next").status, 423);
        let metrics = lock.get("/metrics");
        (metrics.sample("psl_lock_window_why{why=\"blind\"}") == 1.0).then_some(())
    });
    let body = lock.get("/?holder=next").body;
    assert!(body.starts_with("Locked\nthe node's load is unknown: "), "{body}");
    assert_eq!(lock.get("/state").json()["window"]["why"], "blind");
    lock.wait_for_text("the node's CPU counters stand still", CEILING);
}

#[test]
fn grants_that_die_leave_the_room_to_others() {
    let mut lock = program(&["--locks=auto", "--timeout=10m"]).start();
    // A lock that is stopped does not say where it listens.
    lock.addr();
    let address = lock.addr();
    for round in 1..=4 * cores() {
        // The request is complete and its client gone before it is accepted.
        lock.stop();
        let mut connection = Connection::open(address, None, CEILING).unwrap();
        connection.write(&Request::get("/?holder=gone").bytes("lock")).unwrap();
        connection.reset();
        lock.signal("CONT");
        eventually("the lease to be given back", CEILING, || {
            let released = lock.get("/metrics").sample("psl_lock_ended_total{how=\"released\"}");
            (released == round as f64).then_some(())
        });
    }
    fill(&mut lock);
}

#[test]
fn an_unreadable_load_is_logged_once_at_start_and_starts_one_per_core() {
    let Some((_stat, mut lock)) = with_stat("cpu many\n", &["--locks=auto", "--timeout=10m"])
    else {
        return;
    };
    let warning = lock.wait_for_text("cannot read the node's load", CEILING);
    assert_eq!(field(&warning, "file").as_deref(), Some(KERNELS), "{warning}");
    fill(&mut lock);
    assert_eq!(lock.get("/?holder=next&wait=1s").status, 423, "no lease has ended");
    thread::sleep(Duration::from_millis(500));
    let metrics = lock.get("/metrics");
    assert_eq!(
        (metrics.sample("psl_lock_window"), lock.count(|line| line.contains("level=warn"))),
        (cores() as f64, 1)
    );
}

#[test]
fn a_maximum_of_one_is_one_slot() {
    let mut lock = program(&["--locks=auto:1", "--timeout=10m"]).start();
    assert_eq!(lock.get("/?holder=a").status, 200);
    assert_eq!(lock.get("/?holder=b&wait=2s").status, 423);
    assert_eq!(
        Request::new("DELETE", "/?holder=a").send(lock.addr(), CEILING).unwrap().status,
        200
    );
    assert_eq!(lock.get("/?holder=b&wait=30s").status, 200);
}

#[test]
fn the_load_is_read_only_while_a_client_waits() {
    let mut lock = program(&["--locks=auto:2", "--timeout=10m"]).start();
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
