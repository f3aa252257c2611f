//! Names: unknown ones, a name server that is silent, one that is slower than an attempt.

use std::time::Duration;

use testkit::dns::{answering_dns, silent_dns, with_resolv_conf};
use testkit::scripted::{Behaviour, Server};

use crate::{CEILING, init, wait_for_reason};

#[test]
fn a_name_that_does_not_resolve_yet() {
    let (server, dns) = (Server::start(Behaviour::ok("Lock acquired")), answering_dns(&[], Duration::ZERO));
    let program = init().args(["--host", "lock.example", "--port", &server.port().to_string()]);
    let program = dns.and_then(|dns| with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program)));
    let (dns, program) = match program {
        Ok(both) => both,
        Err(why) => return testkit::skip(&why),
    };
    let mut running = program.start();
    wait_for_reason(&mut running, "the name lock.example does not resolve");
    assert!(dns.queries().iter().any(|name| name == "lock.example"));
    running.signal("TERM");
    running.wait(CEILING).expect_code(143);
}

#[test]
fn a_silent_name_server_costs_one_thread() {
    let program = init().args(["--host", "lock.example"]).env("PSL_LOG", "debug");
    let program =
        silent_dns().and_then(|dns| with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program)));
    let (_dns, program) = match program {
        Ok(both) => both,
        Err(why) => return testkit::skip(&why),
    };
    let mut running = program.start();
    wait_for_reason(&mut running, "no answer in time from the name server for lock.example");
    testkit::eventually("many attempts", CEILING, || {
        let threads = running.threads();
        // The wait, the signals, the log, and one look-up.
        assert!(threads <= 4, "{threads} threads\n{running}");
        (running.count(|line| line.contains("no answer in time")) >= 8).then_some(())
    });
}

#[test]
fn a_name_server_slower_than_an_attempt_is_waited_for() {
    let server = Server::start(Behaviour::ok("Lock acquired"));
    let program = init().args(["--host", "lock.example", "--port", &server.port().to_string()]);
    let dns = answering_dns(&[("lock.example", "127.0.0.1")], Duration::from_secs(1));
    let program = dns.and_then(|dns| with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program)));
    let (_dns, program) = match program {
        Ok(both) => both,
        Err(why) => return testkit::skip(&why),
    };
    let finished = program.run(CEILING).expect_code(0);
    assert!(finished.stderr.contains("no answer in time from the name server"), "{finished}");
}

#[test]
fn of_several_addresses_one_that_answers_is_enough() {
    let server = Server::start_at(([127, 0, 0, 9], 0).into(), Behaviour::ok("Lock acquired"));
    let program = init().args(["--host", "lock.example", "--port", &server.port().to_string()]);
    let dns = answering_dns(&[("lock.example", "127.0.0.8"), ("lock.example", "127.0.0.9")], Duration::ZERO);
    let program = dns.and_then(|dns| with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program)));
    match program {
        Ok((_dns, program)) => drop(program.run(CEILING).expect_code(0)),
        Err(why) => testkit::skip(&why),
    }
}
