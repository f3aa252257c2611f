//! The properties that hold for any input of the parsers that read bytes from outside.
//!
//! The fuzzer calls these functions with its inputs, and the tests with the seeds. A broken
//! property panics.
//!
//! The seeds of a target are the lines of `dev/fuzz/seeds/TARGET.txt`: `NAME "ESCAPED"` with the
//! escapes `\n`, `\r`, `\t`, `\\` and `\0NNN` (octal), as `printf %b` reads them. If the fuzzer
//! finds an input, repair the parser, and add the input under the next number, here as line 40:
//!
//! ```sh
//! printf '40-found-by-the-fuzzer "%s"\n' "$(od -An -v -to1 dev/fuzz/artifacts/TARGET/crash-… |
//!     sed 's/ /\\0/g' | tr -d '\n')" >>dev/fuzz/seeds/TARGET.txt
//! ```

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use health::api::objects::{
    DaemonSetObject, NodeMetricsObject, NodeObject, PodObject, StatusObject,
};
use health::api::{read_events, read_list, read_one};
use health::core::quantity::Quantity;
use lock::config::Rules;
use lock::core::queue::MOST_WAITERS;
use lock::core::scheduler::{Durations, Scheduler};
use lock::state_file::StateFile;
use psl::client::url::{HTTP, HTTPS, Scheme, TCP, Url};
use psl::duration::{self, Compact};
use psl::protocol::ready::Ready;
use psl::resolve::MOST_ADDRESSES;
use psl::resolve::conf::ResolvConf;
use psl::resolve::hosts;
use psl::resolve::message::{DnsAnswer, Family, MessageVerdict, Query};
use psl::resolve::search::{Search, is_name};
use psl::server::{ParsedHead, Request, parse};
use psl::settings::Input;

/// A property of some input.
pub type Property = fn(&[u8]);

/// The fuzz targets by name.
pub const ALL: &[(&str, Property)] = &[
    ("head", head),
    ("durations", durations),
    ("endpoints", endpoints),
    ("labels", labels),
    ("claims", claims),
    ("record", record),
    ("api", api),
    ("names", names),
];

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SCHEMES: &[Scheme] = &[HTTP, HTTPS, TCP];

/// A request's head and query: read or refused, and the bytes after the head have no effect.
pub fn head(bytes: &[u8]) {
    let parsed = parse(bytes, PEER);
    match &parsed {
        ParsedHead::Complete { request, length, .. } => {
            assert!(*length <= bytes.len().min(8192), "a head ends where there are bytes");
            assert_eq!(
                parse(&bytes[..*length], PEER),
                parsed,
                "bytes after a head do not change it"
            );
            let _ = lock::http::parse(request);
        }
        ParsedHead::Refused(answer) => {
            assert!((400..=505).contains(&answer.status()), "a refusal is an error");
        }
        ParsedHead::Partial => assert!(bytes.len() < 8192, "a head that is too large is refused"),
    }
    let _ = lock::http::parse(&Request {
        query: &String::from_utf8_lossy(bytes),
        ..Request::default()
    });
}

/// A duration: an accepted text is written and reads back as the same.
pub fn durations(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(duration) = duration::parse(&text) {
        assert!(!text.contains(['-', '+', ' ']), "no sign and no spaces");
        assert_eq!(duration::parse(&Compact(duration).to_string()), Ok(duration), "read back");
    }
}

/// An endpoint: an accepted text reads back, and neither it nor an error shows a secret.
pub fn endpoints(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Url::parse(&text, SCHEMES) {
        Ok(url) => {
            assert!(url.to_request().starts_with(&url.to_string()), "the query alone is left out");
            assert_eq!(Url::parse(&url.to_request(), SCHEMES), Ok(url), "read back");
        }
        Err(accepted) => assert!(!accepted.is_empty(), "an error names the accepted form"),
    }
    let shown = psl::text::quoted(&text);
    assert!(!shown.chars().any(char::is_control), "one line, without terminal escapes");
}

/// A label of a filter, and a list of them as the variable holds it.
pub fn labels(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if let Ok(label) = health::config::parse_label(&text) {
        assert_eq!(format!("{}:{}", label.key, label.value), text, "the label prints as its text");
    }
    let lookup = move |name: &str| match name {
        "PSL_HC_DAEMONSET_INCLUDE_LABELS" => Some(OsString::from(&text)),
        "PSL_NODE_NAME" => Some(OsString::from("n")),
        "PSL_K8S_API_URL" => Some(OsString::from("http://127.0.0.1:1")),
        _ => None,
    };
    if let Ok(given) = Input::read(&health::config::PROGRAM, Vec::new(), lookup) {
        let _ = health::config::read(given);
    }
}

/// A holder and a `ready` port: each accepted text is within its bounds and reads back as the same.
pub fn claims(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(holder) = psl::protocol::holder::parse(&text) {
        assert_eq!(*holder, *text, "the holder is its text");
        assert!(
            holder.len() <= 512 && holder.bytes().all(|byte| byte.is_ascii_graphic()),
            "visible and bounded"
        );
    }
    if let Ok(ready) = Ready::parse(&text) {
        assert!(
            ready.port() > 0
                && ready.path().is_none_or(|path| path.starts_with('/') && path.len() <= 256)
        );
        assert!(!ready.to_string().contains('?'), "a query is not shown");
        assert_eq!(Ready::parse(&ready.to_request()), Ok(ready), "read back");
    }
}

/// The state file: restored within the bounds of the scheduler and written again, or refused.
pub fn record(bytes: &[u8]) {
    let record = StateFile::of_boot(PathBuf::new(), "boot");
    let (default, longest) = (Duration::from_secs(10), Duration::from_secs(600));
    let durations = Durations { default, longest, probe_pause: Duration::from_secs(1) };
    let new = || Scheduler::new(2, 512, durations);
    let rules = Rules { default, longest, node: None, node_addresses: Vec::new() };
    let mut scheduler = new();
    if record.restore_text(&String::from_utf8_lossy(bytes), &mut scheduler, &rules).is_err() {
        assert_eq!(
            (scheduler.leases().len(), scheduler.queue().waiters().len()),
            (0, 0),
            "all or nothing"
        );
        return;
    }
    assert!(scheduler.queue().waiters().len() <= MOST_WAITERS);
    let mut again = new();
    let words = String::from_utf8_lossy(&record.content(&scheduler)).into_owned();
    assert_eq!(
        record.restore_text(&words, &mut again, &rules),
        Ok(()),
        "a written file can be read"
    );
    assert!(again.leases().len() <= scheduler.leases().len(), "no holder gets more than it had");
}

/// JSON of the API server: read or refused.
pub fn api(bytes: &[u8]) {
    let mut count = 0;
    let _ = read_list::<DaemonSetObject>(bytes, &mut |_| count += 1);
    let _ = read_list::<PodObject>(bytes, &mut |_| count += 1);
    assert!(count <= bytes.len(), "each item has bytes of its own");
    assert!(
        read_events::<PodObject>(bytes).count() <= bytes.len() + 1,
        "each event has bytes of its own"
    );
    assert!(
        read_events::<NodeObject>(bytes).count() <= bytes.len() + 1,
        "each event has bytes of its own"
    );
    let _ = read_one::<NodeObject>(bytes);
    let _ = read_one::<NodeMetricsObject>(bytes);
    let _ = Quantity::parse(&String::from_utf8_lossy(bytes));
    let _ = read_one::<StatusObject>(bytes);
    if let Some(words) = StatusObject::message(&String::from_utf8_lossy(bytes)) {
        assert!(!words.chars().any(char::is_control), "one line, without terminal escapes");
    }
}

/// A message of a name server, `resolv.conf` and `hosts`: read within bounds.
pub fn names(bytes: &[u8]) {
    // The bytes as an answer to this query, so that the fuzzer need not guess the identifier, and
    // the bytes as they are.
    for family in [Family::V4, Family::V6] {
        let Some(query) = Query::new("lock.example", family, 0x1234) else { continue };
        let mut ours = query.bytes().unwrap_or_default();
        let start = ours.len();
        ours[2] = 0x80;
        if let [flags, counts, records @ ..] = bytes {
            (ours[3], ours[7]) = (*flags, *counts);
            ours.extend_from_slice(records);
        }
        for message in [bytes, &ours, &ours[..start]] {
            if let MessageVerdict::Final(DnsAnswer::Addresses(found)) = query.judge(message) {
                assert!((1..=MOST_ADDRESSES).contains(&found.len()), "bounded");
                assert!(
                    family == Family::V6 || found.iter().all(IpAddr::is_ipv4),
                    "of the family that was asked for"
                );
            }
        }
    }
    let found = hosts::addresses(bytes, "lock.example").unwrap_or_default();
    assert!(found.len() <= MOST_ADDRESSES, "bounded");
    let conf = ResolvConf::parse(&String::from_utf8_lossy(bytes), String::new, |_| 0, 53);
    assert!(
        (1..=3).contains(&conf.servers.len())
            && conf.ndots <= 15
            && (1..=5).contains(&conf.attempts)
    );
    let mut search = Search::new("lock", &conf);
    while let Some(name) = search.next(&conf) {
        assert!(
            is_name(&name) && Query::new(&name, Family::V4, 1).is_some(),
            "each name can be asked: {name:?}"
        );
    }
}
