//! Reads files of a bounded size.

use std::io::{self, Read as _};
use std::path::Path;

/// The first `most` bytes of a regular file.
pub fn read(file: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    psl::file::open(file)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}
