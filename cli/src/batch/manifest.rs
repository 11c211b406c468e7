//! What it takes to go on with a batch: its command line and its items, as they were when it began.
//!
//! Owns the file and the batch's name. Must not know what became of the items: that is in the journal. Invariant: the same
//! items, prompts and tool in the same folder have the same name, and any other have another.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::items::Item;
use crate::error::CliError;
use crate::settings::Settings;
use crate::whole_file::Readers;
use crate::{kept, whole_file};

/// Batches that an error names.
const NAMED: usize = 5;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    v: u32,
    /// The batch's name.
    pub(super) batch: String,
    /// The folder that the command was run in, for the paths on its command line.
    pub(super) folder: PathBuf,
    /// The command line, as far as it says what the batch is.
    pub(super) arguments: Vec<String>,
    /// Where its prompts and their ends are.
    pub(super) journal: PathBuf,
    pub(super) items: Vec<Item>,
}

/// The name of a batch.
pub(super) fn name(settings: &Settings, items: &[Item]) -> String {
    let mut parts: Vec<&[u8]> = vec![settings.cwd.as_os_str().as_encoded_bytes()];
    for group in &settings.groups {
        parts.push(group.profile.name.as_bytes());
        parts.extend(group.args.iter().map(String::as_bytes));
        // A border: an argument cannot look like the next tool.
        parts.push(&[0]);
    }
    parts.push(settings.role.as_deref().unwrap_or_default().as_bytes());
    for item in items {
        parts.push(if item.is_file { b"file" } else { b"line" });
        parts.push(item.name.as_bytes());
        parts.push(item.prompt.as_bytes());
    }
    format!("b{}", kept::fingerprint(parts))
}

impl Manifest {
    pub(super) fn new(
        batch: String,
        arguments: Vec<String>,
        journal: PathBuf,
        items: Vec<Item>,
    ) -> Result<Self, CliError> {
        Ok(Self {
            v: 1,
            batch,
            folder: std::env::current_dir()?,
            arguments,
            journal,
            items,
        })
    }

    pub(super) fn save(&self) -> Result<(), CliError> {
        let folder = kept::batches()?;
        kept::make_folder(&folder)?;
        let text = serde_json::to_vec(self).map_err(|_| {
            CliError::usage(
                "invalid",
                "a path on the command line is not UTF-8, so the batch cannot be kept; use another, or `--no-journal`",
            )
        })?;
        let path = folder.join(format!("{}.json", self.batch));
        // What --env was given may be a secret.
        whole_file::leave(&path, &text, Readers::User)
    }

    /// The batch whose name begins so.
    pub(super) fn find(name: &str) -> Result<Self, CliError> {
        let known = names(&kept::batches()?);
        let found: Vec<&String> = known
            .iter()
            .filter(|batch| batch.starts_with(name))
            .collect();
        match found[..] {
            // A variable of a script that is not set names no batch.
            _ if name.is_empty() => Err(CliError::usage(
                "unknown_batch",
                format!(
                    "an empty text is no beginning of a batch's name{}",
                    list(&known)
                ),
            )),
            [batch] => Self::read(batch),
            [] => {
                let error = CliError::usage(
                    "unknown_batch",
                    format!("no batch {name:?} was kept here{}", list(&known)),
                );
                Err(error.next("toolpool history batches"))
            }
            _ => {
                let known: Vec<String> = found.into_iter().cloned().collect();
                Err(CliError::usage(
                    "ambiguous_batch",
                    format!("more than one batch begins with {name:?}{}", list(&known)),
                ))
            }
        }
    }

    fn read(batch: &str) -> Result<Self, CliError> {
        let path = kept::batches()?.join(format!("{batch}.json"));
        let read = std::fs::read(&path).map_err(|error| error.to_string());
        let manifest: Result<Self, String> =
            read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        match manifest {
            Ok(manifest) if manifest.v == 1 => Ok(manifest),
            Ok(_) => Err(unusable(&path, "a later version of toolpool wrote it")),
            Err(error) => Err(unusable(&path, &error)),
        }
    }
}

/// Takes away what belongs to batches of which a journal knows no more.
pub(crate) fn forget(journal: &Path, known: &[String]) -> Result<(), CliError> {
    let folder = kept::batches()?;
    for batch in names(&folder) {
        if let Ok(manifest) = Manifest::read(&batch)
            && manifest.journal == journal
            && !known.contains(&batch)
        {
            // If it stays, it is in nobody's way.
            std::fs::remove_file(folder.join(format!("{batch}.json"))).ok();
        }
    }
    Ok(())
}

fn unusable(path: &Path, why: &str) -> CliError {
    CliError::usage(
        "bad_batch",
        format!("cannot go on with the batch of {}: {why}", path.display()),
    )
    .hint("the command that began it goes on with it too")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(".json")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => {
            let first: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("; there are: {}{more}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn a_long_list_of_batches_is_cut() {
        let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("b{n}")).collect() };
        assert_eq!(list(&[]), "");
        assert_eq!(list(&names(2)), "; there are: b0, b1");
        assert_eq!(
            list(&names(7)),
            "; there are: b0, b1, b2, b3, b4 and 2 more"
        );
    }
}
