//! Foreign text that is shown to people: in mistakes, logs and answers.
//!
//! Bounded, on one line, and without the parts of a URL that may be secret. Does not know where
//! the text comes from.

/// The most characters of a foreign text that are shown.
const LONGEST: usize = 200;

/// The text in quotes, on one line, long texts cut, secrets of URLs masked.
pub fn quoted(text: &str) -> String {
    let line = one_line(&without_secrets(text));
    format!("\"{}\"", line.replace('\\', "\\\\").replace('"', "\\\""))
}

/// One line of an answer that a person wrote or that repeats a request: secrets of each URL and path in it masked.
pub fn masked_line(text: &str) -> String {
    let masked = |word: &str| {
        if word.contains(['/', '@', '=']) { without_secrets(word) } else { word.to_owned() }
    };
    one_line(&text.split(' ').map(masked).collect::<Vec<_>>().join(" "))
}

/// Each character that would begin a line, move the cursor or turn the direction of what follows
/// becomes U+FFFD; cut after 200 characters.
pub fn one_line(text: &str) -> String {
    let mut out: String =
        text.chars().take(LONGEST).map(|c| if is_unseen(c) { '\u{fffd}' } else { c }).collect();
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

/// User, password, query and fragment of whatever looks like a URL, or like a piece of one that was split
/// where it should not have been, become `***`.
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
    let rest = if user.is_empty() && !scheme.is_empty() {
        without_password(rest)
    } else {
        rest.to_owned()
    };
    format!("{scheme}{user}{rest}{query}")
}

/// What stands where a port should, and is none, may be half a password.
fn without_password(rest: &str) -> String {
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port))
            if !host.starts_with('[') && !port.bytes().all(|b| b.is_ascii_digit()) =>
        {
            "***".to_owned()
        }
        _ => rest.to_owned(),
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
    fn secrets_do_not_show_in_a_line_of_words() {
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
