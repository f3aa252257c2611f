//! The file of the last results: one section for each part. A new measurement replaces the section
//! of its part alone.

/// The section of one part.
pub struct Section {
    /// The heading, which finds the old section in the file.
    pub title: &'static str,
    pub text: String,
    /// Goals that fail the command, one line each.
    pub broken: Vec<String>,
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
        Section { title, text: text.to_owned(), broken: Vec::new() }
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
