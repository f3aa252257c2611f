//! Directories that last as long as a test. Does not know what is put into them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of its own, removed with all that is in it on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    #[allow(clippy::new_without_default, reason = "it makes a directory: not a value one gets by default")]
    pub fn new() -> Scratch {
        loop {
            let name = format!("psl-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Scratch { path },
                // A killed process with the same number left one behind.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("cannot create {}: {error}", path.display()),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file and says where it is.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, contents).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on the removal, and a drop must not panic.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_differ_and_vanish() {
        let (first, second) = (Scratch::new(), Scratch::new());
        assert_ne!(first.path(), second.path());
        let file = first.file("a", "text");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
        drop(first);
        assert!(!file.exists());
        assert!(second.path().exists());
    }
}
