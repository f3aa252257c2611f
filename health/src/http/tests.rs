use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::core::api_error::ApiError;
use crate::core::daemonset::DaemonSetId;
use crate::core::filter::Exclusion;
use crate::core::load::LoadSettings;
use crate::core::quantity::Quantity;
use crate::core::status::Source;
use crate::core::verdict::{DaemonSetStatus, Standing};

const STALE_AFTER: Duration = Duration::from_secs(300);

/// A verdict on DaemonSets `ns/ready` and `ns/hidden`, and on this many that wait.
fn verdict(waiting: usize) -> Verdict {
    let judged = |name: String, standing| DaemonSetStatus {
        id: Arc::new(DaemonSetId::new("ns", &name, "")),
        standing,
    };
    let late = (0..waiting).map(|n| judged(format!("late-{n:04}"), Standing::NoPod));
    let ready = judged("ready".to_owned(), Standing::Ready("ready-1".into()));
    let hidden = judged("hidden".to_owned(), Standing::Excluded(Arc::new(Exclusion::Ignored)));
    Verdict::new([ready, hidden].into_iter().chain(late))
}

fn at_start(enabled: bool) -> StatusCell {
    StatusCell::new(Status::new(enabled.then_some(STALE_AFTER), None))
}

fn moment() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
    let start = Instant::now();
    start + Duration::from_secs(1000)
}

fn refused() -> ApiError {
    ApiError {
        cause:
            "permission denied: list daemonsets.apps in all namespaces (403), add it to the role of health"
                .into(),
        details: Some("User 'x' cannot list".into()),
        retry_after: None,
    }
}

/// Cells that were written 7 seconds before the answer.
fn cells() -> Vec<(&'static str, StatusCell, Instant)> {
    let now = moment();
    let at = now - Duration::from_secs(7);
    let judged = |waiting| {
        let cell = at_start(true);
        cell.update(|status| status.record_success(Source::DaemonSets, at));
        cell.update(|status| status.set_verdict(verdict(waiting)));
        cell
    };
    let failing = |cell: StatusCell, since: Instant| {
        cell.update(|status| status.record_failure(Source::DaemonSets, refused(), since));
        cell
    };
    let of_node = |change: fn(&mut Verdict)| {
        let cell = judged(1);
        let mut verdict = verdict(1);
        change(&mut verdict);
        cell.update(|status| status.set_verdict(verdict));
        cell
    };
    vec![
        ("off", at_start(false), now),
        ("none yet", at_start(true), now),
        ("healthy", judged(0), now),
        ("one waits", judged(1), now),
        ("two wait", judged(2), now),
        ("refused at first", failing(at_start(true), at), now),
        ("refused of late", failing(judged(0), at), now),
        (
            "refused for almost too long",
            failing(judged(0), now - STALE_AFTER + Duration::from_nanos(1)),
            now,
        ),
        ("refused for too long", failing(judged(0), now - STALE_AFTER), now),
        ("before this boot", of_node(|verdict| verdict.node_is_old = true), now),
        ("latched", of_node(|verdict| verdict.is_latched = true), now),
        (
            "latched, but not Ready",
            of_node(|verdict| {
                (verdict.is_latched, verdict.node_problems) =
                    (true, vec!["node is not Ready".into()]);
            }),
            now,
        ),
    ]
}

const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

#[test]
fn answers_of_the_gate() {
    let late = "HealthCheck Failed\nns/late-0000: no pod on this node yet\n";
    let later = format!("{late}ns/late-0001: no pod on this node yet\n");
    let refused = "HealthCheck Failed\npermission denied: list daemonsets.apps in all namespaces (403), add it to the role of health";
    let (refused_inside, refused_outside) =
        (format!("{refused}: User 'x' cannot list\n"), format!("{refused}\n"));
    let stale = "verdict is stale: the API server has failed for more than 5m (--stale-after)\n";
    let (stale_inside, stale_outside) =
        (format!("{refused_inside}{stale}"), format!("{refused_outside}{stale}"));
    let old = "HealthCheck Failed\nnode object is from before this boot\n";
    let old_inside = format!("{old}ns/late-0000: no pod on this node yet\n");
    let old_outside = format!("{old}1 DaemonSet is not ready on this node\n");
    let cases: &[(&str, u16, &str, &str)] = &[
        ("off", 200, "HealthCheck OK\n", "HealthCheck OK\n"),
        (
            "none yet",
            412,
            "HealthCheck Failed\nno response from the API server yet\n",
            "HealthCheck Failed\nno response from the API server yet\n",
        ),
        ("healthy", 200, "HealthCheck OK\n", "HealthCheck OK\n"),
        ("one waits", 412, late, "HealthCheck Failed\n1 DaemonSet is not ready on this node\n"),
        ("two wait", 412, &later, "HealthCheck Failed\n2 DaemonSets are not ready on this node\n"),
        ("refused at first", 412, &refused_inside, &refused_outside),
        ("refused of late", 200, "HealthCheck OK\n", "HealthCheck OK\n"),
        ("refused for almost too long", 200, "HealthCheck OK\n", "HealthCheck OK\n"),
        ("refused for too long", 412, &stale_inside, &stale_outside),
        ("before this boot", 412, &old_inside, &old_outside),
        ("latched", 200, "HealthCheck OK\n", "HealthCheck OK\n"),
        (
            "latched, but not Ready",
            412,
            "HealthCheck Failed\nnode is not Ready\n",
            "HealthCheck Failed\nnode is not Ready\n",
        ),
    ];
    let cells = cells();
    assert_eq!(cells.len(), cases.len());
    for ((name, cell, now), (case, status, inside, outside)) in cells.iter().zip(cases) {
        assert_eq!(name, case);
        for (peer, body) in [(INSIDE, inside), (OUTSIDE, outside)] {
            let answer = gate(&cell.snapshot(), peer, *now);
            assert_eq!((answer.status(), answer.body()), (*status, *body), "{case} to {peer}");
        }
    }
}

#[test]
fn answers_of_the_state() {
    let cause = "permission denied: list daemonsets.apps in all namespaces (403), add it to the role of health";
    let judged = |name: &str, verdict: &str, reason: &str| serde_json::json!({"namespace": "ns", "name": name, "verdict": verdict, "reason": reason});
    let ready = judged("ready", "ready", "pod ready-1 is ready");
    let hidden = judged("hidden", "excluded", "annotation pod-startup-lock/ignore is true");
    let late = judged("late-0000", "waiting", "no pod on this node yet");
    let none = || {
        serde_json::json!({
            "version": 1, "healthy": false, "reasons": [], "counts": null, "latched": false, "daemonsets": [], "node_load": null,
            "last_success_seconds_ago": null, "stale": false, "api_problems": [], "reconnects": 0,
        })
    };
    let known = |waiting: usize, sets: &[&serde_json::Value]| {
        let mut state = none();
        state["counts"] =
            serde_json::json!({"waiting": waiting, "ready": 1, "not-here": 0, "excluded": 1});
        state["daemonsets"] = sets.iter().map(|set| (*set).clone()).collect();
        state["last_success_seconds_ago"] = 7.into();
        state
    };
    let with = |mut state: serde_json::Value, changes: serde_json::Value| {
        for (key, value) in changes.as_object().unwrap() {
            state[key] = value.clone();
        }
        state
    };
    let whole = format!("{cause}: User 'x' cannot list");
    let stale = "verdict is stale: the API server has failed for more than 5m (--stale-after)";
    for (case, peer, expected) in [
        ("off", INSIDE, with(none(), serde_json::json!({"healthy": true}))),
        (
            "none yet",
            INSIDE,
            with(none(), serde_json::json!({"reasons": ["no response from the API server yet"]})),
        ),
        (
            "healthy",
            INSIDE,
            with(known(0, &[&ready, &hidden]), serde_json::json!({"healthy": true})),
        ),
        (
            "one waits",
            INSIDE,
            with(
                known(1, &[&late, &ready, &hidden]),
                serde_json::json!({"reasons": ["ns/late-0000: no pod on this node yet"]}),
            ),
        ),
        (
            "one waits",
            OUTSIDE,
            with(
                known(1, &[]),
                serde_json::json!({"reasons": ["1 DaemonSet is not ready on this node"], "daemonsets": null}),
            ),
        ),
        (
            "refused at first",
            OUTSIDE,
            with(
                none(),
                serde_json::json!({"reasons": [cause], "daemonsets": null, "api_problems": [cause]}),
            ),
        ),
        (
            "refused of late",
            INSIDE,
            with(
                known(0, &[&ready, &hidden]),
                serde_json::json!({"healthy": true, "api_problems": [whole]}),
            ),
        ),
        (
            "refused for too long",
            INSIDE,
            with(
                known(0, &[&ready, &hidden]),
                serde_json::json!({
                    "reasons": [whole, stale], "api_problems": [whole], "stale": true, "last_success_seconds_ago": 300,
                }),
            ),
        ),
        (
            "latched",
            OUTSIDE,
            with(
                known(1, &[]),
                serde_json::json!({"healthy": true, "latched": true, "daemonsets": null}),
            ),
        ),
    ] {
        let (_, cell, now) =
            cells().into_iter().find(|(name, ..)| *name == case).expect("a cell of this name");
        let answer: serde_json::Value =
            serde_json::from_str(state(&cell.snapshot(), peer, now).body()).unwrap();
        assert_eq!(answer, expected, "{case} to {peer}");
    }
}

#[test]
fn the_load_in_each_answer() {
    let at = moment();
    let settings =
        LoadSettings { threshold: 80, period: Duration::from_secs(10), stale_after: STALE_AFTER };
    let cell = StatusCell::new(Status::new(None, Some(Load::new(settings, at))));
    let cpus = |text: &str| Quantity::parse(text).unwrap();
    let shown = |now| {
        let known = cell.snapshot();
        let state: serde_json::Value =
            serde_json::from_str(state(&known, OUTSIDE, now).body()).unwrap();
        (gate(&known, OUTSIDE, now).body().to_owned(), state["node_load"].clone())
    };
    let update_load = |change: &mut dyn FnMut(&mut Load)| {
        cell.update(|status| change(status.load.as_mut().unwrap()));
    };
    let error = ApiError::new("404").with_details(Some("secret".to_owned()));
    let (body, load) = shown(at);
    assert_eq!(body, "HealthCheck Failed\nnode CPU usage is unknown: no measurement yet\n");
    assert_eq!(
        load,
        serde_json::json!({"open": false, "cpu_percent": null, "threshold_percent": 80, "measured_seconds_ago": null, "problem": null})
    );
    update_load(&mut |load| load.record(cpus("3.5"), cpus("4"), at));
    let (body, load) = shown(at + Duration::from_secs(3));
    assert_eq!(
        body,
        "HealthCheck Failed\nnode CPU usage is 87 %: closed at 80 % or more, opens again at 70 % or less\n"
    );
    assert_eq!((&load["cpu_percent"], &load["measured_seconds_ago"]), (&87.into(), &3.into()));
    let line = "\npsl_gate_open{gate=\"load\"} 0\n";
    assert!(metrics(&cell.snapshot(), at).body().contains(line));
    update_load(&mut |load| load.fail(error.clone()));
    update_load(&mut |load| load.record(cpus("2.8"), cpus("4"), at));
    update_load(&mut |load| load.fail(error.clone()));
    let (body, load) = shown(at);
    assert_eq!((&*body, &load["problem"]), ("HealthCheck OK\n", &"404".into()));
}

#[test]
fn the_number_of_names_is_bounded() {
    let now = moment();
    for (length, most_causes) in [(9, MOST_REASONS), (250, 75)] {
        let late = |number: usize| DaemonSetStatus {
            id: Arc::new(DaemonSetId::new("ns", &format!("{number:0length$}"), "")),
            standing: Standing::NoPod,
        };
        let cell = at_start(true);
        cell.update(|status| status.set_verdict(Verdict::new((0..1050).map(late))));
        let known = cell.snapshot();
        let body = gate(&known, INSIDE, now).body().to_owned();
        let named = body.lines().count() - 2;
        assert!(named <= most_causes && named > most_causes / 2, "{named}");
        assert!(
            body.ends_with(&format!("\nand {} more\n", 1050 - named)) && body.len() < 20 * 1024,
            "{body}"
        );
        let answer = state(&known, INSIDE, now);
        assert!(answer.body().len() < 128 * 1024, "{}", answer.body().len());
        let state: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
        assert!(state["daemonsets"].as_array().is_some_and(|sets| sets.len() >= 100), "{length}");
        assert_eq!(state["counts"]["waiting"], 1050);
    }
}

#[test]
fn metrics_show_the_last_verdict() {
    let (cell, now) = (at_start(true), moment());
    for code in [Some(200), Some(200), Some(403), None] {
        cell.update(|status| status.count_response(code));
    }
    cell.update(|status| status.reconnects += 1);
    cell.update(|status| status.record_success(Source::Pods, now - Duration::from_secs(9)));
    cell.update(|status| status.set_verdict(verdict(2)));
    let text = metrics(&cell.snapshot(), now).body().to_owned();
    for line in [
        r#"psl_k8s_requests_total{code="200"} 2"#,
        r#"psl_k8s_requests_total{code="403"} 1"#,
        r#"psl_k8s_requests_total{code="error"} 1"#,
        r#"psl_daemonsets{verdict="ready"} 1"#,
        r#"psl_daemonsets{verdict="waiting"} 2"#,
        r#"psl_daemonsets{verdict="not-here"} 0"#,
        r#"psl_daemonsets{verdict="excluded"} 1"#,
        r#"psl_gate_open{gate="daemonsets"} 0"#,
        r#"psl_gate_open{gate="conditions"} 1"#,
        r#"psl_gate_open{gate="load"} 1"#,
        "psl_k8s_reconnects_total 1",
        "psl_k8s_stale 0",
        "psl_k8s_last_success_age_seconds 9",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    assert!(text.contains(r#"psl_build_info{program="health",version=""#), "{text}");
    let off = metrics(&at_start(false).snapshot(), now).body().to_owned();
    assert!(off.contains("\npsl_gate_open{gate=\"daemonsets\"} 1\n"), "{off}");
}

#[test]
fn paths_and_methods() {
    let cell = at_start(false);
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
        let request = Request { method: method.clone(), path, ..Request::default() };
        assert_eq!(answer(&cell, &request).status(), status, "{method} {path}");
    }
}
