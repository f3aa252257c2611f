//! Prints the body of an answer: `get ADDRESS:PORT PATH`.

#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a tool of the demonstration")]

fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().and_then(|address| address.parse().ok()).expect("ADDRESS:PORT");
    let path = arguments.next().expect("PATH");
    print!("{}", testkit::http::get(address, &path).body);
}
