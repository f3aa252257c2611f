//! A reader that bounds JSON while it streams: the bytes of each object and of each text, and the
//! nesting.
//!
//! The parser reads single bytes, so the reader counts the bytes that the parser has processed. The
//! parser's own limit on nesting does not apply to skipped values, which are most of each object.
//! The file does not know the meaning of the JSON.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

/// The most bytes of a text without its escapes. An API server accepts no larger request.
pub const LONGEST_TEXT: usize = 3 * 1024 * 1024;

/// The most bytes of an object: an API server writes `<` as six bytes. Skipped bytes take no
/// memory.
pub const LARGEST_OBJECT: usize = 6 * LONGEST_TEXT;

/// The deepest nesting. Objects of Kubernetes have a depth of about 20.
pub const DEEPEST: usize = 100;

/// The bytes of one read from the transport.
const BUFFER: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitExceeded {
    Size,
    Text,
    Depth,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitExceeded::Size => write!(f, "an object of more than {LARGEST_OBJECT} bytes"),
            LimitExceeded::Text => write!(f, "a text of more than {LONGEST_TEXT} bytes"),
            LimitExceeded::Depth => write!(f, "an object nested more than {DEEPEST} deep"),
        }
    }
}

impl std::error::Error for LimitExceeded {}

/// The bytes of the present object so far. The user of the reader resets it between objects.
pub type ObjectBytes = Rc<Cell<usize>>;

pub struct Bounded<R> {
    source: R,
    bytes: ObjectBytes,
    buffer: Box<[u8]>,
    position: usize,
    filled: usize,
    depth: usize,
    state: TextState,
    /// The bytes of the present text, or of a number or spaces between two texts.
    text: usize,
}

#[derive(Clone, Copy)]
enum TextState {
    Outside,
    InString,
    AfterBackslash,
}

impl<R: Read> Bounded<R> {
    pub fn new(source: R, bytes: &ObjectBytes) -> Bounded<R> {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Bounded {
            source,
            bytes: Rc::clone(bytes),
            buffer,
            position: 0,
            filled: 0,
            depth: 0,
            state: TextState::Outside,
            text: 0,
        }
    }

    /// A text or the space between two texts begins.
    fn begin(&mut self, state: TextState) -> TextState {
        self.text = 0;
        state
    }

    fn check(&mut self, byte: u8) -> Result<(), LimitExceeded> {
        self.bytes.set(self.bytes.get() + 1);
        if self.bytes.get() > LARGEST_OBJECT {
            return Err(LimitExceeded::Size);
        }
        self.text += 1;
        self.state = match (self.state, byte) {
            (TextState::Outside, b'"') => self.begin(TextState::InString),
            (TextState::InString, b'"') | (TextState::Outside, b',') => {
                self.begin(TextState::Outside)
            }
            (TextState::Outside, b'[' | b'{') if self.depth == DEEPEST => {
                return Err(LimitExceeded::Depth);
            }
            (TextState::Outside, b'[' | b'{') => {
                self.depth += 1;
                self.begin(TextState::Outside)
            }
            (TextState::Outside, b']' | b'}') => {
                // Below zero the JSON is invalid, which the parser reports.
                self.depth = self.depth.saturating_sub(1);
                self.begin(TextState::Outside)
            }
            (TextState::InString, b'\\') => TextState::AfterBackslash,
            (TextState::AfterBackslash, escape) => {
                // `\n` becomes one byte, and so does `\u003c`: an API server escapes few others.
                self.text = self.text.saturating_sub(if escape == b'u' { 5 } else { 1 });
                TextState::InString
            }
            (state, _) => state,
        };
        if self.text > LONGEST_TEXT { Err(LimitExceeded::Text) } else { Ok(()) }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(first) = out.first_mut() else { return Ok(0) };
        if self.position == self.filled {
            self.filled = self.source.read(&mut self.buffer)?;
            self.position = 0;
        }
        if self.position >= self.filled {
            return Ok(0);
        }
        let byte = self.buffer[self.position];
        self.position += 1;
        self.check(byte).map_err(io::Error::other)?;
        *first = byte;
        Ok(1)
    }
}
