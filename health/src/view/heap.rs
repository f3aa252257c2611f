//! The memory that values take, as the allocator counts.
//!
//! Pure.

/// The bytes before a shared value: the counts of its references.
pub const SHARED: usize = 16;

/// Larger pieces are mapped, in whole pages.
const MAPPED: usize = 128 * 1024;
const PAGE: usize = 4096;

/// The memory that a piece of this many bytes takes. The allocator of the static binary adds four bytes of its own. Up to
/// nine units of 16 bytes each number of units is a size; larger sizes lie up to a quarter apart.
pub fn piece(bytes: usize) -> usize {
    const UNIT: usize = 16;
    if bytes > MAPPED {
        return bytes.next_multiple_of(PAGE) + PAGE;
    }
    let units = (bytes + 4).div_ceil(UNIT);
    UNIT * if units > 9 { units + units / 4 } else { units }
}

/// A piece that is shared.
pub fn shared(bytes: usize) -> usize {
    piece(SHARED + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        for (bytes, expected) in [
            (0, 16),
            (12, 16),
            (13, 32),
            (140, 144),
            (141, 192),
            (1000, 1248),
            (1_000_000, 1_007_616),
        ] {
            assert_eq!(piece(bytes), expected, "{bytes}");
        }
    }
}
