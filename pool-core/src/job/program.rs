//! Jules by its command-line program.
//!
//! Owns its command lines and the reading of what it prints, which is text for people. Must not know when to ask, nor what
//! follows from an answer. Invariants: the prompt is one argument behind its option, so it is never a command; a table is
//! read by its words, never by the position of its columns.
//!
//! The commands are those of the documentation of jules 0.1.42. It prints no JSON, waits for nothing and stops nothing.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use regex::Regex;

use super::machine::{Found, Kind, State, Step, Trouble, Work};
use crate::outcome::FailureClass;

/// The longest of its messages that is passed on, in characters.
const LONGEST_MESSAGE: usize = 1000;

/// The program.
pub(super) struct Program {
    path: PathBuf,
    repository: String,
}

impl Program {
    pub(super) fn new(path: PathBuf, repository: String) -> Self {
        Self { path, repository }
    }

    /// Does one step; blocks until the program has ended.
    pub(super) fn perform(&self, step: &Step) -> Result<Found, Trouble> {
        match step {
            // It has no other way to tell whether somebody is logged in.
            Step::Probe => self
                .run(&["remote", "list", "--session"])
                .map(|_| Found::Probed),
            Step::Create { prompt } => {
                if prompt.contains('\0') {
                    return Err(trouble(
                        Kind::No(FailureClass::BadRequest),
                        "the prompt has a zero byte, which no command line can hold".to_owned(),
                    ));
                }
                let said = self.run(&[
                    "remote",
                    "new",
                    "--repo",
                    &self.repository,
                    "--session",
                    prompt,
                ])?;
                created(&said)
            }
            Step::Look { id } => {
                let table = self.run(&["remote", "list", "--session"])?;
                Ok(Found::Seen(state_of(id, &table)?))
            }
            Step::Fetch {
                id,
                state: State::Completed,
            } => {
                let said = self.run(&["remote", "pull", "--session", id])?;
                Ok(Found::Fetched(pulled(&said)))
            }
            // What a job asks, or why it failed, is to be read in the browser only.
            Step::Fetch { .. } => Ok(Found::Fetched(Work::default())),
            // Not a question for the service.
            Step::Apply { .. } => Ok(Found::Applied),
        }
    }

    /// What it prints, if it ends well.
    fn run(&self, args: &[&str]) -> Result<String, Trouble> {
        let output = Command::new(&self.path)
            .args(args)
            // With a terminal it would start its full screen.
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                trouble(
                    Kind::NotNow(FailureClass::Unknown),
                    format!("cannot run {}: {error}", self.path.display()),
                )
            })?;
        ended(args[1], &output)
    }
}

fn trouble(kind: Kind, message: String) -> Trouble {
    Trouble {
        kind,
        message,
        retry_after: None,
    }
}

/// What it printed, or what its end means.
fn ended(command: &str, output: &Output) -> Result<String, Trouble> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    // It may say so and still exit with 0.
    if all.contains("did you forget to login") {
        return Err(trouble(
            Kind::No(FailureClass::Auth),
            "nobody is logged in to Jules; run `jules login`, or `jules login --no-launch-browser` where there is no browser".to_owned(),
        ));
    }
    if output.status.success() {
        return Ok(stdout);
    }
    let words: Vec<&str> = all.split_whitespace().collect();
    let said: String = words.join(" ").chars().take(LONGEST_MESSAGE).collect();
    Err(trouble(
        Kind::Unknown,
        format!(
            "`jules remote {command}` ended with {}: {said}",
            output.status
        ),
    ))
}

/// The id and the address of a new session.
fn created(said: &str) -> Result<Found, Trouble> {
    static ID: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?m)^\s*ID:\s*(\d+)\s*$").expect("a constant pattern is valid")
    });
    static URL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"https?://[^\s/]+/session/(\d+)").expect("a constant pattern is valid")
    });
    let url = URL.captures(said);
    let id = ID
        .captures(said)
        .or_else(|| URL.captures(said))
        .map(|found| found[1].to_owned());
    let Some(id) = id else {
        let words: Vec<&str> = said.split_whitespace().collect();
        let said: String = words.join(" ").chars().take(LONGEST_MESSAGE).collect();
        return Err(trouble(
            Kind::Unknown,
            format!("`jules remote new` named no session; it said {said:?}"),
        ));
    };
    let url = url.filter(|found| found[1] == id).map_or_else(
        || format!("https://jules.google.com/session/{id}"),
        |found| found[0].to_owned(),
    );
    Ok(Found::Created { id, url })
}

/// The state of a session in the table of all.
fn state_of(id: &str, table: &str) -> Result<State, Trouble> {
    static GAP: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\s{2,}|\t").expect("a constant pattern is valid"));
    if table.trim().is_empty() {
        return Err(trouble(
            Kind::Unknown,
            "`jules remote list` printed nothing at all".to_owned(),
        ));
    }
    let row = table
        .lines()
        .map(str::trim)
        .find(|line| line.split_whitespace().next() == Some(id));
    let Some(status) = row.and_then(|row| GAP.split(row).last()) else {
        return Err(trouble(
            Kind::Missing,
            format!("`jules remote list` does not show session {id}"),
        ));
    };
    // A narrow column cuts it short.
    let status = status.trim_end_matches(['…', '.']);
    let is = |whole: &str, least: usize| status.len() >= least && whole.starts_with(status);
    Ok(if is("Completed", 4) {
        State::Completed
    } else if is("Failed", 4) {
        State::Failed
    } else if is("Awaiting Plan Approval", 10) {
        State::AwaitingPlan
    } else if is("Awaiting User Feedback", 5) {
        State::AwaitingFeedback
    } else {
        State::Running
    })
}

/// The patch, or words where there is none.
fn pulled(said: &str) -> Work {
    let begins = |line: &str| line.starts_with("diff --git ") || line.starts_with("--- ");
    let mut at = 0;
    for line in said.split_inclusive('\n') {
        if begins(line) {
            return Work {
                patch: said[at..].to_owned(),
                ..Work::default()
            };
        }
        at += line.len();
    }
    let words = said.trim();
    Work {
        message: (!words.is_empty()).then(|| words.to_owned()),
        ..Work::default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn a_new_session_is_named_by_its_line_or_by_its_address() {
        for (said, expected) in [
            (
                "Session is created.\nID: 123\nURL: https://jules.google.com/session/123\n",
                Some(("123", "https://jules.google.com/session/123")),
            ),
            (
                "ID:   77\r\n",
                Some(("77", "https://jules.google.com/session/77")),
            ),
            (
                "see https://jules.example/session/9 for more",
                Some(("9", "https://jules.example/session/9")),
            ),
            (
                "ID: 5\nbefore it: https://jules.google.com/session/4\n",
                Some(("5", "https://jules.google.com/session/5")),
            ),
            ("", None),
            ("IDs are nice\nSolID: 3\n", None),
        ] {
            let expected = expected.map(|(id, url)| Found::Created {
                id: id.to_owned(),
                url: url.to_owned(),
            });
            assert_eq!(created(said).ok(), expected, "{said}");
        }
    }

    const TABLE: &str = "\
   ID          Description                     Repo          Last active     Status\n\
   \n\
   123         fix it  Completed  or fail      acme/demo     2m ago          In Progress\n\
   1234        write tests                     acme/demo     1 day ago       Completed\n\
   5           see 123                         acme/demo     now             Awaiting Plan A…\n\
   6\tx\tacme/demo\tnow\tAwaiting User F...\n\
   7           x                               acme/demo     now             Failed   \n\
   8           x                               acme/demo     now             Compl…\n\
   9           x                               acme/demo     now             Paused\n";

    #[test]
    fn a_table_is_read_by_its_words() {
        for (id, expected) in [
            ("123", State::Running),
            ("1234", State::Completed),
            ("5", State::AwaitingPlan),
            ("6", State::AwaitingFeedback),
            ("7", State::Failed),
            ("8", State::Completed),
            ("9", State::Running),
        ] {
            assert_eq!(state_of(id, TABLE), Ok(expected), "{id}");
        }
        let kind = |table| state_of("12", table).expect_err("not there").kind;
        assert_eq!(kind(TABLE), Kind::Missing);
        assert_eq!(kind(" \n"), Kind::Unknown);
    }

    #[test]
    fn a_patch_begins_where_git_would_begin_it() {
        let diff = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n+y\n";
        assert_eq!(pulled(diff).patch, diff);
        assert_eq!(pulled(&format!("Patch of 123:\n\n{diff}")).patch, diff);
        let words = pulled("No changes.\n");
        assert_eq!(
            (words.message.as_deref(), words.patch.as_str()),
            (Some("No changes."), "")
        );
        assert_eq!(pulled("\n"), Work::default());
    }

    #[test]
    fn who_is_not_logged_in_is_told_how_whatever_the_exit_code() {
        let output = |code: i32, stdout: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
        };
        let login =
            "Trying to make a GET request without a valid client (did you forget to login?)";
        for code in [0, 1] {
            let trouble = ended("list", &output(code, login)).expect_err("not logged in");
            assert_eq!(trouble.kind, Kind::No(FailureClass::Auth));
            assert!(trouble.message.contains("jules login"));
        }
        let trouble = ended("new", &output(1, "quota\nis  used up")).expect_err("it failed");
        assert_eq!(trouble.kind, Kind::Unknown);
        assert!(
            trouble.message.ends_with("quota is used up"),
            "{}",
            trouble.message
        );
        assert_eq!(ended("list", &output(0, "table")), Ok("table".to_owned()));
    }
}
