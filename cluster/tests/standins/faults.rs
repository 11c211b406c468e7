//! Tools that crash, hang, flood and ignore signals while the others work.

use std::time::Duration;

use toolpool_cluster::{AskError, ClusterManager, InstanceState, Submission};

use crate::support::{LONG, in_time, launch, sha256, standin};

const RULES: [&str; 6] = [
    "on prompt ~crash exit 7",
    "on prompt ~halfway byte 10 exit 9",
    "on prompt ~hang hang",
    "on prompt ~deaf ignore TERM INT HUP",
    "on prompt ~flood flood 65MiB",
    "on prompt ~fork fork 2 ignore TERM HUP",
];

async fn ask(cluster: &ClusterManager, prompt: &str) -> Result<String, AskError> {
    // Only what hangs for ever is to run into its limit, however slow the machine is.
    let limit = if prompt.contains("hang") {
        Duration::from_secs(2)
    } else {
        LONG
    };
    let submission = Submission::text(prompt).turn_timeout(limit);
    in_time(cluster.ask(submission))
        .await
        .map(|reply| reply.text)
}

/// The cause of a doubt, as a word.
fn cause(answer: Result<String, AskError>) -> String {
    let error = answer.expect_err("its tool misbehaves").to_string();
    let (_, rest) = error
        .split_once("partly (")
        .unwrap_or_else(|| panic!("no doubt: {error}"));
    rest.split(')').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_cost_their_own_turns_and_nobody_elses() {
    let (cluster, census) = launch(standin(&["--reply", "sha256"], &RULES), 8, |builder| {
        builder.stop_grace(Duration::from_millis(100))
    })
    .await;
    let good = (0..8).map(|caller| {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            for number in 0..40 {
                let prompt = format!("caller {caller}, question {number}");
                let text = ask(&cluster, &prompt)
                    .await
                    .unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(text, sha256(&prompt));
            }
        })
    });
    let bad = [
        "crash",
        "halfway",
        "hang",
        "deaf and hang",
        "flood",
        "fork and crash",
        "fork and hang",
    ]
    .map(|prompt| {
        let cluster = cluster.clone();
        tokio::spawn(async move { (prompt, cause(ask(&cluster, prompt).await)) })
    });
    let good: Vec<_> = good.collect();
    for task in bad {
        let (prompt, cause) = in_time(task).await.expect("no caller panics");
        let expected = match prompt {
            "flood" => "output_limit",
            prompt if prompt.contains("hang") => "timed_out",
            _ => "crashed",
        };
        assert_eq!(cause, expected, "{prompt}");
    }
    for task in good {
        in_time(task).await.expect("no caller panics");
    }
    let books = in_time(cluster.shutdown()).await.books;
    assert_eq!(
        (books.completed, books.indeterminate, books.accepted),
        (320, 7, 327)
    );
    assert_eq!(census.alive(), Vec::<u32>::new());
}

#[tokio::test]
async fn the_end_of_a_turn_in_doubt_is_heard_after_the_end_of_its_whole_group() {
    let (cluster, census) = launch(standin(&[], &RULES), 1, |builder| {
        builder.stop_grace(Duration::from_millis(50))
    })
    .await;
    let before = census.alive();
    let submission = Submission::text("fork deaf hang").turn_timeout(Duration::from_millis(300));
    let error = in_time(cluster.ask(submission))
        .await
        .expect_err("it hangs");
    let after = census.alive();
    assert!(error.to_string().contains("timed_out"), "{error}");
    assert!(
        before.iter().all(|pid| !after.contains(pid)),
        "{before:?} {after:?}"
    );
    // Of the new process there is one at most, and no child of the old one.
    assert!(after.len() <= 1, "{after:?}");
}

#[tokio::test]
async fn a_tool_that_floods_before_it_is_ready_or_after_its_turn_is_only_noise() {
    let rules = [
        "on start flood-stderr 32MiB",
        "on start unsolicited hello",
        "on prompt ~noise flood 32MiB after end",
        "on prompt ~chatter unsolicited hello",
    ];
    let (cluster, _census) = launch(standin(&["--reply", "sha256"], &rules), 1, |builder| {
        builder
    })
    .await;
    for prompt in ["noise", "chatter", "last"] {
        let text = ask(&cluster, prompt)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(text.ends_with(&sha256(prompt)), "{prompt}");
    }
}

#[tokio::test]
async fn a_withdrawn_turn_that_does_not_stop_costs_its_process_alone() {
    let (cluster, _census) = launch(standin(&[], &RULES), 2, |builder| {
        builder.interrupt_grace(Duration::from_millis(50))
    })
    .await;
    let stream = cluster
        .stream("hang")
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    stream.cancel().await;
    let error = in_time(stream.reply()).await.expect_err("nothing stops it");
    assert!(error.to_string().contains("cancel_unconfirmed"), "{error}");
    for _ in 0..4 {
        ask(&cluster, "fine")
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[tokio::test]
async fn an_instance_that_was_killed_from_outside_comes_back() {
    let (cluster, _census) = launch(standin(&[], &[]), 1, |builder| builder).await;
    let status = || async {
        cluster
            .status()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let pid = status().await.instances[0].pid.expect("it lives");
    let killed = tokio::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status()
        .await;
    assert!(killed.is_ok_and(|status| status.success()));
    // Whether its end is seen before or after the prompt is written, the next one runs on a new process.
    in_time(cluster.ask("perhaps")).await.ok();
    let reply = in_time(cluster.ask("surely"))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((reply.text.as_str(), reply.generation), ("echo surely", 2));
    let status = status().await;
    assert_eq!(status.instances[0].signal, Some(9));
    assert_eq!(status.instances[0].state, InstanceState::Ready);
    assert_ne!(status.instances[0].pid, Some(pid));
}
