//! The server that lock is comparisons with: `tiny_http::Server` as in its documentation, one loop
//! that answers each request
//! with lock's answer to `GET /?duration=0`. It logs its address as lock does, and has none of
//! lock's bounds.

use std::error::Error;

use tiny_http::{Header, Response, Server};

const BODY: &str = "Lock acquired\na slot is free; a duration of 0 takes none\n";

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = Server::http("127.0.0.1:0")?;
    let content_type = header("Content-Type", "text/plain; charset=utf-8")?;
    let cache_control = header("Cache-Control", "no-store")?;
    eprintln!("level=info msg=listening address={}", server.server_addr());
    for request in server.incoming_requests() {
        let response = Response::from_string(BODY)
            .with_header(content_type.clone())
            .with_header(cache_control.clone());
        // The client may have closed the connection.
        let _ = request.respond(response);
    }
    Ok(())
}

fn header(name: &str, value: &str) -> Result<Header, String> {
    Header::from_bytes(name, value).map_err(|()| format!("{name}: {value} is no header"))
}
