//! A real init that ends while a real lock has parked its request: the lock removes the waiter.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::http::Request;
use testkit::program::Running;
use testkit::{CEILING, eventually};

use crate::shell;

/// The lock notices a hang-up at once and keeps the waiter for two seconds; the rest is for a busy
/// machine.
const SHORT: Duration = Duration::from_secs(6);

/// A lock whose only slot is taken for longer than any test.
fn taken() -> Option<Running> {
    let mut lock = shell::program("lock")?
        .args(["--host=127.0.0.1", "--port=0", "--locks=1", "--max-duration=1h"])
        .start();
    let taken = Request::get("/?duration=1h&holder=first").send(lock.addr(), CEILING).unwrap();
    assert_eq!(taken.status, 200);
    Some(lock)
}

fn queue(lock: SocketAddr) -> Vec<String> {
    let state = Request::get("/state").send(lock, CEILING).unwrap().json();
    let holders = state["queue"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| place["holder"].as_str().unwrap().to_owned());
    let holders: Vec<_> = holders.collect();
    assert_eq!(state["queue_length"], holders.len(), "{state}");
    holders
}

/// An init whose first request is parked and has no answer yet.
fn parked(lock: SocketAddr, holder: &str) -> Option<Running> {
    let port = lock.port().to_string();
    let init = shell::program("init")?
        .args(["--host=127.0.0.1", "--wait=30s", "--port", &port, "--holder", holder])
        .start();
    eventually("a place in the queue", CEILING, || {
        queue(lock).contains(&holder.to_owned()).then_some(())
    });
    Some(init)
}

#[test]
fn a_pod_that_is_deleted_before_its_first_answer_leaves_no_place_behind() {
    for (signal, code) in [("TERM", Some(143)), ("INT", Some(130)), ("KILL", None)] {
        let Some(mut lock) = taken() else { return };
        let Some(mut init) = parked(lock.addr(), "deleted") else { return };
        let Some(_stays) = parked(lock.addr(), "stays") else { return };
        init.signal(signal);
        let finished = init.wait(CEILING);
        assert!(code.is_none_or(|code| finished.code == Some(code)), "{finished}");
        assert!(!finished.stderr.contains("waiting for the lock"), "{finished}");
        let ended = Instant::now();
        eventually("its place is gone", CEILING, || {
            (queue(lock.addr()) == ["stays"]).then_some(())
        });
        let took = ended.elapsed();
        eprintln!("SIG{signal}: its place was gone {took:?} later");
        assert!(took < SHORT, "{took:?}");
    }
}

/// The reason at `--max-wait` is the lock's, even if the lock would have parked the request for
/// longer.
#[test]
fn at_max_wait_init_reports_the_reason_of_the_lock() {
    let Some(mut lock) = taken() else { return };
    let Some(init) = shell::program("init") else { return };
    let port = lock.addr().port().to_string();
    let finished = init
        .args(["--host=127.0.0.1", "--max-wait=3s", "--port", &port])
        .run(CEILING)
        .expect_code(0);
    let last = finished.lines().pop().unwrap();
    assert!(
        last.contains("reason=\"423 Locked; all slots are taken; position 1 in the queue"),
        "{finished}"
    );
    // Its waiter is gone.
    assert_eq!(queue(lock.addr()), [""; 0]);
}

/// The lock delayed its answers for longer than the bound, and never ended.
#[test]
fn a_lock_that_delays_answers_is_not_unreachable() {
    let Some(mut lock) = taken() else { return };
    let Some(init) = shell::program("init") else { return };
    let port = lock.addr().port().to_string();
    let bounds = ["--unreachable-wait=300ms", "--max-wait=5s", "--on-timeout=fail", "--wait=2s"];
    let finished =
        init.args(["--host=127.0.0.1", "--port", &port]).args(bounds).run(CEILING).expect_code(1);
    assert!(finished.lines().pop().unwrap().contains("bound=--max-wait"), "{finished}");
}
