//! The command line of the stand-in.
//!
//! Owns the option names. Must not start anything; it reads the script file, because a rule that makes no sense is a
//! wrong command line.

use std::path::PathBuf;

use super::grammar;
use super::script::{Script, Sleeper};

/// What a plain reply is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Formula {
    /// `echo ` and the prompt.
    Echo,
    /// The SHA-256 of this seed and the prompt.
    Sha256(Vec<u8>),
}

/// How prompts and replies are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Framed,
    Plain,
    /// JSON-RPC of the Agent Client Protocol.
    Acp,
}

#[derive(Debug)]
pub(super) struct Options {
    pub(super) dialect: Dialect,
    pub(super) formula: Formula,
    pub(super) edits: bool,
    pub(super) script: Script,
    pub(super) ledger: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) enum Command {
    Help,
    PrintEnvironment,
    /// Internal: what `fork` starts.
    Sleep(Sleeper),
    Run(Options),
}

/// The word by which the stand-in starts itself as a sleeper; the rest of the arguments is as after `fork N`.
pub(super) const SLEEPER: &str = "--sleeper";

pub(super) fn parse(args: &[String]) -> Result<Command, String> {
    if let Some((SLEEPER, rest)) = args
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return grammar::parse_sleeper(&rest.join(" ")).map(Command::Sleep);
    }
    let mut options = Options {
        dialect: Dialect::Framed,
        formula: Formula::Echo,
        edits: false,
        script: Script::default(),
        ledger: None,
    };
    let mut seed = String::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .ok_or_else(|| format!("{arg} needs a value; see --help"))
        };
        match arg.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--print-env" => return Ok(Command::PrintEnvironment),
            "--plain" => options.dialect = Dialect::Plain,
            "--acp" => options.dialect = Dialect::Acp,
            "--edits" => options.edits = true,
            "--seed" => seed.clone_from(value()?),
            "--reply" => {
                options.formula = match value()?.as_str() {
                    "echo" => Formula::Echo,
                    "sha256" => Formula::Sha256(Vec::new()),
                    other => {
                        return Err(format!(
                            "--reply {other} is unknown; accepted are: echo, sha256"
                        ));
                    }
                }
            }
            "--ledger" => options.ledger = Some(PathBuf::from(value()?)),
            "--do" => options.script.0.push(grammar::parse_rule(value()?)?),
            "--script" => {
                let path = value()?;
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read {path}: {error}"))?;
                let rules =
                    grammar::parse_script(&text).map_err(|problem| format!("{path}: {problem}"))?;
                options.script.0.extend(rules);
            }
            other => return Err(format!("unknown option {other}; see --help")),
        }
    }
    if let Formula::Sha256(bytes) = &mut options.formula {
        *bytes = seed.into_bytes();
    }
    Ok(Command::Run(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Command, String> {
        parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_seed_may_come_before_or_after_the_formula() {
        for words in [
            ["--seed", "s", "--reply", "sha256"],
            ["--reply", "sha256", "--seed", "s"],
        ] {
            match parse_words(&words) {
                Ok(Command::Run(options)) => {
                    assert_eq!(options.formula, Formula::Sha256(b"s".to_vec()))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_wrong_option_is_named() {
        for (words, problem) in [
            (&["--wrong"][..], "unknown option --wrong"),
            (&["--seed"], "--seed needs a value"),
            (&["--reply", "x"], "accepted are: echo, sha256"),
            (&["--do", "on turn 1"], "rule `on turn 1`"),
            (
                &["--script", "/nonexistent/file"],
                "cannot read /nonexistent/file",
            ),
            (&[SLEEPER, "ignore", "KILL"], "cannot be caught"),
        ] {
            let error = parse_words(words).expect_err("a wrong option");
            assert!(error.contains(problem), "{error}");
        }
    }
}
