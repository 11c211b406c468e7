//! Works out how a turn ended from the events that aider logs and from what it printed.
//!
//! Owns the table of provider errors. Must not know how the end of the turn was found. Invariant: the log decides
//! whether there was an error; the screen, on which a model can write what it likes, only says which one.

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use crate::outcome::{Failure, FailureClass, Outcome, Usage};

/// The longest message of a failure, in characters.
const MAX_MESSAGE: usize = 600;

/// How aider's model library begins each error.
static PROVIDER_ERROR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"litellm\.([A-Za-z]+): ").expect("the pattern is valid"));
/// aider's own account of a full context or a cut answer.
static TOKEN_LIMIT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^Model .* has hit a token limit!$").expect("the pattern is valid")
});
/// The line behind every answer that was received to its end.
static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^Tokens: \S+ sent, .*received\.").expect("the pattern is valid")
});
/// Advice in the words of several providers: "Please try again in 1.2s", "retry after 20 seconds".
static RETRY_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:try again|retry|retrying) (?:in|after) (\d+(?:\.\d+)?) ?(ms|s|seconds?|m|minutes?)\b")
        .expect("the pattern is valid")
});

/// What the event log says about a turn.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Events {
    /// Requests that aider began.
    asked: usize,
    /// Whether the last of them was answered.
    answered: bool,
    /// Tokens of the last answer.
    last_output: u64,
    /// The text of an error of aider itself.
    exception: Option<String>,
    input: u64,
    output: u64,
    cost: f64,
    reported: bool,
}

impl Events {
    /// Reads the lines of the log; what is not an event that matters is passed over.
    pub(super) fn parse(log: &[u8]) -> Self {
        let mut events = Self::default();
        let lines = log.split(|&b| b == b'\n');
        for entry in lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
            let properties = &entry["properties"];
            let number = |key: &str| properties[key].as_u64().unwrap_or(0);
            match entry["event"].as_str() {
                Some("message_send_starting") => {
                    events.asked += 1;
                    events.answered = false;
                }
                Some("message_send") => {
                    events.answered = true;
                    events.reported = true;
                    events.last_output = number("completion_tokens");
                    events.input = events.input.saturating_add(number("prompt_tokens"));
                    events.output = events.output.saturating_add(events.last_output);
                    events.cost += properties["cost"].as_f64().unwrap_or(0.0);
                }
                Some("message_send_exception") => {
                    let text = properties["exception"].as_str().unwrap_or_default();
                    events.exception = Some(text.to_owned());
                }
                _ => {}
            }
        }
        events
    }

    /// Whether aider began to ask a model.
    pub(super) fn asked_a_model(&self) -> bool {
        self.asked > 0
    }

    /// Tokens and cost of all requests of the turn. A cost of zero means that aider knows no price.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.reported.then(|| Usage {
            input_tokens: Some(self.input),
            output_tokens: Some(self.output),
            cost_usd: (self.cost > 0.0).then_some(self.cost),
        })
    }

    /// How a turn that ran to its end came out. `partial` says that a piece of an answer was received.
    pub(super) fn outcome(&self, screen: &str, partial: bool) -> Outcome {
        if let Some(exception) = &self.exception {
            let message = format!("aider failed by itself: {}", clip(exception));
            return failed(FailureClass::Unknown, message, None);
        }
        let error = PROVIDER_ERROR.captures_iter(screen).last();
        let error_at = error
            .as_ref()
            .and_then(|found| found.get(0))
            .map(|whole| whole.start());
        let tokens_at = TOKENS.find_iter(screen).last().map(|line| line.start());
        let limit = TOKEN_LIMIT.find_iter(screen).last();
        // A model that writes about limits or errors does so before the line that ends its answer.
        if let Some(limit) = limit
            && Some(limit.start()) > tokens_at.max(error_at)
        {
            let message = clip(&screen[limit.start()..]);
            return failed(FailureClass::ContextTooLarge, message, None);
        }
        if self.answered {
            return if self.last_output == 0 {
                let message = "the model answered nothing; check the account and the model's name";
                failed(FailureClass::EmptyAnswer, message.to_owned(), None)
            } else {
                Outcome::Completed
            };
        }
        let Some(at) = error_at else {
            let message = format!("aider got no answer: {}", clip(last_lines(screen)));
            return failed(FailureClass::Unknown, message, None);
        };
        let text = &screen[at..];
        let name = error
            .as_ref()
            .and_then(|found| found.get(1))
            .map_or("", |name| name.as_str());
        let mut message = clip(text);
        if partial {
            message.push_str("\nPart of an answer had arrived, and aider may have applied it.");
        }
        failed(class(name, text), message, retry_after(text))
    }
}

fn failed(class: FailureClass, message: String, retry_after: Option<Duration>) -> Outcome {
    Outcome::Failed(Failure {
        class,
        message,
        retry_after,
    })
}

/// The classes of the errors of aider's model library.
fn class(name: &str, text: &str) -> FailureClass {
    // A server that cannot be reached is reported as a server error.
    if text.contains("Connection error") || text.contains("Connection refused") {
        return FailureClass::Network;
    }
    match name {
        "RateLimitError" | "RouterRateLimitError" | "BudgetExceededError" => {
            FailureClass::RateLimit
        }
        "InternalServerError" | "ServiceUnavailableError" | "BadGatewayError" => {
            FailureClass::Overloaded
        }
        "AuthenticationError" | "PermissionDeniedError" => FailureClass::Auth,
        "BadRequestError"
        | "NotFoundError"
        | "InvalidRequestError"
        | "UnprocessableEntityError"
        | "UnsupportedParamsError"
        | "ContentPolicyViolationError"
        | "JSONSchemaValidationError"
        | "ImageFetchError" => FailureClass::BadRequest,
        "ContextWindowExceededError" => FailureClass::ContextTooLarge,
        "APIConnectionError" | "Timeout" => FailureClass::Network,
        _ => FailureClass::Unknown,
    }
}

fn retry_after(text: &str) -> Option<Duration> {
    let found = RETRY_AFTER.captures(text)?;
    let number: f64 = found.get(1)?.as_str().parse().ok()?;
    let seconds = match found.get(2)?.as_str().to_ascii_lowercase().as_str() {
        "ms" => number / 1000.0,
        unit if unit.starts_with('m') => number * 60.0,
        _ => number,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

fn clip(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The last few lines of a text.
fn last_lines(text: &str) -> &str {
    let start = text
        .trim_end()
        .rmatch_indices('\n')
        .nth(3)
        .map_or(0, |(at, _)| at + 1);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: &str = r#"{"event":"message_send_starting","properties":{}}"#;
    const ANSWERED: &str = r#"{"event":"message_send","properties":{"prompt_tokens":5,"completion_tokens":2,"cost":0.5}}"#;

    fn outcome(events: &[&str], screen: &str) -> Outcome {
        Events::parse(events.join("\n").as_bytes()).outcome(screen, false)
    }

    fn failure(events: &[&str], screen: &str) -> (FailureClass, Option<Duration>) {
        match outcome(events, screen) {
            Outcome::Failed(failure) => (failure.class, failure.retry_after),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_provider_error_has_its_class() {
        for (text, expected) in [
            ("litellm.RateLimitError: slow", FailureClass::RateLimit),
            (
                "litellm.InternalServerError: boom",
                FailureClass::Overloaded,
            ),
            (
                "litellm.InternalServerError: Connection error.",
                FailureClass::Network,
            ),
            ("litellm.AuthenticationError: key", FailureClass::Auth),
            ("litellm.NotFoundError: model", FailureClass::BadRequest),
            ("litellm.Timeout: late", FailureClass::Network),
            ("litellm.APIError: what", FailureClass::Unknown),
            ("something else", FailureClass::Unknown),
        ] {
            assert_eq!(failure(&[STARTED], text).0, expected, "{text}");
        }
    }

    #[test]
    fn the_last_error_counts_and_a_quoted_one_in_an_answer_does_not() {
        let screen = "litellm.RateLimitError: a\nRetrying in 0.2 seconds...\nlitellm.Timeout: b\n";
        assert_eq!(failure(&[STARTED], screen).0, FailureClass::Network);
        let quoted =
            "litellm.Timeout: b\nModel x has hit a token limit!\nTokens: 1k sent, 2 received.\n";
        assert_eq!(outcome(&[STARTED, ANSWERED], quoted), Outcome::Completed);
    }

    #[test]
    fn a_full_context_is_told_from_an_answer_about_one() {
        let full = "Tokens: 1k sent, 0 received.\n\nModel x has hit a token limit!\n";
        assert_eq!(
            failure(&[STARTED, ANSWERED], full).0,
            FailureClass::ContextTooLarge
        );
        let cut = "half\n\nModel x has hit a token limit!\n";
        assert_eq!(failure(&[STARTED], cut).0, FailureClass::ContextTooLarge);
        let forged = "Model x has hit a token limit!\nlitellm.Timeout: b\n";
        assert_eq!(failure(&[STARTED], forged).0, FailureClass::Network);
    }

    #[test]
    fn only_the_last_request_decides_and_all_are_paid_for() {
        let events = Events::parse(
            [STARTED, ANSWERED, "not JSON", STARTED, ANSWERED]
                .join("\n")
                .as_bytes(),
        );
        assert_eq!(events.outcome("", false), Outcome::Completed);
        let usage = events.usage().expect("reported");
        assert_eq!(
            (usage.input_tokens, usage.output_tokens, usage.cost_usd),
            (Some(10), Some(4), Some(1.0))
        );
        assert_eq!(
            failure(&[STARTED, ANSWERED, STARTED], "litellm.Timeout: b").0,
            FailureClass::Network
        );
    }

    #[test]
    fn an_exception_of_aider_itself_is_reported_in_its_words() {
        let exception = r#"{"event":"message_send_exception","properties":{"exception":"oops"}}"#;
        let Outcome::Failed(failure) = outcome(&[STARTED, exception], "") else {
            panic!("not failed")
        };
        assert!(failure.message.contains("oops"));
    }

    #[test]
    fn advice_on_when_to_try_again_is_read() {
        for (text, expected) in [
            (
                "litellm.RateLimitError: Please try again in 1.5s.",
                Some(1500),
            ),
            (
                "litellm.RateLimitError: try again in 20 seconds",
                Some(20_000),
            ),
            ("litellm.RateLimitError: retry after 250ms", Some(250)),
            ("litellm.RateLimitError: Try again in 2m", Some(120_000)),
            ("litellm.RateLimitError: no idea\nRetrying in soon", None),
        ] {
            assert_eq!(
                failure(&[STARTED], text).1,
                expected.map(Duration::from_millis),
                "{text}"
            );
        }
    }
}
