//! Settings: a flag over an environment variable over a default, checked once, at start.
//!
//! A program declares its settings as a table; `--help`, the README's table and the reading itself
//! all come from it. Every mistake is collected, so that a user mends them all at once. Does not
//! know what any setting means, nor where arguments and variables come from.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use crate::text::quoted;

/// The width of the first column of `--help`, in characters.
const HELP_COLUMN: usize = 27;

/// How often a setting may be given and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One value.
    Value,
    /// `true` where the flag stands alone; `--name=false` as Go's `flag` package reads it.
    Switch,
    /// The flag any number of times, the variable as a comma-separated list.
    List,
    /// A flag of an earlier generation that is always a mistake, whose text is the meaning. Not listed.
    Removed,
}

/// One setting: its names, its default and its purpose. `--help`, the documentation's tables and
/// the parser all read it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The flag with its two dashes; `None` if the setting has a variable alone.
    flag: Option<&'static str>,
    /// The first variable that is set and not empty counts; a service link counts as unset.
    variables: &'static [&'static str],
    /// The name of the value in `--help`.
    value: &'static str,
    takes: Takes,
    default: &'static str,
    help: &'static str,
}

impl Setting {
    /// A setting with a flag and a name for the flag's value.
    pub const fn flag(flag: &'static str, value: &'static str) -> Setting {
        Setting { flag: Some(flag), ..Setting::variable(&[], value) }
    }

    /// A setting without a flag.
    pub const fn variable(names: &'static [&'static str], value: &'static str) -> Setting {
        let takes = Takes::Value;
        Setting { flag: None, variables: names, value, takes, default: "none", help: "" }
    }

    /// A flag of an earlier generation. It is always an error, with this text.
    pub const fn removed(flag: &'static str, help: &'static str) -> Setting {
        Setting { takes: Takes::Removed, ..Setting::flag(flag, "").help(help) }
    }

    /// The variables, the one that counts first.
    #[must_use]
    pub const fn env(self, variables: &'static [&'static str]) -> Setting {
        Setting { variables, ..self }
    }

    /// The flag without a value means `true`.
    #[must_use]
    pub const fn switch(self) -> Setting {
        Setting { takes: Takes::Switch, ..self }
    }

    /// The flag may be repeated; the variable is a comma-separated list.
    #[must_use]
    pub const fn list(self) -> Setting {
        Setting { takes: Takes::List, ..self }
    }

    /// The default, as text. Without it: none.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Setting {
        Setting { default, ..self }
    }

    /// The purpose, in one line of `--help`.
    #[must_use]
    pub const fn help(self, help: &'static str) -> Setting {
        Setting { help, ..self }
    }

    /// The flag, if there is one, and the variables: all names of the setting.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.flag.into_iter().chain(self.variables.iter().copied())
    }

    pub const fn purpose(&self) -> &'static str {
        self.help
    }

    /// `--port (PSL_BIND_PORT)`: how errors name a setting.
    pub fn name(&self) -> String {
        let variables = self.variables.join(", ");
        match self.flag {
            Some(flag) if variables.is_empty() => flag.to_owned(),
            Some(flag) => format!("{flag} ({variables})"),
            None => variables,
        }
    }

    const fn is_listed(&self) -> bool {
        !matches!(self.takes, Takes::Removed)
    }

    /// `--port PORT`, `--check URL...`, `PSL_HC_ENABLED=BOOL`: the first column of `--help`.
    fn usage(&self) -> String {
        match (self.flag, self.takes) {
            (Some(flag), Takes::Switch) => flag.to_owned(),
            (Some(flag), Takes::List) => format!("{flag} {}...", self.value),
            (Some(flag), _) => format!("{flag} {}", self.value),
            (None, _) => format!("{}={}", self.variables.join(", "), self.value),
        }
    }

    /// `port to bind [PSL_BIND_PORT; default 8888]`: the second column of `--help`.
    fn help_text(&self) -> String {
        let variables = self.flag.map(|_| self.variables.join(", ")).unwrap_or_default();
        let default = match self.default {
            "none" => String::new(),
            default => format!("default {default}"),
        };
        let details: Vec<_> = [variables, default].into_iter().filter(|d| !d.is_empty()).collect();
        match details.is_empty() {
            true => self.help.to_owned(),
            false => format!("{} [{}]", self.help, details.join("; ")),
        }
    }

    /// The row of the documentation's table.
    pub fn markdown(&self) -> String {
        let code = |text: &str| format!("`{text}`");
        let flag = self.flag.map(code).unwrap_or_default();
        let variables: Vec<_> = self.variables.iter().map(|v| code(v)).collect();
        format!("| {flag} | {} | {} | {} |", variables.join(", "), self.default, self.help)
    }
}

/// What `--help` says besides the settings.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The binary's name.
    pub name: &'static str,
    /// One sentence.
    pub purpose: &'static str,
    /// The table.
    pub settings: &'static [Setting],
    /// Code and meaning.
    pub exit_codes: &'static [(u8, &'static str)],
    /// What follows below the exit codes.
    pub notes: &'static str,
}

impl Program {
    /// The settings that there are: the rows of `--help` and of the README's table.
    pub fn listed(&self) -> impl Iterator<Item = &'static Setting> {
        self.settings.iter().filter(|setting| setting.is_listed())
    }

    /// The text of `--help`: at most 100 columns, one line for each setting.
    pub fn help(&self) -> String {
        let Program { name, purpose, settings, exit_codes, notes } = self;
        let mut out = format!(
            "{}\n{purpose}\n\nUsage: {name} [--flag value | --flag=value]...\n\n\
             Settings. A flag wins over its variable; an empty variable counts as unset.\n",
            version(name)
        );
        let mut row = |name: &str, text: &str| {
            // Writing to memory does not fail.
            let _ = writeln!(out, "  {name:<HELP_COLUMN$} {text}");
        };
        for setting in settings.iter().filter(|setting| setting.is_listed()) {
            row(&setting.usage(), &setting.help_text());
        }
        row("--help", "print this text");
        row("--version", "print version and commit");
        out.push_str("\nExit codes:\n");
        for (code, meaning) in *exit_codes {
            let _ = writeln!(out, "  {code:<3} {meaning}");
        }
        if !notes.is_empty() {
            let _ = write!(out, "\n{notes}");
        }
        out
    }
}

/// The version of all programs, and the commit that `scripts/build.sh` has built.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// `unknown` without `scripts/build.sh`.
pub const COMMIT: &str = match option_env!("PSL_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The text of `--version`.
pub fn version(name: &str) -> String {
    format!("{name} {VERSION} ({COMMIT})")
}

/// Reads a variable.
type Lookup = Box<dyn Fn(&str) -> Option<OsString>>;

/// What was given, and what was wrong with it so far.
pub struct Input {
    arguments: pico_args::Arguments,
    lookup: Lookup,
    errors: Vec<String>,
}

impl Input {
    /// Takes the arguments without the program's name, and a way to read a variable.
    /// `Err` is the text that `--help` or `--version` asks for, whatever else is given.
    pub fn read(
        program: &Program,
        arguments: Vec<OsString>,
        lookup: impl Fn(&str) -> Option<OsString> + 'static,
    ) -> Result<Input, String> {
        let asks = |names: &[&str]| arguments.iter().any(|a| names.iter().any(|name| a == name));
        if asks(&["--help", "-help", "-h"]) {
            return Err(program.help());
        }
        if asks(&["--version", "-version"]) {
            return Err(format!("{}\n", version(program.name)));
        }
        let mut errors = Vec::new();
        let pairs = pairs(program.settings, arguments, &mut errors);
        Ok(Input {
            arguments: pico_args::Arguments::from_vec(pairs),
            lookup: Box::new(lookup),
            errors,
        })
    }

    /// The value of a setting that takes one; nothing where it is not given, or is a mistake.
    pub fn value<T, E: ToString>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.flag(setting).or_else(|| self.variable(setting))?;
        if self.flag(setting).is_some() {
            self.errors.push(format!("{}: given twice, accepted once", setting.name()));
        }
        let text = self.utf8(setting, value)?;
        self.parsed(setting, &text, parse)
    }

    /// A boolean as Go's `strconv.ParseBool` reads it.
    pub fn switch(&mut self, setting: &Setting) -> Option<bool> {
        self.value(setting, parse_bool)
    }

    /// The values of a setting that takes several; empty items of a variable's list are passed over.
    pub fn list<T, E: ToString>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let mut texts = Vec::new();
        while let Some(value) = self.flag(setting) {
            texts.extend(self.utf8(setting, value));
        }
        if texts.is_empty() {
            let list = self
                .variable(setting)
                .and_then(|value| self.utf8(setting, value))
                .unwrap_or_default();
            texts = list
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect();
        }
        texts.iter().filter_map(|text| self.parsed(setting, text, &parse)).collect()
    }

    /// Adds a mistake that only shows where several settings are seen together.
    pub fn reject(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }

    /// All errors, one line each.
    pub fn finish(self) -> Result<(), Vec<String>> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    fn parsed<T, E: ToString>(
        &mut self,
        setting: &Setting,
        text: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(text)
            .map_err(|accepted| {
                self.errors.push(format!(
                    "{}: {} is not accepted; accepted: {}",
                    setting.name(),
                    quoted(text),
                    accepted.to_string()
                ));
            })
            .ok()
    }

    fn flag(&mut self, setting: &Setting) -> Option<OsString> {
        // An error cannot come: `pairs` leaves no flag without its value, and the copy does not fail.
        self.arguments
            .opt_value_from_os_str(setting.flag?, |v| Ok::<_, Infallible>(v.to_owned()))
            .ok()
            .flatten()
    }

    fn variable(&mut self, setting: &Setting) -> Option<OsString> {
        let is_set =
            |name: &str, value: &OsString| !value.is_empty() && !is_service_link(name, value);
        setting
            .variables
            .iter()
            .find_map(|name| (self.lookup)(name).filter(|value| is_set(name, value)))
    }

    fn utf8(&mut self, setting: &Setting, value: OsString) -> Option<String> {
        value
            .into_string()
            .map_err(|value| {
                self.errors.push(format!(
                    "{}: {} is not UTF-8",
                    setting.name(),
                    quoted(&value.to_string_lossy())
                ));
            })
            .ok()
    }
}

/// Rewrites `-name value`, `--name=value` and a switch alone to `--name value`, the one form that
/// the library reads without surprises: it would take `--host --port 80` as the host `--port`.
fn pairs(
    settings: &[Setting],
    arguments: Vec<OsString>,
    errors: &mut Vec<String>,
) -> Vec<OsString> {
    let mut pairs = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        let (name, joined) = split_at_equals(&argument);
        let Some((setting, flag)) = named(settings, &name) else {
            errors.push(match name.starts_with('-') {
                true => {
                    format!("{}: unknown flag; --help lists those that there are", quoted(&name))
                }
                false => {
                    format!(
                        "{}: unexpected argument; every value follows its flag",
                        quoted(&argument.to_string_lossy())
                    )
                }
            });
            continue;
        };
        if setting.takes == Takes::Removed {
            // Its value belongs to the same mistake.
            let _ = joined.or_else(|| arguments.next_if(|next| !is_like_a_flag(next)));
            errors.push(format!("{flag}: {}", setting.help));
            continue;
        }
        let value = match joined {
            None if setting.takes == Takes::Switch => Some(OsString::from("true")),
            None => arguments.next_if(|next| !is_like_a_flag(next)),
            joined => joined.filter(|value| !value.is_empty()),
        };
        match value {
            Some(value) if begins_with_dash(&value) => errors.push(format!(
                "{}: {} is not accepted; no value begins with a dash",
                setting.name(),
                quoted(&value.to_string_lossy())
            )),
            Some(value) => pairs.extend([OsString::from(flag), value]),
            None => {
                errors.push(format!("{}: a value is missing ({})", setting.name(), setting.value))
            }
        }
    }
    pairs
}

fn split_at_equals(argument: &OsStr) -> (String, Option<OsString>) {
    let bytes = argument.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) if bytes.starts_with(b"-") => (
            String::from_utf8_lossy(&bytes[..at]).into_owned(),
            Some(OsStr::from_bytes(&bytes[at + 1..]).to_owned()),
        ),
        _ => (argument.to_string_lossy().into_owned(), None),
    }
}

/// Go's `flag` package took one dash before a long name as well as two.
fn named<'s>(settings: &'s [Setting], name: &str) -> Option<(&'s Setting, &'static str)> {
    settings.iter().find_map(|s| {
        let flag = s.flag.filter(|flag| *flag == name || flag[1..] == *name)?;
        Some((s, flag))
    })
}

/// `-5s` is no flag of anybody's, but a value that is not accepted.
fn is_like_a_flag(argument: &OsStr) -> bool {
    matches!(argument.as_bytes(), [b'-', second, ..] if !second.is_ascii_digit())
}

/// Kubernetes sets `NAME_PORT=tcp://10.0.0.1:80` in the pods beside a Service `name`, with the scheme
/// of its first port. Such a value is not meant for this program. `NAME_SERVICE_PORT` holds a number.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let scheme = value.to_str().and_then(|value| value.split_once("://")).map(|(scheme, _)| scheme);
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    };
    name.ends_with("_PORT") && !name.ends_with("_SERVICE_PORT") && scheme.is_some_and(is_scheme)
}

fn begins_with_dash(value: &OsStr) -> bool {
    value.as_bytes().starts_with(b"-")
}

fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false (also 1, 0, t, f, T, F, TRUE, FALSE, True, False)"),
    }
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "the tables of cases are easier to read whole")]
mod tests {
    use super::*;

    const HOST: Setting =
        Setting::flag("--host", "HOST").env(&["T_HOST"]).default("localhost").help("a host");
    const PORT: Setting =
        Setting::flag("--port", "PORT").env(&["T_PORT", "OLD_PORT"]).default("1").help("a port");
    const NET: Setting = Setting::flag("--hostNet", "BOOL")
        .env(&["T_NET"])
        .switch()
        .default("false")
        .help("a switch");
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

    type Values = (Option<String>, Option<u16>, Option<bool>, Vec<String>, Option<bool>);

    fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Values, Vec<String>> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let lookup = move |name: &str| {
            variables.iter().find(|(n, _)| n == name).map(|(_, v)| OsString::from(v))
        };
        let mut input =
            Input::read(&PROGRAM, arguments.iter().map(OsString::from).collect(), lookup)
                .expect("not asked for help");
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
    fn accepted() {
        let none: Values = (None, None, None, vec![], None);
        let cases: &[(&[&str], &[(&str, &str)], Values)] = &[
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
    fn errors() {
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
                &[
                    "--port (T_PORT, OLD_PORT): \"x\" is not accepted; accepted: a port from 0 to 65535",
                ],
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
            (
                &["--host", "a", "--host", "b"],
                &[],
                &["--host (T_HOST): given twice, accepted once"],
            ),
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
                    "\"--hostX\": unknown flag; --help lists those that there are",
                    "\"-y\": unknown flag; --help lists those that there are",
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
    fn what_is_not_utf8_is_a_mistake() {
        let bytes = OsStr::from_bytes(b"--host=\xff").to_owned();
        let mut input =
            Input::read(&PROGRAM, vec![bytes], |_| None).map_err(drop).expect("not asked for help");
        assert_eq!(input.value(&HOST, |t| Ok::<_, String>(t.to_owned())), None);
        assert_eq!(
            input.finish(),
            Err(vec!["--host (T_HOST): \"\u{fffd}\" is not UTF-8".to_owned()])
        );
    }

    #[test]
    fn help_and_version_always_work() {
        for (arguments, start) in
            [(&["--nonsense", "--help"][..], "t "), (&["-h"], "t "), (&["--version", "x"], "t ")]
        {
            let text =
                Input::read(&PROGRAM, arguments.iter().map(OsString::from).collect(), |_| None)
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
}
