//! Directories that last as long as a test. Does not know their files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::program::root_tool;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new directory, removed with its files on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    #[allow(
        clippy::new_without_default,
        reason = "it makes a directory: not a value one gets by default"
    )]
    pub fn new() -> Scratch {
        loop {
            let name =
                format!("psl-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Scratch { path },
                // A killed process with the same number has left it.
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

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, contents)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // No test depends on the removal, and a drop must not panic.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A directory in memory of a fixed size, removed on drop.
#[derive(Debug)]
pub struct Volume {
    directory: Scratch,
    umount: PathBuf,
}

impl Volume {
    /// The error says why this machine cannot mount it.
    pub fn new(bytes: usize) -> Result<Volume, String> {
        let (mount, umount) = (root_tool("mount")?, root_tool("umount")?);
        let directory = Scratch::new();
        let size = format!("size={bytes}");
        let output = Command::new(mount)
            .args(["-t", "tmpfs", "-o", &size, "psl-test"])
            .arg(directory.path())
            .output();
        match output.map_err(|error| format!("mount: {error}"))? {
            output if output.status.success() => Ok(Volume { directory, umount }),
            output => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily, because a program may still have a file open; a drop must not panic.
        let _ = Command::new(&self.umount).arg("-l").arg(self.directory.path()).output();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_unique_and_removed() {
        let (first, second) = (Scratch::new(), Scratch::new());
        assert_ne!(first.path(), second.path());
        let file = first.file("a", "text");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
        drop(first);
        assert!(!file.exists());
        assert!(second.path().exists());
    }

    #[test]
    fn a_volume_runs_full() {
        let volume = match Volume::new(64 * 1024) {
            Ok(volume) => volume,
            Err(why) => return crate::skip(&format!("a volume of its own: {why}")),
        };
        std::fs::write(volume.join("fits"), [0; 4096]).unwrap();
        let error = std::fs::write(volume.join("does-not-fit"), [0; 128 * 1024]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let path = volume.path().to_path_buf();
        drop(volume);
        assert!(!path.exists());
    }
}
