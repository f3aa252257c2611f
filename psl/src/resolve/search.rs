//! Which names are asked for one name, and in which order: the search list as glibc goes through it.
//!
//! Asks no server.

use super::conf::Conf;

/// The names still to be asked.
#[derive(Debug)]
pub struct Search {
    name: String,
    next: Next,
    /// The name without a domain has been tried. The root as a domain is the same.
    has_asked_as_is: bool,
}

#[derive(Debug)]
enum Next {
    AsIsFirst,
    /// From this byte of the list on.
    Domain(usize),
    AsIsLast,
    Over,
}

impl Search {
    /// All names for this one.
    pub fn new(name: &str, conf: &Conf) -> Search {
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let is_first = dots >= conf.ndots || name.ends_with('.');
        let next = if is_first { Next::AsIsFirst } else { Next::Domain(0) };
        Search { name: name.to_owned(), next, has_asked_as_is: false }
    }

    /// The next name; a name too long for DNS is left out.
    pub fn next(&mut self, conf: &Conf) -> Option<String> {
        loop {
            match self.next {
                Next::AsIsFirst => {
                    // A final dot says that the name is whole.
                    self.next = if self.name.ends_with('.') { Next::Over } else { Next::Domain(0) };
                    self.has_asked_as_is = true;
                    return Some(self.name.clone());
                }
                Next::Domain(from) => {
                    let Some((domain, end)) = conf.domain(from) else {
                        self.next = Next::AsIsLast;
                        continue;
                    };
                    self.next = Next::Domain(end);
                    let domain = domain.strip_prefix('.').unwrap_or(domain);
                    self.has_asked_as_is |= domain.is_empty();
                    let name = format!("{}.{domain}", self.name);
                    if is_name(&name) {
                        return Some(name);
                    }
                }
                Next::AsIsLast => {
                    self.next = Next::Over;
                    let is_kept_from_root =
                        conf.no_tld_query && !self.name.contains('.') && conf.domain(0).is_some();
                    return (!self.has_asked_as_is && !is_kept_from_root)
                        .then(|| self.name.clone());
                }
                Next::Over => return None,
            }
        }
    }

    /// This is the name that was given, without a search domain.
    pub fn is_whole(&self, name: &str) -> bool {
        self.name == name
    }

    /// An answer ends the whole search.
    pub fn end(&mut self) {
        self.next = Next::Over;
    }

    /// An answer ends the list of domains; the name itself is asked all the same.
    pub fn leave_domains(&mut self) {
        if let Next::Domain(1..) = self.next {
            self.next = Next::AsIsLast;
        }
    }
}

/// A name that a query can hold: labels of 1 to 63 visible characters, 253 in all without the final dot.
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

    fn conf(text: &str) -> Conf {
        Conf::parse(text, String::new, |_| 0, 53)
    }

    fn names(name: &str, text: &str) -> Vec<String> {
        let conf = conf(text);
        let mut search = Search::new(name, &conf);
        std::iter::from_fn(|| search.next(&conf)).collect()
    }

    /// The queries of glibc 2.36's `getaddrinfo`, recorded with these files and a server that knows no name.
    #[test]
    fn names_in_order() {
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
    fn a_domain_that_makes_no_name_is_left_out() {
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
    fn leaving_the_domains_asks_the_name_itself() {
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
            "the name itself was not of the domains"
        );
    }
}
