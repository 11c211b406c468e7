//! JSON-RPC over lines: what structured tools' protocols share.
//!
//! Owns the cutting of a stream into lines and the shape of a JSON-RPC message. Must not know any tool's methods.
//! Invariant: no input panics, no line grows without bound, and a line that is no JSON-RPC message is `None`, never an
//! error: tools print notices between their messages.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Outbox;
use crate::planted::planted;

/// The longest line that is taken from a tool, in bytes. Whole answers and whole diffs come on one line; lines of
/// several MiB were seen.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// JSON-RPC's code for a method that the receiver does not have.
pub const METHOD_NOT_FOUND: i64 = -32601;

/// Cuts a stream into lines.
#[derive(Debug)]
pub struct LineSplitter {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    limit: usize,
}

/// A line is longer than the limit. What follows cannot be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the tool wrote a line of more than {limit} bytes, which is more than its protocol needs; the process must be restarted"
)]
pub struct LineTooLong {
    /// The limit in bytes.
    pub limit: usize,
}

impl LineSplitter {
    /// A splitter for lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            begun: Vec::new(),
            limit,
        }
    }

    /// Takes the next whole line off the front of `bytes`, without its newline. `None` when `bytes` is used up; the rest
    /// of it is kept for the next call.
    ///
    /// # Errors
    /// [`LineTooLong`]; the splitter is of no use after that.
    pub fn next_line<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Cow<'a, [u8]>>, LineTooLong> {
        let end = memchr::memchr(b'\n', bytes);
        let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        if self.begun.len() + piece.len() > self.limit && !planted("line_unbounded") {
            return Err(LineTooLong { limit: self.limit });
        }
        *bytes = rest.get(1..).unwrap_or_default();
        Ok(match end {
            None => {
                self.begun.extend_from_slice(piece);
                None
            }
            Some(_) if self.begun.is_empty() => Some(Cow::Borrowed(piece)),
            Some(_) => {
                self.begun.extend_from_slice(piece);
                Some(Cow::Owned(std::mem::take(&mut self.begun)))
            }
        })
    }
}

/// The id of a request: each side counts its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Id {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

impl Id {
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_i64().map(Self::Number),
            Value::String(text) => Some(Self::Text(text.clone())),
            _ => None,
        }
    }
}

/// As it is in JSON, so that the number 7 and the text "7" differ.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// What the other side says went wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RpcError {
    /// Its code; 0 if there is none.
    pub code: i64,
    /// Its words; empty if there are none.
    pub message: String,
    /// What it adds; null if nothing.
    pub data: Value,
}

/// One message of the other side. Members that are absent or of another type read as null.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// It asks, and waits for a response.
    Request {
        /// To be repeated in the response.
        id: Id,
        /// What it asks for.
        method: String,
        /// With what.
        params: Value,
    },
    /// It tells.
    Notification {
        /// What it tells.
        method: String,
        /// With what.
        params: Value,
    },
    /// It answers a request.
    Response {
        /// The request's id.
        id: Id,
        /// What came of it.
        result: Result<Value, RpcError>,
    },
    /// It could not read something that was written to it: an error without an id.
    Unreadable(RpcError),
}

impl Message {
    /// Reads one line. `None` if it is no JSON-RPC message; the member `jsonrpc` is not asked for.
    pub fn parse(line: &[u8]) -> Option<Self> {
        // Only objects are messages, so notices need not reach the parser.
        let start = line.iter().position(|byte| !byte.is_ascii_whitespace())?;
        if line[start] != b'{' {
            return None;
        }
        let mut members: Map<String, Value> = serde_json::from_slice(&line[start..]).ok()?;
        let mut take = |name: &str| members.remove(name).unwrap_or_default();
        let (id, method) = (Id::read(&take("id")), take("method"));
        if let Value::String(method) = method {
            let params = take("params");
            return Some(match id {
                Some(id) => Self::Request { id, method, params },
                None => Self::Notification { method, params },
            });
        }
        let error = match take("error") {
            Value::Null => None,
            error => Some(RpcError::read(error)),
        };
        match (id, error) {
            (Some(id), Some(error)) => Some(Self::Response {
                id,
                result: Err(error),
            }),
            (Some(id), None) => {
                let result = members.remove("result")?;
                Some(Self::Response {
                    id,
                    result: Ok(result),
                })
            }
            (None, Some(error)) => Some(Self::Unreadable(error)),
            (None, None) => None,
        }
    }
}

impl RpcError {
    fn read(mut error: Value) -> Self {
        Self {
            code: error["code"].as_i64().unwrap_or_default(),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
            data: error.get_mut("data").map(Value::take).unwrap_or_default(),
        }
    }
}

/// Writes a request with an id of ours.
pub fn write_request(out: &mut Outbox, id: i64, method: &str, params: impl Serialize) {
    write(
        out,
        &Frame {
            id: Some(&Id::Number(id)),
            method: Some(method),
            params: Some(params),
            ..Frame::default()
        },
    );
}

/// Writes a notification.
pub fn write_notification(out: &mut Outbox, method: &str, params: Option<Value>) {
    write(
        out,
        &Frame {
            method: Some(method),
            params,
            ..Frame::default()
        },
    );
}

/// Answers a request of the other side.
pub fn write_result(out: &mut Outbox, id: &Id, result: Value) {
    write(
        out,
        &Frame::<Value> {
            id: Some(id),
            result: Some(result),
            ..Frame::default()
        },
    );
}

/// Answers a request of the other side with an error.
pub fn write_error(out: &mut Outbox, id: &Id, code: i64, message: &str) {
    write(
        out,
        &Frame::<Value> {
            id: Some(id),
            error: Some(serde_json::json!({"code": code, "message": message})),
            ..Frame::default()
        },
    );
}

#[derive(Serialize)]
struct Frame<'a, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

impl<P> Default for Frame<'_, P> {
    fn default() -> Self {
        Self {
            jsonrpc: "2.0",
            id: None,
            method: None,
            params: None,
            result: None,
            error: None,
        }
    }
}

fn write(out: &mut Outbox, frame: &impl Serialize) {
    let line = serde_json::to_vec(frame).expect("texts and JSON values can always be written");
    out.write(&line);
    out.write(b"\n");
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn lines(limit: usize, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut splitter = LineSplitter::new(limit);
        let mut lines = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(line) = splitter.next_line(&mut piece)? {
                lines.push(line.into_owned());
            }
        }
        Ok(lines)
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_bytes_are_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0_usize..200, 0..10),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let mut whole: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            // What follows the last newline is no line yet.
            whole.pop();
            prop_assert_eq!(lines(1000, &pieces), Ok(whole));
        }

        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Message::parse(&line);
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        let long = LineTooLong { limit: 4 };
        assert_eq!(lines(4, &[b"abcd\n"]), Ok(vec![b"abcd".to_vec()]));
        assert_eq!(lines(4, &[b"ab", b"cd\n"]), Ok(vec![b"abcd".to_vec()]));
        assert_eq!(lines(4, &[b"abcde\n"]), Err(long));
        assert_eq!(lines(4, &[b"ab", b"cde"]), Err(long), "before its end");
    }

    #[test]
    fn messages_are_told_apart_by_their_members() {
        let parse = |text: &str| Message::parse(text.as_bytes());
        let number = Id::Number(7);
        let text = Id::Text("7".to_owned());
        assert_eq!(
            parse(r#" {"id":7,"method":"m","params":{"a":1},"new":2}"#),
            Some(Message::Request {
                id: number.clone(),
                method: "m".to_owned(),
                params: json!({"a": 1})
            })
        );
        assert_eq!(
            parse(r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#),
            Some(Message::Notification {
                method: "m".to_owned(),
                params: Value::Null
            })
        );
        assert_eq!(
            parse("{\"id\":\"7\",\"result\":null}\r"),
            Some(Message::Response {
                id: text.clone(),
                result: Ok(Value::Null)
            })
        );
        assert_eq!(
            parse(r#"{"id":7,"error":{"code":-1,"message":"no","data":[1]}}"#),
            Some(Message::Response {
                id: number.clone(),
                result: Err(RpcError {
                    code: -1,
                    message: "no".to_owned(),
                    data: json!([1])
                })
            })
        );
        assert_eq!(
            parse(r#"{"id":null,"error":"odd"}"#),
            Some(Message::Unreadable(RpcError::default()))
        );
        assert_ne!(number.to_string(), text.to_string());
        for noise in [
            "",
            "  ",
            "warning: {\"id\":7}",
            "[]",
            "{}",
            "{\"id\":7}",
            "{\"id\":7,\"result\":1",
            "{\"id\":[7],\"result\":1}",
            "7",
        ] {
            assert_eq!(parse(noise), None, "{noise:?}");
        }
    }

    #[test]
    fn what_is_written_is_one_line_that_reads_back() {
        let mut out = Outbox::new(Instant::now());
        write_request(&mut out, 1, "a/b", json!({"text": "two\nlines \u{2028}"}));
        write_notification(&mut out, "c", None);
        write_result(&mut out, &Id::Text("x".to_owned()), json!({}));
        write_error(&mut out, &Id::Number(0), METHOD_NOT_FOUND, "what?");
        let written = String::from_utf8(out.take_write()).expect("JSON is UTF-8");
        let read: Vec<Message> = written
            .lines()
            .map(|line| Message::parse(line.as_bytes()).expect("a message"))
            .collect();
        assert_eq!(
            read,
            [
                Message::Request {
                    id: Id::Number(1),
                    method: "a/b".to_owned(),
                    params: json!({"text": "two\nlines \u{2028}"})
                },
                Message::Notification {
                    method: "c".to_owned(),
                    params: Value::Null
                },
                Message::Response {
                    id: Id::Text("x".to_owned()),
                    result: Ok(json!({}))
                },
                Message::Response {
                    id: Id::Number(0),
                    result: Err(RpcError {
                        code: METHOD_NOT_FOUND,
                        message: "what?".to_owned(),
                        data: Value::Null
                    })
                },
            ]
        );
    }
}
