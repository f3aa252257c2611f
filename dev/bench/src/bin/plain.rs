//! What lock's server is measured against: `tiny_http::Server` as its documentation shows it, one
//! loop that answers what comes. It sends what lock sends to `GET /?duration=0`, whatever it is
//! asked, and says where it listens as lock does. It has none of lock's bounds.

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
        // A client that has gone away is no reason to end.
        let _ = request.respond(response);
    }
    Ok(())
}

fn header(name: &str, value: &str) -> Result<Header, String> {
    Header::from_bytes(name, value).map_err(|()| format!("{name}: {value} is no header"))
}
