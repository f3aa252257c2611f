//! The text of `--help` and `--version`, and the rows of the documentation's tables.

use std::fmt::Write as _;

use super::{Program, Setting, ValueForm};
use crate::version::{COMMIT, VERSION};

/// The width of the first column of `--help`, in characters.
const FIRST_COLUMN: usize = 27;

impl Program {
    /// The settings in `--help` and in the documentation: all but the removed ones.
    pub fn listed(&self) -> impl Iterator<Item = &'static Setting> {
        self.settings.iter().filter(|setting| setting.form != ValueForm::Removed)
    }

    /// The text of `--help`: at most 100 columns, one line for each setting.
    pub fn help(&self) -> String {
        let mut out = format!(
            "{version}\n{purpose}\n\nUsage: {name} [--flag value | --flag=value]...\n\n\
             Settings. A flag wins over its variable; an empty variable counts as unset.\n",
            version = self.version(),
            purpose = self.purpose,
            name = self.name,
        );
        // Writing to memory does not fail.
        let mut row = |name: &str, text: &str| {
            let _ = writeln!(out, "  {name:<FIRST_COLUMN$} {text}");
        };
        for setting in self.listed() {
            row(&setting.usage(), &setting.help_text());
        }
        row("--help", "print this text");
        row("--version", "print version and commit");
        out.push_str("\nExit codes:\n");
        for (code, meaning) in self.exit_codes {
            let _ = writeln!(out, "  {code:<3} {meaning}");
        }
        if !self.notes.is_empty() {
            let _ = write!(out, "\n{}", self.notes);
        }
        out
    }

    pub(super) fn version(&self) -> String {
        format!("{} {VERSION} ({COMMIT})", self.name)
    }
}

impl Setting {
    /// `--port PORT`, `--check URL...`, `PSL_HC_ENABLED=BOOL`: the first column of `--help`.
    fn usage(&self) -> String {
        match (self.flag, self.form) {
            (Some(flag), ValueForm::Switch) => flag.to_owned(),
            (Some(flag), ValueForm::List) => format!("{flag} {}...", self.value),
            (Some(flag), _) => format!("{flag} {}", self.value),
            (None, _) => format!("{}={}", self.variables.join(", "), self.value),
        }
    }

    /// `port to listen on [PSL_BIND_PORT; default 8888]`: the second column of `--help`.
    fn help_text(&self) -> String {
        let mut details = Vec::new();
        if self.flag.is_some() && !self.variables.is_empty() {
            details.push(self.variables.join(", "));
        }
        if self.default != "none" {
            details.push(format!("default {}", self.default));
        }
        match details.is_empty() {
            true => self.help.to_owned(),
            false => format!("{} [{}]", self.help, details.join("; ")),
        }
    }

    pub fn markdown(&self) -> String {
        let code = |text: &str| format!("`{text}`");
        let flag = self.flag.map(code).unwrap_or_default();
        let variables: Vec<_> = self.variables.iter().map(|name| code(name)).collect();
        format!("| {flag} | {} | {} | {} |", variables.join(", "), self.default, self.help)
    }
}
