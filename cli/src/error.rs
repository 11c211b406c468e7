//! What went wrong, in the user's words.
//!
//! Owns the error that every command ends with and its two forms, text and JSON. Must not know commands. Invariant: one
//! error has one stable code and one exit code, and names the next step where there is one.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use toolpool::{
    AskError, ClusterError, DoubtCause, FailureClass, LaunchError, Outcome, ProfileError, Reply,
    SubmitError,
};

use crate::exit::Exit;
use crate::settings;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) exit: Exit,
    code: &'static str,
    message: String,
    retryable: bool,
    hint: Option<String>,
    next: Vec<String>,
}

/// The form of an error on stderr where JSON was asked for.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ErrorReport<'a> {
    v: u32,
    error: ErrorBody<'a>,
}

#[derive(Serialize, JsonSchema)]
struct ErrorBody<'a> {
    /// Stable; what programs look at.
    code: &'a str,
    /// What happened, for people.
    message: &'a str,
    /// Whether the same command may succeed if it is simply run again. Never true where the prompt may have run.
    retryable: bool,
    /// What may help.
    hint: Option<&'a str>,
    /// Commands that are the next step.
    next: &'a [String],
}

impl CliError {
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code,
            message: message.into(),
            retryable: false,
            hint: None,
            next: Vec::new(),
        }
    }

    /// Something about the command line or the surroundings that the user has to change.
    pub(crate) fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, code, message)
    }

    pub(crate) fn interrupted(exit: Exit) -> Self {
        let (code, message) = match exit {
            Exit::Terminated => ("terminated", "terminated before it was done"),
            _ => ("interrupted", "interrupted before it was done"),
        };
        Self::new(exit, code, message)
    }

    /// Says what became of what ran, too.
    pub(crate) fn telling(mut self, what: &str) -> Self {
        self.message = format!("{}: {what}", self.message);
        self
    }

    /// What happened, for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn next(mut self, command: impl Into<String>) -> Self {
        self.next.push(command.into());
        self
    }

    /// The text form: `error:`, why, and the next step last, where the eye is.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        if let Some(hint) = &self.hint {
            writeln!(text, "hint: {hint}").expect("a string takes any text");
        }
        if !self.next.is_empty() {
            writeln!(text, "next: {}", self.next.join("\n      "))
                .expect("a string takes any text");
        }
        text
    }

    /// The JSON form, on one line.
    pub(crate) fn json(&self) -> String {
        let report = ErrorReport {
            v: 1,
            error: ErrorBody {
                code: self.code,
                message: &self.message,
                retryable: self.retryable,
                hint: self.hint.as_deref(),
                next: &self.next,
            },
        };
        serde_json::to_string(&report).expect("text and numbers always have a JSON form") + "\n"
    }
}

/// Writing to stdout failed.
impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(
                Exit::PipeClosed,
                "pipe_closed",
                "nobody reads the output any more",
            ),
            _ => Self::new(
                Exit::TurnFailed,
                "output",
                format!("cannot write to standard output: {error}"),
            ),
        }
    }
}

/// The command that looks at a tool. One that is a file is known by its path alone.
fn doctor(tool: &str) -> String {
    let is_listed = settings::catalog().is_ok_and(|catalog| catalog.get(tool).is_ok());
    if is_listed {
        format!("toolpool doctor {tool}")
    } else {
        format!("toolpool doctor PATH/TO/{tool}.toml")
    }
}

impl From<ProfileError> for CliError {
    fn from(error: ProfileError) -> Self {
        let message = error.to_string();
        match error {
            ProfileError::UnknownTool { .. } => {
                Self::usage("unknown_tool", message).next("toolpool tools")
            }
            _ => Self::usage("bad_profile", message),
        }
    }
}

impl From<LaunchError> for CliError {
    fn from(error: LaunchError) -> Self {
        ClusterError::from(error).into()
    }
}

impl From<ClusterError> for CliError {
    fn from(error: ClusterError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        match error {
            ClusterError::Profile(error) => error.into(),
            ClusterError::Launch(
                LaunchError::ProgramNotFound { tool, .. }
                | LaunchError::NotExecutable { tool, .. }
                | LaunchError::NotLoggedIn { tool, .. },
            ) => Self::new(Exit::ToolUnusable, code, message)
                .next(doctor(&tool))
                .next("toolpool tools"),
            ClusterError::Launch(LaunchError::System { .. }) => {
                Self::new(Exit::NotReady, code, message).retryable()
            }
            ClusterError::NoneReady { tool, .. } => Self::new(Exit::NotReady, code, message)
                .retryable()
                .next(doctor(&tool)),
            ClusterError::Worktree(_) => Self::usage(code, message).hint(
                "with `--isolation shared` the instances work in the folder itself, without git",
            ),
            _ => Self::usage(code, message),
        }
    }
}

impl From<SubmitError> for CliError {
    fn from(error: SubmitError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        match error {
            SubmitError::Prompt(_) | SubmitError::NoInstance { .. } | SubmitError::NoFit { .. } => {
                Self::usage(code, message)
            }
            _ => Self::new(Exit::TryLater, code, message).retryable(),
        }
    }
}

impl From<AskError> for CliError {
    fn from(error: AskError) -> Self {
        let message = error.to_string();
        match error {
            AskError::Submit(error) => error.into(),
            AskError::Turn(reply) => Self::of_turn(&reply, message),
            _ => Self::new(Exit::TurnFailed, "unknown", message),
        }
    }
}

impl CliError {
    fn of_turn(reply: &Reply, message: String) -> Self {
        let code = reply.outcome.word();
        let error = match &reply.outcome {
            Outcome::Failed(failure) => match failure.class {
                FailureClass::RateLimit | FailureClass::Overloaded => {
                    Self::new(Exit::TryLater, code, message).retryable()
                }
                FailureClass::Network => Self::new(Exit::TurnFailed, code, message).retryable(),
                FailureClass::Auth => Self::new(Exit::ToolUnusable, code, message),
                FailureClass::Refused => Self::usage(code, message),
                FailureClass::SessionLost => Self::new(Exit::TurnFailed, code, message).hint(
                    "`--on-loss fresh` begins another conversation by itself, `--on-loss replay` with a record of this one",
                ),
                FailureClass::Unroutable | FailureClass::SessionUnavailable => Self::new(Exit::NotReady, code, message).retryable(),
                _ => Self::new(Exit::TurnFailed, code, message),
            },
            Outcome::Expired => Self::new(Exit::Timeout, code, message).retryable(),
            Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::TimedOut => {
                Self::new(Exit::Timeout, code, message)
                    .hint("`--turn-timeout` allows a turn more time, `--silence-timeout` more time between two signs of life")
            }
            Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::MemoryLimit => {
                Self::new(Exit::TurnFailed, code, message)
                    .hint("`--memory-limit` allows a tool's process more memory")
            }
            _ => Self::new(Exit::TurnFailed, code, message),
        };
        match &reply.tool {
            Some(tool) if is_of_the_tool(&reply.outcome) => {
                error.next(format!("toolpool doctor {tool}"))
            }
            _ => error,
        }
    }
}

/// Whether a look at the tool itself may tell more.
fn is_of_the_tool(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed(failure) => failure.class == FailureClass::Auth,
        Outcome::Indeterminate(doubt) => {
            matches!(doubt.cause, DoubtCause::Crashed | DoubtCause::ProtocolLost)
        }
        _ => false,
    }
}
