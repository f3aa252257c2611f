//! One line for each event on stderr, as logfmt or JSON.
//!
//! Only this project's own records are written: what the libraries log at debug may hold a header
//! or a query. Does not know what is worth logging.

pub mod stderr;

use std::fmt::Write as _;
use std::io::Write as _;

use env_logger::{Target, WriteStyle};
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record, RecordBuilder};

use crate::settings::{Input, Setting};

/// `--log-format`, the same for every program.
pub const LOG_FORMAT: Setting = Setting::flag("--log-format", "FORMAT")
    .env(&["PSL_LOG_FORMAT"])
    .default("logfmt")
    .help("form of the log lines on stderr: `logfmt` or `json`");

/// `PSL_LOG`, the same for every program.
pub const LOG: Setting = Setting::variable(&["PSL_LOG"], "FILTER").default("info").help("log level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or a filter in env_logger's syntax");

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `level=info msg="lock acquired" duration=20s`
    #[default]
    Logfmt,
    /// `{"level":"info","msg":"lock acquired","duration":"20s"}`
    Json,
}

/// What to write and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    format: Format,
    filter: String,
}

impl LogConfig {
    /// Takes both settings out of what was given.
    pub fn take(input: &mut Input) -> LogConfig {
        let format = input.value(&LOG_FORMAT, |text| match text {
            "logfmt" => Ok(Format::Logfmt),
            "json" => Ok(Format::Json),
            _ => Err("logfmt or json"),
        });
        let filter = input.value(&LOG, |text| match is_filter(text) {
            true => Ok(text.to_owned()),
            false => Err("off, error, warn, info, debug, trace, or a list of module=level with modules of psl, lock, init, health"),
        });
        LogConfig {
            format: format.unwrap_or_default(),
            filter: filter.unwrap_or_else(|| "info".to_owned()),
        }
    }
}

/// Begins to log; before this nothing is written.
pub fn start(settings: &LogConfig) {
    let format = settings.format;
    let started = env_logger::Builder::new()
        .parse_filters(&settings.filter)
        .write_style(WriteStyle::Never)
        .target(Target::Pipe(crate::logging::stderr::writer(match format {
            Format::Logfmt => |lines| dropped(Format::Logfmt, lines),
            Format::Json => |lines| dropped(Format::Json, lines),
        })))
        .format(move |out, record| match is_ours(record.target()) {
            true => writeln!(out, "{}", line(format, record)),
            false => Ok(()),
        })
        .try_init();
    // A second start in one process, as a test may do it, keeps the first logger.
    drop(started);
}

/// The library takes any word for a module's name, so that `inof` would silence everything: a word
/// that stands alone has to be a level or one of our modules.
fn is_filter(text: &str) -> bool {
    let directives = text.split('/').next().unwrap_or_default();
    let is_known = |directive: &str| {
        let module = directive.split('=').next().unwrap_or_default().trim();
        is_ours(module) || (!directive.contains('=') && module.parse::<LevelFilter>().is_ok())
    };
    env_filter::Builder::new().try_parse(text).is_ok() && directives.split(',').all(is_known)
}

fn is_ours(target: &str) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    matches!(root, "psl" | "lock" | "init" | "health")
}

fn dropped(format: Format, lines: usize) -> String {
    let fields = [("lines", Value::from(lines))];
    let message = format_args!("log lines dropped: nobody read stderr");
    line(format, &RecordBuilder::new().level(Level::Warn).args(message).key_values(&fields).build())
        + "\n"
}

fn line(format: Format, record: &Record) -> String {
    let mut fields = Fields { format, line: String::new() };
    fields.text("level", level(record.level()));
    fields.text("msg", &record.args().to_string());
    // A field never fails here, so the visit never ends early.
    let _ = record.key_values().visit(&mut fields);
    match format {
        Format::Logfmt => fields.line,
        Format::Json => format!("{{{}}}", fields.line),
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

struct Fields {
    format: Format,
    line: String,
}

impl Fields {
    fn text(&mut self, key: &str, text: &str) {
        match self.format {
            Format::Logfmt if key != "msg" && is_bare(text) => self.raw(key, text),
            Format::Logfmt | Format::Json => self.raw(key, &json_string(text)),
        }
    }

    /// Writing to a `String` does not fail.
    fn raw(&mut self, key: &str, text: &str) {
        let _ = match self.format {
            Format::Logfmt => {
                write!(self.line, "{}{key}={text}", if self.line.is_empty() { "" } else { " " })
            }
            Format::Json => {
                write!(
                    self.line,
                    "{}{}:{text}",
                    if self.line.is_empty() { "" } else { "," },
                    json_string(key)
                )
            }
        };
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let text = value.to_string();
        let is_number =
            value.to_u64().is_some() || value.to_i64().is_some() || value.to_bool().is_some();
        if is_number {
            self.raw(key.as_str(), &text);
        } else {
            self.text(key.as_str(), &text);
        }
        Ok(())
    }
}

/// What needs no quotes in logfmt.
fn is_bare(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\'))
}

/// A JSON string also does as a quoted logfmt value.
fn json_string(text: &str) -> String {
    // Serializing a string has no way to fail.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, message: &str, fields: &[(&str, Value)]) -> String {
        let fields = fields.to_vec();
        line(
            format,
            &RecordBuilder::new()
                .level(Level::Info)
                .args(format_args!("{message}"))
                .key_values(&fields)
                .build(),
        )
    }

    #[test]
    fn lines() {
        let fields = &[
            ("holder", Value::from("web-0")),
            ("why", Value::from("a \"b\"\n=c")),
            ("empty", Value::from("")),
            ("slots", Value::from(2)),
            ("on", Value::from(true)),
        ];
        assert_eq!(
            written(Format::Logfmt, "lock acquired", fields),
            r#"level=info msg="lock acquired" holder=web-0 why="a \"b\"\n=c" empty="" slots=2 on=true"#
        );
        let json = written(Format::Json, "lock acquired", fields);
        assert_eq!(
            json,
            r#"{"level":"info","msg":"lock acquired","holder":"web-0","why":"a \"b\"\n=c","empty":"","slots":2,"on":true}"#
        );
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }

    #[test]
    fn filters() {
        for (text, expected) in [
            ("info", true),
            ("OFF", true),
            ("warn,lock::http=debug", true),
            ("psl=trace", true),
            ("lock", true),
            ("info/acquired", true),
            ("inof", false),
            ("lock=loud", false),
            ("ureq=debug", false),
            ("info,,", false),
            ("", false),
        ] {
            assert_eq!(is_filter(text), expected, "{text}");
        }
    }

    #[test]
    fn only_our_own_records() {
        for (target, ours) in [
            ("lock", true),
            ("psl::server", true),
            ("ureq::run", false),
            ("rustls", false),
            ("", false),
        ] {
            assert_eq!(is_ours(target), ours, "{target}");
        }
    }
}
