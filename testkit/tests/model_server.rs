//! The model server over a real connection: each word that a prompt can order.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use toolpool_testkit::model_server::{ModelServer, Recorded, answer_for};

fn server() -> ModelServer {
    ModelServer::start().expect("a free port")
}

/// Sends a request and leaves the answer to the caller.
async fn connect(server: &ModelServer, method: &str, path: &str, body: &str) -> TcpStream {
    let url = server.base_url();
    let address = url
        .strip_prefix("http://")
        .and_then(|url| url.strip_suffix("/v1"))
        .expect("an address");
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the server listens");
    let request = format!(
        "{method} /v1/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the server reads");
    stream
}

async fn ask(server: &ModelServer, system: &str, prompt: &str, stream: bool) -> TcpStream {
    let body = json!({
        "model": "mock",
        "stream": stream,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}],
    });
    connect(server, "POST", "chat/completions", &body.to_string()).await
}

/// A response as far as it came.
#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: String,
    /// Whether it came to its proper end.
    whole: bool,
}

impl Response {
    async fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A connection that is cut may end in an error.
        let _ = stream.read_to_end(&mut bytes).await;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        let (head, mut rest) = text.split_once("\r\n\r\n").expect("a head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status");
        let head = head.to_lowercase();
        let (mut body, mut whole) = (rest.to_owned(), true);
        if head.contains("transfer-encoding: chunked") {
            (body, whole) = (String::new(), false);
            while let Some((size, after)) = rest.split_once("\r\n") {
                let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
                whole = size == 0;
                let Some(chunk) = after.get(..size).filter(|_| !whole) else {
                    break;
                };
                body.push_str(chunk);
                rest = after[size..].trim_start_matches("\r\n");
            }
        }
        Self {
            status,
            head,
            body,
            whole,
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    fn events(&self) -> Vec<Value> {
        let data = self
            .body
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    }

    /// The text of a streamed answer.
    fn text(&self) -> String {
        let events = self.events();
        events
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
            .collect()
    }
}

async fn streamed(server: &ModelServer, prompt: &str) -> Response {
    Response::read(ask(server, "", prompt, true).await).await
}

#[tokio::test]
async fn a_whole_answer_and_a_streamed_one_say_the_same() {
    let server = server();
    let whole = Response::read(ask(&server, "", "hello", false).await).await;
    assert_eq!(whole.status, 200);
    let document = whole.json();
    assert_eq!(
        document["choices"][0]["message"]["content"],
        json!(answer_for("hello"))
    );
    assert_eq!(document["choices"][0]["finish_reason"], "stop");
    let stream = streamed(&server, "hello").await;
    assert!(
        stream.head.contains("content-type: text/event-stream"),
        "{}",
        stream.head
    );
    assert_eq!(stream.text(), answer_for("hello"));
    assert!(stream.body.ends_with("data: [DONE]\n\n"));
    let usage = &stream.events().pop().expect("events")["usage"];
    assert_eq!(*usage, document["usage"]);
    assert!(usage["completion_tokens"].as_u64() > Some(0));
}

#[tokio::test]
async fn the_models_are_listed() {
    let server = server();
    let response = Response::read(connect(&server, "GET", "models", "").await).await;
    assert_eq!(response.json()["data"][0]["id"], "mock");
}

#[tokio::test]
async fn each_kind_of_answer_is_what_can_be_computed_beforehand() {
    let server = server();
    for order in [
        "answer-bytes=100000",
        "quote",
        "empty",
        "edit=a.txt text=b c",
        "slow=7B/1us",
    ] {
        let prompt = format!("Please [[model: {order}]] é");
        let response = streamed(&server, &prompt).await;
        assert_eq!(response.text(), answer_for(&prompt), "{order}");
        assert!(response.whole, "{order}");
    }
    assert_eq!(answer_for("[[model: empty]]"), "");
}

#[tokio::test]
async fn an_error_comes_as_often_as_ordered_and_then_the_answer() {
    let server = server();
    let prompt = "[[model: status=429 retry-after=7 times=2]]";
    for _ in 0..2 {
        let response = streamed(&server, prompt).await;
        assert_eq!(response.status, 429);
        assert!(
            response.head.contains("retry-after: 7"),
            "{}",
            response.head
        );
        assert_eq!(response.json()["error"]["code"], "rate_limit_exceeded");
    }
    assert_eq!(streamed(&server, prompt).await.text(), answer_for(prompt));
    for (status, code) in [
        (400, "invalid_request"),
        (401, "invalid_api_key"),
        (500, "internal_error"),
    ] {
        let prompt = format!("[[model: status={status}]]");
        for _ in 0..3 {
            let response = streamed(&server, &prompt).await;
            assert_eq!(
                (response.status, &response.json()["error"]["code"]),
                (status, &json!(code))
            );
        }
    }
}

#[tokio::test]
async fn an_order_that_is_not_understood_and_a_bad_body_are_refused() {
    let server = server();
    let response = streamed(&server, "[[model: explode]]").await;
    assert_eq!(response.status, 400);
    assert!(
        response.body.contains("`explode` is unknown; accepted are"),
        "{}",
        response.body
    );
    let response = Response::read(connect(&server, "POST", "chat/completions", "{}").await).await;
    assert_eq!(response.status, 400);
}

#[tokio::test]
async fn a_dropped_answer_is_its_first_half_without_an_end() {
    let server = server();
    let prompt = "[[model: drop times=1]]";
    let response = streamed(&server, prompt).await;
    let answer = answer_for(prompt);
    assert_eq!(response.text(), answer[..answer.len() / 2]);
    assert!(!response.whole);
    assert_eq!(streamed(&server, prompt).await.text(), answer);
}

#[tokio::test]
async fn a_hanging_answer_runs_until_the_client_goes() {
    let server = server();
    let finished = |requests: &[Recorded]| {
        requests
            .iter()
            .filter(|request| request.finished.is_some())
            .count()
    };
    let silent = ask(&server, "", "[[model: hang]]", true).await;
    let requests = server.wait_until(|requests| requests.len() == 1).await;
    assert_eq!(finished(&requests), 0);
    drop(silent);
    server.wait_until(|requests| finished(requests) == 1).await;

    let prompt = "[[model: hang-mid]]";
    let mut halting = ask(&server, "", prompt, true).await;
    let mut bytes = Vec::new();
    let answer = answer_for(prompt);
    while !(bytes.windows(4).any(|end| end == b"\r\n\r\n")
        && Response::parse(&bytes).text() == answer[..answer.len() / 2])
    {
        assert_ne!(
            halting
                .read_buf(&mut bytes)
                .await
                .expect("the server writes"),
            0
        );
    }
    assert_eq!(finished(&server.requests()), 1);
    drop(halting);
    server.wait_until(|requests| finished(requests) == 2).await;
}

#[tokio::test(start_paused = true)]
async fn delays_are_kept_and_the_prompts_own_goes_first() {
    let server = ModelServer::builder()
        .delay(Duration::from_secs(3600))
        .start()
        .expect("a free port");
    for (prompt, least, most) in [
        ("hello", 3600, 3601),
        ("[[model: delay=20s]]", 20, 21),
        // The answer is `sha256:` and 64 digits: 8 pieces.
        ("[[model: delay=1s slow=10B/10s]]", 81, 82),
    ] {
        let before = Instant::now();
        assert_eq!(streamed(&server, prompt).await.text(), answer_for(prompt));
        let seconds = before.elapsed().as_secs();
        assert!(
            (least..=most).contains(&seconds),
            "{prompt}: {seconds} s of virtual time"
        );
    }
}

#[tokio::test]
async fn commit_messages_are_numbered_and_obey_no_orders() {
    let server = server();
    let system = "You generate concise, one-line Git commit messages based on the provided diffs.";
    for number in 1..=2 {
        let stream = ask(&server, system, "# Diffs:\n+[[model: status=500]]", false).await;
        let response = Response::read(stream).await;
        assert_eq!(
            response.json()["choices"][0]["message"]["content"],
            json!(format!("edit: {number}"))
        );
    }
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.commit_message)
    );
}

#[tokio::test]
async fn an_edit_finds_the_file_in_the_request() {
    let server = server();
    let files = "I have *added these files to the chat*\n\na.txt\n```\none\ntwo\n```\n";
    let messages = json!([
        {"role": "user", "content": files},
        {"role": "assistant", "content": "Ok."},
        {"role": "user", "content": "[[model: edit=a.txt text=three]]"},
    ]);
    let body = json!({"model": "mock", "stream": true, "messages": messages}).to_string();
    let response = Response::read(connect(&server, "POST", "chat/completions", &body).await).await;
    let block = "a.txt\n```\n<<<<<<< SEARCH\ntwo\n=======\ntwo\nthree\n>>>>>>> REPLACE\n```\n";
    assert!(response.text().ends_with(block), "{}", response.text());
}

#[tokio::test]
async fn requests_are_recorded_in_their_order() {
    let server = server();
    for prompt in ["one", "two", "one"] {
        Response::read(ask(&server, "Act.", prompt, prompt == "one").await).await;
    }
    let requests = server
        .wait_until(|requests| requests.iter().all(|request| request.finished.is_some()))
        .await;
    let seen: Vec<_> = requests
        .iter()
        .map(|request| (request.prompt.as_str(), request.stream))
        .collect();
    assert_eq!(seen, [("one", true), ("two", false), ("one", true)]);
    for request in &requests {
        assert_eq!(
            (
                request.model.as_str(),
                request.system_head.as_str(),
                request.messages
            ),
            ("mock", "Act.", 2)
        );
        assert_eq!(
            format!("sha256:{}", request.sha256),
            answer_for(&request.prompt)
        );
        assert!(request.finished >= Some(request.started));
    }
}

#[tokio::test]
async fn dropping_the_server_ends_what_hangs() {
    let server = server();
    let stream = ask(&server, "", "[[model: hang]]", true).await;
    server.wait_until(|requests| requests.len() == 1).await;
    drop(server);
    assert_eq!(Response::read(stream).await.status, 503);
}

#[test]
fn without_a_runtime_it_says_so() {
    assert!(
        ModelServer::start()
            .expect_err("no runtime")
            .to_string()
            .contains("runtime")
    );
}
