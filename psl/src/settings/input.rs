//! Reads the values of settings from arguments and variables, once, at start.
//!
//! Collects every error, so that a user can correct all of them at once. The caller passes the
//! arguments and a function that reads variables.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt as _;
use std::vec::IntoIter;

use super::{Program, Setting, ValueForm};
use crate::text::quoted;

type ReadVariable = Box<dyn Fn(&str) -> Option<OsString>>;

/// The arguments and variables of a program, and the errors in them so far.
pub struct Input {
    arguments: pico_args::Arguments,
    variables: ReadVariable,
    errors: Vec<String>,
}

impl Input {
    /// Takes the arguments without the program's name. `Err` is the text for `--help` or
    /// `--version`, which work with any other arguments.
    pub fn read(
        program: &Program,
        arguments: Vec<OsString>,
        variables: impl Fn(&str) -> Option<OsString> + 'static,
    ) -> Result<Input, String> {
        let has_any = |names: &[&str]| arguments.iter().any(|a| names.iter().any(|name| a == name));
        if has_any(&["--help", "-help", "-h"]) {
            return Err(program.help());
        }
        if has_any(&["--version", "-version"]) {
            return Err(format!("{}\n", program.version()));
        }
        let (mut pairs, mut errors) = (Vec::new(), Vec::new());
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            match flag_and_value(program.settings, &argument, &mut arguments) {
                Ok((flag, value)) => pairs.extend([OsString::from(flag), value]),
                Err(error) => errors.push(error),
            }
        }
        // The library gets only `--name value`: it reads `--host --port` as the host `--port`.
        let arguments = pico_args::Arguments::from_vec(pairs);
        Ok(Input { arguments, variables: Box::new(variables), errors })
    }

    /// The value of a setting that takes one; `None` if the setting is unset or not accepted.
    pub fn value<T, E: ToString>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let mut values = self.take_flag(setting);
        let value = values.next().or_else(|| self.variable(setting))?;
        if values.next().is_some() {
            self.errors.push(format!("{}: given twice, accepted once", setting.name()));
        }
        let text = self.utf8(setting, value)?;
        self.parsed(setting, &text, parse)
    }

    /// A boolean in the forms of Go's `strconv.ParseBool`.
    pub fn switch(&mut self, setting: &Setting) -> Option<bool> {
        self.value(setting, |text| match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err("true or false (also 1, 0, t, f, T, F, TRUE, FALSE, True, False)"),
        })
    }

    /// The values of a list; empty items of a variable's list are ignored.
    pub fn list<T, E: ToString>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let values = self.take_flag(setting);
        let mut texts: Vec<_> = values.filter_map(|value| self.utf8(setting, value)).collect();
        if texts.is_empty()
            && let Some(value) = self.variable(setting)
        {
            let list = self.utf8(setting, value).unwrap_or_default();
            let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
            texts = items.map(str::to_owned).collect();
        }
        texts.iter().filter_map(|text| self.parsed(setting, text, &parse)).collect()
    }

    /// Adds an error that concerns several settings.
    pub fn reject(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }

    pub fn finish(self) -> Result<(), Vec<String>> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    fn parsed<T, E: ToString>(
        &mut self,
        setting: &Setting,
        text: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(accepted) => {
                let (name, text, accepted) = (setting.name(), quoted(text), accepted.to_string());
                self.reject(format!("{name}: {text} is not accepted; accepted: {accepted}"));
                None
            }
        }
    }

    fn take_flag(&mut self, setting: &Setting) -> IntoIter<OsString> {
        let value = |value: &OsStr| Ok::<_, Infallible>(value.to_owned());
        let values = setting.flag.map(|flag| self.arguments.values_from_os_str(flag, value));
        // No flag is without its value here, so this does not fail.
        values.and_then(Result::ok).unwrap_or_default().into_iter()
    }

    fn variable(&self, setting: &Setting) -> Option<OsString> {
        setting.variables.iter().find_map(|name| {
            let value = (self.variables)(name)?;
            (!value.is_empty() && !is_service_link(name, &value)).then_some(value)
        })
    }

    fn utf8(&mut self, setting: &Setting, value: OsString) -> Option<String> {
        match value.into_string() {
            Ok(text) => Some(text),
            Err(value) => {
                let text = quoted(&value.to_string_lossy());
                self.reject(format!("{}: {text} is not UTF-8", setting.name()));
                None
            }
        }
    }
}

/// Reads `-name value`, `--name value` or `--name=value`; a switch needs no value.
fn flag_and_value(
    settings: &[Setting],
    argument: &OsStr,
    rest: &mut Peekable<IntoIter<OsString>>,
) -> Result<(&'static str, OsString), String> {
    let (name, joined) = split_at_equals(argument);
    let Some((setting, flag)) = find(settings, &name) else {
        return Err(match name.starts_with('-') {
            true => format!("{}: unknown flag; --help lists the flags", quoted(&name)),
            false => {
                let text = quoted(&argument.to_string_lossy());
                format!("{text}: unexpected argument; every value follows its flag")
            }
        });
    };
    let value = match joined {
        None if setting.form == ValueForm::Switch => Some(OsString::from("true")),
        None => rest.next_if(|next| !is_like_a_flag(next)),
        Some(value) => Some(value).filter(|value| !value.is_empty()),
    };
    match value {
        _ if setting.form == ValueForm::Removed => Err(format!("{flag}: {}", setting.help)),
        Some(value) if value.as_bytes().starts_with(b"-") => {
            let text = quoted(&value.to_string_lossy());
            Err(format!("{}: {text} is not accepted; no value begins with a dash", setting.name()))
        }
        Some(value) => Ok((flag, value)),
        None => Err(format!("{}: a value is missing ({})", setting.name(), setting.value)),
    }
}

fn split_at_equals(argument: &OsStr) -> (String, Option<OsString>) {
    let bytes = argument.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) if bytes.starts_with(b"-") => {
            let value = OsStr::from_bytes(&bytes[at + 1..]).to_owned();
            (String::from_utf8_lossy(&bytes[..at]).into_owned(), Some(value))
        }
        _ => (argument.to_string_lossy().into_owned(), None),
    }
}

/// Go's `flag` package accepts one dash before a name as well as two.
fn find<'s>(settings: &'s [Setting], name: &str) -> Option<(&'s Setting, &'static str)> {
    settings.iter().find_map(|setting| {
        let flag = setting.flag.filter(|flag| *flag == name || flag[1..] == *name)?;
        Some((setting, flag))
    })
}

/// `-5s` is not a flag but a value, which is not accepted.
fn is_like_a_flag(argument: &OsStr) -> bool {
    matches!(argument.as_bytes(), [b'-', second, ..] if !second.is_ascii_digit())
}

/// Kubernetes sets `NAME_PORT=tcp://10.0.0.1:80` for a Service `name`, with the scheme of its first
/// port. Such a value is not a setting of this program. `NAME_SERVICE_PORT` is a number.
pub(super) fn is_service_link(name: &str, value: &OsStr) -> bool {
    let scheme = value.to_str().and_then(|value| value.split_once("://")).map(|(scheme, _)| scheme);
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    };
    name.ends_with("_PORT") && !name.ends_with("_SERVICE_PORT") && scheme.is_some_and(is_scheme)
}
