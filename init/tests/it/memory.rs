//! Memory during the wait, measured on the static binary.

use std::time::Duration;

use testkit::dns::{silent_dns, with_resolv_conf};
use testkit::program::Program;
use testkit::scripted::{Behaviour, Server};

use crate::{CEILING, init, init_at};

const MOST_KIB: u64 = 1536;

#[track_caller]
fn stays_small(name: &str, program: &Program, attempts: usize) {
    let running = program.clone().env("PSL_LOG", "debug").start();
    let attempted = |line: &str| line.contains("waiting for the lock");
    testkit::eventually("attempts", CEILING, || {
        (running.count(attempted) >= attempts).then_some(())
    });
    let (peak, threads) = (running.memory_peak_kib(), running.threads());
    eprintln!(
        "{name}: VmHWM {peak} KiB, {threads} threads after {} attempts",
        running.count(attempted)
    );
    assert!(peak <= MOST_KIB && threads <= 3, "{name}: {peak} KiB, {threads} threads\n{running}");
}

#[test]
fn memory_stays_small_with_any_answer() {
    if Program::static_dir().is_none() {
        return testkit::skip(
            "PSL_TEST_BIN_DIR is not set: only the static binary has a bound on memory",
        );
    }
    for (name, behaviour, attempts) in [
        (
            "locked",
            Behaviour::status_with(
                423,
                "Locked\nall 2 slots are in use\n",
                &[("Retry-After", "0")],
            ),
            100,
        ),
        ("refused", Behaviour::Refuse, 100),
        ("a head of 10 MB", Behaviour::HugeHead(10_000_000), 20),
        ("a body without end", Behaviour::EndlessBody, 20),
        ("a large refusal", Behaviour::status(423, &"Locked\n".repeat(100_000)), 20),
        ("a byte a second", Behaviour::Trickle(Duration::from_secs(1)), 5),
        ("garbage", Behaviour::Garbage, 50),
    ] {
        let server = Server::start(behaviour);
        stays_small(name, &init_at(&server), attempts);
    }
    let program = init().args(["--host=lock.example"]);
    match silent_dns()
        .and_then(|dns| with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program)))
    {
        Ok((_dns, program)) => stays_small("a silent name server", &program, 10),
        Err(why) => testkit::skip(&why),
    }
}
