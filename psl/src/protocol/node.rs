//! The name of a node, in settings and in `?node=`.

use std::fmt;

use crate::address::is_subdomain;

/// The accepted form, for error messages.
pub const ACCEPTED: &str = "a node's name: at most 253 lower-case letters, digits, - and ., \
     beginning and ending with a letter or digit";

/// A DNS subdomain (Kubernetes, "Object Names and IDs"; RFC 1123).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeName(Box<str>);

impl NodeName {
    /// Reads `node-a`, `ip-10-0-0-1.ec2.internal`. `Err` is the accepted form.
    pub fn parse(text: &str) -> Result<NodeName, &'static str> {
        if is_subdomain(text) { Ok(NodeName(text.into())) } else { Err(ACCEPTED) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_dns_subdomains() {
        let longest = ["a".repeat(63).as_str(); 4].join(".")[..253].to_owned();
        for text in ["a", "node-1", "10.0.0.1", "ip-10-0-0-1.ec2.internal", &longest] {
            assert_eq!(NodeName::parse(text).map(|name| name.to_string()).as_deref(), Ok(text));
        }
        let too_long = format!("{longest}a");
        for text in [
            "", " ", "A", "node_1", "a b", "a\n", "-a", "a-", ".a", "a.", "a..b", "ü", "$(NODE)",
            "$N", &too_long,
        ] {
            assert_eq!(NodeName::parse(text), Err(ACCEPTED), "{text:?}");
        }
    }
}
