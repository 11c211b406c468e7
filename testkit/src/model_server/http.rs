//! The APIs over HTTP.
//!
//! Owns the routes, status codes, faults and the writing of streams. Must not know what an answer says, nor the JSON of
//! any API but the list of models. Invariant: every wait ends when the client goes or the server closes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::answer;
use super::anthropic::{self, Messages};
use super::chat::Chat;
use super::directives::{Cut, Directives, Faults};
use super::gemini::{self, Gemini};
use super::record::{Record, Running};
use super::request::ChatRequest;
use super::responses::{self, Responses};
use super::wire::{Reply, Tokens, Wire};
use crate::orders::respond;

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
        .route("/v1/messages", post(converse))
        .route("/v1beta/models/{call}", post(generate))
        .route("/v1/responses", post(respond_to))
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
    match ChatRequest::parse(&body) {
        Ok(request) => {
            let wire = Chat::new(&request);
            answer(server, request, wire).await
        }
        Err(problem) => error(&Chat::default(), StatusCode::BAD_REQUEST, &problem),
    }
}

async fn generate(State(server): State<Server>, Path(call): Path<String>, body: Bytes) -> Response {
    match gemini::parse(&call, &body) {
        Ok(request) => {
            let wire = Gemini::new(&request);
            answer(server, request, wire).await
        }
        Err(problem) => error(&Gemini::default(), StatusCode::BAD_REQUEST, &problem),
    }
}

async fn respond_to(State(server): State<Server>, body: Bytes) -> Response {
    match responses::parse(&body) {
        Ok(request) => {
            let wire = Responses::new(&request);
            answer(server, request, wire).await
        }
        Err(problem) => error(&Responses::default(), StatusCode::BAD_REQUEST, &problem),
    }
}

async fn converse(State(server): State<Server>, body: Bytes) -> Response {
    match anthropic::parse(&body) {
        Ok(request) => {
            let wire = Messages::new(&request);
            answer(server, request, wire).await
        }
        Err(problem) => error(&Messages::default(), StatusCode::BAD_REQUEST, &problem),
    }
}

/// Does what the prompt orders, in the form of the API that was spoken.
async fn answer(server: Server, request: ChatRequest, wire: impl Wire) -> Response {
    let (running, number) = server.record.begin(&request);
    if request.is_for_commit() {
        let pace = Pace {
            size: PIECE,
            every: Duration::ZERO,
            cut: None,
        };
        let reply = Reply::Text(format!("edit: {number}"));
        return completion(&server, &request, wire, reply, pace, running);
    }
    let directives = match Directives::parse(&request.prompt) {
        Ok(directives) => directives,
        Err(problem) => return error(&wire, StatusCode::BAD_REQUEST, &problem),
    };
    let faults = directives.faults(number);
    if faults.hang {
        close(server.closed.clone()).await;
        return error(&wire, StatusCode::SERVICE_UNAVAILABLE, "the server closes");
    }
    tokio::select! {
        () = tokio::time::sleep(faults.delay.unwrap_or(server.delay)) => {}
        () = close(server.closed.clone()) => {}
    }
    if let Some(response) = ordered_error(&wire, &faults) {
        return response;
    }
    let reply = answer::reply(&request, &directives.kind);
    let (size, every) = directives
        .slow
        .unwrap_or((PIECE.min(length(&reply).div_ceil(4)), Duration::ZERO));
    let pace = Pace {
        size,
        every,
        cut: faults.cut,
    };
    completion(&server, &request, wire, reply, pace, running)
}

fn ordered_error(wire: &impl Wire, faults: &Faults) -> Option<Response> {
    let status = StatusCode::from_u16(faults.status?).ok()?;
    let mut response = error(
        wire,
        status,
        &format!("the prompt ordered the error {}", status.as_u16()),
    );
    if let Some(seconds) = faults.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    Some(response)
}

fn error(wire: &impl Wire, status: StatusCode, message: &str) -> Response {
    respond(status, &wire.error(status, message))
}

/// How an answer is written.
struct Pace {
    size: usize,
    every: Duration,
    cut: Option<Cut>,
}

fn length(reply: &Reply) -> usize {
    match reply {
        Reply::Text(text) => text.len(),
        Reply::Call(call) => call.arguments.to_string().len(),
    }
}

/// The answer, streamed or whole. `running` ends with the response's body.
fn completion(
    server: &Server,
    request: &ChatRequest,
    wire: impl Wire,
    reply: Reply,
    pace: Pace,
    running: Running,
) -> Response {
    let messages = request.messages.iter().map(String::len);
    let tokens = Tokens {
        prompt: messages.sum::<usize>().div_ceil(4),
        completion: length(&reply).div_ceil(4),
    };
    let (sender, receiver) = mpsc::channel::<io::Result<String>>(1);
    let content_type = if request.stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let closed = server.closed.clone();
    let streamed = request.stream;
    tokio::spawn(async move {
        let write = async {
            if streamed {
                stream(&sender, &wire, &reply, &pace, tokens).await;
            } else {
                let document = wire.document(&reply, tokens).to_string();
                paced(&sender, &document, &pace, str::to_owned).await;
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

/// Sends server-sent events: the beginning, the text in pieces or the call, the end.
async fn stream(sender: &Sender, wire: &impl Wire, reply: &Reply, pace: &Pace, tokens: Tokens) {
    let begin = wire.begin(reply);
    if !begin.is_empty() {
        send(sender, begin).await;
    }
    match reply {
        Reply::Call(call) => send(sender, wire.call(call)).await,
        Reply::Text(text) => {
            if paced(sender, text, pace, |piece| wire.piece(piece)).await == Gone::Yes {
                return;
            }
        }
    }
    send(sender, wire.end(reply, tokens)).await;
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
