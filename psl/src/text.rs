//! Untrusted text in errors, logs and responses: bounded, on one line, without the secrets of URLs.
//!
//! Does not know the origin of the text.

const LONGEST: usize = 200;

/// The text in quotes, on one line, long texts cut, secrets of URLs masked.
pub fn quoted(text: &str) -> String {
    let line = one_line(&without_secrets(text));
    format!("\"{}\"", line.replace('\\', "\\\\").replace('"', "\\\""))
}

/// One line of free text, with the secrets of each URL and path in it masked.
pub fn masked_line(text: &str) -> String {
    let mask = |word: &str| {
        if word.contains(['/', '@', '=']) { without_secrets(word) } else { word.to_owned() }
    };
    one_line(&text.split(' ').map(mask).collect::<Vec<_>>().join(" "))
}

/// Replaces each character that would begin a line, move the cursor or turn the direction of the
/// text with U+FFFD; cuts the text after 200 characters.
pub fn one_line(text: &str) -> String {
    let visible = |c| if is_invisible(c) { '\u{fffd}' } else { c };
    let mut out: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// Control characters and Unicode's invisible formatting characters.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Replaces user, password, query and fragment of a URL, or of a part of one, with `***`.
fn without_secrets(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, host)) => ("***@", host),
        None => ("", rest),
    };
    let (rest, query) = match rest.find(['?', '#']) {
        Some(at) if rest[at..].starts_with('?') => (&rest[..at], "?***"),
        Some(at) => (&rest[..at], "#***"),
        None => (rest, ""),
    };
    // Text in the place of a port may be half of a password whose `@` was cut off.
    let authority = rest.split('/').next().unwrap_or_default();
    let has_text_as_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
        !host.starts_with('[') && !port.bytes().all(|b| b.is_ascii_digit())
    });
    let rest = if user.is_empty() && !scheme.is_empty() && has_text_as_port { "***" } else { rest };
    format!("{scheme}{user}{rest}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_control_characters_are_masked() {
        for (text, expected) in [
            ("plain", "\"plain\""),
            ("http://u:p@h:1/a?token=x", "\"http://***@h:1/a?***\""),
            ("http://u:p@x@h", "\"http://***@h\""),
            ("u:p@h", "\"***@h\""),
            ("http:80/x?token=secret", "\"http:80/x?***\""),
            ("http://h/#token=secret", "\"http://h/#***\""),
            ("http://h/?a#b?c", "\"http://h/?***\""),
            ("http://user:sec?ret1@h/", "\"http://***@h/\""),
            ("http://user:se", "\"http://***\""),
            ("cret2@h/", "\"***@h/\""),
            ("http://h:80/a:b", "\"http://h:80/a:b\""),
            ("http://[::1]:80/", "\"http://[::1]:80/\""),
            ("a\nb\u{1b}[31m\u{202e}c", "\"a\u{fffd}b\u{fffd}[31m\u{fffd}c\""),
            ("say \"x\"\\", "\"say \\\"x\\\"\\\\\""),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn secrets_in_free_text_are_masked() {
        for (text, expected) in [
            ("is it up? not yet (2 of 3) #1", "is it up? not yet (2 of 3) #1"),
            (
                "waiting for kube-system/a, kube-system/b",
                "waiting for kube-system/a, kube-system/b",
            ),
            ("Cannot GET /ready?token=x now", "Cannot GET /ready?*** now"),
            ("no ready?token=x here", "no ready?*** here"),
            ("{\"path\":\"/ready?token=x\"}", "{\"path\":\"/ready?***"),
            ("dial http://u:p@h:1/a?b and u:p@c", "dial http://***@h:1/a?*** and ***@c"),
            ("two\nlines", "two\u{fffd}lines"),
            ("", ""),
        ] {
            assert_eq!(masked_line(text), expected);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(one_line(&"x".repeat(200)).chars().count(), 200);
        assert_eq!(one_line(&"x".repeat(10_000)).chars().count(), 201);
    }
}
