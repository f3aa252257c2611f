//! Reads log lines of `key=value` pairs.

/// The value of a key in a logfmt line, unquoted.
pub fn field(line: &str, key: &str) -> Option<String> {
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let name = &rest[..end];
        let (value, after) = match rest[end..].strip_prefix('=') {
            Some(value) => take_value(value),
            None => (String::new(), &rest[end..]),
        };
        if name == key {
            return Some(value);
        }
        rest = after.trim_start();
    }
    None
}

/// The value at the start of `text`, and the rest.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        return (text[..end].to_string(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other)) => value.push(other),
                None => {}
            },
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logfmt_fields() {
        let line = r#"level=info msg="a \"b\" c=d" empty= flag address=[::]:1 last=x"#;
        for (key, value) in [
            ("level", Some("info")),
            ("msg", Some("a \"b\" c=d")),
            ("empty", Some("")),
            ("flag", Some("")),
            ("address", Some("[::]:1")),
            ("last", Some("x")),
            ("c", None),
        ] {
            assert_eq!(field(line, key).as_deref(), value, "{key}");
        }
    }
}
