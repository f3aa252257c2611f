//! The names that are queried for one name, in glibc's order of the search list.
//!
//! Sends no query.

use super::conf::ResolvConf;

/// An iterator over the names that are still to be queried.
#[derive(Debug)]
pub struct Search {
    name: String,
    step: SearchStep,
    /// The name without a domain has been queried. The root as a domain is the same.
    has_tried_name: bool,
}

#[derive(Debug)]
enum SearchStep {
    NameFirst,
    /// From this byte of the list on.
    Domain(usize),
    NameLast,
    End,
}

impl Search {
    pub fn new(name: &str, conf: &ResolvConf) -> Search {
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let is_first = dots >= conf.ndots || name.ends_with('.');
        let step = if is_first { SearchStep::NameFirst } else { SearchStep::Domain(0) };
        Search { name: name.to_owned(), step, has_tried_name: false }
    }

    /// The next name; skips names that are too long for DNS.
    pub fn next(&mut self, conf: &ResolvConf) -> Option<String> {
        loop {
            match self.step {
                SearchStep::NameFirst => {
                    // A final dot marks a complete name.
                    let is_complete = self.name.ends_with('.');
                    self.step = if is_complete { SearchStep::End } else { SearchStep::Domain(0) };
                    self.has_tried_name = true;
                    return Some(self.name.clone());
                }
                SearchStep::Domain(from) => {
                    let Some((domain, end)) = conf.domain(from) else {
                        self.step = SearchStep::NameLast;
                        continue;
                    };
                    self.step = SearchStep::Domain(end);
                    let domain = domain.strip_prefix('.').unwrap_or(domain);
                    self.has_tried_name |= domain.is_empty();
                    let name = format!("{}.{domain}", self.name);
                    if is_name(&name) {
                        return Some(name);
                    }
                }
                SearchStep::NameLast => {
                    self.step = SearchStep::End;
                    let is_in_domains_only =
                        conf.no_tld_query && !self.name.contains('.') && conf.domain(0).is_some();
                    let is_due = !self.has_tried_name && !is_in_domains_only;
                    return is_due.then(|| self.name.clone());
                }
                SearchStep::End => return None,
            }
        }
    }

    /// `true` for the searched name itself, without a search domain.
    pub fn is_whole(&self, name: &str) -> bool {
        self.name == name
    }

    pub fn end(&mut self) {
        self.step = SearchStep::End;
    }

    /// Skips the other domains; the name itself follows.
    pub fn leave_domains(&mut self) {
        if let SearchStep::Domain(1..) = self.step {
            self.step = SearchStep::NameLast;
        }
    }
}

/// A name that a query can hold: labels of 1 to 63 visible characters, 253 in all without the final
/// dot.
pub fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic())
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> ResolvConf {
        ResolvConf::parse(text, String::new, |_| 0, 53)
    }

    fn names(name: &str, text: &str) -> Vec<String> {
        let conf = conf(text);
        let mut search = Search::new(name, &conf);
        std::iter::from_fn(|| search.next(&conf)).collect()
    }

    /// Recorded from glibc 2.36's `getaddrinfo`, with these files and a server without names.
    #[test]
    fn names_have_the_order_of_glibc() {
        let pod = "search psl.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        for (name, text, expected) in [
            ("lock", "", &["lock"][..]),
            ("lock.example", "", &["lock.example"]),
            ("lock", "search a b\n", &["lock.a", "lock.b", "lock"]),
            ("lock.example", "search a b\n", &["lock.example", "lock.example.a", "lock.example.b"]),
            ("lock.example.", "search a b\n", &["lock.example."]),
            ("lock.", "search a b\noptions ndots:5\n", &["lock."]),
            (
                "lock.psl",
                pod,
                &[
                    "lock.psl.psl.svc.cluster.local",
                    "lock.psl.svc.cluster.local",
                    "lock.psl.cluster.local",
                    "lock.psl",
                ],
            ),
            (
                "a.b.c.d.e.f",
                pod,
                &[
                    "a.b.c.d.e.f",
                    "a.b.c.d.e.f.psl.svc.cluster.local",
                    "a.b.c.d.e.f.svc.cluster.local",
                    "a.b.c.d.e.f.cluster.local",
                ],
            ),
            ("lock", "search a\noptions ndots:0\n", &["lock", "lock.a"]),
            ("lock", "search . a\n", &["lock.", "lock.a"]),
            ("lock", "search .a. \n", &["lock.a.", "lock"]),
            ("lock", "search a\noptions no-tld-query\n", &["lock.a"]),
            ("lock", "options no-tld-query\n", &["lock"]),
            ("lock.b", "search a\noptions no-tld-query ndots:2\n", &["lock.b.a", "lock.b"]),
        ] {
            assert_eq!(names(name, text), expected, "{name}: {text}");
        }
    }

    #[test]
    fn invalid_domains_are_skipped() {
        let (label, long) = ("a".repeat(64), "a.".repeat(126));
        for domain in [&label[..], &long, "a..b", "\u{fc}", "a\u{1b}[31m"] {
            assert_eq!(
                names("lock", &format!("search {domain} b\n")),
                ["lock.b", "lock"],
                "{domain}"
            );
        }
    }

    #[test]
    fn after_the_domains_the_name_itself_follows() {
        let conf = conf("search a b c\noptions ndots:2\n");
        let mut search = Search::new("lock.x", &conf);
        assert_eq!(search.next(&conf).as_deref(), Some("lock.x.a"));
        search.leave_domains();
        assert_eq!(search.next(&conf).as_deref(), Some("lock.x"));
        assert_eq!(search.next(&conf), None);
        let mut search = Search::new("lock.x.y", &conf);
        assert_eq!(search.next(&conf).as_deref(), Some("lock.x.y"));
        search.leave_domains();
        assert_eq!(
            search.next(&conf).as_deref(),
            Some("lock.x.y.a"),
            "the name itself is not a domain"
        );
    }
}
