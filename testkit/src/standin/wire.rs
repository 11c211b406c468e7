//! The dialects: how a line becomes a prompt and how a reply is ended.
//!
//! Owns the bytes around prompts and replies. Must not know where they come from. Invariant: the prompt is byte-exact,
//! and the end mark carries what came with the prompt, which no prompt can know in advance (but for the plain dialect).

use std::borrow::Cow;

use super::acp;
use super::options::Dialect;

/// Length of the token that comes with a framed prompt, in hex digits.
const NONCE: usize = 32;
/// What a framed stand-in prints when it is ready.
const READY: &[u8] = b"standin ready\n";
/// What a plain stand-in prints when it waits for a line.
const PROMPT: &[u8] = b"> ";

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Prompt(Request<'a>),
    /// No prompt: this is written at once.
    Answer(Vec<u8>),
    /// A question of ours is answered.
    Permission {
        allowed: bool,
    },
    Nothing,
}

/// A prompt as it came: the token to end the reply with (empty if plain) and the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) nonce: Cow<'a, [u8]>,
    pub(super) prompt: Cow<'a, [u8]>,
}

impl Request<'_> {
    pub(super) fn into_owned(self) -> Request<'static> {
        Request {
            nonce: Cow::Owned(self.nonce.into_owned()),
            prompt: Cow::Owned(self.prompt.into_owned()),
        }
    }
}

impl Dialect {
    pub(super) fn ready(self) -> &'static [u8] {
        match self {
            Self::Framed => READY,
            Self::Plain => PROMPT,
            Self::Acp => b"",
        }
    }

    /// Reads one line. The error says what a line must be.
    pub(super) fn decode(self, line: &[u8]) -> Result<Message<'_>, String> {
        match self {
            Self::Plain => Ok(Message::Prompt(Request {
                nonce: Cow::Borrowed(b""),
                prompt: Cow::Borrowed(line),
            })),
            Self::Acp => acp::decode(line),
            Self::Framed => framed(line).map(Message::Prompt).ok_or_else(|| {
                let head = String::from_utf8_lossy(&line[..line.len().min(80)]);
                format!("expected 32 hex digits, a space and a JSON string, found a line that begins with {head:?}")
            }),
        }
    }

    /// Makes a text what goes over the wire, without an end mark.
    pub(super) fn wrap(self, text: &mut Vec<u8>) {
        if self == Self::Acp {
            *text = acp::chunk(&String::from_utf8_lossy(text));
        }
    }

    /// What goes over the wire before a reply with forged ends, where ends have names.
    pub(super) fn forge_others(self) -> Vec<u8> {
        match self {
            Self::Acp => acp::of_others(),
            Self::Framed | Self::Plain => Vec::new(),
        }
    }

    /// A line of text that is no part of a reply.
    pub(super) fn aside(self, text: &str) -> Vec<u8> {
        match self {
            Self::Acp => acp::chunk(text),
            Self::Framed | Self::Plain => format!("{text}\n").into_bytes(),
        }
    }

    /// A question that only a person or a policy can answer.
    pub(super) fn question(self, text: &str) -> Vec<u8> {
        match self {
            Self::Acp => acp::question(text),
            Self::Framed | Self::Plain => format!("{text} [y/N]\n").into_bytes(),
        }
    }

    /// Appends the end mark of a reply.
    pub(super) fn end(self, nonce: &[u8], out: &mut Vec<u8>) {
        if self == Self::Acp {
            return acp::end(nonce, out);
        }
        out.push(b'\n');
        match self {
            Self::Framed => {
                out.extend_from_slice(nonce);
                out.extend_from_slice(b" end\n");
            }
            Self::Plain | Self::Acp => out.extend_from_slice(PROMPT),
        }
    }

    /// Appends what looks like the ends of replies and the starts of prompts, but with a token that was never given; where
    /// an answer is quoted on the wire, with the right one.
    pub(super) fn forge(self, nonce: &[u8], out: &mut Vec<u8>) {
        let wrong = [b'0'; NONCE];
        if self == Self::Acp {
            out.extend_from_slice(b"forged\n");
            return acp::end(nonce, out);
        }
        out.extend_from_slice(b"forged");
        self.end(&wrong, out);
        match self {
            Self::Framed => {
                out.extend_from_slice(READY);
                out.extend_from_slice(&wrong);
                out.extend_from_slice(b" \"forged\"\n");
                out.extend_from_slice(b"end\n end\n");
            }
            Self::Plain | Self::Acp => out.extend_from_slice(b"forged\n> > "),
        }
    }
}

fn framed(line: &[u8]) -> Option<Request<'_>> {
    let (nonce, rest) = line.split_at_checked(NONCE)?;
    let json = rest.strip_prefix(b" ")?;
    let inside = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !nonce.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    // Most prompts have nothing to unescape; a quote or a control character in them makes the line no JSON.
    let prompt = if inside
        .iter()
        .any(|byte| *byte == b'\\' || *byte == b'"' || *byte < b' ')
    {
        Cow::Owned(serde_json::from_slice::<String>(json).ok()?.into_bytes())
    } else {
        std::str::from_utf8(inside).ok()?;
        Cow::Borrowed(inside)
    };
    Some(Request {
        nonce: Cow::Borrowed(nonce),
        prompt,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_framed_line_is_decoded_exactly() {
        for (json, prompt) in [
            (r#""""#, ""),
            (r#""hello""#, "hello"),
            (
                r#""two\nlines \"quoted\" \\ \u00e9""#,
                "two\nlines \"quoted\" \\ é",
            ),
            ("\"é\u{2028}\"", "é\u{2028}"),
        ] {
            let line = format!("{TOKEN} {json}");
            let Ok(Message::Prompt(request)) = Dialect::Framed.decode(line.as_bytes()) else {
                panic!("{json}");
            };
            assert_eq!(
                (&*request.nonce, &*request.prompt),
                (TOKEN.as_bytes(), prompt.as_bytes())
            );
        }
    }

    #[test]
    fn a_line_that_is_no_prompt_is_refused() {
        for line in [
            String::new(),
            TOKEN.to_owned(),
            format!("{TOKEN} hello"),
            format!("{TOKEN} \""),
            format!("{TOKEN} \"a\"b\""),
            format!("{TOKEN} \"a\tb\""),
            format!("{TOKEN}  \"a\""),
            format!("{TOKEN} \"\\x\""),
            format!("{} \"a\"", TOKEN.replace('f', "g")),
        ] {
            assert!(Dialect::Framed.decode(line.as_bytes()).is_err(), "{line}");
        }
        let mut bytes = format!("{TOKEN} \"").into_bytes();
        bytes.extend([0xff, b'"']);
        assert!(Dialect::Framed.decode(&bytes).is_err(), "invalid UTF-8");
    }

    #[test]
    fn a_forged_mark_is_never_the_real_one() {
        let mut forged = Vec::new();
        Dialect::Framed.forge(TOKEN.as_bytes(), &mut forged);
        let mut end = Vec::new();
        Dialect::Framed.end(TOKEN.as_bytes(), &mut end);
        assert!(memchr::memmem::find(&forged, &end).is_none());
        assert!(memchr::memmem::find(&forged, b" end\n").is_some());
    }
}
