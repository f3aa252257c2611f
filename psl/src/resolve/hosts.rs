//! Searches text in the form of `hosts(5)` for a name: one address a line, followed by its names.
//!
//! Opens no file.

use std::io::{self, Read};
use std::net::IpAddr;

use super::MOST_ADDRESSES;

/// A name has at most 254 bytes, and an address fewer. A longer word is neither.
const LONGEST_WORD: usize = 255;

/// The addresses of this name, in the order of the file; memory does not depend on the file's size.
pub fn addresses(mut hosts: impl Read, name: &str) -> io::Result<Vec<IpAddr>> {
    let mut scan = HostsScan { name, word: Vec::new(), line: LineState::Start, found: Vec::new() };
    let mut buffer = [0; 4096];
    loop {
        match hosts.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => buffer[..length].iter().for_each(|byte| scan.take(*byte)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    scan.take(b'\n');
    Ok(scan.found)
}

struct HostsScan<'a> {
    name: &'a str,
    word: Vec<u8>,
    line: LineState,
    found: Vec<IpAddr>,
}

enum LineState {
    Start,
    Names(IpAddr),
    /// A comment, or a line without an address.
    Ignored,
}

impl HostsScan<'_> {
    fn take(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                self.end_word();
                self.line = LineState::Start;
            }
            b'#' => {
                self.end_word();
                self.line = LineState::Ignored;
            }
            byte if byte.is_ascii_whitespace() || byte == 0x0b => self.end_word(),
            byte if self.word.len() <= LONGEST_WORD => self.word.push(byte),
            _ => {}
        }
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        match self.line {
            LineState::Start => {
                let address = str::from_utf8(&self.word).ok().and_then(|word| word.parse().ok());
                self.line = match address {
                    Some(ip) => LineState::Names(IpAddr::to_canonical(&ip)),
                    None => LineState::Ignored,
                };
            }
            LineState::Names(ip) => {
                let is_match = self.word.eq_ignore_ascii_case(self.name.as_bytes());
                if is_match && self.found.len() < MOST_ADDRESSES && !self.found.contains(&ip) {
                    self.found.push(ip);
                }
            }
            LineState::Ignored => {}
        }
        self.word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        addresses(text.as_bytes(), "lock.example")
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn lines_are_parsed() {
        for (text, expected) in [
            ("", &[][..]),
            ("10.0.0.1 lock.example", &["10.0.0.1"]),
            ("\t 10.0.0.1 \t other lock.example\r\n", &["10.0.0.1"]),
            ("10.0.0.1 other LOCK.Example # lock\n", &["10.0.0.1"]),
            ("fd00::1 lock.example\n10.0.0.1 lock.example\n", &["fd00::1", "10.0.0.1"]),
            ("10.0.0.1 lock.example lock.example\n10.0.0.1 lock.example\n", &["10.0.0.1"]),
            (
                "# 10.0.0.1 lock.example\n10.0.0.1 other # lock.example\n10.0.0.1#lock.example\n",
                &[],
            ),
            ("10.0.0.1 lock.example.com xlock.example lock\n", &[]),
            ("lock.example 10.0.0.1\n10.0.0.256 lock.example\n10.0.0.1\nlock.example\n", &[]),
            ("::ffff:10.0.0.1 lock.example\n", &["10.0.0.1"]),
            ("10.0.0.1 \u{fc}\u{fffd}\0 lock.example\n", &["10.0.0.1"]),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_and_files_have_any_length() {
        let aliases: String = (0..2000).map(|n| format!(" alias-{n}.example")).collect();
        assert_eq!(found(&format!("10.0.0.1{aliases} lock.example\n")), ["10.0.0.1"]);
        assert_eq!(
            found(&format!("10.0.0.1 {} lock.example\n", "x".repeat(100_000))),
            ["10.0.0.1"]
        );
        assert_eq!(found(&format!("10.0.0.1 {}lock.example\n", "x".repeat(255))), [] as [&str; 0]);
        let lines: String = (0..100_000)
            .map(|n| format!("10.{}.{}.{} lock.example\n", n >> 16, (n >> 8) & 255, n & 255))
            .collect();
        assert_eq!(found(&lines).len(), MOST_ADDRESSES);
    }

    #[test]
    fn a_directory_is_an_error() {
        assert!(addresses(std::fs::File::open("/").unwrap(), "a").is_err());
    }
}
