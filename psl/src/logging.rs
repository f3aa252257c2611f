//! Log lines on stderr, as logfmt or JSON.
//!
//! Writes the records of this project's crates only: a library's debug record may hold a header or
//! a query.

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
    .help("log format: logfmt or json");

/// `PSL_LOG`, the same for every program.
pub const LOG: Setting = Setting::variable(&["PSL_LOG"], "FILTER")
    .default("info")
    .help("log level: off, error, warn, info, debug, module=level");

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    /// `level=info msg="lock acquired" duration=20s`
    #[default]
    Logfmt,
    /// `{"level":"info","msg":"lock acquired","duration":"20s"}`
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    format: Format,
    filter: String,
}

impl LogConfig {
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

/// Starts the logger; records before this call are lost.
pub fn start(config: &LogConfig) {
    let format = config.format;
    let stderr = stderr::writer(match format {
        Format::Logfmt => |dropped| dropped_notice(Format::Logfmt, dropped),
        Format::Json => |dropped| dropped_notice(Format::Json, dropped),
    });
    let started = env_logger::Builder::new()
        .parse_filters(&config.filter)
        .write_style(WriteStyle::Never)
        .target(Target::Pipe(stderr))
        .format(move |out, record| match is_project_target(record.target()) {
            true => writeln!(out, "{}", line(format, record)),
            false => Ok(()),
        })
        .try_init();
    // A second start in one process, as in tests, keeps the first logger.
    drop(started);
}

/// The library accepts any word as the name of a module, so `inof` would silence the log. A word
/// without a level has to be a level or a module of this project.
fn is_filter(text: &str) -> bool {
    let directives = text.split('/').next().unwrap_or_default();
    let is_known = |directive: &str| {
        let module = directive.split('=').next().unwrap_or_default().trim();
        is_project_target(module)
            || (!directive.contains('=') && module.parse::<LevelFilter>().is_ok())
    };
    env_filter::Builder::new().try_parse(text).is_ok() && directives.split(',').all(is_known)
}

fn is_project_target(target: &str) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    matches!(root, "psl" | "lock" | "init" | "health")
}

fn dropped_notice(format: Format, dropped: usize) -> String {
    let fields = [("lines", Value::from(dropped))];
    let message = format_args!("log lines dropped: stderr is blocked");
    line(format, &RecordBuilder::new().level(Level::Warn).args(message).key_values(&fields).build())
        + "\n"
}

fn line(format: Format, record: &Record) -> String {
    let mut line = LogLine { format, text: String::new() };
    line.string("level", &record.level().as_str().to_ascii_lowercase());
    line.string("msg", &record.args().to_string());
    // `visit_pair` never fails, so the visit never ends early.
    let _ = record.key_values().visit(&mut line);
    match format {
        Format::Logfmt => line.text,
        Format::Json => format!("{{{}}}", line.text),
    }
}

struct LogLine {
    format: Format,
    text: String,
}

impl LogLine {
    fn string(&mut self, key: &str, value: &str) {
        match self.format {
            Format::Logfmt if key != "msg" && is_bare(value) => self.raw(key, value),
            Format::Logfmt | Format::Json => self.raw(key, &json_string(value)),
        }
    }

    fn raw(&mut self, key: &str, value: &str) {
        let (separator, key) = match self.format {
            Format::Logfmt => (" ", format!("{key}=")),
            Format::Json => (",", format!("{}:", json_string(key))),
        };
        let separator = if self.text.is_empty() { "" } else { separator };
        // Writing to a `String` does not fail.
        let _ = write!(self.text, "{separator}{key}{value}");
    }
}

impl<'kvs> VisitSource<'kvs> for LogLine {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let text = value.to_string();
        let is_number =
            value.to_u64().is_some() || value.to_i64().is_some() || value.to_bool().is_some();
        match is_number {
            true => self.raw(key.as_str(), &text),
            false => self.string(key.as_str(), &text),
        }
        Ok(())
    }
}

/// `true` if logfmt needs no quotes around the value.
fn is_bare(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\'))
}

/// A JSON string, which is also a quoted logfmt value.
fn json_string(text: &str) -> String {
    // Serializing a string cannot fail.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(format: Format, message: &str, fields: &[(&str, Value)]) -> String {
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
    fn lines_in_both_formats() {
        let fields = &[
            ("holder", Value::from("web-0")),
            ("why", Value::from("a \"b\"\n=c")),
            ("empty", Value::from("")),
            ("slots", Value::from(2)),
            ("on", Value::from(true)),
        ];
        assert_eq!(
            formatted(Format::Logfmt, "lock acquired", fields),
            r#"level=info msg="lock acquired" holder=web-0 why="a \"b\"\n=c" empty="" slots=2 on=true"#
        );
        let json = formatted(Format::Json, "lock acquired", fields);
        assert_eq!(
            json,
            r#"{"level":"info","msg":"lock acquired","holder":"web-0","why":"a \"b\"\n=c","empty":"","slots":2,"on":true}"#
        );
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }

    #[test]
    fn invalid_filters_are_refused() {
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
    fn only_project_records_are_written() {
        for (target, expected) in [
            ("lock", true),
            ("psl::server", true),
            ("ureq::run", false),
            ("rustls", false),
            ("", false),
        ] {
            assert_eq!(is_project_target(target), expected, "{target}");
        }
    }
}
