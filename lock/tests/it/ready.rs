//! Leases that end when their application answers, on the real binary.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use testkit::http::{Request, get};
use testkit::program::{Program, Running, field};
use testkit::scratch::Scratch;
use testkit::scripted::{Behaviour, Server, blackhole};
use testkit::{CEILING, eventually, median, skip};

use crate::support::{get_from, program};

fn lock(arguments: &[&str]) -> Running {
    program(arguments).args(["--max-duration", "2h"]).start()
}

fn ended(address: SocketAddr, how: &str) -> f64 {
    get(address, "/metrics").sample(&format!("psl_lock_ended_total{{how=\"{how}\"}}"))
}

#[track_caller]
fn wait_for_end(address: SocketAddr, how: &str, count: f64) {
    eventually(&format!("{count} leases that are {how}"), CEILING, || {
        (ended(address, how) >= count).then_some(())
    });
    assert_eq!(ended(address, how), count, "{how}");
}

/// The first line about this holder with this message.
#[track_caller]
fn line_about(lock: &mut Running, holder: &str, message: &str) -> String {
    let is = |line: &str, key: &str, value: &str| field(line, key).as_deref() == Some(value);
    lock.wait_for(|line| is(line, "holder", holder) && is(line, "msg", message), CEILING)
}

#[test]
fn a_port_that_opens_ends_the_lease() {
    let mut lock = lock(&["--locks", "2"]);
    let address = lock.addr();
    let (database, closing) = (Server::start(Behaviour::Refuse), Server::start(Behaviour::Refuse));
    for (holder, server) in [("a", &database), ("b", &closing)] {
        let reply =
            get(address, &format!("/?holder={holder}&duration=1h&ready=tcp:{}", server.port()));
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (200, "Lock acquired\nfor 1h\n"),
            "{holder}"
        );
    }
    let watched = get(address, "/state").json()["leases"][0]["watched"].clone();
    assert_eq!((get(address, "/").status, watched), (423, true.into()));
    database.set(Behaviour::Silent);
    wait_for_end(address, "ready", 1.0);
    closing.set(Behaviour::CloseAtOnce);
    wait_for_end(address, "ready", 2.0);
    let granted = line_about(&mut lock, "a", "lock acquired");
    assert_eq!(field(&granted, "ready"), Some(format!("tcp:{}", database.port())), "{granted}");
    let line = line_about(&mut lock, "a", "lease ended");
    assert_eq!(
        (field(&line, "how").as_deref(), field(&line, "level").as_deref()),
        (Some("ready"), Some("info"))
    );
    assert_eq!(get(address, "/metrics").sample("psl_lock_slots_in_use"), 0.0);
}

#[test]
fn only_2xx_ends_the_lease() {
    let mut lock = lock(&["--locks", "16", "--ready-period", "50ms"]);
    let address = lock.addr();
    let elsewhere = Server::start(Behaviour::ok("moved here"));
    let redirect =
        |status| Behaviour::status_with(status, "", &[("Location", &elsewhere.url("/"))]);
    let not_ready = [
        ("503", Behaviour::status(503, "starting")),
        ("404", Behaviour::status(404, "")),
        ("301", redirect(301)),
        ("307", redirect(307)),
        ("garbage", Behaviour::Garbage),
        ("cut", Behaviour::CloseAfterRequest),
        ("reset", Behaviour::ResetAfterRequest),
        ("refused", Behaviour::Refuse),
        ("endless head", Behaviour::EndlessHead),
    ];
    let servers: Vec<_> =
        not_ready.into_iter().map(|(name, behaviour)| (name, Server::start(behaviour))).collect();
    for (number, (name, server)) in servers.iter().enumerate() {
        let reply = get(
            address,
            &format!("/?holder={number}&duration=1h&ready=http:{}/healthz", server.port()),
        );
        assert_eq!(reply.status, 200, "{name}");
    }
    for (name, server) in servers.iter().filter(|(name, _)| *name != "refused") {
        eventually(&format!("probes at {name}"), CEILING, || {
            (server.connections() >= 4).then_some(())
        });
    }
    assert_eq!(
        (ended(address, "ready"), elsewhere.connections()),
        (0.0, 0),
        "a redirect is not followed"
    );
    for (at, (name, server)) in servers.iter().enumerate() {
        // All of 2xx, whatever comes with it.
        server.set(
            [Behaviour::ok("yes"), Behaviour::status(204, ""), Behaviour::status(299, "")][at % 3]
                .clone(),
        );
        wait_for_end(address, "ready", at as f64 + 1.0);
        assert!(
            server
                .requests()
                .iter()
                .all(|request| request.method == "GET" && request.target == "/healthz"),
            "{name}"
        );
    }
    assert_eq!(ended(address, "expired"), 0.0);
}

#[test]
fn a_port_that_is_open_before_the_application_can_run_is_ignored() {
    let mut lock = lock(&["--locks", "64", "--ready-period", "50ms"]);
    let address = lock.addr();
    let server = Server::start(Behaviour::ok("another process"));
    let mut missed = 0;
    for ready in [format!("http:{}/x", server.port()), format!("tcp:{}", server.port())] {
        let said = format!(
            "{ready} is open before the application can run: the lease lasts its full duration"
        );
        // On a busy machine the answer to the baseline probe may come too late, which makes it a
        // probe like the others.
        let holder = (0..10).map(|attempt| format!("{}-{attempt}", &ready[..3])).find(|holder| {
            let reply = get(address, &format!("/?holder={holder}&duration=1s&ready={ready}"));
            assert_eq!(reply.status, 200, "{ready}");
            let line = line_about(&mut lock, holder, "lock acquired");
            let is_said = field(&line, "ready") == Some(said.clone());
            missed += u32::from(!is_said);
            is_said
        });
        let holder =
            holder.unwrap_or_else(|| panic!("{ready}: no lease with an open port: {lock}"));
        let state = get(address, "/state").json();
        let lease =
            state["leases"].as_array().unwrap().iter().find(|lease| lease["holder"] == *holder);
        assert!(lease.is_some_and(|lease| lease["watched"] == false), "{holder}: {state}");
    }
    wait_for_end(address, "expired", 2.0);
    wait_for_end(address, "ready", missed.into());
    if missed == 0 {
        assert_eq!(server.connections(), 2, "looked at once each");
    }
}

#[test]
fn probes_become_rarer_with_the_age_of_the_lease() {
    let period = Duration::from_millis(200);
    let mut lock = lock(&["--ready-period", "200ms"]);
    let address = lock.addr();
    let server = Server::start(Behaviour::status(503, "starting"));
    let asked = Instant::now();
    assert_eq!(
        get(address, &format!("/?holder=a&duration=1h&ready=http:{}/", server.port())).status,
        200
    );
    let window = Duration::from_secs(4);
    // The test counts a rate, so it waits for the time to pass.
    thread::sleep(window);
    let probes: Vec<Duration> =
        server.requests().iter().map(|request| request.at - asked).collect();
    // The baseline probe, then as many probes as pauses of a tenth of the age allow: at least
    // 20 ms, at most the period.
    let mut most = 1;
    let mut age = Duration::ZERO;
    while age < window {
        age += (age / 10).max(Duration::from_millis(20)).min(period);
        most += 1;
    }
    eprintln!("{} probes in {window:?}, {most} at most", probes.len());
    assert!(probes.len() <= most, "{} probes, {most} at most: {probes:?}", probes.len());
    assert!(probes.len() >= most / 3, "only {} probes of {most}: {probes:?}", probes.len());
    let pauses =
        |probes: &[Duration]| probes.windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>();
    assert!(pauses(&probes)[0] >= Duration::from_millis(19), "{probes:?}");
    let (early, late) =
        (median(pauses(&probes[..10])), median(pauses(&probes[probes.len() - 10..])));
    assert!(early < late && late >= period * 9 / 10, "{early:?}, then {late:?}");
    let in_the_end = probes.iter().filter(|at| **at > window - 5 * period).count();
    assert!(in_the_end <= 6, "{in_the_end} probes in five periods");
}

#[test]
fn the_baseline_probe_delays_no_answer_for_long() {
    let mut lock = lock(&["--locks", "64"]);
    let address = lock.addr();
    let (hole, _guard) = blackhole();
    let (silent, deaf) = (Server::start(Behaviour::Silent), Server::start(Behaviour::EndlessHead));
    for (name, ready) in [
        ("refused", "tcp:1".to_owned()),
        ("no way there", format!("tcp:{}", hole.port())),
        ("no way there, by HTTP", format!("http:{}/", hole.port())),
        ("silent", format!("http:{}/", silent.port())),
        ("endless", format!("http:{}/", deaf.port())),
    ] {
        let took: Vec<Duration> = (0..5)
            .map(|n| {
                let holder = name.replace(|it: char| !it.is_ascii_alphanumeric(), "-");
                let reply =
                    get(address, &format!("/?holder={holder}-{n}&duration=1h&ready={ready}"));
                assert_eq!(reply.status, 200, "{name}");
                reply.took
            })
            .collect();
        let median = median(took);
        eprintln!(
            "answer after a first look that found it {name}, median of 5: {median:?} (goal 50 ms)"
        );
        assert!(median < Duration::from_millis(200), "{name}: {median:?}");
    }
    let state = get(address, "/state").json();
    assert!(
        state["leases"].as_array().unwrap().iter().all(|lease| lease["watched"] == true),
        "{state}"
    );
}

#[test]
fn both_families_are_looked_at() {
    for host in ["127.0.0.1", "::1"] {
        let at: IpAddr = host.parse().unwrap();
        if std::net::TcpListener::bind((at, 0)).is_err() {
            skip(&format!("probes at {host}: this machine does not have it"));
            continue;
        }
        // On all addresses: there an IPv4 client may come as ::ffff:127.0.0.1.
        let mut lock =
            Program::new(env!("CARGO_BIN_EXE_lock")).args(["--port", "0", "--locks", "2"]).start();
        let (address, metrics) = (SocketAddr::new(at, lock.port()), lock.addr());
        let server = Server::start_at(SocketAddr::new(at, 0), Behaviour::status(503, "starting"));
        let (tcp, http) = (Server::start_at(SocketAddr::new(at, 0), Behaviour::Refuse), &server);
        for (holder, ready) in
            [("a", format!("tcp:{}", tcp.port())), ("b", format!("http:{}/", http.port()))]
        {
            assert_eq!(
                get(address, &format!("/?holder={holder}&duration=10m&ready={ready}")).status,
                200,
                "{host}"
            );
        }
        tcp.set(Behaviour::CloseAtOnce);
        server.set(Behaviour::ok("up"));
        wait_for_end(metrics, "ready", 2.0);
        assert!(server.requests().iter().all(|request| request.from.ip() == at), "{host}");
    }
}

#[test]
fn a_port_that_hangs_delays_no_other() {
    let mut lock = lock(&["--locks", "4", "--ready-period", "100ms"]);
    let address = lock.addr();
    let hanging = [Server::start(Behaviour::Silent), Server::start(Behaviour::SilentAfterRequest)];
    for (number, server) in hanging.iter().enumerate() {
        let reply = get(
            address,
            &format!("/?holder=hanging-{number}&duration=1h&ready=http:{}/", server.port()),
        );
        assert_eq!(reply.status, 200);
        assert!(
            reply.took < Duration::from_secs(2),
            "the baseline probe delayed the answer by {:?}",
            reply.took
        );
    }
    let server = Server::start(Behaviour::status(503, "starting"));
    assert_eq!(
        get(address, &format!("/?holder=a&duration=1h&ready=http:{}/", server.port())).status,
        200
    );
    let probes = server.wait_for_requests(25, CEILING);
    let pauses: Vec<Duration> = probes.windows(2).map(|two| two[1].at - two[0].at).collect();
    let longest = pauses.iter().max().expect("pauses");
    eprintln!("longest pause between two probes beside two ports that hang: {longest:?}");
    assert!(*longest < Duration::from_secs(2), "{pauses:?}");
    assert!(
        hanging.iter().all(|server| server.connections() >= 2),
        "the others are looked at again and again"
    );
    server.set(Behaviour::ok("up"));
    wait_for_end(address, "ready", 1.0);
}

#[test]
fn the_number_of_threads_does_not_grow_with_the_leases() {
    let mut lock = lock(&["--locks", "64", "--ready-period", "100ms"]);
    let address = lock.addr();
    let names = |lock: &Running| -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", lock.pid())).unwrap();
        let mut names: Vec<_> = tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect();
        names.sort();
        names
    };
    assert!(!names(&lock).iter().any(|name| name == "prober"), "no prober starts without a port");
    let server = Server::start(Behaviour::status(503, "starting"));
    for number in 0..50 {
        // Half of them refuse, half of them answer that they are starting.
        let ready =
            if number % 2 == 0 { "tcp:1".to_owned() } else { format!("http:{}/", server.port()) };
        assert_eq!(
            get(address, &format!("/?holder={number}&duration=1h&ready={ready}")).status,
            200
        );
    }
    let first = names(&lock);
    server.wait_for_requests(300, CEILING);
    let then = names(&lock);
    assert_eq!(then.iter().filter(|name| *name == "prober").count(), 4, "{then:?}");
    assert_eq!(first, then);
    assert!(then.len() <= 20, "{then:?}");
}

#[test]
fn a_successful_probe_gives_the_slot_to_the_first_waiter_at_once() {
    let mut lock = lock(&[]);
    let address = lock.addr();
    let took: Vec<Duration> = (0..11)
        .map(|round| {
            let server = Server::start(Behaviour::status(503, "starting"));
            let first = get(
                address,
                &format!("/?holder=a{round}&duration=1h&ready=http:{}/", server.port()),
            );
            assert_eq!(first.status, 200, "{round}");
            let next = thread::spawn(move || {
                let reply = get(address, &format!("/?holder=b{round}&duration=1h&wait=30s"));
                (reply, Instant::now())
            });
            eventually("the next to be parked", CEILING, || {
                (get(address, "/state").json()["queue"][0]["held"] == true).then_some(())
            });
            server.set(Behaviour::ok("up"));
            let (reply, at) = next.join().unwrap();
            assert_eq!(reply.status, 200, "{round}");
            let look = server.requests().last().expect("a look").at;
            let reply =
                Request::delete(&format!("/?holder=b{round}")).send(address, CEILING).unwrap();
            assert_eq!(reply.status, 200, "{round}");
            at.saturating_duration_since(look)
        })
        .collect();
    let median = median(took);
    eprintln!("from the successful look to the next 200, median of 11: {median:?} (goal 20 ms)");
    assert!(median < Duration::from_millis(100), "{median:?}");
    assert_eq!((ended(address, "ready"), ended(address, "released")), (11.0, 11.0));
}

/// Servers on the same port of several addresses.
fn at_one_port<const N: usize>(hosts: [&str; N]) -> [Server; N] {
    let host = |host: &str| host.parse::<IpAddr>().expect("an address");
    eventually("a port that is free at all addresses", CEILING, || {
        let first = Server::start_at(SocketAddr::new(host(hosts[0]), 0), Behaviour::Refuse);
        let port = first.port();
        // One that is taken at another address makes the server panic: ask before.
        let free = |at: &&&str| std::net::TcpListener::bind((host(at), port)).is_ok();
        if hosts[1..].iter().filter(free).count() < N - 1 {
            return None;
        }
        let mut first = Some(first);
        Some(hosts.map(|at| {
            first.take().unwrap_or_else(|| {
                Server::start_at(SocketAddr::new(host(at), port), Behaviour::Refuse)
            })
        }))
    })
}

#[test]
fn only_the_address_of_the_holder_is_probed() {
    let mut lock = lock(&["--ready-period", "50ms"]);
    let address = lock.addr();
    let [old, new, others] = at_one_port(["127.0.5.7", "127.0.5.8", "127.0.0.1"]);
    for server in [&old, &new, &others] {
        server.set(Behaviour::status(503, "starting"));
    }
    let target = format!("/?holder=a&duration=1h&ready=http:{}/", old.port());
    assert_eq!(get_from("127.0.5.7", address, &target).status, 200);
    let probes = old.wait_for_requests(5, CEILING);
    assert!(
        probes.iter().all(|request| request.header("host") == Some(&old.addr().to_string())),
        "{probes:?}"
    );
    assert_eq!((new.connections(), others.connections()), (0, 0));
    // The probes follow the holder. Requests and headers of others do not move them.
    let spoofed = Request::get(&target.replace("=a&", "=b&"))
        .header("X-Forwarded-For", "127.0.0.1")
        .header("Forwarded", "for=127.0.0.1")
        .header("Host", &others.addr().to_string())
        .without_host();
    assert_eq!(spoofed.from("127.0.5.9").send(address, CEILING).unwrap().status, 423);
    assert_eq!(get_from("127.0.5.8", address, &target).status, 200);
    let mut before = old.connections();
    new.wait_for_requests(10, CEILING);
    // One probe of the old address may have been under way.
    before += 1;
    assert!(
        old.connections() <= before,
        "{} probes at the old address, {before} before",
        old.connections()
    );
    old.set(Behaviour::ok("not the holder's any more"));
    new.wait_for_requests(20, CEILING);
    assert_eq!(ended(address, "ready"), 0.0);
    new.set(Behaviour::ok("up"));
    wait_for_end(address, "ready", 1.0);
    assert_eq!(others.connections(), 0);
}

#[test]
fn a_probe_sends_the_path_unchanged() {
    let mut lock = lock(&["--locks", "200"]);
    let address = lock.addr();
    // Open at the baseline probe, so that each port is probed once.
    let server = Server::start(Behaviour::ok("up"));
    let all = (0x21..=0x7e_u8).map(char::from).filter(|it| *it != '#');
    let mut paths: Vec<String> = all.clone().map(|it| format!("/a{it}b")).collect();
    paths.extend(all.map(|it| format!("/?a={it}b")));
    paths.extend(
        [
            "/",
            "/healthz?full=1&verbose",
            "//",
            "//a//b",
            "/a/../b",
            "/./a",
            "/%2e%2E/%00",
            "/??",
            "/a?b=/c?d",
        ]
        .map(str::to_owned),
    );
    paths.push(format!("/{}", "x".repeat(255)));
    // Either it is refused with a word, or it is asked for to the letter.
    let is_taken = |(number, path): &(usize, &String)| {
        let encoded: String = path.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let reply = get(
            address,
            &format!("/?holder={number}&duration=1h&ready=http:{}{encoded}", server.port()),
        );
        assert!([200, 400].contains(&reply.status), "{path}: {reply}");
        reply.status == 200
    };
    let taken: Vec<&String> =
        paths.iter().enumerate().filter(is_taken).map(|(_, path)| path).collect();
    assert!(taken.len() > paths.len() / 2, "only {} of {} are accepted", taken.len(), paths.len());
    let missing = || {
        let probed: Vec<String> =
            server.requests().into_iter().map(|request| request.target).collect();
        assert!(probed.iter().all(|target| paths.contains(target)), "unexpected: {probed:?}");
        taken.iter().filter(|path| !probed.contains(path)).collect::<Vec<_>>()
    };
    let until = Instant::now() + Duration::from_secs(5);
    while !missing().is_empty() && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    assert!(
        missing().is_empty(),
        "of {} accepted paths these are never asked for: {:?}",
        taken.len(),
        missing()
    );
}

#[test]
fn probes_go_on_after_a_restart() {
    let directory = Scratch::new();
    let file = directory.join("state.json");
    let arguments =
        ["--locks", "2", "--ready-period", "50ms", "--state-file", file.to_str().expect("UTF-8")];
    let mut first = lock(&arguments);
    let (server, open) = (Server::start(Behaviour::Refuse), Server::start(Behaviour::CloseAtOnce));
    for (holder, server) in [("a", &server), ("b", &open)] {
        let reply = get(
            first.addr(),
            &format!("/?holder={holder}&duration=1h&ready=tcp:{}", server.port()),
        );
        assert_eq!(reply.status, 200);
    }
    first.signal("KILL");
    first.wait(CEILING);
    let mut second = lock(&arguments);
    let address = second.addr();
    let state = get(address, "/state").json();
    assert_eq!(
        (&state["leases"][0]["watched"], &state["leases"][1]["watched"]),
        (&true.into(), &false.into())
    );
    server.set(Behaviour::CloseAtOnce);
    wait_for_end(address, "ready", 1.0);
    let state = get(address, "/state").json();
    assert_eq!((&state["leases"][0]["holder"], open.connections()), (&"b".into(), 1), "{state}");
}
