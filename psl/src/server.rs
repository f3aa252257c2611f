//! An HTTP server for untrusted clients.
//!
//! The way of a request: `workers` (threads that accept connections) → `connection` (its bytes and
//! its timeouts) → `head` (bytes to a request) → the program's handler → `response` (to bytes).
//! `table` bounds the connections that occupy a thread. A connection that the handler has `parked`
//! has no thread. Everything has a bound; [`ServerLimits`] lists them.
//!
//! Knows HTTP, not the meaning of requests: the programs bring their routes.

mod connection;
mod head;
pub mod listen;
mod parked;
mod peer;
mod response;
mod table;
mod workers;

use std::time::Duration;

pub use head::{ParsedHead, Request, parse};
pub use parked::{ClientEvent, ParkedConnection, Poller};
pub use peer::RequestPeer;
pub use response::{HandlerResult, Response};
pub use tiny_http::Method;
pub use workers::{most_parked, run};

#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections that occupy a thread: it waits for a request, or for the client to read the
    /// response. The server has one more thread, which accepts.
    pub connections: usize,
    /// Of these, connections from one address.
    pub per_address: usize,
    /// From the first byte of a request to the end of its head, and from the start of a connection
    /// to its first byte.
    pub head: Duration,
    /// Until the client, or the kernel, has the whole response.
    pub answer: Duration,
    pub idle: Duration,
    pub parked: usize,
}

/// A node runs at most 110 pods by default, and a request takes a millisecond. A parked connection
/// costs a descriptor and some 2 KiB of kernel memory.
pub const LIMITS: ServerLimits = ServerLimits {
    connections: 64,
    per_address: 16,
    head: Duration::from_secs(2),
    answer: Duration::from_secs(2),
    idle: Duration::from_secs(10),
    parked: 512,
};

pub struct Route<'h, R> {
    /// Compared byte by byte, without decoding and without folding of slashes.
    pub path: &'static str,
    /// The methods in `Allow`; any other gets 405.
    pub methods: &'static [Method],
    pub answer: &'h dyn Fn(&Request) -> R,
}

/// Calls the handler of the request's route. Adds `/livez` and `/readyz`, which report that the
/// process serves, and the responses 404 and 405.
pub fn dispatch<R: From<Response>>(request: &Request, routes: &[Route<R>]) -> R {
    let health = Route {
        path: "",
        methods: &[Method::Get],
        answer: &|_| Response::text(200, "ok\n").into(),
    };
    let route = match request.path {
        "/livez" | "/readyz" => Some(&health),
        path => routes.iter().find(|route| route.path == path),
    };
    match route {
        Some(route) if route.methods.contains(&request.method) => (route.answer)(request),
        Some(route) => {
            let allowed = route.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            let text = format!("this path takes {allowed}");
            let response = Response::error(405, "method_not_allowed", &text, request.json);
            response.with_header("Allow", allowed).into()
        }
        None => {
            let paths = routes.iter().map(|route| route.path).chain(["/livez", "/readyz"]);
            let text = format!("there are {}", paths.collect::<Vec<_>>().join(", "));
            Response::error(404, "not_found", &text, request.json).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn respond(method: Method, path: &str) -> (u16, Option<String>) {
        let request = Request { method, path, ..Request::default() };
        let routes = [Route {
            path: "/",
            methods: &[Method::Get, Method::Post],
            answer: &|_| Response::text(200, "ok"),
        }];
        let response = dispatch(&request, &routes);
        (response.status(), response.header("Allow").map(str::to_owned))
    }

    #[test]
    fn requests_are_routed() {
        let get = || Some("GET".to_owned());
        let both = || Some("GET, POST".to_owned());
        for (method, path, expected) in [
            (Method::Get, "/", (200, None)),
            (Method::Post, "/", (200, None)),
            (Method::Head, "/", (405, both())),
            (Method::Delete, "/", (405, both())),
            (Method::Get, "/livez", (200, None)),
            (Method::Get, "/readyz", (200, None)),
            (Method::Post, "/livez", (405, get())),
            (Method::Get, "/favicon.ico", (404, None)),
            (Method::Get, "//", (404, None)),
            (Method::Get, "/%2F", (404, None)),
            (Method::Options, "*", (404, None)),
            (Method::Get, "", (404, None)),
        ] {
            assert_eq!(respond(method.clone(), path), expected, "{method} {path}");
        }
    }
}
