//! The declaration of settings: a flag over an environment variable over a default.
//!
//! A setting is one constant, from which `--help`, the documentation's tables and [`Input`] read:
//!
//! ```
//! use psl::settings::Setting;
//!
//! const PORT: Setting = Setting::flag("--port", "PORT")
//!     .env(&["PSL_BIND_PORT"])
//!     .default("8888")
//!     .help("port to listen on");
//! ```
//!
//! A program lists its constants in [`Program::settings`] and reads them with [`Input::value`],
//! [`Input::switch`] and [`Input::list`]. This module does not know the meaning of a setting.

mod help;
mod input;

pub use input::Input;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueForm {
    Once,
    /// The flag without a value means `true`; `--name=false` as in Go's `flag` package.
    Switch,
    /// A repeated flag, or a comma-separated list in the variable.
    List,
    /// A flag of an earlier version, which is an error and is not listed.
    Removed,
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    flag: Option<&'static str>,
    /// The first variable that is set and not empty counts; a service link counts as unset.
    variables: &'static [&'static str],
    /// The name of the value in `--help`.
    value: &'static str,
    form: ValueForm,
    default: &'static str,
    help: &'static str,
}

impl Setting {
    /// A setting with a flag and a name for the flag's value.
    pub const fn flag(flag: &'static str, value: &'static str) -> Setting {
        Setting { flag: Some(flag), ..Setting::variable(&[], value) }
    }

    pub const fn variable(names: &'static [&'static str], value: &'static str) -> Setting {
        let form = ValueForm::Once;
        Setting { flag: None, variables: names, value, form, default: "none", help: "" }
    }

    /// A flag of an earlier version: an error with the text `help`.
    pub const fn removed(flag: &'static str, help: &'static str) -> Setting {
        Setting { form: ValueForm::Removed, ..Setting::flag(flag, "").help(help) }
    }

    /// The variables, in the order of their precedence.
    #[must_use]
    pub const fn env(self, variables: &'static [&'static str]) -> Setting {
        Setting { variables, ..self }
    }

    /// The flag without a value means `true`.
    #[must_use]
    pub const fn switch(self) -> Setting {
        Setting { form: ValueForm::Switch, ..self }
    }

    /// The flag may be repeated; the variable is a comma-separated list.
    #[must_use]
    pub const fn list(self) -> Setting {
        Setting { form: ValueForm::List, ..self }
    }

    /// The default, as text; without this call: none.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Setting {
        Setting { default, ..self }
    }

    /// The purpose, in one line of `--help`.
    #[must_use]
    pub const fn help(self, help: &'static str) -> Setting {
        Setting { help, ..self }
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.flag.into_iter().chain(self.variables.iter().copied())
    }

    pub const fn purpose(&self) -> &'static str {
        self.help
    }

    /// `--port (PSL_BIND_PORT)`: the name of the setting in errors.
    pub fn name(&self) -> String {
        let variables = self.variables.join(", ");
        match self.flag {
            Some(flag) if variables.is_empty() => flag.to_owned(),
            Some(flag) => format!("{flag} ({variables})"),
            None => variables,
        }
    }
}

/// A program's settings, and the other text of its `--help`.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub name: &'static str,
    pub purpose: &'static str,
    pub settings: &'static [Setting],
    pub exit_codes: &'static [(u8, &'static str)],
    pub notes: &'static str,
}

#[cfg(test)]
mod tests;
