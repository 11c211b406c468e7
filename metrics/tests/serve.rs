//! The page over HTTP.

mod support;

use std::io;
use std::net::SocketAddr;

use support::Story;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use toolpool_metrics::Metrics;

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The whole answer to one request.
async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("it answers in text");
    answer
}

#[tokio::test]
async fn the_page_is_served_as_prometheus_expects_it() {
    let story = Story::of(2);
    let exporter = story.metrics.serve(any_port()).unwrap();
    assert_ne!(exporter.address().port(), 0);
    let answer = ask(exporter.address(), "GET", "/metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("\r\ncontent-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        body.contains("\ntoolpool_instances_desired{cluster=\"main\"} 2\n"),
        "{body}"
    );
    assert!(body.contains("\nprocess_resident_memory_bytes "), "{body}");
}

#[tokio::test]
async fn there_is_nothing_else() {
    let exporter = Metrics::new().serve(any_port()).unwrap();
    for path in ["/", "/metrics/", "/metrics/x", "/favicon.ico"] {
        let answer = ask(exporter.address(), "GET", path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    let answer = ask(exporter.address(), "POST", "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn dropping_the_exporter_closes_its_connections() {
    let exporter = Metrics::new().serve(any_port()).unwrap();
    let mut kept = TcpStream::connect(exporter.address()).await.unwrap();
    kept.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 15];
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    drop(exporter);
    // Reading ends only if the other side closes the connection.
    let mut rest = Vec::new();
    kept.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.is_empty());
}

#[tokio::test]
async fn only_loopback_addresses_are_served() {
    for address in [
        "0.0.0.0:0",
        "[::]:0",
        "192.0.2.1:9464",
        "[::ffff:192.0.2.1]:9464",
    ] {
        let address: SocketAddr = address.parse().unwrap();
        let error = Metrics::new().serve(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains(&address.to_string()), "{text}");
        assert!(
            text.contains("not a loopback address") && text.contains("use 127.0.0.1"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let first = Metrics::new().serve(any_port()).unwrap();
    let error = Metrics::new().serve(first.address()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(text.contains(&first.address().to_string()), "{text}");
    assert!(text.contains("another program listens there"), "{text}");
}

#[test]
fn outside_a_runtime_it_says_so() {
    let error = Metrics::new().serve(any_port()).unwrap_err();
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}
