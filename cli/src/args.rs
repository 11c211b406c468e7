//! The command line.
//!
//! Owns the commands' names, order and examples. Must not know what they do. Invariant: every command's help begins with
//! what it is and how it is used.

use clap::{Parser, Subcommand};

use crate::ask::AskArgs;
use crate::batch::BatchArgs;
use crate::bench::BenchArgs;
use crate::console::{Format, ListFormat};
use crate::demo::DemoArgs;
use crate::doctor::DoctorArgs;
use crate::events::EventsArgs;
use crate::help::HelpArgs;
use crate::history::HistoryArgs;
use crate::logs::LogsArgs;
use crate::rehearse::RehearseArgs;
use crate::resolve::ResolveArgs;
use crate::schema::SchemaArgs;
use crate::tools::ToolsArgs;

/// Examples before options.
const TEMPLATE: &str =
    "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Launches copies of an interactive command-line tool and makes them one dependable service
#[derive(Debug, Parser)]
#[command(name = "toolpool", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a cluster at work, without an account or a network
    #[command(help_template = TEMPLATE)]
    Demo(DemoArgs),
    /// Rehearse faults on stand-ins: see what happens before it happens to you
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  toolpool rehearse
  toolpool rehearse --do 'on turn 3 exit 1'
  toolpool rehearse -n 5 --prompts 40 --do 'on every 7 hang' --do 'on prompt ~13 flood 64MiB'
  toolpool rehearse --rules
")]
    Rehearse(RehearseArgs),
    /// Send one prompt; the answer goes to stdout, the story to stderr
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  toolpool ask --tool aider 'What does auth.rs guard against?' > note.md
  git diff | toolpool ask --tool aider -q 'One-line commit message for this'
  toolpool ask --tool aider --file src/auth.rs 'Add a docstring to every function'
  toolpool ask --tool aider -n 3 --all 'In one line: riskiest file here?'
  toolpool ask --tool aider:2 --tool codex --all 'In one line: riskiest file here?'
  toolpool ask --tool aider --tool codex --role security=codex --role security 'What can go wrong in auth.rs?'
  toolpool ask --tool aider --command /tokens

In a git repository, a tool that edits files works in a worktree, and its changes land as one commit on the \
branch that is checked out. Your uncommitted changes are not touched, and the tool does not see them.
")]
    Ask(AskArgs),
    /// Run one turn for each file or line, several at a time
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  toolpool batch --tool aider -n 3 'src/**/*.py' -p 'Add docstrings to {file}'
  toolpool batch --tool aider 'src/*.rs' -p 'Port {file} to the new API' --dry-run
  toolpool batch --tool bash --items hosts.txt -p 'ping -c1 {item}' -o jsonl
  toolpool batch --resume b3f9
  toolpool batch --resume b3f9 --rerun failed -n 6

A batch that was interrupted or killed goes on with what is left when the same command is run again in the same \
folder, or with --resume. What is in doubt is listed and not run.
Each item gets an empty conversation, and its changes land as one commit on the branch that is checked out. \
The first Ctrl-C finishes the running items, the second stops them, the third leaves at once.
")]
    Batch(BatchArgs),
    /// Search what was asked and answered, and what became of it
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  toolpool history
  toolpool history 'token refresh' --tool aider --outcome completed --since 3d
  toolpool history --batch b3f9 --outcome indeterminate
  toolpool history show t17
  toolpool history show t17 --answer > note.md
  toolpool history batches
  toolpool history --sql 'select tool, state, count(*) from history group by 1, 2'
  toolpool history export > all.jsonl
  toolpool history prune --older-than 30d

Batches keep a journal of their own for each working folder, and `ask --journal FILE` one in a file. It can be read \
while they write.
")]
    History(HistoryArgs),
    /// Show when instances were started and how they ended
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  toolpool logs
  toolpool logs main/2 --since 2h
")]
    Logs(LogsArgs),
    /// Print what happened, event by event
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  toolpool events
  toolpool events --since 2h
  toolpool events --since 881 --follow -o jsonl
")]
    Events(EventsArgs),
    /// Say what became of a prompt that is in doubt
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  toolpool resolve t17 --as completed --note 'the commit is there'
  toolpool resolve t17 --as failed
")]
    Resolve(ResolveArgs),
    /// List the tools that are known here, show one, or try one
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  toolpool tools
  toolpool tools show aider
  toolpool tools test aider --yes --arg=--model --arg=MODEL

A tool of your own is one file, NAME.toml, in toolpool/tools of $XDG_CONFIG_HOME (or ~/.config).
")]
    Tools(ToolsArgs),
    /// Check what is ready to use here, and say how to fix what is not
    #[command(help_template = TEMPLATE)]
    Doctor(DoctorArgs),
    /// Measure what toolpool itself costs
    #[command(help_template = TEMPLATE)]
    Bench(BenchArgs),
    /// Print the JSON schemas of everything that is printed as JSON
    #[command(help_template = TEMPLATE)]
    Schema(SchemaArgs),
    /// Explain a command, or the exit codes
    #[command(help_template = TEMPLATE)]
    Help(HelpArgs),
}

impl Command {
    /// Whether errors are to be told as JSON too.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Ask(args) => args.output != Format::Text,
            Self::Batch(args) => args.output != Format::Text,
            Self::History(args) => args.wants_json(),
            Self::Logs(args) => args.output != Format::Text,
            Self::Events(args) => args.output != Format::Text,
            Self::Resolve(args) => args.output != Format::Text,
            Self::Tools(args) => args.output == ListFormat::Json,
            Self::Doctor(args) => args.output == ListFormat::Json,
            Self::Rehearse(args) => args.output == ListFormat::Json,
            Self::Demo(_) | Self::Bench(_) | Self::Schema(_) | Self::Help(_) => false,
        }
    }
}

/// As [`Command::wants_json`], for a command line that could not be understood.
pub(crate) fn seems_to_want_json(arguments: &[std::ffi::OsString]) -> bool {
    let is_json = |value: &str| matches!(value, "json" | "jsonl");
    let words: Vec<&str> = arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .collect();
    words
        .windows(2)
        .any(|pair| matches!(pair[0], "-o" | "--output") && is_json(pair[1]))
        || words.iter().any(|word| {
            ["--output=", "-o=", "-o"]
                .iter()
                .any(|option| word.strip_prefix(option).is_some_and(is_json))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wish_for_json_is_seen_in_a_command_line_that_is_wrong() {
        for (line, json) in [
            ("ask -o json --what", true),
            ("ask -ojsonl", true),
            ("ask --output=json", true),
            ("ask -o text", false),
            ("ask json", false),
            ("", false),
        ] {
            let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
            assert_eq!(seems_to_want_json(&words), json, "{line}");
        }
    }
}
