//! The memory that a value takes on the heap of the static binary.

/// The reference counts of a shared value.
const SHARED: usize = 16;

/// A larger allocation takes whole pages.
const MAPPED: usize = 128 * 1024;
const PAGE: usize = 4096;

/// The memory that an allocation of this many bytes takes. musl's allocator adds four bytes. Up to
/// nine units of 16 bytes each number of units is a size class; larger classes lie up to a quarter
/// apart.
pub fn piece(bytes: usize) -> usize {
    const UNIT: usize = 16;
    if bytes > MAPPED {
        return bytes.next_multiple_of(PAGE) + PAGE;
    }
    let units = (bytes + 4).div_ceil(UNIT);
    UNIT * if units > 9 { units + units / 4 } else { units }
}

/// The memory that the value of an `Arc` takes.
pub fn shared(bytes: usize) -> usize {
    piece(SHARED + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_allocations() {
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
