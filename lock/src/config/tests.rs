//! Values that settings accept, and the errors of the others.

use super::*;
use crate::core::lock::Slots;
use std::ffi::OsString;

fn config(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let lookup =
        move |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, v)| OsString::from(v));
    Config::from(Input::read(&PROGRAM, Vec::new(), lookup).map_err(|text| vec![text])?)
}

#[test]
fn defaults() {
    let config = config(&[]).unwrap();
    assert_eq!((config.host, config.port, config.locks), (None, 8888, Locks::Count(1)));
    assert_eq!(
        (config.rules.default, config.rules.longest),
        (Duration::from_secs(10), Duration::from_secs(600))
    );
    let checks = config.checks;
    assert_eq!(
        (checks.endpoints.len(), checks.max_hold, checks.timeout),
        (0, None, Duration::from_secs(5))
    );
    assert_eq!(
        (checks.pause_failed, checks.pause_passed),
        (Duration::from_secs(10), Duration::from_secs(60))
    );
}

#[test]
fn slots() {
    for (text, cores, expected) in [
        ("1", 8, Some(1)),
        ("4096", 8, Some(4096)),
        ("50%", 8, Some(4)),
        ("50%", 1, Some(1)),
        ("200%", 3, Some(6)),
        ("33%", 4, Some(1)),
        ("409600%", 64, Some(4096)),
        ("0", 8, None),
        ("4097", 8, None),
        ("0%", 8, None),
        ("-1", 8, None),
        ("1.5", 8, None),
        ("%", 8, None),
        ("auto:", 8, None),
        ("auto:0", 8, None),
        ("auto:4097", 8, None),
        ("auto:50%", 8, None),
        ("Auto", 8, None),
        ("99999999999999999999", 8, None),
    ] {
        let slots = Locks::parse(text).ok().map(|locks| locks.slots(cores));
        assert_eq!(slots, expected.map(Slots::Fixed), "{text} on {cores}");
    }
}

#[test]
fn slots_of_auto() {
    for (text, cores, most) in [
        ("auto", 8, 128),
        ("auto", 1, 16),
        ("auto", 300, 4096),
        ("auto:1", 8, 1),
        ("auto:4096", 2, 4096),
    ] {
        let locks = Locks::parse(text).unwrap();
        assert_eq!(locks.slots(cores), Slots::Auto { cores, most }, "{text} on {cores}");
        assert_eq!(locks.to_string(), text);
    }
}

#[test]
fn the_switch_of_version_2() {
    let both = |enabled| {
        config(&[("PSL_HC_ENABLED", enabled), ("PSL_HC_ENDPOINTS", "tcp://h:1,http://h")])
    };
    assert_eq!(both("true").unwrap().checks.endpoints.len(), 2);
    assert_eq!(both("false").unwrap().checks.endpoints.len(), 0);
    let errors = config(&[("PSL_HC_ENABLED", "true")]).unwrap_err();
    assert_eq!(
        errors,
        ["PSL_HC_ENABLED: true is not accepted without an endpoint in --check (PSL_HC_ENDPOINTS)"]
    );
}

#[test]
fn all_errors_are_reported_together() {
    let errors = config(&[
        ("PSL_BIND_PORT", "http"),
        ("PSL_LOCK_DURATION", "-5"),
        ("PSL_MAX_LOCK_DURATION", "0"),
        ("PSL_HC_ENDPOINTS", "http://user:secret@h/,ftp://h"),
        ("PSL_HC_PERIOD_FAIL", "0s"),
        ("PSL_NODE_NAME", "a b"),
        ("PSL_NODE_IP", "10.0.0.1,node-a"),
        ("PSL_LOG", "loud"),
    ])
    .unwrap_err();
    assert_eq!(errors.len(), 9, "{errors:#?}");
    assert!(!errors.join("\n").contains("secret"), "{errors:#?}");
}

#[test]
fn pressure_is_off_unless_asked_for() {
    let off = config(&[("PSL_CPU_PRESSURE", "0")]).unwrap().pressure;
    assert_eq!((off.is_on(), off.floor), (false, Duration::from_secs(60)));
    let on = config(&[
        ("PSL_IO_PRESSURE", "100"),
        ("PSL_MEMORY_PRESSURE", "1"),
        ("PSL_GATE_FLOOR", "5m"),
    ])
    .unwrap();
    assert_eq!(on.pressure.thresholds, [None, NonZeroU8::new(100), NonZeroU8::new(1)]);
    assert_eq!(on.pressure.floor, Duration::from_secs(300));
    for (name, value) in [
        ("PSL_CPU_PRESSURE", "101"),
        ("PSL_CPU_PRESSURE", "80%"),
        ("PSL_IO_PRESSURE", "-1"),
        ("PSL_IO_PRESSURE", "0.5"),
        ("PSL_MEMORY_PRESSURE", "257"),
        ("PSL_GATE_FLOOR", "0"),
        ("PSL_MODE", "Shadow"),
    ] {
        let errors = config(&[(name, value)]).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(name), "{errors:?}");
    }
}

#[test]
fn endpoints_that_look_the_same_are_an_error() {
    let errors =
        config(&[("PSL_HC_ENDPOINTS", "http://h/a?x=1,http://h/b,http://h/a?x=2")]).unwrap_err();
    assert_eq!(errors, ["--check (PSL_HC_ENDPOINTS): http://h:80/a is given twice, accepted once"]);
}

#[test]
fn a_default_above_the_longest_is_an_error() {
    let errors = config(&[("PSL_LOCK_DURATION", "15m")]).unwrap_err();
    assert_eq!(
        errors,
        [
            "--timeout (PSL_LOCK_DURATION): 15m is not accepted; accepted: up to --max-duration (PSL_MAX_LOCK_DURATION), which is 10m"
        ]
    );
    assert!(config(&[("PSL_LOCK_DURATION", "15m"), ("PSL_MAX_LOCK_DURATION", "15m")]).is_ok());
    let shorter = config(&[("PSL_MAX_LOCK_DURATION", "5s")]).unwrap();
    assert_eq!(shorter.rules.default, Duration::from_secs(5));
}

#[test]
fn an_unreadable_ca_file_is_an_error_only_with_an_https_check() {
    let file = ("PSL_CA_FILE", "/no/such/file");
    assert!(config(&[file, ("PSL_HC_ENDPOINTS", "http://h")]).is_ok());
    let errors = config(&[file, ("PSL_HC_ENDPOINTS", "https://h")]).unwrap_err();
    assert!(
        errors[0].starts_with("--ca-file (PSL_CA_FILE): CA file /no/such/file: "),
        "{errors:?}"
    );
}
