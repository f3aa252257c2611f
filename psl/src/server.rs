//! Serves HTTP to clients of which any may be hostile.
//!
//! How a request flows: `workers` (threads that wait in `accept`) → `connection` (its bytes and seconds)
//! → `head` (bytes to a request) → the program's handler → `answer` (to bytes). `table` bounds the
//! connections that a thread waits for; a `client` whose connection the handler has `parked` has no
//! thread. Everything has a bound; `Limits` lists them.
//!
//! Knows HTTP, not the requests' meaning: the programs bring their routes.

mod client;
mod connection;
mod head;
pub mod listen;
mod parked;
mod response;
mod table;
mod workers;

use std::time::Duration;

pub use client::Client;
pub use head::{Parsed, Request, parse};
pub use parked::{ClientEvent, ParkedConnection, Poller};
pub use response::{HandlerResult, Response};
pub use tiny_http::Method;
pub use workers::{most_parked, run};

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections for which a thread waits: for a request, or for the client to read its answer. A thread each, and one more
    /// that accepts.
    pub connections: usize,
    /// Of these from one address.
    pub per_address: usize,
    /// From the first byte of a request to the end of its head; also from the connection to its
    /// first byte.
    pub head: Duration,
    /// Until the whole answer is in the client's hands, or the kernel's.
    pub answer: Duration,
    /// Between two requests on one connection.
    pub idle: Duration,
    /// Connections that are parked, apart from the others. Their clients wait for an answer that no thread waits for.
    pub parked: usize,
}

/// A node runs 110 pods as Kubernetes is shipped, and a request takes a millisecond. A parked connection costs a descriptor
/// and some 2 KiB of the kernel's memory.
pub const LIMITS: Limits = Limits {
    connections: 64,
    per_address: 16,
    head: Duration::from_secs(2),
    answer: Duration::from_secs(2),
    idle: Duration::from_secs(10),
    parked: 512,
};

/// A path, the methods that it takes, and its handler.
pub struct Route<'h, R> {
    /// Compared as it was sent: nothing is decoded, no slash is folded.
    pub path: &'static str,
    /// All others get 405; these become `Allow`.
    pub methods: &'static [Method],
    /// Makes the answer.
    pub answer: &'h dyn Fn(&Request) -> R,
}

const GET: &[Method] = &[Method::Get];

/// Finds the route; adds `/livez` and `/readyz`, which say that the process serves, and the
/// answers for what there is not.
pub fn dispatch<R: From<Response>>(request: &Request, routes: &[Route<R>]) -> R {
    let well = Route { path: "", methods: GET, answer: &|_| Response::text(200, "ok\n").into() };
    let route = match request.path {
        "/livez" | "/readyz" => Some(&well),
        path => routes.iter().find(|route| route.path == path),
    };
    match route {
        Some(route) if route.methods.contains(&request.method) => (route.answer)(request),
        Some(route) => {
            let allowed: Vec<_> = route.methods.iter().map(Method::as_str).collect();
            let allowed = allowed.join(", ");
            let why = format!("this path takes {allowed}");
            Response::error(405, "method_not_allowed", &why, request.json)
                .with_header("Allow", allowed)
                .into()
        }
        None => {
            let known: Vec<_> =
                routes.iter().map(|route| route.path).chain(["/livez", "/readyz"]).collect();
            Response::error(
                404,
                "not_found",
                &format!("there are {}", known.join(", ")),
                request.json,
            )
            .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(method: Method, path: &str) -> (u16, Option<String>) {
        let request = Request { method, path, ..Request::default() };
        let routes = [Route {
            path: "/",
            methods: &[Method::Get, Method::Post],
            answer: &|_| Response::text(200, "taken"),
        }];
        let answer = dispatch(&request, &routes);
        (answer.status(), answer.header("Allow").map(str::to_owned))
    }

    #[test]
    fn routes() {
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
            assert_eq!(answered(method.clone(), path), expected, "{method} {path}");
        }
    }
}
