//! The order of eviction: the largest objects of the namespace that takes most come first. A user
//! who may create objects in one namespace cannot displace those of others.
//!
//! The file does not know the objects or the limit.

/// The positions of objects with these namespaces and weights, the first to evict first.
pub fn eviction_order<'a>(all: impl Iterator<Item = (&'a str, usize)>) -> Vec<usize> {
    let mut objects: Vec<_> =
        all.enumerate().map(|(at, (namespace, weight))| (namespace, weight, at)).collect();
    objects.sort_unstable();
    // The weight becomes the sum over the namespace so far, the lightest objects first. Then the
    // order of the namespaces themselves must not count.
    let (mut last, mut sum) = ("", 0);
    for (namespace, weight, _) in &mut objects {
        sum = if *namespace == last { sum + *weight } else { *weight };
        (last, *namespace, *weight) = (*namespace, "", sum);
    }
    objects.sort_unstable();
    objects.iter().rev().map(|(.., at)| *at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_objects_of_the_largest_namespace_are_evicted_first() {
        for (all, expected) in [
            (&[][..], &[][..]),
            (&[("a", 1), ("a", 1), ("b", 1)], &[1, 2, 0]),
            (&[("a", 5), ("b", 1), ("b", 1), ("b", 1)], &[0, 3, 2, 1]),
            (&[("b", 3), ("a", 4), ("b", 1), ("b", 2)], &[0, 1, 3, 2]),
            (&[("", 1), ("", 2), ("a", 1)], &[1, 2, 0]),
        ] {
            assert_eq!(eviction_order(all.iter().copied()), expected, "{all:?}");
        }
    }
}
