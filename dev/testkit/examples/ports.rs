//! Applications that become ready on demand.
//!
//! `ports COUNT` prints that many ports of 127.0.0.1, which refuse connections, on one line. A line
//! on standard input names a port to open. Ends with its standard input.

#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a tool of the demonstration")]

use std::net::Ipv4Addr;

use testkit::application::Application;

fn main() {
    let count: usize =
        std::env::args().nth(1).and_then(|count| count.parse().ok()).expect("how many ports");
    let mut starting: Vec<_> =
        (0..count).map(|_| Application::starting(Ipv4Addr::LOCALHOST)).collect();
    let ports: Vec<_> = starting.iter().map(|application| application.port().to_string()).collect();
    println!("{}", ports.join(" "));
    let mut open = Vec::new();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let place = starting.iter().position(|application| application.port().to_string() == line);
        open.extend(place.map(|place| starting.swap_remove(place).open()));
    }
}
