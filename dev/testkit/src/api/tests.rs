//! The replayed server against its own recordings.

use std::path::PathBuf;

use super::lists::text;
use super::*;
use crate::CEILING;
use crate::http::{Connection, Reply, Request, find, find_bytes};
use crate::tls::Authority;
use crate::transcript::{block, parts};

const PODS_A: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a";

fn answers() -> PathBuf {
    crate::root().join("health/tests/data/answers")
}

fn api() -> Api {
    Api::start(answers())
}

fn request(target: &str, token: &str) -> Request {
    let request = Request::get(target).header("User-Agent", "test/1");
    if token.is_empty() {
        request
    } else {
        request.header("Authorization", &format!("Bearer {token}"))
    }
}

fn ask(api: &Api, target: &str) -> Reply {
    request(target, TOKEN).send(api.addr(), CEILING).unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| text(&item["metadata"]["name"])).collect()
}

#[test]
fn every_recording_is_replayed() {
    let api = api();
    let transcript = std::fs::read_to_string(answers()).unwrap();
    for recording in &api.shared.recordings.all {
        let token = match recording.account.as_str() {
            "health" => TOKEN,
            "health-ns" => NARROW_TOKEN,
            "none" => "",
            _ => "unknown",
        };
        let [asked, ..] = parts(block(&transcript, &recording.name));
        let target = asked.split_whitespace().nth(1).unwrap();
        let reply = request(target, token).send(api.addr(), CEILING).unwrap();
        let expected = recording.json();
        assert_eq!(reply.status, recording.status, "{}: {reply}", recording.name);
        assert_eq!(reply.json(), expected, "{}", recording.name);
        assert!(!reply.body.contains('\n'), "{}: {}", recording.name, reply.body);
        let chunked = find(&recording.headers, "transfer-encoding").is_some();
        assert_eq!(reply.header("transfer-encoding").is_some(), chunked, "{}", recording.name);
    }
    let requests = api.requests();
    assert_eq!(requests.len(), api.shared.recordings.all.len());
    assert!(!format!("{requests:?}").contains(TOKEN));
    assert_eq!(requests.iter().filter(|asked| !asked.token).count(), 2);
}

#[test]
fn answers_without_a_recording_are_derived() {
    let api = api();
    for (target, expected) in [
        (
            "/apis/apps/v1/daemonsets?limit=500&timeoutSeconds=10",
            &["gpu-plugin", "kube-proxy", "fluentd", "node-exporter"][..],
        ),
        ("/apis/apps/v1/daemonsets?timeoutSeconds=9&limit=1", &["gpu-plugin"]),
        (
            "/apis/apps/v1/daemonsets?limit=1&resourceVersion=0",
            &["gpu-plugin", "kube-proxy", "fluentd", "node-exporter"],
        ),
        ("/apis/apps/v1/namespaces/logging/daemonsets?limit=9", &["fluentd"]),
        ("/apis/apps/v1/namespaces/nowhere/daemonsets", &[]),
        ("/apis/apps/v1/daemonsets?labelSelector=version%3D1.1%2Capp%3Dfluentd", &["fluentd"]),
        (
            "/apis/apps/v1/daemonsets?labelSelector=app%3Dfluentd%2Cversion%3D1.1&limit=5",
            &["fluentd"],
        ),
        (
            "/api/v1/pods?limit=500&resourceVersion=0&fieldSelector=spec.nodeName%3Dnode-b",
            &["gpu-plugin-tcj4v", "kube-proxy-4cgr9"],
        ),
        (
            "/api/v1/namespaces/logging/pods?fieldSelector=spec.nodeName%3Dnode-a",
            &["fluentd-p6s9t"],
        ),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-c", &[]),
    ] {
        let reply = ask(&api, target);
        assert_eq!(reply.status, 200, "{target}: {reply}");
        assert_eq!(names(&reply.json()), expected, "{target}");
    }
    for (target, token, status, part) in [
        ("/api/v1/nodes/node-z", TOKEN, 404, r#"nodes \"node-z\" not found"#),
        ("/apis/apps/v1/replicasets", TOKEN, 404, "could not find the requested resource"),
        (
            "/api/v1/pods",
            NARROW_TOKEN,
            403,
            r#"cannot list resource \"pods\" in API group \"\" at the cluster scope"#,
        ),
        (
            "/apis/apps/v1/namespaces/logging/daemonsets",
            NARROW_TOKEN,
            403,
            r#"in API group \"apps\" in the namespace \"logging\""#,
        ),
        (
            "/api/v1/nodes/node-b",
            "",
            403,
            r#"nodes \"node-b\" is forbidden: User \"system:anonymous\" cannot get"#,
        ),
    ] {
        let reply = request(target, token).send(api.addr(), CEILING).unwrap();
        assert_eq!(reply.status, status, "{target}: {reply}");
        assert!(reply.body.contains(part), "{target}: {}", reply.body);
    }
}

#[test]
fn tokens_are_accepted_and_forgotten() {
    let api = api();
    let status = |token: &str| {
        request("/api/v1/nodes/node-a", token).send(api.addr(), CEILING).unwrap().status
    };
    assert_eq!((status(TOKEN), status(""), status("next")), (200, 403, 401));
    api.accept("next", Role::Wide);
    api.forget(TOKEN);
    assert_eq!((status(TOKEN), status("next")), (401, 200));
    api.open(true);
    assert_eq!((status(""), status(TOKEN)), (200, 200));
}

#[test]
fn curl_gets_indented_json() {
    let api = api();
    let reply =
        Request::get("/version").header("User-Agent", "curl/8").send(api.addr(), CEILING).unwrap();
    assert_eq!(reply.body, api.shared.recordings.get("version").body);
}

#[test]
fn pages_continue_and_expire() {
    let api = api();
    api.paged(true);
    let next = |token: &str| ask(&api, &format!("{DAEMONSETS}?limit=500&continue={token}"));
    let token = |list: &Value| text(&list["metadata"]["continue"]).to_string();
    let walk = |mut list: Value| {
        let mut seen: Vec<String> = names(&list).into_iter().map(str::to_string).collect();
        while !token(&list).is_empty() {
            list = next(&token(&list)).json();
            seen.extend(names(&list).into_iter().map(str::to_string));
        }
        seen
    };
    let first = ask(&api, &format!("{DAEMONSETS}?limit=500")).json();
    assert_eq!(walk(first.clone()), ["gpu-plugin", "kube-proxy", "fluentd", "node-exporter"]);
    api.expire_continue_once();
    let expired = next(&token(&first));
    assert_eq!((expired.status, text(&expired.json()["reason"])), (410, "Expired"));
    let rest = next(&token(&expired.json()));
    assert_eq!(walk(rest.json()), ["kube-proxy", "fluentd", "node-exporter"]);
    assert_eq!(next(&token(&first)).status, 200);
    assert_eq!(
        names(&ask(&api, &format!("{DAEMONSETS}?limit=500&resourceVersion=0")).json()).len(),
        4
    );
}

#[test]
fn objects_can_be_edited() {
    let api = api();
    let ready = |list: &Value, name: &str| {
        let pod = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|pod| text(&pod["metadata"]["name"]) == name)
            .cloned();
        let conditions = pod.unwrap()["status"]["conditions"].clone();
        conditions.as_array().unwrap().iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let pod = "node-exporter-szjrd";
    assert!(!ready(&ask(&api, PODS_A).json(), pod));
    api.edit(PODS_A, |list| assert_eq!(pods_ready(list, "node-exporter", true), 1));
    assert!(ready(&ask(&api, &format!("{PODS_A}&limit=50")).json(), pod));
    assert_eq!(
        names(&ask(&api, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-b").json()).len(),
        2
    );

    api.edit(DAEMONSETS, |list| {
        list["items"].as_array_mut().unwrap().retain(|item| item["metadata"]["name"] != "fluentd");
    });
    assert_eq!(names(&ask(&api, "/apis/apps/v1/namespaces/logging/daemonsets").json()).len(), 0);
    assert_eq!(names(&ask(&api, &format!("{DAEMONSETS}?limit=1")).json()).len(), 3);
    api.edit("/api/v1/nodes/node-a", |node| node["metadata"]["labels"]["new"] = json!("yes"));
    assert_eq!(ask(&api, "/api/v1/nodes/node-a").json()["metadata"]["labels"]["new"], "yes");
}

#[test]
fn faults_hit_their_path_as_often_as_asked() {
    let api = api();
    let short = Duration::from_millis(300);
    let busy =
        Fault::Status(429, vec![("Retry-After".into(), "3".into())], "too many requests".into());
    for (name, fault, expected) in [
        ("status", busy, Ok(429)),
        ("close", Fault::Close, Err(io::ErrorKind::UnexpectedEof)),
        ("hang", Fault::Hang, Err(io::ErrorKind::TimedOut)),
        ("reset", Fault::Reset, Err(io::ErrorKind::ConnectionReset)),
        ("half", Fault::HalfJson, Ok(200)),
        ("cut", Fault::Cut, Err(io::ErrorKind::UnexpectedEof)),
        ("garbage", Fault::Garbage, Err(io::ErrorKind::InvalidData)),
        ("slow", Fault::SlowBytes(Duration::from_millis(50)), Err(io::ErrorKind::TimedOut)),
    ] {
        api.fault_times("/api/v1/pods", fault, 1);
        let ceiling =
            if matches!(expected, Err(io::ErrorKind::TimedOut)) { short } else { CEILING };
        let reply = request(PODS_A, TOKEN).send(api.addr(), ceiling);
        let got = reply.as_ref().map(|reply| reply.status).map_err(io::Error::kind);
        assert_eq!(got, expected, "{name}: {reply:?}");
        match (name, reply) {
            ("half", Ok(reply)) => assert!(serde_json::from_str::<Value>(&reply.body).is_err()),
            ("status", Ok(reply)) => {
                assert_eq!(
                    (reply.header("retry-after"), reply.body.as_str()),
                    (Some("3"), "too many requests")
                );
            }
            _ => {}
        }
        assert_eq!(ask(&api, PODS_A).status, 200, "{name}");
    }
    api.fault("/api/v1", Fault::Close);
    assert_eq!(ask(&api, DAEMONSETS).status, 200);
    assert!(request(PODS_A, TOKEN).send(api.addr(), CEILING).is_err());
    api.clear_faults();
    assert_eq!(ask(&api, PODS_A).status, 200);
    api.refuse(true);
    let refused = request(PODS_A, TOKEN).send(api.addr(), CEILING).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    api.refuse(false);
    assert_eq!(ask(&api, PODS_A).status, 200);
}

#[test]
fn a_connection_serves_requests_until_connection_close() {
    let api = api();
    let mut connection = Connection::open(api.addr(), None, CEILING).unwrap();
    for _ in 0..3 {
        assert_eq!(connection.send(&request(PODS_A, TOKEN).keep_alive()).unwrap().status, 200);
        assert_eq!(
            connection.send(&request("/api/v1/nodes/x", TOKEN).keep_alive()).unwrap().status,
            404
        );
    }
    assert_eq!(api.connections(), 1);
    assert_eq!(
        connection.send(&request(PODS_A, TOKEN)).unwrap().header("connection"),
        Some("close")
    );
    assert!(connection.closed());
}

#[test]
fn big_lists_are_streamed_whole_or_in_pages() {
    let api = api();
    let host_network = |number: usize, item: &mut Value| item["spec"]["number"] = json!(number);
    api.big_list(DAEMONSETS, 1200, true, host_network);
    let whole = ask(&api, DAEMONSETS);
    let list = whole.json();
    assert_eq!(names(&list).len(), 1200);
    assert_eq!(list["items"][1199]["spec"]["number"], 1199);
    assert!(whole.body.len() > 3_000_000, "{}", whole.body.len());
    let page = ask(&api, &format!("{DAEMONSETS}?limit=500&continue=item-1000")).json();
    assert_eq!((names(&page).len(), names(&page)[0]), (200, "gpu-plugin-001000"));
    assert!(page["metadata"]["continue"].is_null());
    let page = ask(&api, &format!("{DAEMONSETS}?limit=500")).json();
    assert_eq!((names(&page).len(), text(&page["metadata"]["continue"])), (500, "item-500"));
    api.fault_times(DAEMONSETS, Fault::Cut, 1);
    let cut = request(DAEMONSETS, TOKEN).send(api.addr(), CEILING).unwrap_err();
    assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn the_server_speaks_tls() {
    let ca = Authority::new();
    let api = Api::start_tls(answers(), &ca.issue(&["127.0.0.1"]));
    let request = format!(
        "GET {PODS_A} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    let answer = crate::tls::tests::ask(&ca, api.addr(), "127.0.0.1", request.as_bytes()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0\r\n\r\n"), "{answer}");
    assert!(find_bytes(answer.as_bytes(), b"kube-proxy-pq68d").is_some());
    let asked = api.wait_for_request(|asked| asked.path == "/api/v1/pods", CEILING);
    assert_eq!((asked.token, asked.status), (true, 200));
}
