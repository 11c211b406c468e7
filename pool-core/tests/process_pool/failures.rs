//! Processes that crash, hang, flood and lie: what becomes of the turn, of the next one and of the instance.

use rustix::process::Signal;
use toolpool_pool_core::outcome::{DoubtCause, FailureClass, Outcome};
use toolpool_pool_core::{PoolError, ProcessPool};

use crate::support::{
    answer, ask, doubt, failure, launch, pid, read, signal, standin, standin_tool, until, watch,
};

#[tokio::test]
async fn a_crash_leaves_its_turn_in_doubt_and_fails_those_behind_it() {
    let pool = launch(standin(&["on turn 2 byte 6 exit 3"]), 2).await;
    assert_eq!(answer(&pool, "one").await, "echo one");
    pool.send_prompt(0, "two").expect("accepted");
    pool.send_prompt(0, "three").expect("accepted");
    let crashed = read(&pool).await;
    let (cause, detail) = doubt(&crashed);
    assert_eq!(cause, DoubtCause::Crashed);
    // What earlier turns answered is no evidence.
    assert_eq!(detail, "instance 0: exit code 3; it printed last: echo t");
    assert_eq!(
        (crashed.text.as_str(), crashed.attribution),
        ("echo t", None)
    );
    let behind = read(&pool).await;
    let dead = "instance 0 is dead (exit code 3); restart_instance(0) starts another process";
    assert_eq!(failure(&behind), (FailureClass::Unroutable, dead));
    assert_eq!(
        pool.send_prompt(0, "four")
            .expect_err("it is dead")
            .to_string(),
        dead
    );

    let health = pool.check_health();
    assert_eq!(
        (health.total, health.alive, health.dead, health.ready),
        (2, 1, 1, 1)
    );
    let status = &health.instances[0];
    assert_eq!(
        (status.return_code, status.signal, status.pid),
        (Some(3), None, None)
    );
    assert_eq!(status.last_error[0], "exit code 3");

    pool.restart_instance(0).await.expect("it starts again");
    assert_eq!(answer(&pool, "again").await, "echo again");
    let status = &pool.get_status()[0];
    assert_eq!(
        (status.generation, status.turns, status.return_code),
        (2, 3, None)
    );
}

#[tokio::test]
async fn a_process_that_is_killed_from_outside_is_seen_to_be_dead() {
    let pool = launch(standin(&["on prompt ~hang hang"]), 1).await;
    pool.send_prompt(0, "hang").expect("accepted");
    until(&pool, |pool| pool.get_status()[0].busy).await;
    signal(pid(&pool, 0), Signal::KILL);
    let response = read(&pool).await;
    // Whether it had read the prompt by then cannot be known; a byte of it was written or not.
    assert!(
        matches!(response.outcome.word(), "indeterminate" | "failed"),
        "{response:?}"
    );
    assert_eq!(pool.get_status()[0].signal, Some(9));
    assert!(!pool.get_status()[0].alive);
}

#[tokio::test]
async fn the_last_error_lines_of_a_crash_are_kept() {
    let pool = launch(
        toolpool_pool_core::profile::ToolProfile {
            protocol: standin(&[]).protocol,
            program: "bash".to_owned(),
            args: vec![
                "-c".to_owned(),
                "echo standin ready; read; echo broken pipe fitter >&2; exit 4".to_owned(),
            ],
            ..standin(&[])
        },
        1,
    )
    .await;
    let response = ask(&pool, "x").await;
    assert_eq!(
        doubt(&response),
        (
            DoubtCause::Crashed,
            "instance 0: exit code 4; it printed last: broken pipe fitter"
        )
    );
    assert_eq!(
        pool.get_status()[0].last_error,
        ["exit code 4", "broken pipe fitter"]
    );
}

#[tokio::test]
async fn a_prompt_of_which_nothing_was_written_has_failed_for_sure() {
    let pool = launch(standin(&["on turn 1 close-stdin"]), 1).await;
    assert_eq!(answer(&pool, "one").await, "echo one");
    let response = ask(&pool, "two").await;
    let (class, message) = failure(&response);
    assert_eq!(class, FailureClass::Unroutable);
    let said = "nothing of the prompt was written: instance 0: it closed its input and lives on; ended with signal 9";
    assert_eq!(message, said);
}

#[tokio::test]
async fn a_tool_that_closes_its_output_and_lives_is_killed() {
    let pool = launch(standin(&["on turn 1 close-stdout"]), 1).await;
    let process = watch(pid(&pool, 0));
    let response = ask(&pool, "x").await;
    assert_eq!(
        doubt(&response),
        (
            DoubtCause::ProtocolLost,
            "instance 0: it closed its output and lives on; ended with signal 9"
        )
    );
    process.gone().await;
    pool.restart_instance(0).await.expect("it starts again");
}

#[tokio::test]
async fn a_reply_beyond_the_limit_poisons_the_process() {
    let mut profile = standin(&["on turn 1 flood 8MiB"]);
    profile.max_reply_bytes = 1 << 20;
    let pool = launch(profile, 1).await;
    let process = watch(pid(&pool, 0));
    pool.send_prompt(0, "one").expect("accepted");
    pool.send_prompt(0, "two").expect("accepted");
    let response = read(&pool).await;
    let (cause, detail) = doubt(&response);
    assert_eq!(cause, DoubtCause::OutputLimit);
    assert!(
        detail.contains(
            "longer than 1048576 bytes, the profile's `max_reply_bytes`; ended with signal 9"
        ),
        "{:.200}",
        detail
    );
    assert!(response.text.len() <= 1 << 20);
    assert_eq!(failure(&read(&pool).await).0, FailureClass::Unroutable);
    process.gone().await;
    pool.restart_instance(0).await.expect("it starts again");
    // The new process floods at its first turn too.
    assert_eq!(ask(&pool, "three").await.outcome.word(), "indeterminate");
}

#[tokio::test]
async fn a_line_of_64_mib_takes_no_more_memory_than_the_limit() {
    let output = tokio::process::Command::new(standin_tool())
        .arg("flood")
        .output()
        .await
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let (word, grown) = text
        .trim()
        .split_once(' ')
        .unwrap_or_else(|| panic!("{output:?}"));
    assert_eq!(word, "indeterminate");
    let grown: u64 = grown.parse().expect("a number");
    assert!(grown < 8 << 10, "{grown} KiB for a limit of 1 MiB");
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_turn_leaves_one_process() {
    let pool = launch(
        standin(&["on prompt ~hang hang", "on prompt ~hang byte 2 hang"]),
        1,
    )
    .await;
    let old = watch(pid(&pool, 0));
    pool.send_prompt(0, "hang").expect("accepted");
    pool.send_prompt(0, "waits").expect("accepted");
    until(&pool, |pool| pool.get_status()[0].busy).await;
    pool.restart_instance(0).await.expect("it starts again");
    old.gone().await;
    let cut = read(&pool).await;
    let detail = match &cut.outcome {
        Outcome::Indeterminate(doubt) => &doubt.detail,
        Outcome::Failed(failure) => &failure.message,
        other => panic!("{other:?}"),
    };
    assert!(
        detail.contains("it was restarted; ended with signal 15"),
        "{detail}"
    );
    let waited = read(&pool).await;
    assert_eq!((waited.text.as_str(), waited.generation), ("echo waits", 2));
}

#[tokio::test]
async fn restarts_at_the_same_time_leave_one_process() {
    let pool = std::sync::Arc::new(launch(standin(&[]), 1).await);
    let first = watch(pid(&pool, 0));
    let mut restarts = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let pool = std::sync::Arc::clone(&pool);
        restarts.spawn(async move { pool.restart_instance(0).await });
    }
    while let Some(restarted) = restarts.join_next().await {
        restarted.expect("no panic").expect("it starts again");
    }
    first.gone().await;
    assert_eq!(pool.get_status()[0].generation, 5);
    assert_eq!(answer(&pool, "x").await, "echo x");
}

#[tokio::test]
async fn a_restart_that_fails_says_why_and_the_instance_stays_dead() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("tool");
    std::os::unix::fs::symlink(standin_tool(), &program).expect("the folder is writable");
    let mut profile = standin(&[]);
    profile.program = program.display().to_string();
    let pool = launch(profile, 1).await;
    std::fs::remove_file(&program).expect("it is there");
    let error = pool
        .restart_instance(0)
        .await
        .expect_err("the program is gone");
    assert!(
        error.to_string().contains("was not found on PATH"),
        "{error}"
    );
    let status = &pool.get_status()[0];
    assert!(
        !status.alive && status.last_error[0].contains("was not found"),
        "{status:?}"
    );
    assert!(matches!(
        pool.send_prompt(0, "x"),
        Err(PoolError::Dead { .. })
    ));
}

#[tokio::test]
async fn what_a_dead_process_has_not_read_a_byte_of_was_never_sent() {
    for (rules, read_some) in [
        (
            [
                "on start signal STOP after ready",
                "on start hang after ready",
            ],
            false,
        ),
        (
            [
                "on start await-input after ready",
                "on start read 1B after ready",
            ],
            true,
        ),
    ] {
        let stops = ["on start signal STOP after ready"];
        let pool = launch(standin(&[&rules[..], &stops[..]].concat()), 1).await;
        pool.send_prompt(0, "question").expect("accepted");
        let pid = pid(&pool, 0);
        let is_stopped = |_: &ProcessPool| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        until(&pool, |pool| pool.get_status()[0].busy && is_stopped(pool)).await;
        signal(pid, Signal::KILL);
        let response = read(&pool).await;
        if read_some {
            assert_eq!(doubt(&response).0, DoubtCause::Crashed);
        } else {
            assert_eq!(failure(&response).0, FailureClass::Unroutable);
        }
    }
}
