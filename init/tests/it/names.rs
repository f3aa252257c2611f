//! Name resolution: unknown names, silent and slow name servers.

use std::time::Duration;

use testkit::dns::{
    A, Dns, NXDOMAIN, Question, Reaction, SERVFAIL, answering_dns, silent_dns, with_hosts,
    with_resolv_conf,
};
use testkit::scripted::{Behaviour, Server};

use crate::{CEILING, init, wait_for_reason};

#[test]
fn a_name_that_does_not_resolve_yet() {
    let (server, dns) =
        (Server::start(Behaviour::ok("Lock acquired")), answering_dns(&[], Duration::ZERO));
    let program = init().args(["--host", "lock.example", "--port", &server.port().to_string()]);
    let program = dns.and_then(|dns| {
        with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program))
    });
    let (dns, program) = match program {
        Ok(both) => both,
        Err(why) => return testkit::skip(&why),
    };
    let mut running = program.start();
    wait_for_reason(
        &mut running,
        &format!("name does not resolve: lock.example: NXDOMAIN from {}", dns.ip()),
    );
    assert!(dns.queries().iter().any(|name| name == "lock.example"));
    running.signal("TERM");
    running.wait(CEILING).expect_code(143);
}

#[test]
fn a_silent_name_server_needs_no_further_thread() {
    let program = init().args(["--host", "lock.example"]).env("PSL_LOG", "debug");
    let program = silent_dns().and_then(|dns| {
        with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program))
    });
    let (dns, program) = match program {
        Ok(both) => both,
        Err(why) => return testkit::skip(&why),
    };
    let mut running = program.start();
    let reason = format!("no answer from {} within 500ms", dns.ip());
    wait_for_reason(&mut running, &reason);
    testkit::eventually("many attempts", CEILING, || {
        let threads = running.threads();
        // The wait, the signals, the log.
        assert!(threads <= 3, "{threads} threads\n{running}");
        (running.count(|line| line.contains(&reason)) >= 8).then_some(())
    });
}

#[test]
fn a_name_server_slower_than_an_attempt_is_enough() {
    let server = Server::start(Behaviour::ok("Lock acquired"));
    let program = init().args(["--host", "lock.example", "--port", &server.port().to_string()]);
    let dns = answering_dns(&[("lock.example", "127.0.0.1")], Duration::from_secs(1));
    let program = dns.and_then(|dns| {
        with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program))
    });
    let (dns, program) = match program {
        Ok(both) => both,
        Err(why) => return testkit::skip(&why),
    };
    let finished = program.run(CEILING).expect_code(0);
    assert!(
        finished.stderr.contains(&format!("no answer from {} within 500ms", dns.ip())),
        "{finished}"
    );
}

#[test]
fn of_several_addresses_one_that_answers_is_enough() {
    let server = Server::start_at(([127, 0, 0, 9], 0).into(), Behaviour::ok("Lock acquired"));
    let program = init().args(["--host", "lock.example", "--port", &server.port().to_string()]);
    let dns = answering_dns(
        &[("lock.example", "127.0.0.8"), ("lock.example", "127.0.0.9")],
        Duration::ZERO,
    );
    let program = dns.and_then(|dns| {
        with_resolv_conf(&dns.resolv_conf(), program).map(|program| (dns, program))
    });
    match program {
        Ok((_dns, program)) => drop(program.run(CEILING).expect_code(0)),
        Err(why) => testkit::skip(&why),
    }
}

/// Asserts that init finds the lock with these lines in `resolv.conf` and this name server.
#[track_caller]
fn finds_the_lock(
    name: &str,
    host: &str,
    lines: &str,
    script: impl Fn(&Question<'_>) -> Reaction + Send + Sync + 'static,
) {
    let server = Server::start(Behaviour::ok("Lock acquired"));
    let program =
        init().args(["--host", host, "--port", &server.port().to_string(), "--max-wait=20s"]);
    let program = program.env("PSL_ON_TIMEOUT", "fail");
    let both = Dns::scripted(script).and_then(|dns| {
        with_resolv_conf(&format!("{}{lines}", dns.resolv_conf()), program)
            .map(|program| (dns, program))
    });
    match both {
        Ok((_dns, program)) => {
            let finished = program.run(CEILING);
            assert_eq!(
                (finished.code, server.requests().len()),
                (Some(0), 1),
                "{name}: {finished}"
            );
        }
        Err(why) => testkit::skip(&why),
    }
}

/// Names that glibc resolves and musl does not.
#[test]
fn names_that_musl_does_not_resolve_are_found() {
    const POD: &str =
        "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    fn is(question: &Question<'_>, name: &str, code: u8) -> Reaction {
        let there = question.name == name;
        let code = if there { 0 } else { code };
        Reaction::Send(vec![question.answer(code, if there { &[LOCK] } else { &[] })])
    }
    let wide: Vec<String> = (0..31).map(|n| format!("d{n}.{}", "x".repeat(60))).collect();
    let search = format!("search {} svc.cluster.local\noptions ndots:5\n", wide.join(" "));
    assert!(search.len() > 2_000);
    finds_the_lock("a search line of 2,000 bytes", "lock.psl", &search, |question| {
        is(question, "lock.psl.svc.cluster.local", NXDOMAIN)
    });
    finds_the_lock("NXDOMAIN for AAAA", "lock.psl", POD, |question| {
        let there = question.kind == A && question.name == "lock.psl.svc.cluster.local";
        Reaction::Send(vec![
            question.answer(if there { 0 } else { NXDOMAIN }, if there { &[LOCK] } else { &[] }),
        ])
    });
    finds_the_lock("SERVFAIL in a search domain", "lock.psl", POD, |question| {
        let code =
            if question.name.ends_with(".shop.svc.cluster.local") { SERVFAIL } else { NXDOMAIN };
        is(question, "lock.psl.svc.cluster.local", code)
    });
    finds_the_lock(
        "ndots:1",
        "lock.psl",
        "search svc.cluster.local\noptions ndots:1\n",
        |question| is(question, "lock.psl.svc.cluster.local", NXDOMAIN),
    );
}

const LOCK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[test]
fn a_long_line_of_the_hosts_file_is_read() {
    let server = Server::start(Behaviour::ok("Lock acquired"));
    let aliases: String = (0..100).map(|n| format!(" alias-{n}.example")).collect();
    let program = init().args(["--host", "Lock.Example", "--port", &server.port().to_string()]);
    match with_hosts(&format!("127.0.0.1{aliases} lock.example\n"), program) {
        Ok(program) => drop(program.run(CEILING).expect_code(0)),
        Err(why) => testkit::skip(&why),
    }
}
