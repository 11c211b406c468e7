//! What a driver is told by its arguments and its environment.
//!
//! Owns the variables and their checks. Must not know what they are used for. Invariant: a key is in no message.

use std::path::PathBuf;
use std::time::Duration;

use crate::profile::parse_duration;

/// The service's address, if no other is given.
const BASE_URL: &str = "https://jules.googleapis.com/v1alpha";
/// The pause before the first look, if none is given; Google's SDK 0.2.0 waits as long.
const POLL_API: &str = "5s";
/// The same where each look starts the program anew, which lists all sessions.
const POLL_PROGRAM: &str = "30s";

/// By which way the service is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Its REST API.
    Api { base_url: String, key: String },
    /// Its command-line program.
    Program(PathBuf),
}

/// Everything that a driver can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) way: Way,
    /// `owner/name` on GitHub; by default that of the working folder.
    pub(super) repository: Option<String>,
    /// By default the repository's own default branch.
    pub(super) branch: Option<String>,
    /// The pause before the first look at a job.
    pub(super) poll: Duration,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(super) fn read(
        args: &[String],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let way = match args {
            [way] if way == "api" => Way::Api {
                base_url: variable("JULES_BASE_URL")
                    .unwrap_or_else(|| BASE_URL.to_owned())
                    .trim_end_matches('/')
                    .to_owned(),
                key: variable("JULES_API_KEY")
                    .ok_or("the variable JULES_API_KEY is not set")?
                    .trim()
                    .to_owned(),
            },
            [way, program] if way == "program" => Way::Program(PathBuf::from(program)),
            _ => {
                return Err(
                    "jules takes no arguments; it is set by variables such as `--env JULES_REPO=OWNER/NAME`"
                        .to_owned(),
                );
            }
        };
        let repository = variable("JULES_REPO");
        if let Some(repository) = &repository
            && !is_repository(repository)
        {
            return Err(format!(
                "JULES_REPO is {repository:?}; it must be OWNER/NAME, as on GitHub"
            ));
        }
        let branch = variable("JULES_BRANCH");
        if branch.is_some() && matches!(way, Way::Program(_)) {
            return Err(
                "JULES_BRANCH is set, and the jules program takes no branch; unset it, or use the tool `jules` with an API key"
                    .to_owned(),
            );
        }
        let usual = match way {
            Way::Api { .. } => POLL_API,
            Way::Program(_) => POLL_PROGRAM,
        };
        let poll = parse_duration(variable("JULES_POLL").as_deref().unwrap_or(usual))
            .map_err(|reason| format!("JULES_POLL: {reason}"))?;
        if poll < Duration::from_millis(1) {
            return Err("JULES_POLL must be 1ms or longer".to_owned());
        }
        Ok(Self {
            way,
            repository,
            branch,
            poll,
        })
    }
}

/// Whether this can be a repository on GitHub: it becomes a part of addresses and command lines.
pub(super) fn is_repository(text: &str) -> bool {
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..")
            && !name.starts_with('-')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    text.split_once('/')
        .is_some_and(|(owner, name)| is_name(owner) && is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        Settings::read(&args, |name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_key_is_enough_and_everything_else_can_be_told() {
        let key = ("JULES_API_KEY", "k");
        assert_eq!(
            read(&["api"], &[key]),
            Ok(Settings {
                way: Way::Api {
                    base_url: BASE_URL.to_owned(),
                    key: "k".to_owned()
                },
                repository: None,
                branch: None,
                poll: Duration::from_secs(5),
            })
        );
        let told = [
            key,
            ("JULES_BASE_URL", "http://127.0.0.1:1/v1alpha/"),
            ("JULES_REPO", "acme/demo.rs"),
            ("JULES_BRANCH", "work/x"),
            ("JULES_POLL", "1ms"),
        ];
        assert_eq!(
            read(&["api"], &told),
            Ok(Settings {
                way: Way::Api {
                    base_url: "http://127.0.0.1:1/v1alpha".to_owned(),
                    key: "k".to_owned()
                },
                repository: Some("acme/demo.rs".to_owned()),
                branch: Some("work/x".to_owned()),
                poll: Duration::from_millis(1),
            })
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_the_variable() {
        let key = ("JULES_API_KEY", "secret");
        for (args, variables, words) in [
            (&["api"][..], &[][..], "JULES_API_KEY is not set"),
            (
                &["api"],
                &[("JULES_API_KEY", " ")],
                "JULES_API_KEY is not set",
            ),
            (&["api", "--x"], &[key], "takes no arguments"),
            (&[], &[key], "takes no arguments"),
            (&["api"], &[key, ("JULES_REPO", "demo")], "OWNER/NAME"),
            (&["api"], &[key, ("JULES_REPO", "../demo")], "OWNER/NAME"),
            (&["api"], &[key, ("JULES_REPO", "a/b/c")], "OWNER/NAME"),
            (&["api"], &[key, ("JULES_REPO", "--x/b")], "OWNER/NAME"),
            (&["api"], &[key, ("JULES_POLL", "soon")], "JULES_POLL"),
            (&["api"], &[key, ("JULES_POLL", "0s")], "JULES_POLL"),
            (
                &["program", "/bin/jules"],
                &[("JULES_BRANCH", "x")],
                "JULES_BRANCH",
            ),
        ] {
            let error = read(args, variables).expect_err(words);
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
