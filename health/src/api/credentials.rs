//! The files of the service account: the token and the CA certificates.
//!
//! Kubernetes replaces the token about once an hour and may replace the CA, so both are read for
//! each request. An invalid file is an error of this request only. The token goes to the API server
//! alone.

use std::io::{self, Read as _};
use std::path::Path;

use psl::client::HttpClient;
use psl::client::tls::Trust;
use psl::client::url::HTTPS;

use crate::config::ApiServer;
use crate::core::api_error::ApiError;

/// Tokens have one or two thousand bytes; a longer one would not fit into a request's head.
const LONGEST_TOKEN: u64 = 8 * 1024;

pub struct Credentials {
    /// Verifies the server's certificate.
    pub client: HttpClient,
    /// The header `Authorization`, if there is a token.
    pub authorization: Option<String>,
}

impl Credentials {
    pub fn read(client: &HttpClient, server: &ApiServer) -> Result<Credentials, ApiError> {
        let authorization = match &server.token_file {
            Some(file) => Some(format!("Bearer {}", read_token(file).map_err(ApiError::new)?)),
            None => None,
        };
        let mut client = client.clone();
        if server.url.scheme == HTTPS.0 {
            client = client.with_trust(Trust::read(&server.ca_file).map_err(ApiError::new)?);
        }
        Ok(Credentials { client, authorization })
    }
}

fn read_token(file: &Path) -> Result<String, String> {
    let text =
        contents(file).map_err(|e| format!("cannot read token file {}: {e}", file.display()))?;
    let token = text.trim_ascii();
    let problem = if token.is_empty() {
        "empty"
    } else if token.len() as u64 > LONGEST_TOKEN {
        "longer than 8192 bytes"
    } else if !token.iter().all(u8::is_ascii_graphic) {
        "characters that no token contains"
    } else {
        return Ok(String::from_utf8_lossy(token).into_owned());
    };
    Err(format!("invalid token in file {}: {problem}", file.display()))
}

fn contents(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    psl::file::open(file)?.take(LONGEST_TOKEN + 2).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    #[test]
    fn token_files() {
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
            ("a b", Err("characters that no token contains")),
            ("a\nb", Err("characters that no token contains")),
            ("a\u{e4}", Err("characters that no token contains")),
            (&format!("{longest}x"), Err("longer than 8192 bytes")),
        ] {
            fs::write(&file, contents).unwrap();
            let expected = expected
                .map(str::to_owned)
                .map_err(|why| format!("invalid token in file {}: {why}", file.display()));
            assert_eq!(read_token(&file), expected);
        }
        fs::remove_file(&file).unwrap();
        let error = read_token(&file).unwrap_err();
        assert!(
            error.starts_with(&format!("cannot read token file {}: No such file", file.display())),
            "{error}"
        );
        assert!(read_token(&folder).unwrap_err().contains("not a regular file"));
        fs::write(folder.join("data"), "abc").unwrap();
        // Kubernetes mounts a symbolic link to a directory that it replaces as a whole.
        symlink("data", &file).unwrap();
        assert_eq!(read_token(&file).as_deref(), Ok("abc"));
        let pipe = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for endless in [pipe.as_path(), Path::new("/dev/zero")] {
            let expected =
                format!("cannot read token file {}: not a regular file", endless.display());
            assert_eq!(read_token(endless), Err(expected));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
