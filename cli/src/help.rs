//! `toolpool help`, and what `toolpool` alone says.
//!
//! Owns the texts that belong to no command. Must not know what commands do.

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::console::print;
use crate::error::CliError;
use crate::exit::{self, Exit};

#[derive(Debug, clap::Args)]
pub(crate) struct HelpArgs {
    /// A command, or the topic exit-codes
    #[arg(value_name = "COMMAND|exit-codes")]
    topic: Vec<String>,
}

const WELCOME: &str = "\
toolpool launches copies of an interactive command-line tool (aider, a shell, any REPL), and makes them one
dependable service: prompts are queued, routed, answered exactly once in the books; what crashes comes back.

  toolpool demo                        try it now: 3 stand-ins, no account, no network, 3 seconds
  toolpool rehearse                    see crashes, hangs and floods, and what toolpool does about them
  toolpool doctor                      what is ready to use here, and how to fix what is not
  toolpool tools                       the tools that are known
  toolpool ask --tool NAME \"…\"         one prompt, its answer on stdout
  toolpool batch --tool NAME 'src/**/*.py' -p 'Add docstrings to {file}'
                                       one turn and one commit for each file; the same again goes on
  toolpool history WORD                what was asked and answered, and what became of it

  toolpool help COMMAND                all options            toolpool help exit-codes
";

/// What the program is and how to start.
pub(crate) fn welcome() -> Result<Exit, CliError> {
    print(WELCOME.as_bytes())?;
    Ok(Exit::Done)
}

pub(crate) fn run(args: &HelpArgs) -> Result<Exit, CliError> {
    if args.topic == ["exit-codes"] {
        print(exit::table().as_bytes())?;
        return Ok(Exit::Done);
    }
    let mut command = Cli::command();
    command.build();
    let mut chosen = &mut command;
    for word in &args.topic {
        let known: Vec<String> = chosen
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        chosen = chosen.find_subcommand_mut(word).ok_or_else(|| {
            CliError::usage(
                "unknown_topic",
                format!(
                    "there is no help about {word:?}; there is help about: exit-codes, {}",
                    known.join(", ")
                ),
            )
        })?;
    }
    let text = chosen.render_long_help();
    print(text.to_string().as_bytes())?;
    Ok(Exit::Done)
}
