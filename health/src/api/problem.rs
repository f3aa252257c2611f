//! Why the API gave no answer to build a verdict on: one closed list of causes, in words that name
//! the object and say what to do.
//!
//! The server's own words are kept apart, because they may name objects that not everybody may see.

use std::io;
use std::time::Duration;

use psl::client::HttpError;
use psl::text::one_line;
use serde_json::error::Category;

use super::bounded::Beyond;

/// A cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What was asked for and why there is no answer, for everybody.
    pub cause: String,
    /// What the server says of it, bounded and on one line.
    pub words: Option<String>,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A cause without words of the server.
    pub fn new(cause: impl Into<String>) -> Problem {
        Problem { cause: cause.into(), words: None, retry_after: None }
    }

    /// All there is to say, for the log and for those who may see it.
    pub fn whole(&self) -> String {
        match &self.words {
            Some(words) => format!("{}: {words}", self.cause),
            None => self.cause.clone(),
        }
    }

    /// What may be told to `insiders`, or to everybody.
    pub fn told(&self, insiders: bool) -> String {
        if insiders { self.whole() } else { self.cause.clone() }
    }

    /// The server's words, with the quotes of a kind that needs no escapes in logs.
    pub fn with_words(self, words: Option<String>) -> Problem {
        Problem { words: words.map(|words| one_line(&words.replace('"', "'"))), ..self }
    }
}

/// Why a body could not be read to its end. The parser's own text may quote the body, so it is
/// among the words, not in the cause. So is the item after which it went wrong: whoever looks for
/// the one that is at fault finds it next to that.
pub fn unreadable(object: &str, after: Option<&str>, error: serde_json::Error) -> Problem {
    let after = after.map(|item| format!("after {}", one_line(item)));
    let (why, words) = match error.classify() {
        Category::Io => broken_off(io::Error::from(error), after),
        Category::Eof => ("the answer ends in the middle of its JSON".to_owned(), None),
        Category::Syntax => ("the answer is not JSON".to_owned(), Some(error.to_string())),
        Category::Data => {
            let words = [Some(error.to_string()), after].into_iter().flatten().collect::<Vec<_>>();
            ("the answer is JSON of another form".to_owned(), Some(words.join(", ")))
        }
    };
    Problem::new(format!("{object}: {why}")).with_words(words)
}

fn broken_off(error: io::Error, after: Option<String>) -> (String, Option<String>) {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Beyond>()) {
        Some(beyond) => (format!("the answer is refused: {beyond}"), after),
        None => (HttpError::from(error).to_string(), None),
    }
}
