//! Reads what gzip has packed (RFC 1952) while it comes, in 52 KiB of memory however much that is.
//!
//! The checksum at its end is not looked at: its table would be 16 kB of a binary, and TLS has vouched for each byte
//! already. The length beside it is, and an end that does not come is an error. Does not know why it was packed.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;

use miniz_oxide::inflate::TINFLStatus as Status;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT as MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// As far back as packed bytes may point.
const WINDOW: usize = 32 * 1024;

/// The source is asked for this many at a time.
const BUFFER: usize = 8 * 1024;

// Bits of the head's fourth byte: what stands between the head and the packed bytes.
const HEAD_SUM: u32 = 1 << 1;
const EXTRA: u32 = 1 << 2;
const NAME: u32 = 1 << 3;
const COMMENT: u32 = 1 << 4;
const RESERVED: u32 = 0b1110_0000;

/// The reader of what was packed.
pub struct Gunzip<R> {
    packed: Packed<R>,
    inflater: Box<DecompressorOxide>,
    window: Box<[u8]>,
    /// Where in the window the bytes are that have not been handed on.
    ready: Range<usize>,
    /// Of all that was unpacked, as far as 32 bits count.
    length: u32,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Head,
    Packed,
    End,
}

impl<R: Read> Gunzip<R> {
    /// Nothing is read yet.
    pub fn new(source: R) -> Gunzip<R> {
        Gunzip {
            packed: Packed { source, buffer: vec![0; BUFFER].into_boxed_slice(), there: 0..0 },
            inflater: Box::default(),
            window: vec![0; WINDOW].into_boxed_slice(),
            ready: 0..0,
            length: 0,
            place: Place::Head,
        }
    }

    fn head(&mut self) -> io::Result<()> {
        let (begin, flags) = (self.packed.number(3)?, self.packed.number(1)?);
        if begin != 0x08_8b_1f || flags & RESERVED != 0 {
            return Err(damaged("does not begin as gzip does"));
        }
        let _time_and_origin = (self.packed.number(4)?, self.packed.number(2)?);
        if flags & EXTRA != 0 {
            for _ in 0..self.packed.number(2)? {
                self.packed.number(1)?;
            }
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                while self.packed.number(1)? != 0 {}
            }
        }
        if flags & HEAD_SUM != 0 {
            self.packed.number(2)?;
        }
        self.place = Place::Packed;
        Ok(())
    }

    fn unpack(&mut self) -> io::Result<()> {
        let input = self.packed.some()?;
        let at = self.ready.end % WINDOW;
        let (status, taken, written) =
            decompress(&mut self.inflater, input, &mut self.window, at, MORE_INPUT);
        self.packed.there.start += taken;
        self.ready = at..at + written;
        self.length = self.length.wrapping_add(written as u32);
        match status {
            Status::NeedsMoreInput | Status::HasMoreOutput => Ok(()),
            Status::Done => self.end(),
            _ => Err(damaged("cannot be unpacked")),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        let _checksum = self.packed.number(4)?;
        if self.packed.number(4)? != self.length {
            return Err(damaged("is of another length"));
        }
        // Asking for more also makes the source say whether its own end has come.
        match self.packed.number(1) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.place = Place::End,
            Err(error) => return Err(error),
            Ok(_) => return Err(damaged("goes on behind its end")),
        }
        Ok(())
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !out.is_empty() {
            match self.place {
                Place::Head => self.head()?,
                Place::Packed => self.unpack()?,
                Place::End => return Ok(0),
            }
        }
        let count = self.ready.len().min(out.len());
        out[..count].copy_from_slice(&self.window[self.ready.start..][..count]);
        self.ready.start += count;
        Ok(count)
    }
}

/// The bytes as they come.
struct Packed<R> {
    source: R,
    buffer: Box<[u8]>,
    /// Where in the buffer those are that have not been taken.
    there: Range<usize>,
}

impl<R: Read> Packed<R> {
    /// Those that are there, at least one.
    fn some(&mut self) -> io::Result<&[u8]> {
        while self.there.is_empty() {
            match self.source.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.there = 0..count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.there.clone()])
    }

    /// One of so many bytes, four at most, the lowest first.
    fn number(&mut self, bytes: u32) -> io::Result<u32> {
        let mut number = 0;
        for place in 0..bytes {
            number |= u32::from(self.some()?[0]) << (8 * place);
            self.there.start += 1;
        }
        Ok(number)
    }
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("what came compressed {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::deflate::compress_to_vec;
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    /// The head with these flags, what follows it, and the content.
    fn packed(flags: u32, fields: &[u8], content: &[u8]) -> Vec<u8> {
        let mut all = vec![0x1f, 0x8b, 8, flags as u8, 0, 0, 0, 0, 0, 255];
        all.extend_from_slice(fields);
        all.extend(compress_to_vec(content, 4));
        all.extend(*b"sum?");
        all.extend((content.len() as u32).to_le_bytes());
        all
    }

    /// Hands on so many bytes at a time.
    struct Bits<'a>(&'a [u8], usize);

    impl Read for Bits<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let many = self.1.min(out.len());
            self.0.read(&mut out[..many])
        }
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        let read = Gunzip::new(Bits(bytes, 7)).read_to_end(&mut content);
        read.map(|_| content).map_err(|error| error.to_string())
    }

    /// Words that come again, so that they are packed by pointing back, and more of them than the window holds.
    fn long() -> Vec<u8> {
        (0..8_000_u32)
            .flat_map(|word| word.wrapping_mul(2_654_435_761).to_string().into_bytes())
            .collect()
    }

    #[test]
    fn in_the_memory_that_is_said() {
        assert!(
            size_of::<DecompressorOxide>() + WINDOW + BUFFER <= 52 * 1024,
            "{}",
            size_of::<DecompressorOxide>()
        );
    }

    #[test]
    fn heads() {
        for (case, flags, fields) in [
            ("nothing", 0, &b""[..]),
            ("said to be text", 1, b""),
            ("a sum of the head", HEAD_SUM, b"ab"),
            ("a field", EXTRA, b"\x03\x00abc"),
            ("a field of 256 bytes", EXTRA, &[[0, 1].as_slice(), &[7; 256]].concat()),
            ("a name", NAME, b"list.json\0"),
            ("a name and a comment", NAME | COMMENT, b"list.json\0no comment\0"),
            ("all of it", 1 | HEAD_SUM | EXTRA | NAME | COMMENT, b"\x01\x00a\0\0ab"),
        ] {
            assert_eq!(
                unpacked(&packed(flags, fields, b"content")),
                Ok(b"content".to_vec()),
                "{case}"
            );
        }
    }

    #[test]
    fn nothing_that_is_cut_passes() {
        for content in [&b""[..], b"content", &long()] {
            let whole = packed(NAME, b"name\0", content);
            assert_eq!(unpacked(&whole).as_deref(), Ok(content));
            for length in (0..whole.len()).rev().take(12).chain(0..20) {
                let error = Gunzip::new(&whole[..length]).read_to_end(&mut Vec::new()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{length} of {}", whole.len());
            }
        }
    }

    #[test]
    fn what_is_damaged_is_named() {
        let whole = packed(0, b"", b"content");
        let with = |place: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[place] = byte;
            bytes
        };
        for (expected, bytes) in [
            ("does not begin as gzip does", b"{\"kind\":\"PodList\"}".to_vec()),
            ("does not begin as gzip does", with(2, 7)),
            ("does not begin as gzip does", with(3, 0x20)),
            ("cannot be unpacked", with(10, 0xff)),
            ("is of another length", with(whole.len() - 4, 8)),
            ("is of another length", with(whole.len() - 1, 1)),
            ("goes on behind its end", [&whole[..], b"\0"].concat()),
            ("goes on behind its end", [&whole[..], &whole].concat()),
        ] {
            assert_eq!(unpacked(&bytes), Err(format!("what came compressed {expected}")));
        }
    }

    #[test]
    fn however_it_comes() {
        let content = long();
        let whole = packed(0, b"", &content);
        for at_once in (1..20).chain([BUFFER - 1, BUFFER, BUFFER + 1, WINDOW]) {
            let mut read = Vec::new();
            Gunzip::new(Bits(&whole, at_once)).read_to_end(&mut read).unwrap();
            assert!(read == content, "{at_once} at a time");
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back(content in vec(0..4_u8, 0..2 * BUFFER), at_once in 1..100_usize) {
            let mut read = Vec::new();
            Gunzip::new(Bits(&packed(0, b"", &content), at_once)).read_to_end(&mut read)?;
            prop_assert_eq!(read, content);
        }

        #[test]
        fn nothing_panics(bytes in vec(any::<u8>(), 0..2000), flags in any::<u8>()) {
            let begun = [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255], &bytes[..]].concat();
            let most = 1 << 20;
            let mut content = Vec::new();
            // Whether it is an error or not, it ends.
            let _ = Gunzip::new(&begun[..]).take(most).read_to_end(&mut content);
            prop_assert!(content.len() as u64 <= most);
        }
    }
}
