//! A reader that keeps JSON within bounds while it streams by: bytes for each object and each text, and nesting.
//!
//! The parser asks for single bytes, so what is counted here is what it has really seen. Its own
//! limit on nesting does not hold for values that are passed over, which is most of each object. What is kept of an
//! object is bounded where it is read; here it is what the parser needs to get there, which is one text at a time.
//! Does not know what the JSON means.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

/// A text may have this many bytes once its escapes are resolved. An API server takes no request that is larger.
pub const LONGEST_TEXT: usize = 3 * 1024 * 1024;

/// An object may have this many bytes: it writes `<` in six. Passing them over takes time, but no memory.
pub const LARGEST_OBJECT: usize = 6 * LONGEST_TEXT;

/// Objects and lists within each other. What Kubernetes sends here has about 20.
pub const DEEPEST: usize = 100;

/// The parser takes byte by byte; the transport is asked for this many at a time.
const BUFFER: usize = 8 * 1024;

/// Why the reader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// [`LARGEST_OBJECT`]
    Size,
    /// [`LONGEST_TEXT`]
    Text,
    /// [`DEEPEST`]
    Depth,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Beyond::Size => write!(f, "an object of more than {LARGEST_OBJECT} bytes"),
            Beyond::Text => write!(f, "a text of more than {LONGEST_TEXT} bytes"),
            Beyond::Depth => write!(f, "an object nested more than {DEEPEST} deep"),
        }
    }
}

impl std::error::Error for Beyond {}

/// How many bytes have gone by since the present object began; whoever sees objects begin and end
/// sets it back to 0.
pub type Spent = Rc<Cell<usize>>;

/// The reader.
pub struct Bounded<R> {
    source: R,
    spent: Spent,
    buffer: Box<[u8]>,
    taken: usize,
    filled: usize,
    depth: usize,
    place: Place,
    /// How many bytes the present text has come to, or what stands between two texts, such as a number.
    text: usize,
}

#[derive(Clone, Copy)]
enum Place {
    Outside,
    InString,
    AfterBackslash,
}

impl<R: Read> Bounded<R> {
    /// Reads from `source`.
    pub fn new(source: R, spent: &Spent) -> Bounded<R> {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Bounded {
            source,
            spent: Rc::clone(spent),
            buffer,
            taken: 0,
            filled: 0,
            depth: 0,
            place: Place::Outside,
            text: 0,
        }
    }

    /// A text, or what stands between two of them.
    fn begins(&mut self, place: Place) -> Place {
        self.text = 0;
        place
    }

    fn check(&mut self, byte: u8) -> Result<(), Beyond> {
        self.spent.set(self.spent.get() + 1);
        if self.spent.get() > LARGEST_OBJECT {
            return Err(Beyond::Size);
        }
        self.text += 1;
        self.place = match (self.place, byte) {
            (Place::Outside, b'"') => self.begins(Place::InString),
            (Place::InString, b'"') | (Place::Outside, b',') => self.begins(Place::Outside),
            (Place::Outside, b'[' | b'{') if self.depth == DEEPEST => return Err(Beyond::Depth),
            (Place::Outside, b'[' | b'{') => {
                self.depth += 1;
                self.begins(Place::Outside)
            }
            (Place::Outside, b']' | b'}') => {
                // Below zero it is no JSON, which the parser will say.
                self.depth = self.depth.saturating_sub(1);
                self.begins(Place::Outside)
            }
            (Place::InString, b'\\') => Place::AfterBackslash,
            (Place::AfterBackslash, escape) => {
                // `\n` becomes one byte, and so does `\u003c`: all that an API server writes so but for two rare ones.
                self.text = self.text.saturating_sub(if escape == b'u' { 5 } else { 1 });
                Place::InString
            }
            (place, _) => place,
        };
        if self.text > LONGEST_TEXT { Err(Beyond::Text) } else { Ok(()) }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(first) = out.first_mut() else { return Ok(0) };
        if self.taken == self.filled {
            self.filled = self.source.read(&mut self.buffer)?;
            self.taken = 0;
        }
        if self.taken >= self.filled {
            return Ok(0);
        }
        let byte = self.buffer[self.taken];
        self.taken += 1;
        self.check(byte).map_err(io::Error::other)?;
        *first = byte;
        Ok(1)
    }
}
