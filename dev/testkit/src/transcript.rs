//! Text files of named blocks, such as those of `health/tests/data`. Does not know the meaning of a
//! block.
//!
//! A block begins with a line `=== NAME` and ends before the next one or at the end of the file.
//! Lines before the first block are a comment on the file, and the empty lines that end a block do
//! not belong to it. A recorded answer is a block of three parts with an empty line between them:
//! the request, the head of the answer, and the body.

/// The blocks of a transcript in their order: name and text.
pub fn blocks(transcript: &str) -> impl Iterator<Item = (&str, &str)> {
    let blocks = transcript.split("\n=== ").skip(1);
    blocks.map(|block| {
        let (name, text) = block.split_once('\n').unwrap_or((block, ""));
        (name, text.trim_end_matches('\n'))
    })
}

/// The text of the block of this name.
#[track_caller]
pub fn block<'t>(transcript: &'t str, name: &str) -> &'t str {
    let found = blocks(transcript).find(|(block, _)| *block == name);
    found.unwrap_or_else(|| panic!("the transcript has no block {name:?}")).1
}

/// The body of the recorded answer of this name.
#[track_caller]
pub fn body<'t>(transcript: &'t str, name: &str) -> &'t str {
    let [_, _, body] = parts(block(transcript, name));
    body
}

/// A recorded answer's request, head and body.
#[track_caller]
pub(crate) fn parts(block: &str) -> [&str; 3] {
    let mut parts = block.splitn(3, "\n\n");
    [(); 3].map(|()| parts.next().unwrap_or_else(|| panic!("no recorded answer: {block:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSCRIPT: &str = "\
# A comment.

=== one
GET /
token: none

HTTP/1.1 200 OK

{

}

=== two
=== three
a=== b
";

    #[test]
    fn blocks_have_a_name_and_a_text() {
        let names: Vec<_> = blocks(TRANSCRIPT).map(|(name, _)| name).collect();
        assert_eq!(names, ["one", "two", "three"]);
        assert_eq!(body(TRANSCRIPT, "one"), "{\n\n}");
        assert_eq!((block(TRANSCRIPT, "two"), block(TRANSCRIPT, "three")), ("", "a=== b"));
    }
}
