//! The file that keeps what was measured last: one section for each part, so that a part that is
//! measured anew replaces its own alone. Figures are kept beside it, see `figures`.

use crate::figures::{Figure, Measured};

/// What a part has to say.
pub struct Section {
    /// Its heading, by which it is found again.
    pub title: &'static str,
    pub text: String,
    /// Promises that were not kept, one line each.
    pub broken: Vec<String>,
    /// For `compare`.
    pub figures: Vec<Figure>,
}

impl Section {
    /// Its figures by its title; none has a part that is a text alone.
    pub fn measured(&self) -> Option<(String, Measured)> {
        // The first lines of the text say when, how and where, and the JSON has to say the same.
        let mut said = self.text.lines().filter_map(|line| line.strip_prefix("- "));
        let (date, command) = said.next()?.split_once(", ")?;
        let measured = Measured {
            date: date.to_owned(),
            command: command.trim_matches('`').to_owned(),
            machine: said.next()?.split("; load").next()?.to_owned(),
            figures: self.figures.clone(),
        };
        (!self.figures.is_empty()).then(|| (self.title.to_owned(), measured))
    }
}

const HEAD: &str = "\
# Results

Written by `scripts/bench.sh --write`. Absolute figures are those of the machine that is named; ratios carry over.
";

/// The file with these sections, in place of those of the same title or after the others.
pub fn merged(file: &str, sections: &[Section]) -> String {
    let mut kept: Vec<(String, String)> = split(file);
    for section in sections {
        let text = section.text.trim().to_owned();
        match kept.iter_mut().find(|(title, _)| title == section.title) {
            Some((_, old)) => *old = text,
            None => kept.push((section.title.to_owned(), text)),
        }
    }
    let sections = kept.iter().map(|(title, text)| format!("\n## {title}\n\n{text}\n"));
    HEAD.to_owned() + &sections.collect::<String>()
}

fn split(file: &str) -> Vec<(String, String)> {
    let sections = file.split("\n## ").skip(1);
    sections
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .map(|(title, text)| (title.to_owned(), text.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(title: &'static str, text: &str) -> Section {
        Section { title, text: text.to_owned(), broken: Vec::new(), figures: Vec::new() }
    }

    #[test]
    fn what_the_text_says_is_kept_with_the_figures() {
        use crate::figures::{Better, tests::figure};
        let text = crate::machine::described("x", "/bin/no-such-lock".as_ref());
        assert!(section("A", &text).measured().is_none(), "there are no figures");
        let with =
            Section { figures: vec![figure("f", Better::Less, &[1.0])], ..section("A", &text) };
        let (title, kept) = with.measured().unwrap();
        assert_eq!(
            (title.as_str(), kept.command.as_str(), kept.figures.len()),
            ("A", "scripts/bench.sh x", 1)
        );
        assert!(kept.date.ends_with(" UTC") && kept.machine.contains(" cores of "), "{kept:?}");
        assert!(!kept.machine.contains("load"), "the load is not the machine: {}", kept.machine);
    }

    #[test]
    fn a_section_replaces_its_own_and_no_other() {
        let first = merged("", &[section("A", "one\n\ntwo\n"), section("B", "three")]);
        assert_eq!(first, format!("{HEAD}\n## A\n\none\n\ntwo\n\n## B\n\nthree\n"));
        assert_eq!(merged(&first, &[]), first);
        let second = merged(&first, &[section("A", "new"), section("C", "last")]);
        assert_eq!(second, format!("{HEAD}\n## A\n\nnew\n\n## B\n\nthree\n\n## C\n\nlast\n"));
    }
}
