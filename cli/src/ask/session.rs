//! A conversation that goes on from one command to the next.
//!
//! Owns the options of a session. Must not know how it is found again: the journal does.

use std::path::{Path, PathBuf};

use toolpool::{OnLoss, Submission};

use crate::error::CliError;
use crate::journal;

#[derive(Debug, clap::Args)]
pub(crate) struct SessionArgs {
    /// Go on with the conversation of this name, or begin it; the journal knows it from run to run
    #[arg(
        long,
        value_name = "KEY",
        conflicts_with = "all",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    session: Option<String>,
    /// Where the tool cannot go on with it: fail; fresh, begin another; replay[:BYTES], begin another with a record of
    /// what was said
    #[arg(
        long,
        value_name = "CHOICE",
        default_value = "fail",
        hide_default_value = true,
        requires = "session"
    )]
    on_loss: OnLoss,
}

impl SessionArgs {
    /// The journal that is needed: the one that was named, or that of the working folder if there is a session.
    pub(super) fn journal(
        &self,
        named: Option<PathBuf>,
        cwd: &Path,
    ) -> Result<Option<PathBuf>, CliError> {
        match (named, &self.session) {
            (None, Some(_)) => Ok(Some(journal::path(None, cwd)?)),
            (named, _) => Ok(named),
        }
    }

    /// The prompt in its conversation.
    pub(super) fn bind(&self, submission: Submission) -> Submission {
        match &self.session {
            Some(key) => submission.session(key).on_loss(self.on_loss),
            None => submission,
        }
    }
}
