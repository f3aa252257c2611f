//! Foreign text that is shown to people: in mistakes, logs and answers.
//!
//! Bounded, on one line, and without the parts of a URL that may be secret. Does not know where
//! the text comes from.

/// The most characters of a foreign text that are shown.
const LONGEST: usize = 200;

/// The text in quotes, on one line, long texts cut, secrets of URLs masked.
pub fn shown(text: &str) -> String {
    let line = one_line(&without_secrets(text));
    format!("\"{}\"", line.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Each character that would begin a line, move the cursor or turn the direction of what follows
/// becomes U+FFFD; cut after 200 characters.
pub fn one_line(text: &str) -> String {
    let mut out: String = text.chars().take(LONGEST).map(|c| if is_unseen(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// Control characters, and the marks of Unicode that format without being seen.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
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
            ("a\nb\u{1b}[31m\u{202e}c", "\"a\u{fffd}b\u{fffd}[31m\u{fffd}c\""),
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
