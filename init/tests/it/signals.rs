//! SIGTERM and SIGINT end init at once, in each state, also as process 1.

use std::time::{Duration, Instant};

use testkit::dns::{silent_dns, with_resolv_conf};
use testkit::program::{Program, Running};
use testkit::scratch::Scratch;
use testkit::scripted::{Behaviour, Server, blackhole};

use crate::{CEILING, bare, init_at, wait_for_reason};

/// Generous, because the machine may be busy; the real time is printed.
const AT_ONCE: Duration = Duration::from_secs(1);

const BOTH: [(&str, i32); 2] = [("TERM", 143), ("INT", 130)];

#[track_caller]
fn stops(moment: &str, mut running: Running, signal: &str, code: i32) {
    let sent = Instant::now();
    running.signal(signal);
    let finished = running.wait(CEILING);
    let took = sent.elapsed();
    let lines = finished.lines();
    let stopped = lines
        .iter()
        .position(|line| line.contains("msg=stopped") || line.contains("msg=\"stopped\""));
    let after = stopped.map_or(&[][..], |at| &lines[at..]);
    assert!(
        !after.iter().any(|line| line.contains("waiting for the lock")),
        "{moment}: {finished}"
    );
    eprintln!("{moment}, SIG{signal}: ended after {took:?}");
    assert!(finished.code == Some(code) && took < AT_ONCE, "{moment}: {took:?}\n{finished}");
}

/// An init whose attempt never ends by itself.
fn patient(port: u16) -> Program {
    bare().args(["--host=127.0.0.1", "--attempt-timeout=1h", "--port", &port.to_string()])
}

#[test]
fn during_name_resolution() {
    for (signal, code) in BOTH {
        let program = bare().args(["--host=lock.example", "--attempt-timeout=1h"]);
        let program = silent_dns().and_then(|dns| {
            with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program))
        });
        let (dns, program) = match program {
            Ok(both) => both,
            Err(why) => return testkit::skip(&why),
        };
        let running = program.start();
        testkit::eventually("a query", CEILING, || (!dns.queries().is_empty()).then_some(()));
        stops("during name resolution", running, signal, code);
    }
}

#[test]
fn while_connecting() {
    let (address, _hole) = blackhole();
    let connecting = format!(":{:04X} 02 ", address.port());
    for (signal, code) in BOTH {
        let running = patient(address.port()).start();
        // The connections that fill the backlog are established (01); only init's is not (02).
        testkit::eventually("a connection half-way", CEILING, || {
            std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&connecting).then_some(())
        });
        stops("while connecting", running, signal, code);
    }
}

#[test]
fn while_waiting_for_the_answer() {
    for (moment, behaviour) in [
        ("accepted", Behaviour::Silent),
        ("a byte a second", Behaviour::Trickle(Duration::from_secs(1))),
    ] {
        for (signal, code) in BOTH {
            let server = Server::start(behaviour.clone());
            let running = patient(server.port()).start();
            testkit::eventually("a connection", CEILING, || {
                (server.connections() > 0).then_some(())
            });
            stops(moment, running, signal, code);
        }
    }
}

#[test]
fn during_the_pause() {
    let server = Server::start(Behaviour::status_with(423, "Locked", &[("Retry-After", "30")]));
    for (signal, code) in BOTH {
        let mut running = init_at(&server).start();
        wait_for_reason(&mut running, "423 Locked");
        stops("during the pause", running, signal, code);
    }
}

#[test]
fn at_any_moment_of_many_attempts() {
    let server = Server::start(Behaviour::status(423, "Locked"));
    for n in 0..20 {
        let (signal, code) = BOTH[n % 2];
        let mut running = bare()
            .env("PSL_LOG", "debug")
            .args(["--host=127.0.0.1", "--pause=100ms", "--port", &server.port().to_string()])
            .start();
        wait_for_reason(&mut running, "423 Locked");
        std::thread::sleep(Duration::from_millis(n as u64));
        stops("during attempts", running, signal, code);
    }
}

/// Runs a program with a full stderr that has no reader; the first argument is the pipe.
const FULL_STDERR: &str = "mkfifo \"$0\" && exec 3<>\"$0\" && { dd if=/dev/zero bs=4096 count=16 >&3; } 2>/dev/null && exec \"$@\" 2>&3";

#[test]
fn while_its_log_has_no_reader() {
    let (server, dir) = (Server::start(Behaviour::status(423, "Locked")), Scratch::new());
    let fifo = dir.join("full");
    let stuck = |program: Program| {
        let _ = std::fs::remove_file(&fifo);
        let under = ["/bin/sh".as_ref(), "-c".as_ref(), FULL_STDERR.as_ref(), fifo.as_os_str()];
        program.under(under).env("PATH", "/usr/bin:/bin")
    };
    for (signal, code) in BOTH {
        let before = server.connections();
        let running = stuck(init_at(&server)).start();
        testkit::eventually("init still asks", CEILING, || {
            (server.connections() > before + 2).then_some(())
        });
        stops("with a blocked log", running, signal, code);
    }
    stuck(init_at(&server).arg("--max-wait=500ms")).run(CEILING).expect_code(0);
}

#[test]
fn as_process_1() {
    let server = Server::start(Behaviour::status_with(423, "Locked", &[("Retry-After", "30")]));
    for (signal, code) in BOTH {
        let mut running = match init_at(&server).as_pid_1() {
            Ok(program) => program.start(),
            Err(why) => return testkit::skip(&why),
        };
        wait_for_reason(&mut running, "423 Locked");
        stops("as process 1", running, signal, code);
    }
}
