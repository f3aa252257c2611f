use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::api::Problem;
use crate::verdict::{DaemonSet, Filter, Pod, Pods, Reading};

const NOW: Duration = Duration::from_secs(100);

/// A verdict about DaemonSets `ns/ready` and `ns/hidden`, and as many that wait.
fn verdict(waiting: usize) -> Verdict {
    let set = |name: String| DaemonSet { namespace: "ns".into(), uid: name.clone(), name, ..DaemonSet::default() };
    let (filter, labels) = (Filter::default(), Default::default());
    let mut reading = Reading::new(&filter, &labels);
    reading.add(set("ready".into()));
    reading.add(DaemonSet { is_ignored: true, ..set("hidden".into()) });
    (0..waiting).for_each(|number| reading.add(set(format!("late-{number:04}"))));
    let wanted = reading.finish().unwrap();
    let mut pods = Pods::new(&wanted);
    pods.add(Pod {
        name: "ready-1".into(),
        owner: Some("ready".into()),
        phase: "Running".into(),
        is_ready: true,
        ..Pod::default()
    });
    let nearest = pods.finish();
    wanted.verdict(nearest)
}

/// Noted 7 seconds before the answer is made.
fn boards() -> Vec<(&'static str, Board, Instant)> {
    #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
    let start = Instant::now();
    let refused = || Problem {
        cause: "list of DaemonSets: 403, the role must allow list on daemonsets.apps in all namespaces".into(),
        words: Some("User 'x' cannot list".into()),
        retry_after: None,
    };
    let board = |enabled, results: Vec<Result<Verdict, Problem>>| {
        let board = Board::new(Known::at_start(enabled));
        let at = start + NOW - Duration::from_secs(7);
        results.into_iter().for_each(|result| drop(board.note(result, at)));
        board
    };
    let boards = vec![
        ("off", board(false, vec![])),
        ("none yet", board(true, vec![])),
        ("healthy", board(true, vec![Ok(verdict(0))])),
        ("one waits", board(true, vec![Ok(verdict(1))])),
        ("two wait", board(true, vec![Ok(verdict(0)), Ok(verdict(2))])),
        ("refused at first", board(true, vec![Err(refused())])),
        ("refused later", board(true, vec![Ok(verdict(0)), Err(refused())])),
        ("healthy again", board(true, vec![Err(refused()), Ok(verdict(0))])),
    ];
    boards.into_iter().map(|(name, board)| (name, board, start + NOW)).collect()
}

const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

#[test]
fn gates() {
    let late = "HealthCheck Failed\nns/late-0000: no pod on this node yet\n";
    let later = format!("{late}ns/late-0001: no pod on this node yet\n");
    let refused =
        "HealthCheck Failed\nlist of DaemonSets: 403, the role must allow list on daemonsets.apps in all namespaces";
    let (refused_inside, refused_outside) = (format!("{refused}: User 'x' cannot list\n"), format!("{refused}\n"));
    let cases: &[(&str, u16, &str, &str)] = &[
        ("off", 200, "HealthCheck OK\n", "HealthCheck OK\n"),
        (
            "none yet",
            412,
            "HealthCheck Failed\nno answer of the API yet\n",
            "HealthCheck Failed\nno answer of the API yet\n",
        ),
        ("healthy", 200, "HealthCheck OK\n", "HealthCheck OK\n"),
        ("one waits", 412, late, "HealthCheck Failed\n1 DaemonSet is not ready on this node\n"),
        ("two wait", 412, &later, "HealthCheck Failed\n2 DaemonSets are not ready on this node\n"),
        ("refused at first", 412, &refused_inside, &refused_outside),
        ("refused later", 412, &refused_inside, &refused_outside),
        ("healthy again", 200, "HealthCheck OK\n", "HealthCheck OK\n"),
    ];
    let boards = boards();
    assert_eq!(boards.len(), cases.len());
    for ((name, board, _), (case, status, inside, outside)) in boards.iter().zip(cases) {
        assert_eq!(name, case);
        for (peer, body) in [(INSIDE, inside), (OUTSIDE, outside)] {
            let answer = gate(&board.known(), peer);
            assert_eq!((answer.status(), answer.body()), (*status, *body), "{case} to {peer}");
        }
    }
}

#[test]
fn states() {
    let cause = "list of DaemonSets: 403, the role must allow list on daemonsets.apps in all namespaces";
    let ready = r#"{"namespace":"ns","name":"ready","verdict":"ready","reason":"pod ready-1 is ready"}"#;
    let hidden = r#"{"namespace":"ns","name":"hidden","verdict":"excluded","reason":"its annotation pod-startup-lock/ignore says so"}"#;
    let late = r#"{"namespace":"ns","name":"late-0000","verdict":"waiting","reason":"no pod on this node yet"}"#;
    let counts = |waiting: usize| format!(r#""counts":{{"waiting":{waiting},"ready":1,"not-here":0,"excluded":1}}"#);
    let none = r#""counts":null,"daemonsets":[],"last_success_seconds_ago":null}"#;
    for (case, peer, expected) in [
        ("off", INSIDE, format!(r#"{{"version":1,"healthy":true,"reasons":[],{none}"#)),
        ("none yet", INSIDE, format!(r#"{{"version":1,"healthy":false,"reasons":["no answer of the API yet"],{none}"#)),
        (
            "healthy",
            INSIDE,
            format!(
                r#"{{"version":1,"healthy":true,"reasons":[],{},"daemonsets":[{ready},{hidden}],"last_success_seconds_ago":7}}"#,
                counts(0)
            ),
        ),
        (
            "one waits",
            INSIDE,
            format!(
                r#"{{"version":1,"healthy":false,"reasons":["ns/late-0000: no pod on this node yet"],{},"daemonsets":[{late},{ready},{hidden}],"last_success_seconds_ago":7}}"#,
                counts(1)
            ),
        ),
        (
            "one waits",
            OUTSIDE,
            format!(
                r#"{{"version":1,"healthy":false,"reasons":["1 DaemonSet is not ready on this node"],{},"daemonsets":null,"last_success_seconds_ago":7}}"#,
                counts(1)
            ),
        ),
        (
            "refused at first",
            OUTSIDE,
            format!(
                r#"{{"version":1,"healthy":false,"reasons":["{cause}"],"counts":null,"daemonsets":null,"last_success_seconds_ago":null}}"#
            ),
        ),
        (
            "refused later",
            INSIDE,
            format!(
                r#"{{"version":1,"healthy":false,"reasons":["{cause}: User 'x' cannot list"],{},"daemonsets":[{ready},{hidden}],"last_success_seconds_ago":7}}"#,
                counts(0)
            ),
        ),
    ] {
        let (_, board, now) = boards().into_iter().find(|(name, ..)| *name == case).expect("a board of that name");
        assert_eq!(state(&board.known(), peer, now).body(), expected, "{case} to {peer}");
    }
}

#[test]
fn what_is_named_is_bounded() {
    #[expect(clippy::disallowed_methods, reason = "any moment does")]
    let now = Instant::now();
    let board = Board::new(Known::at_start(true));
    let known = board.note(Ok(verdict(MOST_LISTED + 50)), now);
    let body = gate(&known, INSIDE).body().to_owned();
    assert_eq!(body.lines().count(), 1 + MOST_CAUSES + 1);
    assert!(body.ends_with("\nand 950 more\n"), "{body}");
    let state: serde_json::Value = serde_json::from_str(state(&known, INSIDE, now).body()).unwrap();
    assert_eq!(state["daemonsets"].as_array().map(Vec::len), Some(MOST_LISTED));
    assert_eq!(state["counts"]["waiting"], 1050);
}

#[test]
fn metrics_are_of_the_last_verdict() {
    let board = Board::new(Known::at_start(true));
    for status in [Some(200), Some(200), Some(403), None] {
        board.count(status);
    }
    #[expect(clippy::disallowed_methods, reason = "any moment does")]
    let known = board.note(Ok(verdict(2)), Instant::now());
    let text = metrics(&known).body().to_owned();
    for line in [
        r#"psl_k8s_requests_total{code="200"} 2"#,
        r#"psl_k8s_requests_total{code="403"} 1"#,
        r#"psl_k8s_requests_total{code="error"} 1"#,
        r#"psl_daemonsets{verdict="ready"} 1"#,
        r#"psl_daemonsets{verdict="waiting"} 2"#,
        r#"psl_daemonsets{verdict="not-here"} 0"#,
        r#"psl_daemonsets{verdict="excluded"} 1"#,
        r#"psl_gate_open{gate="daemonsets"} 0"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    assert!(text.contains(r#"psl_build_info{program="health",version=""#), "{text}");
    let off = metrics(&Known::at_start(false)).body().to_owned();
    assert!(off.contains("\npsl_gate_open{gate=\"daemonsets\"} 1\n"), "{off}");
}

#[test]
fn routes() {
    let board = Board::new(Known::at_start(false));
    for (method, path, status) in [
        (Method::Get, "/", 200),
        (Method::Get, "/state", 200),
        (Method::Get, "/metrics", 200),
        (Method::Get, "/livez", 200),
        (Method::Get, "/readyz", 200),
        (Method::Get, "/favicon.ico", 404),
        (Method::Post, "/", 405),
        (Method::Head, "/", 405),
        (Method::Delete, "/state", 405),
    ] {
        let request = Request { method: method.clone(), path: path.to_owned(), ..Request::default() };
        assert_eq!(answer(&board, &request).status(), status, "{method} {path}");
    }
}
