//! Foreign text that is shown to people: in mistakes, logs and answers.
//!
//! Bounded, on one line, and without the parts of a URL that may be secret. Does not know where
//! the text comes from.

/// The most characters of a foreign text that are shown.
const LONGEST: usize = 200;

/// The text in quotes: control characters escaped, long texts cut, secrets of URLs masked.
pub fn shown(text: &str) -> String {
    format!("\"{}\"", one_line(&without_secrets(text)))
}

/// Control characters (line breaks and terminal escapes too) escaped, quotes and backslashes as
/// well; cut after 200 characters.
pub fn one_line(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// User, password and query of whatever looks like a URL, or a part of one, become `***`.
fn without_secrets(text: &str) -> String {
    let (before_query, query) = match text.split_once('?') {
        Some((before, _)) => (before, "?***"),
        None => (text, ""),
    };
    let (scheme, rest) = match before_query.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), before_query),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}***@{host}{query}"),
        None => format!("{scheme}{rest}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_control_characters_do_not_show() {
        for (text, expected) in [
            ("plain", "\"plain\""),
            ("http://u:p@h:1/a?token=x", "\"http://***@h:1/a?***\""),
            ("http://u:p@x@h", "\"http://***@h\""),
            ("u:p@h", "\"***@h\""),
            ("a\nb\u{1b}[31m", "\"a\\nb\\u{1b}[31m\""),
            ("say \"x\"\\", "\"say \\\"x\\\"\\\\\""),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(one_line(&"x".repeat(200)).chars().count(), 200);
        assert_eq!(one_line(&"x".repeat(10_000)).chars().count(), 201);
    }
}
