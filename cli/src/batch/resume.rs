//! The command line of a batch, kept and taken up again.
//!
//! Owns which options belong to the batch and which to one run of it. Must not know what the options mean. Invariant: an
//! option that is given now counts before the one that was given when the batch began.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory as _, Parser as _};

use super::BatchArgs;
use super::manifest::Manifest;
use crate::args::{Cli, Command};
use crate::error::CliError;

/// Options of one run. The others say what the batch is.
const OF_A_RUN: [&str; 7] = [
    "help", "resume", "rerun", "output", "report", "junit", "dry_run",
];

/// The options that say what the batch is, as a command line.
pub(super) fn given() -> Result<Vec<String>, CliError> {
    let now = matches(std::env::args_os())?;
    written(&[&now], |id| !OF_A_RUN.contains(&id))
}

/// The options that the batch began with, and over them those that are given now.
pub(super) fn taken_up(manifest: &Manifest) -> Result<BatchArgs, CliError> {
    let begun = ["toolpool", "batch"].into_iter().map(str::to_owned);
    let begun = begun.chain(manifest.arguments.iter().cloned());
    let (now, begun) = (
        matches(std::env::args_os())?,
        matches(begun.map(OsString::from))?,
    );
    let mut line = vec!["toolpool".to_owned(), "batch".to_owned()];
    line.extend(written(&[&now, &begun], |id| id != "resume")?);
    match Cli::try_parse_from(line) {
        Ok(Cli {
            command: Some(Command::Batch(args)),
        }) => Ok(args),
        Ok(_) => Err(unfit("it is no batch")),
        Err(wrong) => Err(unfit(&wrong.to_string())),
    }
}

fn matches(line: impl IntoIterator<Item = OsString>) -> Result<ArgMatches, CliError> {
    let matches = Cli::command().try_get_matches_from(line);
    let mut matches = matches.map_err(|wrong| unfit(&wrong.to_string()))?;
    let command = matches.remove_subcommand();
    Ok(command.ok_or_else(|| unfit("it is no batch"))?.1)
}

/// A command line with each option from the first that has it: given in so many words first, by the environment after.
fn written(from: &[&ArgMatches], wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, CliError> {
    let mut command = Cli::command();
    command.build();
    let batch = command.find_subcommand("batch").expect("it is a command");
    let (mut options, mut patterns, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for argument in batch.get_arguments() {
        let id = argument.get_id().as_str();
        let has = |source: ValueSource| {
            let mut from = from.iter();
            from.find(|matches| {
                matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(source)
            })
        };
        let found = has(ValueSource::CommandLine).or_else(|| has(ValueSource::EnvVariable));
        let (Some(found), true) = (found, wanted(id)) else {
            continue;
        };
        let name = argument.get_long().map(|long| format!("--{long}"));
        if let (ArgAction::SetTrue, Some(name)) = (argument.get_action(), &name) {
            options.push(name.clone());
            continue;
        }
        for value in found.get_raw(id).into_iter().flatten() {
            let value = value
                .to_str()
                .ok_or_else(|| unfit(&format!("{} is not UTF-8", value.display())))?;
            match &name {
                Some(name) => options.push(format!("{name}={value}")),
                None if argument.is_last_set() => last.push(value.to_owned()),
                None => patterns.push(value.to_owned()),
            }
        }
    }
    options.append(&mut patterns);
    if !last.is_empty() {
        options.push("--".to_owned());
        options.append(&mut last);
    }
    Ok(options)
}

fn unfit(why: &str) -> CliError {
    CliError::usage(
        "invalid",
        format!("the batch's command line cannot be kept or taken up: {why}"),
    )
    .hint("`--no-journal` runs a batch that is not kept")
}
