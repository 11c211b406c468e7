//! Prompts and replies: exact, whole, in order, and never given to another.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use toolpool_pool_core::PoolError;
use toolpool_pool_core::outcome::Grade;
use toolpool_pool_core::process_pool::MAX_UNREAD;
use toolpool_pool_core::profile::ToolProfile;

use crate::support::{LONG, answer, ask, launch, pid, read, standin};

/// `cat` answers while it still reads, so a megabyte flows both ways at once.
fn cat(folder: &std::path::Path) -> ToolProfile {
    let file = folder.join("cat.toml");
    let text = "program = 'cat'\n[lines]\nsubmit = \"{text}\\n\"\nmultiline = 'raw'\nsentinel = \"{nonce}\\n\"\nend = '{nonce}'\n";
    std::fs::write(&file, text).expect("the folder is writable");
    ToolProfile::from_file(&file).expect("a valid profile")
}

#[tokio::test]
async fn prompts_and_replies_are_exact_whatever_they_contain() {
    let pool = launch(standin(&[]), 1).await;
    for prompt in [
        "hello",
        "two\nlines",
        "\n",
        "ends with a line end\n",
        "\r\n\t\u{0}\u{1}\u{7f}",
        "héllo \u{1f600} \u{2028}\u{2029}\u{feff}",
        "{nonce} {text} {json} {state}",
        "\"quoted\" \\n \\",
        "00000000000000000000000000000000 end\n",
        "standin ready",
    ] {
        let response = ask(&pool, prompt).await;
        assert_eq!(response.text, format!("echo {prompt}"));
        assert_eq!(response.outcome.word(), "completed");
        assert!(!response.lossy);
        let attribution = response.attribution.expect("the tool ended it");
        assert_eq!((attribution.grade, attribution.by), (Grade::C, "sentinel"));
    }
    let status = &pool.get_status()[0];
    assert_eq!((status.turns, status.generation, status.unread), (10, 1, 0));
}

#[tokio::test]
async fn a_megabyte_each_way_neither_blocks_nor_changes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let line = "0123456789abcdef".repeat(1 << 16);
    let lines = "a line of 31 bytes and its end\n".repeat(1 << 15);
    let pool = launch(standin(&[]), 1).await;
    assert!(answer(&pool, &line).await == format!("echo {line}"));
    let pool = launch(cat(folder.path()), 1).await;
    assert!(answer(&pool, &line).await == line);
    assert!(answer(&pool, &lines).await == lines.trim_end_matches('\n'));
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_instances_answer_fifty_prompts_each_and_never_another_ones() {
    let mut profile = standin(&[]);
    profile.args = ["--reply", "sha256", "--seed", "salt"]
        .map(str::to_owned)
        .to_vec();
    let pool = Arc::new(launch(profile, 8).await);
    let mut callers = tokio::task::JoinSet::new();
    for index in 0..8 {
        let pool = Arc::clone(&pool);
        callers.spawn(async move {
            let prompt = |number: usize| format!("prompt {number} of {index}");
            let turns: Vec<_> = (0..50)
                .map(|number| {
                    pool.send_prompt(index, prompt(number))
                        .expect("there is room")
                })
                .collect();
            for (number, turn) in turns.into_iter().enumerate() {
                let response = pool.read_response(index, LONG).await.expect("a response");
                let digest = Sha256::digest(format!("salt{}", prompt(number)));
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(
                    (response.index, response.turn, response.text),
                    (index, turn, digest)
                );
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("every reply is its prompt's");
    }
    assert!(
        pool.get_status()
            .iter()
            .all(|status| status.turns == 50 && status.unread == 0)
    );
}

#[tokio::test]
async fn a_read_that_times_out_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
    let pool = launch(ToolProfile::builtin("bash").expect("built in"), 1).await;

    let error = pool
        .read_response(0, Duration::ZERO)
        .await
        .expect_err("nothing was sent");
    assert!(
        error
            .to_string()
            .ends_with("it has no unread prompt, so send one first"),
        "{error}"
    );

    let turn = pool
        .send_prompt(0, format!("cat {}", fifo.display()))
        .expect("accepted");
    pool.send_prompt(0, "echo second").expect("accepted");
    let error = pool
        .read_response(0, Duration::from_millis(1))
        .await
        .expect_err("it waits for the fifo");
    assert!(
        matches!(error, PoolError::Timeout { unread: 2, .. }),
        "{error}"
    );
    // Opening waits for the reader, and the runtime's thread is needed to hand bash its prompt.
    tokio::task::spawn_blocking(move || std::fs::write(fifo, "late"))
        .await
        .expect("the writer ends")
        .expect("the fifo is writable");
    let first = read(&pool).await;
    assert_eq!((first.turn, first.text.as_str()), (turn, "late"));
    assert_eq!(read(&pool).await.text, "second\n");
}

#[tokio::test]
async fn a_full_queue_refuses_and_reading_makes_room() {
    let pool = launch(standin(&[]), 1).await;
    for _ in 0..MAX_UNREAD {
        pool.send_prompt(0, "x").expect("there is room");
    }
    let error = pool.send_prompt(0, "x").expect_err("it is full");
    assert_eq!(
        error.to_string(),
        "instance 0 has 64 prompts whose replies were not read; read_response(0) makes room"
    );
    read(&pool).await;
    pool.send_prompt(0, "x").expect("there is room again");
}

#[tokio::test]
async fn what_the_protocol_refuses_is_told_by_the_response() {
    let mut profile = standin(&[]);
    profile.max_prompt_bytes = 10;
    let pool = launch(profile, 1).await;
    assert!(format!("{:?}", ask(&pool, "").await.outcome).contains("Refused"));
    let outcome = format!("{:?}", ask(&pool, "eleven bytes").await.outcome);
    assert!(
        outcome.contains("the prompt has 12 bytes and the limit is 10"),
        "{outcome}"
    );
    assert_eq!(answer(&pool, "ten bytes!").await, "echo ten bytes!");
}

#[tokio::test]
async fn forged_end_marks_are_part_of_the_reply() {
    let pool = launch(standin(&["on turn 1 forge"]), 1).await;
    let text = answer(&pool, "first").await;
    assert!(
        text.starts_with("forged\n00000000000000000000000000000000 end\n"),
        "{text}"
    );
    assert!(text.ends_with("echo first"), "{text}");
    assert_eq!(answer(&pool, "second").await, "echo second");
}

#[tokio::test]
async fn what_a_tool_says_between_turns_is_in_no_reply() {
    let pool = launch(
        standin(&[
            "on turn 1 double-end",
            "on turn 1 unsolicited chatter after end",
        ]),
        1,
    )
    .await;
    assert_eq!(answer(&pool, "first").await, "echo first");
    assert_eq!(
        answer(&pool, "second").await.lines().last(),
        Some("echo second")
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_are_replaced_and_the_reply_says_so() {
    let pool = launch(standin(&["on turn 1 bytes ff fe 80"]), 1).await;
    let response = ask(&pool, "x").await;
    assert_eq!(response.text, "echo x\u{fffd}\u{fffd}\u{fffd}");
    assert!(response.lossy);
    assert!(!ask(&pool, "x").await.lossy);
}

#[tokio::test]
async fn a_flood_of_errors_is_drained() {
    let pool = launch(
        standin(&["on turn 1 flood-stderr 8MiB", "on start flood-stderr 1MiB"]),
        1,
    )
    .await;
    assert_eq!(answer(&pool, "x").await, "echo x");
}

#[tokio::test]
async fn an_instance_that_is_not_there_is_named_with_the_range() {
    let pool = launch(standin(&[]), 2).await;
    let message = "there is no instance 2: the pool has 2, counted from 0";
    assert_eq!(
        pool.send_prompt(2, "x").expect_err("no such").to_string(),
        message
    );
    assert_eq!(
        pool.read_response(2, LONG)
            .await
            .expect_err("no such")
            .to_string(),
        message
    );
    assert_eq!(
        pool.restart_instance(2)
            .await
            .expect_err("no such")
            .to_string(),
        message
    );
}

#[tokio::test]
async fn status_and_health_tell_of_each_process() {
    let pool = launch(standin(&[]), 2).await;
    let health = pool.check_health();
    assert_eq!(
        (health.total, health.alive, health.dead, health.ready),
        (2, 2, 0, 2)
    );
    assert_ne!(pid(&pool, 0), pid(&pool, 1));
    for status in &health.instances {
        assert!(
            status.rss_bytes.is_some_and(|bytes| bytes > 100_000),
            "{status:?}"
        );
        assert!(!status.busy && status.last_error.is_empty(), "{status:?}");
    }
    let json = serde_json::to_value(&health).expect("it is plain data");
    assert_eq!(json["instances"][1]["index"], 1);
}
