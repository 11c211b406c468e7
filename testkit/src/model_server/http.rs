//! The OpenAI chat protocol over HTTP.
//!
//! Owns status codes, JSON shapes and the writing of streams. Must not know what an answer says. Invariant: every wait
//! ends when the client goes or the server closes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::answer;
use super::directives::{Cut, Directives, Faults};
use super::record::{Record, Running};
use super::request::ChatRequest;

/// The largest piece of an answer in one event of a stream, in bytes.
const PIECE: usize = 16 * 1024;

#[derive(Clone)]
struct Server {
    record: Arc<Record>,
    delay: Duration,
    closed: watch::Receiver<bool>,
}

/// Serves until `closed` says so.
pub(super) async fn serve(
    listener: TcpListener,
    record: Arc<Record>,
    delay: Duration,
    closed: watch::Receiver<bool>,
) {
    let end = close(closed.clone());
    let router = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .layer(DefaultBodyLimit::disable())
        .with_state(Server {
            record,
            delay,
            closed,
        });
    let listener = listener.tap_io(|stream| {
        // Without it a slow stream is only slower.
        let _ = stream.set_nodelay(true);
    });
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

async fn models() -> Response {
    let model = json!({"id": "mock", "object": "model", "created": 0, "owned_by": "toolpool"});
    respond(StatusCode::OK, &json!({"object": "list", "data": [model]}))
}

async fn chat(State(server): State<Server>, body: Bytes) -> Response {
    let request = match ChatRequest::parse(&body) {
        Ok(request) => request,
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
    };
    let (running, number) = server.record.begin(&request);
    if request.is_for_commit() {
        let piece = Pace {
            size: PIECE,
            every: Duration::ZERO,
            cut: None,
        };
        return completion(&server, &request, format!("edit: {number}"), piece, running);
    }
    let directives = match Directives::parse(&request.prompt) {
        Ok(directives) => directives,
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
    };
    let faults = directives.faults(number);
    if faults.hang {
        close(server.closed.clone()).await;
        return error(StatusCode::SERVICE_UNAVAILABLE, "the server closes");
    }
    tokio::select! {
        () = tokio::time::sleep(faults.delay.unwrap_or(server.delay)) => {}
        () = close(server.closed.clone()) => {}
    }
    if let Some(response) = ordered_error(&faults) {
        return response;
    }
    let text = answer::text(&request.prompt, &directives.kind, &request.messages);
    let (size, every) = directives
        .slow
        .unwrap_or((PIECE.min(text.len().div_ceil(4)), Duration::ZERO));
    completion(
        &server,
        &request,
        text,
        Pace {
            size,
            every,
            cut: faults.cut,
        },
        running,
    )
}

fn ordered_error(faults: &Faults) -> Option<Response> {
    let status = StatusCode::from_u16(faults.status?).ok()?;
    // aider's client library tells a refused key from a bad request by OpenAI's wording.
    let lead = if status == StatusCode::UNAUTHORIZED {
        "Incorrect API key provided: "
    } else {
        ""
    };
    let mut response = error(
        status,
        &format!("{lead}the prompt ordered the error {}", status.as_u16()),
    );
    if let Some(seconds) = faults.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    Some(response)
}

/// An error in OpenAI's shape.
fn error(status: StatusCode, message: &str) -> Response {
    let (kind, code) = match status.as_u16() {
        401 | 403 => ("invalid_request_error", "invalid_api_key"),
        429 => ("requests", "rate_limit_exceeded"),
        500.. => ("server_error", "internal_error"),
        _ => ("invalid_request_error", "invalid_request"),
    };
    respond(
        status,
        &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}),
    )
}

fn respond(status: StatusCode, json: &Value) -> Response {
    let mut response = Response::new(Body::from(json.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

/// How an answer is written.
struct Pace {
    size: usize,
    every: Duration,
    cut: Option<Cut>,
}

/// The answer, streamed or whole. `running` ends with the response's body.
fn completion(
    server: &Server,
    request: &ChatRequest,
    text: String,
    pace: Pace,
    running: Running,
) -> Response {
    let prompt_tokens = request
        .messages
        .iter()
        .map(String::len)
        .sum::<usize>()
        .div_ceil(4);
    let completion_tokens = text.len().div_ceil(4);
    let usage = json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    });
    let model = request.model.clone();
    let (sender, receiver) = mpsc::channel::<io::Result<String>>(1);
    let content_type = if request.stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let closed = server.closed.clone();
    let (streamed, stream_usage) = (request.stream, request.stream_usage);
    tokio::spawn(async move {
        let write = async {
            if streamed {
                stream(&sender, &model, &text, &pace, stream_usage.then_some(usage)).await;
            } else {
                whole(&sender, &model, &text, &pace, usage).await;
            }
        };
        tokio::select! {
            () = write => {}
            () = sender.closed() => {}
            () = close(closed) => cut(&sender).await,
        }
        drop(running);
    });
    let body = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

type Sender = mpsc::Sender<io::Result<String>>;

/// Sends server-sent events: the role, the pieces, the end, the usage if wanted, and `[DONE]`.
async fn stream(sender: &Sender, model: &str, text: &str, pace: &Pace, usage: Option<Value>) {
    let chunk = |choices: Value, usage: Option<&Value>| {
        let mut chunk = json!({"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 0, "model": model,
                               "choices": choices});
        if let Some(usage) = usage {
            chunk["usage"] = usage.clone();
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, reason: Option<&str>| {
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": reason}]),
            None,
        )
    };
    send(
        sender,
        delta(json!({"role": "assistant", "content": ""}), None),
    )
    .await;
    if paced(sender, text, pace, |piece| {
        delta(json!({"content": piece}), None)
    })
    .await
        == Gone::No
    {
        send(sender, delta(json!({}), Some("stop"))).await;
        if let Some(usage) = &usage {
            send(sender, chunk(json!([]), Some(usage))).await;
        }
        send(sender, "data: [DONE]\n\n".to_owned()).await;
    }
}

/// Sends one JSON document, in pieces.
async fn whole(sender: &Sender, model: &str, text: &str, pace: &Pace, usage: Value) {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    let document = json!({"id": "chatcmpl-mock", "object": "chat.completion", "created": 0, "model": model,
                          "choices": [choice], "usage": usage});
    paced(sender, &document.to_string(), pace, str::to_owned).await;
}

/// Whether the answer was cut short.
#[derive(PartialEq, Eq)]
enum Gone {
    Yes,
    No,
}

/// Sends a text in pieces, or its first half and then what the cut says.
async fn paced(sender: &Sender, text: &str, pace: &Pace, frame: impl Fn(&str) -> String) -> Gone {
    let end = if pace.cut.is_some() {
        boundary(text, text.len() / 2)
    } else {
        text.len()
    };
    let mut rest = &text[..end];
    while !rest.is_empty() {
        // At least one character, however small the pieces are.
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let (piece, after) = rest.split_at(boundary(rest, pace.size).max(first));
        send(sender, frame(piece)).await;
        if !pace.every.is_zero() {
            tokio::time::sleep(pace.every).await;
        }
        rest = after;
    }
    match pace.cut {
        None => return Gone::No,
        Some(Cut::Drop) => cut(sender).await,
        Some(Cut::Hang) => sender.closed().await,
    }
    Gone::Yes
}

/// The last place at or before `at` where a text can be cut.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

async fn send(sender: &Sender, frame: String) {
    // Where the client has gone, the task that writes is about to be ended.
    let _ = sender.send(Ok(frame)).await;
}

/// Makes the connection break off.
async fn cut(sender: &Sender) {
    let _ = sender
        .send(Err(io::Error::other("the connection is cut")))
        .await;
}
