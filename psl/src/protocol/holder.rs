//! The name of a lease holder, in `?holder=` and in settings.

/// The accepted form, for error messages and `--help`.
pub const ACCEPTED: &str = "1 to 512 visible ASCII characters, without spaces";

/// Namespace, name and UID of a pod have at most 63 + 253 + 36 characters, plus separators.
pub const LONGEST: usize = 512;

/// Reads a holder: 1 to 512 visible ASCII characters. `Err` is the accepted form.
pub fn parse(text: &str) -> Result<Box<str>, &'static str> {
    let fits = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.into()) } else { Err(ACCEPTED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_parsed() {
        let longest = "x".repeat(LONGEST);
        for text in ["a", "!", "~", "shop/web-0/8d1f3c9e", "a&b=c#d%20?", "\"\\", &longest] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn invalid_holders_are_refused() {
        let too_long = "x".repeat(LONGEST + 1);
        for text in
            ["", " ", "a b", " a", "a\n", "a\0", "\u{7f}", "\u{20}", "ü", "a\u{200b}", &too_long]
        {
            assert_eq!(parse(text), Err(ACCEPTED), "{text:?}");
        }
    }

    #[test]
    fn visible_ascii_is_accepted() {
        for byte in 0..=127_u8 {
            let text = char::from(byte).to_string();
            assert_eq!(parse(&text).is_ok(), (0x21..=0x7e).contains(&byte), "{byte:#x}");
        }
    }
}
