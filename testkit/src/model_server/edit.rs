//! Edits in the form that aider applies: SEARCH/REPLACE blocks of its edit format `diff`.
//!
//! Owns the block and the search for a file in a request. Must not read files. Invariant: the block adds the line
//! wherever the file is; without the file's content its SEARCH part is empty, which aider 0.86.2 takes as "create the
//! file, or append to it".

/// The fences that aider 0.86.2 puts around a file, from which it takes the first that does not begin a line of it.
const FENCES: [(&str, &str); 7] = [
    ("```", "```"),
    ("````", "````"),
    ("<source>", "</source>"),
    ("<code>", "</code>"),
    ("<pre>", "</pre>"),
    ("<codeblock>", "</codeblock>"),
    ("<sourcecode>", "</sourcecode>"),
];

/// A block that adds the line `text` after the last line of `path`.
pub(super) fn block(path: &str, text: &str, messages: &[String]) -> String {
    let found = messages
        .iter()
        .rev()
        .find_map(|message| content(path, message));
    let (fence, content) = found.unwrap_or((FENCES[0], ""));
    let last = content.lines().rfind(|line| !line.trim().is_empty());
    // A line that looks like a part of a block would break the block.
    let last = last.filter(|line| {
        !["<<<<<<<", "=======", ">>>>>>>"]
            .iter()
            .any(|mark| line.starts_with(mark))
    });
    let last = last.map(|line| format!("{line}\n")).unwrap_or_default();
    format!(
        "{path}\n{}\n<<<<<<< SEARCH\n{last}=======\n{last}{text}\n>>>>>>> REPLACE\n{}\n",
        fence.0, fence.1
    )
}

/// The content of a file as aider sends it: its name alone on a line, then its text between fences.
fn content<'a>(path: &str, message: &'a str) -> Option<((&'static str, &'static str), &'a str)> {
    FENCES.into_iter().find_map(|fence| {
        let (_, after) = message.split_once(&format!("\n{path}\n{}\n", fence.0))?;
        // The closing fence follows the last line without a newline where the file ends without one.
        let whole_line = format!("\n{}\n", fence.1);
        let end = match after.find(&whole_line) {
            _ if after.starts_with(&whole_line[1..]) => 0,
            Some(end) => end + 1,
            None => after.find(&whole_line[1..])?,
        };
        Some((fence, &after[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_goes_after_the_last_line_of_the_file_in_the_request() {
        let table = [
            ("Files:\n\na.txt\n```\none\ntwo\n```\n", "two\n"),
            (
                "Files:\n\na.txt\n```\none\ntwo\n\n```\n\nb.txt\n```\nthree\n```\n",
                "two\n",
            ),
            ("Files:\n\na.txt\n```\none\ntwo```\n", "two\n"),
            ("Files:\n\na.txt\n<source>\none\n```\n</source>\n", "```\n"),
            ("Files:\n\na.txt\n```\n```\n", ""),
            ("Files:\n\na.txt\n```\none\n=======\n```\n", ""),
            ("Files:\n\nba.txt\n```\none\n```\n", ""),
            ("nothing", ""),
        ];
        for (message, last) in table {
            let block = block("a.txt", "new", &[message.to_owned(), "later".to_owned()]);
            let fence = if message.contains("<source>") {
                ("<source>", "</source>")
            } else {
                ("```", "```")
            };
            let expected = format!(
                "a.txt\n{}\n<<<<<<< SEARCH\n{last}=======\n{last}new\n>>>>>>> REPLACE\n{}\n",
                fence.0, fence.1
            );
            assert_eq!(block, expected, "{message:?}");
        }
    }

    #[test]
    fn the_latest_content_counts() {
        let messages = ["old", "new"].map(|line| format!("\na.txt\n```\n{line}\n```\n"));
        assert!(block("a.txt", "x", &messages).contains("SEARCH\nnew\n"));
    }
}
