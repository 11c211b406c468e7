//! The API over HTTP.
//!
//! Owns the routes, the checks of requests, the paging and the faults. Must not know what a session says. Invariant: what
//! the real service would refuse is refused, as far as it is documented: a wrong key, an unknown field, an unknown source.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request as Incoming, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::directives::{At, Directives, Fault};
use super::ledger::{Ledger, Request};
use super::session::Session;
use super::{KEY, REPOSITORY};
use crate::orders::respond;

/// The largest request.
const LARGEST: usize = 16 << 20;
/// The fields that a session may be created with.
const FIELDS: &[&str] = &[
    "prompt",
    "title",
    "sourceContext",
    "requirePlanApproval",
    "automationMode",
];
const BRANCHES: &[&str] = &["main", "next"];

#[derive(Clone)]
struct Server {
    ledger: Arc<Ledger>,
    closed: watch::Receiver<bool>,
}

/// Serves until `closed` says so.
pub(super) async fn serve(
    listener: TcpListener,
    ledger: Arc<Ledger>,
    closed: watch::Receiver<bool>,
) {
    let end = close(closed.clone());
    let router = Router::new()
        .fallback(answer)
        .with_state(Server { ledger, closed });
    // It fails never: errors of accepting are retried inside.
    let _ = axum::serve(listener, router)
        .with_graceful_shutdown(end)
        .await;
}

/// Returns when the server closes.
async fn close(mut closed: watch::Receiver<bool>) {
    // An error means that the server is gone.
    let _ = closed.wait_for(|closed| *closed).await;
}

/// The parameters of a listing.
#[derive(Default)]
struct Page {
    size: Option<usize>,
    token: usize,
}

async fn answer(State(server): State<Server>, incoming: Incoming) -> Response {
    let (parts, body) = incoming.into_parts();
    let Some(path) = parts.uri.path().strip_prefix("/v1alpha/") else {
        return error(StatusCode::NOT_FOUND, "no such path");
    };
    let body = axum::body::to_bytes(body, LARGEST).await;
    let body = body.unwrap_or_else(|_| Bytes::new());
    let document = if body.is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_slice(&body)
    };
    server.ledger.note(Request {
        method: parts.method.to_string(),
        path: path.to_owned(),
        body: document.as_ref().map_or(Value::Null, Value::clone),
    });
    let key = parts.headers.get("x-goog-api-key");
    if key.is_none_or(|key| key.as_bytes() != KEY.as_bytes()) {
        let invalid = "API key not valid. Please pass a valid API key.";
        return error(StatusCode::UNAUTHORIZED, invalid);
    }
    let Ok(document) = document else {
        return error(StatusCode::BAD_REQUEST, "Invalid JSON payload received.");
    };
    let page = match page(parts.uri.query().unwrap_or_default()) {
        Ok(page) => page,
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
    };
    let segments: Vec<&str> = path.split('/').collect();
    match (&parts.method, &segments[..]) {
        (&Method::GET, ["sources"]) => respond(StatusCode::OK, &json!({"sources": [source()]})),
        (&Method::GET, ["sources", "github", owner, name]) => {
            match format!("{owner}/{name}") == REPOSITORY {
                true => respond(StatusCode::OK, &source()),
                false => missing(),
            }
        }
        (&Method::POST, ["sessions"]) => create(&server, document).await,
        (&Method::GET, ["sessions", id]) => look(&server, id).await,
        (&Method::GET, ["sessions", id, "activities"]) => activities(&server, id, &page).await,
        _ => error(StatusCode::NOT_FOUND, "the stand-in does not have this"),
    }
}

fn page(query: &str) -> Result<Page, String> {
    let mut page = Page::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = value
            .parse()
            .map_err(|_| format!("Invalid value at {key}: {value:?}"));
        match key {
            "pageSize" => page.size = Some(number?),
            "pageToken" => page.token = number?,
            // Accepted, as by the service; nothing here is ever filtered away.
            "filter" => {}
            _ => {
                return Err(format!(
                    "Unknown name {key:?}: Cannot bind query parameter."
                ));
            }
        }
    }
    Ok(page)
}

fn source() -> Value {
    let (owner, repo) = REPOSITORY.split_once('/').expect("a constant with a slash");
    let branches: Vec<Value> = BRANCHES
        .iter()
        .map(|name| json!({"displayName": name}))
        .collect();
    json!({
        "name": format!("sources/github/{REPOSITORY}"),
        "id": format!("github/{REPOSITORY}"),
        "githubRepo": {
            "owner": owner,
            "repo": repo,
            "isPrivate": false,
            "defaultBranch": {"displayName": BRANCHES[0]},
            "branches": branches,
        },
    })
}

/// What is wrong with a request for a new session.
fn problem(body: &Value) -> Option<(StatusCode, String)> {
    let bad = |message: String| Some((StatusCode::BAD_REQUEST, message));
    let Some(fields) = body.as_object() else {
        return bad("Invalid JSON payload received.".to_owned());
    };
    if let Some(unknown) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return bad(format!(
            "Invalid JSON payload received. Unknown name {unknown:?}: Cannot find field."
        ));
    }
    if body["prompt"].as_str().is_none_or(str::is_empty) {
        return bad("prompt is required".to_owned());
    }
    let mode = &body["automationMode"];
    if !mode.is_null() && mode != "AUTO_CREATE_PR" && mode != "AUTOMATION_MODE_UNSPECIFIED" {
        return bad(format!("Invalid value at 'automation_mode': {mode}"));
    }
    let context = &body["sourceContext"];
    if context["source"] != format!("sources/github/{REPOSITORY}") {
        return Some((
            StatusCode::NOT_FOUND,
            "Requested entity was not found.".to_owned(),
        ));
    }
    let branch = &context["githubRepoContext"]["startingBranch"];
    if !BRANCHES.iter().any(|known| branch == known) {
        return bad(format!("no such branch: {branch}"));
    }
    None
}

async fn create(server: &Server, body: Value) -> Response {
    if let Some((status, message)) = problem(&body) {
        return error(status, &message);
    }
    let prompt = body["prompt"].as_str().unwrap_or_default().to_owned();
    let directives = match Directives::parse(&prompt) {
        Ok(directives) => directives,
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
    };
    let fault = directives.fault(At::Create, 1);
    let resource = {
        let mut sessions = server.ledger.sessions();
        let session = Session {
            id: format!("{}", 1001 + sessions.len()),
            prompt,
            directives,
            body,
            created: jiff::Timestamp::now().to_string(),
            looks: 0,
            listings: 0,
        };
        let resource = session.resource(0);
        // An error means that nothing was done; a lost answer does not.
        if !matches!(fault, Some(Fault::Status { .. })) {
            sessions.push(session);
        }
        resource
    };
    faulty(server, fault, &resource).await
}

async fn look(server: &Server, id: &str) -> Response {
    let (fault, resource) = {
        let mut sessions = server.ledger.sessions();
        let Some(session) = sessions.iter_mut().find(|session| session.id == id) else {
            return missing();
        };
        session.looks += 1;
        if session.looks <= session.directives.late {
            return missing();
        }
        (
            session.directives.fault(At::Look, session.looks),
            session.resource(session.looks),
        )
    };
    faulty(server, fault, &resource).await
}

async fn activities(server: &Server, id: &str, page: &Page) -> Response {
    let (fault, all, pages) = {
        let mut sessions = server.ledger.sessions();
        let Some(session) = sessions.iter_mut().find(|session| session.id == id) else {
            return missing();
        };
        session.listings += 1;
        (
            session.directives.fault(At::Activities, session.listings),
            session.activities(),
            session.directives.pages,
        )
    };
    let size = page
        .size
        .unwrap_or(50)
        .min(all.len().div_ceil(pages))
        .max(1);
    let end = (page.token + size).min(all.len());
    let mut listing = json!({"activities": all.get(page.token..end).unwrap_or_default()});
    if end < all.len() {
        listing["nextPageToken"] = end.to_string().into();
    }
    faulty(server, fault, &listing).await
}

async fn faulty(server: &Server, fault: Option<Fault>, document: &Value) -> Response {
    match fault {
        None => respond(StatusCode::OK, document),
        Some(Fault::Status { code, retry_after }) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
            let mut response = error(status, &format!("the prompt ordered the error {code}"));
            if let Some(seconds) = retry_after {
                let headers = response.headers_mut();
                headers.insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
        Some(Fault::Drop) => {
            let text = document.to_string();
            let half = text[..text.len() / 2].to_owned();
            let cut = io::Error::other("the prompt ordered this");
            let pieces = [Ok(half), Err(cut)];
            Response::new(Body::from_stream(futures_util::stream::iter(pieces)))
        }
        Some(Fault::Hang) => {
            close(server.closed.clone()).await;
            error(StatusCode::SERVICE_UNAVAILABLE, "the server closes")
        }
    }
}

fn missing() -> Response {
    error(StatusCode::NOT_FOUND, "Requested entity was not found.")
}

fn error(status: StatusCode, message: &str) -> Response {
    let error = json!({"error": {"code": status.as_u16(), "message": message, "status": "ERROR"}});
    respond(status, &error)
}
