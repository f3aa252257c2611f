//! Whether a node is one that a DaemonSet wants: its nodeSelector against the node's labels.
//!
//! Pure. Does not know of pods, filters, or where the objects come from.

use std::collections::BTreeMap;
use std::fmt;

use psl::text::one_line;

/// Keys and values, as Kubernetes keeps them.
pub type Labels = BTreeMap<String, String>;

/// The first label of a nodeSelector that the node does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHere {
    key: String,
    wanted: String,
    found: Option<String>,
}

/// Nothing where every label of the selector stands on the node with the same value. An empty value
/// asks for a label that is there and empty; a label that is not there does not do.
pub fn mismatch(selector: &Labels, node: &Labels) -> Option<NotHere> {
    let (key, wanted) = selector.iter().find(|(key, wanted)| node.get(*key) != Some(*wanted))?;
    Some(NotHere { key: key.clone(), wanted: wanted.clone(), found: node.get(key).cloned() })
}

impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, wanted) = (one_line(&self.key), one_line(&self.wanted));
        match &self.found {
            Some(found) => write!(f, "nodeSelector wants {key} \"{wanted}\", the node has \"{}\"", one_line(found)),
            None => write!(f, "nodeSelector wants {key} \"{wanted}\", the node has no such label"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(text: &str) -> Labels {
        text.split_whitespace()
            .filter_map(|item| item.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    #[test]
    fn selectors() {
        for (selector, node, expected) in [
            ("", "", None),
            ("", "a=1", None),
            ("a=1", "a=1 b=2", None),
            ("a=1 b=2", "a=1 b=2", None),
            ("a=1", "", Some("nodeSelector wants a \"1\", the node has no such label")),
            ("a=1", "a=2", Some("nodeSelector wants a \"1\", the node has \"2\"")),
            ("a=1 b=2", "a=1", Some("nodeSelector wants b \"2\", the node has no such label")),
            ("a=", "a=", None),
            ("a=", "", Some("nodeSelector wants a \"\", the node has no such label")),
            ("a=", "a=1", Some("nodeSelector wants a \"\", the node has \"1\"")),
            ("a=1", "A=1", Some("nodeSelector wants a \"1\", the node has no such label")),
        ] {
            let found = mismatch(&labels(selector), &labels(node)).map(|m| m.to_string());
            assert_eq!(found.as_deref(), expected, "{selector:?} on {node:?}");
        }
    }

    fn small() -> impl Strategy<Value = Labels> {
        proptest::collection::btree_map("[abc]", "[01]?", 0..4)
    }

    proptest! {
        #[test]
        fn a_node_fits_exactly_when_the_selector_is_a_subset(selector in small(), node in small()) {
            let is_subset = selector.iter().all(|pair| node.iter().any(|other| other == pair));
            prop_assert_eq!(mismatch(&selector, &node).is_none(), is_subset);
        }

        #[test]
        fn a_node_fits_its_own_labels_and_more_labels_never_unfit_it(selector in small(), more in small()) {
            let mut node = more;
            node.extend(selector.clone());
            prop_assert_eq!(mismatch(&selector, &node), None);
        }
    }
}
