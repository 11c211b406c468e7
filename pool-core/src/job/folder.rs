//! The working folder of a job: which repository it belongs to, and how changes get into it.
//!
//! Owns the calls of git. Must not know the service. Invariant: changes are made as a whole or not at all, and only in
//! the repository that the job was about.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine::{Found, Kind, Trouble};
use super::settings::is_repository;
use crate::outcome::FailureClass;

/// The longest message of git's that is passed on, in characters.
const LONGEST_MESSAGE: usize = 1000;

/// A working folder.
#[derive(Debug)]
pub(super) struct Folder {
    /// The top of the checkout that changes are made in; `None` if jobs are about another repository.
    top: Option<PathBuf>,
    /// What jobs are about: `owner/name` on GitHub.
    repository: String,
}

impl Folder {
    /// Looks at this program's working folder. `wanted` is the repository that jobs are to be about.
    ///
    /// # Errors
    /// If nobody says which repository that is.
    pub(super) fn find(wanted: Option<String>) -> Result<Self, String> {
        let top = git(Path::new("."), &["rev-parse", "--show-toplevel"]);
        let own = git(Path::new("."), &["remote", "get-url", "origin"])
            .and_then(|address| repository(&address));
        let is_own = |wanted: &String| {
            own.as_ref()
                .is_some_and(|own| own.eq_ignore_ascii_case(wanted))
        };
        match (wanted, &own) {
            (Some(wanted), _) => Ok(Self {
                top: top.map(PathBuf::from).filter(|_| is_own(&wanted)),
                repository: wanted,
            }),
            (None, Some(own)) => Ok(Self {
                top: top.map(PathBuf::from),
                repository: own.clone(),
            }),
            (None, None) => Err(
                "which repository? The remote `origin` of the working folder is none on GitHub; work in a clone of it, or say `--env JULES_REPO=OWNER/NAME`"
                    .to_owned(),
            ),
        }
    }

    /// What jobs are about: `owner/name` on GitHub.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// Makes changes, all or none. Where the folder is not the job's repository, they stay in the reply alone.
    ///
    /// # Errors
    /// What does not fit, in git's words.
    pub(super) fn apply(&self, patch: &str) -> Result<Found, Trouble> {
        if let Some(top) = &self.top {
            for check in [&["--check"][..], &[]] {
                apply(top, check, patch).map_err(|message| Trouble {
                    kind: Kind::No(FailureClass::Unknown),
                    message,
                    retry_after: None,
                })?;
            }
        }
        Ok(Found::Applied)
    }
}

/// One line that git answers, if it answers one.
fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

fn apply(top: &Path, options: &[&str], patch: &str) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot run git apply: {error}");
    let mut child = Command::new("git")
        .arg("-C")
        .arg(top)
        // The service's line ends and blanks are as the agent wrote them.
        .args(["apply", "--whitespace=nowarn"])
        .args(options)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    if let Some(mut stdin) = child.stdin.take() {
        let end = if patch.ends_with('\n') { "" } else { "\n" };
        // If it ends early, what it says is the better message.
        stdin
            .write_all(patch.as_bytes())
            .and_then(|()| stdin.write_all(end.as_bytes()))
            .ok();
    }
    let output = child.wait_with_output().map_err(cannot)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    Err(said.chars().take(LONGEST_MESSAGE).collect())
}

/// The `owner/name` in the address of a remote, if it is on GitHub.
fn repository(address: &str) -> Option<String> {
    let path = match address.split_once("://") {
        Some((_, rest)) => {
            let (host, path) = rest.split_once('/')?;
            let host = host.rsplit('@').next()?;
            let host = host.split(':').next()?;
            host.eq_ignore_ascii_case("github.com").then_some(path)?
        }
        // The short form of ssh: `git@github.com:owner/name.git`.
        None => {
            let (host, path) = address.split_once(':')?;
            let host = host.rsplit('@').next()?;
            host.eq_ignore_ascii_case("github.com").then_some(path)?
        }
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    is_repository(path).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_known_by_every_form_of_its_address() {
        for (address, expected) in [
            ("https://github.com/acme/demo", Some("acme/demo")),
            ("https://github.com/acme/demo.git", Some("acme/demo")),
            (
                "https://user:token@GitHub.com/acme/demo/",
                Some("acme/demo"),
            ),
            ("git@github.com:acme/demo.git", Some("acme/demo")),
            ("github.com:acme/demo.rs.git", Some("acme/demo.rs")),
            ("ssh://git@github.com:22/acme/demo.git", Some("acme/demo")),
            ("https://gitlab.com/acme/demo", None),
            ("https://github.com.evil.example/acme/demo", None),
            ("https://github.com/acme", None),
            ("https://github.com/acme/demo/tree", None),
            ("/srv/git/demo.git", None),
            ("", None),
        ] {
            assert_eq!(repository(address).as_deref(), expected, "{address}");
        }
    }

    fn checkout() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let run = |args: &[&str]| {
            let status = Command::new("git")
                .arg("-C")
                .arg(folder.path())
                .args(args)
                .status()
                .expect("git runs");
            assert!(status.success(), "{args:?}");
        };
        run(&["init", "--quiet"]);
        std::fs::write(folder.path().join("a.txt"), "one\ntwo\n").expect("a file");
        folder
    }

    const GOOD: &str = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n\
                        diff --git a/new.txt b/new.txt\nnew file mode 100644\n--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+new";

    #[test]
    fn changes_are_made_whole_or_not_at_all() {
        let checkout = checkout();
        let folder = Folder {
            top: Some(checkout.path().to_owned()),
            repository: "a/b".to_owned(),
        };
        let read = |name: &str| std::fs::read_to_string(checkout.path().join(name)).ok();
        let bad = GOOD.replace("+1 @@\n+new", "+1 @@\n+new\ndiff --git a/gone.txt b/gone.txt\n--- a/gone.txt\n+++ b/gone.txt\n@@ -1 +1 @@\n-x\n+y");
        let trouble = folder.apply(&bad).expect_err("one file is not there");
        assert!(trouble.message.contains("gone.txt"), "{trouble:?}");
        assert_eq!(read("a.txt").as_deref(), Some("one\ntwo\n"));
        assert_eq!(read("new.txt"), None);
        folder.apply(GOOD).expect("it fits");
        assert_eq!(read("a.txt").as_deref(), Some("one\n2\n"));
        assert_eq!(read("new.txt").as_deref(), Some("new\n"));
    }

    #[test]
    fn changes_reach_nothing_outside_of_the_checkout() {
        let checkout = checkout();
        let folder = Folder {
            top: Some(checkout.path().to_owned()),
            repository: "a/b".to_owned(),
        };
        for path in ["../out.txt", ".git/hooks/post-commit", "/tmp/out.txt"] {
            let patch = format!(
                "diff --git a/{path} b/{path}\nnew file mode 100755\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
            );
            folder.apply(&patch).expect_err(path);
        }
    }

    #[test]
    fn a_folder_of_another_repository_is_left_alone() {
        let folder = Folder {
            top: None,
            repository: "a/b".to_owned(),
        };
        assert_eq!(folder.apply("no patch at all"), Ok(Found::Applied));
    }
}
