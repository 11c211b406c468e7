//! Reads what aider prints between one prompt and the next.
//!
//! Owns [`Frame`]: the echo of the input, the text of the reply, the answer to the mark, and the prompt behind it. Must
//! not know what a step was for or what its reply means. Invariant: however the bytes are cut, a frame ends at the same
//! byte, and it never keeps more than [`MAX_PROMPT`] and one piece of input.

use memchr::memmem;

/// The longest list of files that aider may show before its prompt, in bytes.
const MAX_PROMPT: usize = 1 << 20;
/// Longer prompts are not held back while text is streamed; then only names of files may show up in the chunks.
const MAX_HELD_PROMPT: usize = 4096;
/// aider's prompts are `> ` behind the name of an edit format and perhaps the word `multi`.
const MAX_PREFIX: usize = 48;
/// aider says so behind any input, the mark too, if somebody else commits in its folder at that moment.
const HINT: &[u8] = b"You can use /undo to undo and discard each aider commit.\n";
/// The most that is kept of a step's output; older text goes first.
const MAX_SCREEN: usize = 1 << 20;

/// What aider shows when it waits for input.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// All of it: an empty line, the files in the chat, the prefix.
    whole: Vec<u8>,
    /// The prompt itself, printed once more for each further line that aider reads: `> ` or `ask> `.
    prefix: Vec<u8>,
}

impl Shown {
    /// Takes the prompt off the end of a reply. aider shows the same one before the mark as behind it.
    pub(super) fn strip(&self, reply: &mut Vec<u8>) {
        if reply.ends_with(&self.whole) {
            reply.truncate(reply.len() - self.whole.len());
        } else if self.whole.ends_with(reply) {
            reply.clear();
        }
    }

    /// The prompt, if `bytes` are a whole one; `None` if more must come.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let wrong = || format!("not aider's prompt: {}", excerpt(bytes));
        if HINT.starts_with(bytes) {
            return Ok(None);
        }
        let bytes = bytes.strip_prefix(HINT).unwrap_or(bytes);
        let Some((b'\n', list)) = bytes.split_first() else {
            return if bytes.is_empty() {
                Ok(None)
            } else {
                Err(wrong())
            };
        };
        if list.starts_with(b"\n")
            || memmem::find(list, b"\n\n").is_some()
            || bytes.len() > MAX_PROMPT
        {
            return Err(wrong());
        }
        let last = list
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(0, |end| end + 1);
        let prefix = &list[last..];
        let is_mode = |b: &u8| b.is_ascii_lowercase() || matches!(b, b'-' | b' ');
        match prefix.strip_suffix(b"> ") {
            Some(mode) if prefix.len() <= MAX_PREFIX && mode.iter().all(is_mode) => {
                Ok(Some(Self {
                    whole: bytes.to_vec(),
                    prefix: prefix.to_vec(),
                }))
            }
            _ => Ok(None),
        }
    }
}

/// What a [`Frame`] has come across.
#[derive(Debug)]
pub(super) enum Seen {
    /// Nothing yet; all bytes are used up.
    Nothing,
    /// aider has read the whole input and has begun to work on it.
    Accepted,
    /// A piece of the reply.
    Body(Vec<u8>),
    /// The answer to the mark: the step is over.
    Mark,
    /// The prompt behind the mark: aider is idle.
    Prompt {
        /// The reply's last piece, with the prompt that aider showed behind it, or the end of that prompt.
        held: Vec<u8>,
        /// The prompt.
        shown: Shown,
    },
}

/// One input and what aider prints about it, up to the next prompt.
#[derive(Debug)]
pub(super) struct Frame {
    phase: Phase,
    mark: Vec<u8>,
    shown: Shown,
}

#[derive(Debug)]
enum Phase {
    /// The prefix for each line but the first, then an empty line.
    Echo {
        seen: usize,
        expected: usize,
    },
    Body {
        held: Vec<u8>,
    },
    Tail {
        held: Vec<u8>,
        prompt: Vec<u8>,
    },
    Over,
}

impl Frame {
    /// A frame that begins with `echoes` copies of the prefix and ends with the answer to the mark `nonce`.
    pub(super) fn new(nonce: &str, shown: &Shown, echoes: usize) -> Self {
        Self {
            phase: Phase::Echo {
                seen: 0,
                expected: echoes.saturating_mul(shown.prefix.len()),
            },
            ..Self::in_the_middle(nonce, shown)
        }
    }

    /// A frame of which only the end is known.
    pub(super) fn in_the_middle(nonce: &str, shown: &Shown) -> Self {
        Self {
            phase: Phase::Body { held: Vec::new() },
            mark: format!("\nInvalid command: /={nonce}\n").into_bytes(),
            shown: shown.clone(),
        }
    }

    /// Whether aider has accepted the input and has not yet answered the mark.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.phase, Phase::Body { .. })
    }

    /// Pays no heed to anything that follows; returns the text that was held back.
    pub(super) fn abandon(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Body { held } | Phase::Tail { held, .. } => held,
            Phase::Echo { .. } | Phase::Over => Vec::new(),
        }
    }

    /// Takes bytes off the front of `bytes` up to the next thing worth telling.
    ///
    /// # Errors
    /// Says what aider printed if it cannot be part of the frame.
    pub(super) fn feed(&mut self, bytes: &mut &[u8]) -> Result<Seen, String> {
        match &mut self.phase {
            Phase::Echo { seen, expected } => {
                let prefix = &self.shown.prefix;
                while let Some((&byte, rest)) = bytes.split_first() {
                    let wanted = if *seen < *expected {
                        prefix[*seen % prefix.len()]
                    } else {
                        b'\n'
                    };
                    if byte != wanted {
                        return Err(format!(
                            "aider did not read the prompt as one: {}",
                            excerpt(bytes)
                        ));
                    }
                    *bytes = rest;
                    if *seen == *expected {
                        self.phase = Phase::Body { held: Vec::new() };
                        return Ok(Seen::Accepted);
                    }
                    *seen += 1;
                }
                Ok(Seen::Nothing)
            }
            Phase::Body { held } => {
                let before = held.len();
                held.extend_from_slice(bytes);
                if let Some(at) = memmem::find(held, &self.mark) {
                    *bytes = &bytes[at + self.mark.len() - before..];
                    held.truncate(at);
                    self.phase = Phase::Tail {
                        held: std::mem::take(held),
                        prompt: Vec::new(),
                    };
                    return Ok(Seen::Mark);
                }
                *bytes = &[];
                let keep = held_back(held, &self.shown, &self.mark);
                let body: Vec<u8> = held.drain(..held.len() - keep).collect();
                Ok(if body.is_empty() {
                    Seen::Nothing
                } else {
                    Seen::Body(body)
                })
            }
            Phase::Tail { held, prompt } => {
                prompt.extend_from_slice(bytes);
                *bytes = &[];
                let Some(shown) = Shown::parse(prompt)? else {
                    return Ok(Seen::Nothing);
                };
                let held = std::mem::take(held);
                self.phase = Phase::Over;
                Ok(Seen::Prompt { held, shown })
            }
            Phase::Over => {
                *bytes = &[];
                Ok(Seen::Nothing)
            }
        }
    }
}

/// How many bytes at the end of `text` may be the beginning of the end: the prompt that aider shows before it reads the
/// mark, and its answer.
fn held_back(text: &[u8], shown: &Shown, mark: &[u8]) -> usize {
    let whole: &[u8] = if shown.whole.len() <= MAX_HELD_PROMPT {
        &shown.whole
    } else {
        b""
    };
    let with_files = [whole, mark].concat();
    let without = [b"\n", shown.prefix.as_slice(), mark].concat();
    [with_files.as_slice(), &without, mark]
        .iter()
        .map(|end| overlap(text, end))
        .max()
        .unwrap_or(0)
}

/// The length of the longest end of `text` that is a beginning of `end`.
fn overlap(text: &[u8], end: &[u8]) -> usize {
    (1..=end.len().min(text.len()))
        .rev()
        .find(|&len| text.ends_with(&end[..len]))
        .unwrap_or(0)
}

/// Finds a pattern in a stream, however it is cut.
#[derive(Debug)]
pub(super) struct Finder {
    pattern: &'static [u8],
    window: Vec<u8>,
}

impl Finder {
    pub(super) fn new(pattern: &'static [u8]) -> Self {
        Self {
            pattern,
            window: Vec::new(),
        }
    }

    /// Whether the pattern ends within `bytes`.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        self.window.extend_from_slice(bytes);
        let found = memmem::find(&self.window, self.pattern).is_some();
        let surplus = self.window.len().saturating_sub(self.pattern.len() - 1);
        self.window.drain(..surplus);
        found
    }
}

/// The last [`MAX_SCREEN`] bytes, or somewhat more, of what a step printed.
#[derive(Debug, Default)]
pub(super) struct Screen {
    text: Vec<u8>,
    cut: bool,
}

impl Screen {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        if self.text.len() > 2 * MAX_SCREEN {
            self.text.drain(..self.text.len() - MAX_SCREEN);
            self.cut = true;
        }
    }

    pub(super) fn strip(&mut self, shown: &Shown) {
        shown.strip(&mut self.text);
    }

    /// The kept text, with invalid UTF-8 replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }

    /// All that the step printed, if it is all there.
    pub(super) fn whole(&self) -> Option<String> {
        (!self.cut).then(|| self.text())
    }
}

/// The longest piece of a line that is looked at for news of a retry, in bytes.
const MAX_LINE: usize = 2048;

/// Spots the lines in which aider says that it asks its model again.
#[derive(Debug, Default)]
pub(super) struct Retries {
    line: Vec<u8>,
    error: String,
}

impl Retries {
    /// Takes a piece of the reply; returns what aider said about each retry. A model can write such a line as well, so
    /// this is news, not knowledge.
    pub(super) fn look(&mut self, text: &[u8]) -> Vec<String> {
        let mut news = Vec::new();
        for piece in text.split_inclusive(|&b| b == b'\n') {
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if !piece.ends_with(b"\n") {
                break;
            }
            let line = String::from_utf8_lossy(&self.line);
            let line = line.trim_end();
            if line.starts_with("Retrying in ") && line.ends_with(" seconds...") {
                news.push(format!("{}{line}", self.error));
            } else if let Some(at) = line.rfind("litellm.") {
                self.error = format!("{}\n", &line[at..]);
            }
            self.line.clear();
        }
        news
    }
}

/// The beginning of some bytes, for a message.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    format!(
        "{:?}",
        String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
    )
}
