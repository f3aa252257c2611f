//! Reads files of a bounded size.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// The first `most` bytes of a file. Only regular files are opened, because a pipe would wait for
/// its writer.
pub fn read(file: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    File::open(file)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}
