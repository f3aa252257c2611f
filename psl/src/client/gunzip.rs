//! Decompresses a gzip stream (RFC 1952) in 52 KiB of memory, for a stream of any length.
//!
//! Does not check the CRC: its table would add 16 kB to a binary, and TLS has authenticated each
//! byte. Checks the length, and that the stream is complete.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;

use miniz_oxide::inflate::TINFLStatus as Status;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT as MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// The farthest distance of a back reference (RFC 1951).
const WINDOW: usize = 32 * 1024;

const BUFFER: usize = 8 * 1024;

// The flags of the header (RFC 1952, 2.3.1): the fields between it and the compressed bytes.
const HEADER_CRC: u32 = 1 << 1;
const EXTRA: u32 = 1 << 2;
const NAME: u32 = 1 << 3;
const COMMENT: u32 = 1 << 4;
const RESERVED: u32 = 0b1110_0000;

pub struct Gunzip<R> {
    input: CompressedInput<R>,
    inflater: Box<DecompressorOxide>,
    window: Box<[u8]>,
    /// The bytes of the window that the caller has not read.
    ready: Range<usize>,
    /// The decompressed length, modulo 2^32.
    length: u32,
    section: Section,
}

#[derive(Clone, Copy)]
enum Section {
    Header,
    Compressed,
    End,
}

impl<R: Read> Gunzip<R> {
    pub fn new(source: R) -> Gunzip<R> {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Gunzip {
            input: CompressedInput { source, buffer, unread: 0..0 },
            inflater: Box::default(),
            window: vec![0; WINDOW].into_boxed_slice(),
            ready: 0..0,
            length: 0,
            section: Section::Header,
        }
    }

    fn read_header(&mut self) -> io::Result<()> {
        let (magic, flags) = (self.input.number(3)?, self.input.number(1)?);
        if magic != 0x08_8b_1f || flags & RESERVED != 0 {
            return Err(invalid("no gzip header"));
        }
        let _time_and_system = (self.input.number(4)?, self.input.number(2)?);
        if flags & EXTRA != 0 {
            for _ in 0..self.input.number(2)? {
                self.input.number(1)?;
            }
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                while self.input.number(1)? != 0 {}
            }
        }
        if flags & HEADER_CRC != 0 {
            self.input.number(2)?;
        }
        self.section = Section::Compressed;
        Ok(())
    }

    fn decompress(&mut self) -> io::Result<()> {
        let input = self.input.available()?;
        let at = self.ready.end % WINDOW;
        let (status, taken, written) =
            decompress(&mut self.inflater, input, &mut self.window, at, MORE_INPUT);
        self.input.unread.start += taken;
        self.ready = at..at + written;
        self.length = self.length.wrapping_add(written as u32);
        match status {
            Status::NeedsMoreInput | Status::HasMoreOutput => Ok(()),
            Status::Done => self.read_trailer(),
            _ => Err(invalid("corrupt compressed data")),
        }
    }

    fn read_trailer(&mut self) -> io::Result<()> {
        let _crc = self.input.number(4)?;
        if self.input.number(4)? != self.length {
            return Err(invalid("wrong length"));
        }
        // Reading on makes the source report whether its own end has come.
        match self.input.number(1) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.section = Section::End,
            Err(error) => return Err(error),
            Ok(_) => return Err(invalid("data after the end")),
        }
        Ok(())
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !out.is_empty() {
            match self.section {
                Section::Header => self.read_header()?,
                Section::Compressed => self.decompress()?,
                Section::End => return Ok(0),
            }
        }
        let count = self.ready.len().min(out.len());
        out[..count].copy_from_slice(&self.window[self.ready.start..][..count]);
        self.ready.start += count;
        Ok(count)
    }
}

struct CompressedInput<R> {
    source: R,
    buffer: Box<[u8]>,
    unread: Range<usize>,
}

impl<R: Read> CompressedInput<R> {
    /// The unread bytes of the buffer, at least one.
    fn available(&mut self) -> io::Result<&[u8]> {
        while self.unread.is_empty() {
            match self.source.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.unread = 0..count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.unread.clone()])
    }

    /// A little-endian number of up to four bytes.
    fn number(&mut self, bytes: u32) -> io::Result<u32> {
        let mut number = 0;
        for at in 0..bytes {
            number |= u32::from(self.available()?[0]) << (8 * at);
            self.unread.start += 1;
        }
        Ok(number)
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("invalid gzip data: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::deflate::compress_to_vec;
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    /// A gzip stream: a header with these flags, its fields, and the content.
    fn gzip(flags: u32, fields: &[u8], content: &[u8]) -> Vec<u8> {
        let mut all = vec![0x1f, 0x8b, 8, flags as u8, 0, 0, 0, 0, 0, 255];
        all.extend_from_slice(fields);
        all.extend(compress_to_vec(content, 4));
        all.extend(*b"sum?");
        all.extend((content.len() as u32).to_le_bytes());
        all
    }

    /// A reader that returns a limited number of bytes at a time.
    struct SlowReader<'a>(&'a [u8], usize);

    impl Read for SlowReader<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(out.len());
            self.0.read(&mut out[..count])
        }
    }

    fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        let read = Gunzip::new(SlowReader(bytes, 7)).read_to_end(&mut content);
        read.map(|_| content).map_err(|error| error.to_string())
    }

    /// Repeated words, which compress to back references, longer than the window.
    fn long_content() -> Vec<u8> {
        (0..8_000_u32)
            .flat_map(|word| word.wrapping_mul(2_654_435_761).to_string().into_bytes())
            .collect()
    }

    #[test]
    fn the_memory_is_bounded() {
        assert!(
            size_of::<DecompressorOxide>() + WINDOW + BUFFER <= 52 * 1024,
            "{}",
            size_of::<DecompressorOxide>()
        );
    }

    #[test]
    fn header_fields_are_skipped() {
        for (case, flags, fields) in [
            ("no field", 0, &b""[..]),
            ("text flag", 1, b""),
            ("header CRC", HEADER_CRC, b"ab"),
            ("a field", EXTRA, b"\x03\x00abc"),
            ("a field of 256 bytes", EXTRA, &[[0, 1].as_slice(), &[7; 256]].concat()),
            ("a name", NAME, b"list.json\0"),
            ("a name and a comment", NAME | COMMENT, b"list.json\0no comment\0"),
            ("all fields", 1 | HEADER_CRC | EXTRA | NAME | COMMENT, b"\x01\x00a\0\0ab"),
        ] {
            assert_eq!(gunzip(&gzip(flags, fields, b"content")), Ok(b"content".to_vec()), "{case}");
        }
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        for content in [&b""[..], b"content", &long_content()] {
            let whole = gzip(NAME, b"name\0", content);
            assert_eq!(gunzip(&whole).as_deref(), Ok(content));
            for length in (0..whole.len()).rev().take(12).chain(0..20) {
                let error = Gunzip::new(&whole[..length]).read_to_end(&mut Vec::new()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{length} of {}", whole.len());
            }
        }
    }

    #[test]
    fn errors_name_the_damage() {
        let whole = gzip(0, b"", b"content");
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            bytes
        };
        for (expected, bytes) in [
            ("no gzip header", b"{\"kind\":\"PodList\"}".to_vec()),
            ("no gzip header", with(2, 7)),
            ("no gzip header", with(3, 0x20)),
            ("corrupt compressed data", with(10, 0xff)),
            ("wrong length", with(whole.len() - 4, 8)),
            ("wrong length", with(whole.len() - 1, 1)),
            ("data after the end", [&whole[..], b"\0"].concat()),
            ("data after the end", [&whole[..], &whole].concat()),
        ] {
            assert_eq!(gunzip(&bytes), Err(format!("invalid gzip data: {expected}")));
        }
    }

    #[test]
    fn the_size_of_reads_does_not_matter() {
        let content = long_content();
        let whole = gzip(0, b"", &content);
        for size in (1..20).chain([BUFFER - 1, BUFFER, BUFFER + 1, WINDOW]) {
            let mut read = Vec::new();
            Gunzip::new(SlowReader(&whole, size)).read_to_end(&mut read).unwrap();
            assert!(read == content, "{size} bytes at a time");
        }
    }

    proptest! {
        #[test]
        fn a_compressed_stream_is_restored(content in vec(0..4_u8, 0..2 * BUFFER), size in 1..100_usize) {
            let mut read = Vec::new();
            Gunzip::new(SlowReader(&gzip(0, b"", &content), size)).read_to_end(&mut read)?;
            prop_assert_eq!(read, content);
        }

        #[test]
        fn any_bytes_end(bytes in vec(any::<u8>(), 0..2000), flags in any::<u8>()) {
            let stream = [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255], &bytes[..]].concat();
            let most = 1 << 20;
            let mut content = Vec::new();
            // With or without an error, the stream ends.
            let _ = Gunzip::new(&stream[..]).take(most).read_to_end(&mut content);
            prop_assert!(content.len() as u64 <= most);
        }
    }
}
