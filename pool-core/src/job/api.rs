//! Jules by its REST API, `v1alpha`.
//!
//! Owns the requests, the shapes of the answers and what a status or a broken connection means. Must not know when to ask,
//! nor what follows from an answer. Invariants: each step that hands over is one request, sent once, over a connection of
//! its own; the key goes to the one address that was set, and into no message.
//!
//! Paths, fields and states are those by which Google's own `@google/jules-sdk` 0.2.0 works.

use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Error, Timeout};

use super::machine::{Found, Kind, State, Step, Trouble, Work};
use crate::outcome::FailureClass;

/// The longest that one request may take; Google's SDK 0.2.0 waits as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer, in bytes.
const LARGEST: u64 = 48 << 20;
/// How many activities come at once.
const PAGE: &str = "100";
/// No job has more pages of them than this.
const MOST_PAGES: usize = 1000;
/// The longest message of the service's that is passed on, in characters.
const LONGEST_MESSAGE: usize = 1000;

/// The service.
pub(super) struct Api {
    agent: Agent,
    base_url: String,
    key: String,
    repository: String,
    /// The branch that jobs start from: told, or the repository's own default.
    branch: OnceLock<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    github_repo: Option<GithubRepo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GithubRepo {
    default_branch: Option<Branch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Branch {
    display_name: String,
}

#[derive(Deserialize)]
struct Session {
    id: String,
    #[serde(default)]
    state: String,
    url: Option<String>,
    #[serde(default)]
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    change_set: Option<ChangeSet>,
    pull_request: Option<PullRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeSet {
    git_patch: Option<GitPatch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GitPatch {
    #[serde(default)]
    unidiff_patch: String,
}

#[derive(Deserialize)]
struct PullRequest {
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    activities: Vec<Activity>,
    #[serde(default)]
    next_page_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Activity {
    agent_messaged: Option<AgentMessaged>,
    session_failed: Option<SessionFailed>,
    #[serde(default)]
    artifacts: Vec<Output>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentMessaged {
    #[serde(default)]
    agent_message: String,
}

#[derive(Deserialize)]
struct SessionFailed {
    #[serde(default)]
    reason: String,
}

impl Api {
    pub(super) fn new(
        base_url: String,
        key: String,
        repository: String,
        branch: Option<String>,
    ) -> Self {
        // A program that embeds us may have chosen one already; either will do.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            // The key must not follow a redirect, and a connection that turns out to be dead must not lose a request.
            .max_redirects(0)
            .max_idle_connections(0)
            .user_agent(concat!("toolpool/", env!("CARGO_PKG_VERSION")))
            .tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::PlatformVerifier)
                    .build(),
            )
            .build();
        Self {
            agent: Agent::new_with_config(config),
            base_url,
            key,
            repository,
            branch: branch.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    /// Does one step; blocks until it is answered.
    pub(super) fn perform(&self, step: &Step) -> Result<Found, Trouble> {
        match step {
            Step::Probe => self.probe(),
            Step::Create { prompt } => self.create(prompt),
            Step::Look { id } => {
                let session: Session = self.get(&format!("sessions/{id}"), &[])?;
                Ok(Found::Seen(state(&session.state)))
            }
            Step::Fetch { id, .. } => self.fetch(id),
            // Not a question for the service.
            Step::Apply { .. } => Ok(Found::Applied),
        }
    }

    fn probe(&self) -> Result<Found, Trouble> {
        let source: Source = self
            .get(&format!("sources/github/{}", self.repository), &[])
            .map_err(|trouble| match trouble.kind {
                Kind::Missing => Trouble {
                    message: format!(
                        "the repository {} is not connected to Jules; connect it at https://jules.google.com (sign in, choose the repository, install the GitHub app), or name another with JULES_REPO ({})",
                        self.repository, trouble.message
                    ),
                    ..trouble
                },
                _ => trouble,
            })?;
        let default = source.github_repo.and_then(|repo| repo.default_branch);
        if let Some(default) = default {
            self.branch.get_or_init(|| default.display_name);
        }
        match self.branch.get() {
            Some(_) => Ok(Found::Probed),
            None => Err(Trouble {
                kind: Kind::No(FailureClass::BadRequest),
                message: format!(
                    "Jules knows no default branch of {}; name one with JULES_BRANCH",
                    self.repository
                ),
                retry_after: None,
            }),
        }
    }

    fn create(&self, prompt: &str) -> Result<Found, Trouble> {
        let mut context = json!({"source": format!("sources/github/{}", self.repository)});
        if let Some(branch) = self.branch.get() {
            context["githubRepoContext"] = json!({"startingBranch": branch});
        }
        // The work comes home by its patch, so no pull request is asked for.
        let body = json!({
            "prompt": prompt,
            "sourceContext": context,
            "requirePlanApproval": false,
        });
        let response = self
            .agent
            .post(format!("{}/sessions", self.base_url))
            .header("X-Goog-Api-Key", &self.key)
            .content_type("application/json")
            .send(body.to_string());
        let session: Session = read(response)?;
        let is_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if session.id.is_empty() || !session.id.chars().all(is_id) {
            return Err(unknown(format!(
                "the new session's id {:?} cannot be one",
                session.id
            )));
        }
        let url = session
            .url
            .unwrap_or_else(|| format!("https://jules.google.com/session/{}", session.id));
        Ok(Found::Created {
            id: session.id,
            url,
        })
    }

    fn fetch(&self, id: &str) -> Result<Found, Trouble> {
        let session: Session = self.get(&format!("sessions/{id}"), &[])?;
        let mut work = Work::default();
        let mut token = String::new();
        let mut changed = None;
        for _ in 0..MOST_PAGES {
            let mut query = vec![("pageSize", PAGE)];
            if !token.is_empty() {
                query.push(("pageToken", &token));
            }
            let page: Page = self.get(&format!("sessions/{id}/activities"), &query)?;
            for activity in page.activities {
                let said = match (activity.agent_messaged, activity.session_failed) {
                    (_, Some(failed)) => failed.reason,
                    (Some(messaged), None) => messaged.agent_message,
                    (None, None) => String::new(),
                };
                if !said.trim().is_empty() {
                    work.message = Some(said);
                }
                changed = patch(activity.artifacts).or(changed);
            }
            if page.next_page_token.is_empty() {
                break;
            }
            token = page.next_page_token;
        }
        work.pull_request = session
            .outputs
            .iter()
            .find_map(|output| output.pull_request.as_ref()?.url.clone());
        // The session's own outputs are its result; those of its activities are the way there.
        work.patch = patch(session.outputs).or(changed).unwrap_or_default();
        Ok(Found::Fetched(work))
    }

    fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Trouble> {
        let request = self
            .agent
            .get(format!("{}/{path}", self.base_url))
            .header("X-Goog-Api-Key", &self.key)
            .query_pairs(query.iter().copied());
        read(request.call())
    }
}

/// The last patch among outputs or artifacts.
fn patch(outputs: Vec<Output>) -> Option<String> {
    outputs
        .into_iter()
        .filter_map(|output| Some(output.change_set?.git_patch?.unidiff_patch))
        .rfind(|patch| !patch.is_empty())
}

fn state(word: &str) -> State {
    match word {
        "COMPLETED" => State::Completed,
        "FAILED" => State::Failed,
        "AWAITING_PLAN_APPROVAL" => State::AwaitingPlan,
        "AWAITING_USER_FEEDBACK" => State::AwaitingFeedback,
        _ => State::Running,
    }
}

/// The answer, or what is wrong with it.
fn read<T: DeserializeOwned>(response: Result<Response<Body>, Error>) -> Result<T, Trouble> {
    let mut response = response.map_err(unanswered)?;
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let body = response
        .body_mut()
        .with_config()
        .limit(LARGEST)
        .read_to_vec();
    if !status.is_success() {
        return Err(refused(status, &body.unwrap_or_default(), retry_after));
    }
    let body = body.map_err(|error| unknown(format!("Jules' answer broke off: {error}")))?;
    serde_json::from_slice(&body)
        .map_err(|error| unknown(format!("Jules answered what is no answer: {error}")))
}

fn unknown(message: String) -> Trouble {
    Trouble {
        kind: Kind::Unknown,
        message,
        retry_after: None,
    }
}

/// What a request without an answer means: nothing was done where there was no connection.
fn unanswered(error: Error) -> Trouble {
    let is_unsent = match &error {
        Error::HostNotFound
        | Error::ConnectionFailed
        | Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => false,
    };
    let (kind, what) = match &error {
        Error::BadUri(_) | Error::Http(_) | Error::InvalidProxyUrl => (
            Kind::No(FailureClass::BadRequest),
            "no request can be made of JULES_BASE_URL, JULES_API_KEY and HTTPS_PROXY",
        ),
        _ if is_unsent => (
            Kind::NotNow(FailureClass::Network),
            "Jules cannot be reached",
        ),
        _ => (Kind::Unknown, "Jules did not answer"),
    };
    Trouble {
        kind,
        message: format!("{what}: {error}"),
        retry_after: None,
    }
}

/// What a status means.
fn refused(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Trouble {
    let said = said(body);
    let code = status.as_u16();
    let (kind, hint) = match code {
        401 | 403 => (
            Kind::No(FailureClass::Auth),
            "; see that JULES_API_KEY is a key from https://jules.google.com/settings that is still valid",
        ),
        404 => (Kind::Missing, ""),
        429 => (
            Kind::NotNow(FailureClass::RateLimit),
            "; a plan allows so many sessions a day",
        ),
        408 | 500.. => (Kind::Unknown, ""),
        _ => (Kind::No(FailureClass::BadRequest), ""),
    };
    Trouble {
        kind,
        message: format!("Jules answered {code}{said}{hint}"),
        retry_after,
    }
}

/// The message in an error's body, in Google's form or in none.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = document
        .as_ref()
        .and_then(|document| document["error"]["message"].as_str())
        .unwrap_or(&text);
    let message: String = message
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_MESSAGE)
        .collect();
    match message.is_empty() {
        true => message,
        false => format!(": {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_means_one_thing() {
        for (code, kind) in [
            (302, Kind::No(FailureClass::BadRequest)),
            (400, Kind::No(FailureClass::BadRequest)),
            (401, Kind::No(FailureClass::Auth)),
            (403, Kind::No(FailureClass::Auth)),
            (404, Kind::Missing),
            (408, Kind::Unknown),
            (409, Kind::No(FailureClass::BadRequest)),
            (429, Kind::NotNow(FailureClass::RateLimit)),
            (500, Kind::Unknown),
            (502, Kind::Unknown),
            (503, Kind::Unknown),
            (504, Kind::Unknown),
        ] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(refused(status, b"", None).kind, kind, "{code}");
        }
    }

    #[test]
    fn errors_are_told_in_the_services_words_on_one_line() {
        for (body, expected) in [
            (
                &br#"{"error":{"code":400,"message":"no such\nbranch"}}"#[..],
                ": no such branch",
            ),
            (b"<html>gone</html>\n", ": <html>gone</html>"),
            (b"", ""),
            (b"\xff", ": \u{fffd}"),
        ] {
            assert_eq!(said(body), expected);
        }
    }

    #[test]
    fn states_that_nobody_has_heard_of_are_a_job_that_goes_on() {
        for word in [
            "QUEUED",
            "PLANNING",
            "IN_PROGRESS",
            "PAUSED",
            "STATE_UNSPECIFIED",
            "DREAMING",
            "",
        ] {
            assert_eq!(state(word), State::Running, "{word}");
        }
        assert_eq!(state("COMPLETED"), State::Completed);
        assert_eq!(state("FAILED"), State::Failed);
        assert_eq!(state("AWAITING_PLAN_APPROVAL"), State::AwaitingPlan);
        assert_eq!(state("AWAITING_USER_FEEDBACK"), State::AwaitingFeedback);
    }
}
