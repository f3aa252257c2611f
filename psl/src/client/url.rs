//! The parts of a URL, parsed once.
//!
//! `Display` leaves out the query, which may be secret; user and password are refused.

use std::fmt;

use ureq::http::Uri;

use crate::address::{Host, whole_number};

/// A URL with scheme, host and port; its path may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Lower case: `http`, `https`, `tcp`.
    pub scheme: &'static str,
    pub host: Host,
    pub port: u16,
    path: String,
    query: Option<String>,
}

/// A scheme and its default port; without one the URL must name its port.
pub type Scheme = (&'static str, Option<u16>);

pub const HTTP: Scheme = ("http", Some(80));
pub const HTTPS: Scheme = ("https", Some(443));
/// `tcp://host:port`, without a path.
pub const TCP: Scheme = ("tcp", None);

impl Url {
    /// Reads a URL with one of these schemes. `Err` is the accepted form, without the text.
    pub fn parse(text: &str, schemes: &[Scheme]) -> Result<Url, String> {
        let uri: Uri = text.parse().map_err(|_| accepted(schemes))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(accepted(schemes));
        };
        let scheme = schemes.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme));
        let (scheme, default_port) = *scheme.ok_or_else(|| accepted(schemes))?;
        if authority.as_str().contains('@') {
            return Err("an address without user and password; they would show in manifests and in the process list".to_owned());
        }
        if text.contains('#') {
            return Err("an address without a fragment (#…), which is never sent".to_owned());
        }
        let host = Host::parse(authority.host())?;
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, port)) if !authority.as_str().ends_with(']') => {
                whole_number(port).filter(|p| *p > 0).ok_or("a port from 1 to 65535")?
            }
            _ => default_port.ok_or_else(|| format!("{scheme}://HOST:PORT"))?,
        };
        let (path, query) = (uri.path().to_owned(), uri.query().map(str::to_owned));
        if default_port.is_none() && (!matches!(path.as_str(), "" | "/") || query.is_some()) {
            return Err(format!("{scheme}://HOST:PORT without a path"));
        }
        Ok(Url { scheme, host, port, path, query })
    }

    /// The URL of a server, with the path `/`.
    pub fn root(scheme: Scheme, host: Host, port: u16) -> Url {
        Url { scheme: scheme.0, host, port, path: "/".to_owned(), query: None }
    }

    /// Appends a path, which begins with a slash, to the URL's own path, and replaces the query.
    pub fn join(&self, path_and_query: &str) -> Url {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path_and_query, None),
        };
        Url { path: format!("{}{path}", self.path.trim_end_matches('/')), query, ..self.clone() }
    }

    /// The whole URL, for requests and never for logs.
    pub fn to_request(&self) -> String {
        match &self.query {
            Some(query) => format!("{self}?{query}"),
            None => self.to_string(),
        }
    }
}

/// Scheme, host, port and path, for logs, responses and metrics.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.scheme == TCP.0 { "" } else { &self.path };
        write!(f, "{}://{}:{}{path}", self.scheme, self.host, self.port)
    }
}

fn accepted(schemes: &[Scheme]) -> String {
    let form = |(name, port): &Scheme| match port {
        Some(port) => format!("{name}://HOST[:PORT][/PATH] (port {port} where none is given)"),
        None => format!("{name}://HOST:PORT"),
    };
    schemes.iter().map(form).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Scheme] = &[HTTP, HTTPS, TCP];

    #[test]
    fn urls_are_parsed() {
        for (text, shown, request) in [
            ("http://h", "http://h:80/", "http://h:80/"),
            ("HTTPS://h/x?token=1", "https://h:443/x", "https://h:443/x?token=1"),
            ("http://[::1]:9999/a/b", "http://[::1]:9999/a/b", "http://[::1]:9999/a/b"),
            ("https://[fd00::1]", "https://[fd00::1]:443/", "https://[fd00::1]:443/"),
            ("tcp://db:5432", "tcp://db:5432", "tcp://db:5432"),
            ("tcp://10.0.0.1:1/", "tcp://10.0.0.1:1", "tcp://10.0.0.1:1"),
        ] {
            let url = Url::parse(text, ALL).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((url.to_string().as_str(), url.to_request().as_str()), (shown, request));
        }
    }

    #[test]
    fn invalid_urls_are_refused() {
        for text in [
            "",
            "h",
            "h:80",
            "/x",
            "http://",
            "http:///x",
            "ftp://h",
            "http://u:p@h",
            "http://u@h",
            "http://h:0",
            "http://h:",
            "http://h:65536",
            "http://h:x",
            "tcp://h",
            "tcp://h:1/x",
            "tcp://h:1?x",
            "http://h/#f",
            "http://a b/",
            "http://[::1",
            "http://h\n/",
            "http://256.1.1.1/",
        ] {
            let error = Url::parse(text, ALL).expect_err(text);
            assert!(!error.contains("u:p"), "{error}");
        }
    }

    #[test]
    fn root_is_parsed_back() {
        for (host, shown) in [
            ("lock_1.psl.svc.", "http://lock_1.psl.svc.:8888/"),
            ("::1", "http://[::1]:8888/"),
            ("10.0.0.1", "http://10.0.0.1:8888/"),
        ] {
            let root = Url::root(HTTP, Host::parse(host).unwrap(), 8888);
            assert_eq!(root.to_string(), shown);
            assert_eq!(Url::parse(shown, ALL), Ok(root), "{shown}");
        }
    }

    #[test]
    fn join_appends_the_path() {
        let base = Url::parse("https://h/k8s/", ALL).unwrap();
        assert_eq!(
            base.join("/api/v1/pods?limit=1").to_request(),
            "https://h:443/k8s/api/v1/pods?limit=1"
        );
        assert_eq!(base.join("/version").to_request(), "https://h:443/k8s/version");
    }
}
