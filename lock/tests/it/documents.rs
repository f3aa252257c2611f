//! The documents about lock: tables row by row, figures, and examples against the real binary.

use std::collections::BTreeSet;

use lock::core::limit;
use lock::core::outcome::Kind;
use lock::core::queue::{GRACE, MOST_WAITERS};
use lock::core::scheduler::LONGEST_WAIT;
use psl::server::LIMITS;
use psl::settings::Setting;
use serde_json::Value;
use testkit::CEILING;
use testkit::document::{self, code, codes, rows, same_rows, section, shape};
use testkit::http::Request;
use testkit::program::{Program, Running};

const CONFIGURATION: &str = "docs/configuration.md";
const MEASUREMENTS: &str = "docs/measurements.md";
const OPERATIONS: &str = "docs/operations.md";
const PROTOCOL: &str = "docs/protocol.md";
const SIZING: &str = "docs/sizing.md";

fn lock(arguments: &[&str]) -> Running {
    Program::new(env!("CARGO_BIN_EXE_lock"))
        .args(["--host=127.0.0.1", "--port=0"])
        .args(arguments)
        .start()
}

#[test]
fn settings() {
    let expected: Vec<_> = lock::PROGRAM.listed().map(Setting::markdown).collect();
    same_rows(CONFIGURATION, "## Settings of lock", "|", &expected);
}

#[test]
fn exit_codes() {
    let row = |(code, meaning): &(u8, &str)| format!("| lock | {code} | {meaning} |");
    let expected: Vec<_> = lock::PROGRAM.exit_codes.iter().map(row).collect();
    same_rows(CONFIGURATION, "## Exit codes", "| lock |", &expected);
}

#[test]
fn metrics() {
    // With an endpoint and a threshold, because without them there is no sample of their metrics to
    // show the label.
    let mut lock = lock(&[
        "--check=tcp://127.0.0.1:1",
        "--failHc=1h",
        "--cpu-pressure=100",
        "--mode=shadow",
        "--locks=auto",
    ]);
    let metrics = Request::get("/metrics").send(lock.addr(), CEILING).unwrap();
    same_rows(OPERATIONS, "## Metrics", "| lock |", &document::metrics("lock", &metrics.body));
}

#[test]
fn the_values_of_the_label_result() {
    for result in Kind::REQUESTS {
        let result = result.name();
        assert!(section(OPERATIONS, "## Metrics").contains(&format!("`{result}`")), "{result}");
    }
}

#[test]
fn the_values_of_the_labels_of_shadow_mode_and_pressure() {
    let text = section(OPERATIONS, "## Metrics");
    let (_, of_shadow) = text.split_once("`psl_shadow_…`").unwrap();
    for result in Kind::SHADOW {
        let result = result.name();
        assert!(of_shadow.contains(&format!("`{result}`")), "{result}");
    }
    for (_, resource) in lock::core::pressure::Resource::ALL {
        assert!(text.contains(&format!("`{resource}`")), "{resource}");
    }
}

#[test]
fn the_values_of_the_label_why() {
    let text = section(OPERATIONS, "## Metrics");
    for (_, why) in lock::core::limit::Reason::ALL {
        assert!(text.contains(&format!("`{why}`")), "{why}");
    }
}

#[test]
fn the_figures_of_auto() {
    let text = section(SIZING, "## Rules of `auto`").replace('\n', " ");
    for part in [
        format!("{} CPU seconds", limit::FIRST_COST),
        format!("{} threads for each core", limit::CROWDED),
        format!("{} starts for each core", limit::UNSEEN),
        format!("{} s ago", limit::GAP.as_secs_f64()),
        format!("{} s", limit::STALE.as_secs()),
        format!("every {} ms", limit::PERIOD.as_millis()),
    ] {
        assert!(text.replace("  ", " ").contains(&part), "{part} in {text}");
    }
}

/// The last column of the rules names each reason of the limit and no other.
#[test]
fn the_rules_of_auto_name_every_reason() {
    let rules = rows(SIZING, "## Rules of `auto`", "|");
    let cells = rules.iter().filter_map(|row| row.trim_end_matches([' ', '|']).rsplit('|').next());
    let named: BTreeSet<String> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    let reasons: BTreeSet<String> =
        limit::Reason::ALL.iter().map(|(_, name)| (*name).to_owned()).collect();
    assert_eq!(named, reasons);
}

#[test]
fn the_values_of_the_label_how() {
    for (_, how) in lock::core::lease::LeaseEnd::ALL {
        assert!(section(OPERATIONS, "## Metrics").contains(&format!("`{how}`")), "{how}");
    }
}

#[test]
fn bounds_of_the_queue() {
    let text = section(PROTOCOL, "## The queue").replace('\n', " ");
    for part in [
        format!("Up to {} connections are parked", LIMITS.parked),
        format!("comes back within {} s", GRACE.as_secs()),
        format!("and {} s at most", LONGEST_WAIT.as_secs()),
        "The queue has 1,024 places".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    assert_eq!(MOST_WAITERS, 1024);
}

#[test]
fn bounds_of_the_server() {
    let bounds = rows(PROTOCOL, "## Bounds of the HTTP server", "|");
    for start in [
        format!("| connections that wait for their client | {} |", LIMITS.connections),
        format!("| of these from one address | {} |", LIMITS.per_address),
        format!("| connections that are parked, apart from these | {} |", LIMITS.parked),
        format!("| time for a head, from its first byte | {} s |", LIMITS.head.as_secs()),
        format!("| time until an answer is taken | {} s |", LIMITS.answer.as_secs()),
        format!("| idle time between two requests | {} s |", LIMITS.idle.as_secs()),
    ] {
        assert!(
            bounds.iter().any(|row| row.starts_with(&start)),
            "{start} in\n{}",
            bounds.join("\n")
        );
    }
}

/// The request of a line such as `curl -s -X DELETE 'http://localhost:8888/'`.
fn request(command: &str) -> Request {
    // Text between quotes is one word.
    let words = command.split('\'').enumerate().flat_map(|(n, part)| match n % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    });
    let (mut method, mut path, mut header, mut body) = (None, None, None, None);
    let mut words = words.skip(1);
    while let Some(word) = words.next() {
        match word {
            "-s" => {}
            "-X" => method = words.next(),
            "-H" => header = words.next(),
            "-d" => body = words.next(),
            url => path = url.strip_prefix("http://localhost:8888"),
        }
    }
    let request = Request::new(
        method.unwrap_or(if body.is_some() { "POST" } else { "GET" }),
        path.expect(command),
    );
    let request = match header.and_then(|header| header.split_once(": ")) {
        Some((name, value)) => request.header(name, value),
        None => request,
    };
    match body {
        Some(body) => request.body(body),
        None => request,
    }
}

#[test]
fn examples() {
    let mut lock = lock(&["--locks=2", "--node=node-a"]);
    let examples = format!("\n{}", code(PROTOCOL, "## A session with curl"));
    let examples: Vec<_> =
        examples.split("\n$ ").skip(1).map(|example| example.split_once('\n').unwrap()).collect();
    assert!(examples.len() >= 7, "{examples:?}");
    for (command, answer) in examples {
        let reply = request(command).send(lock.addr(), CEILING).unwrap();
        assert_eq!(reply.body.trim_end(), answer.trim_end(), "{command}");
    }
}

/// A row of the table of results.
struct OutcomeRow {
    result: String,
    status: String,
    /// The beginnings of the body's lines.
    lines: Vec<String>,
}

fn outcome_rows() -> Vec<OutcomeRow> {
    let rows = rows(PROTOCOL, "## Results", "|");
    let parsed = rows.iter().map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let texts = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let lines: Vec<Vec<String>> = vec![texts(cells[3]), texts(cells[4])];
        OutcomeRow {
            result: cells[1].trim_matches('`').to_owned(),
            status: cells[2].to_owned(),
            lines: lines.into_iter().filter_map(|texts| texts.into_iter().next()).collect(),
        }
    });
    parsed.collect()
}

#[test]
fn each_result_has_its_row() {
    let rows: Vec<_> = outcome_rows().into_iter().map(|row| row.result).collect();
    let kinds = Kind::REQUESTS.iter().chain(&Kind::SHADOW);
    let names: BTreeSet<String> = kinds.map(|kind| kind.name().to_owned()).collect();
    assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), names);
    assert_eq!(rows.len(), names.len(), "a row twice: {rows:?}");
}

/// All results but the one under pressure, which needs a node under pressure.
#[test]
fn each_result_has_its_status_and_text() {
    let mut open = lock(&["--node=node-a"]);
    let mut closed = lock(&["--check=tcp://127.0.0.1:1", "--failHc=1h"]);
    closed.wait_for_text("check failed", CEILING);
    let rows = outcome_rows();
    for (result, path) in [
        ("probe", "/?duration=0"),
        ("granted", "/?holder=a&duration=1m"),
        ("again", "/?holder=a&duration=1m"),
        ("busy", "/?holder=b"),
        ("misdirected", "/?node=node-b"),
        ("invalid", "/?duration=-1"),
        ("gate_closed", "/"),
    ] {
        let lock = if result == "gate_closed" { &mut closed } else { &mut open };
        let reply = Request::get(path).send(lock.addr(), CEILING).unwrap();
        let row = rows.iter().find(|row| row.result == result).expect(result);
        assert_eq!(reply.status.to_string(), row.status, "{result}: {}", reply.body);
        for (line, start) in reply.body.lines().zip(&row.lines) {
            assert!(line.starts_with(start.as_str()), "{result}: {line:?} for {start:?}");
        }
        assert!(reply.body.lines().count() >= row.lines.len(), "{result}: {}", reply.body);
        let metrics = Request::get("/metrics").send(lock.addr(), CEILING).unwrap().body;
        let sample = format!("psl_lock_requests_total{{result=\"{result}\"}} 1");
        assert!(metrics.contains(&sample), "{sample} in {metrics}");
    }
}

#[test]
fn the_example_of_state_has_its_form() {
    let example: Value = serde_json::from_str(&code(PROTOCOL, "## State of lock")).unwrap();
    let mut lock = lock(&["--check=tcp://127.0.0.1:1", "--failHc=1h", "--max-hold=1ms"]);
    lock.wait_for_text("gate overridden", CEILING);
    for (holder, status) in [("a", 200), ("b", 423)] {
        assert_eq!(
            Request::get(&format!("/?holder={holder}")).send(lock.addr(), CEILING).unwrap().status,
            status
        );
    }
    let state = Request::get("/state").send(lock.addr(), CEILING).unwrap().json();
    assert_eq!(shape(&example), shape(&state), "{state}");
}

#[test]
fn the_example_of_a_window_has_its_form() {
    let examples = codes(PROTOCOL, "## State of lock");
    let example = examples.iter().find(|example| example.starts_with("{\"limit\"")).unwrap();
    let mut lock = lock(&["--locks=auto"]);
    let state = Request::get("/state").send(lock.addr(), CEILING).unwrap().json();
    assert_eq!(shape(&serde_json::from_str(example).unwrap()), shape(&state["window"]), "{state}");
}

#[test]
fn sizes() {
    let Some(directory) = Program::static_dir() else {
        return testkit::skip("the sizes of the static binaries: PSL_TEST_BIN_DIR is not set");
    };
    let rows = rows(MEASUREMENTS, "## Sizes and memory", "|");
    assert_eq!(rows.len(), 3, "a row for each program");
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let said: u64 = cells[2].trim_end_matches(" kB").replace(',', "").parse().unwrap();
        let bytes = std::fs::metadata(directory.join(cells[1])).unwrap().len();
        // Another compiler of the same age makes a little more or less of it.
        assert!((said * 950..=said * 1050).contains(&bytes), "{row}: {bytes} bytes");
    }
}
