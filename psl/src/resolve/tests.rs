//! Whole lookups against scripted name servers on the loopback.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::dns::{A, AAAA, Dns, NXDOMAIN, Question, REFUSED, Reaction, SERVFAIL, truncated};
use testkit::scratch::Scratch;

use super::*;

const GENEROUS: Duration = Duration::from_secs(20);

/// `number` must differ from that of other tests; all servers of one test share a port.
fn server(
    number: u8,
    port: u16,
    script: impl Fn(&Question<'_>) -> Reaction + Send + Sync + 'static,
) -> Dns {
    Dns::scripted_at(SocketAddr::from(([127, 0, 54, number], port)), script).unwrap()
}

fn answer(question: &Question<'_>, code: u8, addresses: &[&str]) -> Reaction {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Reaction::Send(vec![question.answer(code, &addresses)])
}

/// A script that answers one name with this address.
fn knows(
    name: &'static str,
    address: &'static str,
) -> impl Fn(&Question<'_>) -> Reaction + Send + Sync {
    move |question| match question.name == name {
        true => answer(question, 0, &[address]),
        false => answer(question, NXDOMAIN, &[]),
    }
}

/// A resolver with these files, and their directory.
fn with_files(resolv_conf: &str, hosts: &str, port: u16) -> (Resolver, Scratch) {
    let dir = Scratch::new();
    let sources = Sources {
        resolv_conf: dir.file("resolv.conf", resolv_conf),
        hosts: dir.file("hosts", hosts),
        port,
    };
    (Resolver::of(sources), dir)
}

fn ask(resolver: &Resolver, name: &str, timeout: Duration) -> Result<Vec<String>, String> {
    let found = resolver.resolve(&Host::Name(name.to_owned()), timeout);
    found
        .map(|ips| ips.iter().map(ToString::to_string).collect())
        .map_err(|error| error.to_string())
}

/// The result and the queries with one scripted server; `lines` follow its `nameserver` line.
fn lookup(
    number: u8,
    lines: &str,
    name: &str,
    script: impl Fn(&Question<'_>) -> Reaction + Send + Sync + 'static,
) -> (Result<Vec<String>, String>, Vec<String>) {
    let dns = server(number, 0, script);
    let (resolver, _dir) = with_files(&format!("{}{lines}", dns.resolv_conf()), "", dns.port());
    (ask(&resolver, name, GENEROUS), dns.queries())
}

fn found(addresses: &[&str]) -> Result<Vec<String>, String> {
    Ok(addresses.iter().map(ToString::to_string).collect())
}

#[test]
fn an_address_and_localhost_send_no_query() {
    let (resolver, _dir) = with_files("nameserver 127.0.54.1\n", "", 9);
    let ip: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
    assert_eq!(resolver.resolve(&Host::Ip(ip), Duration::ZERO), Ok(vec![ip]));
    assert_eq!(ask(&resolver, "LocalHost.", Duration::ZERO), found(&["127.0.0.1", "::1"]));
}

#[test]
fn an_invalid_name_sends_no_query() {
    let (resolver, _dir) = with_files("nameserver 127.0.54.1\n", "", 9);
    let (label, long) = ("a".repeat(64), "a.".repeat(128));
    for name in ["", ".", "a..b", ".a", "\u{fc}", &label, &long] {
        let expected =
            Err(format!("name does not resolve: {}: not a valid DNS name", one_line(name)));
        assert_eq!(ask(&resolver, name, GENEROUS), expected);
    }
}

#[test]
fn the_search_list_has_any_length() {
    let long: Vec<String> = (0..31).map(|n| format!("d{n}.{}.example", "x".repeat(50))).collect();
    let wide: Vec<String> = (0..31).map(|n| format!("d{n}.{}", "x.".repeat(1020))).collect();
    for (number, domains, queries) in [(2, long, 64), (3, wide, 2)] {
        let lines = format!("search {} right.example\n", domains.join(" "));
        let (result, sent) =
            lookup(number, &lines, "lock", knows("lock.right.example", "10.1.2.3"));
        assert_eq!((result, sent.len()), (found(&["10.1.2.3"]), queries));
    }
}

/// Skipping the domains takes no noticeable time.
#[test]
fn invalid_domains_are_skipped_quickly() {
    let lines = format!("search {}b\n", "a..b ".repeat(50_000));
    let start = Instant::now();
    let (result, queries) = lookup(4, &lines, "lock", knows("lock.b", "10.1.2.3"));
    assert_eq!((result, queries.len()), (found(&["10.1.2.3"]), 2));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn each_family_has_its_own_result() {
    let (result, _) = lookup(4, "", "lock.example", |question| match question.kind {
        A => answer(question, 0, &["10.1.2.3"]),
        _ => answer(question, NXDOMAIN, &[]),
    });
    assert_eq!(result, found(&["10.1.2.3"]));
    let (result, _) = lookup(4, "", "lock.example", |question| match question.kind {
        AAAA => answer(question, 0, &["fd00::2", "fd00::1"]),
        _ => answer(question, SERVFAIL, &[]),
    });
    assert_eq!(result, found(&["fd00::2", "fd00::1"]));
    let (result, _) = lookup(4, "options no-aaaa\n", "lock.example", |question| {
        answer(question, 0, &["fd00::1", "10.1.2.3", "10.1.2.2"])
    });
    assert_eq!(result, found(&["10.1.2.3", "10.1.2.2"]));
}

/// A server failure is more important than a name that does not exist.
#[test]
fn the_reason_is_the_most_important_failure() {
    let (result, _) =
        lookup(4, "search a b c\n", "lock", |question| match (&question.name[..], question.kind) {
            ("lock.b", A) => answer(question, SERVFAIL, &[]),
            ("lock.b", _) => answer(question, 0, &[]),
            _ => answer(question, NXDOMAIN, &[]),
        });
    let reason =
        "no AAAA record from 127.0.54.4, SERVFAIL from 127.0.54.4 for lock.b; 3 other names tried";
    assert_eq!(result, Err(format!("name does not resolve: lock: {reason}")));
}

#[test]
fn the_search_continues_and_ends_as_in_glibc() {
    const POD: &str =
        "search psl.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    let first = |reaction: fn(&Question<'_>) -> Reaction, then: &'static str| {
        move |question: &Question<'_>| match &question.name[..] {
            "lock.shop.psl.svc.cluster.local" => reaction(question),
            name if name == then => answer(question, 0, &["10.1.2.3"]),
            _ => answer(question, NXDOMAIN, &[]),
        }
    };
    let (next, itself) = ("lock.shop.svc.cluster.local", "lock.shop");
    let refused = "name does not resolve: lock.shop: REFUSED from 127.0.54.5 for lock.shop.psl.svc.cluster.local; 1 other name tried";
    let alias = "name does not resolve: lock.shop: no A record from 127.0.54.5, no AAAA record from 127.0.54.5 for lock.shop.psl.svc.cluster.local";
    let say = |code| match code {
        SERVFAIL => |question: &Question<'_>| answer(question, SERVFAIL, &[]),
        REFUSED => |question: &Question<'_>| answer(question, REFUSED, &[]),
        _ => |question: &Question<'_>| answer(question, 0, &[]),
    };
    let only_alias = |question: &Question<'_>| {
        Reaction::Send(vec![question.records(0, &[(5, vec![1, b'x', 0xc0, 12])])])
    };
    for (name, reaction, then, expected) in [
        ("SERVFAIL", say(SERVFAIL), next, found(&["10.1.2.3"])),
        ("no record", say(0), next, found(&["10.1.2.3"])),
        ("REFUSED", say(REFUSED), next, Err(refused.to_owned())),
        ("REFUSED, the name itself", say(REFUSED), itself, found(&["10.1.2.3"])),
        (
            "an alias without an address",
            only_alias as fn(&Question<'_>) -> Reaction,
            next,
            Err(alias.to_owned()),
        ),
    ] {
        assert_eq!(lookup(5, POD, "lock.shop", first(reaction, then)).0, expected, "{name}");
    }
    let (result, queries) = lookup(
        5,
        "search svc.cluster.local\noptions ndots:1\n",
        "lock.shop",
        knows(next, "10.1.2.3"),
    );
    assert_eq!((result, queries.len(), &queries[0][..]), (found(&["10.1.2.3"]), 4, "lock.shop"));
    let (result, queries) = lookup(5, POD, "lock.shop.", knows(next, "10.1.2.3"));
    assert_eq!(
        result,
        Err("name does not resolve: lock.shop.: NXDOMAIN from 127.0.54.5".to_owned())
    );
    assert_eq!(queries, ["lock.shop"; 2]);
}

#[test]
fn after_a_failed_server_the_next_is_queried_in_time() {
    let good = server(6, 0, knows("lock.example", "10.1.2.3"));
    let port = good.port();
    let _silent = server(7, port, |_| Reaction::Silence);
    let _failing = server(8, port, |question| answer(question, SERVFAIL, &[]));
    let _refusing = server(9, port, |question| answer(question, REFUSED, &[]));
    // No server listens at the last one.
    for first in [7, 8, 9, 10] {
        let conf =
            format!("nameserver 127.0.54.{first}\nnameserver 127.0.54.6\noptions timeout:1\n");
        let (resolver, _dir) = with_files(&conf, "", port);
        assert_eq!(ask(&resolver, "lock.example", GENEROUS), found(&["10.1.2.3"]), "{first}");
    }
    let conf = "nameserver 127.0.54.7\nnameserver 127.0.54.10\nnameserver 127.0.54.8\n";
    let (resolver, _dir) = with_files(conf, "", port);
    let expected = "name does not resolve: lock.example: no answer from 127.0.54.7 within 1s, no answer from \
                    127.0.54.10: connection refused, SERVFAIL from 127.0.54.8";
    let start = Instant::now();
    assert_eq!(ask(&resolver, "lock.example", Duration::from_secs(1)), Err(expected.to_owned()));
    assert!(start.elapsed() < GENEROUS / 2);
}

#[test]
fn servers_may_have_ipv6_addresses() {
    let Ok(dns) = Dns::scripted_at("[::1]:0".parse().unwrap(), knows("lock.example", "10.1.2.3"))
    else {
        return testkit::skip("there is no IPv6 on this machine");
    };
    let (resolver, _dir) = with_files("nameserver ::1\n", "", dns.port());
    assert_eq!(ask(&resolver, "lock.example", GENEROUS), found(&["10.1.2.3"]));
}

#[test]
fn the_answer_of_a_slow_server_counts_in_a_later_attempt() {
    let dns = server(11, 0, |question| {
        std::thread::sleep(Duration::from_millis(600));
        knows("lock.example.a", "10.1.2.3")(question)
    });
    let (resolver, dir) = with_files(&format!("{}search a\n", dns.resolv_conf()), "", dns.port());
    let short = Duration::from_millis(300);
    let expected = "name does not resolve: lock.example: no answer from 127.0.54.11 within 300ms";
    assert_eq!(ask(&resolver, "lock.example", short), Err(expected.to_owned()));
    let result =
        testkit::eventually("the name", GENEROUS, || ask(&resolver, "lock.example", short).ok());
    assert_eq!(Ok(result), found(&["10.1.2.3"]));
    assert!(sync::lock(&resolver.unfinished).is_empty());
    // A new server in the file is queried at once.
    assert!(
        ask(&resolver, "lock.example", Duration::ZERO).is_err()
            && sync::lock(&resolver.unfinished).len() == 1
    );
    let other = server(12, dns.port(), knows("lock.example", "10.4.5.6"));
    dir.file("resolv.conf", other.resolv_conf());
    assert_eq!(ask(&resolver, "lock.example", GENEROUS), found(&["10.4.5.6"]));
}

#[test]
fn truncated_answers_are_requested_over_tcp() {
    let many: Vec<IpAddr> =
        (0..2000u16).map(|n| Ipv4Addr::new(10, 1, (n >> 8) as u8, n as u8).into()).collect();
    let (result, _) = lookup(13, "", "lock.example", move |question| {
        let answer = question.answer(0, if question.is_over_tcp { &many } else { &many[..1] });
        Reaction::Send(vec![if question.is_over_tcp { answer } else { truncated(answer) }])
    });
    let first: Vec<String> = (0..MOST_ADDRESSES).map(|n| format!("10.1.0.{n}")).collect();
    assert_eq!(result, Ok(first));
    let cut = |question: &Question<'_>| match question.is_over_tcp {
        true => Reaction::Silence,
        false => Reaction::Send(vec![truncated(question.answer(0, &[]))]),
    };
    let (result, _) = lookup(13, "", "lock.example", cut);
    let expected = "name does not resolve: lock.example: no answer from 127.0.54.13: over TCP: connection closed \
                    before the complete answer";
    assert_eq!(result, Err(expected.to_owned()));
    let good = server(14, 0, knows("lock.example", "10.1.2.3"));
    let bad = server(13, good.port(), cut);
    let (resolver, _dir) =
        with_files(&format!("{}{}", bad.resolv_conf(), good.resolv_conf()), "", good.port());
    assert_eq!(ask(&resolver, "lock.example", GENEROUS), found(&["10.1.2.3"]));
    let (result, _) =
        lookup(15, "options use-vc\n", "lock.example", |question| match question.is_over_tcp {
            true => answer(question, 0, &["10.1.2.3"]),
            false => answer(question, NXDOMAIN, &[]),
        });
    assert_eq!(result, found(&["10.1.2.3"]));
}

#[test]
fn foreign_messages_are_ignored() {
    let tampered = |change: fn(&mut Vec<u8>)| {
        move |question: &Question<'_>| {
            let mut wrong =
                question.answer(0, &["10.9.9.9".parse().unwrap(), "fd00::9".parse().unwrap()]);
            change(&mut wrong);
            let right = question.answer(0, &["10.1.2.3".parse().unwrap()]);
            // Many wrong messages before the right one.
            Reaction::Send([vec![wrong; 20], vec![right]].concat())
        }
    };
    for (name, change) in [
        ("identifier", (|bytes| bytes[0] ^= 1) as fn(&mut Vec<u8>)),
        ("question", |bytes| bytes[13] ^= 1),
        ("a query", |bytes| bytes[2] &= 0x7f),
        ("short", |bytes| bytes.truncate(11)),
        ("empty", Vec::clear),
    ] {
        assert_eq!(
            lookup(16, "", "lock.example", tampered(change)).0,
            found(&["10.1.2.3"]),
            "{name}"
        );
    }
    let loops = |question: &Question<'_>| {
        let mut bytes = question.answer(0, &[]);
        bytes[7] = 1;
        bytes.extend_from_slice(&[
            0xc0,
            bytes.len() as u8,
            0,
            1,
            0,
            1,
            0,
            0,
            0,
            5,
            0,
            4,
            10,
            0,
            0,
            1,
        ]);
        Reaction::Send(vec![bytes])
    };
    let expected = "name does not resolve: lock.example: a malformed answer from 127.0.54.16";
    assert_eq!(lookup(16, "", "lock.example", loops).0, Err(expected.to_owned()));
}

/// The answer has the right identifier and port, but not the server's address.
#[test]
fn answers_from_other_addresses_are_ignored() {
    let bind = |ip: &str, port| std::net::UdpSocket::bind((ip, port)).unwrap();
    let (server_socket, stranger) = (bind("127.0.54.17", 0), bind("127.0.54.18", 0));
    let port = server_socket.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let answer = |query: &[u8], last: u8| {
            let is_a = query[query.len() - 3] == 1;
            let mut bytes = query.to_vec();
            (bytes[2], bytes[3], bytes[7]) = (0x81, 0x80, u8::from(is_a));
            bytes.extend_from_slice(if is_a {
                &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0]
            } else {
                &[]
            });
            bytes.extend(is_a.then_some(last));
            bytes
        };
        for _ in 0..2 {
            let mut buffer = [0; 512];
            let (length, from) = server_socket.recv_from(&mut buffer).unwrap();
            stranger.send_to(&answer(&buffer[..length], 9), from).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            server_socket.send_to(&answer(&buffer[..length], 1), from).unwrap();
        }
    });
    let (resolver, _dir) = with_files("nameserver 127.0.54.17\n", "", port);
    assert_eq!(ask(&resolver, "lock.example", GENEROUS), found(&["10.0.0.1"]));
    server.join().unwrap();
}

#[test]
fn the_hosts_file_comes_first() {
    let aliases: String = (0..200).map(|n| format!(" alias-{n}.example")).collect();
    let hosts = format!("10.4.4.4{aliases} Lock.Example\nfd00::4 lock.example # mine\n");
    let (resolver, _dir) = with_files("nameserver 127.0.54.1\n", &hosts, 9);
    assert_eq!(ask(&resolver, "lock.example", Duration::ZERO), found(&["10.4.4.4", "fd00::4"]));
    // As in glibc, a name with a final dot is not searched in the file.
    assert!(ask(&resolver, "lock.example.", Duration::from_millis(50)).is_err());
}

#[test]
fn missing_irregular_or_large_files_are_ignored() {
    let dir = Scratch::new();
    let reason = |resolv_conf: PathBuf| {
        let resolver =
            Resolver::of(Sources { resolv_conf, hosts: dir.path().join("none"), port: 9 });
        ask(&resolver, "lock.example", GENEROUS).unwrap_err()
    };
    let expected = "name does not resolve: lock.example: no answer from 127.0.0.1: connection refused; \
                    no nameserver in /etc/resolv.conf";
    assert_eq!(reason(dir.path().join("none")), expected);
    assert_eq!(reason(dir.path().to_path_buf()), expected);
    assert_eq!(reason("/dev/zero".into()), expected);
    assert_eq!(
        reason(dir.file("huge", format!("#{}\nnameserver 127.0.54.1\n", "x".repeat(1024 * 1024)))),
        expected
    );
}
