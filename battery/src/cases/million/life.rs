//! A program that fills or prunes the journal until it is killed, and what it says.
//!
//! Owns the process. Must not judge what it does.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};
use toolpool_testkit::census::MARKER;

use crate::lab::program;
use crate::volume::{Deed, Volume};

/// One life of it.
pub(super) struct Life {
    child: Child,
    said: BufReader<ChildStdout>,
    /// All up to this number were acknowledged.
    pub(super) kept: u64,
    /// Above this number it leaves prompts at tools.
    pub(super) left_above: u64,
    /// It has said that all is done.
    pub(super) is_done: bool,
}

impl Life {
    pub(super) fn begin(volume: &Volume, deed: &Deed, marker: &str) -> Result<Self> {
        let orders = serde_json::to_string(&(volume, deed))?;
        let mut child = Command::new(program()?)
            .args(["--volume", &orders, "--marker", marker])
            .env(MARKER, marker)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start one who writes")?;
        let said = child.stdout.take().context("it is piped")?;
        Ok(Self {
            child,
            said: BufReader::new(said),
            kept: 0,
            left_above: match deed {
                Deed::Leave(until, _) => *until,
                Deed::Fill(_) | Deed::Prune(_) => u64::MAX,
            },
            is_done: false,
        })
    }

    /// The next line; None if it has ended.
    fn hear(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        // The last line of one that was killed may be cut.
        let Some(line) = line.strip_suffix('\n') else {
            return Ok(None);
        };
        if let Some(turn) = line.strip_prefix("kept ") {
            self.kept = turn.parse()?;
        }
        self.is_done |= line == "closed" || line.starts_with("pruned");
        Ok(Some(line.to_owned()))
    }

    /// Waits for a line that begins so.
    pub(super) fn until(&mut self, word: &str) -> Result<()> {
        loop {
            let line = self.hear()?;
            let line = line.with_context(|| format!("it ended and never said {word:?}"))?;
            if line.starts_with(word) {
                return Ok(());
            }
        }
    }

    /// Kills it, and hears the rest of what it has said.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        while self.hear()?.is_some() {}
        Ok(())
    }
}
