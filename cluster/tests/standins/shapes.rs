//! Prompts and replies of every shape, from many callers at once.

use std::collections::HashSet;

use toolpool_cluster::Submission;
use toolpool_routing::Routing;

use crate::support::{in_time, launch, sha256, standin};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_prompts_from_many_callers_each_gets_its_own_answer() {
    let (cluster, census) =
        launch(standin(&["--reply", "sha256"], &[]), 8, |builder| builder).await;
    // Each has a keeper.
    assert_eq!(census.alive().len(), 16);
    let callers = (0..16).map(|caller| {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let mut instances = HashSet::new();
            for number in 0..50 {
                let prompt = format!(
                    "caller {caller}, question {number}\n{}",
                    "x".repeat(number * 40)
                );
                let reply = cluster
                    .ask(prompt.as_str())
                    .await
                    .unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(reply.text, sha256(&prompt), "the answer to something else");
                instances.extend(reply.instance);
            }
            instances
        })
    });
    let mut instances = HashSet::new();
    for caller in callers.collect::<Vec<_>>() {
        instances.extend(in_time(caller).await.expect("no caller panics"));
    }
    assert_eq!(instances.len(), 8, "everybody works");
    let books = in_time(cluster.shutdown()).await.books;
    assert_eq!((books.accepted, books.completed), (800, 800));
    assert_eq!(census.alive(), Vec::<u32>::new());
}

#[tokio::test]
async fn prompts_of_every_shape_arrive_as_they_are() {
    let (cluster, _census) =
        launch(standin(&["--reply", "sha256"], &[]), 2, |builder| builder).await;
    let prompts = [
        "one line".to_owned(),
        "two\nlines".to_owned(),
        "\r\n\tblank ends\r\n\n".to_owned(),
        "/exit".to_owned(),
        "/run rm -rf x\n!ls".to_owned(),
        "\u{1b}[201~\u{3}\u{4}\u{0}\u{7f}".to_owned(),
        "{nonce} {text} {json} \"quoted\" \\n \\".to_owned(),
        "héllo \u{1f600} \u{2028}\u{2029}\u{feff}".to_owned(),
        "0123456789abcdef0123456789abcdef end".to_owned(),
        "\nstandin ready\n> ".to_owned(),
        "a".repeat(1 << 20),
        "line\n".repeat(200_000),
    ];
    for prompt in prompts {
        let reply = in_time(cluster.ask(prompt.as_str()))
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(reply.text, sha256(&prompt), "{:?}", prompt.get(..40));
        assert!(!reply.lossy);
    }
    let too_long = cluster
        .ask("x".repeat(cluster.profiles()[0].max_prompt_bytes + 1))
        .await;
    assert_eq!(too_long.expect_err("too long").code(), "invalid");
}

#[tokio::test]
async fn a_line_of_64_mib_comes_whole_and_one_byte_more_costs_the_process() {
    // With the reply's own few bytes, the flood stays just below the profile's limit.
    let (cluster, census) = launch(
        standin(
            &[],
            &[
                "on prompt ~whole flood 67108000B",
                "on prompt ~toomuch flood 65MiB",
            ],
        ),
        1,
        |builder| builder,
    )
    .await;
    let reply = in_time(cluster.ask("whole"))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(reply.text.len() >= 67_108_000, "{}", reply.text.len());
    let longest = reply.text.lines().map(str::len).max();
    assert!(longest >= Some(67_108_000), "{longest:?}");
    let first = census.alive();
    let error = in_time(cluster.ask("toomuch"))
        .await
        .expect_err("more than the profile allows");
    assert!(error.to_string().contains("output_limit"), "{error}");
    assert!(
        error
            .reply()
            .is_some_and(|reply| reply.text.len() <= 64 << 20)
    );
    let reply = in_time(cluster.ask("next"))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((reply.text.as_str(), reply.generation), ("echo next", 2));
    assert_ne!(census.alive(), first);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_replaced_and_the_reply_says_so() {
    let (cluster, _census) = launch(
        standin(&[], &["on prompt ~bytes bytes ff 00 c3"]),
        1,
        |builder| builder,
    )
    .await;
    let reply = in_time(cluster.ask("bytes"))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(reply.lossy);
    assert!(
        reply.text.ends_with("\u{fffd}\0\u{fffd}"),
        "{:?}",
        reply.text
    );
    let mut stream = cluster
        .stream("bytes")
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let mut raw = Vec::new();
    while let Some(piece) = in_time(stream.chunk()).await {
        raw.extend(piece);
    }
    assert!(raw.ends_with(&[0xff, 0, 0xc3]), "a stream has every byte");
    let clean = in_time(cluster.ask("clean"))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(!clean.lossy);
}

#[tokio::test]
async fn forged_and_double_ends_end_nothing() {
    let rules = ["on prompt ~forge forge", "on prompt ~double double-end"];
    let (cluster, _census) = launch(standin(&["--reply", "sha256"], &rules), 1, |builder| {
        builder
    })
    .await;
    for number in 0..20 {
        for kind in ["forge", "double", "plain"] {
            let prompt = format!("{kind} {number}");
            let reply = in_time(cluster.ask(prompt.as_str()))
                .await
                .unwrap_or_else(|error| panic!("{error}"));
            assert!(
                reply.text.ends_with(&sha256(&prompt)),
                "{prompt}: {}",
                reply.text
            );
            if kind == "plain" {
                assert_eq!(
                    reply.text,
                    sha256(&prompt),
                    "a second end became part of the next answer"
                );
            }
        }
    }
}

#[tokio::test]
async fn sessions_stay_where_they_are_while_the_others_rotate() {
    let (cluster, _census) = launch(standin(&[], &[]), 4, |builder| {
        builder.routing(Routing::RoundRobin)
    })
    .await;
    let sessions: Vec<_> = (0..8)
        .map(|number| cluster.session(format!("s{number}")))
        .collect();
    let mut homes = vec![HashSet::new(); sessions.len()];
    for round in 0..5 {
        for (session, home) in sessions.iter().zip(&mut homes) {
            let reply = in_time(session.ask(format!("round {round}")))
                .await
                .unwrap_or_else(|error| panic!("{error}"));
            home.extend(reply.instance);
        }
        in_time(cluster.ask(Submission::text("between")))
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(homes.iter().all(|home| home.len() == 1), "{homes:?}");
    assert_eq!(homes.iter().flatten().collect::<HashSet<_>>().len(), 4);
}
