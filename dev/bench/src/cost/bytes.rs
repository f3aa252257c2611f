//! How large a program is, as a file, compressed, and as an image.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use super::pairs::{Column, Pair, Scene, Whose};

pub const BINARY: Column = Column { name: "binary", unit: "bytes" };
pub const BINARY_GZIP: Column = Column { name: "binary, gzip -9", unit: "bytes" };
pub const IMAGE_GZIP: Column = Column { name: "image, gzip -9", unit: "bytes" };

/// `images` is where `scripts/image.sh` has put its archives.
pub fn scene<'a>(name: &'static str, pair: &'a Pair, images: Option<&'a Path>) -> Scene<'a> {
    Scene {
        row: name.to_owned(),
        pair,
        measure: Box::new(move |file, whose, found| {
            let bytes = fs::metadata(file).map_err(|e| format!("{}: {e}", file.display()))?.len();
            found.add(BINARY, bytes as f64);
            found.add(BINARY_GZIP, compressed(file)? as f64);
            // A peer is a binary: what it is packed with is not known.
            if let (Whose::Ours, Some(images)) = (whose, images) {
                found.add(
                    IMAGE_GZIP,
                    compressed(&images.join(format!("psl-{name}-amd64.tar")))? as f64,
                );
            }
            Ok(())
        }),
    }
}

/// By the tool that `scripts/build.sh` prints sizes by, without the file's name in it.
fn compressed(file: &Path) -> Result<usize, String> {
    let failed = |why: String| format!("gzip -9 of {}: {why}", file.display());
    let input = File::open(file).map_err(|e| failed(e.to_string()))?;
    let output = Command::new("gzip").arg("-9").stdin(input).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        Ok(output.stdout.len())
    } else {
        Err(failed(output.status.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::pairs::{Found, run};
    use testkit::scratch::Scratch;

    #[test]
    fn a_file_and_its_image() {
        let scratch = Scratch::new();
        let file = scratch.file("lock", [0; 100_000]);
        scratch.file("psl-lock-amd64.tar", [0; 200_000]);
        let pair = Pair { ours: file.clone(), peer: Some(file) };
        let outcome = run(&mut [scene("lock", &pair, Some(scratch.path()))], 1);
        let [binary, gzip, image] = &outcome.measured[..] else { panic!("{:?}", outcome.measured) };
        assert_eq!((binary.ours[0], binary.peer.as_ref().unwrap()[0]), (100_000.0, 100_000.0));
        assert!(
            (50.0..1000.0).contains(&gzip.ours[0]) && gzip.peer.as_ref().unwrap() == &gzip.ours,
            "{gzip:?}"
        );
        assert!(
            image.ours[0] > gzip.ours[0] && image.peer.as_ref().unwrap().is_empty(),
            "{image:?}"
        );
    }

    #[test]
    fn a_missing_file_is_said() {
        let pair = Pair { ours: "/bin/sh".into(), peer: None };
        let error = (scene("lock", &pair, Some(Path::new("/no"))).measure)(
            Path::new("/bin/sh"),
            Whose::Ours,
            &mut Found::default(),
        );
        assert!(error.unwrap_err().starts_with("gzip -9 of /no/psl-lock-amd64.tar: "));
    }
}
