#![allow(clippy::type_complexity, reason = "the tables of cases are easier to read whole")]
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::input::is_service_link;
use super::*;

const HOST: Setting =
    Setting::flag("--host", "HOST").env(&["T_HOST"]).default("localhost").help("a host");
const PORT: Setting =
    Setting::flag("--port", "PORT").env(&["T_PORT", "OLD_PORT"]).default("1").help("a port");
const NET: Setting =
    Setting::flag("--hostNet", "BOOL").env(&["T_NET"]).switch().default("false").help("a switch");
const IN: Setting = Setting::flag("--in", "K:V").env(&["T_IN"]).list().help("a list");
const LONE: Setting = Setting::variable(&["T_LONE"], "BOOL").default("true").help("no flag");
const OLD: Setting = Setting::removed("--old", "is --host now");
const PROGRAM: Program = Program {
    name: "t",
    purpose: "Tests.",
    settings: &[HOST, PORT, NET, IN, LONE, OLD],
    exit_codes: &[(0, "done")],
    notes: "",
};

type TestValues = (Option<String>, Option<u16>, Option<bool>, Vec<String>, Option<bool>);

fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<TestValues, Vec<String>> {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let variable =
        move |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, v)| OsString::from(v));
    let mut input = Input::read(&PROGRAM, arguments.iter().map(OsString::from).collect(), variable)
        .expect("no request for help");
    let values = (
        input.value(&HOST, |t| Ok::<_, String>(t.to_owned())),
        input.value(&PORT, |t| t.parse().map_err(|_| "a port from 0 to 65535")),
        input.switch(&NET),
        input.list(&IN, |t| if t.contains(':') { Ok(t.to_owned()) } else { Err("key:value") }),
        input.switch(&LONE),
    );
    input.finish().map(|()| values)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn values_are_read() {
    let none: TestValues = (None, None, None, vec![], None);
    let cases: &[(&[&str], &[(&str, &str)], TestValues)] = &[
        (&[], &[], none.clone()),
        (&["--host", "a"], &[("T_HOST", "b")], (some("a"), None, None, vec![], None)),
        (&[], &[("T_HOST", "b")], (some("b"), None, None, vec![], None)),
        (&[], &[("T_HOST", "")], none.clone()),
        (&[], &[("T_PORT", ""), ("OLD_PORT", "7")], (None, Some(7), None, vec![], None)),
        (&["--port=80"], &[], (None, Some(80), None, vec![], None)),
        (&["-port", "80", "-host=h"], &[], (some("h"), Some(80), None, vec![], None)),
        (&["--hostNet"], &[], (None, None, Some(true), vec![], None)),
        (
            &["--hostNet=false", "--host", "h"],
            &[("T_NET", "true")],
            (some("h"), None, Some(false), vec![], None),
        ),
        (&["-hostNet", "--port", "1"], &[], (None, Some(1), Some(true), vec![], None)),
        (
            &["--in", "a:b", "--in=c:d"],
            &[("T_IN", "e:f")],
            (None, None, None, vec!["a:b".into(), "c:d".into()], None),
        ),
        (
            &[],
            &[("T_IN", " e:f, g:h,,")],
            (None, None, None, vec!["e:f".into(), "g:h".into()], None),
        ),
        (&[], &[("T_LONE", "F")], (None, None, None, vec![], Some(false))),
    ];
    for (arguments, variables, expected) in cases {
        assert_eq!(
            read(arguments, variables).as_ref(),
            Ok(expected),
            "{arguments:?} {variables:?}"
        );
    }
}

#[test]
fn every_error_is_reported() {
    let cases: &[(&[&str], &[(&str, &str)], &[&str])] = &[
        (
            &["--old", "x", "-old=y", "--old", "--port=x"],
            &[],
            &[
                "--old: is --host now",
                "--old: is --host now",
                "--old: is --host now",
                "--port (T_PORT, OLD_PORT): \"x\" is not accepted; accepted: a port from 0 to 65535",
            ],
        ),
        (
            &["--port", "x"],
            &[],
            &["--port (T_PORT, OLD_PORT): \"x\" is not accepted; accepted: a port from 0 to 65535"],
        ),
        (
            &[],
            &[("T_PORT", "70000")],
            &[
                "--port (T_PORT, OLD_PORT): \"70000\" is not accepted; accepted: a port from 0 to 65535",
            ],
        ),
        (&["--host", "--port", "80"], &[], &["--host (T_HOST): a value is missing (HOST)"]),
        (&["--host"], &[], &["--host (T_HOST): a value is missing (HOST)"]),
        (&["--host="], &[], &["--host (T_HOST): a value is missing (HOST)"]),
        (
            &["--port", "-1"],
            &[],
            &["--port (T_PORT, OLD_PORT): \"-1\" is not accepted; no value begins with a dash"],
        ),
        (
            &["--port=-1"],
            &[],
            &["--port (T_PORT, OLD_PORT): \"-1\" is not accepted; no value begins with a dash"],
        ),
        (&["--host", "a", "--host", "b"], &[], &["--host (T_HOST): given twice, accepted once"]),
        (&["--hostNet", "--hostNet"], &[], &["--hostNet (T_NET): given twice, accepted once"]),
        (
            &["--hostNet", "false"],
            &[],
            &["\"false\": unexpected argument; every value follows its flag"],
        ),
        (
            &["--hostNet=maybe"],
            &[],
            &[
                "--hostNet (T_NET): \"maybe\" is not accepted; accepted: true or false (also 1, 0, t, f, T, F, TRUE, FALSE, True, False)",
            ],
        ),
        (
            &["--hostX=1", "-y"],
            &[],
            &[
                "\"--hostX\": unknown flag; --help lists the flags",
                "\"-y\": unknown flag; --help lists the flags",
            ],
        ),
        (
            &["--in", "a", "--in", "b"],
            &[],
            &[
                "--in (T_IN): \"a\" is not accepted; accepted: key:value",
                "--in (T_IN): \"b\" is not accepted; accepted: key:value",
            ],
        ),
        (
            &["http://user:secret@h/"],
            &[("T_LONE", "2")],
            &[
                "\"http://***@h/\": unexpected argument; every value follows its flag",
                "T_LONE: \"2\" is not accepted; accepted: true or false (also 1, 0, t, f, T, F, TRUE, FALSE, True, False)",
            ],
        ),
    ];
    for (arguments, variables, expected) in cases {
        let errors = read(arguments, variables).expect_err(&format!("{arguments:?}"));
        assert_eq!(errors, *expected, "{arguments:?} {variables:?}");
    }
}

#[test]
fn service_links_count_as_unset() {
    let port = |variables: &[(&str, &str)]| read(&[], variables).map(|values| values.1);
    for link in [
        "tcp://10.0.0.1:80",
        "udp://10.0.0.1:53",
        "sctp://[fd00::1]:7",
        "UDP://x",
        "a+b-c.1://",
        "http://h/",
    ] {
        assert_eq!(port(&[("T_PORT", link)]), Ok(None), "{link}");
        assert_eq!(port(&[("T_PORT", link), ("OLD_PORT", "81")]), Ok(Some(81)), "{link}");
        assert!(read(&["--port", link], &[]).is_err(), "{link}: only a user sets a flag");
        assert_eq!(
            read(&[], &[("T_HOST", link)]).map(|values| values.0),
            Ok(some(link)),
            "not the name of a link"
        );
    }
    for value in ["://x", "1tcp://x", "t p://x", "tcp:/x", "tcp//:x", "ü://x"] {
        assert!(port(&[("T_PORT", value)]).is_err(), "{value}");
    }
    assert!(!is_service_link("KUBERNETES_SERVICE_PORT", OsStr::new("tcp://10.0.0.1:443")));
}

#[test]
fn a_value_that_is_not_utf8_is_an_error() {
    let bytes = OsStr::from_bytes(b"--host=\xff").to_owned();
    let mut input =
        Input::read(&PROGRAM, vec![bytes], |_| None).map_err(drop).expect("no request for help");
    assert_eq!(input.value(&HOST, |t| Ok::<_, String>(t.to_owned())), None);
    assert_eq!(input.finish(), Err(vec!["--host (T_HOST): \"\u{fffd}\" is not UTF-8".to_owned()]));
}

#[test]
fn help_and_version_work_with_invalid_arguments() {
    for (arguments, start) in
        [(&["--nonsense", "--help"][..], "t "), (&["-h"], "t "), (&["--version", "x"], "t ")]
    {
        let text = Input::read(&PROGRAM, arguments.iter().map(OsString::from).collect(), |_| None)
            .err()
            .expect("a text");
        assert!(text.starts_with(start), "{text}");
    }
    let help = PROGRAM.help();
    assert!(!help.contains("--old"), "{help}");
    for setting in PROGRAM.listed() {
        assert!(
            setting.flag.is_none_or(|f| help.contains(f))
                && setting.variables.iter().all(|v| help.contains(v)),
            "{help}"
        );
    }
}

#[test]
fn help_has_one_line_for_each_setting() {
    let settings =
        &[HOST, PORT, NET, IN, LONE, OLD, crate::logging::LOG_FORMAT, crate::logging::LOG];
    let help = Program { settings, ..PROGRAM }.help();
    let (_, rows) = help.split_once("counts as unset.\n").unwrap();
    let (rows, _) = rows.split_once("\n\n").unwrap();
    assert_eq!(
        rows.lines().collect::<Vec<_>>(),
        [
            "  --host HOST                 a host [T_HOST; default localhost]",
            "  --port PORT                 a port [T_PORT, OLD_PORT; default 1]",
            "  --hostNet                   a switch [T_NET; default false]",
            "  --in K:V...                 a list [T_IN]",
            "  T_LONE=BOOL                 no flag [default true]",
            "  --log-format FORMAT         log format: logfmt or json [PSL_LOG_FORMAT; default logfmt]",
            "  PSL_LOG=FILTER              log level: off, error, warn, info, debug, module=level [default info]",
            "  --help                      print this text",
            "  --version                   print version and commit",
        ]
    );
    assert!(help.lines().all(|line| line.chars().count() <= 100 && !line.contains('`')), "{help}");
}
