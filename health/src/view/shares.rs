//! Who has to go first where all together do not fit: of the namespace that takes most what takes most. So who may make
//! objects in one namespace cannot crowd out those of others.
//!
//! Pure. Does not know what takes room, nor how much there is.

/// The places of those with these namespaces and weights, the first that has to go first.
pub fn furthest_beyond<'a>(all: impl Iterator<Item = (&'a str, usize)>) -> Vec<usize> {
    let mut all: Vec<_> =
        all.enumerate().map(|(at, (namespace, weight))| (namespace, weight, at)).collect();
    all.sort_unstable();
    // What each namespace has up to there, the lightest first; then the names have done their work.
    let (mut of, mut share) = ("", 0);
    for (namespace, weight, _) in &mut all {
        share = if *namespace == of { share + *weight } else { *weight };
        (of, *namespace, *weight) = (*namespace, "", share);
    }
    all.sort_unstable();
    all.iter().rev().map(|(.., at)| *at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_that_takes_most_loses_what_takes_most() {
        for (all, expected) in [
            (&[][..], &[][..]),
            (&[("a", 1), ("a", 1), ("b", 1)], &[1, 2, 0]),
            (&[("a", 5), ("b", 1), ("b", 1), ("b", 1)], &[0, 3, 2, 1]),
            (&[("b", 3), ("a", 4), ("b", 1), ("b", 2)], &[0, 1, 3, 2]),
            (&[("", 1), ("", 2), ("a", 1)], &[1, 2, 0]),
        ] {
            assert_eq!(furthest_beyond(all.iter().copied()), expected, "{all:?}");
        }
    }
}
