//! A reader that keeps JSON within bounds while it streams by: bytes for each object, and nesting.
//!
//! The parser asks for single bytes, so what is counted here is what it has really seen. Its own
//! limit on nesting does not hold for values that are passed over, which is most of each object.
//! Does not know what the JSON means.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

/// An object may have this many bytes. etcd takes 1.5 MiB for one, and as JSON it grows.
pub const LARGEST_OBJECT: usize = 2 * 1024 * 1024;

/// Objects and lists within each other. What Kubernetes sends here has about 20.
pub const DEEPEST: usize = 100;

/// The parser takes byte by byte; the transport is asked for this many at a time.
const BUFFER: usize = 8 * 1024;

/// Why the reader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// [`LARGEST_OBJECT`]
    Size,
    /// [`DEEPEST`]
    Depth,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Beyond::Size => write!(f, "an object of more than {LARGEST_OBJECT} bytes"),
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
        Bounded { source, spent: Rc::clone(spent), buffer, taken: 0, filled: 0, depth: 0, place: Place::Outside }
    }

    fn check(&mut self, byte: u8) -> Result<(), Beyond> {
        self.spent.set(self.spent.get() + 1);
        if self.spent.get() > LARGEST_OBJECT {
            return Err(Beyond::Size);
        }
        self.place = match (self.place, byte) {
            (Place::Outside, b'"') => Place::InString,
            (Place::Outside, b'[' | b'{') if self.depth == DEEPEST => return Err(Beyond::Depth),
            (Place::Outside, b'[' | b'{') => {
                self.depth += 1;
                Place::Outside
            }
            (Place::Outside, b']' | b'}') => {
                // Below zero it is no JSON, which the parser will say.
                self.depth = self.depth.saturating_sub(1);
                Place::Outside
            }
            (Place::InString, b'"') => Place::Outside,
            (Place::InString, b'\\') => Place::AfterBackslash,
            (Place::AfterBackslash, _) => Place::InString,
            (place, _) => place,
        };
        Ok(())
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
