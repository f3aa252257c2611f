//! A real init that ends while a real lock has it parked: the lock forgets its place.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::http::Request;
use testkit::program::{Program, Running};
use testkit::{CEILING, eventually, skip};

/// The lock notices a hang-up at once and keeps the place for two seconds; the rest is for a machine with other work.
const SHORT: Duration = Duration::from_secs(6);

fn binary(name: &str) -> Option<Program> {
    let Some(directory) = Program::static_dir() else {
        skip("init beside lock needs the static binaries: PSL_TEST_BIN_DIR is not set");
        return None;
    };
    Some(Program::at(directory.join(name)))
}

/// A lock whose only slot is taken for longer than any test.
fn taken() -> Option<Running> {
    let mut lock = binary("lock")?
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

/// An init whose first request is parked: it has no answer of the lock yet.
fn parked(lock: SocketAddr, holder: &str) -> Option<Running> {
    let port = lock.port().to_string();
    let init = binary("init")?
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

/// The reason at `--max-wait` is the lock's own, also for an init that the lock would have parked for longer.
#[test]
fn at_its_bound_init_knows_what_the_lock_said() {
    let Some(mut lock) = taken() else { return };
    let Some(init) = binary("init") else { return };
    let port = lock.addr().port().to_string();
    let finished = init
        .args(["--host=127.0.0.1", "--max-wait=3s", "--port", &port])
        .run(CEILING)
        .expect_code(0);
    let last = finished.lines().pop().unwrap();
    assert!(
        last.contains("reason=\"423 Locked; all slots are taken; position 1 in line"),
        "{finished}"
    );
    // It has given its place up.
    assert_eq!(queue(lock.addr()), [""; 0]);
}

/// The lock held its answers back for longer than the bound, and was there all the time.
#[test]
fn a_lock_that_holds_answers_back_is_not_unreachable() {
    let Some(mut lock) = taken() else { return };
    let Some(init) = binary("init") else { return };
    let port = lock.addr().port().to_string();
    let bounds = ["--unreachable-wait=300ms", "--max-wait=5s", "--on-timeout=fail", "--wait=2s"];
    let finished =
        init.args(["--host=127.0.0.1", "--port", &port]).args(bounds).run(CEILING).expect_code(1);
    assert!(finished.lines().pop().unwrap().contains("bound=--max-wait"), "{finished}");
}
