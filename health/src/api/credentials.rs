//! The files that prove who we are and who the server is.
//!
//! Kubernetes replaces the token about once an hour and may replace the CA, so both are read anew
//! for each round, and what is wrong with them today is a reason, never an end. The token is shown
//! to nobody but the server.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use psl::client::HttpClient;
use psl::client::tls::Trust;
use psl::client::url::HTTPS;

use super::problem::Problem;
use crate::config::Server;

/// Tokens have one or two thousand bytes; more than this would not fit into a request's head.
const LONGEST_TOKEN: u64 = 8 * 1024;

/// What a round needs besides its questions.
pub struct Credentials {
    /// Believes the server's certificate.
    pub caller: HttpClient,
    /// The header `Authorization`; nothing where no token is to be sent.
    pub authorization: Option<String>,
}

impl Credentials {
    /// Reads both files.
    pub fn read(caller: &HttpClient, server: &Server) -> Result<Credentials, Problem> {
        let token =
            server.token_file.as_deref().map(read_token).transpose().map_err(Problem::new)?;
        let caller = caller.clone();
        let caller = match server.url.scheme == HTTPS.0 {
            true => caller.with_trust(Trust::read(&server.ca_file).map_err(Problem::new)?),
            false => caller,
        };
        Ok(Credentials { caller, authorization: token.map(|token| format!("Bearer {token}")) })
    }
}

fn read_token(file: &Path) -> Result<String, String> {
    let token = contents(file).map_err(|e| format!("token file {}: {e}", file.display()))?;
    let token = token.trim_ascii();
    let why = match token {
        [] => "empty",
        token if token.len() as u64 > LONGEST_TOKEN => "too long for a token",
        token if !token.iter().all(u8::is_ascii_graphic) => "holds characters that no token has",
        token => return Ok(String::from_utf8_lossy(token).into_owned()),
    };
    Err(format!("token file {}: {why}", file.display()))
}

fn contents(file: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe that nobody writes to would never end.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(file)?;
    file.take(LONGEST_TOKEN + 2).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    #[test]
    fn tokens() {
        let folder = std::env::temp_dir().join(format!("psl-token-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("token");
        let longest = "x".repeat(8 * 1024);
        for (contents, expected) in [
            ("abc.def-_=\n", Ok("abc.def-_=")),
            (" \tabc\r\n\n", Ok("abc")),
            (&longest, Ok(&*longest)),
            ("", Err("empty")),
            (" \n", Err("empty")),
            ("a b", Err("holds characters that no token has")),
            ("a\nb", Err("holds characters that no token has")),
            ("a\u{e4}", Err("holds characters that no token has")),
            (&format!("{longest}x"), Err("too long for a token")),
        ] {
            fs::write(&file, contents).unwrap();
            let expected = expected
                .map(str::to_owned)
                .map_err(|why| format!("token file {}: {why}", file.display()));
            assert_eq!(read_token(&file), expected);
        }
        fs::remove_file(&file).unwrap();
        let error = read_token(&file).unwrap_err();
        assert!(
            error.starts_with(&format!("token file {}: No such file", file.display())),
            "{error}"
        );
        assert!(read_token(&folder).unwrap_err().contains("not a regular file"));
        fs::write(folder.join("data"), "abc").unwrap();
        // As Kubernetes mounts it: a link to what is replaced as a whole.
        symlink("data", &file).unwrap();
        assert_eq!(read_token(&file).as_deref(), Ok("abc"));
        let pipe = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for endless in [pipe.as_path(), Path::new("/dev/zero")] {
            let expected = format!("token file {}: not a regular file", endless.display());
            assert_eq!(read_token(endless), Err(expected));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
